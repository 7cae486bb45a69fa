"""From initial success rates to prompts: what each policy draws around them.

The success rates are given; a policy adds what they leave open (which skills a prompt needs, along
which abilities it loads, which answers are right) and solves for the offset at which every prompt has
its rate. Categories, where there are any, share part of that structure: training on a prompt moves
its own category more than the others.
"""

from __future__ import annotations

import numpy as np
from scipy.special import logit

from cures.checks import FloatArray, IntArray
from sim.item_response import ItemResponse
from sim.policy import FloatMatrix, Policy
from sim.skills import Skills, threshold_for_success_rate
from sim.tabular import Tabular, logits_for_success_rate

# Share of the structure's variance that is a category's own; the rest is the prompt's, or everyone's.
CATEGORY_SHARE = 0.5
NUM_SKILLS, LONGEST_CHAIN = 500, 8
SHARED_SKILLS = (
    100  # with categories: skills 0 ... 99 are everyone's, equal blocks of the rest theirs
)
# Mean square of a loading's length. The default (0.5, 1.0) makes the mean inner product of two
# prompts' loadings 0.25, a transfer of 0.2.
LOADING_MEAN, LOADING_SCATTER = 0.5, 1.0
LOADING_SQUARE = LOADING_MEAN**2 + LOADING_SCATTER**2


def build_prompts(
    policy: str,
    size: int,
    rate_N: FloatArray | None,
    generator: np.random.Generator,
    *,
    category_N: IntArray | None = None,
    transfer: float | None = None,
) -> tuple[Policy, FloatArray]:
    """Build a policy over ``size`` prompts, and its initial parameters.

    Parameters
    ----------
    policy : {'skills', 'item_response', 'tabular'}
    size : int
    rate_N : ndarray of float64, shape (size,), optional
        Initial success rates in (0, 1). ``None``, for skills alone: whatever the skills give.
    generator : numpy.random.Generator
    category_N : ndarray of int64, shape (size,), optional
    transfer : float in [0, 1], optional
        For item response alone: mean inner product of two prompts' loadings over their mean square.
    """
    if policy == "skills":
        return _skills(size, rate_N, generator, category_N)
    assert rate_N is not None
    if policy == "item_response":
        return _item_response(size, rate_N, generator, category_N, transfer)
    return _tabular(size, rate_N, generator, category_N)


def _skills(
    size: int,
    rate: FloatArray | None,
    generator: np.random.Generator,
    category_N: IntArray | None,
) -> tuple[Policy, FloatArray]:
    """500 skills of unequal popularity and strength, rotated; chains of 1 to 8 steps."""
    skill = generator.normal(0.8, 1.5, NUM_SKILLS)
    if category_N is None:
        chain = _popular(generator, NUM_SKILLS, size)
    else:
        block = (NUM_SKILLS - SHARED_SKILLS) // (int(category_N.max()) + 1)
        own = SHARED_SKILLS + block * category_N[:, None] + _popular(generator, block, size)
        is_own = generator.random((size, LONGEST_CHAIN)) < CATEGORY_SHARE
        chain = np.where(is_own, own, _popular(generator, SHARED_SKILLS, size))
    length = generator.integers(1, LONGEST_CHAIN + 1, size)
    if rate is None:
        threshold = np.zeros(size)
    else:
        threshold = threshold_for_success_rate(skill, chain, length, rate)
    rotation, _ = np.linalg.qr(generator.standard_normal((NUM_SKILLS, NUM_SKILLS)))
    policy = Skills(chain, length, NUM_SKILLS, threshold, rotation)
    return policy, rotation.T @ skill


def _popular(generator: np.random.Generator, num_skills: int, size: int) -> IntArray:
    """Chains of skills, the k-th of which is needed in proportion to k^-0.7."""
    popularity = 1.0 / np.arange(1, num_skills + 1) ** 0.7
    shape = (size, LONGEST_CHAIN)
    return generator.choice(num_skills, size=shape, p=popularity / popularity.sum())


def _item_response(
    size: int,
    rate: FloatArray,
    generator: np.random.Generator,
    category_N: IntArray | None,
    transfer: float | None,
) -> tuple[Policy, FloatArray]:
    """32 abilities; loadings share a direction and scatter: prompts help and hinder each other."""
    width = 32
    mean, scatter = LOADING_MEAN, LOADING_SCATTER
    if transfer is not None:
        mean = np.sqrt(LOADING_SQUARE * transfer)
        scatter = np.sqrt(LOADING_SQUARE * (1.0 - transfer))
    own = _scatter(generator, size, width, category_N)
    loading = (mean + scatter * own) / np.sqrt(width)
    theta = np.zeros(width)
    return ItemResponse(loading, loading @ theta - logit(rate)), theta


def _tabular(
    size: int, rate: FloatArray, generator: np.random.Generator, category_N: IntArray | None
) -> tuple[Policy, FloatArray]:
    """Eight answers; which one or two are right is a linear rule of 16 features, to be learned."""
    answers, width = 8, 16
    features = _scatter(generator, size, width, category_N) / np.sqrt(width)
    merit = features @ generator.standard_normal((width, answers))
    rank = np.argsort(np.argsort(-merit, axis=1), axis=1)
    right = rank < generator.integers(1, 3, size)[:, None]
    offset = generator.normal(0.0, 0.5, (size, answers))
    offset = logits_for_success_rate(offset, right, rate)
    return Tabular(right, features, offset), np.zeros(width * answers)


def _scatter(
    generator: np.random.Generator, size: int, width: int, category_N: IntArray | None
) -> FloatMatrix:
    """Standard normal coordinates; those of one category have a part in common."""
    own = generator.standard_normal((size, width))
    if category_N is None:
        return own
    common = generator.standard_normal((int(category_N.max()) + 1, width))[category_N]
    return np.asarray(np.sqrt(CATEGORY_SHARE) * common + np.sqrt(1.0 - CATEGORY_SHARE) * own)
