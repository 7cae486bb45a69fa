"""Draws from the tree obey Eq. 14, with and without forgetting; what holds a bound is a bound."""

from __future__ import annotations

import numpy as np
import pytest

import cures
from cures.posterior import BetaPosterior
from cures.softmax_tree import FEWEST_PROPOSALS, SoftmaxTree, bound_of_potential

PRIORS = [(1.0, 1.0), (0.3, 1.7), (5.0, 0.5)]
PLASTIC = 1.324717957244746  # the real root of x^3 = x + 1


class Lattice:
    """Points of the unit square instead of chance: draws and their acceptances.

    (k / x, k / x^2) modulo 1 with the plastic number x are of low discrepancy: a share of the square is
    the share of the first n points within O(log(n)^2 / n). They come in the order of the draws.
    """

    def __init__(self):
        self.calls = 0

    def random(self, size):
        k = np.arange(1, size + 1)
        first, second = (np.mod(0.5 + k / PLASTIC**axis, 1.0) for axis in (1, 2))
        self.calls += 1
        return np.sort(first) if self.calls % 2 else second[np.argsort(first)]

    def choice(self, accepted, size, replace, shuffle):
        return accepted[np.linspace(0, accepted.size - 1, size).astype(int)]  # evenly spread


def driven(posterior, temperature, *, steps=60, seed=0, window=None, prompt_S=None, told=4):
    """A tree with a history of visits, and the posterior."""
    generator = np.random.default_rng(seed)
    tree = SoftmaxTree(posterior, temperature, prompt_S, window=window)
    size = len(posterior) if prompt_S is None else prompt_S.size
    for _ in range(steps):
        slot = generator.choice(size, told, replace=False)
        prompt = slot if prompt_S is None else prompt_S[slot]
        trial = generator.integers(0, 9, told)
        posterior.update(prompt, generator.binomial(trial, prompt / len(posterior)), trial)
        tree.told(slot[trial > 0])
        posterior.advance()
        tree.advanced()
    return tree


def dense(posterior, temperature, prompt_S=None):
    """The reference: Eq. 14 over everyone."""
    return cures.sampling_distribution(cures.potential(posterior.mean(prompt_S)), temperature)


def total_variation(counts, prob):
    return 0.5 * np.abs(counts / counts.sum() - prob).sum()


@pytest.mark.parametrize("prior", PRIORS)
@pytest.mark.parametrize("temperature", [0.05, 0.5])
def test_nothing_forgotten_the_tree_is_equation_14(prior, temperature):
    posterior = BetaPosterior(300, prior=prior)
    tree = driven(posterior, temperature)
    slot, _, prob = tree.draw(np.random.default_rng(0), 100_000)
    assert np.allclose(prob, dense(posterior, temperature)[slot], rtol=1e-12, atol=0.0)
    counts = np.bincount(tree._tree.draw(Lattice(), 1_000_000), minlength=300)
    assert total_variation(counts, dense(posterior, temperature)) < 1e-3
    assert total_variation(counts, dense(posterior, 1.1 * temperature)) > 1e-3  # negative control


@pytest.mark.parametrize("prior", PRIORS)
@pytest.mark.parametrize(("forgetting", "window"), [(0.02, 10), (0.004, 40), (0.3, 2)])
def test_forgetting_the_law_of_accepted_draws_is_equation_14(prior, forgetting, window):
    posterior = BetaPosterior(60, prior=prior, forgetting=forgetting)
    tree = driven(posterior, 0.05, window=window, told=8)
    law = dense(posterior, 0.05)
    slot, weight, total = tree._accepted(Lattice(), 1_000_000)
    counts = np.bincount(slot, minlength=60)
    assert total_variation(counts, law) < 1e-3
    assert np.allclose(weight[:500] / total, law[slot[:500]], rtol=1e-3)  # a million quotients
    # negative control: the tree without the rejection is another law
    bounds = np.bincount(tree._tree.draw(Lattice(), 1_000_000), minlength=60)
    assert total_variation(bounds, law) > 1e-3


@pytest.mark.parametrize("temperature", [0.05, 0.005, 0.001])
def test_where_an_update_forgets_much_no_draw_is_refused(temperature):
    """At temperature 0.001 bounds over the next update would accept one draw in 10^26."""
    posterior = BetaPosterior(60, prior=(1.0, 1.0), forgetting=0.5)
    tree = driven(posterior, temperature, told=8)
    assert tree._window == 1
    slot, draw, prob = tree.draw(np.random.default_rng(0), 1_000)
    # exact: no rejection, and no estimate of the normaliser
    np.testing.assert_allclose(prob, dense(posterior, temperature)[slot], rtol=1e-9)
    assert draw.sum() == 1_000


@pytest.mark.parametrize("prior", PRIORS)
@pytest.mark.parametrize("window", [1, 3, 17])
def test_bounds_are_never_below_and_acceptance_is_what_the_module_says(prior, window):
    forgetting, temperature = 0.01, 0.05
    posterior = BetaPosterior(100, prior=prior, forgetting=forgetting)
    fade = -window * np.log1p(-forgetting)  # L
    lowest = np.exp(-fade / (8 * temperature))
    for steps in (1, 5, 40):
        tree = driven(posterior, temperature, steps=steps, seed=steps, window=window, told=10)
        everyone = np.arange(100)
        quotient = tree._weight(cures.potential(posterior.mean())) / tree._tree.weight(everyone)
        assert quotient.max() <= 1.0 + 1e-12
        assert quotient.min() >= lowest


