"""Figures of the tiny language model: runs that are named once, folders read like the simulator's."""

from __future__ import annotations

import numpy as np
import pytest

from cures.storage import write_json
from figures import language_model, lm_runs
from figures.__main__ import main
from figures.lm_folders import LABEL, read_lm
from figures.run_folders import scheduler_options
from train.scheduler_config import SchedulerConfig

BATCH = 4


def write_run(folder, *, scheduler="uniform", options=None, seed=0, n=8, evaluation, outcomes=()):
    """A finished training run as its files, whatever trained it."""
    folder.mkdir(parents=True)
    config = {
        "format": "cures-train-1",
        "task": {"pool_size": 9},
        "learner": {"estimator": "grpo"},
        "scheduler": {
            "name": scheduler, "batch_size": BATCH, "budget": BATCH * n,
            "options": {scheduler: options or {}},
        },
        "warm_start": {"seed": seed},
        "run": {"seed": seed, "cache": "x", "rollouts": 64},
    }  # fmt: skip
    write_json(folder / "config.json", config)
    write_json(folder / "summary.json", {"generated": 64})
    rows = {
        "metrics": [{"step": 1}],
        "evaluation": [
            {"step": step, "generated": generated, "held_out": held_out}
            for step, generated, held_out in evaluation
        ],
        "outcomes": list(outcomes),
    }
    for name, lines in rows.items():
        text = "".join(f"{line}\n".replace("'", '"') for line in lines)
        (folder / f"{name}.jsonl").write_text(
            text.replace("True", "true").replace("False", "false")
        )


RISING = [(0, 0, 0.2), (1, 32, 0.3), (3, 64, 0.5)]


def test_curves_by_rollouts_and_by_updates(tmp_path):
    write_run(tmp_path / "uniform-seed0", evaluation=RISING)
    # seed 1 is evaluated twice before its first update, of which the latter counts; it ends after two
    later = [(0, 0, 0.1), (0, 32, 0.2), (2, 64, 0.6)]
    write_run(tmp_path / "uniform-seed1", seed=1, evaluation=later)
    found = read_lm(tmp_path)
    grid, curve = found.curve("uniform")
    assert grid.tolist() == [0, 32, 64]
    assert curve.tolist() == [[0.2, 0.3, 0.5], [0.1, 0.2, 0.6]]
    # half-way between 0.3 after one update and 0.5 after three; between 0.2 after none and 0.6
    assert found.by_update("uniform") == pytest.approx(np.array([[0.2, 0.3, 0.4], [0.2, 0.4, 0.6]]))
    assert found.config["population"] == LABEL
    assert (found.config["batch_size"], found.config["group_size"], found.seeds) == (BATCH, 8, 2)


def test_arms_are_ordered_by_their_numbers(tmp_path):
    for pilots in (16, 4, 8):
        write_run(
            tmp_path / f"cures@pilots{pilots}-seed0",
            scheduler="cures",
            options={"pilots": pilots},
            evaluation=RISING,
        )
    write_run(tmp_path / "uniform-seed0", evaluation=RISING)
    found = read_lm(tmp_path)
    assert found.arms == ["uniform", "cures@pilots4", "cures@pilots8", "cures@pilots16"]
    assert [found.options(arm).get("pilots") for arm in found.arms] == [None, 4, 8, 16]


def test_options_are_what_the_trainer_makes_of_them(tmp_path):
    options = {"draws": "with", "pilots": 2, "cures": {"pilots": 4}, "gvm": {"pilots": 8}}
    config = SchedulerConfig(name="cures", batch_size=4, budget=32, options=options)
    written = {"scheduler": {"name": "cures", "options": options}}
    assert scheduler_options(written) == config.resolved_options() == {"draws": "with", "pilots": 4}
    write_run(tmp_path / "cures-seed0", scheduler="cures", options={"pilots": 4}, evaluation=RISING)
    path = tmp_path / "cures-seed0" / "config.json"
    path.write_text(path.read_text().replace('"options": {', '"options": {"draws": "with",'))
    assert read_lm(tmp_path).options("cures") == {"draws": "with", "pilots": 4}


def test_other_warm_starts_or_settings_are_refused(tmp_path):
    write_run(tmp_path / "a" / "uniform-seed0", evaluation=RISING)
    write_run(tmp_path / "a" / "cures-seed1", scheduler="cures", seed=1, evaluation=RISING)
    with pytest.raises(ValueError, match=r"warm starts of uniform must be .*\[1\], got \[0\]"):
        read_lm(tmp_path / "a")
    write_run(tmp_path / "b" / "uniform-seed0", evaluation=RISING)
    write_run(tmp_path / "b" / "cures-seed0", scheduler="cures", evaluation=RISING)
    config = tmp_path / "b" / "cures-seed0" / "config.json"
    config.write_text(config.read_text().replace('"pool_size": 9', '"pool_size": 8'))
    with pytest.raises(ValueError, match="task of"):
        read_lm(tmp_path / "b")
    (tmp_path / "c").mkdir()
    with pytest.raises(ValueError, match="lm_runs makes them"):
        read_lm(tmp_path / "c")


