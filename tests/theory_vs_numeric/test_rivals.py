"""Chapter 9 against the schedulers `gvm`, `speed`, `dapo`, `band` and their functions, to 1e-12."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
import sympy as sp
from scipy import stats

import cures
from cures.beta_moments import expected_mixed, expected_potential, expected_variance
from cures.gradient_std import gradient_std_surrogate, gradient_variance
from cures.potential import prob_mixed
from cures.quota import allocate
from cures.records import Outcome
from cures.schedulers.gvm import gvm_weight
from tests.theory_vs_numeric.formulas import formula
from theory import gvm, refill, screened_groups, shapes, speed
from theory.claims import numeric
from theory.gvm import distance, norm, norm_q, power, regulariser
from theory.refill import batch, surplus
from theory.refill import refill as refill_size
from theory.speed import continued, high, low
from theory.symbols import alpha, beta, budget, n, p, q

CLOSE = {"rtol": 1e-12, "atol": 1e-12}
RATE_N = np.array([1e-3, 0.02, 0.1, 0.3, 0.5, 0.77, 0.98])


def all_groups(size: int) -> np.ndarray:
    """All outcomes of a group, shape (2^size, size)."""
    return np.array(list(product((0, 1), repeat=size)), dtype=np.float64)


def chances(reward_G_J: np.ndarray, rate: float) -> np.ndarray:
    right_G = reward_G_J.sum(axis=1)
    return rate**right_G * (1 - rate) ** (reward_G_J.shape[1] - right_G)


def advantages_of(reward_G_J: np.ndarray) -> np.ndarray:
    """Advantages r - mean of the library, in the shape of the rewards."""
    group_R = np.repeat(np.arange(len(reward_G_J)), reward_G_J.shape[1])
    found = cures.advantages(reward_G_J.ravel(), group_R, estimator="dr_grpo")
    return found.reshape(reward_G_J.shape)


def answer(scheduler, plan, success_B):
    return scheduler.observe(Outcome.of(plan, np.asarray(success_B, dtype=np.int64)))


# --- GVM


@pytest.mark.parametrize(("a", "b"), [(1e-3, 2.0), (0.05, 3.5)])
def test_gvm_weight_and_its_peak(a: float, b: float):
    weight = numeric(formula(gvm, "9.2", "weight"), (p, regulariser, power))
    np.testing.assert_allclose(gvm_weight(RATE_N, 1.0, a, b), weight(RATE_N, a, b), **CLOSE)
    np.testing.assert_allclose(gvm_weight(RATE_N, 3.0, a, b), 3 * weight(RATE_N, a, b), **CLOSE)
    peak = float(formula(gvm, "9.2", "peak").subs({regulariser: a, power: b}))
    at_peak, *beside = gvm_weight(np.array([1.0, 0.99, 1.01]) * peak, 1.0, a, b)
    assert at_peak > max(beside)
    if b == 2:
        height = float(formula(gvm, "9.2", "height").subs(regulariser, a))
        assert at_peak == pytest.approx(height, rel=1e-12)


def test_regulariser_at_the_smallest_frequency_of_pilots():
    effect = numeric(formula(gvm, "9.2", "effect"), (n, regulariser, power))
    for pilots in (4, 8, 32):
        rate = np.array([1 / pilots])
        ratio = gvm_weight(rate, 1.0, 1e-3, 2.0) / gvm_weight(rate, 1.0, 0.0, 2.0)
        np.testing.assert_allclose(ratio, effect(pilots, 1e-3, 2.0), **CLOSE)


def test_frequencies_of_31_pilots_lie_above_the_peak_and_those_of_32_do_not():
    # a = 1e-3, b = 2: the peak is at sqrt(1e-3) = 1/31.6
    for pilots, rises in ((8, False), (31, False), (32, True)):
        weight = gvm_weight(np.arange(1, pilots + 1) / pilots, 1.0, 1e-3, 2.0)
        dense = gvm_weight(np.linspace(1 / pilots, 1, 10_000), 1.0, 1e-3, 2.0)
        assert (np.diff(weight) < 0).all()  # whole numbers of right pilots do not see the fall
        assert (dense.argmax() > 0) == rises


def test_gvm_share_of_two_prompts():
    share = numeric(formula(gvm, "9.1", "share"), (p, q, norm, norm_q, budget))
    rate_B, norm_B = np.array([0.3, 0.8]), np.array([2.0, 0.5])
    weight_B = gvm_weight(rate_B, norm_B, 0.0, 2.0)
    expected = share(*rate_B, *norm_B, 60)
    np.testing.assert_allclose(60 * weight_B[0] / weight_B.sum(), expected, **CLOSE)
    found = allocate(weight_B, 60, min_quota=1)
    assert abs(found[0] - expected) <= 1  # whole rollouts
    assert abs(found[0] - 60 * 0.3**0.5 / (0.3**0.5 + 0.8**0.5)) > 5  # the root upside down


def test_gvm_sigma_and_variance_from_the_terms_of_eq_21():
    sigma = numeric(formula(gvm, "9.1", "sigma"), (p, norm))
    variance = numeric(formula(gvm, "9.1", "variance"), (p, norm, distance))
    # r s / p against (r - p) s: the right answers' term over p (1-p), squared; |grad p|^2 over p^2
    square = gradient_variance(RATE_N, 4.0, 0.0, 0.0) / (RATE_N * (1 - RATE_N)) ** 2
    gradient_sq = -gradient_variance(RATE_N, 0.0, 0.0, 0.25)
    np.testing.assert_allclose(square, sigma(RATE_N, 2.0) ** 2, **CLOSE)
    np.testing.assert_allclose(
        square - gradient_sq / RATE_N**2, variance(RATE_N, 2.0, 0.5), **CLOSE
    )


def test_price_of_gvm_quotas():
    at = {alpha: 2, beta: 1}
    best = expected_potential(2.0, 1.0) ** 2
    uniform = float(formula(gvm, "9.3", "uniform").subs(at))
    np.testing.assert_allclose(expected_variance(2.0, 1.0) / best, uniform, **CLOSE)
    node, mass = np.polynomial.legendre.leggauss(12)  # exact for polynomials in x, p = x^2
    x = (node + 1) / 2
    mass = mass / 2 * 4 * x**3  # density 2 p of Beta(2, 1), dp = 2 x dx
    weight = gvm_weight(x**2, 1.0, 0.0, 2.0)
    price = (mass @ weight) * (mass @ (x**2 * (1 - x**2) / weight)) / best
    np.testing.assert_allclose(price, float(formula(gvm, "9.3", "gvm").subs(at)), **CLOSE)


def test_prompts_without_a_right_pilot_get_no_quota():
    missed = numeric(formula(gvm, "9.4", "missed"), (p, n))
    right = np.arange(9)
    is_idle = gvm_weight(right / 8, 1.0, 1e-3, 2.0) == 0
    for rate in RATE_N:
        chance = stats.binom.pmf(right, 8, rate)[is_idle].sum()
        np.testing.assert_allclose(chance, missed(rate, 8), **CLOSE)


# --- SPEED


@pytest.mark.parametrize("pilots", [2, 3, 4, 8])
def test_density_of_the_trained(pilots: int):
    density = numeric(formula(speed, "9.5", "density"), (p, n))
    found = prob_mixed(RATE_N, pilots) / expected_mixed(1.0, 1.0, pilots)
    np.testing.assert_allclose(found, density(RATE_N, pilots), **CLOSE)


def rollouts_by_right_pilots(pilots: int, later: int) -> np.ndarray:
    """What the scheduler gives a prompt with k right pilots in all, k = 0 ... pilots."""
    scheduler = cures.make_scheduler(
        "speed", num_prompts=pilots + 1, batch_size=1, budget=pilots + later,
        screening_size=pilots, screening_batch=pilots + 1, max_live_groups=99,
    )  # fmt: skip
    first = scheduler.propose()
    spent = {
        int(group): int(quota) for group, quota in zip(first.group_B, first.quota_B, strict=True)
    }
    answer(scheduler, first, np.arange(pilots + 1))  # one prompt for every k
    second = scheduler.propose()
    for group, quota in zip(second.group_B.tolist(), second.quota_B.tolist(), strict=True):
        if group in spent:
            spent[group] += quota
    return np.array([spent[int(group)] for group in first.group_B])


@pytest.mark.parametrize(("pilots", "later"), [(2, 3), (4, 20), (5, 1)])
def test_quota_and_cost_of_the_scheduler(pilots: int, later: int):
    quota = numeric(formula(speed, "9.6", "quota"), (p, n, continued))
    cost = numeric(formula(speed, "9.6", "cost"), (q, n, continued))
    idle = numeric(formula(speed, "9.6", "idle"), (q, n, continued))
    spent = rollouts_by_right_pilots(pilots, later)
    chance = stats.binom.pmf(np.arange(pilots + 1), pilots, RATE_N[:, None])
    found = chance @ spent
    np.testing.assert_allclose(found, quota(RATE_N, pilots, later), **CLOSE)
    trained = chance @ (spent > pilots)
    np.testing.assert_allclose(trained, prob_mixed(RATE_N, pilots), **CLOSE)
    # a pool of these rates
    share = trained.mean()
    np.testing.assert_allclose(found.sum() / trained.sum(), cost(share, pilots, later), **CLOSE)
    refused = (chance @ (spent * (spent == pilots))).sum() / found.sum()
    np.testing.assert_allclose(refused, idle(share, pilots, later), **CLOSE)


def test_cost_over_uniform_rates():
    uniform = numeric(formula(speed, "9.6", "uniform"), (n, continued))
    equal = numeric(formula(speed, "9.6", "equal"), (p, n, continued))
    for pilots in (2, 4, 8):
        found = pilots / expected_mixed(1.0, 1.0, pilots) + 16
        np.testing.assert_allclose(found, uniform(pilots, 16), **CLOSE)
        np.testing.assert_allclose(
            1 - prob_mixed(RATE_N, pilots + 16), equal(RATE_N, pilots, 16), **CLOSE
        )


@pytest.mark.parametrize(("pilots", "later"), [(2, 4), (3, 2), (4, 5)])
def test_screened_groups_by_the_advantages_of_the_library(pilots: int, later: int):
    symbols = (p, n, continued)
    lift, last, pull = (
        numeric(formula(screened_groups, "9.7", name), symbols)
        for name in ("lift", "later", "pull")
    )
    reward = all_groups(pilots + later)
    advantage = advantages_of(reward)
    right = reward[:, :pilots].sum(axis=1)
    is_in = (right > 0) & (right < pilots)
    for rate in RATE_N:
        chance = chances(reward, rate)
        at = (rate, pilots, later)
        trained = chance[is_in].sum()
        np.testing.assert_allclose(trained, prob_mixed(rate, pilots), **CLOSE)
        tolerance = {"rtol": 1e-12, "atol": 1e-12}  # the formulas cancel at the ends
        pilot_mean = chance[is_in] @ right[is_in] / pilots / trained
        np.testing.assert_allclose(pilot_mean - rate, lift(*at), **tolerance)
        mean = chance[is_in] @ advantage[is_in] / trained
        np.testing.assert_allclose(mean[pilots:], last(*at), **tolerance)
        np.testing.assert_allclose(mean[:pilots], -later / pilots * last(*at), **tolerance)
        square = (advantage**2).sum(axis=1)
        kept = chance[is_in] @ square[is_in] / (chance @ square)
        np.testing.assert_allclose(kept, pull(*at), **tolerance)


@pytest.mark.parametrize(("pilots", "later"), [(2, 4), (4, 5), (4, 8)])
def test_break_even_shares_of_dead_prompts(pilots: int, later: int):
    size = pilots + later
    symbols = (p, n, continued)
    by_signal, by_groups = (
        numeric(formula(screened_groups, "9.8", name), symbols) for name in ("signal", "groups")
    )
    reward = all_groups(size)
    right = reward[:, :pilots].sum(axis=1)
    is_in = (right > 0) & (right < pilots)
    square = (advantages_of(reward) ** 2).sum(axis=1)
    for rate in RATE_N[1:-1]:
        mixed = prob_mixed(rate, pilots)
        live = 1 - by_signal(rate, pilots, later)
        kept = chances(reward, rate)[is_in] @ square[is_in]
        screened = kept / (pilots + later * live * mixed)
        equal = gradient_std_surrogate(rate, estimator="dr_grpo", n=size) ** 2
        np.testing.assert_allclose(screened, equal, rtol=1e-12)
        live = 1 - by_groups(rate, pilots, later)
        screened = pilots / (live * mixed) + later
        np.testing.assert_allclose(screened, size / (live * prob_mixed(rate, size)), rtol=1e-12)


def test_break_even_by_signal_is_not_that_by_groups():
    # negative control, and the figures of the text: 4 + 20 rollouts at p = 0.1
    at = {p: 0.1, n: 4, continued: 20}
    assert float(formula(screened_groups, "9.8", "signal").subs(at)) == pytest.approx(
        0.04, abs=0.005
    )
    assert float(formula(screened_groups, "9.8", "groups").subs(at)) == pytest.approx(
        0.28, abs=0.005
    )


# --- DAPO


def capped_cost(size: int, wanted: int, most: int, share: float) -> tuple[float, dict[int, float]]:
    """Mean plans of the scheduler over all outcomes of ``most`` plans, and what was found if all ran."""
    mean, unfinished = 0.0, dict.fromkeys(range(wanted), 0.0)
    for outcome in product((0, 1), repeat=size * most):
        chance = float(np.prod([share if mixed else 1 - share for mixed in outcome]))
        scheduler = cures.make_scheduler(
            "dapo", num_prompts=20, batch_size=wanted, budget=2 * wanted,
            refill_size=size, max_plans_per_update=99,
        )  # fmt: skip
        for k in range(most):
            plan = scheduler.propose()
            assert plan.num_rollouts == 2 * size
            if answer(scheduler, plan, outcome[k * size : (k + 1) * size]).is_update:
                break
        else:
            unfinished[sum(outcome)] += chance
        mean += chance * scheduler.ledger.generated / (2 * size)
    return mean, unfinished


@pytest.mark.parametrize(("size", "wanted"), [(1, 1), (2, 1), (1, 2), (2, 2), (3, 2)])
def test_refill_of_the_scheduler_over_all_outcomes(size: int, wanted: int):
    share = 0.4
    at = {q: share, refill_size: size, n: 2}
    # batches still to come when k mixed groups are missing: rollouts per group times k over n G
    left = {
        1: float(formula(refill, "9.9", "one").subs(at)) / (2 * size),
        2: float(formula(refill, "9.9", "two").subs(at)) * 2 / (2 * size),
    }
    mean, unfinished = capped_cost(size, wanted, 3, share)
    whole = mean + sum(chance * left[wanted - found] for found, chance in unfinished.items())
    assert whole == pytest.approx(left[wanted], rel=1e-12)
    if size == 1:
        assert whole == pytest.approx(wanted / share, rel=1e-12)
    else:
        assert whole > wanted / (size * share) * 1.05  # negative control: n / q is too little
    assert whole <= float(formula(refill, "9.9", "most").subs({**at, batch: wanted})) * wanted / (
        2 * size
    ) * (1 + 1e-12)


def test_refill_of_published_size():
    # q = 0.4: 614 of 1536 in the mean, 512 are wanted; sums of binomial tails by scipy
    size, wanted, rollouts = 1536, 512, 16
    for share in (0.25, 0.4, 0.9):
        tails = [stats.binom.cdf(wanted - 1, k * size, share) for k in range(1, 20)]
        batches = 1 + sum(tails)
        cost = rollouts * size * batches / wanted
        at = {q: share, refill_size: size, batch: wanted, n: rollouts}
        # the surplus from the law of what is found, batch by batch
        of_batch = stats.binom.pmf(np.arange(size + 1), size, share)
        found, thrown = np.ones(1), 0.0
        for _ in range(20):
            found = np.convolve(found, of_batch)
            thrown += found[wanted:] @ np.arange(found.size - wanted)
            found = found[:wanted]
        expected = float(formula(refill, "9.9", "cost").subs({**at, surplus: thrown}))
        assert cost == pytest.approx(expected, rel=1e-12)
        assert cost < float(formula(refill, "9.9", "most").subs(at))
        flat = float(formula(refill, "9.9", "flat").subs(at))
        assert (cost == pytest.approx(flat, rel=1e-6)) == (share > 0.3)


# --- shapes


GRID = np.linspace(0.0005, 0.9995, 2000)


def on_grid(expression: sp.Expr, rate: np.ndarray = GRID) -> np.ndarray:
    return np.broadcast_to(numeric(expression, p)(rate), rate.shape)


def test_every_shape_has_the_largest_value_one():
    lopsided = shapes.selection_shapes(group=10, band=(sp.Rational(1, 10), sp.Rational(1, 5)))
    several = [
        *shapes.selection_shapes().values(),
        *shapes.quota_shapes().values(),
        *shapes.quota_shapes(a=sp.Rational(1, 10)).values(),
        lopsided["band"],
    ]
    for expression in several:
        height = on_grid(expression)
        assert height.max() <= 1 + 1e-12
        assert height.max() == pytest.approx(1, abs=1e-3)
        assert height.min() >= 0


def test_selection_shapes_are_those_of_the_library():
    shape = shapes.selection_shapes()
    u = cures.potential(np.append(GRID, 0.5))
    chance = cures.sampling_distribution(u, 0.05)
    np.testing.assert_allclose(on_grid(shape["cures"]), chance[:-1] / chance[-1], **CLOSE)
    for name, size in (("speed", 4), ("dapo", 24)):
        found = prob_mixed(GRID, size) / prob_mixed(0.5, size)
        np.testing.assert_allclose(on_grid(shape[name]), found, **CLOSE)


@pytest.mark.parametrize(
    ("group", "first", "last"), [(24, 0.2, 0.8), (10, 0.1, 0.2), (5, 0.2, 0.8)]
)
def test_band_shape_is_what_the_scheduler_keeps(group: int, first: float, last: float):
    scheduler = cures.make_scheduler(
        "band", num_prompts=group + 1, batch_size=group + 1, budget=group * (group + 1),
        low=first, high=last, max_plans_per_update=1,
    )  # fmt: skip
    plan = scheduler.propose()
    chosen = answer(scheduler, plan, np.arange(group + 1))  # one prompt for every number right
    right = np.flatnonzero(np.isin(plan.group_B, chosen.group_G))
    kept = stats.binom.pmf(right, group, GRID[:, None]).sum(axis=1)
    odds = float(formula(speed, "9.5", "odds").subs({n: group, low: right[0], high: right[-1]}))
    best = stats.binom.pmf(right, group, odds / (1 + odds)).sum()
    band = (sp.Rational(str(first)), sp.Rational(str(last)))
    shape = shapes.selection_shapes(group=group, band=band)["band"]
    np.testing.assert_allclose(on_grid(shape), kept / best, **CLOSE)


def test_quota_shapes_are_those_of_the_library():
    shape = shapes.quota_shapes()
    np.testing.assert_allclose(
        on_grid(shape["cures"]), gradient_std_surrogate(GRID) / gradient_std_surrogate(0.5), **CLOSE
    )
    # two answers, scores (1 - p) and -p
    variance = gradient_variance(GRID, (1 - GRID) ** 2, GRID**2, 1.0)
    np.testing.assert_allclose(on_grid(shape["cures, two answers"]) ** 2, 16 * variance, **CLOSE)
    weight = gvm_weight(GRID, 1.0, 1e-3, 2.0)
    peak = gvm_weight(np.array([1e-3**0.5]), 1.0, 1e-3, 2.0)
    np.testing.assert_allclose(on_grid(shape["gvm"]), weight / peak, **CLOSE)
    quota = 4 + 20 * prob_mixed(GRID, 4)
    np.testing.assert_allclose(on_grid(shape["speed"]), quota / (4 + 20 * 7 / 8), **CLOSE)


@pytest.mark.parametrize("band", [(0, 1), (0, sp.Rational(1, 2)), (sp.Rational(49, 96),) * 2])
def test_bands_that_keep_nothing_or_groups_of_one_kind_are_refused(band):
    with pytest.raises(ValueError, match="selection_shapes: band must keep some of 1"):
        shapes.selection_shapes(group=24, band=band)
