r"""One prompt: the natural-gradient step of Eq. (4)-(9), and all claims about Eq. (4)-(11).

``g`` is the gradient of the success rate, ``F`` the Fisher matrix of the policy on this prompt, and
:math:`\nu = g^\top F^{+} g` the squared natural norm. The paper minimises a loss, here the success rate
is raised: the sign of ``g`` is the only difference. What becomes of all this at a radius that is not
infinitesimal is in :mod:`theory.finite_radius`. The claims of one prompt are collected here.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from itertools import product

import numpy as np
import sympy as sp

from theory import policies
from theory.claims import Claim, Estimate, Exact, Formulas, Search, Status, Step, numeric
from theory.decide import solution
from theory.search import largest
from theory.symbols import delta

natural = sp.Symbol("nu", positive=True)  # g^T F^+ g

improvement = sp.sqrt(2 * delta * natural)  # Eq. (9)
multiplier = sp.sqrt(natural / (2 * delta))  # Eq. (8)


# -- 1.1 the step ----------------------------------------------------------------------------------


@cache
def _stationary() -> tuple[sp.Symbol, sp.Matrix, sp.Matrix, sp.Matrix, dict[sp.Symbol, sp.Expr]]:
    """Multiplier, gradient, step, Fisher matrix and the best step, for two parameters."""
    lam = sp.Symbol("lambda", positive=True)
    l11, l22 = sp.symbols("l_11 l_22", positive=True)
    l21, *rest = sp.symbols("l_21 g_1 g_2 d_1 d_2", real=True)
    g, d = sp.Matrix(rest[:2]), sp.Matrix(rest[2:])
    root = sp.Matrix([[l11, 0], [l21, l22]])
    fisher = root * root.T
    lagrangian = (g.T * d)[0] - lam * ((d.T * fisher * d)[0] / 2 - delta)
    best = sp.solve([sp.diff(lagrangian, x) for x in d], list(d))
    return lam, g, d, fisher, best


def _prove_step(f: Formulas) -> Iterator[Step]:
    lam, g, d, fisher, best = _stationary()
    natural_value = (g.T * fisher.inv() * g)[0]
    for k, words in enumerate(
        (
            r"The Lagrangian $g^\top d - \lambda(\tfrac12 d^\top F d - \delta)$, with $F = L L^\top$ "
            r"positive definite, is stationary at $d = F^{-1} g / \lambda$; for two parameters, "
            r"$L$ lower triangular,",
            "and",
        )
    ):
        yield Step(
            words,
            sp.factor(best[d[k]]),
            sp.factor((fisher.inv() * g)[k] / lam),
            name=f"d_{k + 1}",
        )
    at_best = d.subs(best)
    yield Step(
        r"The step's divergence $\tfrac12 d^\top F d$ is $\nu / (2 \lambda^2)$; for two parameters,",
        sp.cancel((at_best.T * fisher * at_best)[0] / 2),
        sp.cancel(natural_value / (2 * lam**2)),
        name=r"\tfrac12 d^\top F d",
    )
    yield Step(
        r"It is $\delta$ for",
        solution(natural / (2 * lam**2) - delta, lam),
        f["multiplier"],
        name=r"\lambda",
    )
    yield Step(
        r"The improvement $\nu / \lambda$ is then",
        sp.Mul(natural, 1 / f["multiplier"]),
        f["improvement"],
        name=r"g^\top d",
    )
    far, room = sp.symbols("x y", nonnegative=True)
    yield Step(
        r"No step does better, with any number of parameters and for a singular $F$ too. Call the "
        r"one above $d^*$; all that is used is $F d^* = g / \lambda$. For any $d$ in the trust "
        r"region let $x = \tfrac12 (d - d^*)^\top F (d - d^*)$ and $y = \delta - \tfrac12 d^\top F d$, "
        r"neither of them negative. Multiplied out, $x = \tfrac12 d^\top F d - g^\top d / \lambda "
        r"+ \delta$, so that $g^\top d = \lambda(2\delta - x - y)$:",
        f["improvement"],
        f["multiplier"] * (2 * delta - far - room),
        certificate=f["multiplier"] * (far + room),
    )


def _enumerate_step(f: Formulas) -> Iterator[Exact]:
    fisher = sp.Matrix([[2, 1, 0], [1, 3, 1], [0, 1, 4]])
    g = sp.Matrix([1, 2, -1])
    radius = sp.Rational(1, 7)
    solved = fisher.LUsolve(g)
    at = {natural: (g.T * solved)[0], delta: radius}
    d = solved / f["multiplier"].subs(at)
    yield Exact(
        "three parameters: divergence of the step, the radius", (d.T * fisher * d)[0] / 2, radius
    )
    yield Exact(
        "three parameters: improvement of the step", (g.T * d)[0], f["improvement"].subs(at)
    )
    directions = [sp.Matrix(x) for x in product((-1, 0, 1), repeat=3) if any(x)]
    values = [
        (g.T * x)[0] * sp.sqrt(2 * radius / (x.T * fisher * x)[0]) for x in directions
    ]  # every direction scaled to the boundary
    yield Exact(
        "best of 26 directions on a lattice", max(values), f["improvement"].subs(at), relation="<"
    )
    pi = policies.softmax_probabilities((1, 2, 3))
    score = policies.softmax_scores(pi)
    g, fisher = policies.gradient(pi, score, {0}), policies.fisher(pi, score)
    raised = policies.pseudo_inverse(fisher) * g
    at = {natural: (g.T * raised)[0], delta: radius}
    d = raised / f["multiplier"].subs(at)
    yield Exact(
        "a singular $F$, of a table of three answers: boundary", (d.T * fisher * d)[0] / 2, radius
    )
    yield Exact(
        "a singular $F$, of a table of three answers: improvement",
        (g.T * d)[0],
        f["improvement"].subs(at),
    )


def _sample_step(f: Formulas, rng: np.random.Generator) -> Iterator[Estimate | Search]:
    size, radius = 5, 0.03
    root = rng.normal(size=(size, size)) + 2.0 * np.eye(size)
    fisher, g = root @ root.T, rng.normal(size=size)
    value = numeric(f["improvement"], (natural, delta))(g @ np.linalg.solve(fisher, g), radius)
    plain = g * np.sqrt(2.0 * radius / (g @ fisher @ g))
    found, _ = largest(
        lambda d: float(g @ d), 0.1 * plain, inside=lambda d: float(radius - 0.5 * d @ fisher @ d)
    )
    yield Search(
        "five parameters, sequential quadratic programming", float(value), found,
        float(g @ plain), "the plain gradient, scaled to the boundary", sense="max",
    )  # fmt: skip
    score_S_D = rng.normal(size=(100_000, size)) @ root.T  # covariance: the Fisher matrix
    yield Estimate.of(
        r"squared improvement as $2\delta$ times the mean square of $s^\top F^{-1} g$ over scores",
        2.0 * radius * (score_S_D @ np.linalg.solve(fisher, g)) ** 2, expected=float(value) ** 2,
        control=float(g @ plain) ** 2, control_is="the plain gradient",
    )  # fmt: skip


CLAIMS = [
    Claim(
        number="1.1",
        source="Eq. (4)-(9)",
        title="The natural-gradient step and its improvement",
        status=Status.PROVED,
        statement=r"""Let the success rate be linear in the step $d$, with gradient $g \ne 0$, and let
the divergence be $\tfrac12 d^\top F d$ with a positive definite $F$. The largest improvement
$g^\top d$ with divergence at most $\delta$ is that of $d = F^{-1} g / \lambda$, and of no other
step, with $\nu = g^\top F^{-1} g$ and
$$\lambda = <<multiplier>>, \qquad g^\top d = <<improvement>>.$$
If the Fisher matrix $F$ of a policy is singular, $F^{-1}$ is replaced by the pseudo-inverse $F^{+}$,
and $d$ is one of several best steps: $g$ still lies in the range of $F$, for along a direction of its
null space no chance changes, and so $p$ does not.""",
        formulas={"multiplier": multiplier, "improvement": improvement},
        prove=_prove_step,
        enumerate=_enumerate_step,
        sample=_sample_step,
    ),
]
