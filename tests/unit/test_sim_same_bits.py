"""The quick ways of the simulator give the bits of the plain ones, from which they were taken."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import expit

import cures
from sim.drift import shifted
from sim.host import ANSWER_STREAM, VERDICT_STREAM, SimHost
from sim.item_response import ItemResponse
from sim.populations import Population, make_population


class PlainItemResponse(ItemResponse):
    """One fancy look-up per expression, as the formulas are written."""

    __slots__ = ()

    def success_rate(self, theta_D, prompt_B):
        return expit(self.loading_N_D[prompt_B] @ theta_D - self.threshold_N[prompt_B])

    def success_gradient(self, theta_D, prompt_B, weight_B):
        p = self.success_rate(theta_D, prompt_B)
        return (weight_B * p * (1.0 - p)) @ self.loading_N_D[prompt_B]

    def generate(self, theta_D, prompt_R, generator):
        return (generator.random(prompt_R.size) < self.success_rate(theta_D, prompt_R)).astype(int)

    def score_sum(self, theta_D, prompt_R, answer_R, weight_R):
        residual = answer_R - self.success_rate(theta_D, prompt_R)
        return (weight_R * residual) @ self.loading_N_D[prompt_R]

    def local_score(self, theta_D, prompt_R, answer_R):
        length = np.linalg.norm(self.loading_N_D[prompt_R], axis=1)
        return ((answer_R - self.success_rate(theta_D, prompt_R)) * length)[:, None]


class PlainHost(SimHost):
    """Looks up every waiting rollout, also before it is dropped, and the verdict of every one."""

    @property
    def num_waiting(self):
        return super().num_waiting + 1  # never "nothing stays"

    def rollout(self, plan):
        outcome = super().rollout(plan)
        index = np.repeat(np.arange(len(plan)), plan.quota_B)
        prompt = plan.prompt_B[index]
        policy = self.population.policy
        answer = policy.generate(self.theta_D, prompt, self._generator(plan, ANSWER_STREAM))
        fixed = self.population.fixed_rate_N[prompt]
        chance = self._generator(plan, VERDICT_STREAM).random(prompt.size)
        right = np.where(~np.isnan(fixed), chance < fixed, policy.is_right(prompt, answer))
        expected_B = np.bincount(index[right], minlength=len(plan))
        assert np.array_equal(outcome.success_B, expected_B)
        return outcome

    def _rows_of(self, group_G):
        order = np.argsort(group_G)
        slot = np.searchsorted(group_G[order], self._waiting["group"])
        slot = order[np.minimum(slot, group_G.size - 1)]
        row = np.flatnonzero(group_G[slot] == self._waiting["group"])
        row = row[np.argsort(slot[row], kind="stable")]
        return row, slot[row]


def prompts(generator, kind, size):
    """Ids as hosts hand them in: repeats in a row, scattered, consecutive, one, none, from behind."""
    scattered = generator.integers(0, size, 40)
    return {
        "runs": np.repeat(scattered, generator.integers(1, 9, 40)),
        "scattered": scattered,
        "consecutive": np.arange(3, size - 2),
        "everyone": np.arange(size),
        "nearly consecutive": np.array([4, 6, 5, 7]),
        "one": scattered[:1],
        "none": scattered[:0],
        "from behind": np.array([-3, -2, -1, 0, 1]),
    }[kind]


@pytest.mark.parametrize(
    "kind",
    ["runs", "scattered", "consecutive", "everyone", "nearly consecutive", "one", "none",
     "from behind"],
)  # fmt: skip
def test_item_response(kind):
    generator = np.random.default_rng(7)
    for size in (11, 300):
        for width in (1, 3, 32):
            loading, threshold = (
                generator.standard_normal((size, width)),
                generator.normal(size=size),
            )
            quick, plain = ItemResponse(loading, threshold), PlainItemResponse(loading, threshold)
            prompt = prompts(generator, kind, size)
            theta = generator.standard_normal(width)
            weight = generator.standard_normal(prompt.size)
            answer = generator.integers(0, 2, prompt.size)
            draws = [np.random.default_rng(1), np.random.default_rng(1)]
            for _ in "before", "after":  # what generate looked up serves the scores after it
                for name, arguments in (
                    ("success_rate", (prompt,)),
                    ("success_gradient", (prompt, weight)),
                    ("score_sum", (prompt, answer, weight)),
                    ("local_score", (prompt, answer)),
                ):
                    got = getattr(quick, name)(theta, *arguments)
                    assert np.array_equal(got, getattr(plain, name)(theta, *arguments)), name
                got = quick.generate(theta, prompt, draws[0])
                assert np.array_equal(got, plain.generate(theta, prompt, draws[1]))


def looked_up_twice(monkeypatch, change, *, most_kept=None):
    """Whether scores after ``generate`` and a change look up anew; their values are checked."""
    if most_kept is not None:
        monkeypatch.setattr("sim.item_response.MOST_KEPT", most_kept)
    generator = np.random.default_rng(3)
    policy = ItemResponse(generator.standard_normal((50, 4)), generator.normal(size=50))
    theta, prompt = generator.standard_normal(4), np.repeat(np.arange(0, 49, 3), 2)
    answer = policy.generate(theta, prompt, generator)
    calls = []
    look_up = ItemResponse._look_up
    monkeypatch.setattr(ItemResponse, "_look_up", lambda *a: calls.append(1) or look_up(*a))
    policy, theta, prompt = change(policy, theta, prompt)
    plain = PlainItemResponse(policy.loading_N_D, policy.threshold_N)
    weight = generator.standard_normal(prompt.size)
    got = policy.score_sum(theta, prompt, answer, weight)
    assert np.array_equal(got, plain.score_sum(theta, prompt, answer, weight))
    return bool(calls)


def moved(array):
    array += 1  # in place: whoever kept a reference and no copy is deceived
    return array


def test_scores_of_what_was_just_generated_are_not_looked_up_again(monkeypatch):
    assert not looked_up_twice(monkeypatch, lambda policy, theta, prompt: (policy, theta, prompt))


@pytest.mark.parametrize(
    "change",
    [
        lambda policy, theta, prompt: (policy, moved(theta), prompt),
        lambda policy, theta, prompt: (policy, theta, prompt[::-1]),
        lambda policy, theta, prompt: (policy, theta, moved(prompt)),
        lambda policy, theta, prompt: (shifted(policy, np.ones(50)), theta, prompt),
    ],
)
def test_scores_of_anything_else_are(monkeypatch, change):
    assert looked_up_twice(monkeypatch, change)


def test_a_large_plan_is_not_kept(monkeypatch):
    assert looked_up_twice(monkeypatch, lambda *same: same, most_kept=4)


def test_another_order_of_sums_would_be_noticed():
    # negative control: the same gradient, each prompt's rollouts added up first
    generator = np.random.default_rng(0)
    plain = PlainItemResponse(generator.standard_normal((50, 32)), generator.normal(size=50))
    theta, prompt = generator.standard_normal(32), np.repeat(np.arange(50), 8)
    answer, weight = generator.integers(0, 2, 400), generator.standard_normal(400)
    residual = weight * (answer - plain.success_rate(theta, prompt))
    other = residual.reshape(50, 8).sum(axis=1) @ plain.loading_N_D
    expected = plain.score_sum(theta, prompt, answer, weight)
    assert np.allclose(other, expected)
    assert not np.array_equal(other, expected)


def plainly(population):
    """The same prompts under the plain policy."""
    policy = population.policy
    return Population(
        population.name,
        PlainItemResponse(policy.loading_N_D, policy.threshold_N),
        population.theta_D,
        population.num_pool,
        population.held_out_H,
        population.fixed_rate_N,
    )


@pytest.mark.parametrize("name", ["uniform", "cures", "gvm", "speed", "dapo", "oracle"])
@pytest.mark.parametrize("law", ["uniform", "coins"])
def test_a_small_run(name, law):
    population = make_population(law, "item_response", num_pool=300, num_held_out=32, seed=1)
    runs = []
    for kind, prompts_ in ((SimHost, population), (PlainHost, plainly(population))):
        host = kind(prompts_, seed=2, learning_rate=0.05)
        options = {"cures": {"num_subsets": 2, "use_moments": True},
                   "gvm": {"num_subsets": 2, "pilots": 2, "use_moments": True},
                   "oracle": {"true_success_rate": host.true_success_rate}}  # fmt: skip
        scheduler = cures.make_scheduler(
            name, num_prompts=300, batch_size=12, budget=96, seed=3, **options.get(name, {})
        )
        trace = [
            [*host.theta_D, host.held_out_success(), *record.metrics.values()]
            for record in cures.loop.run(scheduler, host, rollouts=4000)
        ]
        runs.append((np.array(trace), host.state_dict()))
    (quick, quick_state), (plain, plain_state) = runs
    assert len(quick) > 10
    assert np.array_equal(quick, plain)
    for key, value in plain_state.items():
        assert np.array_equal(quick_state[key], value), key
