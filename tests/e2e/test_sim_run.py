"""Whole comparisons on the simulator: every scheduler, the files, the numbers in them."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import cures
from cures.comparison import rollouts_to_target
from cures.storage import load_state, read_json, read_jsonl, save_state
from sim.arm import StoppedError, run_arm
from sim.cli import main
from sim.compare import compare
from sim.item_response import ItemResponse
from sim.populations import make_population
from sim.run_folder import refuse_unwritable
from sim.settings import Settings
from sim.task import ArmTask, build

SMALL = {
    "pool": 300,
    "held_out": 40,
    "rollouts": 6000,
    "batch_size": 8,
    "seeds": 2,
    "dev_seeds": 2,
    "grid_points": 13,
    "learning_rate": 0.05,
}


def content(root: Path) -> dict[str, bytes]:
    """Every file that a reader would open, by relative name; but for the time it took."""
    skipped = {".lock", "timing.json"}
    files = (p for p in sorted(root.rglob("*")) if p.is_file() and p.name not in skipped)
    return {str(p.relative_to(root)): p.read_bytes() for p in files}


@pytest.mark.parametrize(
    ("name", "population"),
    [
        *((name, "dead") for name in cures.list_schedulers() if name != "uniform"),
        ("cures", "u_shaped"),
        ("speed", "u_shaped"),
        ("adaptive", "u_shaped"),
    ],
)
def test_every_scheduler_runs_and_its_books_agree_with_the_host(name, population, tmp_path):
    settings = Settings(arms=(name,), population=population, missing_rate=0.05, **SMALL)
    for arm in settings.arms:
        task = ArmTask(arm, 0, False)
        run_arm(settings, task, tmp_path)
        summary = read_json(tmp_path / task.folder / "summary.json")
        ledger = summary["ledger"]
        # the budget of the protocol: generated lies in (R - min_quota, R]
        assert 6000 - 2 < summary["generated"] <= 6000
        # the host counted what it trained on, the scheduler what it said: two separate books
        assert summary["trained"] == ledger["train/trained"] + ledger["pilot/trained"]
        fates = ("trained", "discarded", "missing")
        spent = sum(ledger[f"{p}/{f}"] for p in ("train", "pilot") for f in fates)
        assert spent + ledger["pending"] == summary["generated"]
        rows = read_jsonl(tmp_path / task.folder / "metrics.jsonl")
        assert [row["step"] for row in rows] == list(range(1, ledger["steps"] + 1))
        curve = load_state(tmp_path / task.folder / "curve.npz")
        assert curve["held_out_U"].tolist() == [row["held_out"] for row in rows]
        assert len(curve["held_out_E"]) == 13


def test_a_comparison_learns_and_says_so(tmp_path):
    settings = Settings(arms=("cures", "uniform@again"), **SMALL | {"seeds": 6})
    result = compare(settings, tmp_path)
    assert result == read_json(tmp_path / "comparison.json")
    assert result["has_targets"]
    assert result["arms"]["uniform"]["final"] > result["start"] + 0.05  # something was learned
    for arm in ("cures", "uniform@again"):
        row = result["arms"][arm]
        # the difference is that of the curves at the last common point
        finals = [
            load_state(tmp_path / f"arms/{a}-{s}" / "curve.npz")["held_out_E"][-1]
            for a in (arm, "uniform")
            for s in range(6)
        ]
        mean = np.mean(finals[:6]) - np.mean(finals[6:])
        assert row["difference"]["mean"] == pytest.approx(mean, abs=1e-12)
        assert row["difference"]["low"] <= mean <= row["difference"]["high"]
        assert [t["fraction"] for t in row["targets"]] == [0.5, 0.8, 0.95]
    assert result["arms"]["uniform"]["shares"]["pilot"] == 0.0
    assert result["arms"]["cures"]["shares"]["pilot"] > 0.0


def test_targets_come_from_the_development_seeds_alone(tmp_path):
    settings = Settings(arms=("uniform",), **SMALL)
    result = compare(settings, tmp_path)
    start, final = [], []
    for seed in range(2):
        held_out = load_state(tmp_path / f"development/uniform-{seed}" / "curve.npz")["held_out_E"]
        start.append(held_out[0])
        final.append(held_out[-1])
    gain = np.mean(final) - np.mean(start)
    for target in result["arms"]["uniform"]["targets"]:
        assert target["gain"] == pytest.approx(target["fraction"] * gain)
    # each compared seed is timed from its own start; other prompts than the development runs'
    arms = [load_state(tmp_path / f"arms/uniform-{seed}" / "curve.npz") for seed in range(2)]
    assert not {arm["start"] for arm in arms} & set(start)
    curve = np.array([arm["held_out_E"] for arm in arms])
    for target in result["arms"]["uniform"]["targets"]:
        level = curve[:, 0] + target["gain"]
        crossing, is_out = rollouts_to_target(arms[0]["grid_E"], curve, level)
        assert target["median"] == pytest.approx(np.median(crossing))
        assert target["censored"] == is_out.sum()


def test_arms_of_a_seed_start_alike_and_seeds_do_not(tmp_path):
    settings = Settings(arms=("speed",), **SMALL)
    compare(settings, tmp_path)
    start = {
        (arm, seed): load_state(tmp_path / f"arms/{arm}-{seed}" / "curve.npz")["start"]
        for arm in ("uniform", "speed")
        for seed in range(2)
    }
    assert start["uniform", 0] == start["speed", 0]
    assert start["uniform", 0] != start["uniform", 1]


@pytest.mark.slow
def test_two_workers_give_the_bytes_of_one(tmp_path):
    settings = Settings(arms=("cures", "dapo"), has_outcomes=True, **SMALL)
    compare(settings, tmp_path / "one", jobs=1)
    compare(settings, tmp_path / "two", jobs=2, checkpoint_every_s=0.3)
    assert content(tmp_path / "one") == content(tmp_path / "two")


@pytest.mark.parametrize(("name", "population"), [("speed", "skills"), ("cures", "drift")])
def test_stopping_and_going_on_changes_nothing(name, population, tmp_path):
    """At several updates: rollouts that wait in a buffer (speed); a posterior watched under drift."""
    settings = Settings(
        arms=(name,), population=population, has_outcomes=True, missing_rate=0.1, **SMALL
    )
    task = ArmTask(name, 0, False)
    run_arm(settings, task, tmp_path / "whole")
    stops = 0
    for updates in (1, 4, 2, 7):
        left = iter(range(updates))
        with pytest.raises(StoppedError):
            run_arm(
                settings,
                task,
                tmp_path / "parts",
                is_stopping=lambda left=left: next(left, None) is None,
            )
        stops += 1
        # what a kill leaves: lines past the checkpoint, the last one torn
        with open(tmp_path / "parts" / task.folder / "metrics.jsonl", "ab") as log:
            log.write(b'{"step": 99}\n{"st')
        assert (tmp_path / "parts" / task.folder / "checkpoint.npz").exists()
    run_arm(settings, task, tmp_path / "parts")
    assert stops == 4
    assert content(tmp_path / "whole") == content(tmp_path / "parts")


def test_a_checkpoint_without_a_record_is_refused_with_its_remedy(tmp_path):
    """As an older version leaves it in flight; without the file the run starts afresh."""
    settings, task = Settings(arms=("uniform",), **SMALL), ArmTask("uniform", 0, False)
    left = iter(range(2))
    with pytest.raises(StoppedError):
        run_arm(settings, task, tmp_path, is_stopping=lambda: next(left, None) is None)
    path = tmp_path / task.folder / "checkpoint.npz"
    state = {k: v for k, v in load_state(path).items() if not k.startswith("watch/")}
    save_state(path, state)
    with pytest.raises(
        ValueError, match=r"checkpoint\.npz must be of this version \(remove the file"
    ):
        run_arm(settings, task, tmp_path)
    path.unlink()
    run_arm(settings, task, tmp_path)
    assert (tmp_path / task.folder / "summary.json").exists()


def test_an_oracle_can_be_told_what_is_learnable(tmp_path):
    settings = Settings(
        arms=("oracle",),
        options={"oracle": {"learnable": True}},
        population="coins",
        has_outcomes=True,
        **SMALL,
    )
    told, blind = ArmTask("oracle", 0, False), ArmTask("oracle", 1, False)
    population = build(settings, told)[1].population
    run_arm(settings, told, tmp_path)
    rows = read_jsonl(tmp_path / told.folder / "outcomes.jsonl")
    share = np.mean([population.is_learnable_N[row["prompt"]] for row in rows])
    # Eq. (14) at temperature .05: potential 0 against 1/2 is a factor e^-10 per draw
    assert share > 0.99
    without = Settings(**{**settings.as_json(), "arms": ("oracle",), "options": {}})
    population = build(without, blind)[1].population
    run_arm(without, blind, tmp_path)
    rows = read_jsonl(tmp_path / blind.folder / "outcomes.jsonl")
    share = np.mean([population.is_learnable_N[row["prompt"]] for row in rows])
    # negative control: 20 % of the pool are coins, and look like the best prompts
    assert share < 0.8


def test_evidence_on_disk_adds_up(tmp_path):
    settings = Settings(arms=("uniform",), has_outcomes=True, missing_rate=0.2, **SMALL)
    task = ArmTask("uniform", 1, False)
    run_arm(settings, task, tmp_path)
    rows = read_jsonl(tmp_path / task.folder / "outcomes.jsonl")
    summary = read_json(tmp_path / task.folder / "summary.json")
    assert set(rows[0]) == {"prompt", "step", "success", "trial", "is_pilot"}
    assert sum(row["trial"] for row in rows) == summary["trained"]
    assert sum(row["trial"] for row in rows) + summary["ledger"]["train/missing"] == 6000


def test_command_line_from_start_to_picture(tmp_path, capsys):
    out = tmp_path / "run"
    command = ["compare", "--schedulers", "uniform", "cures", "--out", str(out)]
    command += ["--rollouts", "3000", "--batch-size", "8", "--pool", "200", "--held-out", "30"]
    command += ["--seeds", "1", "--dev-seeds", "1", "--set", "cures.temperature=0.1"]
    assert main(command) == 0
    shown = capsys.readouterr().out
    assert "Held-out success at equal rollouts" in shown
    assert "95 % needs 6 seeds" in shown
    assert (out / "curves.png").read_bytes().startswith(b"\x89PNG")
    config = json.loads((out / "config.json").read_text())
    assert config["options"] == {"cures": {"temperature": 0.1}}
    assert (out / "diagnostics.png").read_bytes().startswith(b"\x89PNG")
    assert "What was sampled, and how well the posterior knows it" in shown
    row = json.loads((out / "comparison.json").read_text())["arms"]
    assert row["uniform"]["diagnostics"]["posterior"] is None
    assert 0.0 < row["cures"]["diagnostics"]["posterior"]["coverage"]["0.95"] <= 1.0
    before = content(out)
    assert main(command) == 0  # nothing is run again, and pictures are drawn alike
    assert content(out) == before
    # another configuration in the same folder is refused by name and touches nothing
    assert main([*command, "--dev-seeds", "2"]) == 2
    assert "dev_seeds must be 1 as in" in capsys.readouterr().err
    assert content(out) == before


def test_a_folder_with_something_else_in_it_is_refused(tmp_path):
    (tmp_path / "thesis.tex").write_text("do not touch")
    with pytest.raises(ValueError, match="compare: out must be empty or a run folder"):
        compare(Settings(arms=("uniform",), **SMALL), tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.tex"]


@pytest.mark.parametrize("jobs", [1, 2])
def test_a_run_that_diverges_is_named(jobs, tmp_path, capsys):
    """Adam's steps are as long as its rate: 1e308 overflows. Which of all the runs was it?"""
    command = ["compare", "--schedulers", "cures", "--jobs", str(jobs)]
    command += ["--rollouts", "3000", "--batch-size", "8", "--pool", "100", "--held-out", "10"]
    command += ["--seeds", "1", "--dev-seeds", "1"]
    assert main([*command, "--learning-rate", "1e308", "--out", str(tmp_path / "out")]) == 1
    error = capsys.readouterr().err
    # with one process the development run is the first to go; with two any may be
    run = r"arm uniform, development seed 0" if jobs == 1 else r"arm \w+, (development )?seed 0"
    assert re.search(rf"error: {run}: .* must be finite, got -?(nan|inf) after update \d+", error)
    assert "with learning_rate 1e+308" in error
    assert "Traceback" not in error
    # negative control: the default rate gets through, on the same prompts
    assert main([*command, "--out", str(tmp_path / "sane")]) == 0


