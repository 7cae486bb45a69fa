"""Which prompts are drawn: the library's draws and its schedulers' plans against Eq. (14).

Claims 3.1, 7.1 and 4.7. The expected shares are the softmax of claim 3.1 at known success rates, or at
the posterior means of claim 7.1 where a scheduler has to estimate them.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from scipy.optimize import brentq

import cures
from cures.checks import FloatArray, IntArray
from sim.validation.check import (
    Check,
    Result,
    Setting,
    chi_square,
    largest_z,
    relative_error,
)
from sim.validation.expected import expected
from sim.validation.small_policies import random_chains
from theory.duplicates import pool as pool_size
from theory.posterior import s as successes
from theory.sampling import Z
from theory.symbols import alpha, beta, m, n, p, temperature

TAU = 0.2  # warm enough that every prompt is drawn often enough to be counted
WRONG = 1.5  # times TAU: the control
SIZE = 30
BINS = 20
PILOTS = 4


def shares(rate_N: FloatArray, tau: float) -> FloatArray:
    """Eq. (14): claim 3.1, whose Z is the sum of its numerators."""
    numerator_N = expected("3.1", "share", {p: rate_N, temperature: tau, Z: 1.0})
    return expected("3.1", "share", {p: rate_N, temperature: tau, Z: float(numerator_N.sum())})


def rates(setting: Setting) -> FloatArray:
    """Success rates of a pool of chains, from near 0 to near 1."""
    wanted_N = setting.generator.permutation(np.linspace(0.01, 0.99, SIZE))
    policy, theta_D = random_chains(wanted_N, setting.generator)
    return policy.success_rate(theta_D, np.arange(SIZE))


# -- functions -------------------------------------------------------------------------------------


def _distribution(setting: Setting) -> Result:
    rate_N = rates(setting)
    tau_T = np.logspace(-2, 1, 13)
    found = [cures.sampling_distribution(cures.potential(rate_N), t) for t in tau_T]
    return relative_error(
        found, [shares(rate_N, t) for t in tau_T], [shares(rate_N, t * WRONG) for t in tau_T]
    )


def _with_replacement(setting: Setting) -> Result:
    rate_N, size = rates(setting), 250
    prob_N = cures.sampling_distribution(cures.potential(rate_N), TAU)
    count_N = np.zeros(SIZE)
    rounds = max(1, setting.draws // size)
    for _ in range(rounds):
        prompt_B, draw_B = cures.draw_with_replacement(prob_N, size, setting.generator)
        count_N[prompt_B] += draw_B
    total = rounds * size
    right_N, wrong_N = total * shares(rate_N, TAU), total * shares(rate_N, WRONG * TAU)
    return chi_square(
        count_N, right_N, wrong_N,
        arrays={"rate_N": rate_N, "count_N": count_N, "expected_N": right_N, "control_N": wrong_N},
    )  # fmt: skip


def _without_replacement(setting: Setting) -> Result:
    # cold enough that the likeliest prompts are in every batch
    rate_N, size, tau = rates(setting), 16, 0.08
    share_N, wrong_N = shares(rate_N, tau), shares(rate_N, WRONG * tau)
    prob_N = cures.sampling_distribution(cures.potential(rate_N), tau)
    inclusion_N = cures.inclusion_probability(prob_N, size)
    rounds = max(1, setting.draws // size)
    count_N = np.zeros(SIZE)
    for _ in range(rounds):
        count_N[cures.draw_without_replacement(inclusion_N, setting.generator)] += 1.0
    right_N, control_N = scaled_to(share_N, size), scaled_to(wrong_N, size)
    # of a prompt that is always drawn no share within 1 / rounds of 1 could be told apart
    error_N = np.maximum(np.sqrt(right_N * (1.0 - right_N) / rounds), 1.0 / rounds)
    return largest_z(
        count_N / rounds, right_N, error_N, control_N,
        where=lambda i: f"p = {rate_N[i]:.2f}",
        arrays={"rate_N": rate_N, "measured_N": count_N / rounds, "expected_N": right_N,
                "uncapped_N": size * share_N},
    )  # fmt: skip


def scaled_to(share_N: FloatArray, size: int) -> FloatArray:
    """min(1, c share) with the sum ``size``, what an inclusion probability is, by a root search."""

    def excess(factor: float) -> float:
        return float(np.minimum(1.0, factor * share_N).sum()) - size

    factor = brentq(excess, 0.0, 1.0 / float(share_N[share_N > 0.0].min()), xtol=1e-13)
    return np.minimum(1.0, factor * share_N)


def _distinct(setting: Setting) -> Result:
    size, draws = 20, 30
    uniform_N = np.full(size, 1.0 / size)
    rounds = max(2, setting.draws // draws)
    found_S = np.array(
        [
            cures.draw_with_replacement(uniform_N, draws, setting.generator)[0].size
            for _ in range(rounds)
        ],
        dtype=np.float64,
    )
    at = {pool_size: size, m: draws}
    return largest_z(
        found_S.mean(), expected("4.7", "distinct", at), found_S.std(ddof=1) / np.sqrt(rounds),
        expected("4.7", "distinct", {**at, m: 25}),
    )  # fmt: skip


# -- schedulers, through their public interface ----------------------------------------------------


def _oracle(setting: Setting) -> Result:
    rate_N, size = rates(setting), 250
    scheduler = cures.make_scheduler(
        "oracle", num_prompts=SIZE, batch_size=size, budget=4 * size, temperature=TAU,
        seed=int(setting.generator.integers(2**31)), true_success_rate=lambda: rate_N,
    )  # fmt: skip
    count_N, rounds = np.zeros(SIZE), max(1, setting.draws // size)
    for _ in range(rounds):
        plan = scheduler.propose()
        count_N[plan.prompt_B] += plan.draw_B
        scheduler.observe(answered(plan, rate_N, setting.generator))
    total = rounds * size
    return chi_square(
        count_N, total * shares(rate_N, TAU), total * shares(rate_N, WRONG * TAU),
        arrays={"rate_N": rate_N, "count_N": count_N, "expected_N": total * shares(rate_N, TAU)},
    )  # fmt: skip


def answered(plan: cures.Plan, rate_N: FloatArray, generator: np.random.Generator) -> cures.Outcome:
    """Outcome of a plan: every rollout comes back, right with its prompt's success rate."""
    return cures.Outcome.of(plan, generator.binomial(plan.quota_B, rate_N[plan.prompt_B]))


