"""Configurations of the trainer: what is refused, by which name, and that nothing gets lost."""

from __future__ import annotations

import dataclasses
import datetime
import json
from pathlib import Path

import pytest

from tests.train_cases import small_config
from train.__main__ import main
from train.config import SECTIONS, from_dict
from train.config_file import describe, differences, load
from train.errors import TrainError

CONFIGS = sorted((Path(__file__).parents[2] / "configs").glob("*_cpu.toml"))


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_shipped_configs_load(path):
    config = load(path)
    assert config.run.rollouts % config.scheduler.budget == 0


@pytest.mark.parametrize(
    ("section", "values", "message"),
    [
        ("task", {"pool_size": 0}, r"\[task\]: pool_size must be an int in \[1, 10000000\], got 0"),
        ("task", {"pool_size": 2.5}, r"\[task\]: pool_size must be an int .*, got 2.5"),
        ("task", {"families": ["add", "div"]}, r"\[task\]: families must be a list of distinct"),
        ("task", {"digits": [True]}, r"\[task\]: digits must be a list"),
        ("task", {"digits": [1, 1]}, r"\[task\]: digits must be a list of distinct"),
        ("task", {"coins": 0.6, "dead_never": 0.5}, "must be at most 1, got 1.1"),
        ("task", {"coin": 0.1}, r"\[task\]: key must be one of .*'coins'.*, got 'coin'"),
        ("model", {"hidden_size": 18}, r"hidden_size must be a multiple of 2 \* heads = 4, got 18"),
        ("model", {"heads": 4, "kv_heads": 3}, "kv_heads must be a divisor of heads = 4, got 3"),
        ("warm_start", {"digit_noise": -0.1}, r"digit_noise must be a float in \[0.0, 1.0\]"),
        ("rollout", {"decode_temperature": 0}, r"temperature must be a float in \(0.0, 100.0\]"),
        ("rollout", {"gradient_moments": 1}, "gradient_moments must be True or False, got 1"),
        ("learner", {"learning_rate": float("nan")}, "learning_rate must be a float"),
        ("learner", {"estimator": "ppo"}, "estimator must be one of .*'grpo'.*, got 'ppo'"),
        ("scheduler", {"name": "curse"}, "name must be one of .*'cures'.*, got 'curse'"),
        ("scheduler", {"curse": {"temperature": 1}}, "name of a table must be one of"),
        ("scheduler", {"cures": {"tau": 1.0}}, r"\[scheduler.cures\]: key must be one of"),
        ("scheduler", {"estimator": "rloo"}, "estimator must be left out, because other sections"),
        ("scheduler", {"cures": {"budget": 8}}, r"\[scheduler.cures\]: key must be one of"),
        ("evaluation", {"every": "often"}, "every must be an int .*, got 'often'"),
        ("run", {"threads": 0}, r"threads must be an int in \[1, 1024\], got 0"),
        ("run", {"cache": ""}, "cache must be a non-empty string"),
        ("run", {"threads": 1025}, r"threads must be an int in \[1, 1024\], got 1025"),
        ("run", {"rollouts": 10**13}, r"rollouts must be an int in \[1, 1000000000000\]"),
        ("learner", {"learning_rate": 1e15}, r"learning_rate must be a float in \(0.0, 10.0\]"),
        ("warm_start", {"muon_lr": 11.0}, r"muon_lr must be a float in \(0.0, 10.0\], got 11.0"),
        ("warm_start", {"adamw_lr": 11.0}, r"adamw_lr must be a float in \(0.0, 10.0\]"),
        ("model", {"hidden_size": 10**6}, r"hidden_size must be an int in \[8, 100000\]"),
        ("scheduler", {"budget": 10**9}, r"budget must be an int in \[1, 10000000\]"),
        ("scheduler", {"options": 5}, r"\[scheduler\]: options must be a table, got 5"),
        ("scheduler", {"prior": float("nan")}, r"\[scheduler\]: prior must be a finite number"),
        ("scheduler", {"prior": [1.0, float("inf")]}, "prior must be a finite number, a string"),
        ("scheduler", {"seed": datetime.date(2024, 1, 2)}, r"seed must be a finite number"),
        (
            "scheduler",
            {"cures": {"temperature": float("nan")}},
            r"\[scheduler.cures\]: temperature",
        ),
        ("scheduler", {"speed": {"seed": datetime.date(2024, 1, 2)}}, r"\[scheduler.speed\]: seed"),
        ("scheduler", {"gvm": {"alpha": {"x": 1}}}, r"\[scheduler.gvm\]: alpha must be a finite"),
        ("optimizer", {"lr": 1}, "section must be one of .*'learner'.*, got 'optimizer'"),
    ],
)
def test_bad_values_are_named(section, values, message):
    with pytest.raises(ValueError, match=message):
        small_config(**{section: values})


def test_missing_value_is_named():
    content = small_config().as_dict()
    del content["run"]["rollouts"]
    with pytest.raises(ValueError, match=r"\[run\]: rollouts must be given"):
        from_dict(content)


def test_round_trip_through_json():
    config = small_config(scheduler={"name": "cures", "cures": {"temperature": 0.1}, "seed": 3})
    again = from_dict(json.loads(json.dumps(config.as_dict())))
    assert again == config
    assert again.scheduler.resolved_options() == {"seed": 3, "temperature": 0.1}
    assert dataclasses.replace(config.scheduler, name="speed").resolved_options() == {"seed": 3}


