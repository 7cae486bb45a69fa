"""`greso`, `vip` and `reinforce-ada`: each rule by hand, by enumeration or by dense algebra."""

from __future__ import annotations

from functools import cache
from itertools import product

import numpy as np
import pytest
from scipy import stats
from scipy.spatial.distance import cdist, pdist
from scipy.special import expit, logit

import cures
from cures.records import Outcome
from cures.schedulers.greso import skip_probability
from cures.schedulers.reinforce_ada import down_sample, has_enough_signal
from cures.schedulers.vip import PromptProcess, median_bandwidth, solve_low_rank, split_by_variance
from tests.scripted import ScriptedHost, same_state


def answer(scheduler, plan, success_B, trial_B=None):
    success_B = np.asarray(success_B, dtype=np.int64)
    return scheduler.observe(Outcome.of(plan, success_B, trial_B))


def step(scheduler, host):
    plan = scheduler.propose()
    outcome = host.rollout(plan) if len(plan) else Outcome.of(plan, [])
    selection = scheduler.observe(outcome)
    (host.update if selection.is_update else host.discard)(selection)
    return plan, selection


def first_cost(name, rate_N, seed, **settings):
    """Rollouts generated until the first update."""
    scheduler = cures.make_scheduler(name, num_prompts=rate_N.size, seed=seed, **settings)
    host = ScriptedHost(rate_N, seed=seed)
    while not scheduler.update_step:
        step(scheduler, host)
    return scheduler.ledger.generated


def is_mean(values, expected):
    """Within 4 standard errors."""
    values = np.asarray(values, dtype=float)
    return abs(values.mean() - expected) <= 4 * values.std(ddof=1) / np.sqrt(values.size)


# --- GRESO


def greso(**settings):
    size = {"num_prompts": 40, "batch_size": 40, "budget": 160, "seed": 0}
    return cures.make_scheduler("greso", **(size | settings))


def test_skip_probability_by_hand():
    # 1 - max(p^z, .01): .5^6 = 1/64, .5^7 = 1/128 < .01
    found = skip_probability(np.array([0, 1, 2, 6, 7, 500]), 0.5, 0.01)
    assert found.tolist() == [0.0, 0.5, 0.75, 1 - 1 / 64, 0.99, 0.99]


def streak(history, kind):
    """Visits of this kind at the end of a prompt's history of mean rewards, counted one by one."""
    length = 0
    for reward in reversed(history):
        if reward != kind:
            break
        length += 1
    return length


def test_streaks_are_those_at_the_end_of_each_history():
    scheduler = greso(num_prompts=12, batch_size=6, budget=24, min_keep=1e-9)
    generator, history = np.random.default_rng(0), {prompt: [] for prompt in range(12)}
    longest = 0
    for _ in range(150):
        plan = scheduler.propose()
        trial_B = generator.choice([0, 3, 4], size=len(plan))  # 0: nothing came back, no visit
        success_B = generator.choice([0.0, 0.4, 1.0], size=len(plan), p=[0.45, 0.1, 0.45])
        success_B = np.ceil(success_B * trial_B).astype(int)
        answer(scheduler, plan, success_B, trial_B)
        for prompt, success, trial in zip(plan.prompt_B, success_B, trial_B, strict=True):
            if trial:
                history[int(prompt)].append(success / trial)
        easy = np.array([streak(history[prompt], 1.0) for prompt in range(12)])
        hard = np.array([streak(history[prompt], 0.0) for prompt in range(12)])
        expected = 1 - scheduler.p_easy**easy * scheduler.p_hard**hard  # one of the two is 0
        np.testing.assert_allclose(scheduler.skip_probability(np.arange(12)), expected)
        longest = max(longest, int(easy.max()), int(hard.max()))
    assert longest > 2
    # negative control: all visits of a kind counted, not only those at the end
    ever = np.array([history[prompt].count(1.0) for prompt in range(12)])
    assert (scheduler.p_easy**ever != scheduler.p_easy**easy).any()


