"""The ledger's identity and its state."""

from __future__ import annotations

import pytest

from cures import Ledger
from cures.ledger import shares


def test_identity_and_views():
    ledger = Ledger()
    ledger.add("train", "generated", 10)
    ledger.add("train", "missing", 1)
    ledger.add("train", "trained", 6)
    ledger.add("pilot", "generated", 4)
    ledger.add("pilot", "discarded", 4)
    ledger.add("oracle", "generated", 100)  # beside the budget
    assert (ledger.generated, ledger.pilots, ledger.pending) == (14, 4, 3)  # 14 - 1 - 6 - 4
    assert ledger.as_dict()["oracle/generated"] == 100


def test_state_round_trip_and_errors():
    ledger = Ledger(steps=3, tokens=5)
    ledger.add("train", "generated", 10)
    assert Ledger.from_state(ledger.state_dict()) == ledger
    state = ledger.state_dict()
    del state["train/trained"]
    with pytest.raises(ValueError, match="'train/trained'"):
        Ledger.from_state(state)
    with pytest.raises(ValueError, match=r"steps must be an int in \[0, inf\), got -1"):
        Ledger.from_state({**ledger.state_dict(), "steps": -1})
    with pytest.raises(ValueError, match="purpose must be one of"):
        ledger.add("eval", "generated", 1)
    with pytest.raises(ValueError, match="fate must be one of"):
        ledger.add("train", "lost", 1)
    with pytest.raises(ValueError, match="rollouts must be"):
        ledger.add("train", "trained", -1)


def test_shares_by_hand():
    ledger = Ledger()
    for purpose, fate, rollouts in (
        ("train", "generated", 30), ("train", "trained", 20), ("train", "discarded", 4),
        ("train", "missing", 1), ("pilot", "generated", 10), ("pilot", "trained", 2),
        ("pilot", "discarded", 6), ("pilot", "missing", 1), ("oracle", "generated", 99),
    ):  # fmt: skip
        ledger.add(purpose, fate, rollouts)
    # of 40: 22 trained, 10 discarded, 2 missing, the other 6 wait; 10 were pilots; oracle's beside
    assert shares(ledger.as_dict()) == {
        "trained": 0.55, "discarded": 0.25, "missing": 0.05, "pending": 0.15, "pilot": 0.25,
    }  # fmt: skip


def test_shares_of_nothing_or_of_a_damaged_book_are_refused():
    with pytest.raises(ValueError, match="generated must be at least 1 rollout, got 0"):
        shares(Ledger().as_dict())
    ledger = Ledger()
    ledger.add("train", "generated", 5)
    with pytest.raises(ValueError, match="fates must be of 5 rollouts in all"):
        shares(ledger.as_dict() | {"pending": 4})
