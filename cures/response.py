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
from copy import copy
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
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
from cures.followed import stride as followed_stride
from cures.storage import State

MEMORY = 16.0  # updates after which a moving prompt's last group counts 1/e
LIMIT = 5.0  # of the logarithm of the odds: whoever begins to move is believed soon
MIDDLE = (0.2, 0.8)
FIRST_SHARE, FIRST_WEIGHT = 0.1, 10.0  # of steady prompts; as if so many had been judged
STEADY = 1e-3, 1.0 - 1e-3  # the share stays within
COUNTED = np.iinfo(np.uint16).max  # rollouts of a prompt; more are halved until they can be held
LAST_COUNTED = np.iinfo(np.uint8).max  # of its last visit


class Response:
    """What was seen of every prompt. Changed in place: a copy would cost the pool at every update.

    Parameters
    ----------
    num_prompts : int
        Nobody was visited yet.

    Attributes
    ----------
    success_N, trial_N : ndarray of uint16, shape (N,)
        Over all groups.
    last_success_N, last_trial_N : ndarray of uint8, shape (N,)
        Of the last visit; a visit is all that came in one update.
    log_odds_N : ndarray of float32, shape (N,)
        Of steady against moving, without the pool's share; 0 before the second visit.
    share : float
        Of steady prompts among those with a middling rate, in (0, 1).

    Examples
    --------
    A prompt that stays at one half, and one that is learned:

    >>> response = Response(2)
    >>> for learned in (4, 6, 8, 8):
    ...     response.told([0, 1], [4, learned], [8, 8], prior=(0.5, 0.5), age_B=[40, 40])
    >>> (response.log_odds_N > 0.0).tolist()
    [True, False]
    """

    def __init__(self, num_prompts: int) -> None:
        self.success_N, self.trial_N = np.zeros((2, num_prompts), dtype=np.uint16)
        self.last_success_N, self.last_trial_N = np.zeros((2, num_prompts), dtype=np.uint8)
        self.log_odds_N = np.zeros(num_prompts, dtype=np.float32)
        self.share = FIRST_SHARE

    def told(
        self,
        prompt_B: ArrayLike,
        success_B: ArrayLike,
        trial_B: ArrayLike,
        *,
        prior: tuple[FloatArray, FloatArray] | tuple[float, float],
        age_B: ArrayLike,
        memory: float = MEMORY,
    ) -> None:
        """Take in groups of distinct prompts.

        Parameters
        ----------
        prompt_B, success_B, trial_B : array_like of int, shape (B,)
            Groups without a rollout say nothing.
        prior : tuple of float or ndarray of float64, shape (B,)
            Counts of the Beta law of the pool, or of each prompt's category, before these groups.
        age_B : array_like of int, shape (B,)
            Updates since the prompt was told of before; of a prompt that never was, not looked at.
        memory : float
            Updates after which the last group of a moving prompt counts 1/e, > 0.
        """
        has_any = np.asarray(trial_B) > 0
        at, s, n, age = (
            np.asarray(a, dtype=np.int64)[has_any] for a in (prompt_B, success_B, trial_B, age_B)
        )
        alpha, beta = (np.broadcast_to(count, has_any.shape)[has_any] for count in prior)
        right, all_, last_right, last_all = (
            counts[at].astype(np.int64)
            for counts in (self.success_N, self.trial_N, self.last_success_N, self.last_trial_N)
        )
        old_odds = self.log_odds_N[at].astype(np.float64)
        kept = np.exp(-age / memory)
        steady = log_beta_binomial(s, n, 1.0 + right, 1.0 + all_ - right)
        moving = log_beta_binomial(
            s, n, alpha + kept * last_right, beta + kept * (last_all - last_right)
        )
        is_again = (all_ > 0) & (age > 0)
        odds = np.clip(old_odds + np.where(is_again, steady - moving, 0.0), -LIMIT, LIMIT)
        self.log_odds_N[at] = odds
        self.success_N[at], self.trial_N[at] = _counted(right + s, all_ + n, COUNTED)
        goes_on = age == 0  # more of the same visit
        self.last_success_N[at], self.last_trial_N[at] = _counted(
            s + np.where(goes_on, last_right, 0), n + np.where(goes_on, last_all, 0), LAST_COUNTED
        )

    def extended(self, count: int) -> Response:
        """Another one, with so many more prompts at the end of the pool that nobody visited."""
        other, more = copy(self), Response(count)
        for name in ARRAYS:
            setattr(other, name, np.concatenate([getattr(self, name), getattr(more, name)]))
        return other

    def state_dict(self) -> State:
        """Flat arrays and floats, copies."""
        return {**{name: getattr(self, name).copy() for name in ARRAYS}, "share": self.share}

    @classmethod
    def from_state(cls, state: Mapping[str, Any], num_prompts: int) -> Response:
        """Inverse of :meth:`state_dict`.

        Raises
        ------
        ValueError
            Naming an entry that is missing or malformed.
        """
        where = "Response.from_state"
        names = {*ARRAYS, "share"}
        if set(state) != names:
            fail(where, "state", f"a dict with keys {sorted(names)}", sorted(state))

        response = cls(0)
        for name in ("success_N", "trial_N", "last_success_N", "last_trial_N"):
            dtype = getattr(response, name).dtype.type
            held = as_int_array(where, name, state[name], length=num_prompts, low=0, dtype=dtype)
            setattr(response, name, held)
        for name, most in (
            ("success_N", "trial_N"),
            ("last_success_N", "last_trial_N"),
            ("last_trial_N", "trial_N"),
        ):
            held, limit = getattr(response, name), getattr(response, most)
            if (held > limit).any():
                fail(where, name, f"at most {most}", held[held > limit][:3])
        response.log_odds_N = as_float_array(
            where,
            "log_odds_N",
            state["log_odds_N"],
            length=num_prompts,
            low=-LIMIT,
            high=LIMIT,
            dtype=np.float32,
        )
        response.share = as_float(where, "share", state["share"], *STEADY)
        return response

    def is_middling(self, prompt_B: IntArray | None = None) -> BoolArray:
        """Whether these prompts have a middling rate over all their groups; default the whole pool."""
        at = slice(None) if prompt_B is None else prompt_B
        trial = self.trial_N[at]
        rate = (self.success_N[at] + 1.0) / (trial + 2.0)
        return np.asarray((trial > 0) & (rate > MIDDLE[0]) & (rate < MIDDLE[1]))

    def is_judged(self, prompt_B: IntArray | None = None) -> BoolArray:
        """Whether they have evidence, too: two visits at least."""
        at = slice(None) if prompt_B is None else prompt_B
        return np.asarray(self.is_middling(prompt_B) & (self.log_odds_N[at] != 0.0))

    def prob_steady(self, prompt_B: IntArray | None = None) -> FloatArray:
        """Posterior chance of being steady, as if every rate were middling; default the whole pool."""
        at = slice(None) if prompt_B is None else prompt_B
        log_odds = self.log_odds_N[at].astype(np.float64)
        return np.asarray(expit(log_odds + np.log(self.share / (1.0 - self.share))))

    def updated(self) -> None:
        """One more step of EM for the share."""
        size = self.trial_N.size
        followed = np.arange(0, size, followed_stride(size))
        judged = followed[self.is_judged(followed)]
        steady = float(self.prob_steady(judged).sum()) + FIRST_SHARE * FIRST_WEIGHT
        self.share = float(np.clip(steady / (judged.size + FIRST_WEIGHT), *STEADY))

    def weight(self, floor: float, prompt_B: IntArray | None = None) -> FloatArray:
        """How much of a visit is left, beside a prompt of which nothing is known.

        Parameters
        ----------
        floor : float
            Smallest value, in (0, 1]; more where most prompts look steady: 2 share - 1.
        prompt_B : ndarray of int64, shape (B,), optional
            Default the whole pool.

        Returns
        -------
        ndarray of float64, shape (B,) or (N,)
            In [floor, 1]; 1 for rates that are not middling and before the second visit.
        """
        moving = (1.0 - self.prob_steady(prompt_B)) / (1.0 - self.share)
        floor = max(floor, 2.0 * self.share - 1.0)
        return np.where(self.is_middling(prompt_B), np.clip(moving, floor, 1.0), 1.0)


ARRAYS = ("success_N", "trial_N", "last_success_N", "last_trial_N", "log_odds_N")


def _counted(success_B: IntArray, trial_B: IntArray, most: int) -> tuple[IntArray, IntArray]:
    """Halved until they can be held."""
    while (is_large := trial_B > most).any():
        success_B = np.where(is_large, success_B // 2, success_B)
        trial_B = np.where(is_large, trial_B // 2, trial_B)
    return success_B, trial_B