def test_prompts_are_skipped_as_often_as_the_rule_says():
    counts, seeds = np.zeros(3), 300
    for seed in range(seeds):
        scheduler = greso(seed=seed, p_easy=0.3, p_hard=0.6)
        plan = scheduler.propose()
        assert np.array_equal(np.sort(plan.prompt_B), np.arange(40))
        # ids 0-9 all right, 10-19 all wrong, 20-39 mixed: half of the 40 are found, 20 are missing,
        # 1.25 * 20 / (1/2) = 50 > 40: the next plan asks for all 40 again
        answer(scheduler, plan, np.array([4] * 10 + [0] * 10 + [2] * 20)[plan.prompt_B])
        again = scheduler.propose().prompt_B
        assert np.unique(again).size == again.size
        counts += [(again < 10).sum(), ((again >= 10) & (again < 20)).sum(), (again >= 20).sum()]
    share = counts / (seeds * np.array([10, 10, 20]))
    # two passes are looked through: in the plan unless skipped twice, 1 - (1 - p)^2 with z = 1
    expected = np.array([1 - 0.7**2, 1 - 0.4**2, 1.0])
    error = np.sqrt(expected * (1 - expected) / (seeds * 10))
    assert (np.abs(share - expected) <= 4 * error).all()
    # negative control: right and wrong exchanged
    assert (np.abs(share - expected[[1, 0, 2]]) > 4 * error)[:2].all()


def test_a_cut_plan_goes_on_where_it_was_cut():
    whole, cut = greso(), greso()
    plan = whole.propose()
    first = cut.propose(limit=48)  # 12 groups of 4
    assert np.array_equal(first.prompt_B, plan.prompt_B[:12])
    assert np.array_equal(cut.propose(limit=40).prompt_B, plan.prompt_B[12:22])


def test_adaptive_probabilities_by_hand():
    scheduler = greso(num_prompts=8, batch_size=4, budget=16, sampling_batch=8)
    plan = scheduler.propose()
    answer(scheduler, plan, [2, 2, 2, 2, 4, 4, 0, 0])
    # first pass: shares are above target, nothing moves
    assert scheduler.update_step == 1
    assert (scheduler.p_easy, scheduler.p_hard) == (0.5, 0.5)
    while scheduler.update_step == 1:
        plan = scheduler.propose()
        answer(scheduler, plan, np.full(len(plan), 2))
    # no uniform group: below both targets
    assert (scheduler.p_easy, scheduler.p_hard) == (0.51, 0.51)
    while scheduler.skip_probability(np.arange(8)).any() or scheduler.update_step < 3:
        plan = scheduler.propose()
        answer(scheduler, plan, np.full(len(plan), 2))
    easy, hard = scheduler.p_easy, scheduler.p_hard
    plan = scheduler.propose()
    assert len(plan) == 8  # no streaks are left
    answer(scheduler, plan, [2, 2, 2, 2, 4, 4, 4, 0])
    # 3/8 >= .25/3: skip more; 1/8 < .25 * 2/3: skip less
    assert scheduler.p_easy == pytest.approx(easy - 0.01)
    assert scheduler.p_hard == pytest.approx(hard + 0.01)


def test_the_adaptive_probabilities_stay_in_their_bounds():
    scheduler = greso(num_prompts=8, batch_size=4, budget=16, sampling_batch=8)
    for _ in range(120):
        plan = scheduler.propose()
        answer(scheduler, plan, np.full(len(plan), 2))
    assert (scheduler.p_easy, scheduler.p_hard) == (0.95, 0.95)


def mixed(plan, number):
    """Right rollouts of which the first ``number`` groups are mixed, the others all wrong."""
    return np.where(np.arange(len(plan)) < number, 1, 0)


@pytest.mark.parametrize(
    ("found", "size", "is_last"),
    [
        (7, 3, True),  # 1.25 * 1 * 12/7 = 2.1, floor F = 3
        (6, 5, True),  # 1.25 * 2 * 12/6 = 5
        (5, 9, True),  # 1.25 * 3 * 12/5 = 9
        (4, 12, False),  # 1.25 * 4 * 12/4 = 15 > R = 12
        (0, 12, False),  # nothing to estimate from
    ],
)
def test_refill_by_hand(found, size, is_last):
    scheduler = greso(num_prompts=500, batch_size=8, budget=32, min_sampling_batch=3)
    plan = scheduler.propose()
    assert len(plan) == 12  # 1.5 x 8
    assert not answer(scheduler, plan, mixed(plan, found)).is_update
    plan = scheduler.propose()
    assert len(plan) == size
    selection = answer(scheduler, plan, mixed(plan, 0))  # the refill finds nothing
    assert selection.is_update == is_last  # the last one: the update uses what is there
    assert selection.group_G.size == (found if is_last else 0)
    assert len(scheduler.propose()) == 12  # no estimate: R


