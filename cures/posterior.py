r"""What is known about every prompt's success rate: a Beta law per prompt.

Rewards are 0 or 1, so s right answers out of t turn Beta(a, b) into Beta(a + s, b + t - s). The
policy moves, so old evidence says less and less about the present rate: with ``forgetting`` lambda,
evidence is multiplied by (1 - lambda) at every policy update, whether or not the prompt was
visited.

In the data flow: ``Outcome -> posterior -> potential``. Section 5 of the paper (Algorithm 1) is the
case lambda = 0. The moments of a Beta law are functions of its two counts, see
:mod:`cures.beta_moments`.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cures.beta_moments import expected_mixed, expected_potential, expected_variance
from cures.checks import (
    FloatArray,
    IntArray,
    InWords,
    as_float,
    as_float_array,
    as_int,
    as_int_array,
    fail,
)

__all__ = ["BetaPosterior", "expected_mixed", "expected_potential", "expected_variance"]

Prior = tuple[ArrayLike, ArrayLike]


class BetaPosterior:
    """Beta pseudo-counts for a pool of N prompts, with optional forgetting.

    Parameters
    ----------
    num_prompts : int
        Size N of the pool, >= 1.
    prior : pair of float or of array_like, optional
        Counts (alpha, beta) before any evidence, each positive; a float for all prompts alike or an
        array of shape (N,). The default is the uniform law.
    forgetting : float, optional
        Share lambda in [0, 1) of the evidence that is lost at each policy update.

    Raises
    ------
    ValueError
        If a parameter lies outside its range.

    Notes
    -----
    Forgetting acts on the evidence only, so an unvisited prompt returns to its prior. It is lazy:
    every prompt has a time stamp, and an update costs what it touches, not N. Reading never writes,
    hence a restored posterior continues bit for bit whatever was read in between.

    Without forgetting the counts are whole numbers and exact up to 2**53; updating in parts or in
    another order gives the same bits.

    Examples
    --------
    >>> posterior = BetaPosterior(3)
    >>> posterior.update([0, 2], success_B=[3, 0], trial_B=[4, 4])
    >>> posterior.mean()
    array([0.66666667, 0.5       , 0.16666667])
    """

    _holds: type[np.floating[Any]] = np.float64  # evidence

    def __init__(
        self, num_prompts: int, *, prior: Prior = (1.0, 1.0), forgetting: float = 0.0
    ) -> None:
        where = "BetaPosterior"
        self._num_prompts = as_int(where, "num_prompts", num_prompts, 1)
        self._forgetting = as_float(where, "forgetting", forgetting, 0.0, 1.0, open_high=True)
        self._prior = _as_prior(where, prior, self._num_prompts)
        self._success_N = np.zeros(self._num_prompts, dtype=self._holds)
        self._failure_N = np.zeros(self._num_prompts, dtype=self._holds)
        self._stamp_N = np.zeros(self._num_prompts if self._forgetting else 0, dtype=np.int32)
        self._step = 0

    def __len__(self) -> int:
        """Number of prompts N."""
        return self._num_prompts

    @property
    def forgetting(self) -> float:
        """Share of the evidence lost per policy update."""
        return self._forgetting

    @property
    def step(self) -> int:
        """Policy updates so far, as told by :meth:`advance`."""
        return self._step

    def advance(self, steps: int = 1) -> None:
        """Tell that the policy was updated ``steps`` >= 0 times; all evidence ages. O(1)."""
        self._step += as_int("BetaPosterior.advance", "steps", steps, 0)

    def update(self, prompt_B: ArrayLike, success_B: ArrayLike, trial_B: ArrayLike) -> None:
        """Add evidence gathered with the present policy.

        Parameters
        ----------
        prompt_B : array_like of int, shape (B,)
            Prompt ids in [0, N); an id given several times accumulates.
        success_B, trial_B : array_like of int, shape (B,)
            Right answers and answers, ``0 <= success <= trial``.

        Raises
        ------
        ValueError
            On bad input; nothing has changed then.
        """
        where = "BetaPosterior.update"
        prompt_B = as_int_array(where, "prompt_B", prompt_B, low=0, high=self._num_prompts - 1)
        trial_B = as_int_array(where, "trial_B", trial_B, length=prompt_B.size, low=0)
        success_B = as_int_array(where, "success_B", success_B, length=prompt_B.size, low=0)
        is_bad = success_B > trial_B
        if is_bad.any():
            index = int(np.flatnonzero(is_bad)[0])
            legal = f"<= trial_B ({trial_B[index]} at index {index})"
            fail(where, "success_B", legal, int(success_B[index]))
        has_any = trial_B > 0
        prompt_B, success_B, trial_B = prompt_B[has_any], success_B[has_any], trial_B[has_any]
        if self._forgetting:
            # A repeated id is written the same decayed value several times, before anything is
            # added.
            success, failure = self.evidence(prompt_B)
            self._success_N[prompt_B] = success
            self._failure_N[prompt_B] = failure
        if self._stamp_N.size:
            self._stamp_N[prompt_B] = self._step
        np.add.at(self._success_N, prompt_B, success_B.astype(self._holds))
        np.add.at(self._failure_N, prompt_B, (trial_B - success_B).astype(self._holds))

    def evidence(
        self, prompt_B: ArrayLike | None = None, *, at_step: int | IntArray | None = None
    ) -> tuple[FloatArray, FloatArray]:
        """Counts without the prior, decayed to now or to another update.

        Parameters
        ----------
        prompt_B : array_like of int, optional
            Prompt ids in any order, repeats allowed; default the whole pool.
        at_step : int or ndarray of int64, optional
            Number of updates to decay to, later than now or earlier, but not before the prompt was
            last told of; one for all or one each. Default now.

        Returns
        -------
        success, failure : ndarray of float64
            Private copies, >= 0.
        """
        where = "BetaPosterior.evidence"
        selected = self._select(where, prompt_B)
        success = self._success_N[selected].astype(np.float64)
        failure = self._failure_N[selected].astype(np.float64)
        if self._forgetting:
            age = (self._step if at_step is None else at_step) - self._stamp_N[selected]
            if at_step is not None and age.size and int(age.min()) < 0:
                fail(where, "at_step", "no earlier than the evidence", at_step)
            kept = np.exp(age.astype(np.float64) * np.log1p(-self._forgetting))  # (1 - lambda)^age
            success *= kept
            failure *= kept
        return success, failure

    def alpha_beta(
        self, prompt_B: ArrayLike | None = None, *, at_step: int | IntArray | None = None
    ) -> tuple[FloatArray, FloatArray]:
        """Counts of the Beta law now, prior included.

        Parameters
        ----------
        prompt_B, at_step
            As in :meth:`evidence`; default the whole pool, now.

        Returns
        -------
        alpha, beta : ndarray of float64
            Positive.
        """
        success, failure = self.evidence(prompt_B, at_step=at_step)
        alpha, beta = self.prior_of(prompt_B)
        return alpha + success, beta + failure

    def prior_of(self, prompt_B: ArrayLike | None = None) -> tuple[FloatArray, FloatArray]:
        """Counts of the Beta law without evidence.

        Parameters
        ----------
        prompt_B : array_like of int, optional
            Prompt ids; default the whole pool.

        Returns
        -------
        alpha, beta : ndarray of float64
            Of the shape of ``prompt_B``, or () where all prompts have the same.
        """
        selected = self._select("BetaPosterior.prior_of", prompt_B)
        alpha, beta = (p if p.ndim == 0 else p[selected] for p in self._prior)
        return alpha, beta

    def mean(
        self, prompt_B: ArrayLike | None = None, *, at_step: int | IntArray | None = None
    ) -> FloatArray:
        """Posterior mean of the success rate, alpha / (alpha + beta); arguments of :meth:`evidence`."""
        alpha, beta = self.alpha_beta(prompt_B, at_step=at_step)
        return alpha / (alpha + beta)

    def variance(self, prompt_B: ArrayLike | None = None) -> FloatArray:
        """Posterior variance of the success rate (not of a reward, see ``expected_variance``)."""
        alpha, beta = self.alpha_beta(prompt_B)
        total = alpha + beta
        return (alpha / total) * (beta / total) / (total + 1.0)

    def told_at(self, prompt_B: ArrayLike | None = None) -> IntArray:
        """Updates before the latest evidence about these prompts; 0 where there is none.

        Of a prompt without evidence that came later into a
        :class:`~cures.pool_posterior.PoolPosterior`: updates before it came.
        """
        selected = self._select("BetaPosterior.told_at", prompt_B)
        if not self._stamp_N.size:
            return np.zeros(self._success_N[selected].size, dtype=np.int64)
        return self._stamp_N[selected].astype(np.int64)

    def extend(self, count: int) -> None:
        """Add prompts without evidence at the end of the pool.

        Parameters
        ----------
        count : int
            How many, >= 1.

        Raises
        ------
        ValueError
            If prompts have priors of their own: nobody said what those of the new ones are.
        """
        where = "BetaPosterior.extend"
        count = as_int(where, "count", count, 1)
        if any(half.ndim for half in self._prior):
            legal = "a pair of floats, one prior for all prompts, in a pool that grows"
            fail(where, "prior", legal, InWords("an array"))
        self._num_prompts += count
        none = np.zeros(count, dtype=self._holds)
        self._success_N = np.concatenate([self._success_N, none])
        self._failure_N = np.concatenate([self._failure_N, none])
        if self._stamp_N.size:
            self._stamp_N = np.concatenate([self._stamp_N, none.astype(np.int32)])

    def state_dict(self) -> dict[str, Any]:
        """Everything needed to continue bit for bit: a flat dict of arrays, ints and floats.

        Arrays of whole numbers come in the smallest type that holds them: it is what a large pool is
        saved and loaded in seconds by.
        """
        return {
            "num_prompts": self._num_prompts,
            "forgetting": self._forgetting,
            "prior_alpha": self._prior[0].reshape(-1).copy(),
            "prior_beta": self._prior[1].reshape(-1).copy(),
            "step": self._step,
            "success_N": _compact(self._success_N, np.uint8),
            "failure_N": _compact(self._failure_N, np.uint8),
            "stamp_N": _compact(self._stamp_N, np.uint32),  # so that ages are differences, still
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from :meth:`state_dict` of a posterior with the same pool, prior and forgetting.

        Raises
        ------
        ValueError
            Naming the field that is missing, unknown, malformed or different; nothing has changed
            then.
        """
        where = "BetaPosterior.load_state_dict"
        # what a state holds, without a copy of what is about to be replaced
        outline = copy.copy(self)
        outline._success_N = outline._failure_N = np.zeros(0)
        outline._stamp_N = np.zeros(0, dtype=np.int32)
        own = outline.state_dict()
        if not isinstance(state, Mapping):
            fail(where, "state", f"a dict with keys {sorted(own)}", state)
        if set(state) != set(own):
            fail(where, "state", f"a dict with keys {sorted(own)}", sorted(map(str, state)))
        as_int(where, "num_prompts", state["num_prompts"], self._num_prompts, self._num_prompts)
        as_float(where, "forgetting", state["forgetting"], self._forgetting, self._forgetting)
        for name in ("prior_alpha", "prior_beta"):
            given = as_float_array(where, name, state[name])
            if not np.array_equal(given, own[name]):
                fail(where, name, "the prior of this posterior", given)
        step = as_int(where, "step", state["step"], 0)
        success, failure = (
            as_float_array(
                where, name, state[name], length=self._num_prompts, low=0.0, dtype=self._holds
            )
            for name in ("success_N", "failure_N")
        )
        stamp = as_int_array(
            where,
            "stamp_N",
            state["stamp_N"],
            length=self._stamp_N.size,
            low=0,
            high=step,
            dtype=np.int32,
        )
        self._step, self._success_N, self._failure_N, self._stamp_N = step, success, failure, stamp

    def _select(self, where: str, prompt_B: ArrayLike | None) -> slice | IntArray:
        if prompt_B is None:
            return slice(None)
        return as_int_array(where, "prompt_B", prompt_B, low=0, high=self._num_prompts - 1)


def _compact(count_N: NDArray[Any], least: type[np.unsignedinteger[Any]]) -> NDArray[Any]:
    """A copy of counts >= 0, in the smallest unsigned type if they are whole numbers below 2**32."""
    largest = float(count_N.max(initial=0))
    if largest < 2.0**32:
        whole_N = count_N.astype(np.promote_types(np.min_scalar_type(int(largest)), least))
        if np.array_equal(whole_N, count_N):
            return whole_N
    return count_N.copy()


def _as_prior(
    where: str, prior: Prior, num_prompts: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Each half as an array of shape () or (N,)."""
    if not isinstance(prior, tuple | list) or len(prior) != 2:
        fail(where, "prior", "a pair (alpha, beta)", prior)
    halves = []
    for name, value in zip(("prior alpha", "prior beta"), prior, strict=True):
        if np.ndim(value) == 0:
            number = as_float(where, name, value, 0.0, open_low=True)
            halves.append(np.asarray(number, dtype=np.float64))
        else:
            halves.append(
                as_float_array(where, name, value, length=num_prompts, low=0.0, open_low=True)
            )
    return halves[0], halves[1]
