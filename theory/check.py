"""Running claims: every check of every claim, one verdict each."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass

from theory.claims import Claim, Evidence, Exact, Formulas, Step, kinds_missing
from theory.registry import all_claims


@dataclass(frozen=True, slots=True)
class Verdict:
    """What came of one claim."""

    number: str
    evidence: tuple[Evidence, ...]
    failures: tuple[str, ...]  # empty iff everything holds
    cpu_s: float

    @property
    def holds(self) -> bool:
        """Whether every check took place and holds."""
        return not self.failures

    def counts(self) -> tuple[int, int, int]:
        """Symbolic, exact and numerical checks."""
        symbolic = sum(isinstance(e, Step) for e in self.evidence)
        exact = sum(isinstance(e, Exact) for e in self.evidence)
        return symbolic, exact, len(self.evidence) - symbolic - exact


def verdict(claim: Claim, formulas: Formulas | None = None, *, seed: int = 0) -> Verdict:
    """Run all checks of ``claim``, with ``formulas`` instead of its own if given.

    A check that raises counts as failed: what sympy cannot decide is not proved.
    """
    started = time.process_time()
    evidence: list[Evidence] = []
    failures: list[str] = []
    try:
        for item in claim.evidence(formulas, seed):
            evidence.append(item)
            failure = _failure(item)
            if failure:
                failures.append(failure)
    except Exception as error:  # whatever sympy throws at a formula that makes no sense
        failures.append(f"{type(error).__name__}: {error}")
    if not failures:
        failures += [f"no {kind} check" for kind in kinds_missing(evidence)]
    return Verdict(claim.number, tuple(evidence), tuple(failures), time.process_time() - started)


def is_refuted(claim: Claim, formulas: Formulas, *, seed: int = 0) -> bool:
    """Whether at least one check fails with these formulas; stops at the first that does."""
    try:
        return any(_failure(item) for item in claim.evidence(formulas, seed))
    except Exception:  # as in verdict
        return True


def _failure(item: Evidence) -> str:
    """Why a piece of evidence does not hold, or an empty string."""
    what = item.words if isinstance(item, Step) else item.what
    try:
        return "" if item.holds() else f"does not hold: {what}: {item}"
    except ValueError as error:
        return f"{what}: {error}"


def run(numbers: Sequence[str], *, seed: int = 0, jobs: int = 1) -> Iterator[Verdict]:
    """Verdicts in the order of ``numbers``, each as soon as it and all before it are there."""
    if jobs == 1:
        yield from (_verdict_of(number, seed) for number in numbers)
        return
    with ProcessPoolExecutor(jobs) as pool:
        yield from pool.map(_verdict_of, numbers, [seed] * len(numbers))


def _verdict_of(number: str, seed: int) -> Verdict:
    # looked up by number: a claim holds functions, which do not travel between processes
    return verdict(next(c for c in all_claims() if c.number == number), seed=seed)
