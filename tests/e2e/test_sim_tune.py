"""From a search in the simulator to a trained language model, killed and resumed on the way."""

from __future__ import annotations

import argparse
import fcntl
import random
import subprocess
import sys
import time
import tomllib
from pathlib import Path

import joblib
import optuna
import pytest

from cures.storage import read_json, read_jsonl
from sim.cli import main as sim
from sim.commands.tune import add_arguments, study_of
from sim.tuning.tune import tune
from train.__main__ import main as train

ROOT = Path(__file__).resolve().parents[2]
TINY = [
    "--scheduler", "cures", "--population", "dead", "--policy", "item_response", "--pool", "100",
    "--held-out", "20", "--rollouts", "800", "--batch-size", "8", "--trials", "6", "--batch", "3",
    "--trial-seeds", "2", "--select-seeds", "2", "--confirm-seeds", "6", "--top", "2",
    "--profile-points", "2", "--grid-points", "9", "--fix", "num_subsets=2", "forgetting=0",
    "steps_per_subset=5", "pilots=2",
]  # fmt: skip
RESULTS = ("config.json", "trials.jsonl", "recommendation.json")


def tiny_study(*more):
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    return study_of(parser.parse_args([*TINY, *more]))


def results(folder: Path) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in RESULTS}


@pytest.fixture(scope="module")
def tuned(tmp_path_factory):
    """The command, uninterrupted and in one process: its run folder and its TOML file."""
    place = tmp_path_factory.mktemp("tuned")
    folder, out = place / "study", place / "tuned.toml"
    assert sim(["tune", *TINY, "--folder", str(folder), "--out", str(out)]) == 0
    return folder, out


def test_the_folder_holds_what_help_says(tuned):
    folder, out = tuned
    report, rows = read_json(folder / "recommendation.json"), read_jsonl(folder / "trials.jsonl")
    assert [row["number"] for row in rows] == list(range(6))
    stored = optuna.load_study(storage=f"sqlite:///{folder / 'study.db'}", study_name="tune")
    assert [t.value for t in stored.get_trials()] == [row["value"] for row in rows]
    for row in rows:  # the runs of every trial are there, as many as it has seeds
        assert len(list((folder / row["runs"] / "development").iterdir())) >= 2
    for picture in ("profiles.png", "slices.png", "confirmation.png"):
        assert (folder / picture).read_bytes().startswith(b"\x89PNG")
    content = tomllib.loads(out.read_text())["scheduler"]
    assert content["name"] == "cures"
    assert content["group_size"] == report["recommended"]["group_size"]
    assert content["cures"] == report["recommended"]["options"]
    assert content["tuned"]["met"] == report["exposure"]["met"]
    assert content["tuned"]["command"].startswith("python -m sim tune --scheduler cures")
    assert content["tuned"]["minus_uniform"] == [
        report["recommended_minus_uniform"][key] for key in ("mean", "low", "high")
    ]


def test_the_trainer_reads_it(tuned, tmp_path, capsys):
    _, out = tuned
    overrides = [
        "task.pool_size=200", "task.held_out_size=20", "warm_start.steps=20", "run.rollouts=2048",
        "scheduler.budget=128", "model.hidden_size=32", "model.ffn_size=32", "model.layers=1",
        "evaluation.every=2048", "evaluation.samples=1",
        f'run.cache="{tmp_path / "cache"}"',
    ]  # fmt: skip
    command = ["run", str(ROOT / "configs/smoke.toml"), "--scheduler", str(out)]
    command += ["--out", str(tmp_path / "run")]
    for override in overrides:
        command += ["--set", override]
    assert train(command) == 0
    # a model fresh from 20 supervised steps is hardly ever right: not the population that was tuned on
    text = " ".join(capsys.readouterr().out.split())
    assert "note: the settings were tuned for 100 prompts, not 200" in text
    config = read_json(tmp_path / "run/config.json")["scheduler"]
    content = tomllib.loads(out.read_text())["scheduler"]
    assert config["options"]["cures"] == content["cures"]
    assert config["batch_size"] == 128 // content["group_size"]
    looks = read_json(tmp_path / "run/summary.json")["tuned_population"]
    assert looks
    assert any(look["has_left"] for look in looks)
    assert "have left the population 'dead'" in text