def test_overrides(tmp_path):
    path = tmp_path / "one.toml"
    path.write_text(
        "[task]\npool_size = 9\n[scheduler]\nbatch_size = 2\nbudget = 8\n"
        "[evaluation]\nevery = 8\n[run]\nrollouts = 80\n"
    )
    overrides = ["task.digits=[1, 2]", "scheduler.name=cures", "scheduler.cures.temperature=0.2"]
    config = load(path, overrides)
    assert config.task.digits == (1, 2)
    assert config.scheduler.name == "cures"
    assert config.scheduler.resolved_options() == {"temperature": 0.2}
    for bad in ("run", "run=1", "=1", "run.=1", "task.pool_size.x=1"):
        with pytest.raises(ValueError, match="--set"):
            load(path, [bad])


def test_unreadable_files_are_named(tmp_path):
    with pytest.raises(ValueError, match=r"cannot read .*absent.toml"):
        load(tmp_path / "absent.toml")
    (tmp_path / "bad.toml").write_text("[task\n")
    with pytest.raises(ValueError, match=r"bad.toml is not valid TOML"):
        load(tmp_path / "bad.toml")


def test_differences_name_key_and_both_values():
    old, new = small_config().as_dict(), small_config(run={"seed": 4}).as_dict()
    assert differences(old, old) == []
    assert differences(old, new) == ["run.seed was 0 and is 4"]


def test_every_number_has_an_upper_bound():
    # a slip of the keyboard is refused by name and does not fill the memory
    for cls in SECTIONS.values():
        for field in dataclasses.fields(cls):
            if field.metadata and field.metadata["kind"] in ("int", "float"):
                assert "high" in field.metadata["limits"], f"{cls.TITLE}.{field.name}"


def test_help_explains_every_key_and_its_limits():
    text = describe()
    for title, cls in SECTIONS.items():
        assert f"[{title}]" in text
        for field in dataclasses.fields(cls):
            if field.metadata:
                lines = text.split(f"[{title}]")[1].split("\n[")[0].splitlines()
                line = next(x for x in lines if x.startswith(f"  {field.name} "))
                assert ("required; " in line) == (field.default is dataclasses.MISSING)
    for key, part in (
        ("hidden_size", "a multiple of 2 * heads (default 96; int in [8, 100000])"),
        ("beta1", "(default 0.9; float in [0.0, 1.0))"),
        ("adamw_lr", "(default 0.003; float in (0.0, 10.0])"),
        ("threads", "(default 1; int in [1, 1024])"),
        ("gradient_moments", "(default false; true or false)"),
        ("aggregation", "(default prompt; one of prompt, rollout, token)"),
        ("digits", "(default [1, 2, 3, 4]; out of 1, 2, 3, 4)"),
    ):
        assert any(x.startswith(f"  {key} ") and part in x for x in text.splitlines()), key


def test_command_line_reports_bad_input_without_a_traceback(tmp_path, capsys):
    assert main(["run", str(tmp_path / "absent.toml")]) == 2
    assert main(["eval", str(tmp_path)]) == 2
    assert main(["run", str(CONFIGS[0]), "--scheduler", "best"]) == 2
    message = capsys.readouterr().err
    assert message.count("error: ") == 3
    assert "must be one with a config.json" in message
    assert "got 'best'" in message


@pytest.mark.parametrize("value", ["0.2", "0"])
def test_an_override_that_would_be_ignored_is_refused(value):
    path = CONFIGS[0]
    assert "temperature" in load(path).scheduler.options["cures"]
    override, chosen = f"scheduler.temperature={value}", 'scheduler.name="cures"'
    sentence = r"--set: override must be scheduler\.cures\.temperature=\.\.\., .* wins, got"
    with pytest.raises(ValueError, match=sentence):
        load(path, [override, chosen])
    options = load(path, ["scheduler.cures.temperature=0.3", chosen]).scheduler.resolved_options()
    assert options["temperature"] == 0.3
    # the table of another scheduler does not count, and may not be meant
    other = 'scheduler.name="oracle"'
    options = load(path, [override, other]).scheduler.resolved_options()
    assert options["temperature"] == float(value)
    with pytest.raises(
        ValueError, match="override must be about the scheduler of this run, 'oracle'"
    ):
        load(path, ["scheduler.cures.temperature=0.3", other])


def test_moments_that_nobody_would_measure_are_refused():
    wanted = ['scheduler.name="cures"', "scheduler.cures.use_moments=true"]
    with pytest.raises(ValueError, match=r"\[rollout\]: gradient_moments must be true, because"):
        load(CONFIGS[0], wanted)
    config = load(CONFIGS[0], [*wanted, "rollout.gradient_moments=true"])
    assert config.scheduler.resolved_options()["use_moments"] is True


def test_a_config_that_is_no_text_is_named(tmp_path):
    path = tmp_path / "config.toml"
    path.write_bytes(b"\xff\xfe[run]")
    with pytest.raises(ValueError, match=r"config: .*config\.toml is not valid TOML: .*utf-8"):
        load(path)


def test_exit_status_is_that_of_argparse_on_bad_input(tmp_path, monkeypatch, capsys):
    run = ["run", str(CONFIGS[0])]
    for bad in (["run"], ["nonsense"], ["eval", str(tmp_path), "--samples", "many"]):
        with pytest.raises(SystemExit) as stop:
            main(bad)
        assert stop.value.code == 2
    for bad in (
        [*run, "--set", "run.threads=0"],
        [*run, "--out", str(CONFIGS[0])],
        ["eval", str(tmp_path), "--samples", "0"],
        ["eval", str(tmp_path), "--show", "-1"],
    ):
        assert main(bad) == 2, bad
    for error, status in (
        (TrainError("diverged"), 1),
        (OSError("disk full"), 1),
        (KeyboardInterrupt(), 130),
    ):

        def fails(*arguments, error=error):
            raise error

        monkeypatch.setattr("train.run.train", fails)
        assert main([*run, "--out", str(tmp_path / "run")]) == status
    assert "Traceback" not in capsys.readouterr().err
