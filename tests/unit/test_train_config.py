"""Configurations of the trainer: what is refused, by which name, and that nothing gets lost."""

from __future__ import annotations

import dataclasses
import datetime
import json
import re
from contextlib import nullcontext
from pathlib import Path

import pytest

from tests.train_cases import small_config, trained
from train.__main__ import main
from train.config import KINDS, SECTIONS, from_dict
from train.config_file import describe, differences, load
from train.errors import TrainError
from train.model import device_of
from train.trackers import check_installed, run_id
from train.world import World

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
        ("task", {"kind": "trivia"}, r"kind must be one of .*'arithmetic'.*, got 'trivia'"),
        ("task", {"data": "a.jsonl"}, r"\[task\]: key must be one of .*, got 'data'"),
        ("task", {"kind": ["dataset"]}, r"\[task\]: kind must be one of"),
        ("model", {"kind": "borrowed"}, r"kind must be one of .*'pretrained'.*, got 'borrowed'"),
        ("model", {"path": "a"}, r"\[model\]: key must be one of .*'layers'.*, got 'path'"),
        ("warm_start", {"target_success": 1.5}, r"target_success must be a float in \[0.0, 1.0\]"),
        ("rollout", {"engine": "fast"}, "engine must be one of .*'native'.*, got 'fast'"),
        ("rollout", {"max_rows": 0}, r"max_rows must be an int in \[1, 10000000\], got 0"),
        ("rollout", {"time_limit_s": 0}, r"time_limit_s must be a float in \(0.0, 1000000000.0\]"),
        ("learner", {"aggregation": "sequence"}, "aggregation must be one of .*'token'"),
        ("learner", {"schedule": "step"}, "schedule must be one of .*'cosine'.*, got 'step'"),
        ("learner", {"warmup_share": 1.1}, r"warmup_share must be a float in \[0.0, 1.0\]"),
        ("learner", {"final_lr_share": -0.1}, r"final_lr_share must be a float in \[0.0, 1.0\]"),
        ("learner", {"minibatches": 0}, r"minibatches must be an int in \[1, 10000000\], got 0"),
        ("learner", {"pass_tokens": 0}, r"pass_tokens must be an int in \[1, 1000000000000\]"),
        ("learner", {"skip_untouched": 1}, "skip_untouched must be True or False, got 1"),
        ("learner", {"clip_low": 0.0}, r"clip_low must be a float in \(0.0, 1.0\], got 0.0"),
        ("learner", {"clip_low": 1.1}, r"clip_low must be a float in \(0.0, 1.0\], got 1.1"),
        ("learner", {"clip_high": 0.0}, r"clip_high must be a float in \(0.0, 1000000.0\]"),
        ("learner", {"entropy_bonus": -1.0}, r"entropy_bonus must be a float in \[0.0, 100.0\]"),
        ("learner", {"entropy_over": "some"}, "entropy_over must be one of .*'informative', 'all'"),
        ("learner", {"kl": "k2"}, "kl must be one of .*'none', 'k1', 'k3'.*, got 'k2'"),
        ("learner", {"kl_weight": -1.0}, r"kl_weight must be a float in \[0.0, 100.0\], got -1.0"),
        ("learner", {"mismatch": "on"}, "mismatch must be one of .*'off', 'truncated'"),
        ("learner", {"mismatch_cap": 0.5}, r"mismatch_cap must be a float in \[1.0, 1000000.0\]"),
        ("learner", {"precision": "float16"}, "precision must be one of .*'float32', 'bfloat16'"),
        ("learner", {"activation_checkpointing": 1}, "activation_checkpointing must be True or"),
        ("learner", {"compile": "yes"}, "compile must be True or False, got 'yes'"),
        ("learner", {"sharding": "ddp"}, "sharding must be one of .*'none', 'fsdp'"),
        ("learner", {"beta1": 1.0}, r"beta1 must be a float in \[0.0, 1.0\), got 1.0"),
        ("learner", {"max_grad_norm": 0.0}, r"max_grad_norm must be a float in \(0.0, 10"),
        ("learner", {"max_grad_norm": float("inf")}, "max_grad_norm must be a float in"),
        ("run", {"checkpoints_kept": 1}, r"checkpoints_kept must be an int in \[2, 10000000\]"),
        ("run", {"tensorboard": 1}, "tensorboard must be True or False, got 1"),
        ("run", {"wandb": ""}, "wandb must be a non-empty string, got ''"),
        ("optimizer", {"lr": 1}, "section must be one of .*'learner'.*, got 'optimizer'"),
    ],
)
def test_bad_values_are_named(section, values, message):
    with pytest.raises(ValueError, match=message):
        small_config(**{section: values})


