"""Figures are computed from run folders; the arrays are checked by hand."""

from __future__ import annotations

import json

import numpy as np
import pytest

from figures import learning_curves, quota_by_success_rate
from figures.__main__ import main
from figures.style import save


def fake_run(folder, arm, seed, evaluation, outcomes):
    folder.mkdir(parents=True)
    config = {"scheduler": {"name": arm}, "run": {"seed": seed}, "evaluation": {"every": 100}}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "summary.json").write_text(json.dumps({"generated": evaluation[-1][0]}))
    for name, rows in (
        ("metrics", []),
        ("evaluation", [{"generated": g, "held_out": h} for g, h in evaluation]),
        ("outcomes", outcomes),
    ):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    return folder


def row(prompt, success, trial, is_pilot=False):
    return {"prompt": prompt, "step": 0, "success": success, "trial": trial, "is_pilot": is_pilot}


@pytest.fixture
def folders(tmp_path):
    outcomes = [
        row(0, 1, 4, True),  # estimate (1 + 1) / (4 + 2) = 1/3 -> bin 3
        row(1, 4, 4, True),  # 5/6 -> bin 8
        row(0, 5, 10),  # counted in bin 3; then (6 + 1) / (14 + 2) = .4375 -> bin 4
        row(1, 2, 2),  # counted in bin 8; then (6 + 1) / (6 + 2) = .875 -> bin 8
        row(0, 0, 6),  # bin 4
        row(1, 1, 4),  # bin 8
        row(2, 1, 4),  # never seen before: not counted
    ]
    return [
        fake_run(tmp_path / "b", "cures", 0, [(0, 0.3), (104, 0.5)], outcomes),
        fake_run(tmp_path / "a1", "uniform", 1, [(0, 0.3), (100, 0.6)], outcomes[2:]),
        fake_run(tmp_path / "a0", "uniform", 0, [(0, 0.3), (100, 0.4)], outcomes[2:]),
    ]


def test_learning_curves_are_where_they_were_measured(folders):
    arrays = learning_curves.compute(folders)
    assert list(arrays) == ["uniform", "cures"]  # the reference first
    assert arrays["uniform"]["held_out_S_E"].tolist() == [[0.3, 0.4], [0.3, 0.6]]
    assert arrays["cures"]["generated_S_E"].tolist() == [[0, 104]]


def test_quota_by_success_rate_by_hand(folders):
    cures = quota_by_success_rate.compute(folders)["cures"]
    expected = np.zeros(10)
    expected[[3, 4, 8]] = [1 / 4, 1 / 4, 2 / 4]
    assert np.allclose(cures["share"], expected)
    assert cures["quota"][[3, 4, 8]].tolist() == [10.0, 6.0, 3.0]  # (2 + 4) / 2 = 3
    assert np.isnan(cures["quota"][0])


@pytest.mark.parametrize("module", [learning_curves, quota_by_success_rate])
def test_the_same_arrays_give_the_same_file(module, folders, tmp_path):
    arrays = module.compute(folders)
    first = save(module.draw(arrays), tmp_path / "1.png").read_bytes()
    assert first == save(module.draw(arrays), tmp_path / "2.png").read_bytes()
    assert first.startswith(b"\x89PNG")


def test_the_command_names_what_is_missing(folders, tmp_path, capsys):
    out = tmp_path / "x.png"
    assert main(["learning_curves", *map(str, folders), "--out", str(out)]) == 0
    assert out.exists()
    assert main(["learning_curves", str(tmp_path / "nowhere"), "--out", str(out)]) == 1
    assert "a finished training run with config.json" in capsys.readouterr().err
