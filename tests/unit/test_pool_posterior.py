"""The prior that follows the pool."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from cures.pool_posterior import FIRST_GUESS, STRENGTH, PoolPosterior
from cures.potential import prob_mixed


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
    damages += [{"stamp_N": np.full(4, 9)}, {"faded_S": np.zeros(3)}, {"faded_S": [-1.0]}]
    for damage in damages:
        with pytest.raises(ValueError, match=next(iter(damage))):
            posterior.load_state_dict({**state, **damage, "success_N": np.ones(4)})
    with pytest.raises(ValueError, match="state must be a dict with keys"):
        posterior.load_state_dict({k: v for k, v in state.items() if k != "pool"})
    assert np.array_equal(posterior.state_dict()["success_N"], state["success_N"])
    assert posterior.prior() != PoolPosterior(4, visits_per_step=2).prior()
    assert FIRST_GUESS.tolist() == [4.0, 2.0, 1.5]
