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


def weights_of(config, optimizer, steps, **options):
    kept = {}

    def look(step, model):
        kept[step] = [weight.detach().clone() for weight in model.parameters()]

    script.followed(config, optimizer, look, steps=steps, **options)
    assert list(kept) == list(range(steps + 1))
    return kept


def test_what_is_followed_is_the_warm_start_itself(config):
    task = make_task(config)
    model = new_model_of(config, task)
    supervise(model, task, config)
    found = weights_of(config, Muon, 4)[4]
    assert all(map(torch.equal, found, model.parameters()))
    torchs = weights_of(config, script.torchs, 4)[4]
    assert not all(map(torch.equal, found, torchs))


def test_spread_begins_with_neighbouring_numbers(config, monkeypatch):
    monkeypatch.setattr(script, "MARKS", (1, 2))
    found = script.spread(config, Muon)
    assert list(found) == [0, 1, 2]
    start = new_model_of(config, make_task(config)).state_dict()
    largest = max(float(weight.abs().max()) for weight in start.values())
    assert largest == 1.0  # of the norms
    assert found[0] == 2.0**-23  # what lies between 1 and the float32 above it
    assert found[2] > 0.0


def test_every_weight_is_moved_or_none(config):
    starts = [
        weights_of(config, Muon, 1, is_moved=is_moved)[0] for is_moved in (False, False, True)
    ]
    assert all(map(torch.equal, starts[0], starts[1]))
    assert not any((one == moved).any() for one, moved in zip(starts[0], starts[2], strict=True))


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
