"""A real language model learns from real rewards, in seconds, with everything connected."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from cures.storage import read_json, read_jsonl
from train.__main__ import main
from train.building import load_run
from train.config_file import load
from train.engines.native import NativeEngine
from train.evaluation import held_out_success
from train.progress import TrainingProgress
from train.run import train
from train.tasks.making import make_task
from train.warm_start import warm_start
from train.world import World

SMOKE = Path(__file__).parents[2] / "configs" / "smoke.toml"
HELD_OUT = ["task.held_out_size=400", "evaluation.samples=16", "evaluation.every=4096"]


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("warm_start")


def run(folder, cache, *overrides):
    """Train by the smoke configuration with a larger held-out set; return the configuration."""
    config = load(SMOKE, [*HELD_OUT, f'run.cache="{cache}"', *overrides])
    with TrainingProgress(Console(file=io.StringIO())) as progress:
        train(config, folder, progress)
    return config


@pytest.fixture(scope="module")
def trained(tmp_path_factory, cache):
    folder = tmp_path_factory.mktemp("run")
    return folder, run(folder, cache)


def gain_z(folder):
    """Gain in held-out success over the warm start, in paired standard errors over problems."""
    config, task, host = load_run(folder)
    engine = NativeEngine(warm_start(config, task).model)
    engine.load_weights(engine.model.state_dict().items(), 0)
    before = held_out_success(engine, task, config.evaluation, version=0, world=World())
    after = held_out_success(
        host.engine, task, config.evaluation, version=host.updates, world=World()
    )
    gain = after - before
    return gain.mean() / (gain.std(ddof=1) / np.sqrt(gain.size))


def test_groups_are_mixed(trained):
    # first of all: with constant groups the loss is 0 and everything below would be vacuous
    rows = read_jsonl(trained[0] / "metrics.jsonl")
    assert min(row["informative"] for row in rows) > 0
    assert np.mean([row["wasted"] for row in rows]) < 0.9


def test_held_out_success_rises_beyond_noise(trained):
    # 4 standard errors of a paired difference over 400 problems; 8.6 when this was written
    assert gain_z(trained[0]) > 4


def test_random_rewards_do_not_pass(tmp_path, cache):
    # negative control: the same run with coin flips for rewards
    run(tmp_path / "coins", cache, "task.coins=1.0")
    rows = read_jsonl(tmp_path / "coins" / "metrics.jsonl")
    assert min(row["informative"] for row in rows) > 0, "coins give gradients too, of noise"
    assert gain_z(tmp_path / "coins") < 0


def test_metrics_are_finite_and_add_up(trained):
    folder, config = trained
    rows = read_jsonl(folder / "metrics.jsonl")
    assert [row["step"] for row in rows] == list(range(1, 31))
    assert [row["generated"] for row in rows] == [256 * s for s in range(1, 31)]
    for row in rows:
        for key in ("loss", "grad_norm", "entropy", "reward", "clip_share"):
            assert np.isfinite(row[key]), key
        assert row["trained"] == config.scheduler.budget
        assert not any("time" in key for key in row), "times would break resuming bit for bit"
    assert sum(row["trained_tokens"] for row in rows) == rows[-1]["tokens"]


def test_outcomes_are_evidence_of_every_rollout(trained):
    folder, _ = trained
    rows = read_jsonl(folder / "outcomes.jsonl")
    summary = read_json(folder / "summary.json")
    assert sum(row["trial"] for row in rows) == summary["generated"] == 7680
    assert set(rows[0]) == {"prompt", "step", "success", "trial", "is_pilot"}
    by_step = np.bincount([r["step"] for r in rows], weights=[r["success"] for r in rows])
    success = [row["success"] for row in read_jsonl(folder / "metrics.jsonl")]
    assert (by_step / 256).tolist() == success


def test_evaluations_lie_on_the_grid(trained):
    rows = read_jsonl(trained[0] / "evaluation.jsonl")
    assert [row["generated"] for row in rows] == [0, 4096, 7680]
    summary = read_json(trained[0] / "summary.json")
    assert summary["held_out_end"] == rows[-1]["held_out"]
    assert (trained[0] / "curve.png").read_bytes().startswith(b"\x89PNG")


def test_checkpoint_gives_the_model_that_was_evaluated(trained, capsys):
    folder, config = trained
    assert main(["eval", str(folder), "--samples", str(config.evaluation.samples)]) == 0
    printed = capsys.readouterr().out
    assert f"held-out success {read_json(folder / 'summary.json')['held_out_end']:.3f}" in printed
    assert "after 30 updates, 7680 rollouts" in printed


def test_sampled_answers_are_shown_with_their_rewards(trained, capsys):
    folder, _ = trained
    assert main(["eval", str(folder), "--samples", "1", "--show", "200"]) == 0
    lines = capsys.readouterr().out.splitlines()
    shown = [line for line in lines if "  reward " in line]
    assert len(shown) == 200
    said_right = 0
    for line in shown:
        asked, _, rest = line.strip().partition("=")
        answer, reward = rest.split()[0], int(line.split("reward ")[1].split()[0])
        operator = "+" if "+" in asked else "@"
        a, b = (text[::-1] for text in asked.split(operator))
        if operator == "+":
            right = str(int(a) + int(b)).zfill(3)[::-1]
        else:  # digit by digit without carry, then a digit that is always 0
            right = "".join(
                str(int(x) * int(y) % 10) for x, y in zip(a[::-1], b[::-1], strict=True)
            )
            right = right + "0"
        assert reward == (answer == right)
        assert ("(right)" in line) == bool(reward)
        assert reward or f"wrong, {right} is right" in line
        said_right += reward
    assert 0 < said_right < 200, "a model that is always right or never would show little"


def test_a_finished_run_repeats_nothing(trained, cache):
    folder, config = trained
    names = ("metrics.jsonl", "outcomes.jsonl", "evaluation.jsonl", "summary.json")
    before = [(folder / name).read_bytes() for name in names]
    with TrainingProgress(Console(file=io.StringIO())) as progress:
        train(config, folder, progress)
    assert [(folder / name).read_bytes() for name in names] == before


def test_another_configuration_is_refused_by_name(trained, cache):
    with pytest.raises(ValueError, match=r"learner.learning_rate was 0.001 and is 0.5"):
        run(trained[0], cache, "learner.learning_rate=0.5")


def test_a_foreign_folder_is_refused(tmp_path, cache):
    (tmp_path / "thesis.tex").write_text("precious")
    with pytest.raises(ValueError, match="--out must be a new folder"):
        run(tmp_path, cache)
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.tex"]


def test_folders_of_other_programs_are_left_as_they_are(tmp_path, cache):
    # a Hugging Face model folder and a simulator comparison also hold a config.json
    (tmp_path / "config.json").write_text('{"architectures": ["Qwen2ForCausalLM"]}')
    (tmp_path / "metrics.jsonl").write_text('{"step": 1}')
    before = {p.name: p.read_bytes() for p in tmp_path.iterdir()}
    with pytest.raises(ValueError, match="config.json must be written by train run"):
        run(tmp_path, cache)
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == before


@pytest.mark.parametrize("name", ["uniform", "cures", "dapo"])
def test_every_arm_is_evaluated_on_one_grid(name, tmp_path, cache):
    # grid of 100 against updates of 256 rollouts and pilots: points fall inside plans
    run(tmp_path, cache, f'scheduler.name="{name}"', "evaluation.every=100", "run.rollouts=1000")
    rows = read_jsonl(tmp_path / "evaluation.jsonl")
    assert [row["generated"] for row in rows] == list(range(0, 1001, 100))
    # the policy of a point is the one that all rollouts up to it had made, never a later one
    after = {row["step"]: row["generated"] for row in read_jsonl(tmp_path / "metrics.jsonl")}
    for row in rows[1:-1]:
        reached = [step for step, generated in after.items() if generated <= row["generated"]]
        assert row["step"] == max(reached, default=0)


def test_the_warm_start_is_made_once(trained, cache):
    config = trained[1]
    assert len(list(cache.iterdir())) == 1
    assert warm_start(config, make_task(config)).was_cached


# one of every kind; all of them are planned for a model (dry run) and give both hosts the same plans
@pytest.mark.parametrize(
    "name",
    ["cures", "cures-released", "gvm", "dapo", "lilo", "reinforce-ada", "adaptive", "oracle"],
)
def test_every_kind_of_scheduler_trains_a_language_model(name, tmp_path, cache):
    run(
        tmp_path / "run",
        cache,
        f"scheduler.name={name}",
        "run.rollouts=1600",
        "rollout.gradient_moments=true",
        "evaluation.samples=1",
        "evaluation.oracle_rollouts=2",
        "run.checkpoint_every=100",
        "scheduler.cures-released={num_subsets=5, pilots=2}",
        "scheduler.gvm={num_subsets=5, pilots=2}",
    )
    summary = read_json(tmp_path / "run" / "summary.json")
    # rule of the protocol: what is left is less than one group of two
    assert 1600 - 2 < summary["generated"] <= 1600
    rows = read_jsonl(tmp_path / "run" / "metrics.jsonl")
    assert rows
    assert summary["updates"] == len(rows) == rows[-1]["step"]
    assert sum(row["informative"] for row in rows) > 0
