"""Every shipped configuration can be planned; those of the paper hold what the paper states."""

from __future__ import annotations

from pathlib import Path

import pytest

import cures
from train.__main__ import main
from train.config_file import load
from train.dry_run.schedule import schedule, stand_in_scheduler

ROOT = Path(__file__).parents[2]
FILES = sorted((ROOT / "configs").glob("*.toml"))
PAPERS = [path for path in FILES if path.name.startswith("qwen")]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_dry_run(path, monkeypatch, capsys):
    monkeypatch.chdir(ROOT)  # where configs/architectures is
    assert main(["run", str(path), "--dry-run", "--prompts", "150000", "--processes", "8"]) == 0
    shown = capsys.readouterr().out
    assert "sum while training" in shown
    assert "rollouts over 150,000 prompts" in shown
    if path in PAPERS:
        # by hand: 4 pilots each, 15 subsets of 10 steps of 8192
        assert f"{4 * 150_000 + 15 * 10 * 8192:,}" in shown


@pytest.mark.parametrize("path", PAPERS, ids=lambda path: path.stem)
def test_what_the_paper_states(path):
    # the paper's section on experiments: T, N', M, N, m, learning rate, lengths, KL, temperature
    config = load(path)
    scheduler = config.scheduler
    assert (scheduler.name, scheduler.batch_size, scheduler.budget) == ("cures", 1024, 8 * 1024)
    options = scheduler.resolved_options()
    assert (options["num_subsets"], options["pilots"], options["steps_per_subset"]) == (15, 4, 10)
    assert options["use_moments"] is True
    learner = config.learner
    assert (learner.learning_rate, learner.schedule) == (1e-6, "constant")
    assert (learner.kl, learner.kl_weight, learner.entropy_bonus) == ("k3", 1e-3, 0.0)
    assert scheduler.batch_size / learner.minibatches == 256
    assert learner.estimator == ("grpo" if "grpo" in path.stem else "reinforce++")
    assert learner.aggregation == "prompt"
    assert (config.task.max_prompt_tokens, config.task.max_new_tokens) == (1024, 3072)
    assert (config.task.template, config.task.verifier) == ("chat", "math")
    assert config.rollout.decode_temperature == 1.0
    size = "1.5B" if "1.5b" in path.stem else "7B"
    assert config.model.path == config.task.tokenizer == f"Qwen/Qwen2.5-Math-{size}"


def test_the_papers_models_and_estimators_are_all_there():
    assert [path.stem for path in PAPERS] == [
        f"qwen2.5-math-{size}-cures-{estimator}"
        for size in ("1.5b", "7b")
        for estimator in ("grpo", "rpp")
    ]


@pytest.mark.parametrize("path", PAPERS, ids=lambda path: path.stem)
@pytest.mark.parametrize("name", ["uniform", "speed", "gvm"])
def test_baselines_of_the_paper_come_from_the_same_file(name, path):
    rollouts = 40_000  # few: that the plans are made is what is tested
    config = load(path, [f"scheduler.name={name}", f"run.rollouts={rollouts}"])
    scheduler = stand_in_scheduler(config, 30_000)
    assert isinstance(scheduler, cures.schedulers.SCHEDULERS[name])
    assert scheduler.estimator == config.learner.estimator
    found = schedule(scheduler, 30_000, rollouts, 0)
    assert found.generated >= rollouts
    # only GVM has pilots: 8 for each prompt of a subset, 30,000 / 15 = 2000 prompts; SPEED trains on
    # its screening rollouts
    assert found.pilots == (8 * 2000 if name == "gvm" else 0)
    assert found.trained > 0
