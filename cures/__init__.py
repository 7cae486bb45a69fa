"""Which prompts to roll out, and how many rollouts each gets, in RL with verifiable 0/1 rewards.

Reading order: :mod:`cures.records`, :mod:`cures.loop`, one concept (:mod:`cures.quota`), one scheduler
(:mod:`cures.schedulers.cures`).
"""

from cures import loop
from cures.advantage import advantages, rollout_weights
from cures.gradient_std import (
    NegativeVarianceWarning,
    gradient_std,
    gradient_std_released,
    gradient_std_surrogate,
    gradient_variance,
)
from cures.ledger import Ledger
from cures.posterior import BetaPosterior, expected_mixed, expected_potential, expected_variance
from cures.potential import potential, prob_mixed
from cures.quota import allocate, allocate_by_value, round_to_total
from cures.records import Moments, Outcome, Plan, Selection
from cures.sampling import (
    draw_with_replacement,
    draw_without_replacement,
    effective_sample_size,
    inclusion_probability,
    sampling_distribution,
    temperature_for_effective_size,
)
from cures.schedulers import Scheduler, list_schedulers, make_scheduler, scheduler_settings
from cures.storage import load_state, save_state

__version__ = "0.1.0"

__all__ = [
    "BetaPosterior",
    "Ledger",
    "Moments",
    "NegativeVarianceWarning",
    "Outcome",
    "Plan",
    "Scheduler",
    "Selection",
    "advantages",
    "allocate",
    "allocate_by_value",
    "draw_with_replacement",
    "draw_without_replacement",
    "effective_sample_size",
    "expected_mixed",
    "expected_potential",
    "expected_variance",
    "gradient_std",
    "gradient_std_released",
    "gradient_std_surrogate",
    "gradient_variance",
    "inclusion_probability",
    "list_schedulers",
    "load_state",
    "loop",
    "make_scheduler",
    "potential",
    "prob_mixed",
    "rollout_weights",
    "round_to_total",
    "sampling_distribution",
    "save_state",
    "scheduler_settings",
    "temperature_for_effective_size",
]