@pytest.mark.parametrize("optimiser", ["adam", "sgd"])
def test_a_compared_arm_that_diverges_is_named_with_its_seed(optimiser, tmp_path, monkeypatch):
    """On the populations that ship, plain ascent saturates before it overflows, at any rate.

    So prompts here are steeper: at 1e308 one gradient above 1.8 is enough.
    """

    def steep(*arguments, **options):
        flat = make_population(*arguments, **options)
        policy = ItemResponse(30 * flat.policy.loading_N_D, flat.policy.threshold_N)
        return replace(flat, policy=policy)

    small = SMALL | {"policy": "item_response", "population": "uniform"}
    task = ArmTask("cures", 1, False)
    monkeypatch.setattr("sim.task.make_population", steep)
    settings = Settings(arms=("cures",), optimiser=optimiser, **small | {"learning_rate": 1e308})
    with pytest.raises(FloatingPointError, match="^arm cures, seed 1: .* learning_rate 1e\\+308$"):
        run_arm(settings, task, tmp_path)
    assert not (tmp_path / task.folder / "summary.json").exists()  # not taken for finished
    run_arm(replace(settings, learning_rate=1e-3), task, tmp_path / "sane")  # negative control


def test_more_seeds_leave_finished_runs_byte_for_byte(tmp_path):
    settings = Settings(arms=("cures", "speed"), has_outcomes=True, **SMALL)
    small = compare(settings, tmp_path / "grown")
    before = content(tmp_path / "grown")
    runs = {name for name in before if name.startswith(("arms/", "development/"))}
    compare(replace(settings, seeds=3), tmp_path / "grown")
    after = content(tmp_path / "grown")
    assert {name: after[name] for name in runs} == {name: before[name] for name in runs}
    new = {name.split("/")[1] for name in after if name not in before}
    assert new == {"uniform-2", "cures-2", "speed-2"}
    # and the whole is what three seeds from the start give
    compare(replace(settings, seeds=3), tmp_path / "whole")
    assert after == content(tmp_path / "whole")
    # the levels rest on development seeds: they do not move, the medians may
    for name, row in small["arms"].items():
        grown = json.loads(after["comparison.json"])["arms"][name]
        assert [t["gain"] for t in grown["targets"]] == [t["gain"] for t in row["targets"]]


