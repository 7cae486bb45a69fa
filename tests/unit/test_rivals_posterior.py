"""`mopps`, `lilo` and `knapsack`: each published rule by hand, by enumeration or in closed form."""

from __future__ import annotations

from fractions import Fraction
from itertools import combinations, product

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.stats import beta as beta_law

import cures
from cures.records import Outcome
from cures.schedulers.knapsack import estimated_cost, knapsack_marginal_value
from cures.schedulers.lilo import learnability
from cures.schedulers.mopps import VisitDiscountedPosterior, nearest, within
from tests.scripted import ScriptedHost, same_state, small_scheduler


def step(scheduler, host):
    plan = scheduler.propose()
    selection = scheduler.observe(host.rollout(plan))
    (host.update if selection.is_update else host.discard)(selection)
    return plan, selection


def chance_within(count: int, trials: int, chance: float) -> bool:
    """Whether a frequency lies within 4 standard errors of a chance."""
    return abs(count / trials - chance) <= 4 * np.sqrt(chance * (1 - chance) / trials)


# -- mopps ---------------------------------------------------------------------------------------------


def squared_distance(draw_C, chosen, target):
    return sum((draw_C[i] - target) ** 2 for i in chosen)


def test_mopps_takes_the_batch_of_smallest_squared_distance():
    generator = np.random.default_rng(0)
    farther = 0
    for target in (0.5, 0.2, 1.0):
        draw_C = generator.random(9)
        chosen = nearest(draw_C, 3, target).tolist()
        # enumeration of all 84 batches of 3
        best = min(combinations(range(9), 3), key=lambda c: squared_distance(draw_C, c, target))
        assert sorted(chosen) == sorted(best)
        distance = [abs(draw_C[i] - target) for i in chosen]
        assert distance == sorted(distance)
        # negative control: the three largest draws are another batch unless the target is 1
        farther += sorted(np.argsort(-draw_C)[:3].tolist()) != sorted(best)
    assert farther == 2


def test_mopps_threshold_is_a_uniform_batch_inside_the_band():
    draw_C = np.array([0.05, 0.31, 0.5, 0.69, 0.9, 0.3])  # four in [0.3, 0.7], ends included
    counts = np.zeros(6)
    for seed in range(4000):
        counts[within(draw_C, 2, 0.5, 0.3, 0.7, np.random.default_rng(seed))] += 1
    assert counts[[0, 4]].sum() == 0
    # 2 of 4, each with chance 1/2
    assert all(chance_within(counts[i], 4000, 0.5) for i in (1, 2, 3, 5))
    # negative control: the nearest two always hold 0.5 and never 0.3
    assert nearest(draw_C, 2, 0.5).tolist() in ([2, 1], [2, 3])
    # fewer than a batch inside: the nearest ones, from anywhere
    assert within(draw_C, 5, 0.5, 0.3, 0.7, np.random.default_rng(0)).tolist()[-1] == 4


def test_mopps_counts_by_hand():
    posterior = VisitDiscountedPosterior(3, prior=(2.0, 3.0), discount=0.25)
    posterior.update([0, 1], [4, 1], [8, 8])
    posterior.update([0], [8], [8])
    alpha, beta = posterior.alpha_beta()
    # lambda = 3/4, a0 = 2, b0 = 3: first visit a = 2 + 4 = 6, b = 3 + 4 = 7 (the discount of a prior is
    # the prior); second a = 3/4 6 + 1/4 2 + 8 = 13, b = 3/4 7 + 1/4 3 + 0 = 6
    assert (alpha[0], beta[0]) == (13.0, 6.0)
    assert (alpha[1], beta[1]) == (3.0, 10.0)  # not visited again: nothing is forgotten
    assert (alpha[2], beta[2]) == (2.0, 3.0)
    # negative control: forgetting at every update forgets the unvisited prompt, too
    other = cures.BetaPosterior(3, prior=(2.0, 3.0), forgetting=0.25)
    other.update([0, 1], [4, 1], [8, 8])
    other.advance()
    other.update([0], [8], [8])
    assert other.alpha_beta([0]) == (pytest.approx(13.0), pytest.approx(6.0))
    assert other.alpha_beta([1])[0] == pytest.approx(2.0 + 0.75)


