"""When the spread of one rollout's gradient is a bell in the success rate, and when not.

Claims 5.3 to 5.7: two answers, a few, constant norms at a given distance, tokens that do not matter.
Part of the family of :mod:`sim.validation.gradient_std`.
"""

from __future__ import annotations

import numpy as np

from cures.checks import FloatArray
from sim.policy import Policy
from sim.validation.check import Check, Result, Setting, largest_z, relative_error
from sim.validation.contributions import (
    RATE_P,
    answers_of,
    at_rate,
    curves,
    laws,
    rollouts_of,
    variance,
)
from sim.validation.expected import expected
from sim.validation.feature_laws import constant_norms, with_fillers
from sim.validation.small_policies import even_table, item_response, random_table
from theory.few_answers import K_0, K_1
from theory.gradient_shape import G
from theory.gradient_std import L
from theory.score_law import D
from theory.symbols import p
from theory.two_answers import filler


def slope_of_logit(built: tuple[Policy, FloatArray]) -> FloatArray:
    """|grad logit p| of every prompt: |grad p| over p (1 - p)."""
    return np.array(
        [
            float(np.linalg.norm(law.gradient_D)) / (law.success_rate * (1 - law.success_rate))
            for law in laws(built)
        ]
    )


def _two_answers(setting: Setting) -> Result:
    found, right, wrong, error = [], [], [], []
    for built in (
        item_response(RATE_P, setting.generator),
        random_table(RATE_P, setting.generator, answers=2, right=1),
    ):
        at = {p: RATE_P, L: slope_of_logit(built)}
        mean_P, error_P = rollouts_of(built, setting.draws // 2, setting.generator)
        found.append(mean_P)
        error.append(error_P)
        right.append(expected("5.5", "variance", at))
        wrong.append(expected("5.3", "even", {p: RATE_P, G: at[L], D: 0.0}))
    return largest_z(
        np.concatenate(found), np.concatenate(right), np.concatenate(error), np.concatenate(wrong),
        where=at_rate, arrays=curves(found[1], right[1], error[1]),
    )  # fmt: skip


def _zero_at_half(setting: Setting) -> Result:
    """1 + sigma^2 at p = 1/2: relative errors need something that is not 0."""
    half_P = np.full(5, 0.5)
    built = item_response(half_P, setting.generator)
    mean_P, _ = rollouts_of(built, 1000, setting.generator)
    at = {p: half_P, L: slope_of_logit(built)}
    return relative_error(
        1.0 + mean_P,
        1.0 + expected("5.5", "variance", at),
        1.0 + expected("5.3", "even", {p: half_P, G: at[L], D: 0.0}),
        tolerance=1e-12,
    )


def _few_answers(setting: Setting) -> Result:
    found, right, wrong, error, kinds = [], [], [], [], ((1, 1), (2, 2), (3, 3), (1, 30))
    for many, few in kinds:
        built = even_table(RATE_P, many, few)
        mean_P, error_P = rollouts_of(built, setting.draws // len(kinds), setting.generator)
        found.append(mean_P)
        error.append(error_P)
        right.append(expected("5.7", "table", {p: RATE_P, K_1: many, K_0: few}))
        wrong.append(expected("5.7", "table", {p: RATE_P, K_1: many + 1, K_0: few}))
    arrays = {
        f"{many}_{few}_{name}": part[i]
        for i, (many, few) in enumerate(kinds)
        for name, part in (("measured_P", found), ("expected_P", right), ("error_P", error))
    }
    return largest_z(
        np.concatenate(found), np.concatenate(right), np.concatenate(error), np.concatenate(wrong),
        where=lambda i: f"{kinds[i // RATE_P.size]} answers, {at_rate(i % RATE_P.size)}",
        arrays={"rate_P": RATE_P, **arrays},
    )  # fmt: skip


RATIOS = (1.0, 2.0, 2.2)  # D^2 / G^2: a bell, the last bell, two humps


def grid_of(ratio: float) -> FloatArray:
    """Success rates at which scores can be so far apart (claim 5.4), at most [0.1, 0.9]."""
    reach = float(expected("5.4", "reach", {G: 1.0, D: ratio**0.5}))
    high = min(0.9, reach - 1e-9)
    return np.linspace(1.0 - high, high, RATE_P.size)


def _norm_ratio(setting: Setting) -> Result:
    arrays: dict[str, FloatArray] = {}
    found, right, wrong, error = [], [], [], []
    for ratio in RATIOS:
        rate_P = grid_of(ratio)
        law_P = [constant_norms(float(rate), ratio) for rate in rate_P]
        mean_P, error_P = answers_of(law_P, setting.draws // len(RATIOS), setting.generator)
        found.append(mean_P)
        error.append(error_P)
        right.append(expected("5.3", "even", {p: rate_P, G: 1.0, D: ratio**0.5}))
        wrong.append(expected("5.3", "even", {p: rate_P, G: 1.0, D: 0.0}))
        arrays |= {
            f"{ratio:g}_{k}": v for k, v in curves(mean_P, right[-1], error_P, rate_P).items()
        }
    return largest_z(
        np.concatenate(found), np.concatenate(right), np.concatenate(error), np.concatenate(wrong),
        where=lambda i: f"D^2 = {RATIOS[i // RATE_P.size]:g} G^2", arrays=arrays,
    )  # fmt: skip


def _valley(setting: Setting) -> Result:
    """Variance at the hump over that at p = 1/2, by the sum over answers, past the threshold."""
    at = {G: 1.0, D: RATIOS[-1] ** 0.5}
    product = float(expected("5.3", "hump", at))
    rates = 0.5 - (0.25 - product) ** 0.5, 0.5
    hump, middle = (float(variance(constant_norms(rate, RATIOS[-1]))) for rate in rates)
    right = expected("5.3", "top", at) / expected("5.3", "even", {**at, p: 0.5})
    return relative_error(hump / middle, right, 1.0)


def _fillers(setting: Setting) -> Result:
    found, right, wrong, error, token_P = [], [], [], [], (0, 1, 4, 8)
    for tokens in token_P:
        law_P = [with_fillers(float(rate), tokens) for rate in RATE_P]
        mean_P, error_P = answers_of(law_P, setting.draws // len(token_P), setting.generator)
        found.append(mean_P)
        error.append(error_P)
        at = {p: RATE_P, L: 2.0**0.5, filler: tokens / 2.0}
        right.append(expected("5.6", "variance", at))
        wrong.append(expected("5.6", "variance", {**at, filler: (tokens + 1) / 2.0}))
    arrays = {
        f"{tokens}_{name}": part[i]
        for i, tokens in enumerate(token_P)
        for name, part in (("measured_P", found), ("expected_P", right), ("error_P", error))
    }
    return largest_z(
        np.concatenate(found), np.concatenate(right), np.concatenate(error), np.concatenate(wrong),
        where=at_rate, arrays={"rate_P": RATE_P, **arrays},
    )  # fmt: skip


CHECKS = (
    Check(
        "two-answers", ("5.5",),
        "item response and tables of two answers: measured variance",
        "the bell p(1-p)", _two_answers, is_random=True,
    ),
    Check(
        "zero-at-half", ("5.5",),
        "item response at p = 1/2: measured variance, plus 1",
        "the bell p(1-p)", _zero_at_half,
    ),
    Check(
        "few-answers", ("5.7",),
        "tables of 1+1, 2+2, 3+3 and 1+30 answers: measured variance",
        "one right answer more", _few_answers, is_random=True,
    ),
    Check(
        "norm-ratio", ("5.3", "5.4"),
        "constant score norms, D^2 of 1, 2 and 2.2 G^2: measured variance",
        "the bell p(1-p) G^2", _norm_ratio, is_random=True,
    ),
    Check(
        "valley", ("5.3",),
        "D^2 = 2.2 G^2: variance at the hump over that at p = 1/2",
        "no valley", _valley,
    ),
    Check(
        "fillers", ("5.6",),
        "one deciding token and 0, 1, 4, 8 that do not matter: measured variance",
        "one filler token more", _fillers, is_random=True,
    ),
)  # fmt: skip
