"""A wrong formula in the theory makes the validation fail: every formula that it uses is tried."""

from __future__ import annotations

import pytest
import sympy as sp

from sim.validation import FAMILIES, estimator_variance
from sim.validation.expected import formula
from sim.validation.run import FEWEST, ValidationSettings, checks_of, setting_of
from theory.registry import all_claims

SETTINGS = ValidationSettings(seed=0, draws=FEWEST)


def larger(value: sp.Expr) -> sp.Expr:
    return value * sp.Rational(11, 10)


def much_larger(value: sp.Expr) -> sp.Expr:
    return value * sp.Rational(3, 2)


def steeper(value: sp.Expr) -> sp.Expr:
    """Another coefficient of the next order; the leading order stays."""
    return 1 + (value - 1) * sp.Rational(11, 10)


# check -> claim, formula, what is done to it
WRONG = [
    ("bound/leading", "1.1", "multiplier", larger),
    ("bound/restricted", "1.4", "several", larger),
    ("bound/norm", "1.3", "natural", larger),
    ("bound/norm", "8.2", "norm", larger),
    ("bound/repeated-skill", "8.3", "share", larger),
    ("bound/leading", "1.8", "stated", larger),
    ("bound/step", "1.7", "step", steeper),
    ("bound/spent", "1.7", "spent", steeper),
    ("bound/next-order", "1.7", "exact", steeper),
    ("bound/divergence", "1.5", "divergence", larger),
    ("bound/any-radius", "1.8", "corrected", larger),
    ("bound/pinsker", "1.6", "bound", larger),
    ("dataset/norm", "2.1", "ceiling", larger),
    ("dataset/leading", "2.1", "improvement", larger),
    ("dataset/leading", "2.4", "ratio", steeper),
    ("dataset/any-radius", "2.4", "any", larger),
    ("dataset/any-radius", "2.4", "any", lambda value: value / 2),
    ("dataset/own-regions", "1.8", "stated", larger),
    ("dataset/split", "2.3", "split", larger),
    ("dataset/dead-prompts", "2.3", "alive", larger),
    ("sampling/distribution", "3.1", "share", sp.sqrt),
    ("sampling/replacement", "3.1", "share", sp.sqrt),
    ("sampling/no-replacement", "3.1", "share", sp.sqrt),
    ("sampling/oracle", "3.1", "share", sp.sqrt),
    ("sampling/cures", "3.1", "share", sp.sqrt),
    ("sampling/cures", "7.1", "mean", sp.sqrt),
    ("sampling/recorded", "7.1", "mean", sp.sqrt),
    ("sampling/distinct", "4.7", "distinct", larger),
    ("gradient_std/tables", "5.1", "variance", much_larger),
    ("gradient_std/chains", "5.1", "variance", much_larger),
    ("gradient_std/host-moments", "5.1", "variance", much_larger),
    ("gradient_std/last-term", "5.2", "gradient_sq", larger),
    ("gradient_std/two-answers", "5.5", "variance", much_larger),
    ("gradient_std/zero-at-half", "5.5", "variance", lambda value: value + sp.Rational(1, 10)),
    ("gradient_std/few-answers", "5.7", "table", much_larger),
    ("gradient_std/norm-ratio", "5.3", "even", much_larger),
    ("gradient_std/valley", "5.3", "top", larger),
    ("gradient_std/fillers", "5.6", "variance", much_larger),
    ("estimator_variance/table-eq20", "4.2", "minimum", much_larger),
    ("estimator_variance/table-gvm", "4.1", "within", much_larger),
    ("estimator_variance/drawn-uniform", "4.1", "total", much_larger),
    ("estimator_variance/drawn-eq20", "4.4", "total", much_larger),
]


@pytest.fixture(autouse=True)
def _fewer_updates(monkeypatch):
    """Formulas are wrong by a half here: a few hundred updates tell."""
    monkeypatch.setattr(estimator_variance, "FEWEST", 600)


def check_named(name: str):
    family, _, short = name.partition("/")
    return family, next(check for check in checks_of(family) if check.name == short)


@pytest.mark.parametrize(
    ("name", "number", "key", "change"), WRONG, ids=lambda x: getattr(x, "__name__", x)
)
def test_a_wrong_formula_fails(monkeypatch, name, number, key, change):
    family, check = check_named(name)
    claim = next(claim for claim in all_claims() if claim.number == number)
    assert change(claim.formulas[key]) != formula(number, key)
    monkeypatch.setitem(claim.formulas, key, change(claim.formulas[key]))
    assert not check.run(setting_of(SETTINGS, family, check)).holds


def test_every_check_stands_in_the_list_or_uses_a_function_of_the_theory():
    listed = {name for name, *_ in WRONG}
    every = {f"{family}/{check.name}" for family in FAMILIES for check in checks_of(family)}
    assert listed <= every
    # these compare with theory.trust_region's exact optimum, or with the same formulas as their like
    others = {
        "bound/chain-gap", "bound/optimum", "bound/never-above", "dataset/gap", "dataset/search",
        "dataset/never-above", "estimator_variance/table-uniform", "estimator_variance/table-random",
        "estimator_variance/chain-eq20", "estimator_variance/chain-uniform",
        "estimator_variance/chain-gvm", "estimator_variance/chain-random",
    }  # fmt: skip
    assert every - listed == others


@pytest.mark.parametrize("name", ["bound/optimum", "bound/chain-gap"])
def test_a_wrong_exact_optimum_fails(monkeypatch, name):
    from sim.validation import bound

    true = bound.exact_improvement
    family, check = check_named(name)
    monkeypatch.setattr(bound, "exact_improvement", lambda p, delta: true(p, 1.1 * delta))
    assert not check.run(setting_of(SETTINGS, family, check)).holds


def test_a_wrong_policy_fails(monkeypatch):
    # not the theory but the simulator is wrong here: scores 10 % too long
    from sim.skills import Skills

    true = Skills.local_score
    monkeypatch.setattr(Skills, "local_score", lambda *given: 1.1 * true(*given))
    family, check = check_named("gradient_std/chains")
    assert not check.run(setting_of(SETTINGS, family, check)).holds


def test_a_wrong_draw_fails(monkeypatch):
    # not the theory but the library: the distribution is flattened a little
    import cures

    true = cures.draw_with_replacement

    def flattened(prob_N, size, generator):
        return true(0.95 * prob_N + 0.05 / prob_N.size, size, generator)

    monkeypatch.setattr(cures, "draw_with_replacement", flattened)
    family, check = check_named("sampling/replacement")
    setting = setting_of(ValidationSettings(draws=200_000), family, check)
    assert not check.run(setting).holds