def test_the_slope_that_the_acceptance_rests_on():
    # d sqrt(m (1-m)) / d ln x of m = (a + s x) / (a + b + n x), by central differences over many laws
    generator = np.random.default_rng(0)
    a, b, s, f = 10.0 ** generator.uniform(-3, 3, (4, 100_000))

    def height(log_x):
        x = np.exp(log_x)
        mean = (a + s * x) / (a + b + (s + f) * x)
        return np.sqrt(mean * (1.0 - mean))

    slope = np.abs(height(1e-4) - height(-1e-4)) / 2e-4
    assert 0.124 < slope.max() < 0.125 + 1e-6  # the proved supremum, and a second difference


def test_bound_of_potential_covers_the_way():
    generator = np.random.default_rng(1)
    start, end = generator.random((2, 1000))
    on_the_way = start + (end - start) * np.linspace(0.0, 1.0, 101)[:, None]
    highest = cures.potential(on_the_way).max(axis=0)  # brute force
    bound = bound_of_potential(start, end)
    assert (bound >= highest).all()
    assert (bound - highest).max() < 1e-4  # within what 101 points miss of the top at 1/2


@pytest.mark.parametrize("size", [1, 64, 2000])
def test_chances_under_forgetting_are_within_the_error_that_is_promised(size):
    posterior = BetaPosterior(400, prior=(0.3, 1.7), forgetting=0.01)
    tree = driven(posterior, 0.05, window=15, told=40)
    law = dense(posterior, 0.05)
    error = []
    for seed in range(200):
        slot, _, prob = tree.draw(np.random.default_rng(seed), size)
        error.append(prob[0] / law[slot[0]] - 1.0)  # the same for all prompts of a plan
    bound = 0.26 / np.sqrt(FEWEST_PROPOSALS)  # the module's, of one standard error
    assert np.std(error) < bound
    assert abs(np.mean(error)) < 4 * np.std(error) / np.sqrt(200)  # no bias: 4 standard errors


@pytest.mark.parametrize("forgetting", [0.0, 0.03])
@pytest.mark.parametrize("subset", [False, True])
def test_a_restored_tree_is_the_same_bit_for_bit(forgetting, subset):
    posterior = BetaPosterior(200, prior=(0.5, 0.5), forgetting=forgetting)
    prompt_S = np.arange(3, 200, 2) if subset else None
    tree = driven(posterior, 0.05, window=9, prompt_S=prompt_S)
    again = SoftmaxTree(
        posterior, 0.05, prompt_S, window=9, built=tree.built, reference=tree.reference
    )
    assert [x.tobytes() for x in again._tree._level] == [x.tobytes() for x in tree._tree._level]


def test_members_that_are_out_are_never_drawn():
    posterior = BetaPosterior(50, forgetting=0.02)
    is_out_S = np.arange(50) % 3 == 0
    tree = SoftmaxTree(posterior, 0.05, None, is_out_S=is_out_S, window=5)
    for _ in range(12):
        tree.told(np.arange(6))
        posterior.advance()
        tree.advanced()
    slot, draw, prob = tree.draw(np.random.default_rng(0), 5000)
    assert slot.tolist() == np.flatnonzero(~is_out_S).tolist()
    assert draw.sum() == 5000
    assert prob.sum() == pytest.approx(1.0, rel=1e-12)  # all at the prior: the estimate is exact


@pytest.mark.parametrize("temperature", [1e-300, 1e-6, 1e-4, 1e300])
def test_any_temperature(temperature):
    posterior = BetaPosterior(40, prior=(1.0, 3.0))
    tree = SoftmaxTree(posterior, temperature, None)
    generator = np.random.default_rng(0)
    for turn in range(20):  # the largest potential rises and falls by thousands of temperatures
        slot = generator.choice(40, 40 if turn % 5 else 2, replace=False)
        posterior.update(slot, np.full(slot.size, turn % 4), np.full(slot.size, 4))
        tree.told(slot)
        drawn, _, prob = tree.draw(generator, 50)
        law = dense(posterior, temperature)
        assert np.allclose(prob, law[drawn], rtol=1e-9)


def test_window_follows_forgetting_temperature_and_pool():
    def window(size, forgetting, temperature=0.05):
        return SoftmaxTree(BetaPosterior(size, forgetting=forgetting), temperature, None)._window

    assert window(10**6, 0.001) == 199  # floor(4 * 0.05 / -ln(0.999)) = floor(199.9)
    assert window(10**6, 0.0001) == 976  # slices of at least 1024 prompts: 10^6 // 1024
    assert window(10**6, 0.5) == 1
    assert window(10**6, 0.0) == 1
    assert window(100, 0.001) == 1


def test_a_group_of_which_nothing_came_back_is_no_news():
    """A restored tree is a function of when prompts were told of: so must the one in use be."""

    def scheduler():
        made = {"num_prompts": 6000, "batch_size": 64, "budget": 256, "num_subsets": 1, "pilots": 2}
        made |= {"steps_per_subset": 100, "draws": "tree", "forgetting": 1e-3}
        return cures.make_scheduler("cures", **made)

    one, generator = scheduler(), np.random.default_rng(0)
    for step in range(60):  # 47 plans of pilots come first
        plan = one.propose()
        trial = plan.quota_B.copy()
        if step % 2:
            trial[::2] = 0
        success = generator.binomial(trial, 0.3)
        one.observe(cures.Outcome(plan.plan_id, plan.group_B, success, trial))
    other = scheduler()
    other.load_state_dict(one.state_dict())
    everyone = np.arange(6000)
    assert one.posterior.step > 10
    assert one._tree._tree.weight(everyone).tolist() == other._tree._tree.weight(everyone).tolist()