# -- grids -------------------------------------------------------------------------------------------

LAW = {
    "format": "cures-population-1", "name": "mine", "success_rate": [0.1, 0.6], "weight": [0.5, 0.5],
    "never": 0.2, "policy": "item_response", "learning_rate": 0.02, "drift_sd": 0.1,
}  # fmt: skip


def grid_command(out, *more):
    command = ["compare", "--schedulers", "cures", "--out", str(out), "--rollouts", "1500"]
    command += ["--batch-size", "8", "--pool", "60", "--held-out", "10", "--seeds", "1"]
    return [*command, "--dev-seeds", "1", *more]


def test_a_grid_is_one_comparison_per_cell_and_a_table_over_all(tmp_path, capsys):
    (tmp_path / "mine.json").write_text(json.dumps(LAW))
    out, populations = tmp_path / "grid", ["uniform", str(tmp_path / "mine.json")]
    command = grid_command(out, "--populations", *populations, "--estimators", "rloo")
    assert main(command) == 0
    shown = capsys.readouterr().out
    names = ["uniform-rloo", "mine-rloo"]
    assert json.loads((out / "grid.json").read_text()) == {"cells": names}
    summary = read_json(out / "summary.json")
    assert [(row["cell"], row["arm"]) for row in summary["rows"]] == [
        (name, arm) for name in names for arm in ("uniform", "cures")
    ]
    for name in names:
        assert name in shown
        own = read_json(out / name / "comparison.json")["arms"]
        config = read_json(out / name / "config.json")
        assert config["policy"] == ("item_response" if "mine" in name else "skills")
        for row in summary["rows"]:
            if row["cell"] == name:
                assert row["final"] == own[row["arm"]]["final"]
                assert row.get("difference") == own[row["arm"]].get("difference")
    assert (out / "summary.png").read_bytes().startswith(b"\x89PNG")
    # a cell is what the single form gives
    single = tmp_path / "single"
    assert main([*grid_command(single, "--population", populations[1], "--estimator", "rloo")]) == 0
    assert content(single) == content(out / "mine-rloo")
    # a grid may grow: finished cells stay byte for byte, and the table is that of the cells asked for
    before = content(out)
    assert main(grid_command(out, "--population", "uniform", "--estimators", "grpo", "rloo")) == 0
    after = content(out)
    for name, file in before.items():
        if "/" in name:
            assert after[name] == file, name
    assert json.loads(after["grid.json"])["cells"] == [*names, "uniform-grpo"]
    shown = {row["cell"] for row in json.loads(after["summary.json"])["rows"]}
    assert shown == {"uniform-grpo", "uniform-rloo"}


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--populations", "uniform", "easy"], "population must be one of ['skills', 'uniform'"),
        (["--populations", "uniform", "uniform"], "estimators must be named once each, got"),
        (
            ["--populations", "uniform", "skills", "--policy", "tabular"],
            "policy must be 'skills' for",
        ),
        (["--populations", "dead", "--set", "cures.temperature=-1"], "temperature must be a float"),
        (["--populations", "dead", "--set", "cures.subset_N=category"], "has no categories"),
        (["--populations", "nowhere.json"], "nowhere.json: path must be an existing file"),
        (["--populations", "dead", "--jobs", "0"], "jobs must be an int in [1, inf), got 0"),
        (["--populations", "dead", "--checkpoint-every", "-1"], "checkpoint_every must be a float"),
    ],
)
def test_a_grid_with_a_bad_cell_starts_nothing(more, message, tmp_path, capsys):
    assert main(grid_command(tmp_path / "out", *more)) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_cell_of_other_settings_is_refused_before_the_first_one_runs(tmp_path, capsys):
    out = tmp_path / "grid"
    assert main(grid_command(out, "--populations", "dead", "--estimators", "grpo")) == 0
    capsys.readouterr()
    # the second cell holds other settings; the first one would be new
    command = grid_command(out, "--populations", "uniform", "dead", "--estimators", "grpo")
    assert main([*command, "--group-size", "4"]) == 2
    error = capsys.readouterr().err
    assert "group_size must be" in error
    assert "dead-grpo/config.json" in error
    assert sorted(p.name for p in out.iterdir() if p.is_dir()) == ["dead-grpo"]
    assert json.loads((out / "grid.json").read_text()) == {"cells": ["dead-grpo"]}