def test_a_full_batch_ends_the_update_and_the_surplus_is_dropped():
    scheduler = greso(num_prompts=500, batch_size=8, budget=32)
    plan = scheduler.propose()
    selection = answer(scheduler, plan, mixed(plan, 10))
    assert np.array_equal(selection.group_G, plan.group_B[:8])
    assert np.array_equal(np.sort(selection.discard_G), plan.group_B[8:])


def test_cost_of_an_update_without_history():
    batch, R, F, n, q = 8, 12, 2, 2, 0.5  # p = 1/2, groups of two: mixed with chance 1/2

    @cache
    def prompts(missing, plans_left=10):
        """The recursion of the docstring, by the law of the number of mixed groups."""
        if not plans_left:
            return 0.0
        total = float(R)
        for k in range(missing):
            size = int(1.25 * (missing - k) * R / k) if k else R + 1
            more = max(size, F) if size <= R else prompts(missing - k, plans_left - 1)
            total += stats.binom.pmf(k, R, q) * more
        return total

    rate_N = np.full(5000, 0.5)
    size = {"batch_size": batch, "budget": batch * n, "min_sampling_batch": F}
    costs = [first_cost("greso", rate_N, seed, **size) for seed in range(400)]
    assert is_mean(costs, n * prompts(batch))
    # negative control: full batches only, as dapo refills
    refills = sum(stats.binom.cdf(batch - 1, k * R, q) for k in range(60))
    assert not is_mean(costs, n * R * refills)


def test_a_dead_pool_is_skipped_down_to_the_smallest_chance():
    scheduler = greso(num_prompts=200, batch_size=8, budget=32, max_plans_per_update=3)
    host = ScriptedHost(np.zeros(200))
    for _ in range(400):
        step(scheduler, host)
    assert (scheduler.skip_probability(np.arange(200)) > 0.9).all()
    assert scheduler.update_step == 0
    assert scheduler.counters["empty_batch"] > 0
    assert scheduler.counters["skipped"] > 10 * 200


# --- VIP

ALL_PROMPTS = np.arange(30)


def vip(num_prompts=30, **settings):
    size = {"batch_size": 6, "budget": 48, "seed": 0}
    return cures.make_scheduler("vip", num_prompts=num_prompts, **(size | settings))


def features(num_prompts=30, dimensions=3):
    return np.random.default_rng(1).normal(size=(num_prompts, dimensions))


def kernel(x, bandwidth):
    return np.exp(-cdist(x, x, "sqeuclidean") / (2 * bandwidth**2))


def dense_means(scheduler, covariance_NN, steps, *, clip=0.01, noise=0.1):
    """Drive some updates; the mean over all prompts by dense algebra on the whole covariance."""
    host = ScriptedHost(np.linspace(0, 1, len(covariance_NN)))
    mean_N = np.zeros(len(covariance_NN))
    for _ in range(steps):
        plan = scheduler.propose()
        outcome = host.outcome(plan)
        scheduler.observe(outcome)
        at = plan.prompt_B
        y = logit(np.clip(outcome.success_B / outcome.trial_B, clip, 1 - clip))
        within = covariance_NN[np.ix_(at, at)] + noise * np.eye(at.size)
        mean_N = mean_N + covariance_NN[:, at] @ np.linalg.inv(within) @ (y - mean_N[at])
    return mean_N


def test_predictions_equal_the_dense_gaussian_process():
    x = features()
    bandwidth = np.median(pdist(x))  # scipy's distances
    scheduler = vip(features_N_D=x)
    mean_N = dense_means(scheduler, kernel(x, bandwidth), steps=12)
    np.testing.assert_allclose(scheduler.success_rate(ALL_PROMPTS), expit(mean_N), atol=1e-8)
    # negative control: another bandwidth is another prediction
    other = vip(features_N_D=x)
    mean_N = dense_means(other, kernel(x, 1.3 * bandwidth), steps=12)
    assert np.abs(other.success_rate(ALL_PROMPTS) - expit(mean_N)).max() > 1e-2