def test_mopps_counts_of_repeats_and_of_bad_input():
    posterior = VisitDiscountedPosterior(2, prior=(1.0, 1.0), discount=0.5)
    posterior.update([1], [2], [8])
    before = posterior.state_dict()
    with pytest.raises(ValueError, match="success_B must be <= trial_B"):
        posterior.update([1], [9], [8])
    assert same_state(before, posterior.state_dict())
    posterior.update([1, 1], [1, 2], [4, 4])  # one visit: 2/2 + 1 + 2 right, 6/2 + 3 + 2 wrong
    assert [float(x[0]) for x in posterior.evidence([1])] == [4.0, 8.0]


@pytest.mark.slow
def test_mopps_draws_by_thompson():
    # chance that Beta(8, 2) lies nearer to the target than Beta(2, 2), by quadrature
    first, second = beta_law(8, 2), beta_law(2, 2)

    def chance(target):
        def farther(g):
            gap = abs(g - target)
            return 1.0 - (second.cdf(target + gap) - second.cdf(target - gap))

        kinks = sorted({target, *(2 * target - end for end in (0, 1) if 0 < 2 * target - end < 1)})
        return quad(lambda g: first.pdf(g) * farther(g), 0, 1, points=kinks)[0]

    def frequency(target, seeds=3000):
        count = 0
        for seed in range(seeds):
            scheduler = cures.make_scheduler(
                "mopps", num_prompts=2, batch_size=1, budget=8, seed=seed,
                target_success_rate=target, prior=([8.0, 2.0], [2.0, 2.0]),
            )  # fmt: skip
            count += int(scheduler.propose().prompt_B[0] == 0)
        return count

    for target in (0.5, 0.8):
        count = frequency(target)
        assert chance_within(count, 3000, chance(target))
        # negative control: the mean of the posterior instead of a draw gives 0 or 1, another target
        # another chance
        assert not chance_within(count, 3000, chance(1.3 - target))


def test_mopps_learns_of_trained_prompts_only_and_a_lost_group_is_no_visit():
    scheduler = small_scheduler("mopps", num_prompts=8, forgetting=0.5)
    host = ScriptedHost(np.full(8, 0.5))
    for _ in range(30):
        step(scheduler, host)
    assert min(x.min() for x in scheduler.posterior.evidence()) > 0.0  # everyone was visited
    before = scheduler.posterior.alpha_beta()
    plan = scheduler.propose()
    scheduler.observe(Outcome.of(plan, [0, 0, 1, 2], [0, 0, 8, 4]))
    after = scheduler.posterior.alpha_beta()
    changed = np.flatnonzero((before[0] != after[0]) | (before[1] != after[1]))
    assert sorted(changed) == sorted(plan.prompt_B[2:])
    for i, success, trial in ((2, 1, 8), (3, 2, 4)):  # the published update with lambda = 1/2
        prompt = plan.prompt_B[i]
        assert after[0][prompt] == pytest.approx(0.5 * before[0][prompt] + 0.5 + success)
        assert after[1][prompt] == pytest.approx(0.5 * before[1][prompt] + 0.5 + trial - success)


