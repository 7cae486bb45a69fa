r"""Spread of one rollout's gradient, measured on sampled rollouts, against Eq. (21).

Claims 5.1 to 5.8. The contribution of a rollout is (r - p) s. Its variance is measured as the mean
squared distance of sampled contributions from their exact mean; what is expected are the claims'
formulas at the policy's exact moments. The formula of the released code is the control.
"""

from __future__ import annotations

import numpy as np

import cures
from cures.checks import FloatArray
from sim.moments import score_moments
from sim.validation import gradient_shape
from sim.validation.check import Check, Result, Setting, largest_z, relative_error
from sim.validation.contributions import RATE_P, at_rate, curves, laws, moments, rollouts_of
from sim.validation.expected import expected
from sim.validation.small_policies import (
    item_response,
    one_chain,
    one_table,
    random_chains,
    random_table,
)
from theory.score_law import N_0, N_1, D

STEPS = (2, 4, 8)  # of chains


def _tables(setting: Setting) -> Result:
    built = one_table(RATE_P, setting.generator)
    at = moments(laws(built))
    mean_P, error_P = rollouts_of(built, setting.draws, setting.generator)
    right_P = expected("5.1", "variance", at)
    return largest_z(
        mean_P, right_P, error_P, expected("5.8", "released", at),
        where=at_rate, arrays=curves(mean_P, right_P, error_P),
    )  # fmt: skip


def _chains(setting: Setting) -> Result:
    arrays: dict[str, FloatArray] = {}
    found, right, wrong, error = [], [], [], []
    for steps in STEPS:
        built = one_chain(RATE_P, setting.generator, steps)
        at = moments(laws(built))
        mean_P, error_P = rollouts_of(built, setting.draws // len(STEPS), setting.generator)
        found.append(mean_P)
        error.append(error_P)
        right.append(expected("5.1", "variance", at))
        wrong.append(expected("5.8", "released", at))
        arrays |= {f"{steps}_{k}": v for k, v in curves(mean_P, right[-1], error_P).items()}
    return largest_z(
        np.concatenate(found), np.concatenate(right), np.concatenate(error), np.concatenate(wrong),
        where=lambda i: f"{STEPS[i // RATE_P.size]} steps, {at_rate(i % RATE_P.size)}",
        arrays=arrays,
    )  # fmt: skip


def _last_term(setting: Setting) -> Result:
    found, right, wrong = [], [], []
    for built in (
        random_table(RATE_P, setting.generator),
        random_chains(RATE_P, setting.generator),
        item_response(RATE_P, setting.generator),
    ):
        policy, theta_D = built
        at = moments(laws(built))
        for i in range(policy.num_prompts):
            gradient_D = policy.success_gradient(theta_D, np.array([i]), np.ones(1))
            found.append(float(gradient_D @ gradient_D))
        right.append(expected("5.2", "gradient_sq", at))
        wrong.append(expected("5.2", "gradient_sq", {**at, D: np.abs(at[N_1] - at[N_0])}))
    return relative_error(found, np.concatenate(right), np.concatenate(wrong), where=at_rate)


def _by_group(setting: Setting) -> Result:
    """Eq. (21) from the moments that a host measures in groups of 16, with the known success rate."""
    policy, theta_D = one_chain(RATE_P[4:-4], setting.generator, 4)
    size, rounds = 16, max(20, setting.draws // (16 * policy.num_prompts))
    mean_P, error_P = np.zeros((2, policy.num_prompts))
    rate_P = policy.success_rate(theta_D, np.arange(policy.num_prompts))
    for i in range(policy.num_prompts):
        prompt_R = np.full(size * rounds, i)
        answer_R = policy.generate(theta_D, prompt_R, setting.generator)
        is_right_R = policy.is_right(prompt_R, answer_R)
        index_R = np.repeat(np.arange(rounds), size)
        found = score_moments(
            policy.local_score(theta_D, prompt_R, answer_R), is_right_R, index_R, rounds
        )
        right_S = np.bincount(index_R, weights=is_right_R, minlength=rounds)
        is_whole_S = (right_S >= 2) & (right_S <= size - 2)  # unbiased given these counts
        variance_S = cures.gradient_variance(
            rate_P[i],
            found.sq_norm_correct[is_whole_S],
            found.sq_norm_wrong[is_whole_S],
            found.sq_norm_difference[is_whole_S],
        )
        mean_P[i] = variance_S.mean()
        error_P[i] = variance_S.std(ddof=1) / np.sqrt(variance_S.size)
    at = moments(laws((policy, theta_D)))
    return largest_z(
        mean_P, expected("5.1", "variance", at), error_P, expected("5.8", "released", at),
        where=lambda i: f"p = {rate_P[i]:.2f}",
    )  # fmt: skip


CHECKS = (
    Check(
        "tables", ("5.1",),
        "table of 5 answers: measured variance against Eq. (21) at 17 success rates",
        "the formula of the released code (5.8)", _tables, is_random=True,
    ),
    Check(
        "chains", ("5.1",),
        "chains of 2, 4 and 8 skills: the same",
        "the formula of the released code (5.8)", _chains, is_random=True,
    ),
    Check(
        "host-moments", ("5.1",),
        "chains: cures.gradient_variance of the moments that a host measures, mean over groups",
        "the formula of the released code (5.8)", _by_group, is_random=True,
    ),
    Check(
        "last-term", ("5.2",),
        "squared gradient of the success rate against the last term of Eq. (21), three policies",
        "the difference of mean norms", _last_term,
    ),
    *gradient_shape.CHECKS,
)  # fmt: skip
