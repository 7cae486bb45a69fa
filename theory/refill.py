r"""DAPO's refill: batches of whole groups until enough of them are mixed.

A batch holds G prompts of n rollouts each; every group is mixed with chance q, the mean of P(n) over
the pool. Batches are made until B mixed groups are there, the surplus is thrown away. Counterpart:
the scheduler ``dapo``.
"""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from itertools import product
from math import comb

import numpy as np
import sympy as sp

from theory.claims import Claim, Estimate, Exact, Formulas, Status, Step
from theory.outcomes import rational
from theory.symbols import n, q

batch = sp.Symbol("B", integer=True, positive=True)  # mixed groups wanted
refill = sp.Symbol("G", integer=True, positive=True)  # prompts of a batch
surplus = sp.Symbol("e", nonnegative=True)  # mean number of mixed groups thrown away

no_mixed = (1 - q) ** refill
one_mixed = refill * q * (1 - q) ** (refill - 1)


def mean_batches(share: Fraction, size: int, wanted: int) -> tuple[Fraction, Fraction]:
    """Mean number of batches and mean surplus, exactly, by what the first batch leaves to be found."""
    chance = [comb(size, k) * share**k * (1 - share) ** (size - k) for k in range(size + 1)]
    batches, thrown = [Fraction()], [Fraction()]
    for left in range(1, wanted + 1):
        fewer = range(1, min(size, left - 1) + 1)
        enough = sum((chance[k] * (k - left) for k in range(left, size + 1)), Fraction())
        for mean, now in ((batches, Fraction(1)), (thrown, enough)):
            later = sum((chance[k] * mean[left - k] for k in fewer), Fraction())
            mean.append((now + later) / (1 - chance[0]))
    return batches[wanted], thrown[wanted]


def mean_batches_up_to(share: Fraction, size: int, wanted: int, most: int) -> Fraction:
    """Mean of the smaller of the batches needed and ``most``, over all outcomes of all groups."""
    total = Fraction()
    for outcome in product((0, 1), repeat=size * most):
        found = sum(outcome)
        used = next((k for k in range(1, most) if sum(outcome[: k * size]) >= wanted), most)
        total += used * share**found * (1 - share) ** (size * most - found)
    return total


# 9.9 -------------------------------------------------------------------------------------------


def _prove_refill(f: Formulas) -> Iterator[Step]:
    yield Step(
        r"$K$ batches bring $q G\,\mathbb{E}\,K$ mixed groups in the mean (Wald), of which $B$ are "
        r"used and $e$ thrown away, so $\mathbb{E}\,K = (B + e)/(qG)$, at $nG/B$ rollouts per used "
        r"group:",
        n * refill / batch * (batch + surplus) / (q * refill),
        f["cost"],
    )
    yield Step(
        r"At least $n/q$, reached iff nothing is thrown away, as with $G = 1$,",
        f["cost"],
        n / q,
        certificate=n * surplus / (batch * q),
    )
    spare = sp.Symbol("s", nonnegative=True)
    yield Step(
        r"and at most this, since before the last batch one group at least was missing: $e = G - "
        r"1 - s$, $s \ge 0$.",
        f["most"],
        f["cost"].subs(surplus, refill - 1 - spare),
        certificate=n * spare / (batch * q),
    )
    yield Step(
        r"If the first batch always suffices, $e = qG - B$, and the cost is that of the batch, "
        r"whatever $q$:",
        f["cost"].subs(surplus, q * refill - batch),
        f["flat"],
    )
    yield Step(
        r"$B = 1$: after a batch without a mixed group all begins anew.",
        f["one"],
        n * refill + no_mixed * f["one"],
    )
    yield Step(
        r"$B = 2$, two groups for twice the cost each: after a batch with none anew, with one as "
        r"for $B = 1$.",
        2 * f["two"],
        n * refill + no_mixed * 2 * f["two"] + one_mixed * f["one"],
    )