def test_mopps_finds_the_prompts_of_rate_one_half():
    rate_N = np.repeat([0.0, 0.5, 1.0], [24, 12, 24])

    def share(name, **settings):
        scheduler = small_scheduler(name, num_prompts=60, **settings)
        host = ScriptedHost(rate_N)
        plans = [step(scheduler, host)[0] for _ in range(160)][100:]
        return np.mean([rate_N[plan.prompt_B] == 0.5 for plan in plans])

    # After a visit or two a dead prompt's law is Beta(1, 9) or Beta(1, 17): a draw in (0.4, 0.6) has
    # chance < 0.6^9, 1 %, against about 2 (0.1) pdf(0.5) > 0.4 for each of the twelve live ones.
    assert share("mopps") > 0.9
    assert share("mopps", variant="threshold") > 0.9
    # negative control: uniform draws them as often as they are
    assert abs(share("uniform") - 0.2) < 0.06


def test_mopps_quotas_are_equal_and_the_remainder_goes_to_the_nearest():
    scheduler = small_scheduler("mopps", budget=34)
    assert scheduler.propose().quota_B.tolist() == [9, 9, 8, 8]


def test_mopps_candidates_are_a_pass_over_the_pool():
    scheduler = cures.make_scheduler(
        "mopps", num_prompts=40, batch_size=2, budget=16, candidates_per_prompt=5
    )
    rolled_out = [scheduler.propose().prompt_B.tolist() for _ in range(4)]
    # 10 of 40 prompts are candidates each time, so no prompt can come twice within a pass
    assert len({prompt for plan in rolled_out for prompt in plan}) == 8
    # negative control: where the whole pool is the candidates, prompts come again
    whole = cures.make_scheduler("mopps", num_prompts=40, batch_size=2, budget=16, seed=1)
    again = [p for _ in range(40) for p in whole.propose().prompt_B.tolist()]
    assert len(set(again)) < 80


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        (
            {"candidates_per_prompt": 0},
            r"candidates_per_prompt must be an int in \[1, inf\), got 0",
        ),
        ({"target_success_rate": 1.5}, r"target_success_rate must be a float in \[0.0, 1.0\]"),
        ({"variant": "closest"}, r"variant must be one of"),
        ({"threshold_high": 0.2}, r"threshold_high must be a float in \[0.3, 1.0\], got 0.2"),
        ({"forgetting": 1.0}, r"forgetting must be a float in \[0.0, 1.0\), got 1.0"),
    ],
)
def test_mopps_refuses(settings, sentence):
    with pytest.raises(ValueError, match=sentence):
        small_scheduler("mopps", **settings)


# -- lilo ----------------------------------------------------------------------------------------------


def test_learnability_by_hand():
    success, trial = np.array([0, 1, 4, 8, 0, 3]), np.array([8, 8, 8, 8, 0, 4])
    by_hand = [Fraction(s, max(t, 1)) * (1 - Fraction(s, max(t, 1)))
               for s, t in zip(success.tolist(), trial.tolist(), strict=True)]  # fmt: skip
    assert learnability(success, trial).tolist() == [float(x) for x in by_hand]


def report(scheduler, plan, rates):
    """Outcomes of given shares, exactly."""
    success_B = (plan.quota_B * rates[plan.prompt_B]).round().astype(int)
    return scheduler.observe(Outcome.of(plan, success_B))


def test_lilo_trains_on_the_most_learnable_candidates():
    rates = np.random.default_rng(3).permutation(np.repeat(np.arange(9) / 8, 6))[:48]
    scheduler = small_scheduler("lilo")
    for _ in range(6):
        pilots = scheduler.propose()
        assert pilots.is_pilot_B.all()
        assert pilots.quota_B.tolist() == [8] * 16  # 4 x 4 candidates
        assert not report(scheduler, pilots, rates).is_update
        plan = scheduler.propose()
        worth = rates[pilots.prompt_B] * (1 - rates[pilots.prompt_B])
        value = dict(zip(pilots.prompt_B.tolist(), worth.tolist(), strict=True))
        # enumeration of all 1820 batches of 4 out of 16
        best = max(sum(c) for c in combinations(value.values(), 4))
        chosen = [value[p] for p in plan.prompt_B.tolist()]
        assert sum(chosen) == pytest.approx(best, rel=1e-12)
        assert chosen == sorted(chosen, reverse=True)
        # negative control: the first four candidates are worth less
        assert sum(worth[:4]) < best
        assert plan.quota_B.tolist() == [8] * 4
        assert not plan.is_pilot_B.any()
        assert report(scheduler, plan, rates).group_G.tolist() == plan.group_B.tolist()


