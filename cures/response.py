r"""Does a prompt's success rate respond to training? That of a coin, or of a broken verifier, does not.

No gradients are needed for this: two hypotheses predict what the next group of a prompt will look like,
both by a beta-binomial law.

- *steady*: one rate for ever. All its groups so far speak for the next one, none of them fades.
- *moving*: its rate moves with the policy. Its last group alone speaks for the next one, fading by
  :math:`e^{-1/16}` an update, beside the pool's prior.

What was seen multiplies their odds (Bayes), from a prompt's second visit on. The odds to begin with are
those of the share of steady prompts in the pool, an unknown that is estimated along the way by EM.
At the edges every prompt is steady, hopeless or mastered, and the chance of a mixed group says so:
only rates in [0.2, 0.8] are judged.

A policy that hardly moves makes all prompts look steady. That says nothing about any of them, and
where most are, nothing is done.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
from scipy.special import expit

from cures.beta_binomial import log_beta_binomial
from cures.checks import (
    BoolArray,
    FloatArray,
    IntArray,
    as_float,
    as_float_array,
    as_int_array,
    fail,
)
from cures.storage import State

MEMORY = 16.0  # updates after which a moving prompt's last group counts 1/e
LIMIT = 5.0  # of the logarithm of the odds: whoever begins to move is believed soon
MIDDLE = (0.2, 0.8)
FIRST_SHARE, FIRST_WEIGHT = 0.1, 10.0  # of steady prompts; as if so many had been judged
STEADY = 1e-3, 1.0 - 1e-3  # the share stays within


@dataclass(frozen=True, slots=True, eq=False)
class Response:
    """What was seen of every prompt.

    Attributes
    ----------
    success_N, trial_N : ndarray of int64, shape (N,)
        Over all groups.
    last_success_N, last_trial_N : ndarray of int64, shape (N,)
        Of the last visit; a visit is all that came in one update.
    last_step_N : ndarray of int64, shape (N,)
        Update of the last visit; -1 where there was none.
    log_odds_N : ndarray of float64, shape (N,)
        Of steady against moving, without the pool's share; 0 before the second visit.
    share : float
        Of steady prompts among those with a middling rate, in (0, 1).

    Examples
    --------
    A prompt that stays at one half, and one that is learned:

    >>> response = Response.unknown(2)
    >>> for step, learned in enumerate((4, 6, 8, 8)):
    ...     response = response.told([0, 1], [4, learned], [8, 8], prior=(0.5, 0.5), step=40 * step)
    >>> (response.log_odds_N > 0.0).tolist()
    [True, False]
    """

    success_N: IntArray
    trial_N: IntArray
    last_success_N: IntArray
    last_trial_N: IntArray
    last_step_N: IntArray
    log_odds_N: FloatArray
    share: float = FIRST_SHARE

    @classmethod
    def unknown(cls, num_prompts: int) -> Response:
        """Nobody was visited."""
        none = np.zeros(num_prompts, dtype=np.int64)  # told() copies
        return cls(none, none, none, none, none - 1, np.zeros(num_prompts))

    def told(
        self,
        prompt_B: IntArray,
        success_B: IntArray,
        trial_B: IntArray,
        *,
        prior: tuple[FloatArray, FloatArray] | tuple[float, float],
        step: int,
        memory: float = MEMORY,
    ) -> Response:
        """After these groups of distinct prompts.

        Parameters
        ----------
        prompt_B, success_B, trial_B : ndarray of int64, shape (B,)
            Groups without a rollout say nothing.
        prior : tuple of float or ndarray of float64, shape (B,)
            Counts of the Beta law of the pool, or of each prompt's category, before these groups.
        step : int
            Updates so far, never less than before.
        memory : float
            Updates after which the last group of a moving prompt counts 1/e, > 0.
        """
        has_any = np.asarray(trial_B) > 0
        prompt_B, s, n = (np.asarray(a)[has_any] for a in (prompt_B, success_B, trial_B))
        alpha, beta = (np.broadcast_to(count, has_any.shape)[has_any] for count in prior)
        new: dict[str, Any] = self.state_dict()
        age = step - self.last_step_N[prompt_B]
        is_again = (self.last_step_N[prompt_B] >= 0) & (age > 0)
        kept = np.exp(-age / memory)
        right, all_ = self.success_N[prompt_B], self.trial_N[prompt_B]
        last_right = self.last_success_N[prompt_B]
        last_wrong = self.last_trial_N[prompt_B] - last_right
        steady = log_beta_binomial(s, n, 1.0 + right, 1.0 + all_ - right)
        moving = log_beta_binomial(s, n, alpha + kept * last_right, beta + kept * last_wrong)
        odds = self.log_odds_N[prompt_B] + np.where(is_again, steady - moving, 0.0)
        new["log_odds_N"][prompt_B] = np.clip(odds, -LIMIT, LIMIT)
        new["success_N"][prompt_B] += s
        new["trial_N"][prompt_B] += n
        goes_on = age == 0  # more of the same visit
        new["last_success_N"][prompt_B] = s + np.where(goes_on, last_right, 0)
        new["last_trial_N"][prompt_B] = n + np.where(goes_on, self.last_trial_N[prompt_B], 0)
        new["last_step_N"][prompt_B] = step
        return Response(**new)

    def state_dict(self) -> State:
        """Flat arrays and floats, copies."""
        flat = {f.name: getattr(self, f.name) for f in fields(self)}
        return {k: v.copy() if isinstance(v, np.ndarray) else v for k, v in flat.items()}

    @classmethod
    def from_state(cls, state: Mapping[str, Any], num_prompts: int) -> Response:
        """Inverse of :meth:`state_dict`.

        Raises
        ------
        ValueError
            Naming an entry that is missing or malformed.
        """
        where = "Response.from_state"
        names = {f.name for f in fields(cls)}
        if set(state) != names:
            fail(where, "state", f"a dict with keys {sorted(names)}", sorted(state))
        count = {"length": num_prompts, "low": 0}
        trial = as_int_array(where, "trial_N", state["trial_N"], **count)
        last_trial = as_int_array(where, "last_trial_N", state["last_trial_N"], **count)
        values = {
            "success_N": as_int_array(where, "success_N", state["success_N"], **count),
            "last_success_N": as_int_array(
                where, "last_success_N", state["last_success_N"], **count
            ),
        }
        for name, most in (("success_N", trial), ("last_success_N", last_trial)):
            if (values[name] > most).any():
                fail(where, name, "at most the trials", values[name][values[name] > most][:3])
        if (last_trial > trial).any():
            fail(where, "last_trial_N", "at most trial_N", last_trial[last_trial > trial][:3])
        return cls(
            **values,
            trial_N=trial,
            last_trial_N=last_trial,
            last_step_N=as_int_array(
                where, "last_step_N", state["last_step_N"], length=num_prompts, low=-1
            ),
            log_odds_N=as_float_array(
                where,
                "log_odds_N",
                state["log_odds_N"],
                length=num_prompts,
                low=-LIMIT,
                high=LIMIT,
            ),
            share=as_float(where, "share", state["share"], *STEADY),
        )

    @property
    def is_middling_N(self) -> BoolArray:
        """Prompts of a middling rate over all their groups, shape (N,)."""
        rate_N = (self.success_N + 1.0) / (self.trial_N + 2.0)
        return (self.trial_N > 0) & (rate_N > MIDDLE[0]) & (rate_N < MIDDLE[1])

    @property
    def is_judged_N(self) -> BoolArray:
        """Those of them with evidence: two visits at least, shape (N,)."""
        return np.asarray(self.is_middling_N & (self.log_odds_N != 0.0))

    def prob_steady(self) -> FloatArray:
        """Posterior chance of being steady, shape (N,), as if every rate were middling."""
        return np.asarray(expit(self.log_odds_N + np.log(self.share / (1.0 - self.share))))

    def updated(self) -> Response:
        """With one more step of EM for the share."""
        judged = self.is_judged_N
        steady = float(self.prob_steady()[judged].sum()) + FIRST_SHARE * FIRST_WEIGHT
        share = steady / (int(judged.sum()) + FIRST_WEIGHT)
        return replace(self, share=float(np.clip(share, *STEADY)))

    def weight(self, floor: float) -> FloatArray:
        """How much of a visit is left of every prompt, beside one of which nothing is known.

        Parameters
        ----------
        floor : float
            Smallest value, in (0, 1]; more where most prompts look steady: 2 share - 1.

        Returns
        -------
        ndarray of float64, shape (N,)
            In [floor, 1]; 1 for rates that are not middling and before the second visit.
        """
        moving_N = (1.0 - self.prob_steady()) / (1.0 - self.share)
        floor = max(floor, 2.0 * self.share - 1.0)
        return np.where(self.is_middling_N, np.clip(moving_N, floor, 1.0), 1.0)