def test_grid_of_two_group_sizes(tmp_path):
    for n in (8, 16):
        folder = tmp_path / f"grid-n{n}"
        write_run(folder / "uniform-seed0", n=n, evaluation=RISING)
        lower = [(step, generated, held_out - 0.1) for step, generated, held_out in RISING]
        write_run(
            folder / "cures@pilots4-seed0",
            scheduler="cures",
            options={"pilots": 4},
            n=n,
            evaluation=lower,
        )
    arrays = language_model.grid([tmp_path / "grid-n8", tmp_path / "grid-n16"])
    assert arrays["n16"]["pilots4"]["held_out_S_E"] == pytest.approx(np.array([[0.1, 0.2, 0.4]]))
    assert arrays["n8"]["uniform"]["held_out_S_U"].shape == (1, 4)
    assert "N' = 4" in language_model.grid_caption(arrays)


def test_ratios_to_the_best_by_hand(tmp_path):
    # uniform reaches 0.5 at 64 rollouts; cures, twice as fast, at 32; the control as uniform
    fast = [(0, 0, 0.2), (1, 32, 0.5), (3, 64, 0.5)]
    for seed in range(3):
        write_run(tmp_path / "best" / f"uniform-seed{seed}", seed=seed, evaluation=RISING)
        write_run(tmp_path / "best" / f"uniform@again-seed{seed}", seed=seed, evaluation=RISING)
        write_run(
            tmp_path / "best" / f"cures-seed{seed}", scheduler="cures", seed=seed, evaluation=fast
        )
    # 80 % of a gain of 0.25 above 0.2 is 0.4: uniform crosses it half-way from 32 to 64, at 48 or at
    # two updates; cures, on its line from 0.2 to 0.5, at 2/3 of 32 or of one update
    development = [(0, 0, 0.1), (3, 64, 0.35)]
    write_run(tmp_path / "best-dev" / "uniform-seed100", seed=100, evaluation=development)
    arrays = language_model.best([tmp_path / "best", tmp_path / "best-dev"])["grpo"]
    assert arrays["level"]["rollouts"]["80 %"] == pytest.approx(np.full(3, 0.4))
    assert arrays["ratio"]["rollouts"]["best"]["cures"]["ratio"] == pytest.approx(2.0)
    assert arrays["ratio"]["rollouts"]["80 %"]["cures"]["ratio"] == pytest.approx(48 / (64 / 3))
    assert arrays["ratio"]["updates"]["80 %"]["cures"]["ratio"] == pytest.approx(3.0)
    for axis in ("updates", "rollouts"):
        assert arrays["ratio"][axis]["best"]["uniform@again"]["ratio"] == pytest.approx(1.0)


def test_quota_by_iteration_from_outcomes(tmp_path):
    pilot = {"prompt": 5, "step": 0, "success": 1, "trial": 4, "is_pilot": True}
    outcomes = [pilot, {**pilot, "is_pilot": False, "trial": 8}]
    for arm, options in (("cures", {}), ("cures@moments", {"use_moments": True})):
        write_run(
            tmp_path / f"{arm}-seed0",
            scheduler="cures",
            options=options,
            evaluation=RISING,
            outcomes=outcomes,
        )
    arrays = language_model.quota([tmp_path])
    first = arrays["cures"]["iteration 1"]
    # Beta(1, 1) after 1 right of 4 pilots: 2/6
    assert first["estimate_G"].tolist() == pytest.approx([1 / 3])
    assert first["trial_G"].tolist() == [8]


def test_commands_differ_in_what_is_compared_alone():
    root = lm_runs.Path("runs/lm")
    best = lm_runs.comparisons(lm_runs.FULL)["best"]
    lines = {
        arm.label: lm_runs.command(root, lm_runs.FULL, "best", best, arm, 3) for arm in best.arms
    }
    assert "run.seed=3" in lines["uniform"]
    assert "run.seed=1003" in lines["uniform@again"]
    for line in lines.values():
        assert "warm_start.seed=3" in line
    assert set(lines["cures"]) ^ set(lines["uniform"]) == {
        "cures", "uniform", "runs/lm/best/cures-seed3", "runs/lm/best/uniform-seed3"
    }  # fmt: skip
    grid = lm_runs.comparisons(lm_runs.FULL)["grid-n32"]
    line = lm_runs.command(root, lm_runs.FULL, "grid-n32", grid, grid.arms[-1], 0)
    assert {"scheduler.budget=4096", "scheduler.cures.pilots=16"} <= set(line)


def test_unknown_comparison_and_missing_runs_are_said(tmp_path, capsys):
    assert main(["lm_runs", "--only", "nothing", "--runs", str(tmp_path)]) == 2
    assert "--only must be one of ['best', 'best-dev', 'trace'" in capsys.readouterr().err
    assert main(["lm-grid", "--runs", str(tmp_path), "--out", str(tmp_path)]) == 2
    assert "python -m figures lm_runs" in capsys.readouterr().err