def test_lilo_costs_the_pilots_of_its_candidates():
    scheduler = small_scheduler("lilo", pilots=6, candidates_per_prompt=3)
    host = ScriptedHost(np.linspace(0, 1, 48))
    for _ in range(20):
        step(scheduler, host)
    ledger = scheduler.ledger
    assert ledger.steps == 10
    assert ledger.pilots == 10 * 12 * 6  # C x N' each
    assert ledger.generated == 10 * (12 * 6 + 32)
    assert (ledger.trained, ledger.discarded) == (10 * 32, 10 * 12 * 6)


def test_lilo_chance_of_the_learnable_one():
    # Two candidates, p = 1/2 and p = 0, two pilots, batch of one: the first is chosen if its pilots are
    # mixed (1/2) or, both worth 0, if it comes first in the pass (1/2): 1/2 + 1/2 x 1/2 = 3/4.
    count = 0
    for seed in range(2000):
        scheduler = cures.make_scheduler(
            "lilo", num_prompts=2, batch_size=1, budget=4, seed=seed, pilots=2,
            candidates_per_prompt=2,
        )  # fmt: skip
        host = ScriptedHost([0.5, 0.0], seed=seed)
        step(scheduler, host)
        count += int(scheduler.propose().prompt_B[0] == 0)
    assert chance_within(count, 2000, 0.75)
    # negative controls: no screening at all; ties always to the lower id
    assert not chance_within(count, 2000, 0.5)
    assert count < 2000


def test_lilo_can_train_on_the_pilots_themselves():
    rates = np.tile([0.0, 0.5, 1.0, 0.25], 12)
    scheduler = small_scheduler("lilo", train_pilots=True)
    plan = scheduler.propose()
    selection = report(scheduler, plan, rates)
    worth = rates[plan.prompt_B] * (1 - rates[plan.prompt_B])
    trained = np.isin(plan.group_B, selection.group_G)
    assert trained.sum() == 4
    assert worth[trained].min() >= worth[~trained].max()
    assert sorted([*selection.group_G, *selection.discard_G]) == plan.group_B.tolist()
    assert scheduler.ledger.generated == scheduler.ledger.pilots == 16 * 8
    assert scheduler.ledger.trained == 32
    with pytest.raises(ValueError, match=r"pilots must be budget / batch_size = 8 .* got 4"):
        small_scheduler("lilo", train_pilots=True, pilots=4)


def test_lilo_without_anything_learnable_draws_uniformly_and_says_so():
    scheduler = small_scheduler("lilo")
    pilots = scheduler.propose()
    report(scheduler, pilots, np.zeros(48))
    assert scheduler.counters["fallback_uniform"] == 1
    assert scheduler.propose().prompt_B.tolist() == pilots.prompt_B[:4].tolist()
    # negative control: one learnable candidate, the last of the round, is enough to come first
    scheduler = small_scheduler("lilo")
    pilots = scheduler.propose()
    rates = np.zeros(48)
    rates[pilots.prompt_B[-1]] = 0.5
    report(scheduler, pilots, rates)
    assert "fallback_uniform" not in scheduler.counters
    assert scheduler.propose().prompt_B.tolist() == pilots.prompt_B[[-1, 0, 1, 2]].tolist()


def test_lilo_asks_for_what_a_round_still_lacks():
    rates = np.linspace(0, 1, 48)
    scheduler = small_scheduler("lilo")
    first = scheduler.propose(limit=50)  # six groups of 8, and 2 of a seventh
    assert first.quota_B.tolist() == [8] * 6 + [2]
    second = scheduler.propose()
    assert len(second) == 16 - 7
    assert not set(first.prompt_B) & set(second.prompt_B)
    assert not report(scheduler, second, rates).is_update
    report(scheduler, first, rates)
    assert not scheduler.propose().is_pilot_B.any()


