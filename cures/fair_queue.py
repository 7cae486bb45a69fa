r"""Which prompts come next, when every prompt has a share of the visits: a queue, not a lottery.

Independent draws at the same chances leave gaps: after as many draws as there are prompts, 37 % of a
uniform pool have not been seen. Here every prompt earns its chance as *credit* with each plan and pays
1 for a visit, and those with the most credit are next, after a random *advance* in [0, 1) that is drawn
anew at every visit and shuffles the order. Visits stay within two of the sum of the chances if these
are constant, within about the logarithm of the pool's size if they change against the queue, and with
equal chances the queue is the shuffled pass of plain GRPO, without its borders.

Fair queueing of processes and packets works like this (stride scheduling: Waldspurger and Weihl 1995).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from cures.checks import FloatArray, IntArray


@dataclass(frozen=True, slots=True, eq=False)
class FairQueue:
    """Where everyone stands.

    Attributes
    ----------
    credit_N : ndarray of float64, shape (N,)
        Chances so far less visits so far.
    advance_N : ndarray of float64, shape (N,)
        In [0, 1).

    Examples
    --------
    >>> queue = FairQueue(np.array([0.0, 0.5, 0.25]), np.zeros(3))
    >>> chance_N = np.array([0.5, 0.5, 0.0])
    >>> queue.first(chance_N, 1)
    array([1])
    >>> queue.after(chance_N, np.array([1]), np.array([0.75])).credit_N.tolist()
    [0.5, 0.0, 0.25]
    """

    credit_N: FloatArray
    advance_N: FloatArray

    @classmethod
    def shuffled(cls, num_prompts: int, generator: np.random.Generator) -> FairQueue:
        """Nobody has been visited; a random order."""
        return cls(np.zeros(num_prompts), generator.random(num_prompts))

    def first(self, chance_N: FloatArray, size: int) -> IntArray:
        """The next ``size`` distinct prompts, the first one first.

        Parameters
        ----------
        chance_N : ndarray of float64, shape (N,)
            Of being in this plan, in [0, 1], with sum ``size``.
        size : int
            In [1, N].
        """
        standing_N = self.credit_N + chance_N + self.advance_N
        first = np.argpartition(-standing_N, size - 1)[:size]
        return first[np.lexsort((first, -standing_N[first]))].astype(np.int64)

    def after(self, chance_N: FloatArray, prompt_B: IntArray, advance_B: FloatArray) -> FairQueue:
        """The queue once these distinct prompts were visited.

        Parameters
        ----------
        chance_N : ndarray of float64, shape (N,)
            As in :meth:`first`.
        prompt_B : ndarray of int64, shape (B,)
        advance_B : ndarray of float64, shape (B,)
            Their new advances.
        """
        credit_N, advance_N = self.credit_N + chance_N, self.advance_N.copy()
        credit_N[prompt_B] -= 1.0
        advance_N[prompt_B] = advance_B
        return FairQueue(credit_N, advance_N)
