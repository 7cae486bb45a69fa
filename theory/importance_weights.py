r"""Weights of one over the chance: sampling as one likes and training the dataset's objective.

Counterpart: ``importance_weights`` of :class:`cures.schedulers.adaptive.Adaptive`. The symbols with an
index belong to one prompt; formulas for two are about a pair of them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from fractions import Fraction
from functools import cache
from itertools import combinations, product

import numpy as np
import sympy as sp

from theory.claims import Claim, Estimate, Exact, Formulas, Status, Step
from theory.finite_groups import CLAIMS as FINITE_GROUPS
from theory.finite_groups import gradient
from theory.group_draws import draw_gradients, gradient_of
from theory.outcomes import SmallPolicy, centred, groups, rational
from theory.score_law import Array
from theory.symbols import n, own_share

pi = sp.symbols("pi_1:4", positive=True)  # chances to be in the batch
mu = sp.symbols("mu_1:4", positive=True)  # shares of the dataset
g = sp.symbols("g_1:4", real=True)  # one coordinate of the gradients
pi_12 = sp.Symbol("pi_12", positive=True)  # chance of both
chance = sp.Symbol("pi", positive=True)
spread = sp.Symbol("v", positive=True)  # total variance of the group's gradient
n_1, n_2 = sp.symbols("n_1 n_2", integer=True, positive=True)

shrunk = (n - 1) / n
seen_share = (
    own_share * (n_1 - 1) / n_1
    / (own_share * (n_1 - 1) / n_1 + (1 - own_share) * (n_2 - 1) / n_2)
)  # fmt: skip
within = own_share**2 * spread / chance
pair = (pi[0] * pi[1] - pi_12) * (mu[0] * g[0] / pi[0] - mu[1] * g[1] / pi[1]) ** 2


def pair_at(formula: sp.Expr, both: sp.Expr, *two: tuple[sp.Expr, sp.Expr, sp.Expr]) -> sp.Expr:
    """The formula of a pair at the chance of both and at either one's chance, share and gradient."""
    symbols = zip(pi[:2], mu[:2], g[:2], strict=True)
    values = [pair for own in zip(symbols, two, strict=True) for pair in zip(*own, strict=True)]
    return formula.xreplace({pi_12: both, **dict(values)})


def _prove(f: Formulas) -> Iterator[Step]:
    batch = dict(
        zip(combinations(range(3), 2), sp.symbols("b_12 b_13 b_23", positive=True), strict=True)
    )
    one = [sp.Add(*(b for who, b in batch.items() if i in who)) for i in range(3)]
    weighed = [mu[i] / one[i] * g[i] for i in range(3)]
    yield Step(
        r"A batch is drawn with chance $b$; a prompt's $\pi$ adds up those of the batches that it is "
        r"in. Any two of three prompts, one coordinate: the sum of $\frac{\mu}{\pi} g$ has the mean",
        sp.Add(*(b * sp.Add(*(weighed[i] for i in who)) for who, b in batch.items())),
        sp.Add(*(mu[i] * g[i] for i in range(3))),
        name=r"\sum b \sum \frac{\mu}{\pi} g",
    )
    yield Step(
        r"With its quota fixed before its rollouts, a group's estimate has the mean $g$ for RLOO, and "
        r"for Dr.GRPO (6.2) $g$ times",
        FINITE_GROUPS[1].formulas["factor"],
        f["shrunk"],
        name=r"\mathbb{E}\,\hat g / g",
    )
    first = own_share * f["shrunk"].subs(n, n_1)
    second = (1 - own_share) * f["shrunk"].subs(n, n_2)
    yield Step(
        r"Of two prompts, in the place of $\mu$ it has the share",
        first / (first + second),
        f["seen"],
    )
    yield Step("which is $\\mu$ for equal sizes.", f["seen"].subs({n_1: n, n_2: n}), own_share,
               name=r"\text{share for } n_1 = n_2 = n")  # fmt: skip
    yield Step(
        r"Variance: given the batch, the groups of its prompts are independent; a prompt in it with "
        r"chance $\pi$ brings",
        chance * (own_share / chance) ** 2 * spread,
        f["within"],
        name=r"\pi \left(\frac{\mu}{\pi}\right)^2 v",
    )
    last = {batch[1, 2]: 1 - batch[0, 1] - batch[0, 2]}
    square = sp.Add(*(b * sp.Add(*(weighed[i] for i in who)) ** 2 for who, b in batch.items()))
    pairs = sp.Add(
        *(pair_at(f["pair"], b, *((one[i], mu[i], g[i]) for i in who)) for who, b in batch.items())
    )
    yield Step(
        r"Between batches of one size: with $m$ prompts in each, $\sum_j \pi_{ij} = (m-1)\pi_i$ and "
        r"$\sum_j \pi_i \pi_j = (m - \pi_i)\pi_i$ over $j \ne i$, so that the squares sum to those of "
        r"the pairs (Sen, Yates and Grundy). Two of three:",
        (square - sp.Add(*(mu[i] * g[i] for i in range(3))) ** 2).subs(last),
        pairs.subs(last),
        name=r"\sum b \left(\sum \frac{\mu}{\pi} g\right)^2 - \left(\sum \mu g\right)^2",
    )