def test_lilo_measures_everyone_once_in_a_pass_however_rounds_are_cut():
    for limits in ([None], [50, 30, None], "streamed"):
        scheduler, host = small_scheduler("lilo"), ScriptedHost(np.linspace(0, 1, 48))
        measured = []
        for turn in range(150):
            if limits == "streamed":
                plan = scheduler.next()
            else:
                plan = scheduler.propose(limit=limits[turn % len(limits)])
            measured += plan.prompt_B[plan.is_pilot_B].tolist()
            selection = scheduler.observe(host.rollout(plan))
            (host.update if selection.is_update else host.discard)(selection)
        assert len(measured) >= 96
        for start in (0, 48):  # three rounds of 16 are a pass over the 48
            assert sorted(measured[start : start + 48]) == list(range(48))


def test_lilo_prompt_chosen_in_two_rounds_is_one_group_drawn_twice():
    # a pool of two, both candidates of both rounds: order of the rounds is chosen by the seed
    found = set()
    for seed in range(20):
        scheduler = cures.make_scheduler(
            "lilo", num_prompts=2, batch_size=2, budget=8, seed=seed, pilots=2,
            candidates_per_prompt=1,
        )  # fmt: skip
        rounds = [scheduler.propose(), scheduler.propose()]
        for plan in rounds:
            report(scheduler, plan, np.array([0.5, 0.5]))
        queue = [int(p) for plan in rounds for p in plan.prompt_B]
        assert scheduler.next().prompt_B.tolist() == queue[:1]
        plan = scheduler.propose()
        if queue[1] == queue[2]:
            assert (plan.prompt_B.tolist(), plan.draw_B.tolist()) == ([queue[1]], [2])
            assert plan.quota_B.tolist() == [8]
        else:
            assert (plan.prompt_B.tolist(), plan.draw_B.tolist()) == (queue[1:3], [1, 1])
        found.add(len(plan))
        assert scheduler.propose().prompt_B.tolist() == queue[3:]
    assert found == {1, 2}


# -- knapsack ------------------------------------------------------------------------------------------


def value(p, n):
    return cures.prob_mixed(p, n) * p * (1 - p) ** 2


def test_marginal_value_is_the_difference_of_values():
    p, n = np.meshgrid(np.linspace(0, 1, 21), np.arange(1, 40))
    marginal = knapsack_marginal_value(p.ravel(), n.ravel()).reshape(p.shape)
    np.testing.assert_allclose(marginal, value(p, n + 1) - value(p, n), rtol=0, atol=1e-15)
    assert (np.diff(marginal, axis=0) <= 0).all()  # decreasing: handing out one by one is optimal
    # p (1 - p)^2 has the derivative (1 - p) (1 - 3 p): largest at 1/3 once groups are surely mixed
    grid = np.linspace(0.01, 0.99, 99)
    assert grid[np.argmax(value(grid, 5000))] == pytest.approx(0.33)
    # negative control: without the factor p (1 - p)^2 it is no difference of values
    bare = p**n * (1 - p) + (1 - p) ** n * p
    assert np.abs(bare - (value(p, n + 1) - value(p, n))).max() > 0.1


def visited(success, trial, **settings):
    """A scheduler whose whole pool is one batch, after a first pass with these outcomes."""
    size = len(success)
    budget = settings.pop("budget", 8 * size)
    scheduler = cures.make_scheduler(
        "knapsack", num_prompts=size, batch_size=size, budget=budget, **settings
    )
    plan = scheduler.propose()
    assert plan.quota_B.max() - plan.quota_B.min() <= 1  # nothing is known: equal shares
    success, trial = np.array(success), np.array(trial)
    scheduler.observe(Outcome.of(plan, success[plan.prompt_B], trial[plan.prompt_B]))
    return scheduler


