r"""Success rates that move by themselves: a random walk of every pool prompt's logit.

After every update each pool prompt's logit takes a normal step of its own, on top of what the update
did; success rates stay exact. Held-out prompts do not drift: the objective of a comparison must move
by learning alone, not by luck that no arm caused. The walk goes with updates, as the policy does, and
follows from (seed, update): arms of one seed meet the same steps, and a resumed run the same bits.

For ``skills`` the step is one of every link's logit, since the success rate is their product; the
logit of the success rate moves by the step times a factor between 1 and the chain's length.
"""

from __future__ import annotations

import copy

import numpy as np

from cures.checks import FloatArray
from sim.item_response import ItemResponse
from sim.policy import Policy
from sim.skills import Skills
from sim.tabular import Tabular

DRIFT_STREAM = 3  # 0, 1, 2 are the host's streams of a plan


def shifted(policy: Policy, logit_N: FloatArray) -> Policy:
    """Add ``logit_N`` to the logit of every prompt's success rate (of every link, for a chain).

    Parameters
    ----------
    policy : ItemResponse, Tabular or Skills
        Left as it is.
    logit_N : ndarray of float64, shape (N,)
        Finite, one per prompt of the policy.

    Examples
    --------
    >>> policy = ItemResponse(np.array([[1.0]]), np.array([0.0]))
    >>> round(float(shifted(policy, np.array([1.0])).success_rate(np.zeros(1), np.array([0]))[0]), 6)
    0.731059
    """
    if isinstance(policy, ItemResponse | Skills):
        return _with(policy, "threshold_N", policy.threshold_N - logit_N)
    if isinstance(policy, Tabular):
        raised = policy.is_right_N_K * logit_N[:, None]
        offset = raised if policy.offset_N_K is None else policy.offset_N_K + raised
        return _with(policy, "offset_N_K", offset)
    raise TypeError(f"shifted: policy must have logits to shift, got {type(policy).__name__}")


def drift_step(seed: int, step: int, size: int, sd: float) -> FloatArray:
    """The step of the walk after update ``step`` >= 1, shape (size,)."""
    root = np.random.SeedSequence(seed, spawn_key=(step, DRIFT_STREAM))
    return sd * np.random.default_rng(root).standard_normal(size)


def _with(policy: Policy, name: str, array: FloatArray) -> Policy:
    """A shallow copy with one array replaced.

    Once per update, so without the checks of a policy's birth: a finite shift breaks none of them.
    """
    moved = copy.copy(policy)
    object.__setattr__(moved, name, array)
    return moved