PRETRAINED = {"kind": "pretrained", "path": "Qwen/Qwen2.5-Math-1.5B"}
DATASET = {"kind": "dataset", "tokenizer": "Qwen/Qwen2.5-Math-1.5B", "data": "problems.jsonl",
           "held_out_size": 20}  # fmt: skip


def content_of(**sections):
    """A pretrained model on a data set; ``sections`` take the place of whole sections, None: of none."""
    small = small_config().as_dict()
    content = {name: small[name] for name in ("scheduler", "evaluation", "run")}
    content |= {"task": DATASET, "model": PRETRAINED, **sections}
    return {name: section for name, section in content.items() if section is not None}


def test_a_pretrained_model_on_a_data_set():
    config = from_dict(content_of())
    assert config.warm_start is None
    assert config.model.kind == "pretrained"
    assert config.task.kind == "dataset"
    assert from_dict(json.loads(json.dumps(config.as_dict()))) == config


@pytest.mark.parametrize(
    ("sections", "message"),
    [
        (
            {"warm_start": {}},
            r"\[warm_start\] must be given for models of kind scratch alone, got ",
        ),
        ({"model": None}, r"kind must be scratch only with \[task\] kind arithmetic.*'dataset'"),
        (
            {"task": {"pool_size": 20, "held_out_size": 4}},
            r"\[model\]: kind must be scratch with \[task\] kind arithmetic, got 'pretrained'",
        ),
        ({"model": {"kind": "pretrained"}}, r"\[model\]: path must be given, got nothing"),
        ({"model": {**PRETRAINED, "path": ""}}, "path must be a non-empty string"),
        ({"model": {**PRETRAINED, "layers": 2}}, "key must be one of .*'path'.*, got 'layers'"),
        ({"model": {**PRETRAINED, "dtype": "int8"}}, "dtype must be one of .*'bfloat16'"),
        ({"model": {**PRETRAINED, "attention": "fast"}}, "attention must be one of .*'sdpa'"),
        ({"model": {**PRETRAINED, "device": 0}}, "device must be a non-empty string, got 0"),
        ({"task": {**DATASET, "digits": [1]}}, "key must be one of .*'data'.*, got 'digits'"),
        ({"task": 5}, r"task must be a table, written \[task\], got 5"),
    ],
)
def test_kinds_that_do_not_fit_are_named(sections, message):
    with pytest.raises(ValueError, match=message):
        from_dict(content_of(**sections))


ALL = [*(cls for kinds in KINDS.values() for cls in kinds.values()), *SECTIONS.values()]


def examples():
    """A valid section of every kind there is."""
    procedural = {"kind": "procedural", "tokenizer": "t", "generators": "chain_sum",
                  "pool_size": 9, "held_out_size": 4}  # fmt: skip
    configs = [
        small_config(),
        from_dict(content_of()),
        from_dict(content_of(task=procedural)),
    ]
    found = [getattr(c, f.name) for c in configs for f in dataclasses.fields(c)]
    return {type(section): section for section in found if section is not None}