def quotas_by_prompt(plan):
    return plan.quota_B[np.argsort(plan.prompt_B)]


def test_knapsack_is_the_optimum_of_all_allocations():
    splits = np.array([s for s in product(range(2, 27), repeat=4) if sum(s) == 32])
    below = {"equal": 0, "by sqrt(p (1 - p))": 0}
    for seed in range(12):
        success = np.random.default_rng(seed).integers(0, 9, size=4)
        success[:2] = np.random.default_rng(seed).integers(1, 8, size=2)
        quota = quotas_by_prompt(visited(success, [8] * 4, fallback_confidence=None).propose())
        rate = success / 8
        best = value(rate, splits).sum(axis=1).max()  # enumeration of all quotas that sum to 32
        assert quota.sum() == 32
        assert value(rate, quota).sum() == pytest.approx(best, rel=1e-12)
        others = np.full(4, 8), cures.allocate(cures.potential(rate), 32)
        for name, other in zip(below, others, strict=True):
            below[name] += value(rate, other).sum() < best * (1 - 1e-9)
    # negative control: other quotas are worth less, but where they happen to agree
    assert min(below.values()) >= 9, below


def test_estimated_cost_by_hand():
    p = np.array([1, 2, 4, 6, 7]) / 8
    cost = estimated_cost(p, 0.9)
    # ln .1 / ln (7/8) = 17.24, ln .1 / ln (6/8) = 8.00 (8.004), ln .1 / ln (1/2) = 3.32
    assert cost.tolist() == [17, 8, 3, 8, 17]
    # so many are all of the common kind with chance >= 1 - c, one more with less
    common = np.maximum(p, 1 - p)
    assert (common**cost >= 0.1).all()
    assert (common ** (cost + 1) < 0.1).all()
    assert estimated_cost(p, 0.0).tolist() == [0] * 5


def test_what_mixed_prompts_do_not_want_goes_to_those_never_solved():
    success, trial = [0, 8, 4, 4], [8] * 4
    # minimum 2 each, 3 more for each p = 1/2, the other 18 to p = 0: 20
    assert quotas_by_prompt(
        visited(success, trial, fallback_confidence=0.9).propose()
    ).tolist() == [20, 2, 5, 5]
    # p = 0 is full at 12: the other 8 to p = 1
    capped = visited(success, trial, max_quota=12, fallback_confidence=0.9)
    assert quotas_by_prompt(capped.propose()).tolist() == [12, 10, 5, 5]
    # both full: back to the mixed ones
    capped = visited(success, trial, max_quota=9, fallback_confidence=0.9)
    assert quotas_by_prompt(capped.propose()).tolist() == [9, 9, 7, 7]
    # p = 7/8 wants 17 more, but is full at 9: what it cannot take goes on to p = 0, then p = 1
    capped = visited([0, 8, 7, 7], trial, max_quota=9, fallback_confidence=0.9)
    assert quotas_by_prompt(capped.propose()).tolist() == [9, 5, 9, 9]
    # negative control: without the fallback the mixed ones take everything
    greedy = visited(success, trial, fallback_confidence=None)
    assert quotas_by_prompt(greedy.propose()).tolist() == [2, 2, 14, 14]


@pytest.mark.parametrize(
    ("success", "expected"),
    [
        ([0, 0, 0, 0], [8, 8, 8, 8]),  # nothing mixed: equal parts
        ([8, 8, 8, 8], [8, 8, 8, 8]),
        ([0, 0, 8, 8], [14, 14, 2, 2]),  # p = 0 first
        ([4, 4, 4, 4], [8, 8, 8, 8]),  # only mixed ones: nobody else can take what is left
    ],
)
def test_knapsack_of_one_kind(success, expected):
    assert quotas_by_prompt(visited(success, [8] * 4).propose()).tolist() == expected