def test_beyond_the_rank_the_kernel_is_nystrom_with_its_variance_given_back():
    x, bandwidth, rank = features(80), 1.5, 12
    process = PromptProcess(x, bandwidth, rank, seed=3)
    phi, delta = process.factors(np.arange(80))
    covariance = phi @ phi.T + np.diag(delta)
    np.testing.assert_allclose(np.diag(covariance), 1.0, atol=1e-12)
    is_landmark = delta < 1e-8
    assert is_landmark.sum() == rank
    full = kernel(x, bandwidth)
    # Nystrom by dense algebra: K_NZ K_ZZ^-1 K_ZN, then the diagonal set to 1
    part = full[:, is_landmark]
    nystrom = part @ np.linalg.solve(full[np.ix_(is_landmark, is_landmark)], part.T)
    np.fill_diagonal(nystrom, 1.0)
    np.testing.assert_allclose(covariance, nystrom, atol=1e-8)
    assert np.abs(covariance - full).max() > 0.05  # negative control: it is an approximation
    for batch in (6, 20):  # fewer prompts than landmarks, and more
        scheduler = vip(
            80, features_N_D=x, bandwidth=bandwidth, rank=rank, seed=3, batch_size=batch, budget=160
        )
        mean_N = dense_means(scheduler, nystrom, steps=8)
        np.testing.assert_allclose(scheduler.success_rate(np.arange(80)), expit(mean_N), atol=1e-7)


@pytest.mark.parametrize(("size", "rank"), [(7, 3), (3, 7), (5, 5), (4, 0)])
def test_low_rank_solution(size, rank):
    generator = np.random.default_rng(0)
    phi, diagonal = generator.normal(size=(size, rank)), generator.uniform(0.1, 2.0, size)
    y = generator.normal(size=size)
    dense = np.linalg.inv(phi @ phi.T + np.diag(diagonal)) @ y
    np.testing.assert_allclose(solve_low_rank(phi, diagonal, y), dense, atol=1e-12)


def test_median_bandwidth():
    x = features(40)
    assert median_bandwidth(x) == pytest.approx(np.median(pdist(x)))  # scipy
    # equal rows say nothing about a scale: the median over the pair that differs
    assert median_bandwidth(np.array([[0.0], [0.0], [3.0]])) == pytest.approx(3.0)
    assert median_bandwidth(np.zeros((5, 2))) == 1.0


def test_without_features_prompts_share_nothing():
    scheduler = vip(noise=0.25)
    plan = scheduler.propose()
    assert plan.quota_B.tolist() == [8] * 6  # nothing known: equal
    success_B = np.array([0, 8, 4, 2, 6, 1])
    answer(scheduler, plan, success_B)
    # K = I: m = y / (1 + noise)
    y = logit(np.clip(success_B / 8, 0.01, 0.99))
    np.testing.assert_allclose(scheduler.success_rate(plan.prompt_B), expit(y / 1.25))
    others = np.setdiff1d(ALL_PROMPTS, plan.prompt_B)
    assert (scheduler.success_rate(others) == 0.5).all()


def test_unvisited_prompts_learn_from_their_neighbours():
    x = np.repeat([[0.0], [50.0]], 15, axis=0) + np.linspace(0, 0.01, 30)[:, None]
    scheduler = vip(features_N_D=x, bandwidth=1.0)
    plan = scheduler.propose()
    answer(scheduler, plan, np.where(plan.prompt_B < 15, 8, 0))
    rest = np.setdiff1d(ALL_PROMPTS, plan.prompt_B)
    rate = scheduler.success_rate(rest)
    assert (rate[rest < 15] > 0.9).all()
    assert (rate[rest >= 15] < 0.1).all()


def test_relabelling_the_prompts_relabels_the_predictions():
    x, order = features(), np.random.default_rng(5).permutation(30)
    predicted = []
    for moved in (ALL_PROMPTS, order):
        process = PromptProcess(x[moved], None, 30, seed=0)
        phi, delta = process.factors(np.argsort(moved))  # in the old order
        predicted.append(phi @ phi.T + np.diag(delta))
    np.testing.assert_allclose(predicted[0], predicted[1], atol=1e-9)