# three prompts with the logits of one table, two of which are drawn
_PROMPTS = tuple(SmallPolicy.of([1, 2, 3], frozenset(right)) for right in ({0}, {1}, {0, 2}))
_MU = (Fraction(1, 2), Fraction(1, 4), Fraction(1, 4))
_BATCHES = {(0, 1): Fraction(1, 2), (0, 2): Fraction(1, 3), (1, 2): Fraction(1, 6)}
_PI = tuple(sum((b for who, b in _BATCHES.items() if i in who), Fraction()) for i in range(3))
_SIZES = (2, 3, 2)


def _weighted(
    prompt: int, size: int, factor: Fraction
) -> Iterator[tuple[Fraction, list[Fraction]]]:
    """Chance and weighted gradient of every outcome of a group, advantages times ``factor``."""
    policy, weight = _PROMPTS[prompt], _MU[prompt] / _PI[prompt] * factor / size
    for answers, chance in groups(policy.pi_K, size):
        advantage = centred(tuple(int(a in policy.right) for a in answers))
        pairs = list(zip(advantage, answers, strict=True))
        value = [sum((x * policy.score_K[a][d] for x, a in pairs), Fraction()) for d in range(3)]
        yield chance, [weight * x for x in value]


@cache
def _moments(size_N: tuple[int, ...], is_rloo: bool) -> tuple[sp.Matrix, sp.Rational]:
    """Mean and total variance of the weighted sum, over all batches and outcomes of their groups."""
    group_N = [
        list(_weighted(i, size, Fraction(size, size - 1) if is_rloo else Fraction(1)))
        for i, size in enumerate(size_N)
    ]
    mean, square = [Fraction()] * 3, Fraction()
    for (i, j), b in _BATCHES.items():
        for (c_1, x_1), (c_2, x_2) in product(group_N[i], group_N[j]):
            value = [x + y for x, y in zip(x_1, x_2, strict=True)]
            mean = [x + b * c_1 * c_2 * y for x, y in zip(mean, value, strict=True)]
            square += b * c_1 * c_2 * sum((y * y for y in value), Fraction())
    variance = square - sum((x * x for x in mean), Fraction())
    return sp.Matrix([rational(x) for x in mean]), rational(variance)


def _aim(factor_N: Sequence[sp.Expr]) -> sp.Matrix:
    """Gradients of the three prompts with the weights of the dataset, each times its factor."""
    parts = zip(_MU, factor_N, _PROMPTS, strict=True)
    return sp.Add(*(rational(x) * factor * sp.Matrix(gradient(q)) for x, factor, q in parts))


def _parts(f: Formulas, size_N: Sequence[int]) -> tuple[sp.Expr, sp.Expr]:
    """Variance of RLOO within and between the batches, by the formulas."""
    inside = sp.Integer(0)
    for policy, size, x, y in zip(_PROMPTS, size_N, _MU, _PI, strict=True):
        _, square = policy.gradient_moments(size, lambda r: Fraction(len(r), len(r) - 1) ** 2)
        own = sp.Matrix(gradient(policy))
        at = {own_share: rational(x), chance: rational(y), spread: rational(square) - own.dot(own)}
        inside += f["within"].subs(at)
    outside = sp.Integer(0)
    for who, b in _BATCHES.items():
        for d in range(3):
            two = [(rational(_PI[i]), rational(_MU[i]), gradient(_PROMPTS[i])[d]) for i in who]
            outside += pair_at(f["pair"], rational(b), *two)
    return inside, outside


