"""Small policies of the simulator with wanted success rates, for the checks."""

from __future__ import annotations

import numpy as np
from scipy.special import logit

from cures.checks import FloatArray, IntArray
from sim.item_response import ItemResponse
from sim.policy import FloatMatrix, IntMatrix
from sim.skills import Skills, threshold_for_success_rate
from sim.tabular import Tabular, logits_for_success_rate


def random_table(
    rate_N: FloatArray, generator: np.random.Generator, *, answers: int = 5, right: int = 2
) -> tuple[Tabular, FloatArray]:
    """A logit for every answer of every prompt; the first ``right`` answers are right."""
    size = rate_N.size
    is_right_N_K = np.tile(np.arange(answers) < right, (size, 1))
    logit_N_K = logits_for_success_rate(
        generator.standard_normal((size, answers)), is_right_N_K, rate_N
    )
    return Tabular(is_right_N_K), logit_N_K.ravel()


def one_table(
    rate_N: FloatArray, generator: np.random.Generator, *, answers: int = 5, right: int = 2
) -> tuple[Tabular, FloatArray]:
    """The same table for all prompts, but for the success rate."""
    is_right_N_K = np.tile(np.arange(answers) < right, (rate_N.size, 1))
    logit_N_K = np.tile(generator.standard_normal(answers), (rate_N.size, 1))
    return Tabular(is_right_N_K), logits_for_success_rate(logit_N_K, is_right_N_K, rate_N).ravel()


def even_table(rate_N: FloatArray, right: int, wrong: int) -> tuple[Tabular, FloatArray]:
    """Right answers share the success rate evenly, wrong ones the rest."""
    shape = rate_N.size, right + wrong
    is_right_N_K = np.tile(np.arange(right + wrong) < right, (rate_N.size, 1))
    logit_N_K = logits_for_success_rate(np.zeros(shape), is_right_N_K, rate_N)
    return Tabular(is_right_N_K), logit_N_K.ravel()


def shared_table(
    rate_N: FloatArray, feature_N_F: FloatMatrix, generator: np.random.Generator
) -> tuple[Tabular, FloatArray]:
    """Six answers, two of them right, logits that share weights through features."""
    is_right_N_K = np.tile(np.arange(6) < 2, (rate_N.size, 1))
    offset_N_K = logits_for_success_rate(
        generator.standard_normal((rate_N.size, 6)), is_right_N_K, rate_N
    )
    return Tabular(is_right_N_K, feature_N_F, offset_N_K), np.zeros(feature_N_F.shape[1] * 6)


def random_chains(
    rate_N: FloatArray, generator: np.random.Generator, *, skills: int = 12, longest: int = 4
) -> tuple[Skills, FloatArray]:
    """Chains of 1 to ``longest`` distinct skills."""
    chain_N_L = np.array([generator.permutation(skills)[:longest] for _ in rate_N])
    length_N = np.resize(np.arange(1, longest + 1), rate_N.size)
    return _chains(rate_N, chain_N_L, length_N, generator.normal(0.5, 1.0, skills))


def one_chain(
    rate_N: FloatArray, generator: np.random.Generator, steps: int
) -> tuple[Skills, FloatArray]:
    """The same chain of distinct skills for all prompts, but for how demanding its steps are."""
    chain_N_L = np.tile(np.arange(steps), (rate_N.size, 1))
    skill_K = generator.normal(0.0, 0.7, steps)
    return _chains(rate_N, chain_N_L, np.full(rate_N.size, steps), skill_K)


def repeating_chains(
    rate_N: FloatArray, generator: np.random.Generator
) -> tuple[Skills, FloatArray]:
    """Chains of three steps of which the first and the last use one skill."""
    chain_N_L = np.tile([0, 1, 0], (rate_N.size, 1))
    return _chains(rate_N, chain_N_L, np.full(rate_N.size, 3), generator.normal(0.5, 0.5, 2))


def _chains(
    rate_N: FloatArray, chain_N_L: IntMatrix, length_N: IntArray, skill_K: FloatArray
) -> tuple[Skills, FloatArray]:
    threshold_N = threshold_for_success_rate(skill_K, chain_N_L, length_N, rate_N)
    return Skills(chain_N_L, length_N, skill_K.size, threshold_N), skill_K


def one_skill_chains(pass_rate: float, longest: int) -> tuple[Skills, FloatArray]:
    """Chains of 1 ... ``longest`` steps on one skill, each passed with the given chance."""
    length_N = np.arange(1, longest + 1)
    chain_N_L = np.zeros((longest, longest), dtype=np.int64)
    return Skills(chain_N_L, length_N, 1, np.zeros(longest)), logit(np.array([pass_rate]))


def item_response(
    rate_N: FloatArray, generator: np.random.Generator
) -> tuple[ItemResponse, FloatArray]:
    """Three abilities, loadings of different lengths."""
    loading_N_D = generator.standard_normal((rate_N.size, 3))
    return ItemResponse(loading_N_D, -logit(rate_N)), np.zeros(3)
