"""The example of docs/integrate.md runs as printed, and as a host of every scheduler."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch

import cures
from tests.scripted import same_state

PAGE = (Path(__file__).parents[2] / "docs" / "integrate.md").read_text()
BLOCKS = re.findall(r"```python\n(.*?)```", PAGE, flags=re.DOTALL)
(CODE,) = [block for block in BLOCKS if "scheduler.propose()" in block]
CALLS = ("propose(", "observe(", "advantages(", "rollout_weights(", "state_dict(")


def run(code, folder, monkeypatch):
    monkeypatch.chdir(folder)
    torch.manual_seed(0)
    names = {}
    exec(compile(code, "docs/integrate.md", "exec"), names)
    return names


def right(names):
    """Mean probability of the right answer."""
    law_N = names["policy"].weight.detach().softmax(dim=1)
    return float(law_N[torch.arange(200), torch.arange(200) % 10].mean())


def test_the_example_is_short_and_makes_the_five_calls():
    lines = [line for line in CODE.splitlines() if line.strip()]
    assert len(lines) <= 36
    assert all(CODE.count(call) == 1 for call in CALLS)


def test_the_example_learns_and_its_state_can_be_loaded(tmp_path, monkeypatch):
    names = run(CODE, tmp_path, monkeypatch)
    assert right(names) > 0.7  # 0.1 at first; about 0.8 with other seeds
    scheduler = names["scheduler"]
    assert scheduler.ledger.pending == 0
    assert scheduler.ledger.trained == scheduler.ledger.generated >= 12_000
    assert names["kept"] == {}
    again = cures.make_scheduler("adaptive", num_prompts=200, batch_size=16, budget=128)
    again.load_state_dict(cures.load_state("scheduler.npz"))
    assert same_state(again.state_dict(), scheduler.state_dict())


def test_the_sign_of_the_loss_matters(tmp_path, monkeypatch):  # the control
    upside_down = CODE.replace("(-torch.from_numpy", "(torch.from_numpy")
    assert upside_down != CODE
    assert right(run(upside_down, tmp_path, monkeypatch)) < 0.1


@pytest.mark.parametrize("name", ["cures", "speed", "dapo", "gvm"])
def test_the_example_is_a_host_of_schedulers_with_several_plans(name, tmp_path, monkeypatch):
    code = CODE.replace('"adaptive"', f'"{name}"').replace("12_000", "6_000")
    scheduler = run(code, tmp_path, monkeypatch)["scheduler"]
    assert scheduler.name == name
    assert scheduler.update_step > 5
    assert not scheduler.counters.get("outcome_of_unknown_plan", 0)