def _enumerate(f: Formulas) -> Iterator[Exact]:
    where = "two of three prompts, groups of 2, 3 and 2"
    mean, variance = _moments(_SIZES, is_rloo=True)
    for d in range(2):
        yield Exact(
            f"{where}, RLOO: mean, coordinate {d + 1}", mean[d], _aim([sp.Integer(1)] * 3)[d]
        )
    yield Exact(f"{where}, RLOO: variance", variance, sp.Add(*_parts(f, _SIZES)))
    mean, _ = _moments(_SIZES, is_rloo=False)
    yield Exact(f"{where}, Dr.GRPO: mean, first coordinate", mean[0],
                _aim([f["shrunk"].subs(n, size) for size in _SIZES])[0])  # fmt: skip
    mean, _ = _moments((2, 2, 2), is_rloo=False)
    yield Exact("groups of 2, Dr.GRPO: mean, first coordinate", mean[0],
                f["shrunk"].subs(n, 2) * _aim([sp.Integer(1)] * 3)[0])  # fmt: skip
    first, second = (
        rational(_MU[i] * _PROMPTS[i].gradient_moments(_SIZES[i], lambda _: Fraction(1))[0][1])
        / gradient(_PROMPTS[i])[1]
        for i in range(2)
    )
    yield Exact("groups of 2 and 3, Dr.GRPO: share of the first of the first two prompts",
                first / (first + second),
                f["seen"].subs({own_share: sp.Rational(2, 3), n_1: 2, n_2: 3}))  # fmt: skip


def _sample(f: Formulas, rng: np.random.Generator) -> Iterator[Estimate]:
    draws = 60_000
    drawn = rng.choice(len(_BATCHES), size=draws, p=[float(b) for b in _BATCHES.values()])
    who = np.array(list(_BATCHES))[drawn]
    group_N_S_D = np.stack(
        [
            size / (size - 1) * draw_gradients(policy, rng, draws, size, lambda _: 1.0)
            for policy, size in zip(_PROMPTS, _SIZES, strict=True)
        ]
    )
    mu_N, pi_N = (np.array([float(x) for x in values]) for values in (_MU, _PI))
    gradient_N_D = np.stack([gradient_of(policy) for policy in _PROMPTS])
    aim_D = mu_N @ gradient_N_D
    of_draw = np.arange(draws)

    def summed(weight_N: Array) -> Array:
        weighted = weight_N[:, None, None] * group_N_S_D
        return np.asarray(weighted[who[:, 0], of_draw] + weighted[who[:, 1], of_draw])

    plain_D = (mu_N / (2 / 3) * pi_N) @ gradient_N_D
    found = summed(mu_N / pi_N)
    yield Estimate.of(
        r"two of three prompts, RLOO: sum along $\nabla J$ over $|\nabla J|^2$",
        found @ aim_D / (aim_D @ aim_D),
        expected=1.0,
        control=float(plain_D @ aim_D / (aim_D @ aim_D)),
        control_is=r"weights as if all chances were $2/3$",
    )
    inside, outside = _parts(f, _SIZES)
    yield Estimate.of(
        "the same: squared error",
        ((found - aim_D) ** 2).sum(axis=1),
        expected=float(inside + outside),
        control=float(inside),
        control_is="without the part between batches",
    )


CLAIMS = [
    Claim(
        number="2.9",
        source="not in the paper",
        title="Weights of one over the chance keep the dataset's objective",
        status=Status.PROVED,
        statement=r"""Draw a batch in any way that takes prompt $i$ with a known chance $\pi_i > 0$, fix
its quota $n_i \ge 2$ before its rollouts, and weigh its group's gradient by $\mu_i/\pi_i$; of $N$
prompts that count alike, by $1/(N\pi_i)$. For RLOO the sum estimates $\nabla J$, $J =
\mathbb{E}_\mu p$, without bias: what is visited and what is trained are two things. For Dr.GRPO it
estimates $<<shrunk>>\,\nabla J$ if all groups have one size $n$, a matter of the step's length; if sizes
differ, the objective is another one, in which the first of two prompts has the share
$$<<seen>>$$
in the place of $\mu$. With $v$ the variance of a group's gradient (6.3), a prompt adds
$$<<within>>$$
to the variance of the sum; and a pair of prompts, where all batches have one size, in every coordinate
$$<<pair>>,$$
$\pi_{12}$ being the chance of both. A prompt of small chance is paid for by noise.""",
        formulas={"shrunk": shrunk, "seen": seen_share, "within": within, "pair": pair},
        prove=_prove,
        enumerate=_enumerate,
        sample=_sample,
    ),
]
