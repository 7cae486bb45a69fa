"""Configurations of the trainer: what is refused, by which name, and that nothing gets lost."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

from tests.train_cases import small_config
from train.__main__ import main
from train.config import SECTIONS, from_dict
from train.config_file import describe, differences, load

CONFIGS = sorted((Path(__file__).parents[2] / "configs").glob("*_cpu.toml"))


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_shipped_configs_load(path):
    config = load(path)
    assert config.run.rollouts % config.scheduler.budget == 0


@pytest.mark.parametrize(
    ("section", "values", "message"),
    [
        ("task", {"pool_size": 0}, r"\[task\]: pool_size must be an int in \[1, inf\), got 0"),
        ("task", {"pool_size": 2.5}, r"\[task\]: pool_size must be an int .*, got 2.5"),
        ("task", {"families": ["add", "div"]}, r"\[task\]: families must be a list of distinct"),
        ("task", {"digits": [True]}, r"\[task\]: digits must be a list"),
        ("task", {"digits": [1, 1]}, r"\[task\]: digits must be a list of distinct"),
        ("task", {"coins": 0.6, "dead_never": 0.5}, "must be at most 1, got 1.1"),
        ("task", {"coin": 0.1}, r"\[task\]: key must be one of .*'coins'.*, got 'coin'"),
        ("model", {"hidden_size": 18}, r"hidden_size must be a multiple of 2 \* heads = 4, got 18"),
        ("model", {"heads": 4, "kv_heads": 3}, "kv_heads must be a divisor of heads = 4, got 3"),
        ("warm_start", {"digit_noise": -0.1}, r"digit_noise must be a float in \[0.0, 1.0\]"),
        ("rollout", {"decode_temperature": 0}, r"decode_temperature must be a float in \(0.0, inf"),
        ("rollout", {"gradient_moments": 1}, "gradient_moments must be True or False, got 1"),
        ("learner", {"learning_rate": float("nan")}, "learning_rate must be a float"),
        ("learner", {"estimator": "ppo"}, "estimator must be one of .*'grpo'.*, got 'ppo'"),
        ("scheduler", {"name": "curse"}, "name must be one of .*'cures'.*, got 'curse'"),
        ("scheduler", {"curse": {"temperature": 1}}, "name of a table must be one of"),
        ("scheduler", {"cures": {"tau": 1.0}}, r"\[scheduler.cures\]: key must be one of"),
        ("scheduler", {"estimator": "rloo"}, "estimator must be left out, because other sections"),
        ("scheduler", {"cures": {"budget": 8}}, r"\[scheduler.cures\]: key must be one of"),
        ("evaluation", {"every": "often"}, "every must be an int .*, got 'often'"),
        ("run", {"threads": 0}, r"threads must be an int in \[1, inf\), got 0"),
        ("run", {"cache": ""}, "cache must be a non-empty string"),
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


def test_help_explains_every_key():
    text = describe()
    for title, cls in SECTIONS.items():
        assert f"[{title}]" in text
        for field in dataclasses.fields(cls):
            assert not field.metadata or f"  {field.name}" in text


def test_command_line_reports_bad_input_without_a_traceback(tmp_path, capsys):
    assert main(["run", str(tmp_path / "absent.toml")]) == 1
    assert main(["eval", str(tmp_path)]) == 1
    assert main(["run", str(CONFIGS[0]), "--scheduler", "best"]) == 1
    message = capsys.readouterr().err
    assert message.count("error: ") == 3
    assert "must be one with a config.json" in message
    assert "got 'best'" in message
