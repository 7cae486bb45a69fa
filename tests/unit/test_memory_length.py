"""The memory that would have predicted best."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from cures.followed import MOST, stride
from cures.memory_length import SCORE_MEMORY, SHORTEST, MemoryLength
from cures.pool_posterior import PoolPosterior

UNIFORM = (1.0, 1.0)


def told(memory, rate_S_N, *, gap, n=8, seed=0, prior=UNIFORM):
    """Tell of all prompts at every of S visits, ``gap`` updates apart."""
    generator = np.random.default_rng(seed)
    everyone = np.arange(rate_S_N.shape[1])
    for visit, rate_N in enumerate(rate_S_N):
        success = generator.binomial(n, rate_N)
        memory.told(everyone, success, np.full(everyone.size, n), prior, visit * gap)
    return memory


def walk(visits, size, step, *, seed=1):
    """Success rates whose logits take a normal step between visits."""
    noise = np.random.default_rng(seed).normal(size=(visits, size)) * step
    return 1.0 / (1.0 + np.exp(-np.cumsum(noise, axis=0)))


def redrawn(visits, size, *, seed=1):
    """Success rates of which one visit says nothing about the next."""
    return np.random.default_rng(seed).choice([0.05, 0.95], (visits, size))


def test_scores_by_hand():
    memory = MemoryLength(2, start=16.0)
    assert memory.length_K.tolist() == [8.0, 16.0, 32.0, 64.0, 128.0]
    first, second = np.array([6, 1]), np.array([2, 3])
    prompt, n = np.array([0, 1]), np.array([8, 4])
    memory.told(prompt, first, n, UNIFORM, 3)
    assert memory.state_dict()["score_K"].tolist() == [0.0] * 5  # nothing was predicted yet
    memory.told(prompt, second, n, UNIFORM, 27, share=0.5)
    # 24 updates later, times share; scipy's law is of a count, whose number of orders all memories share
    kept_K = np.exp(-24.0 / memory.length_K)[:, None]
    orders = np.log([28.0, 4.0])
    law = stats.betabinom.logpmf(second, n, 1 + kept_K * first, 1 + kept_K * (n - first)) - orders
    np.testing.assert_allclose(memory.state_dict()["score_K"], 12.0 * law.sum(axis=1))
    # the prior: octaves off the start
    weight_K = np.exp(12.0 * law.sum(axis=1) - 0.5 * np.array([-1.0, 0.0, 1.0, 2.0, 3.0]) ** 2)
    octave = weight_K @ np.arange(3.0, 8.0) / weight_K.sum()
    assert memory.updates == pytest.approx(2.0**octave)
    # scores fade, evidence adds up as each memory keeps it
    before = memory.state_dict()["score_K"]
    memory.told(np.array([1]), np.array([4]), np.array([4]), UNIFORM, 37)
    kept, further = np.exp(-24.0 / memory.length_K), np.exp(-10.0 / memory.length_K)
    right, wrong = further * (kept * 1 + 3), further * (kept * 3 + 1)
    law = stats.betabinom.logpmf(4, 4, 1 + right, 1 + wrong)
    expected = before * np.exp(-10.0 / SCORE_MEMORY) + 10.0 * law
    np.testing.assert_allclose(memory.state_dict()["score_K"], expected)


def test_what_moves_faster_is_remembered_for_less():
    rates = [walk(20, 200, 0.0), walk(20, 200, 0.3), redrawn(20, 200)]
    steady, slow, anew = (told(MemoryLength(200, start=64.0), r, gap=10).updates for r in rates)
    assert steady > slow > anew
    # where nothing moves the longest of all, where nothing lasts the shortest
    lengths = MemoryLength(200, start=64.0).length_K
    assert steady == pytest.approx(lengths[-1], rel=0.25)
    assert anew == pytest.approx(lengths[0], rel=0.01)


def test_without_second_visits_it_stays_what_it_was():
    memory = MemoryLength(50, start=64.0)
    assert memory.updates == pytest.approx(
        64.0, rel=0.02
    )  # octaves from 3 to 9, cut off at the ends
    at_first = memory.updates
    told(memory, walk(1, 50, 1.0), gap=1)
    # parts of one visit predict nothing
    memory.told(np.arange(50), np.full(50, 8), np.full(50, 8), UNIFORM, 0)
    assert memory.updates == at_first


def test_prompts_have_no_order():
    order = np.random.default_rng(0).permutation(100)
    rate = walk(6, 100, 1.0)
    generator = np.random.default_rng(3)
    one, other = MemoryLength(100, 32.0), MemoryLength(100, 32.0)
    for visit in range(6):
        success, n = generator.binomial(8, rate[visit]), np.full(100, 8)
        one.told(np.arange(100), success, n, UNIFORM, 10 * visit)
        other.told(order, success, n, UNIFORM, 10 * visit)
        assert one.updates == other.updates


def test_of_large_pools_a_part_is_followed():
    size = 8 * MOST
    memory = MemoryLength(size, start=64.0)
    state = memory.state_dict()
    assert state["step_N"].size == MOST
    prompt = np.arange(0, size, 4)
    for visit in range(8):  # every second one of these is followed; the others contradict them
        success = np.where(prompt % 8 == 0, 4, 8 * (visit % 2))
        memory.told(prompt, success, np.full(prompt.size, 8), UNIFORM, 10 * visit)
    assert memory.updates > 200.0


def test_states_come_back_and_damaged_ones_are_refused():
    memory = told(MemoryLength(5, start=16.0), walk(4, 5, 1.0), gap=10)
    state = memory.state_dict()
    again = MemoryLength(5, start=16.0)
    again.load_state_dict(state, step=30)
    assert again.updates == memory.updates
    for one in (memory, again):
        told(one, walk(1, 5, 1.0), gap=10)
    assert again.updates == memory.updates
    for key, value in (
        ("success_K_N", np.full(25, -1.0)),
        ("failure_K_N", np.zeros(3)),
        ("step_N", np.full(5, 99)),
        ("score_K", np.full(5, np.nan)),
        ("score_step", -1),
    ):
        with pytest.raises(ValueError, match=key):
            again.load_state_dict({**state, key: value}, step=30)
    with pytest.raises(ValueError, match="state must be a dict with keys"):
        again.load_state_dict({}, step=30)
    with pytest.raises(ValueError, match="start must be"):
        MemoryLength(5, start=0.5)
    assert SHORTEST == 3


@pytest.mark.parametrize("size", [1, 4_095, 4_096, 4_097, 12_289, 10**7])
def test_followed_are_as_many_as_may_be(size):
    step = stride(size)
    assert -(-size // step) <= MOST
    assert step == 1 or -(-size // (step // 2)) > MOST


def test_in_a_pool_that_grows_those_that_stay_keep_what_was_seen():
    memory = told(MemoryLength(3_000, start=16.0), walk(3, 3_000, 1.0), gap=10)
    before, grown = memory.state_dict(), memory.extended(6_000)
    after = grown.state_dict()
    # by hand: 9000 prompts, every fourth one followed, of whom 750 were there
    assert after["step_N"].tolist() == [20] * 750 + [-1] * 1_500
    for name in ("success_K_N", "failure_K_N"):
        was, is_ = (a[name].reshape(memory.length_K.size, -1) for a in (before, after))
        np.testing.assert_array_equal(is_[:, :750], was[:, ::4])
    assert grown.updates == memory.updates
    # as good as new: a memory of that size takes its state
    again = MemoryLength(9_000, start=16.0)
    again.load_state_dict(after, step=20)
    assert again.updates == grown.updates


def test_the_posterior_fades_as_the_memory_says():
    posterior = PoolPosterior(4, visits_per_step=2, forgetting=0.1, choose_memory=True)
    posterior.update([0, 1], [8, 2], [8, 8])
    per_update = [posterior.memory.updates] * 3
    for _ in per_update:
        posterior.advance()
    kept = np.exp(-sum(1.0 / updates for updates in per_update))
    np.testing.assert_allclose(posterior.evidence()[0], [8 * kept, 2 * kept, 0.0, 0.0])
    posterior.update([0], [0], [8])  # predicted badly by a long memory
    assert posterior.memory.updates < per_update[0]
    np.testing.assert_allclose(posterior.evidence([0]), [[8 * kept], [8.0]])
    again = PoolPosterior(4, visits_per_step=2, forgetting=0.1, choose_memory=True)
    again.load_state_dict(posterior.state_dict())
    for one in (posterior, again):
        one.advance(5)
    np.testing.assert_array_equal(again.evidence(), posterior.evidence())
    with pytest.raises(ValueError, match="forgetting must be"):
        PoolPosterior(4, visits_per_step=2, choose_memory=True)
    with pytest.raises(ValueError, match="at_step must be"):
        posterior.evidence(at_step=9)
    with pytest.raises(ValueError, match="prompt_B must be distinct"):
        posterior.update([0, 0], [1, 1], [8, 8])


def test_evidence_that_has_faded_away_is_none_and_takes_no_memory():
    posterior = PoolPosterior(3, visits_per_step=1, forgetting=0.1, choose_memory=True)
    posterior.update([0, 1], [4, 4], [8, 8])
    fading = 1.0 / posterior.memory.updates
    updates = int(40.0 / fading)
    posterior.advance(updates)
    np.testing.assert_allclose(posterior.evidence([0])[0], 4.0 * np.exp(-updates * fading))
    for _ in range(2_000):
        posterior.advance()
        posterior.update([1], [4], [8])
    assert posterior.evidence([0]) == (0.0, 0.0)
    # by hand: e^-40 is reached after 40 memories
    longest = 40.0 * posterior.memory.length_K[-1]
    assert posterior.state_dict()["faded_S"].size <= min(longest, 2_000 + updates) + 1
    again = PoolPosterior(3, visits_per_step=1, forgetting=0.1, choose_memory=True)
    again.load_state_dict(posterior.state_dict())
    np.testing.assert_array_equal(again.evidence(), posterior.evidence())


def test_the_fading_clock_is_kept_as_far_back_as_there_is_evidence():
    posterior = PoolPosterior(9, visits_per_step=2, forgetting=0.002, choose_memory=True)
    generator = np.random.default_rng(0)
    evidence_N, sizes = np.zeros(9), []
    for step in range(2_000):
        # prompts 6 and 7 once, then never again until step 1000; 8 never
        prompt = np.array([6, 7]) if step in (0, 1_000) else generator.choice(6, 2, replace=False)
        posterior.update(prompt, [8, 8], [8, 8])
        evidence_N[prompt] += 8.0
        evidence_N *= np.exp(-1.0 / posterior.memory.updates)  # by hand, update by update
        posterior.advance()
        sizes.append(posterior.state_dict()["faded_S"].size)
        if step % 97 == 0:
            # evidence is held in single precision
            np.testing.assert_allclose(posterior.evidence()[0], evidence_N, rtol=3e-6)
    # 1000 updates back and now; what is held beyond is let go from time to time
    assert max(sizes) == 1_001
    # then the oldest is that of one of six, two of whom are told of at every update: (2/3)^100 for more
    assert sizes[1_001] < 100
    assert posterior._faded_S.size <= 2 * max(sizes) + 64


@pytest.mark.parametrize(
    "damage",
    [
        {"faded_S": -np.arange(13.0)},
        {"faded_S": np.arange(13, 0, -1.0)},
        {"memory/score_step": -1},
        {"success_N": np.full(4, -1.0)},
    ],
    ids=lambda damage: next(iter(damage)),
)
def test_a_damaged_state_changes_nothing(damage):
    def told(success):
        posterior = PoolPosterior(4, visits_per_step=2, forgetting=0.1, choose_memory=True)
        for _ in range(3):
            posterior.update([0, 1], success, [8, 8])
            posterior.advance(4)
        return posterior

    posterior, other = told([0, 8]), told([4, 5])
    before = posterior.state_dict()
    with pytest.raises(ValueError, match=next(iter(damage)).rpartition("/")[2]):
        posterior.load_state_dict({**other.state_dict(), **damage})
    for key, value in posterior.state_dict().items():
        np.testing.assert_array_equal(value, before[key])
    assert posterior.memory.updates != other.memory.updates
