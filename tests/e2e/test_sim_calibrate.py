"""``python -m sim calibrate``, from files to the population that other commands run on."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from cures.storage import load_state, read_json
from sim.cli import main
from sim.population_file import read_population
from tests.calibration_cases import random_walk_log, write_evidence

FILES = {"config.json", "arrays.npz", "calibration.png", "calibration.json", "population.json"}


@pytest.fixture(scope="module")
def log(tmp_path_factory):
    evidence = random_walk_log(0.0, prompts=300, updates=12, batch=75)
    return write_evidence(tmp_path_factory.mktemp("log") / "outcomes.jsonl", evidence)


@pytest.fixture(scope="module")
def folder(log, tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "calibrated"
    assert main([*arguments(log), "--out", str(out)]) == 0
    return out


def arguments(log):
    return ["calibrate", str(log), "--name", "tiny", "--bootstrap", "20"]


def test_everything_is_in_the_folder(folder):
    assert {path.name for path in folder.iterdir()} == FILES
    report = read_json(folder / "calibration.json")
    assert report["pilots"]["prompts_by_rollouts"] == {"4": 300}
    assert report["fit"]["certified_gap"] <= 1e-6
    for row in report["quantities"].values():
        low, high = row["compatible"]
        assert low - 1e-9 <= row["best_fit"] <= high + 1e-9
    # shared gain of 0.004 and dose sqrt(p (1 - p)): a random prompt gains well over half a logit
    assert report["learning"]["target"] > report["learning"]["start"] + 0.05
    arrays = load_state(folder / "arrays.npz")
    for key in ("best_K", "simulated_K"):
        assert np.sum(arrays[key]) == pytest.approx(1.0)
    assert (np.asarray(arrays["at_most_low_E"]) <= np.asarray(arrays["at_most_high_E"])).all()


def test_compare_runs_on_the_population(folder, tmp_path, capsys):
    law = read_population(folder / "population.json")
    assert law.name == "tiny"
    report = read_json(folder / "calibration.json")
    simulated = report["quantities"]["mean"]["simulated"]
    assert law.weight_K @ law.success_rate_K == pytest.approx(simulated, abs=1e-6)
    command = [
        "compare", "--schedulers", "cures", "--population", str(folder / "population.json"),
        "--pool", "100", "--held-out", "20", "--rollouts", "1024", "--batch-size", "16",
        "--seeds", "1", "--dev-seeds", "1", "--out", str(tmp_path / "sim"),
    ]  # fmt: skip
    assert main(command) == 0
    config = read_json(tmp_path / "sim" / "config.json")
    assert config["learning_rate"] == law.learning_rate
    assert config["policy"] == "item_response"


def test_a_folder_of_other_settings_is_refused(folder, log, capsys):
    before = (folder / "calibration.json").read_bytes()
    assert main([*arguments(log), "--group-size", "4", "--out", str(folder)]) == 2
    assert "group_size must be 8 as in" in capsys.readouterr().err
    assert (folder / "calibration.json").read_bytes() == before


def test_a_folder_of_something_else_is_refused(log, tmp_path, capsys):
    (tmp_path / "thesis.tex").write_text("keep me")
    assert main([*arguments(log), "--out", str(tmp_path)]) == 2
    assert "out must be empty or a calibration" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_malformed_pilots_leave_nothing_behind(log, tmp_path, capsys):
    lines = log.read_text().splitlines()
    lines[4] = lines[4].replace('"trial": 4', '"trial": 0')
    pilots = tmp_path / "pilots.jsonl"
    pilots.write_text("\n".join(lines))
    out = tmp_path / "out"
    assert main(["calibrate", str(pilots), "--out", str(out)]) == 2
    error = capsys.readouterr().err
    assert f"{pilots}, line 5, trial must be an integer in [1," in error
    assert not out.exists()
    assert main(["calibrate", str(tmp_path / "absent.jsonl"), "--out", str(out)]) == 1
    assert "absent.jsonl" in capsys.readouterr().err
    assert not out.exists()


def test_a_log_without_pilots_needs_a_step(log, tmp_path, capsys):
    rows = [json.loads(line) for line in log.read_text().splitlines()]
    training = tmp_path / "training.jsonl"
    training.write_text("\n".join(json.dumps(row) for row in rows if not row["is_pilot"]))
    out = tmp_path / "out"
    assert main(["calibrate", str(training), "--out", str(out), "--bootstrap", "10"]) == 2
    assert "--at-step" in capsys.readouterr().err
    small = ["--at-step", "0", "--bootstrap", "10", "--out", str(out)]
    assert main(["calibrate", str(training), *small]) == 0
    # the 75 prompts of the first update, 8 rollouts each
    assert read_json(out / "calibration.json")["pilots"]["prompts_by_rollouts"] == {"8": 75}


def test_pilots_alone_give_a_population_without_movement(log, tmp_path, capsys):
    rows = [json.loads(line) for line in log.read_text().splitlines()]
    pilots = tmp_path / "pilots.jsonl"
    pilots.write_text("\n".join(json.dumps(row) for row in rows if row["is_pilot"]))
    out = tmp_path / "out"
    assert main(["calibrate", str(pilots), "--out", str(out), "--bootstrap", "10"]) == 0
    assert "No drift, transfer, learning rate: no training in the log." in capsys.readouterr().out
    law = read_population(out / "population.json")
    assert (law.drift_sd, law.transfer, law.learning_rate) == (0.0, None, None)
    other = tmp_path / "other"
    small = ["--bootstrap", "10", "--seed", "1", "--out", str(other)]
    assert main(["calibrate", str(pilots), *small]) == 0
    ours, theirs = (read_json(path / "calibration.json")["quantities"] for path in (out, other))
    assert ours["mean"]["compatible"] == theirs["mean"]["compatible"]  # nothing random in it
    assert ours["mean"]["bootstrap"] != theirs["mean"]["bootstrap"]


def test_a_log_in_a_file_of_its_own_is_joined_to_the_pilots(folder, log, tmp_path):
    # split into two files, the evidence about movement is the same, line by line
    rows = [json.loads(line) for line in log.read_text().splitlines()]
    paths = []
    for is_pilot in (True, False):
        paths.append(tmp_path / f"{is_pilot}.jsonl")
        paths[-1].write_text(
            "\n".join(json.dumps(row) for row in rows if row["is_pilot"] is is_pilot)
        )
    out = tmp_path / "out"
    assert main([*arguments(paths[0]), "--log", str(paths[1]), "--out", str(out)]) == 0
    whole, split = (read_json(path / "calibration.json") for path in (folder, out))
    assert split["dynamics"] == whole["dynamics"]
    assert split["quantities"] == whole["quantities"]


@pytest.mark.slow
def test_killed_it_leaves_whole_files_and_starts_again_to_the_same_bytes(log, folder, tmp_path):
    out = tmp_path / "out"
    command = [sys.executable, "-m", "sim", *arguments(log), "--out", str(out)]
    root = Path(__file__).parents[2]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        command, cwd=root, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    deadline = time.monotonic() + 60.0
    while not (out / "config.json").exists():
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert (out / "config.json").exists()
    assert not (out / "population.json").exists()  # the last file; there if all the rest is
    assert main([*arguments(log), "--out", str(out)]) == 0
    for name in FILES:
        assert (out / name).read_bytes() == (folder / name).read_bytes(), name


def test_the_name_of_a_built_in_population_is_refused(log, tmp_path, capsys):
    # compare and tune would refuse the file that came of it
    assert main([*arguments(log), "--name", "dead", "--out", str(tmp_path / "out")]) == 2
    error = " ".join(capsys.readouterr().err.split())
    assert "calibrate: name must be none of ['skills'," in error
    assert "got 'dead'" in error
    assert not (tmp_path / "out").exists()