def cures_plans(
    setting: Setting, *, steps: int, size: int
) -> Iterator[tuple[cures.Plan, FloatArray]]:
    """Training plans of the ``cures`` scheduler, each with the posterior means that it rests on.

    The means are those of claim 7.1 from counts that are kept here, beside the scheduler's own.
    """
    rate_N, prior = rates(setting), 1.0
    scheduler = cures.make_scheduler(
        "cures", num_prompts=SIZE, batch_size=size, budget=2 * size, temperature=TAU,
        seed=int(setting.generator.integers(2**31)), num_subsets=1, pilots=PILOTS,
        steps_per_subset=steps, prior=(prior, prior),
    )  # fmt: skip
    right_N, trial_N = np.zeros((2, SIZE))
    done = 0
    while done < steps:
        plan = scheduler.propose()
        if not plan.is_pilot_B.any():
            at = {alpha: prior, beta: prior, successes: right_N, n: trial_N}
            yield plan, expected("7.1", "mean", at)
            done += 1
        outcome = answered(plan, rate_N, setting.generator)
        right_N[plan.prompt_B] += outcome.success_B
        trial_N[plan.prompt_B] += outcome.trial_B
        scheduler.observe(outcome)


def _cures(setting: Setting) -> Result:
    size = 200
    steps = max(1, setting.draws // size)
    count_B, wrong_B = np.zeros((2, BINS))
    for plan, mean_N in cures_plans(setting, steps=steps, size=size):
        order_N = np.argsort(mean_N * (1.0 - mean_N), kind="stable")
        for counts, tau in ((count_B, TAU), (wrong_B, WRONG * TAU)):
            counts += levels(plan, shares(mean_N, tau), order_N, setting.generator)
    even_B = np.full(BINS, size * steps / BINS)
    return chi_square(
        count_B, even_B, even_B, control_observed=wrong_B,
        arrays={"count_B": count_B, "control_B": wrong_B, "expected_B": even_B},
    )  # fmt: skip


def levels(
    plan: cures.Plan, share_N: FloatArray, order_N: IntArray, generator: np.random.Generator
) -> FloatArray:
    """Histogram of the draws' places in the cumulative shares: even iff the shares are right.

    Shares differ from plan to plan, so that counts of prompts have no common expectation; places do. A
    place is uniform within the prompt's own share. Prompts are laid out by their potential, so that a
    wrong temperature tilts the histogram.
    """
    end_N = np.cumsum(share_N[order_N])
    rank_N = np.argsort(order_N)
    drawn = np.repeat(plan.prompt_B, plan.draw_B)
    place = end_N[rank_N[drawn]] - generator.random(drawn.size) * share_N[drawn]
    return np.histogram(place / end_N[-1], BINS, (0.0, 1.0))[0].astype(np.float64)


def _recorded(setting: Setting) -> Result:
    found: list[FloatArray] = []
    right: list[FloatArray] = []
    wrong: list[FloatArray] = []
    for plan, mean_N in cures_plans(setting, steps=20, size=40):
        found.append(plan.prob_B)
        right.append(shares(mean_N, TAU)[plan.prompt_B])
        wrong.append(shares(mean_N, WRONG * TAU)[plan.prompt_B])
    return relative_error(np.concatenate(found), np.concatenate(right), np.concatenate(wrong))


CHECKS = (
    Check(
        "distribution", ("3.1",),
        "cures.sampling_distribution at 13 temperatures, against the softmax",
        f"{WRONG} times the temperature", _distribution,
    ),
    Check(
        "replacement", ("3.1",),
        "prompts drawn with replacement, against the softmax",
        f"{WRONG} times the temperature", _with_replacement, is_random=True,
    ),
    Check(
        "no-replacement", ("3.1",),
        "share of batches that hold a prompt, against the softmax scaled to the batch, capped at 1",
        f"{WRONG} times the temperature", _without_replacement, is_random=True,
    ),
    Check(
        "distinct", ("4.7",),
        "distinct prompts among 30 uniform draws of 20",
        "25 draws", _distinct, is_random=True,
    ),
    Check(
        "oracle", ("3.1",),
        "plans of the oracle scheduler, which knows the success rates, against the softmax",
        f"{WRONG} times the temperature", _oracle, is_random=True,
    ),
    Check(
        "cures", ("3.1", "7.1"),
        "plans of the cures scheduler: places of the draws in the softmax of the posterior means",
        f"{WRONG} times the temperature", _cures, is_random=True,
    ),
    Check(
        "recorded", ("3.1", "7.1"),
        "plans of the cures scheduler: recorded chance of each prompt, against the same softmax",
        f"{WRONG} times the temperature", _recorded,
    ),
)  # fmt: skip
