"""Counts of a run or of a part of it, added and scaled like a vector."""

from __future__ import annotations

from dataclasses import astuple, dataclass


@dataclass(frozen=True, slots=True)
class Tally:
    """What generation and training did. Floats, because means have fractions.

    Whole numbers stay exact up to 2^53, far beyond 1e9 rollouts.

    Attributes
    ----------
    updates : float
        Policy updates.
    rounds : float
        Rounds of generation: the devices wait for the longest answer of each.
    visits : float
        Prompts put before the engine, one per group of a plan: each is prefilled once.
    generated : float
        Rollouts, whatever became of them.
    trained : float
        Rollouts that entered an update.
    mixed : float
        Trained rollouts whose group has right and wrong ones: those with an advantage under GRPO.
    measured : float
        Rollouts whose gradient norms the scheduler asked for.

    Examples
    --------
    >>> total = 2 * Tally(updates=1, generated=8) + Tally(generated=4)
    >>> total.updates, total.generated
    (2, 20)
    """

    updates: float = 0
    rounds: float = 0
    visits: float = 0
    generated: float = 0
    trained: float = 0
    mixed: float = 0
    measured: float = 0

    def __add__(self, other: Tally) -> Tally:
        return Tally(*(a + b for a, b in zip(astuple(self), astuple(other), strict=True)))

    def __truediv__(self, divisor: float) -> Tally:
        """Exact where the quotient is whole, which a product with 1 / divisor is not."""
        return Tally(*(value / divisor for value in astuple(self)))

    def __rmul__(self, factor: float) -> Tally:
        return Tally(*(factor * value for value in astuple(self)))
