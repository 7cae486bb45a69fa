"""The machinery of claims on claims small enough to see through."""

from __future__ import annotations

import numpy as np
import pytest
import sympy as sp

from theory.check import is_refuted, verdict
from theory.claims import Claim, Estimate, Exact, Search, Status, Step, numeric
from theory.decide import is_nonnegative, is_zero
from theory.report import markdown, page
from theory.symbols import n, p


def _variance_claim(**changes: object) -> Claim:
    """Variance of a 0/1 reward; textbook."""
    fields = {
        "number": "1.1",
        "source": "Eq. (10)",
        "title": "Variance of the reward",
        "status": Status.PROVED,
        "statement": r"The reward has variance $<<variance>>$.",
        "formulas": {"variance": p * (1 - p)},
        "prove": lambda f: [Step("$E r^2 - (E r)^2$ with $r^2 = r$.", p - p**2, f["variance"])],
        "enumerate": lambda f: [
            Exact(
                "$p = 1/3$",
                sp.Rational(1, 3) * sp.Rational(2, 3) ** 2 + sp.Rational(2, 3) / 9,
                f["variance"].subs(p, sp.Rational(1, 3)),
            )
        ],
        "sample": lambda f, rng: [
            Estimate.of(
                "$r | p = 0.3$ | a bar",
                (rng.random(40_000) < 0.3).astype(float) * 0.4 + 0.09,  # (r - .3)^2
                expected=float(f["variance"].subs(p, 0.3)),
                control=0.3,
                control_is="the success rate",
            )
        ],
    }
    return Claim(**{**fields, **changes})


def test_a_true_claim_holds_with_all_three_kinds():
    found = verdict(_variance_claim())
    assert found.holds
    assert found.counts() == (1, 1, 1)


@pytest.mark.parametrize("wrong", [2 * p * (1 - p), p**2 * (1 - p), p * (p - 1)])
def test_a_wrong_formula_is_refuted(wrong: sp.Expr):
    claim = _variance_claim()
    assert not is_refuted(claim, claim.formulas)
    assert is_refuted(claim, {"variance": wrong})
    assert not verdict(claim, {"variance": wrong}).holds


def test_a_claim_without_simulation_does_not_hold():
    found = verdict(_variance_claim(sample=lambda f, rng: []))
    assert found.failures == ("no Monte Carlo check",)
    search = Search("$p = 1/2$", 0.25, 0.25, 0.2, "$p = 0.3$", "max")
    assert search.holds()
    found = verdict(_variance_claim(sample=lambda f, rng: [search]))  # stands beside a simulation
    assert found.failures == ("no Monte Carlo check",)


def test_a_check_that_raises_is_a_failure():
    found = verdict(_variance_claim(enumerate=lambda f: [1 / 0]))
    assert found.failures == ("ZeroDivisionError: division by zero",)


@pytest.mark.parametrize(
    ("status", "extra"),
    [(Status.FALSE, {}), (Status.CONDITIONAL, {}), (Status.PROVED, {"correction": "x"})],
)
def test_status_and_its_text_go_together(status: Status, extra: dict[str, str]):
    with pytest.raises(ValueError, match="must be given iff"):
        _variance_claim(status=status, **extra)


def test_an_experiment_too_small_to_reject_its_control_fails():
    few = np.array([0.0, 1.0, 0.0, 1.0, 1.0])
    assert not Estimate.of("mean", few, expected=0.5, control=0.6, control_is="wrong").holds()
    many = np.tile([0.0, 1.0], 5000)
    assert Estimate.of("mean", many, expected=0.5, control=0.6, control_is="wrong").holds()
    assert not Estimate.of("mean", many, expected=0.6, control=0.5, control_is="wrong").holds()


def test_exact_refuses_floats():
    with pytest.raises(ValueError, match="must be exact numbers"):
        Exact("x", sp.Float(0.5), sp.Rational(1, 2)).holds()


@pytest.mark.parametrize(
    ("claimed", "found", "control", "holds"),
    [(1.0, 1.0, 0.9, True), (1.0, 1.1, 0.9, False), (1.0, 0.9, 0.8, False), (1.0, 1.0, 1.0, False)],
)
def test_search_needs_the_optimum_and_a_beaten_control(
    claimed: float, found: float, control: float, holds: bool
):
    assert Search("x", claimed, found, control, "wrong", "max").holds() is holds
    assert Search("x", -claimed, -found, -control, "wrong", "min").holds() is holds


def test_zero_is_proved_and_not_guessed():
    assert is_zero((p - 1) ** 2 - p**2 + 2 * p - 1)
    assert is_zero(sp.gamma(n + 1) / sp.gamma(n) - n)
    assert not is_zero(p * (1 - p) - p + p**2 + sp.Rational(1, 10**20))
    # true for the integers tried at no point: sin(pi n) is 0 by assumption on n alone
    assert is_zero(sp.sin(sp.pi * n))


def test_nonnegative_knows_that_success_rates_are_below_one():
    assert is_nonnegative(p * (1 - p))
    assert is_nonnegative(1 - p**3 - (1 - p) ** 3)
    assert not is_nonnegative(p - sp.Rational(1, 2))


def test_certificate_must_equal_the_difference_and_be_nonnegative():
    assert Step("mean inequality", 1, 4 * p * (1 - p), (1 - 2 * p) ** 2).holds()
    assert not Step("wrong difference", 1, 4 * p * (1 - p), (1 - p) ** 2).holds()
    assert not Step("wrong sign", p, 1, p - 1).holds()


def test_numeric_evaluates_the_expression():
    p_N = np.array([0.1, 0.5])
    # p (1 - p) by hand
    np.testing.assert_allclose(numeric(p * (1 - p), p)(p_N), [0.09, 0.25], rtol=1e-15)


def test_unknown_placeholder_is_refused():
    claim = _variance_claim(statement="$<<nothing>>$")
    with pytest.raises(ValueError, match="unknown formula"):
        claim.tex(claim.statement)


def test_report_prints_the_checked_object_and_renders_every_formula():
    claim = _variance_claim()
    text = markdown([claim], [verdict(claim)])
    assert sp.latex(claim.formulas["variance"]) in text
    rendered = page([claim], [verdict(claim)])
    assert rendered.count("<math") >= 4  # statement, proof line and its words, enumeration
    assert "$" not in rendered  # nothing left unrendered
    assert "| a bar</td>" in rendered  # a bar in a cell ends neither the cell nor its mathematics
    # 3 statuses x 2, contents 2 x 4, 4 of the enumeration, 4 of the simulation and its picture
    assert rendered.count("<td>") == 23
    failed = verdict(claim, {"variance": p})
    assert "THIS CLAIM FAILED" in markdown([claim], [failed])
