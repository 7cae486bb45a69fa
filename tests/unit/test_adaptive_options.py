"""Options of `adaptive`: the data set's objective, categories, advice on the step, parts left out."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

import cures
from cures.beta_moments import expected_potential
from cures.pool_posterior import CATEGORY_START, FIRST_GUESS, PoolPosterior
from tests.scripted import ScriptedHost


def scheduler_of(num_prompts=40, **settings):
    size = {"batch_size": 8, "budget": 64, "seed": 0}
    return cures.make_scheduler("adaptive", num_prompts=num_prompts, **(size | settings))


def trained(scheduler, rate_N, plans, *, limit=None):
    """The last plan and its selection."""
    host = ScriptedHost(rate_N)
    for _ in range(plans):
        plan = scheduler.propose(limit=limit)
        selection = scheduler.observe(host.rollout(plan))
    return plan, selection


# -- the data set's objective -----------------------------------------------------------------------

ANSWERS, GROUP = 3, 3


def expected_group_gradient(prob_A, right_A, estimator):
    """Mean of sum_r A_r s_r / n over all groups of n answers; scores of free logits, enumerated."""
    score_A_A = np.eye(ANSWERS) - prob_A
    total = np.zeros(ANSWERS)
    for answers in product(range(ANSWERS), repeat=GROUP):
        rows = list(answers)
        advantage = cures.advantages(right_A[rows], np.zeros(GROUP, int), estimator=estimator)
        total += np.prod(prob_A[rows]) * (advantage @ score_A_A[rows]) / GROUP
    return total


@pytest.mark.parametrize(
    ("estimator", "factor"), [("rloo", 1.0), ("dr_grpo", GROUP / (GROUP - 1)), ("grpo", None)]
)
def test_importance_weights_keep_the_objective_of_the_data_set(estimator, factor):
    """Chance of a prompt times its weight times its groups' mean gradient, summed over the pool.

    It is the gradient of the mean success rate, which is (1/N) sum_i sum_a prob_a right_a score_a, for
    ``rloo`` and for ``dr_grpo`` times n/(n-1); for ``grpo`` what uniform sampling ascends. Every prompt
    has logits of its own, so all N gradients are compared.
    """
    generator = np.random.default_rng(3)
    size = 12
    prob = generator.dirichlet(np.ones(ANSWERS), size)
    right = np.array([[1, 0, 0], [0, 0, 0], [1, 1, 1], [0, 1, 1]] * 3)
    rate_N = (prob * right).sum(axis=1)
    settings = {"batch_size": 5, "budget": 5 * GROUP, "estimator": estimator}
    scheduler = scheduler_of(size, importance_weights=True, rest=1, **settings)
    trained(scheduler, rate_N, 30)
    host, weight_N, chance_N = ScriptedHost(rate_N), np.full(size, np.nan), np.full(size, np.nan)
    for _ in range(200):  # of a plan only its own prompts' weights are seen
        plan = scheduler.propose()
        selection = scheduler.observe(host.rollout(plan))
        weight_N[plan.prompt_B], chance_N[plan.prompt_B] = selection.weight_G, plan.prob_B
    assert chance_N.min() < 0.5 * chance_N.max()
    groups = np.array([expected_group_gradient(prob[i], right[i], estimator) for i in range(size)])
    if factor is None:
        expected = groups / size
    else:
        score = np.eye(ANSWERS) - prob[:, None, :]  # (N, answer, logit)
        expected = np.einsum("na,na,nal->nl", prob, right, score) / size / factor
    np.testing.assert_allclose((chance_N * weight_N)[:, None] * groups, expected, atol=1e-12)
    # without the weights, what is preferred counts more
    plain = chance_N[:, None] / 5 * groups
    assert np.abs(plain - expected).max() > 0.1 * np.abs(expected).max()


def test_chances_of_weighted_groups_are_those_of_the_draws():
    scheduler = scheduler_of(30, importance_weights=True, rest=1)
    trained(scheduler, np.linspace(0.0, 1.0, 30), 20)
    count_N, chance_N, draws = np.zeros(30), np.full(30, np.nan), 3000
    for seed in range(draws):
        prompt_B, chance_N[prompt_B] = scheduler._take(np.random.default_rng(seed), 8)
        count_N[prompt_B] += 1
    assert chance_N.min() < 0.5 * chance_N.max()
    error = np.sqrt(chance_N * (1 - chance_N) / draws)
    assert (np.abs(count_N / draws - chance_N) < 4.5 * error).all()
    # the queue's chances hold in the long run only: the next batch is certain
    queued = scheduler_of(30, rest=1)
    trained(queued, np.linspace(0.0, 1.0, 30), 20)
    batches = {tuple(queued._take(np.random.default_rng(seed), 8)[0]) for seed in range(5)}
    assert len(batches) == 1


def test_a_cut_plan_weighs_as_much_in_the_mean():
    """Half the groups: by hand, half the chance and twice the weight."""
    rate_N = np.full(40, 0.5)
    plan, selection = trained(scheduler_of(importance_weights=True), rate_N, 1, limit=32)
    assert len(plan) == 4
    np.testing.assert_allclose(selection.weight_G, 1 / (40 * plan.prob_B / 2))
    assert selection.weight_G.sum() == pytest.approx(1.0)  # chances are alike at first


def test_what_weights_cannot_do_is_refused():
    with pytest.raises(ValueError, match=r"budget must be a multiple of batch_size \(8\)"):
        scheduler_of(budget=65, importance_weights=True)
    scheduler = scheduler_of(importance_weights=True)
    with pytest.raises(ValueError, match="importance_weights must be False for streams"):
        scheduler.next()


# -- the posterior as baseline ----------------------------------------------------------------------


def test_the_baseline_is_what_was_believed_before():
    rate_N = np.linspace(0.0, 1.0, 40)
    scheduler = scheduler_of(baseline="posterior", estimator="dr_grpo")
    trained(scheduler, rate_N, 10)
    before_N = scheduler.posterior.mean()
    plan = scheduler.propose()
    selection = scheduler.observe(cures.Outcome.of(plan, np.full(8, 8)))
    np.testing.assert_array_equal(selection.baseline_G, before_N[plan.prompt_B])
    assert (scheduler.posterior.mean()[plan.prompt_B] > selection.baseline_G).all()
    streamed = scheduler_of(baseline="posterior", estimator="rloo", batch_size=4)
    before = []
    for _ in range(4):
        mean_N = streamed.posterior.mean()
        plan = streamed.next()
        before.append(mean_N[plan.prompt_B[0]])
        selection = streamed.observe(ScriptedHost(rate_N).rollout(plan))
    assert selection.baseline_G.tolist() == before
    with pytest.raises(ValueError, match="baseline must be 'group' under estimator 'grpo'"):
        scheduler_of(baseline="posterior")


@pytest.mark.parametrize("estimator", ["dr_grpo", "rloo"])
def test_any_baseline_from_before_leaves_the_gradient_alone(estimator):
    """Groups of n answers enumerated: the mean is grad p, with no factor 1 - 1/n."""
    prob, right = np.array([0.5, 0.3, 0.2]), np.array([1, 0, 0])
    score = np.eye(ANSWERS) - prob
    total = np.zeros(ANSWERS)
    for answers in product(range(ANSWERS), repeat=GROUP):
        rows = list(answers)
        options = {"estimator": estimator, "baseline_R": np.full(GROUP, 0.37)}
        advantage = cures.advantages(right[rows], np.zeros(GROUP, int), **options)
        total += np.prod(prob[rows]) * (advantage @ score[rows]) / GROUP
    np.testing.assert_allclose(total, (prob * right) @ score, atol=1e-12)


# -- categories -------------------------------------------------------------------------------------


def test_a_group_never_is_its_own_baseline():
    """Plans that overlap: what came back of one of them says nothing about groups planned before."""
    scheduler = scheduler_of(8, estimator="rloo", baseline="posterior", rest=1)
    first, second = scheduler.propose(), scheduler.propose()
    assert set(first.prompt_B) == set(second.prompt_B)  # the pool is a batch
    believed_N = scheduler.posterior.mean()
    half = slice(0, 4)
    right = cures.Outcome(
        second.plan_id, second.group_B[half], np.full(4, 8), np.full(4, 8), is_final=False
    )
    scheduler.observe(right)
    scheduler.propose()  # a third plan of the same prompts, now thought better of
    assert (scheduler.posterior.mean(second.prompt_B[half]) > 0.8).all()
    fresh = scheduler_of(8, estimator="rloo", baseline="posterior", rest=1)
    fresh.load_state_dict(scheduler.state_dict(), reissue=False)
    lost = {"rule/planned_group": second.group_B, "rule/planned_mean": np.zeros(8)}
    lost |= {"rule/planned_weight": np.ones(8)}
    with pytest.raises(ValueError, match="planned_group must be with every live group"):
        fresh.load_state_dict({**scheduler.state_dict(), **lost})
    rest = cures.Outcome(second.plan_id, second.group_B[4:], np.full(4, 8), np.full(4, 8))
    for one in (scheduler, fresh):
        selection = one.observe(rest)
        assert selection.group_G.tolist() == second.group_B.tolist()
        assert selection.baseline_G.tolist() == believed_N[second.prompt_B].tolist()


@pytest.mark.parametrize("change", ["retire", "extend"])
def test_weights_are_those_of_the_pool_that_was_planned_from(change):
    rate_N = np.linspace(0.1, 0.9, 60)
    scheduler, host = scheduler_of(40, importance_weights=True), ScriptedHost(rate_N)
    plan = scheduler.propose()
    expected_B = 1.0 / (40 * plan.prob_B)  # 1 / (N pi)
    if change == "retire":
        scheduler.retire(np.setdiff1d(np.arange(40), plan.prompt_B)[:20])
    else:
        scheduler.extend(20)
    selection = scheduler.observe(host.rollout(plan))
    np.testing.assert_allclose(selection.weight_G, expected_B, rtol=1e-12)


def test_categories_have_priors_of_their_own_by_hand():
    posterior = PoolPosterior(6, visits_per_step=3, category_N=[0, 0, 0, 1, 1, 1])
    posterior.update([0, 3], [4, 0], [4, 4])
    # half an update's weight each (3/6 visits a prompt, first update): moments of the pool
    pool = FIRST_GUESS + np.array([0.5 + 0.5, 0.5, 0.5])
    expected = []
    for own in ([0.5, 0.5, 0.5], [0.5, 0.0, 0.0]):
        weight, first, second = np.array(own) + CATEGORY_START * pool / pool[0]
        mean = first / weight
        strength = mean * (1 - mean) / (second / weight - mean**2) - 1
        expected.append((mean * strength, (1 - mean) * strength))
    alpha_N, beta_N = posterior.prior_of()
    np.testing.assert_allclose(alpha_N, np.repeat([e[0] for e in expected], 3))
    np.testing.assert_allclose(beta_N, np.repeat([e[1] for e in expected], 3))
    mean = posterior.mean()
    assert mean[0] > mean[1] > 0.5 > mean[4] > mean[3]
    again = PoolPosterior(6, visits_per_step=3, category_N=[0, 0, 0, 1, 1, 1])
    again.load_state_dict(posterior.state_dict())
    np.testing.assert_array_equal(again.mean(), mean)


def test_sharing_by_category_predicts_better_and_noise_as_categories_no_worse():
    """Prompts that were never seen, by the Brier score against their true rates."""
    generator = np.random.default_rng(0)
    category_N = np.repeat(np.arange(4), 250)
    rate_N = generator.beta(4 * np.array([0.1, 0.4, 0.6, 0.9])[category_N], 4 * np.array(
        [0.9, 0.6, 0.4, 0.1])[category_N])  # fmt: skip

    def error(given):
        posterior = PoolPosterior(1000, visits_per_step=1000, category_N=given)
        prompt = np.random.default_rng(1).choice(1000, 200, replace=False)
        success = np.random.default_rng(2).binomial(8, rate_N[prompt])
        posterior.update(prompt, success, np.full(200, 8))
        unseen = np.setdiff1d(np.arange(1000), prompt)
        return np.mean((posterior.mean()[unseen] - rate_N[unseen]) ** 2)

    # the variance within and between categories: p(1-p)/5 averaged, and that of the four means
    within = np.mean([m * (1 - m) / 5 for m in (0.1, 0.4, 0.6, 0.9)])
    between = np.var([0.1, 0.4, 0.6, 0.9])
    assert error(category_N) == pytest.approx(within, rel=0.15)
    assert error(None) == pytest.approx(within + between, rel=0.15)
    shuffled = np.random.default_rng(3).permutation(category_N)
    assert error(shuffled) == pytest.approx(error(None), rel=0.05)


def test_the_scheduler_shares_by_category():
    rate_N = np.where(np.arange(80) < 40, 0.0, 0.5)
    scheduler = scheduler_of(80, category_N=np.arange(80) // 40, response=False)
    trained(scheduler, rate_N, 4)  # 32 visits: most were never seen
    share_N = scheduler.sampling_distribution()
    blind = scheduler_of(80, response=False)
    trained(blind, rate_N, 4)
    assert share_N[40:].sum() > blind.sampling_distribution()[40:].sum() + 0.05
    with pytest.raises(ValueError, match="category_N must be"):
        scheduler_of(80, category_N=np.zeros(3, dtype=int))
    other = scheduler_of(80, category_N=np.zeros(80, dtype=int), response=False)
    with pytest.raises(ValueError, match="category"):
        other.load_state_dict(scheduler.state_dict())


# -- advice on the step -----------------------------------------------------------------------------


def test_steps_follow_the_root_of_mixed_groups():
    scheduler = scheduler_of(step_scaling=True)
    found = []
    for mixed in (8, 8, 2, 0):
        plan = scheduler.propose()
        success = np.where(np.arange(8) < mixed, 4, 0)
        found.append(scheduler.observe(cures.Outcome.of(plan, success)).step_scale)
    # means so far 8, 8, 6, 4.5; nothing mixed: the least there is
    assert found == pytest.approx([1.0, 1.0, np.sqrt(2 / 6), 0.5])
    assert scheduler.state_dict()["rule/mean_mixed"] == pytest.approx(4.5)
    plain = scheduler_of()
    assert trained(plain, np.full(40, 0.5), 3)[1].step_scale == 1.0
    never = scheduler_of(step_scaling=True)
    assert trained(never, np.zeros(40), 3)[1].step_scale == 1.0  # nothing was ever mixed


# -- rest between visits ----------------------------------------------------------------------------


def test_nobody_is_visited_more_often_than_rest_allows():
    rate_N = np.where(np.arange(200) < 10, 0.5, 0.0)  # ten that teach

    def most(**options):
        scheduler, host, count_N = scheduler_of(200, **options), ScriptedHost(rate_N), np.zeros(200)
        for step in range(200):
            plan = scheduler.propose()
            count_N[plan.prompt_B] += step >= 100
            scheduler.observe(host.rollout(plan))
        return count_N.max()

    def most_streamed(**options):
        scheduler, host, count_N = scheduler_of(200, **options), ScriptedHost(rate_N), np.zeros(200)
        for group in range(200 * 8):
            plan = scheduler.next()
            count_N[plan.prompt_B] += group >= 100 * 8
            scheduler.observe(host.rollout(plan))
        return count_N.max()

    # 100 updates: a quarter, a tenth, and two that the queue may be off (cures/fair_queue.py)
    assert most_streamed(response=False) <= 100 / 4 + 2
    assert most_streamed(response=False, rest=1) > 100 / 4 + 10
    assert most(response=False) <= 100 / 4 + 2
    assert most(response=False, rest=10) <= 100 / 10 + 2
    assert most(response=False, rest=1) > 100 / 4 + 10


def test_pools_of_few_batches_come_down_to_uniform_sampling():
    """Up to four batches; the next larger pool prefers by at most the ratio N / (4 m)."""
    rate_N = np.where(np.arange(64) < 8, 0.5, 0.0)
    scheduler = scheduler_of(32)
    plan, _ = trained(scheduler, rate_N[:32], 30)
    assert plan.prob_B.tolist() == [0.25] * 8
    assert scheduler_of(32).next().prob_B.tolist() == [1 / 32]
    scheduler = scheduler_of(64, response=False)
    trained(scheduler, rate_N, 30)
    chance_N = scheduler._rested() / 4
    assert chance_N.sum() == pytest.approx(8.0)
    assert chance_N.max() == 0.25  # twice uniform's 8/64
    without = scheduler_of(64, response=False, rest=1)
    without.load_state_dict({**scheduler.state_dict(), "config/rest": 1})
    assert without._rested().max() > 0.25
    with pytest.raises(ValueError, match="rest must be"):
        scheduler_of(rest=0)


# -- parts left out ---------------------------------------------------------------------------------


def test_parts_can_be_left_out():
    rate_N = np.linspace(0.0, 1.0, 40)
    by_bound = scheduler_of(worth="potential", response=False)
    trained(by_bound, rate_N, 10)
    alpha, beta = by_bound.posterior.alpha_beta()
    np.testing.assert_array_equal(by_bound.worth(), expected_potential(alpha, beta))
    for pool_prior, mean in ((False, pytest.approx(0.5)), (True, pytest.approx(0.0, abs=0.2))):
        scheduler = scheduler_of(400, pool_prior=pool_prior)
        trained(scheduler, np.zeros(400), 10)  # 80 of 400 were seen, all of them dead
        unseen = scheduler.posterior.evidence()[1] == 0.0
        assert unseen.sum() == 320
        assert (
            scheduler.posterior.mean()[unseen].max() == mean
        )  # Beta(1, 1), or what the pool shows
    with pytest.raises(ValueError, match="category_N must be None without pool_prior"):
        scheduler_of(pool_prior=False, category_N=np.zeros(40, dtype=int))
    drawn = scheduler_of(queue=False)
    trained(drawn, np.full(40, 0.5), 5)
    assert drawn.state_dict()["rule/queue/due_N"].size == 0
    with pytest.raises(ValueError, match="worth must be one of"):
        scheduler_of(worth="other")


@pytest.mark.parametrize(
    "options",
    [
        {"importance_weights": True},
        {"step_scaling": True, "queue": False},
        {"baseline": "posterior", "estimator": "rloo"},
        {"pool_prior": False, "use_moments": True},
        {"category_N": np.arange(40) % 3, "response": False},
    ],
    ids=lambda options: "-".join(options),
)
def test_resumed_plans_are_those_of_a_run_that_never_stopped(options):
    rate_N = np.linspace(0.0, 1.0, 40)
    one = scheduler_of(**options)
    trained(one, rate_N, 15)
    other = scheduler_of(**options)
    other.load_state_dict(one.state_dict())
    for scheduler in (one, other):
        trained(scheduler, rate_N, 10)
    left, right = one.state_dict(), other.state_dict()
    assert left.keys() == right.keys()
    for key, value in left.items():
        np.testing.assert_array_equal(value, right[key], err_msg=key)