def variance(estimator, p, n):
    """Up to a factor: Dr.GRPO p(1-p)(n-1)/n^2, RLOO p(1-p)/(n-1)."""
    a = p * (1 - p)
    return (a * (n - 1) / n**2 if estimator == "dr_grpo" else a / (n - 1)).sum()


@pytest.mark.parametrize("estimator", ["dr_grpo", "rloo", "grpo", "reinforce++"])
@pytest.mark.parametrize("max_quota", [None, 7])
def test_quotas_are_the_best_of_all_splits(estimator, max_quota):
    generator = np.random.default_rng(2)
    fewest, budget = 3 if estimator == "dr_grpo" else 2, 17
    splits = [
        n for n in product(range(fewest, (max_quota or budget) + 1), repeat=3) if sum(n) == budget
    ]
    for _ in range(25):
        p = generator.uniform(0.01, 0.99, 3)
        quota = split_by_variance(
            p, budget, estimator=estimator, min_quota=fewest, max_quota=max_quota
        )
        best = min(variance(estimator, p, np.array(n)) for n in splits)  # by enumeration
        assert quota.sum() == budget
        assert variance(estimator, p, quota) <= best * (1 + 1e-12)


def test_dr_grpo_quotas_beyond_the_first_bound_are_the_best_too():
    # all but one prompt have hardly any variance: the one gets far more than four times the mean
    p = np.array([0.5, *[1e-9] * 11])
    quota = split_by_variance(p, 120, estimator="dr_grpo", min_quota=3, max_quota=None)
    assert quota.tolist() == [120 - 33, *[3] * 11]


def test_quotas_are_not_simply_proportional():
    p = np.array([0.5, 0.02])
    rloo = split_by_variance(p, 40, estimator="rloo", min_quota=2, max_quota=None)
    # n - 1 prop. to sqrt(p(1-p)): 1 + 38 (.5, .14)/.64 = (30.7, 9.3)
    assert rloo.tolist() == [31, 9]
    # negative control: n itself prop. to it has more variance; (.5, .0705) of 24: (21.0, 3.0), while
    # 1 + 22 of the same shares is (20.3, 3.7)
    rare = np.array([0.5, 0.005])
    proportional = cures.allocate(np.sqrt(rare * (1 - rare)), 24)
    exact = split_by_variance(rare, 24, estimator="rloo", min_quota=2, max_quota=None)
    assert (proportional.tolist(), exact.tolist()) == ([21, 3], [20, 4])
    assert variance("rloo", rare, exact) < variance("rloo", rare, proportional)
    # Dr.GRPO would starve the second prompt at n = 1 if it were allowed to
    dr_grpo = split_by_variance(p, 40, estimator="dr_grpo", min_quota=3, max_quota=None)
    assert dr_grpo.min() >= 3
    assert variance("dr_grpo", p, np.array([39, 1])) < variance("dr_grpo", p, dr_grpo)


def test_dr_grpo_asks_for_three():
    assert vip(estimator="dr_grpo").min_quota == 3
    assert vip().min_quota == 2
    with pytest.raises(ValueError, match=r"min_quota must be an int in \[3, inf\), got 2"):
        vip(estimator="dr_grpo", min_quota=2)
    with pytest.raises(ValueError, match=r"budget must be an int in \[18, .*, got 12"):
        vip(estimator="dr_grpo", budget=12)


def test_parts_and_the_whole_teach_the_same():
    x = features()
    whole, parts = vip(features_N_D=x), vip(features_N_D=x)
    for turn in range(6):
        plan = whole.propose()
        parts.propose()
        outcome = ScriptedHost(np.linspace(0, 1, 30), missing_rate=0.7).outcome(plan)
        whole.observe(outcome)
        order = np.random.default_rng(turn).permutation(len(plan))
        for part in np.array_split(order, 2):
            success, trial = outcome.success_B[part], outcome.trial_B[part]
            parts.observe(Outcome(plan.plan_id, plan.group_B[part], success, trial, is_final=False))
    assert same_state(whole.state_dict(), parts.state_dict())