@pytest.mark.slow
def test_killed_studies_end_with_the_bytes_of_an_uninterrupted_one(tuned, tmp_path):
    folder = tmp_path / "killed"
    command = [sys.executable, "-m", "sim", "tune", *TINY, "--folder", str(folder)]
    dice, kills = random.Random(3), 0
    for jobs in ("1", "2"):
        process = subprocess.Popen(
            [*command, "--jobs", jobs, "--checkpoint-every", "0"], cwd=ROOT,
            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
        )  # fmt: skip
        until, before = time.monotonic() + 60.0, len(list(folder.rglob("summary.json")))
        while process.poll() is None and len(list(folder.rglob("summary.json"))) < before + 3:
            assert time.monotonic() < until, "no run finished within a minute"
            time.sleep(0.01)
        time.sleep(dice.uniform(0.0, 0.1))
        if process.poll() is None:
            process.kill()  # workers notice by themselves
            kills += 1
        process.communicate(timeout=30)
    assert kills == 2
    with joblib.parallel_config(backend="threading", n_jobs=2):  # in the place of Ray or Dask
        tune(tiny_study(), folder, jobs=None)
    assert results(folder) == results(tuned[0])


def test_another_study_in_the_folder_is_refused_and_more_trials_are_not(tuned, capsys):
    folder, _ = tuned
    before = results(folder)
    assert sim(["tune", *TINY, "--folder", str(folder), "--root-seed", "1"]) == 2
    assert "tune: protocol.root_seed must be 0 as in" in " ".join(capsys.readouterr().err.split())
    assert sim(["tune", *TINY[:-5], "--fix", "pilots=3", "--folder", str(folder)]) == 2
    assert "tune: fixed." in capsys.readouterr().err
    assert results(folder) == before
    with open(folder / ".lock", "wb") as file:  # as a second process would hold it
        fcntl.flock(file, fcntl.LOCK_EX)
        assert sim(["tune", *TINY, "--folder", str(folder)]) == 1
    assert "another process is tuning in" in " ".join(capsys.readouterr().err.split())


@pytest.mark.parametrize(
    ("more", "sentence"),
    [
        (["--scheduler", "best"], "tune: scheduler must be one of"),
        (["--fix", "pilots"], "tune: fix must be KEY=VALUE, once per key, got 'pilots'"),
        (["--fix", "temprature=1"], "tune cures: keyword must be one of"),
        (["--range", "temperature=1:0.1"], "tune: range must be KEY=LOW:HIGH"),
        (["--range", "temperature=0:1:log"], "above 0 for log"),
        (["--jobs", "0"], "tune: jobs must be an int in [1, inf)"),
        (["--pool", "0"], "tune: pool must be an int in [1, inf)"),
        (["--trials", "0"], "tune: trials must be an int in [1, inf)"),
        (["--population", "absent.json"], "absent.json"),
        (["--out", "."], "tune: out must be a file, got the folder"),
        (["--out", f"{__file__}/tuned.toml"], "tune: folder of out must be a folder, got"),
        (["--fix", "prior=null"], "tune cures: prior must be a finite number, a string, a boolean"),
        (["--fix", "subset_N=category"], "tune cures: keyword must be one of"),
    ],
)
def test_bad_values_are_refused_by_name_before_anything_is_written(
    more, sentence, tmp_path, capsys
):
    folder = tmp_path / "study"
    assert sim(["tune", *TINY, "--folder", str(folder), *more]) == 2
    assert sentence in " ".join(capsys.readouterr().err.split())
    assert not folder.exists()


def test_help_says_how_to_use_a_cluster(capsys):
    with pytest.raises(SystemExit):
        sim(["tune", "--help"])
    text = capsys.readouterr().out
    for line in (
        "register_ray()",
        'parallel_config(backend="ray")',
        'backend="dask"',
        "N', rollouts",
    ):
        assert line in text