def illegal(metadata):
    """Values just outside the legal set of an option, or of another type."""
    kind, limits = metadata["kind"], metadata["limits"]
    if kind in ("int", "float"):
        step = 1 if kind == "int" else 1e-3
        low = limits["low"] - (0 if limits.get("open_low") else step)
        high = limits["high"] + (0 if limits.get("open_high") else max(step, limits["high"] * 1e-6))
        return [low, high if kind == "float" else int(high), True, "7", float("nan")]
    return {
        "bool": [0, 1, "true"],
        "choice": ["nonsense", 3],
        "text": ["", 7],
        "list": [[], "add", [None]],
    }[kind]


def test_every_option_refuses_by_its_name_what_is_just_outside():
    sections = examples()
    assert set(sections) == set(ALL)
    for cls, section in sections.items():
        for field in dataclasses.fields(cls):
            for value in illegal(field.metadata) if field.metadata else []:
                with pytest.raises(ValueError, match=rf"^\[{cls.TITLE}\]: {field.name} must be"):
                    dataclasses.replace(section, **{field.name: value})


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
    for cls in ALL:
        for field in dataclasses.fields(cls):
            if field.metadata and field.metadata["kind"] in ("int", "float"):
                assert "high" in field.metadata["limits"], f"{cls.TITLE}.{field.name}"


def test_help_explains_every_key_and_its_limits():
    text = describe()
    for cls in ALL:
        title = f"[{cls.TITLE}]  {cls.__doc__.splitlines()[0]}"
        assert text.count(title) == 1
        for field in dataclasses.fields(cls):
            if field.metadata:
                lines = text.split(title)[1].split("\n[")[0].splitlines()
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


def test_an_error_of_the_program_is_no_error_of_the_input(tmp_path, monkeypatch):
    def fails(*arguments):
        return None + 1

    monkeypatch.setattr("train.run.train", fails)
    with pytest.raises(TypeError):
        main(["run", str(CONFIGS[0]), "--out", str(tmp_path / "run")])


@pytest.mark.parametrize(
    ("size", "launcher"), [(1, "python -m train"), (4, "torchrun --nproc-per-node 4 -m train")]
)
def test_what_to_say_to_go_on_after_ctrl_c(size, launcher, tmp_path, monkeypatch, capsys):
    def stopped(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr("train.run.train", stopped)
    monkeypatch.setattr("train.world.joined_world", lambda: nullcontext(World(0, size, 0)))
    command = ["run", str(CONFIGS[0]), "--out", str(tmp_path / "a run"), "--set", "run.seed=1"]
    assert main(command) == 130
    said = capsys.readouterr().out
    assert (
        f"to go on: {launcher} run {CONFIGS[0]} --out '{tmp_path}/a run' --set run.seed=1" in said
    )


@pytest.mark.parametrize(
    ("package", "values"), [("wandb", {"wandb": "project"}), ("tensorboard", {"tensorboard": True})]
)
def test_a_tracker_that_is_not_installed_is_found_first(package, values, tmp_path, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == package else 1)
    monkeypatch.setattr("train.run.make_task", None)  # nothing has been made before
    sentence = rf"\[run\]: {package} must be .*, or: pip install {package}, got"
    with pytest.raises(ValueError, match=sentence):
        trained(small_config(run=values), tmp_path / "run")
    check_installed(small_config().run)  # who asks for none needs none


def test_folders_of_one_name_are_two_runs_of_a_tracker(tmp_path, monkeypatch):
    names = {run_id(tmp_path / place / "run") for place in ("a", "b")}
    assert len(names) == 2
    assert all(re.fullmatch("run-[0-9a-f]{8}", name) for name in names)
    monkeypatch.chdir(tmp_path)
    assert run_id(Path("a/../b/run")) in names, "a place has one name, however it is written"


def test_a_device_that_is_none_is_refused_by_name():
    with pytest.raises(ValueError, match="device must be auto, cpu, cuda or cuda:N, got 'gpu'"):
        device_of("gpu")