def test_features_are_checked_and_part_of_the_settings():
    for bad in (
        *(np.zeros((29, 2)), np.zeros(30), np.zeros((30, 0))),
        *(np.full((30, 1), np.nan), np.full((30, 1), 1e200)),
        *([["a"]] * 30, [[1.0], [1.0, 2.0]]),
    ):
        with pytest.raises(ValueError, match=r"vip: features_N_D must be real numbers up to 1e100"):
            vip(features_N_D=bad)
    for bad, shown in (
        (np.zeros(30), r"dtype float64, shape \(30,\)"),
        (np.zeros((30, 0)), r"shape"),
    ):
        with pytest.raises(ValueError, match=f"1e100 .*, got {shown}"):
            vip(features_N_D=bad)
    state = vip(features_N_D=features()).state_dict()
    with pytest.raises(ValueError, match="features_N_D must be"):
        vip(features_N_D=features() + 1.0).load_state_dict(state)
    given = features()
    scheduler = vip(features_N_D=given)
    before = scheduler.propose().quota_B
    given[:] = 0.0  # a private copy
    other = vip(features_N_D=features())
    assert np.array_equal(before, other.propose().quota_B)


# --- Reinforce-Ada


def ada(num_prompts=60, **settings):
    size = {"batch_size": 2, "budget": 8, "seed": 0, "estimator": "dr_grpo"}
    return cures.make_scheduler("reinforce-ada", num_prompts=num_prompts, **(size | settings))


