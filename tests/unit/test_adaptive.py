"""Scheduler `adaptive`, and the explained share."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

import cures
from cures.beta_moments import expected_mixed
from cures.explained_share import between_and_total, learnable_share
from cures.records import Moments
from tests.scripted import ScriptedHost


def scheduler_of(num_prompts=40, **settings):
    size = {"batch_size": 8, "budget": 64, "seed": 0}
    return cures.make_scheduler("adaptive", num_prompts=num_prompts, **(size | settings))


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
    # nothing moves, so evidence is let last
    assert scheduler.posterior.memory.updates > 2.0 / scheduler.forgetting

    def come_back(**settings):
        """Share of the dead ones that are visited in the second 400 updates."""
        scheduler, host = scheduler_of(400, **settings), ScriptedHost(rate_N)
        run(scheduler, host, 400)
        return (run(scheduler, host, 400)[:300] > 0).mean()

    # as their evidence fades; sooner if it may not last longer; control: where nothing fades
    chosen, fixed = come_back(), come_back(choose_memory=False)
    assert come_back(choose_memory=False, memory_passes=1e6) < 0.5 < chosen < 0.9 < fixed


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
    # nobody waits longer than a pass, 200 / 8 updates, for the first visit; then as often as rest allows
    assert count_N[:12].min() >= (400 - 200 / 8) / 4 - 2


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


def test_sums_of_moments_that_cannot_be_are_refused():
    made = {"use_moments": True}
    state = scheduler_of(**made).state_dict()
    for sums in ([1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 1.0, 0.5], [0.0, -1.0, 2.0]):
        fresh = scheduler_of(**made)
        with pytest.raises(ValueError, match="moment_sums must be"):
            fresh.load_state_dict({**state, "rule/moment_sums": np.array(sums)})
        fresh.propose()


def test_a_pool_that_grows_past_what_is_followed_comes_back_from_its_checkpoint():
    rate_N = np.random.default_rng(0).random(5_000)
    scheduler, fresh = (scheduler_of(4_000, batch_size=500, budget=4_000) for _ in range(2))
    host = ScriptedHost(rate_N)
    for turn in range(12):
        if turn == 6:
            scheduler.extend(1_000)
        scheduler.observe(host.rollout(scheduler.propose()))
    fresh.load_state_dict(scheduler.state_dict())
    assert fresh.posterior.memory.updates == scheduler.posterior.memory.updates
    np.testing.assert_array_equal(fresh.propose().prompt_B, scheduler.propose().prompt_B)


def test_batches_larger_than_the_pool_are_refused():
    with pytest.raises(ValueError, match="batch_size must be"):
        scheduler_of(4)
    with pytest.raises(ValueError, match="memory_passes must be"):
        scheduler_of(memory_passes=0.0)


def test_forgetting_follows_the_pool():
    assert scheduler_of(400).forgetting == 0.01
    assert scheduler_of(8).forgetting == 0.1
    assert scheduler_of(400, memory_passes=4.0).forgetting == 0.005
