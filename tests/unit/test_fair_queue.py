"""The fair queue: visits follow shares, whatever these do."""

from __future__ import annotations

import numpy as np
import pytest

from cures.fair_queue import FairQueue


def visits(share_N, plans, size, *, seed=0, independent=False):
    """Visits of each prompt after every plan, shape (plans, N)."""
    generator = np.random.default_rng(seed)
    queue = FairQueue.shuffled(share_N.size, generator)
    queue.renew(share_N)
    count_N = np.zeros(share_N.size)
    rows = []
    for _ in range(plans):
        if independent:
            chosen = generator.choice(share_N.size, size, replace=False, p=share_N / share_N.sum())
        else:
            chosen = queue.first(size)
            queue.visit(chosen, generator.random(size), size=size)
        count_N[chosen] += 1
        rows.append(count_N.copy())
    return np.array(rows)


def largest_debt(**options):
    """Largest difference between visits and chances so far, over prompts and plans."""
    share_N = np.linspace(0.1, 1.0, 100)
    rows = visits(share_N, 400, 10, **options)
    return np.abs(rows - np.outer(np.arange(1, 401), 10 * share_N / share_N.sum())).max()


def test_visits_follow_the_shares_at_all_times():
    assert largest_debt() < 2.0
    # 400 draws of chance up to 0.18: a binomial's standard deviation is up to 7.7
    assert largest_debt(independent=True) > 10.0


def test_shares_that_change_against_the_queue_cost_a_logarithm():
    """The worst there is: shares go to those that have not been visited, one of whom is each time.

    By hand: of k that are left each earns 1/k, so the last one has earned 1/N + ... + 1/1 when it pays.
    """
    size = 256
    queue = FairQueue(np.ones(size), np.zeros(size), np.ones(size))
    left = np.ones(size, dtype=bool)
    largest = 0.0
    for _ in range(size):
        queue.renew(np.where(left, 1.0, 1e-12))
        chosen = queue.first(1)
        queue.visit(chosen, np.zeros(1), size=1)
        left[chosen] = False
        largest = max(largest, 1.0 - float(queue.debt()[chosen].min()))
    # what the last one has earned less the visit that it paid, with 1 - 1 for the visit of today
    assert largest == pytest.approx((1.0 / np.arange(1, size + 1)).sum(), rel=1e-4)


def test_equal_shares_are_passes_over_the_pool():
    rows = visits(np.full(100, 0.1), 400, 10)
    assert np.ptp(rows, axis=1).max() <= 2
    assert np.ptp(visits(np.full(100, 0.1), 400, 10, independent=True)[-1]) > 10


def test_advances_shuffle_the_order():
    """Companions of one pass are not companions in the next, as they are at equal advances."""

    def common(advance_of):
        queue = FairQueue.shuffled(100, np.random.default_rng(0))
        batches = []
        for turn in range(20):
            chosen = queue.first(10)
            queue.visit(chosen, advance_of(turn, chosen), size=10)
            batches.append(set(chosen.tolist()))
        return np.mean([len(batches[i] & batches[i + 10]) for i in range(10)])

    at_first = FairQueue.shuffled(100, np.random.default_rng(0)).advance_N
    assert common(lambda turn, chosen: at_first[chosen]) > 8.0
    # ten of a hundred have 1 in common by chance, and near ones stay near
    assert common(lambda turn, chosen: np.random.default_rng(turn).random(10)) < 4.0


