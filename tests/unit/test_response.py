"""Whether success rates respond to training: odds by Bayes, the share of steady prompts by EM."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats
from scipy.special import betaln

from cures.beta_binomial import log_beta_binomial
from cures.followed import MOST
from cures.response import COUNTED, FIRST_SHARE, LAST_COUNTED, LIMIT, Response

HALVES = (0.5, 0.5)


def seen(groups, *, steps, prior=HALVES, prompts=None):
    """One prompt (or several), told of (success, trial) at these updates."""
    prompts = [0] if prompts is None else prompts
    response = Response(max(prompts) + 1)
    before = 0
    for (success, trial), step in zip(groups, steps, strict=True):
        told(response, prompts, success, trial, step - before, prior=prior)
        before = step if trial else before
    return response


def told(response, prompts, success, trial, age, *, prior=HALVES):
    """Groups of these prompts; numbers are of them all."""
    prompt = np.asarray(prompts)
    success, trial, age = (np.broadcast_to(a, prompt.shape) for a in (success, trial, age))
    response.told(prompt, success, trial, prior=prior, age_B=age)


def test_chance_of_a_sequence_is_scipys():
    success, trial = np.array([0, 3, 8]), np.array([8, 8, 8])
    alpha, beta = np.array([0.5, 2.0, 3.0]), np.array([0.5, 1.0, 4.0])
    # scipy's is of a count: so many sequences have it
    orders = np.log([1.0, 56.0, 1.0])
    expected = stats.betabinom.logpmf(success, trial, alpha, beta) - orders
    np.testing.assert_allclose(log_beta_binomial(success, trial, alpha, beta), expected)


def test_odds_by_hand():
    response = seen([(2, 4), (1, 4), (3, 4)], steps=[0, 16, 48], prior=(0.5, 1.5))
    # steady: predictions multiply to the chance of all groups under Beta(1, 1), less the first one's
    steady = betaln(1 + 6, 1 + 6) - betaln(1 + 2, 1 + 2)
    # moving: the last group times e^(-age/16), beside the prior
    one, two = np.exp(-1.0), np.exp(-2.0)
    moving = betaln(0.5 + 2 * one + 1, 1.5 + 2 * one + 3) - betaln(0.5 + 2 * one, 1.5 + 2 * one)
    moving += betaln(0.5 + two + 3, 1.5 + 3 * two + 1) - betaln(0.5 + two, 1.5 + 3 * two)
    # odds are kept in single precision
    assert response.log_odds_N[0] == pytest.approx(steady - moving, rel=1e-6)
    # odds of the pool, 1 to 9, times those of the prompt
    odds = np.exp(steady - moving) / 9
    assert response.prob_steady()[0] == pytest.approx(odds / (1 + odds), rel=1e-6)
    assert FIRST_SHARE == 0.1


def test_one_visit_says_nothing_nor_do_its_parts():
    whole = seen([(4, 8), (3, 8)], steps=[0, 50])
    parts = seen([(2, 3), (2, 5), (0, 0), (3, 8)], steps=[0, 0, 10, 50])
    assert seen([(4, 8)], steps=[0]).log_odds_N[0] == 0.0
    assert seen([(2, 3), (2, 5)], steps=[0, 0]).log_odds_N[0] == 0.0
    assert parts.log_odds_N[0] == whole.log_odds_N[0] != 0.0
    assert seen([(4, 8)], steps=[0]).weight(0.05)[0] == 1.0


def pool(rate_S_N, *, seed=0, gap=30, n=8):
    """Told of every prompt at every of S visits, ``gap`` updates apart; EM after every visit."""
    generator = np.random.default_rng(seed)
    response = Response(rate_S_N.shape[1])
    everyone = np.arange(rate_S_N.shape[1])
    for visit, rate_N in enumerate(rate_S_N):
        success = generator.binomial(n, rate_N)
        told(response, everyone, success, n, gap if visit else 0, prior=(0.7, 0.7))
        for _ in range(gap):
            response.updated()
    return response


def learned(visits, size, *, seed=0):
    """Success rates that rise by one logit a visit, from a rate below one half."""
    start = np.random.default_rng(seed).uniform(-2.5, -0.5, size)
    return 1.0 / (1.0 + np.exp(-(start + np.arange(visits)[:, None])))


def test_coins_are_found_among_prompts_that_learn():
    rate = np.hstack([np.full((8, 400), 0.5), learned(8, 600)])
    response = pool(rate)
    weight = response.weight(0.05)
    # what is found is less than what is there, as eight visits leave doubts
    truth = np.mean(np.flatnonzero(response.is_middling()) < 400)
    assert 0.5 * truth < response.share < truth
    assert weight[:400].mean() < 0.5 * weight[400:].mean()
    assert weight[400:].mean() > 0.8


def test_without_coins_little_is_taken():
    response = pool(learned(5, 1000))
    assert response.share < 0.15
    assert response.weight(0.05).mean() > 0.9


def test_where_nothing_moves_nothing_is_done():
    """A learning rate of nearly zero: all look steady, which tells them apart no more than before."""
    rate = np.tile(np.random.default_rng(1).uniform(0.25, 0.75, 1000), (12, 1))
    response = pool(rate)
    assert response.share > 0.9
    # by hand: nobody is left less than 2 share - 1
    assert response.weight(0.05).min() == pytest.approx(2.0 * response.share - 1.0)
    # without the guard, the floor would be all that is left of them
    alone = (1.0 - response.prob_steady()) / (1.0 - response.share)
    assert (alone[response.is_middling()] < 0.5).any()


def test_hopeless_and_mastered_prompts_are_not_judged():
    for success in (0, 8):
        response = seen([(success, 8)] * 6, steps=range(0, 240, 40))
        assert response.log_odds_N[0] > 1.0  # steady it is
        assert response.weight(0.05)[0] == 1.0
        response.updated()
        assert response.share == FIRST_SHARE


def test_whoever_begins_to_move_is_believed_soon():
    response = seen([(4, 8)] * 100, steps=range(0, 4000, 40))
    assert response.log_odds_N[0] == LIMIT
    for _ in range(4):
        told(response, [0], 8, 8, 40)
    assert response.log_odds_N[0] < 0.0


def test_prompts_have_no_order():
    generator = np.random.default_rng(0)
    order = generator.permutation(50)
    place = np.argsort(order)
    one, other = Response(50), Response(50)
    for _ in range(3):
        prompt, success = generator.choice(50, 30, replace=False), generator.integers(0, 9, 30)
        told(one, prompt, success, 8, 30)
        told(other, place[prompt], success, 8, 30)
    np.testing.assert_array_equal(other.log_odds_N, one.log_odds_N[order])


def test_states_come_back_and_damaged_ones_are_refused():
    response = seen([(4, 8), (3, 8)], steps=[0, 9], prompts=[0, 2])
    response.updated()
    again = Response.from_state(response.state_dict(), 3)
    for key, value in response.state_dict().items():
        np.testing.assert_array_equal(getattr(again, key), value)
    for key, value in (
        ("success_N", np.array([9, 9, 99])),
        ("last_success_N", np.array([9, 9, 99])),
        ("last_trial_N", np.array([8, 0, 99])),
        ("trial_N", np.array([1, 2])),
        ("log_odds_N", np.array([0.0, np.nan, 0.0])),
        ("share", 1.0),
    ):
        with pytest.raises(ValueError, match=key):
            Response.from_state({**response.state_dict(), key: value}, 3)
    with pytest.raises(ValueError, match="state must be a dict with keys"):
        Response.from_state({}, 3)


def test_more_rollouts_than_can_be_held_are_halved():
    response = seen([(30_000, 60_000), (3_000, 6_000)], steps=[0, 9])
    assert [response.success_N[0], response.trial_N[0]] == [16_500, 33_000]
    # by hand: 6000 halved five times
    assert [response.last_success_N[0], response.last_trial_N[0]] == [93, 187]
    huge = seen([(100_000, 300_000)], steps=[0])
    assert [huge.success_N[0], huge.trial_N[0]] == [12_500, 37_500]
    assert (COUNTED, LAST_COUNTED) == (65_535, 255)


def test_of_large_pools_a_part_says_what_share_is_steady():
    size = 4 * MOST
    response = Response(size)
    for step in range(0, 400, 40):  # every fourth prompt is a coin that shows one half each time
        success = np.where(np.arange(size) % 4 == 0, 4, 8 * (step // 40 % 2))
        told(response, np.arange(size), success, 8, 40)
        response.updated()
    for _ in range(50):
        response.updated()
    assert response.share > 0.9  # the followed ones are all coins


def test_pools_grow():
    response = seen([(4, 8), (3, 8)], steps=[0, 9])
    grown = response.extended(2)
    assert grown.trial_N.tolist() == [16, 0, 0]
    assert grown.last_trial_N.tolist() == [8, 0, 0]
    assert response.trial_N.tolist() == [16]