def in_a_file(folder):
    (folder / "file").write_text("mine")
    return folder / "file" / "new"


def in_a_broken_link(folder):
    (folder / "link").symlink_to(folder / "nowhere")
    return folder / "link" / "new"


def on_a_virtual_file_system(folder):
    if not Path("/proc/self").is_dir():
        pytest.skip("no /proc")
    return Path("/proc/new")  # which nobody can make, root neither


@pytest.mark.parametrize("place", [in_a_file, in_a_broken_link, on_a_virtual_file_system])
@pytest.mark.parametrize("command", ["compare", "grid", "validate", "calibrate", "plan", "tune"])
def test_a_folder_that_cannot_be_written_is_refused_at_once(
    command, place, tmp_path, capsys, monkeypatch
):
    def compute(*arguments, **keywords):
        raise AssertionError("computed first")

    monkeypatch.setattr("sim.compare.run_arms", compute)
    monkeypatch.setattr("sim.validation.run.run_checks", compute)
    monkeypatch.setattr("sim.calibration.study.calibrate", compute)
    monkeypatch.setattr("sim.planning.plan.make_plan", compute)
    monkeypatch.setattr("sim.tuning.runs.run_once", compute)
    pilots = tmp_path / "pilots.jsonl"
    pilots.write_text('{"prompt": 0, "step": 0, "success": 1, "trial": 2, "is_pilot": true}\n')
    words = {
        "compare": ["compare", "--schedulers", "cures"],
        "grid": ["compare", "--schedulers", "cures", "--populations", "dead"],
        "calibrate": ["calibrate", str(pilots)],
        "tune": ["tune", "--scheduler", "cures", "--folder", str(tmp_path / "folder")],
    }.get(command, [command])
    out = place(tmp_path)
    target = out / "tuned.toml" if command == "tune" else out
    assert main([*words, "--out", str(target)]) == 2
    error = capsys.readouterr().err
    assert "out must be a folder" in error
    assert f"got {out}" in error
    assert not (tmp_path / "folder").exists()


