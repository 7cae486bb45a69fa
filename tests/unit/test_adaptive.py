"""Scheduler `adaptive` and its three parts: the queue, the pool's prior, the explained share."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from scipy import stats

import cures
from cures.beta_moments import expected_mixed
from cures.explained_share import between_and_total, learnable_share
from cures.fair_queue import FairQueue
from cures.pool_posterior import FIRST_GUESS, STRENGTH, PoolPosterior
from cures.potential import prob_mixed
from cures.records import Moments
from tests.scripted import ScriptedHost


def scheduler_of(num_prompts=40, **settings):
    size = {"batch_size": 8, "budget": 64, "seed": 0}
    return cures.make_scheduler("adaptive", num_prompts=num_prompts, **(size | settings))


# -- the queue --------------------------------------------------------------------------------------


def visits(share_N, plans, size, *, seed=0, independent=False):
    """Visits of each prompt after every plan, shape (plans, N)."""
    generator = np.random.default_rng(seed)
    queue = FairQueue.shuffled(share_N.size, generator)
    queue.renew(share_N)
    count_N = np.zeros(share_N.size)
    rows = []
    for _ in range(plans):
        if independent:
            chosen = generator.choice(share_N.size, size, replace=False, p=share_N / share_N.sum())
        else:
            chosen = queue.first(size)
            queue.visit(chosen, generator.random(size), size=size)
        count_N[chosen] += 1
        rows.append(count_N.copy())
    return np.array(rows)


def largest_debt(**options):
    """Largest difference between visits and chances so far, over prompts and plans."""
    share_N = np.linspace(0.1, 1.0, 100)
    rows = visits(share_N, 400, 10, **options)
    return np.abs(rows - np.outer(np.arange(1, 401), 10 * share_N / share_N.sum())).max()


def test_visits_follow_the_shares_at_all_times():
    assert largest_debt() < 2.0
    # 400 draws of chance up to 0.18: a binomial's standard deviation is up to 7.7
    assert largest_debt(independent=True) > 10.0


def test_shares_that_change_against_the_queue_cost_a_logarithm():
    """The worst there is: shares go to those that have not been visited, one of whom is each time.

    By hand: of k that are left each earns 1/k, so the last one has earned 1/N + ... + 1/1 when it pays.
    """
    size = 256
    queue = FairQueue(np.ones(size), np.zeros(size), np.ones(size))
    left = np.ones(size, dtype=bool)
    largest = 0.0
    for _ in range(size):
        queue.renew(np.where(left, 1.0, 1e-12))
        chosen = queue.first(1)
        queue.visit(chosen, np.zeros(1), size=1)
        left[chosen] = False
        largest = max(largest, 1.0 - float(queue.debt()[chosen].min()))
    # what the last one has earned less the visit that it paid, with 1 - 1 for the visit of today
    assert largest == pytest.approx((1.0 / np.arange(1, size + 1)).sum(), rel=1e-4)


def test_equal_shares_are_passes_over_the_pool():
    rows = visits(np.full(100, 0.1), 400, 10)
    assert np.ptp(rows, axis=1).max() <= 2
    assert np.ptp(visits(np.full(100, 0.1), 400, 10, independent=True)[-1]) > 10


def test_advances_shuffle_the_order():
    """Companions of one pass are not companions in the next, as they are at equal advances."""

    def common(advance_of):
        queue = FairQueue.shuffled(100, np.random.default_rng(0))
        batches = []
        for turn in range(20):
            chosen = queue.first(10)
            queue.visit(chosen, advance_of(turn, chosen), size=10)
            batches.append(set(chosen.tolist()))
        return np.mean([len(batches[i] & batches[i + 10]) for i in range(10)])

    at_first = FairQueue.shuffled(100, np.random.default_rng(0)).advance_N
    assert common(lambda turn, chosen: at_first[chosen]) > 8.0
    # ten of a hundred have 1 in common by chance, and near ones stay near
    assert common(lambda turn, chosen: np.random.default_rng(turn).random(10)) < 4.0


def test_the_queue_by_hand():
    queue = FairQueue(np.array([1.0, 0.5, 0.75]), np.array([0.0, 0.5, 0.25]), np.ones(3))
    assert queue.first(2).tolist() == [1, 2]
    queue.visit(np.array([1, 2]), np.array([0.25, 0.75]), size=2)
    # a visit costs 1 and the old advance, and the new one comes off: 0.5 + 1.25, 0.75 + 0.5
    assert queue.due_N.tolist() == [1.0, 1.75, 1.25]
    assert queue.clock == pytest.approx(2 / 3)
    # everybody earned 2/3: debts are the visits less that
    np.testing.assert_allclose(queue.debt() - [0.0, 0.0, 0.0], [-2 / 3, 1 / 3, 1 / 3], atol=1e-6)
    # at half the share the rest of the way takes twice as long; what was earned stays
    before = queue.debt()
    queue.renew(np.array([1.0, 0.5, 0.25]))
    np.testing.assert_allclose(queue.due_N, [1.0, 2 / 3 + 2 * 13 / 12, 2 / 3 + 4 * 7 / 12])
    np.testing.assert_allclose(queue.debt(), before, atol=1e-6)
    assert queue.total == 1.75
    assert queue.chance(np.array([0, 1]), 1).tolist() == [1 / 1.75, 0.5 / 1.75]
    again = queue.due_N.copy()
    queue.renew(np.array([0.25]), np.array([2]))
    assert queue.due_N.tolist() == again.tolist()
    assert queue.total == 1.75


def test_a_horizon_changes_nothing(monkeypatch):
    """Of large pools only the prompts that are due soon are looked at: the same plans, bit for bit."""

    def plans(small):
        monkeypatch.setattr("cures.fair_queue.SMALL", small)
        generator = np.random.default_rng(7)
        queue = FairQueue.shuffled(1000, generator)
        found, looked_at = [], []
        for _ in range(300):
            prompt = generator.choice(1000, 50, replace=False)
            queue.renew(generator.random(50) + 1e-3, prompt)
            chosen = queue.first(4)
            looked_at.append(queue._near.size)
            queue.visit(chosen, generator.random(4), size=4)
            found.append(chosen.tolist())
        return found, np.mean(looked_at)

    whole, all_ = plans(1000)
    near, few = plans(999)
    assert near == whole
    assert all_ == 1000
    assert few < 400  # 32 plans of 4, and who comes before the horizon as shares grow


def test_equal_times_go_by_number():
    queue = FairQueue(np.ones(40), np.zeros(40), np.ones(40))
    assert queue.first(5).tolist() == [0, 1, 2, 3, 4]


def test_who_leaves_never_comes_again_and_who_joins_waits_as_all_did():
    queue = FairQueue.shuffled(6, np.random.default_rng(0))
    queue.visit(queue.first(3), np.random.default_rng(1).random(3), size=3)
    left = queue.without(np.array([0, 4]))
    assert left.total == pytest.approx(4.0)
    assert queue.total == 6.0  # another queue
    generator = np.random.default_rng(2)
    seen = []
    for _ in range(100):
        left.renew(np.array([1.0, 0.5, 1.0, 0.5, 0.0, 1.0]) * [0, 1, 1, 1, 1, 1])
        chosen = left.first(2)
        left.visit(chosen, generator.random(2), size=2)
        seen += chosen.tolist()
    assert sorted(set(seen)) == [1, 2, 3, 5]
    grown = queue.extended(2, np.random.default_rng(3))
    # as if the queue began now: due within one visit at a share of 1
    assert ((grown.due_N[6:] > queue.clock) & (grown.due_N[6:] <= queue.clock + 1.0)).all()
    assert grown.total == 8.0
    assert sorted(grown.first(8).tolist()) == list(range(8))


def test_states_of_the_queue():
    queue = FairQueue.shuffled(5, np.random.default_rng(0))
    queue.visit(queue.first(2), np.array([0.5, 0.25]), size=2)
    again = FairQueue.from_state(queue.state_dict(), 5)
    for key, value in queue.state_dict().items():
        np.testing.assert_array_equal(getattr(again, key), value)
    for key, value in (
        ("due_N", np.full(5, np.nan)),
        ("advance_N", np.full(5, 1.5)),
        ("share_N", np.full(5, -1.0)),
        ("share_N", np.ones(4)),
        ("clock", -1.0),
    ):
        with pytest.raises(ValueError, match=key):
            FairQueue.from_state({**queue.state_dict(), key: value}, 5)
    with pytest.raises(ValueError, match="state must be a dict with keys"):
        FairQueue.from_state({}, 5)


# -- the prior --------------------------------------------------------------------------------------


def told(rate_N, chance_N, *, steps=400, n=8, seed=0):
    """The prior after ``steps`` updates, each prompt visited with its chance at each of them."""
    generator = np.random.default_rng(seed)
    posterior = PoolPosterior(rate_N.size, visits_per_step=chance_N.sum())
    for _ in range(steps):
        prompt = np.flatnonzero(generator.random(rate_N.size) < chance_N)
        posterior.update(prompt, generator.binomial(n, rate_N[prompt]), np.full(prompt.size, n))
        posterior.advance()
    return posterior.prior()


def test_prior_is_the_law_of_the_pool():
    # quantiles of Beta(0.6, 1.4), scipy
    rate_N = stats.beta.ppf((np.arange(2000) + 0.5) / 2000, 0.6, 1.4)
    law = (pytest.approx(0.6, rel=0.1), pytest.approx(1.4, rel=0.1))
    assert told(rate_N, np.full(2000, 0.05)) == law
    # where mixed groups are preferred, the times put it right ...
    chance_N = 0.1 * prob_mixed(rate_N, 8) + 0.01
    assert told(rate_N, chance_N) == law
    # ... and without them the pool looks like what is preferred: the moments of the visited prompts
    mean = np.average(rate_N, weights=chance_N)
    strength = mean * (1 - mean) / np.average((rate_N - mean) ** 2, weights=chance_N) - 1
    assert (mean * strength, (1 - mean) * strength) != law


def test_reporting_in_parts_changes_nothing():
    whole = PoolPosterior(10, visits_per_step=4)
    parts = PoolPosterior(10, visits_per_step=4)
    for prompts, success in (([0, 1, 2, 3], [0, 4, 1, 3]), ([0, 5, 6, 1], [0, 2, 4, 4])):
        whole.update(prompts, success, [4] * 4)
        for prompt, right in zip(prompts, success, strict=True):
            parts.update([prompt], [right], [4])
        whole.advance()
        parts.advance()
    assert parts.prior() == pytest.approx(whole.prior())


def test_prior_by_hand():
    posterior = PoolPosterior(10, visits_per_step=5)
    assert posterior.prior() == (0.5, 0.5)  # Beta(1/2, 1/2)
    posterior.update([0, 1], [0, 3], [4, 4])
    # one update each, times 5/10: weight 4 + 1; first 2 + (0 + 3/4)/2; second 1.5 + (0 + 3*2/(4*3))/2
    mean, second = 2.375 / 5, 1.75 / 5
    strength = mean * (1 - mean) / (second - mean**2) - 1
    assert posterior.prior() == pytest.approx((mean * strength, (1 - mean) * strength))
    # three updates later prompt 0 has 3 to answer for, and prompt 2, which was never seen, 4
    posterior.advance(3)
    posterior.update([0, 2], [4, 0], [4, 4])
    mean, second = (2.375 + 1.5) / (5 + 1.5 + 2), (1.75 + 1.5) / (5 + 1.5 + 2)
    strength = mean * (1 - mean) / (second - mean**2) - 1
    assert posterior.prior() == pytest.approx((mean * strength, (1 - mean) * strength))


def test_prior_fades_like_evidence_and_stays_a_law():
    posterior = PoolPosterior(4, visits_per_step=4, forgetting=0.5)
    posterior.update([0, 1, 2], [8, 8, 8], [8, 8, 8])
    before = posterior.mean()
    posterior.advance(40)
    assert posterior.prior() == pytest.approx((0.5, 0.5))
    # by hand: weight 4 + 3, first moment 2 + 3; nobody looked at prompt 3, whose mean is the prior's
    assert before[3] == pytest.approx(5 / 7)
    assert posterior.mean() == pytest.approx(np.full(4, 0.5))
    for success in (0, 4, 8):  # all groups alike: no spread of rates, or the largest one
        other = PoolPosterior(2000, visits_per_step=2000)
        other.update(np.arange(2000), np.full(2000, success), np.full(2000, 8))
        alpha, beta = other.prior()
        assert alpha > 0.0
        assert beta > 0.0
        assert STRENGTH[0] <= alpha + beta <= STRENGTH[1]


def test_single_rollouts_and_missing_ones_tell_no_spread():
    posterior = PoolPosterior(4, visits_per_step=2)
    posterior.update([0, 1], [1, 0], [1, 0])
    assert posterior.prior() == (0.5, 0.5)
    assert posterior.evidence()[0].tolist() == [1.0, 0.0, 0.0, 0.0]


def test_damaged_states_of_the_posterior_change_nothing():
    posterior = PoolPosterior(4, visits_per_step=2)
    posterior.update([0, 1], [1, 0], [2, 2])
    state = posterior.state_dict()
    damages = [{"pool": np.array([-1.0, 0.0, 0.0])}, {"pool": np.zeros(2)}]
    damages += [{"next_N": np.full(4, 9)}, {"next_N": np.zeros(3, dtype=np.int64)}]
    for damage in damages:
        with pytest.raises(ValueError, match=next(iter(damage))):
            posterior.load_state_dict({**state, **damage, "success_N": np.ones(4)})
    with pytest.raises(ValueError, match="state must be a dict with keys"):
        posterior.load_state_dict({k: v for k, v in state.items() if k != "pool"})
    assert np.array_equal(posterior.state_dict()["success_N"], state["success_N"])
    assert posterior.prior() != PoolPosterior(4, visits_per_step=2).prior()
    assert FIRST_GUESS.tolist() == [4.0, 2.0, 1.5]


# -- the explained share ----------------------------------------------------------------------------


def moments_of(score_R_D, reward_R):
    """Moments of one group by their definitions, over pairs of different rollouts."""
    right, wrong = score_R_D[reward_R == 1], score_R_D[reward_R == 0]
    columns = [np.nan] * 5
    if len(right):
        columns[0], columns[3] = (right**2).sum(1).mean(), np.sqrt((right**2).sum(1)).mean()
    if len(wrong):
        columns[1], columns[4] = (wrong**2).sum(1).mean(), np.sqrt((wrong**2).sum(1)).mean()
    if len(right) >= 2 and len(wrong) >= 2:
        squares = [
            sum(a @ b for i, a in enumerate(x) for j, b in enumerate(x) if i != j)
            / (len(x) * (len(x) - 1))
            for x in (right, wrong)
        ]
        columns[2] = squares[0] + squares[1] - 2 * right.mean(0) @ wrong.mean(0)
    return Moments(*(np.array([value]) for value in columns))


def expected_between(prob_A, right_A, n=4):
    """Means of both estimates over all groups of n answers, enumerated.

    Answers a are drawn from a softmax with free logits, whose score is e_a - prob; ``right_A`` is the
    chance that an answer is judged right (0, 1, or a coin's).
    """
    size = prob_A.size
    score_A_A = np.eye(size) - prob_A
    between = total = 0.0
    for answers in product(range(size), repeat=n):
        for rewards in product((0, 1), repeat=n):
            reward = np.array(rewards)
            chance = np.prod(prob_A[list(answers)])
            chance *= np.prod(
                np.where(reward == 1, right_A[list(answers)], 1 - right_A[list(answers)])
            )
            if chance == 0.0:
                continue
            b, t = between_and_total(
                np.array([reward.sum()]),
                np.array([n]),
                moments_of(score_A_A[list(answers)], reward),
            )
            between += chance * b[0]
            total += chance * t[0]
    return between, total


def test_a_coin_explains_nothing_and_an_answer_does():
    prob_A = np.array([0.5, 0.3, 0.2])
    between, total = expected_between(prob_A, np.full(3, 0.5))
    assert between == pytest.approx(0.0, abs=1e-12)
    assert total > 0.1
    # one right answer and one wrong: groups of 2 and 2 measure D = (e_0 - e_1) and its |D|^2 = 2
    # exactly, with 2*2/(4*3) in front; six of sixteen such groups at p = 1/2
    between, total = expected_between(np.array([0.5, 0.5]), np.array([1.0, 0.0]))
    assert between == pytest.approx(6 / 16 * 2 / 3)
    assert total == pytest.approx(6 / 16 * 0.5)  # |s|^2 is 1/2 for either answer
    # both are of one group only where it has two of a kind: a share above 1 comes from 4/3 of n = 4
    assert between / total == pytest.approx(4 / 3)


def share_of(between, total, groups, *, cut, floor=0.05):
    """The share of every prompt of a pool of these."""
    pool = (float(np.sum(between)), float(np.sum(total)), int(np.sum(groups)))
    return learnable_share(np.array(between), np.array(total), pool, cut=cut, floor=floor)


def test_groups_that_say_nothing():
    nothing = Moments(*(np.full(3, np.nan) for _ in range(5)))
    found = between_and_total(np.array([0, 1, 4]), np.array([4, 4, 4]), nothing)
    assert [values.tolist() for values in found] == [[0.0] * 3, [0.0] * 3]
    assert share_of([0.0] * 3, [0.0] * 3, [0] * 3, cut=0.3).tolist() == [1.0] * 3


def test_share_by_hand():
    # pool 4/16, a group has 16/4 = 4 on average, start 0.4: (4 + 0.1) / 8.4 and (0 + 0.1) / 8.4, over
    # 0.5 * 4/16; and unmeasured
    found = share_of([4.0, 0.0, 0.0], [8.0, 8.0, 0.0], [1, 3, 0], cut=0.5)
    np.testing.assert_allclose(found, [1.0, 0.1 / 8.4 / 0.125, 1.0])
    found = share_of([9.0, -3.0], [8.0, 8.0], [1, 1], cut=0.5)
    assert found.tolist() == [1.0, 0.05]  # a negative estimate is no share
    found = share_of([5.0, -6.0], [8.0, 8.0], [1, 1], cut=0.5)
    assert found.tolist() == [1.0, 1.0]  # nothing is explained in all: nothing to choose by


@pytest.mark.parametrize("groups", [1, 10, 100])
def test_coins_fall_to_the_floor_as_evidence_grows(groups):
    between = np.where(np.arange(100) < 20, 0.0, 0.4 * groups)
    share = share_of(between, np.full(100, 1.0 * groups), np.full(100, groups), cut=0.3)
    # by hand: 0.1 * 0.32 of the pool over groups + 0.1, over 0.3 * 0.32
    expected = max(0.05, 0.1 / (groups + 0.1) / 0.3)
    np.testing.assert_allclose(share, [expected] * 20 + [1.0] * 80)


# -- the scheduler ----------------------------------------------------------------------------------


def run(scheduler, host, plans):
    """Rollouts by prompt."""
    count_N = np.zeros(scheduler.num_prompts)
    for _ in range(plans):
        plan = scheduler.propose()
        count_N[plan.prompt_B] += plan.quota_B
        host.update(scheduler.observe(host.rollout(plan)))
    return count_N


def test_worth_is_a_threshold_of_the_chance_of_a_mixed_group_and_what_is_left_of_it():
    scheduler, host = scheduler_of(), ScriptedHost(np.linspace(0.0, 1.0, 40))
    run(scheduler, host, 20)
    alpha, beta = scheduler.posterior.alpha_beta()
    mixed = expected_mixed(alpha, beta, 8)
    # half at 0.3, falling with the cube, by hand
    share = 1.0 / (1.0 + (0.3 / mixed) ** 3)
    np.testing.assert_allclose(scheduler.worth(), share * scheduler.learnable(), rtol=1e-12)
    assert (scheduler.learnable() < 1.0).any()  # the script's rates never move
    assert scheduler.sampling_distribution().sum() == pytest.approx(1.0)
    blind = scheduler_of(response=False)
    run(blind, ScriptedHost(np.linspace(0.0, 1.0, 40)), 20)
    assert blind.learnable().tolist() == [1.0] * 40


def test_dead_prompts_are_visited_less_and_never_forgotten():
    rate_N = np.concatenate([np.zeros(300), np.full(50, 0.5), np.ones(50)])
    scheduler, host = scheduler_of(400), ScriptedHost(rate_N)
    share = run(scheduler, host, 400)[300:350].sum() / (400 * 64)
    uniform = cures.make_scheduler("uniform", num_prompts=400, batch_size=8, budget=64)
    other = run(uniform, ScriptedHost(rate_N), 400)[300:350].sum() / (400 * 64)
    assert other == pytest.approx(1 / 8)
    assert share > 0.35
    late = run(scheduler, host, 400)
    assert (late[:300] > 0).mean() > 0.5  # they come back as their evidence fades
    fixed, host = scheduler_of(400, choose_memory=False), ScriptedHost(rate_N)
    run(fixed, host, 400)
    late = run(fixed, host, 400)
    assert (late[:300] > 0).mean() > 0.9  # and sooner if it may not last longer where nothing moves
    assert scheduler.posterior.memory.updates > 2.0 / scheduler.forgetting


def test_a_prompt_that_comes_alive_is_found():
    rate_N = np.concatenate([np.zeros(39), [0.0]])
    scheduler = scheduler_of(40, batch_size=4, budget=32, response=False)  # which stays at one half
    run(scheduler, ScriptedHost(rate_N), 100)
    before = scheduler.sampling_distribution()[39]
    rate_N[39] = 0.5
    run(scheduler, ScriptedHost(rate_N, seed=1), 100)
    assert scheduler.sampling_distribution()[39] > 2.0 * before


def with_moments(scheduler, rate_N, is_coin_N, plans, seed=0):
    """Rollouts by prompt where scores are those of two answers, one of them right; or of coins."""
    generator = np.random.default_rng(seed)
    count_N = np.zeros(rate_N.size)
    for _ in range(plans):
        plan = scheduler.propose()
        assert plan.wants_moments == scheduler.use_moments
        success, rows = [], []
        for prompt, quota in zip(plan.prompt_B, plan.quota_B, strict=True):
            answer = (generator.random(quota) < rate_N[prompt]).astype(int)
            reward = generator.integers(0, 2, quota) if is_coin_N[prompt] else answer
            prob = np.array([1 - rate_N[prompt], rate_N[prompt]])
            rows.append(moments_of(np.eye(2)[answer] - prob, reward))
            success.append(int(reward.sum()))
            count_N[prompt] += quota
        names = list(Moments.__dataclass_fields__)
        moments = Moments(*(np.concatenate([getattr(r, f) for r in rows]) for f in names))
        scheduler.observe(cures.Outcome.of(plan, success, moments_B=moments))
    return count_N


def test_coins_are_let_go_with_moments_and_kept_without():
    rate_N, is_coin_N = np.full(80, 0.5), np.arange(80) < 40
    blind = with_moments(scheduler_of(80), rate_N, is_coin_N, 100)
    seeing = with_moments(scheduler_of(80, use_moments=True), rate_N, is_coin_N, 100)
    assert blind[:40].sum() / blind.sum() == pytest.approx(0.5, abs=0.02)
    # scores of two answers lie on a line, where eight rollouts say little about their spread
    assert seeing[:40].sum() / seeing.sum() < 0.3
    assert (seeing[:40] > 0).all()


def test_a_cut_plan_costs_the_queue_no_more_than_it_earns():
    """Plans that are always cut in half starve nobody."""
    rate_N = np.where(np.arange(40) < 20, 0.5, 0.0)
    scheduler, host = scheduler_of(), ScriptedHost(rate_N)
    count_N = np.zeros(40)
    for _ in range(400):
        plan = scheduler.propose(limit=32)
        assert len(plan) == 4
        count_N[plan.prompt_B] += 1
        host.update(scheduler.observe(host.rollout(plan)))
    assert (count_N[20:] > 5).all()
    assert np.abs(scheduler._queue.debt()).max() < 4.0


@pytest.mark.parametrize("rest", [1, 4])
def test_large_pools_are_renewed_in_turn_and_visited_alike(rest, monkeypatch):
    """Shares a few updates old: nearly the visits of shares that are renewed at every step.

    Control: where hardly any but the visited ones are renewed, faded prompts come back late.
    """
    rate_N = np.where(np.arange(240) % 4 == 0, 0.5, 0.0)

    def visits_of(renewed, plans=600):
        monkeypatch.setattr("cures.schedulers.adaptive.RENEWED", renewed)
        scheduler = scheduler_of(240, rest=rest, response=False, choose_memory=False)
        count_N = run(scheduler, ScriptedHost(rate_N), plans) / 8
        assert scheduler._is_large == (renewed < 240)
        return count_N, scheduler

    dense, _ = visits_of(240)
    lazy, large = visits_of(24)
    alive = rate_N > 0.0
    assert lazy[alive].sum() == pytest.approx(dense[alive].sum(), rel=0.02)
    assert np.corrcoef(lazy, dense)[0, 1] > 0.95
    assert lazy[~alive].min() > 0.0
    never, _ = visits_of(1)
    assert never[~alive].mean() < 0.8 * dense[~alive].mean()
    # where all are renewed in time, shares are those of the formula
    large._renew(np.arange(240))
    share_N = large._queue.share_N / large._queue.total
    if large._queue.total >= 8 * rest:
        np.testing.assert_allclose(share_N, large.sampling_distribution(), rtol=1e-5)


def test_rest_binds_in_large_pools_too(monkeypatch):
    monkeypatch.setattr("cures.schedulers.adaptive.RENEWED", 30)
    rate_N = np.where(np.arange(200) < 12, 0.5, 0.0)  # 12 prompts teach, 32 visits lie between two
    scheduler = scheduler_of(200, rest=4, response=False)
    count_N = run(scheduler, ScriptedHost(rate_N), 400) / 8
    assert scheduler._is_large
    # a quarter of the updates, and two that the queue may be off (cures/fair_queue.py)
    assert count_N.max() <= 400 / 4 + 2
    assert count_N[:12].min() > 60.0


def test_damaged_checkpoints_are_refused():
    scheduler = scheduler_of(use_moments=True)
    state = scheduler.state_dict()
    for key, value in (
        ("queue/due_N", np.full(40, np.nan)),
        ("queue/advance_N", np.full(40, 1.5)),
        ("total_N", np.full(40, -1.0)),
        ("between_N", np.full(40, np.inf)),
    ):
        with pytest.raises(ValueError, match=key.rpartition("/")[2]):
            scheduler.load_state_dict({**state, f"rule/{key}": value})


def test_batches_larger_than_the_pool_are_refused():
    with pytest.raises(ValueError, match="batch_size must be"):
        scheduler_of(4)
    with pytest.raises(ValueError, match="memory_passes must be"):
        scheduler_of(memory_passes=0.0)


def test_forgetting_follows_the_pool():
    assert scheduler_of(400).forgetting == 0.01
    assert scheduler_of(8).forgetting == 0.1
    assert scheduler_of(400, memory_passes=4.0).forgetting == 0.005
