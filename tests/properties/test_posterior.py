"""Laws that the posterior obeys for any evidence."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from cures.posterior import BetaPosterior, expected_mixed, expected_potential, expected_variance

POOL = 6
outcome = st.tuples(st.integers(0, POOL - 1), st.integers(0, 20), st.integers(0, 20))
# (prompt, right, wrong) triples, and after each batch a number of policy updates
history = st.lists(st.tuples(st.lists(outcome, max_size=8), st.integers(0, 5)), max_size=6)
counts = st.floats(1e-3, 1e9)


def feed(posterior, batch):
    prompt, right, wrong = (np.array(c, dtype=np.int64) for c in zip(*batch, strict=True))
    posterior.update(prompt, right, right + wrong)


def fill(posterior, past):
    for batch, steps in past:
        if batch:
            feed(posterior, batch)
        posterior.advance(steps)
    return posterior


def bits(posterior):
    return [part.tobytes() for part in posterior.alpha_beta()]


@given(
    batch=st.lists(outcome, min_size=1, max_size=12),
    cut=st.integers(0, 12),
    seed=st.integers(0, 99),
)
def test_halves_and_order_do_not_matter_without_forgetting(batch, cut, seed):
    whole, parts = BetaPosterior(POOL), BetaPosterior(POOL)
    feed(whole, batch)
    shuffled = [batch[i] for i in np.random.default_rng(seed).permutation(len(batch))]
    for part in (shuffled[:cut], shuffled[cut:]):
        if part:
            feed(parts, part)
    assert bits(whole) == bits(parts)


@given(past=history, forgetting=st.sampled_from([0.0, 0.1, 0.9]), seed=st.integers(0, 99))
def test_renumbering_prompts_renumbers_the_posterior_exactly(past, forgetting, seed):
    order = np.random.default_rng(seed).permutation(POOL)
    renumbered = [([(int(order[i]), s, f) for i, s, f in batch], steps) for batch, steps in past]
    first = fill(BetaPosterior(POOL, forgetting=forgetting), past)
    second = fill(BetaPosterior(POOL, forgetting=forgetting), renumbered)
    for a, b in zip(first.alpha_beta(), second.alpha_beta(order), strict=True):
        assert a.tobytes() == b.tobytes()


@given(past=history, more=history, forgetting=st.sampled_from([0.0, 0.1, 0.9]))
def test_saving_and_loading_anywhere_changes_no_bit(past, more, forgetting):
    straight = fill(fill(BetaPosterior(POOL, forgetting=forgetting), past), more)
    resumed = BetaPosterior(POOL, forgetting=forgetting)
    resumed.load_state_dict(fill(BetaPosterior(POOL, forgetting=forgetting), past).state_dict())
    assert bits(fill(resumed, more)) == bits(straight)


@given(past=history, forgetting=st.sampled_from([0.1, 0.9]), steps=st.integers(1, 2000))
def test_forgetting_moves_every_count_towards_the_prior(past, forgetting, steps):
    posterior = fill(BetaPosterior(POOL, prior=(0.5, 2.0), forgetting=forgetting), past)
    before = posterior.alpha_beta()
    posterior.advance(steps)
    for old, new, prior in zip(before, posterior.alpha_beta(), (0.5, 2.0), strict=True):
        assert (new <= old).all()
        assert (new >= prior).all()


@given(alpha=counts, beta=counts, n=st.integers(2, 2000))
@settings(deadline=None)
def test_moments_are_symmetric_and_ordered(alpha, beta, n):
    variance, potential = expected_variance(alpha, beta), expected_potential(alpha, beta)
    mixed = expected_mixed(alpha, beta, n)
    assert 0 < variance <= potential / 2 * (1 + 1e-12)  # p (1-p) <= sqrt(p (1-p)) / 2
    assert potential <= np.sqrt(variance) * (1 + 1e-12)  # Jensen
    total = alpha + beta
    assert variance <= (alpha / total) * (beta / total) * (1 + 1e-12)  # Jensen
    # p (1-p) = mixed(2) / 2, and a larger group is mixed more often, at most n / 2 times as often.
    assert 2 * variance <= mixed * (1 + 1e-12)
    assert mixed <= n * variance * (1 + 1e-12) * (n - 1)
    for moment in (expected_variance, expected_potential):
        assert np.isclose(moment(alpha, beta), moment(beta, alpha), rtol=1e-14, atol=0)
    assert np.isclose(mixed, expected_mixed(beta, alpha, n), rtol=1e-14, atol=0)