def _enumerate_refill(f: Formulas) -> Iterator[Exact]:
    share = Fraction(2, 5)
    for size, wanted in ((1, 3), (2, 1), (2, 2), (3, 1), (3, 2), (3, 4), (4, 2)):
        at = {q: rational(share), refill: size, batch: wanted, n: 8}
        batches, thrown = mean_batches(share, size, wanted)
        cost = rational(batches) * 8 * size / wanted
        what = f"$q = 2/5$, groups of 8, $G = {size}$, $B = {wanted}$"
        by_waste = f["cost"].subs({**at, surplus: rational(thrown)})
        yield Exact(
            f"{what}: rollouts per group, from the batches and from the waste", cost, by_waste
        )
        yield Exact(
            f"{what}: rollouts per group, against their ceiling",
            cost,
            f["most"].subs(at),
            "=" if size == 1 else "<",
        )
        if wanted <= 2:
            yield Exact(
                f"{what}: rollouts per group, closed form",
                cost,
                f["one" if wanted == 1 else "two"].subs(at),
            )
    # the first batch decides if more than the batches made are never needed
    tail = 1 / (1 - (1 - share) ** 2)  # batches after the third, if none of the three had any
    capped = mean_batches_up_to(share, 2, 1, 3) + (1 - share) ** 6 * tail
    yield Exact(
        r"all outcomes of 3 batches, $G = 2$, $B = 1$, and the tail",
        rational(capped) * 8 * 2,
        f["one"].subs({q: rational(share), refill: 2, n: 8}),
    )
    at = {q: sp.Rational(9, 10), refill: 12, batch: 4, n: 16}
    nearly = rational(mean_batches(Fraction(9, 10), 12, 4)[0]) * 16 * 3
    yield Exact(
        r"$q = 9/10$, $G = 3B = 12$, groups of 16: more than the cost of one batch",
        nearly, f["flat"].subs(at), ">",
    )  # fmt: skip
    yield Exact(
        "by less than a hundred-thousandth", nearly - sp.Rational(1, 10**5), f["flat"].subs(at), "<"
    )


def _sample_refill(f: Formulas, rng: np.random.Generator) -> Iterator[Estimate]:
    found_S_K = rng.binomial(3, 0.4, size=(100_000, 30)).cumsum(axis=1)
    batches_S = 1.0 + (found_S_K < 2).sum(axis=1)  # a 31st batch has no chance worth counting
    yield Estimate.of(
        "rollouts per group, $q = 0.4$, groups of 8, $G = 3$, $B = 2$",
        8 * 3 * batches_S / 2,
        expected=float(f["two"].subs({q: 0.4, refill: 3, n: 8})),
        control=8 / 0.4,
        control_is="$n/q$",
    )


CLAIMS = [
    Claim(
        number="9.9",
        source="not in the paper",
        title="What DAPO's refill costs",
        status=Status.PROVED,
        statement=r"""
Groups of $n$ are mixed with chance $q$, the mean of $P(n)$ over the pool, independently. DAPO
makes batches of $G$ groups until $B$ mixed ones are there; let $e$ be the mean surplus that is
thrown away. A group that is trained on costs
$$<<cost>>$$
rollouts: at least $n/q$, with equality for $G = 1$, and at most
$$<<most>>.$$
For $B = 1$ and for $B = 2$ it is
$$<<one>>, \qquad <<two>>.$$
Where one batch suffices all but surely, the cost is $<<flat>>$ whatever $q$: three groups for one
with the published $G = 3B$, so that a pool with $q = 0.9$ costs as much as one with $q = 0.4$,
and $2.7$ times $n/q$. SPEED keeps its surplus for the next update and costs what 9.6 says for any
size of its batches.""",
        formulas={
            "cost": n / q * (1 + surplus / batch),
            "most": n / q * (1 + (refill - 1) / batch),
            "one": n * refill / (1 - (1 - q) ** refill),
            "two": n
            * refill
            / (2 * (1 - (1 - q) ** refill))
            * (1 + refill * q * (1 - q) ** (refill - 1) / (1 - (1 - q) ** refill)),
            "flat": n * refill / batch,
        },
        prove=_prove_refill,
        enumerate=_enumerate_refill,
        sample=_sample_refill,
    ),
]
