"""What benchmarks/warm_start.py follows: the warm start's own steps, with either optimiser."""

from __future__ import annotations

import pytest
import torch

from benchmarks import warm_start as script
from tests.train_cases import small_config
from train.building import fix_numerics
from train.model import new_model_of
from train.muon import Muon
from train.tasks.making import make_task
from train.warm_start import supervise


@pytest.fixture
def config():
    found = small_config(warm_start={"steps": 4, "batch_size": 8})
    fix_numerics(found)
    return found


def weights_after(config, optimizer, steps, **options):
    kept = {}

    def look(step, model):
        kept[step] = [weight.detach().clone() for weight in model.parameters()]

    script.followed(config, optimizer, look, steps=steps, **options)
    assert list(kept) == list(range(steps + 1))
    return kept[steps]


def test_what_is_followed_is_the_warm_start_itself(config):
    task = make_task(config)
    model = new_model_of(config, task)
    supervise(model, task, config)
    found = weights_after(config, Muon, 4)
    assert all(map(torch.equal, found, model.parameters()))
    torchs = weights_after(config, script.torchs, 4)
    assert not all(map(torch.equal, found, torchs))


def test_spread_begins_at_one_rounding(config, monkeypatch):
    monkeypatch.setattr(script, "MARKS", (1, 2))
    found = script.spread(config, Muon)
    assert list(found) == [0, 1, 2]
    start = new_model_of(config, make_task(config)).state_dict()
    largest = max(float(weight.abs().max()) for weight in start.values())
    # 2^-24 of the largest weight, times a normal number of some thousands: 2 to 5 of them
    assert 0.0 < found[0] < 6.0 * script.ROUNDING * largest
    assert found[2] > 0.0
    monkeypatch.setattr(script, "ROUNDING", 0.0)
    assert set(script.spread(config, Muon).values()) == {0.0}


def test_the_page_has_a_row_for_each_optimiser(config, monkeypatch):
    monkeypatch.setattr(script, "MARKS", (1, 2))
    monkeypatch.setattr(script, "BLOCKS", 2)
    monkeypatch.setattr(script, "BLOCK_STEPS", 1)
    text = script.page(script.tables(config))
    for name in script.OPTIMIZERS:
        assert text.count(f"| {name} |") == 2
    assert "| `train/muon.py` | " in text
    assert "| 1.00 [1.00, 1.00] |" in text
    assert "step 0 | step 1 | step 2 |" in text