def test_a_folder_that_can_be_written_is_left_as_it_was(tmp_path):
    refuse_unwritable("compare", "out", tmp_path / "new" / "newer")
    assert not list(tmp_path.iterdir())


def test_grids_and_single_comparisons_do_not_mix(tmp_path, capsys):
    (tmp_path / "config.json").write_text("{}")
    assert main(grid_command(tmp_path, "--populations", "dead")) == 2
    assert "out must be empty or a folder of cells (with grid.json)" in capsys.readouterr().err
    grid = tmp_path / "grid"
    grid.mkdir()
    (grid / "grid.json").write_text('{"cells": []}')
    assert main(grid_command(grid, "--population", "dead")) == 2
    assert "out must be empty or a run folder (with config.json)" in capsys.readouterr().err


@pytest.mark.parametrize("content", ["[1, 2]", "{}", '{"cells": "dead-grpo"}', '{"cells": [1]}'])
def test_a_grid_file_of_someone_else_is_left_alone(content, tmp_path, capsys):
    path = tmp_path / "grid.json"
    path.write_text(content)
    assert main(grid_command(tmp_path, "--populations", "dead")) == 2
    error = " ".join(capsys.readouterr().err.split())
    assert "grid.json must be an object with a list of names, 'cells', got" in error
    assert path.read_text() == content
    assert list(tmp_path.iterdir()) == [path]


def test_subsets_can_be_cut_by_category(tmp_path):
    """Every plan of cures stays within one category; with random subsets it does not (control)."""
    cut = {"cures": {"subset_N": "category"}}
    small = SMALL | {"pool": 120, "population": "categories"}
    for options, is_pure in ((cut, True), ({"cures": {"num_subsets": 8}}, False)):
        settings = Settings(arms=("cures",), options=options, **small)
        scheduler, host = build(settings, ArmTask("cures", 0, False))
        assert scheduler.num_subsets == 8
        category_N = host.population.category_N
        plans = [scheduler.propose()]
        assert (len(set(category_N[plans[0].prompt_B])) == 1) == is_pure