def test_the_queue_by_hand():
    queue = FairQueue(np.array([1.0, 0.5, 0.75]), np.array([0.0, 0.5, 0.25]), np.ones(3))
    assert queue.first(2).tolist() == [1, 2]
    queue.visit(np.array([1, 2]), np.array([0.25, 0.75]), size=2)
    # a visit costs 1 and the old advance, and the new one comes off: 0.5 + 1.25, 0.75 + 0.5
    assert queue.due_N.tolist() == [1.0, 1.75, 1.25]
    assert queue.clock == pytest.approx(2 / 3)
    # everybody earned 2/3: debts are the visits less that
    np.testing.assert_allclose(queue.debt() - [0.0, 0.0, 0.0], [-2 / 3, 1 / 3, 1 / 3], atol=1e-6)
    # at half the share the rest of the way takes twice as long; what was earned stays
    before = queue.debt()
    queue.renew(np.array([1.0, 0.5, 0.25]))
    np.testing.assert_allclose(queue.due_N, [1.0, 2 / 3 + 2 * 13 / 12, 2 / 3 + 4 * 7 / 12])
    np.testing.assert_allclose(queue.debt(), before, atol=1e-6)
    assert queue.total == 1.75
    assert queue.chance(np.array([0, 1]), 1).tolist() == [1 / 1.75, 0.5 / 1.75]
    again = queue.due_N.copy()
    queue.renew(np.array([0.25]), np.array([2]))
    assert queue.due_N.tolist() == again.tolist()
    assert queue.total == 1.75


def test_a_horizon_changes_nothing(monkeypatch):
    """Of large pools only the prompts that are due soon are looked at: the same plans, bit for bit."""

    def plans(small):
        monkeypatch.setattr("cures.fair_queue.SMALL", small)
        generator = np.random.default_rng(7)
        queue = FairQueue.shuffled(1000, generator)
        found, looked_at = [], []
        for _ in range(300):
            prompt = generator.choice(1000, 50, replace=False)
            queue.renew(generator.random(50) + 1e-3, prompt)
            chosen = queue.first(4)
            looked_at.append(queue._near.size)
            queue.visit(chosen, generator.random(4), size=4)
            found.append(chosen.tolist())
        return found, np.mean(looked_at)

    whole, all_ = plans(1000)
    near, few = plans(999)
    assert near == whole
    assert all_ == 1000
    assert few < 400  # 32 plans of 4, and who comes before the horizon as shares grow


def test_equal_times_go_by_number():
    queue = FairQueue(np.ones(40), np.zeros(40), np.ones(40))
    assert queue.first(5).tolist() == [0, 1, 2, 3, 4]


def test_who_leaves_never_comes_again_and_who_joins_waits_as_all_did():
    queue = FairQueue.shuffled(6, np.random.default_rng(0))
    queue.visit(queue.first(3), np.random.default_rng(1).random(3), size=3)
    left = queue.without(np.array([0, 4]))
    assert left.total == pytest.approx(4.0)
    assert queue.total == 6.0  # another queue
    generator = np.random.default_rng(2)
    seen = []
    for _ in range(100):
        left.renew(np.array([1.0, 0.5, 1.0, 0.5, 0.0, 1.0]) * [0, 1, 1, 1, 1, 1])
        chosen = left.first(2)
        left.visit(chosen, generator.random(2), size=2)
        seen += chosen.tolist()
    assert sorted(set(seen)) == [1, 2, 3, 5]
    grown = queue.extended(2, np.random.default_rng(3))
    # as if the queue began now: due within one visit at a share of 1
    assert ((grown.due_N[6:] > queue.clock) & (grown.due_N[6:] <= queue.clock + 1.0)).all()
    assert grown.total == 8.0
    assert sorted(grown.first(8).tolist()) == list(range(8))


def test_states_of_the_queue():
    queue = FairQueue.shuffled(5, np.random.default_rng(0))
    queue.visit(queue.first(2), np.array([0.5, 0.25]), size=2)
    again = FairQueue.from_state(queue.state_dict(), 5)
    for key, value in queue.state_dict().items():
        np.testing.assert_array_equal(getattr(again, key), value)
    for key, value in (
        ("due_N", np.full(5, np.nan)),
        ("advance_N", np.full(5, 1.5)),
        ("share_N", np.full(5, -1.0)),
        ("share_N", np.ones(4)),
        ("clock", -1.0),
    ):
        with pytest.raises(ValueError, match=key):
            FairQueue.from_state({**queue.state_dict(), key: value}, 5)
    with pytest.raises(ValueError, match="state must be a dict with keys"):
        FairQueue.from_state({}, 5)