@pytest.mark.parametrize("size", [4, 5, 8])
def test_kept_rollouts_by_enumeration(size):
    for success, wrong in product(range(10), repeat=2):
        right_kept, wrong_kept = down_sample(
            np.array([success]), np.array([success + wrong]), size
        )[0]
        # as many as there are, at most n; of these splits the one nearest to n // 2 right
        total = min(size, success + wrong)
        legal = [a for a in range(success + 1) if 0 <= total - a <= wrong]
        best = min(legal, key=lambda a: abs(a - size // 2))
        assert (right_kept, wrong_kept) == (best, total - best)


def test_who_has_enough():
    success, trial = np.array([0, 1, 2, 3, 6, 7, 8]), np.full(7, 8)
    # n = 4: two right and two wrong; n = 5: two right and three wrong
    balanced = has_enough_signal(success, trial, 4, "balanced")
    assert balanced.tolist() == [False, False, True, True, True, False, False]
    odd = has_enough_signal(success, trial, 5, "balanced")
    assert odd.tolist() == [False, False, True, True, False, False, False]
    assert has_enough_signal(success, trial, 4, "positive-focused").tolist() == [False] + [True] * 6


def test_rounds_by_hand():
    scheduler = ada()
    first = scheduler.propose()
    assert first.quota_B.tolist() == [8, 8]  # M = 2 n, as published for n = 4
    assert not answer(scheduler, first, [3, 1]).is_update  # 3 right, 5 wrong: enough; 1 right: not
    second = scheduler.propose()
    assert second.group_B.tolist() == [1]
    assert second.prompt_B.tolist() == [first.prompt_B[1]]
    assert not answer(scheduler, second, [0]).is_update
    assert not answer(scheduler, scheduler.propose(), [0]).is_update
    fourth = scheduler.propose()
    selection = answer(scheduler, fourth, [0])  # four rounds: leaves without enough
    assert selection.group_G.tolist() == [0, 1]
    assert selection.keep_G2.tolist() == [[2, 2], [1, 3]]
    assert selection.baseline_G.tolist() == [3 / 8, 1 / 32]  # over all rollouts, not over the kept
    assert selection.weight_G.tolist() == [0.5, 0.5]
    book = scheduler.ledger
    assert (book.generated, book.trained, book.discarded) == (40, 8, 32)
    assert len(scheduler.propose()) == 2


def test_positive_focused_leaves_with_one_right_rollout():
    scheduler = ada(variant="positive-focused")
    plan = scheduler.propose()
    assert not answer(scheduler, plan, [8, 0]).is_update
    selection = answer(scheduler, scheduler.propose(), [1])
    assert selection.keep_G2.tolist() == [[4, 0], [1, 3]]


def test_baseline_and_estimator():
    plain = ada(estimator="grpo")  # grpo refuses a baseline from outside
    assert answer(plain, plain.propose(), [4, 4]).baseline_G is None
    assert ada(global_baseline=False).global_baseline is False
    with pytest.raises(ValueError, match="global_baseline must be False for estimator 'grpo'"):
        ada(estimator="grpo", global_baseline=True)


def expected_rollouts(p, rounds=4, M=8, n=4, variant="balanced"):
    """M times the sum over rounds of the chance to be there still, by the binomial law."""
    total = M * 1.0
    for k in range(1, rounds):
        success = np.arange(k * M + 1)
        leaves = (
            (success >= n // 2) & (k * M - success >= n - n // 2)
            if variant == "balanced"
            else success >= 1
        )
        total += M * (1 - stats.binom.pmf(success, k * M, p)[leaves].sum())
    return total


@pytest.mark.parametrize(
    ("p", "published"), [(0.5, 8.6), (0.2, 13.4), (0.1, 21.0), (0.05, 27.3), (0.0, 32.0)]
)
def test_cost_per_prompt_is_what_is_known_of_the_method(p, published):
    # numbers of a note on the paper (M = 8, n = 4, four rounds), to the digits given there
    assert round(expected_rollouts(p), 1) == published


@pytest.mark.parametrize("variant", ["balanced", "positive-focused"])
def test_cost_of_an_update(variant):
    rate_N = np.tile([0.0, 0.05, 0.3, 0.5, 0.9, 1.0], 100)
    costs = [
        first_cost("reinforce-ada", rate_N, s, batch_size=10, budget=40, variant=variant)
        for s in range(200)
    ]
    assert is_mean(costs, 10 * np.mean([expected_rollouts(p, variant=variant) for p in rate_N]))
    other = "balanced" if variant != "balanced" else "positive-focused"  # negative control
    assert not is_mean(costs, 10 * np.mean([expected_rollouts(p, variant=other) for p in rate_N]))


def test_several_plans_are_several_batches():
    scheduler = ada()
    plans = [scheduler.propose() for _ in range(3)]
    assert np.unique(np.concatenate([plan.group_B for plan in plans])).size == 6
    assert not answer(scheduler, plans[1], [4, 0]).is_update
    assert answer(scheduler, plans[0], [0, 4]).group_G.tolist() == [1, 2]  # oldest that have left
    assert answer(scheduler, plans[2], [4, 4]).group_G.tolist() == [4, 5]
    assert scheduler.propose().group_B.tolist() == [0, 3]  # the two unfinished ones


def test_a_batch_cut_by_a_limit_is_filled_up():
    scheduler = ada()
    plan = scheduler.propose(limit=8)
    assert plan.quota_B.tolist() == [8]
    assert not answer(scheduler, plan, [4]).is_update
    assert len(scheduler.propose()) == 1
    again = ada()
    part = again.propose(limit=12)
    assert part.quota_B.tolist() == [8, 4]  # the second group gets a short round


def test_what_never_came_back_is_no_failure():
    scheduler = ada()
    for turn in range(4):
        plan = scheduler.propose()
        assert len(plan) == 2
        selection = answer(scheduler, plan, [0, 0], [0, 0])
        assert selection.is_update == (turn == 3)
    assert selection.keep_G2.tolist() == [[0, 0], [0, 0]]
    assert selection.baseline_G.tolist() == [0.0, 0.0]


@pytest.mark.parametrize("variant", ["balanced", "positive-focused"])
def test_kept_rollouts_and_baselines_survive_a_resume(variant):
    rate_N = np.tile([0.05, 0.5, 0.95], 20)
    scheduler, host = ada(variant=variant), ScriptedHost(rate_N)
    for _ in range(7):
        step(scheduler, host)
    resumed = ada(variant=variant)
    resumed.load_state_dict(scheduler.state_dict())
    updates = 0
    for _ in range(30):
        plan, again = scheduler.propose(), resumed.propose()
        left = scheduler.observe(host.outcome(plan))
        right = resumed.observe(host.outcome(again))
        assert left.group_G.tolist() == right.group_G.tolist()
        if left.is_update:
            updates += 1
            assert left.keep_G2.tolist() == right.keep_G2.tolist()
            assert left.baseline_G.tolist() == right.baseline_G.tolist()
    assert updates > 3


def test_hosts_train_with_the_kept_rollouts_and_this_baseline():
    # the published advantage is r - (mean over all rollouts of the prompt), without a division
    reward = np.array([1, 1, 0, 0])
    found = cures.advantages(
        reward, np.zeros(4, int), estimator="dr_grpo", baseline_R=np.full(4, 3 / 8)
    )
    assert found.tolist() == [5 / 8, 5 / 8, -3 / 8, -3 / 8]
