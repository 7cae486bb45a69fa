r"""Eq. 14 at the posterior mean over a large pool, at a cost that follows the prompts touched.

The weights :math:`\exp(\sqrt{p (1-p)} / \tau)`, p the posterior mean, are kept in a sum tree
(:mod:`cures.sum_tree`).

*Where nothing is forgotten* a weight changes only when its prompt is told of. The tree then holds
Eq. 14 itself, and draws and chances are exact up to rounding.

*With forgetting* every weight moves at every update, but along a known way: a mean goes monotonically
from where it is to that of the prior. So :math:`\sqrt{p (1-p)}` is, during the next W updates, at most
the larger of its values at the two ends, or 1/2 if the way crosses 1/2. The tree holds the weights of
these *bounds*; a draw from it is accepted with chance weight / bound, and the law of what is accepted is
Eq. 14 again, exactly. Bounds are renewed when their prompt is told of and, one slice of the subset
at every update, every W updates.

How often a draw is refused: as evidence x fades, the mean m lies between that of the prior and that of
the evidence, at distances d and d', and :math:`|dm / d \ln x| = d d' / (d + d') \le m (1-m)`, so
:math:`\sqrt{m (1-m)}` moves by at most :math:`\max_m |1/2 - m| \sqrt{m (1-m)} = 1/8` per unit of
:math:`\ln x`. With a share f forgotten per update, :math:`\ln x` moves by :math:`L = -W \ln(1-f)`
between renewals, and W is chosen for :math:`L \le 4 \tau`: a draw is accepted with chance at least
:math:`e^{-L / 8 \tau} \ge e^{-1/2} = 0.61`. Where two updates forget more, or the subset is a small one,
all weights are renewed at every update: W is 1, the bounds are the weights, nothing is refused.

Only the *normaliser* is then an estimate, that of the chances a plan records: the total of the bounds
times the mean of weight / bound over all draws from them, accepted or not, at least
:data:`FEWEST_PROPOSALS`. It has no bias, and since the quotients lie in [0.61, 1] its relative standard
error is at most 0.26 / sqrt(FEWEST_PROPOSALS) = 0.8 %.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.random import Generator

from cures.checks import FloatArray, IntArray
from cures.posterior import BetaPosterior
from cures.potential import potential
from cures.sum_tree import SumTree

LOG_FADE = 4.0  # L / tau
SMALLEST_SLICE = 1024  # prompts renewed at an update: fewer are not cheaper
FEWEST_PROPOSALS = 1024
SURPLUS = 1.25  # proposals per draw that is missing
CHUNK = 2**14  # prompts weighed at once when a tree is built: they stay in the cache
FAR = 2.0**600  # how far weights may move from 1 before they are measured anew


def bound_of_potential(mean_B: FloatArray, later_B: FloatArray) -> FloatArray:
    r"""Largest :math:`\sqrt{p (1-p)}` on the way from one success rate to another.

    Parameters
    ----------
    mean_B, later_B : ndarray of float64, shape (B,)
        The ends, in [0, 1].

    Returns
    -------
    ndarray of float64, shape (B,)

    Examples
    --------
    >>> bound_of_potential(np.array([0.1, 0.1, 0.8]), np.array([0.2, 0.9, 0.8]))
    array([0.4, 0.5, 0.4])
    """
    highest = np.maximum(potential(mean_B), potential(later_B))
    is_crossed = (mean_B - 0.5) * (later_B - 0.5) < 0.0
    return np.where(is_crossed, 0.5, highest)


def _mean(alpha_B: FloatArray, beta_B: FloatArray) -> FloatArray:
    return alpha_B / (alpha_B + beta_B)


class SoftmaxTree:
    """Draws from Eq. 14 over the members of a subset.

    Parameters
    ----------
    posterior : BetaPosterior
        Read, never written; whoever tells it something calls :meth:`told` and :meth:`advanced`.
    temperature : float
        tau > 0.
    prompt_S : ndarray of int64, shape (S,), or None
        Prompts of the subset; None: the whole pool.
    is_out_S : ndarray of bool, shape (S,), optional
        Members that are never drawn.
    window : int, optional
        W, updates that a bound holds for; see the module for the default.
    built, reference : int and float, optional
        Of the tree to restore, see :attr:`built` and :attr:`reference`; default: a new tree, now.

    Attributes
    ----------
    built : int
        Updates of the posterior when all weights were measured last.
    reference : float
        Potential of weight 1.
    """

    def __init__(
        self,
        posterior: BetaPosterior,
        temperature: float,
        prompt_S: IntArray | None,
        *,
        is_out_S: np.ndarray[tuple[int], np.dtype[np.bool_]] | None = None,
        window: int | None = None,
        built: int | None = None,
        reference: float | None = None,
    ) -> None:
        self._posterior = posterior
        self._temperature = temperature
        self._prompt_S = prompt_S
        self._is_out_S = is_out_S
        self._size = len(posterior) if prompt_S is None else prompt_S.size
        self._window = self._default_window() if window is None else window
        # of the evidence, when a window is over; bounds of one update are the weights themselves
        fading = math.log1p(-posterior.forgetting) if self._window > 1 else 0.0
        self._kept = math.exp(self._window * fading)
        self._edge = np.arange(self._window + 1) * self._size // self._window  # of the slices
        self._tree = SumTree(self._size)
        self.built = posterior.step if built is None else built
        self.reference = 0.5 if reference is None else reference
        if reference is None:
            self._measure_anew()
        else:
            self._fill()

    def _default_window(self) -> int:
        if not self._posterior.forgetting:
            return 1
        fading = LOG_FADE * self._temperature / -math.log1p(-self._posterior.forgetting)
        return max(1, min(math.floor(min(fading, 2.0**53)), self._size // SMALLEST_SLICE))

    @property
    def nbytes(self) -> int:
        """Memory of the tree."""
        return self._tree.nbytes

    def _prompt(self, slot: IntArray) -> IntArray:
        return slot if self._prompt_S is None else self._prompt_S[slot]

    def _weight(self, potential_B: FloatArray) -> FloatArray:
        with np.errstate(over="ignore", under="ignore"):
            return np.asarray(np.exp((potential_B - self.reference) / self._temperature))

    def _bound(self, slot: IntArray, at_step: int | IntArray | None) -> FloatArray:
        """Largest potential of these members in the W updates from ``at_step`` on; -inf if out."""
        prompt = self._prompt(slot)
        if self._posterior.forgetting:
            success, failure = self._posterior.evidence(prompt, at_step=at_step)
            alpha, beta = self._posterior.prior_of(prompt)
            highest = bound_of_potential(
                _mean(alpha + success, beta + failure),
                _mean(alpha + self._kept * success, beta + self._kept * failure),
            )
        else:
            highest = potential(self._posterior.mean(prompt))
        return (
            highest if self._is_out_S is None else np.where(self._is_out_S[slot], -np.inf, highest)
        )

    def _renewed_at(self, slot: IntArray) -> IntArray:
        """When the bounds of these members were renewed last, a function of time alone."""
        step = self._posterior.step
        turn = ((slot + 1) * self._window - 1) // self._size  # whose edges are k S // W
        by_turn = step - (step - turn) % self._window
        told = self._posterior.told_at(self._prompt(slot))
        return np.maximum(np.maximum(told, by_turn), self.built)

    def _chunks(self) -> list[IntArray]:
        starts = range(0, self._size, CHUNK)
        return [np.arange(start, min(start + CHUNK, self._size)) for start in starts]

    def _fill(self) -> None:
        """Put the bounds in force into the tree: it is a function of posterior and time."""
        for slot in self._chunks():
            at_step = self._renewed_at(slot) if self._posterior.forgetting else None
            self._tree.set_range(int(slot[0]), self._weight(self._bound(slot, at_step)))

    def _measure_anew(self) -> None:
        """Renew all bounds; the largest has weight 1."""
        self.built = self._posterior.step
        self.reference = max(float(self._bound(slot, None).max()) for slot in self._chunks())
        self._fill()

    def told(self, slot: IntArray) -> None:
        """The posterior was told of rollouts of these members."""
        weight = self._weight(self._bound(slot, None))
        self._tree.update(slot, weight)
        self._keep_in_range(weight)

    def advanced(self) -> None:
        """The posterior aged by one update: renew the slice whose turn it is."""
        if not self._posterior.forgetting:
            return
        turn = self._posterior.step % self._window
        slot = np.arange(self._edge[turn], self._edge[turn + 1])
        weight = self._weight(self._bound(slot, None))
        self._tree.set_range(int(self._edge[turn]), weight)
        self._keep_in_range(weight)

    def _keep_in_range(self, weight: FloatArray) -> None:
        """At temperatures so low that weights overflow or all vanish, measure from another level."""
        if float(weight.max(initial=0.0)) > FAR or self._tree.total < 1.0 / FAR:
            self._measure_anew()

    def draw(self, generator: Generator, size: int) -> tuple[IntArray, IntArray, FloatArray]:
        """Draw members independently by Eq. 14; equal ones come back once, with a count.

        Parameters
        ----------
        generator : numpy.random.Generator
        size : int
            Number of draws, >= 1.

        Returns
        -------
        slot_B : ndarray of int64, shape (B,)
            Distinct positions in the subset, ascending.
        draw_B : ndarray of int64, shape (B,)
            How often each was drawn; sums to ``size``.
        prob_B : ndarray of float64, shape (B,)
            Chance per draw; with forgetting an estimate, see the module.
        """
        if self._posterior.forgetting:
            slot, weight, total = self._accepted(generator, size)
        else:
            slot, total = self._tree.draw(generator, size), self._tree.total
            weight = self._tree.weight(slot)
        slot_B, first, draw_B = np.unique(slot, return_index=True, return_counts=True)
        return slot_B, draw_B.astype(np.int64), weight[first] / total

    def _accepted(self, generator: Generator, size: int) -> tuple[IntArray, FloatArray, float]:
        """Draws with their weights, and the estimate of the sum of all weights."""
        slots: list[IntArray] = []
        weights: list[FloatArray] = []
        missing, proposals, sum_quotients = size, 0, 0.0
        while missing > 0:
            count = max(math.ceil(SURPLUS * missing), FEWEST_PROPOSALS)
            slot = self._tree.draw(generator, count)
            weight = self._weight(potential(self._posterior.mean(self._prompt(slot))))
            quotient = weight / self._tree.weight(slot)
            proposals += count
            sum_quotients += float(quotient.sum())
            accepted = np.flatnonzero(generator.random(count) < quotient)
            if accepted.size > missing:  # any so many of them: slots ascend
                accepted = generator.choice(accepted, missing, replace=False, shuffle=False)
            slots.append(slot[accepted])
            weights.append(weight[accepted])
            missing -= accepted.size
        total = self._tree.total * (sum_quotients / proposals)
        return np.concatenate(slots), np.concatenate(weights), total