def test_knapsack_uses_the_last_visit_alone():
    scheduler = visited([0, 8, 4, 4], [8] * 4, fallback_confidence=0.9)
    second = scheduler.propose()
    # now prompt 0 is always right and prompt 1 never: the quotas change places
    rate = np.array([1.0, 0.0, 0.5, 0.5])
    success_B = np.floor(second.quota_B * rate[second.prompt_B]).astype(int)
    trial_B = np.where(rate[second.prompt_B] == 0.5, 2 * success_B, second.quota_B)
    scheduler.observe(Outcome.of(second, success_B, trial_B))
    third = scheduler.propose()
    assert quotas_by_prompt(third).tolist() == [2, 20, 5, 5]
    # a visit of which nothing came back leaves the rates as they were
    scheduler.observe(Outcome.of(third, [0] * 4, [0] * 4))
    assert quotas_by_prompt(scheduler.propose()).tolist() == [2, 20, 5, 5]
    # negative control: pooled over both visits prompts 0 and 1 would be mixed (20/28 and 8/10 right)


def test_unseen_prompts_get_the_equal_share():
    scheduler = cures.make_scheduler("knapsack", num_prompts=4, batch_size=4, budget=34)
    plan = scheduler.propose()
    trial = np.where(np.isin(plan.prompt_B, [0, 1]), plan.quota_B, 0)
    scheduler.observe(Outcome.of(plan, np.where(plan.prompt_B == 0, 0, trial), trial))
    again = scheduler.propose()
    # shares 9, 9, 8, 8 in plan order; prompts 2 and 3 keep theirs, p = 0 takes from p = 1
    position = np.argsort(again.prompt_B)
    equal = np.array([9, 9, 8, 8])[position]
    quota = quotas_by_prompt(again)
    assert quota[2:].tolist() == equal[2:].tolist()
    assert quota[:2].tolist() == [equal[0] + equal[1] - 2, 2]


@pytest.mark.slow
def test_knapsack_streams_its_quotas_in_the_long_run():
    rates = np.repeat([0.0, 0.5, 1.0], 16)
    scheduler, host = small_scheduler("knapsack", fallback_confidence=0.9), ScriptedHost(rates)
    quotas = {rate: [] for rate in (0.0, 0.5, 1.0)}
    for turn in range(3000):
        plan = scheduler.next()
        selection = scheduler.observe(host.rollout(plan))
        (host.update if selection.is_update else host.discard)(selection)
        if turn >= 500:
            quotas[rates[plan.prompt_B[0]]].append(int(plan.quota_B[0]))
    mean = {rate: np.mean(got) for rate, got in quotas.items()}
    # what p = 1 and p = 1/2 do not want goes to p = 0, as in a batch
    assert mean[1.0] < mean[0.5] < mean[0.0]
    assert np.mean([n for got in quotas.values() for n in got]) == pytest.approx(
        8.0, abs=0.1
    )  # rule of streaming


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"fallback_confidence": 1.0}, r"fallback_confidence must be a float in \[0.0, 1.0\)"),
        ({"max_quota": 7}, r"max_quota must be an int in \[8, \d+\], got 7"),
        ({"batch_size": 49, "budget": 490}, r"batch_size must be an int in \[1, 48\], got 49"),
    ],
)
def test_knapsack_refuses(settings, sentence):
    with pytest.raises(ValueError, match=sentence):
        small_scheduler("knapsack", **settings)


def test_knapsack_refuses_a_damaged_state():
    scheduler = small_scheduler("knapsack")
    step(scheduler, ScriptedHost(np.full(48, 0.5)))
    state = scheduler.state_dict()
    damaged = dict(state)
    damaged["rule/success_N"] = state["rule/trial_N"] + 1
    with pytest.raises(ValueError, match="success_N must be at most trial_N"):
        scheduler.load_state_dict(damaged)
    assert same_state(state, scheduler.state_dict())
