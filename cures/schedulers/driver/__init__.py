"""The driver under every scheduler. A method of the literature only fills its hooks.

Reading order: ``rule`` (the hooks), ``scheduler`` (the protocol), ``draft`` (what a rule hands in),
``pool`` (the prompts there are), ``open_plans`` and ``groups`` (what is under way), ``books`` (ledger
and counters), ``streaming`` (the quota of one group), ``randomness``, then ``checkpoint``,
``persistence`` and ``consistency`` (state out and in).
"""

from cures.schedulers.driver.draft import Draft
from cures.schedulers.driver.scheduler import COMPLETE, Scheduler

__all__ = ["COMPLETE", "Draft", "Scheduler"]
