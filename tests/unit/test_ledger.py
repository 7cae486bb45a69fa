"""The ledger's identity and its state."""

from __future__ import annotations

import pytest

from cures import Ledger


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
