"""``python -m sim plan`` from the command line to its files."""

from __future__ import annotations

import json

import pytest

from sim.cli import main

SMALL = ["plan", "--batch-size", "8", "--prompts", "600", "--measured-updates", "10"]


def test_plan_writes_its_files_and_says_the_same_twice(tmp_path, capsys):
    arms = ["--schedulers", "cures", "uniform", "speed", "--rollouts", "1e6"]
    assert main([*SMALL, *arms, "--out", str(tmp_path / "a")]) == 0
    said = capsys.readouterr().out
    assert main([*SMALL, *arms, "--out", str(tmp_path / "b")]) == 0
    files = ["plan.csv", "plan.json", "plan.png"]
    assert sorted(path.name for path in (tmp_path / "a").iterdir()) == files
    for name in files:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    plan = json.loads((tmp_path / "a" / "plan.json").read_text())
    assert plan["equal_rollouts"] == 10**6
    assert plan["settings"]["site"]["accelerator"]["name"] == "H100-SXM"
    # 64 rollouts per update, 150 updates, four pilots for each of 600 prompts
    assert plan["arms"]["cures"]["updates"]["rollouts"] == 150 * 64 + 4 * 600
    assert "12.00k" in said
    assert "[" in said.split("uniform")[1].splitlines()[0]  # the interval is not taken for markup


def test_plan_takes_a_population_file_and_another_machine(tmp_path):
    law = {"format": "cures-population-1", "name": "mine", "success_rate": [0.5], "weight": [1.0]}
    (tmp_path / "mine.json").write_text(json.dumps(law))
    command = [*SMALL, "--schedulers", "uniform", "--population", str(tmp_path / "mine.json")]
    machine = [
        "--peak-tflops",
        "100",
        "--parameters",
        "1e9",
        "--efficiency",
        "train=0.4",
        "memory=1",
    ]
    assert main([*command, *machine, "--out", str(tmp_path / "out")]) == 0
    plan = json.loads((tmp_path / "out" / "plan.json").read_text())
    row = plan["arms"]["uniform"]["updates"]
    # p = 1/2, n = 8: a group is mixed but for a chance of 2^-7; 80 groups, four standard errors
    share = row["mixed"] / row["rollouts"]
    assert abs(share - (1 - 2**-7)) < 4 * (2**-7 / 80) ** 0.5
    assert plan["settings"]["site"]["accelerator"]["peak_flops"] == 1e14


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--model", "GPT-9"], "plan: model must be one of"),
        (["--hardware", "Abacus"], "plan: hardware must be one of"),
        (["--population", "nowhere.json"], "path must be an existing file"),
        (["--efficiency", "train"], "plan: efficiency must be NAME=X"),
        (["--schedulers", "cures", "--set", "cures.warmth=3"], "keyword of 'cures' must be one of"),
        (["--devices", "1", "--model", "Qwen2.5-32B"], "for the weights and one sequence"),
        (["--set", "foo"], "plan: set must be ARM.KEY=VALUE"),
        (["--set", "cures.draws=1", "cures.draws=2"], "plan: set must be given once per key"),
        (
            ["--set", "cures.category_N=[0]"],
            "plan: set cures.category_N must be left out: the host",
        ),
        (["--set", "cures.seed=1"], "plan: set cures.seed must be left out: ['num_prompts',"),
        (["--schedulers", "uniform@"], "plan: schedulers must be NAME or NAME@LABEL"),
        (["--num-subsets", "0"], "plan: num_subsets must be an int in [1, 600], got 0"),
        (["--prompts", "0"], "plan: num_prompts must be an int in [1,"),
    ],
)
def test_bad_input_leaves_nothing_behind(tmp_path, capsys, arguments, sentence):
    assert main([*SMALL, *arguments, "--out", str(tmp_path / "out")]) == 2
    assert sentence in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "out").exists()


def test_only_a_plan_is_replaced(tmp_path, capsys):
    one = [*SMALL, "--schedulers", "uniform", "--out"]
    assert main([*one, str(tmp_path / "a")]) == 0
    assert main([*one, str(tmp_path / "a"), "--updates", "7"]) == 0  # the same folder, another plan
    assert json.loads((tmp_path / "a" / "plan.json").read_text())["settings"]["updates"] == 7
    for name in ("thesis.tex", "plan.png"):
        (tmp_path / name).write_text("keep me")
    before = sorted(tmp_path.iterdir())
    assert main([*one, str(tmp_path)]) == 2
    assert "plan: out must be empty or the folder of a plan" in capsys.readouterr().err
    assert main([*one, str(tmp_path / "thesis.tex" / "x")]) == 2
    assert "plan: out must be a folder" in capsys.readouterr().err
    assert sorted(tmp_path.iterdir()) == before
    assert (tmp_path / "plan.png").read_text() == "keep me"


def test_a_plan_that_is_not_finished_has_no_json(tmp_path, monkeypatch):
    one = [*SMALL, "--schedulers", "uniform", "--out", str(tmp_path)]
    assert main(one) == 0

    def stop(plan, path):
        raise KeyboardInterrupt

    monkeypatch.setattr("sim.planning.plan.draw_plan", stop)
    assert main([*one, "--updates", "7"]) == 130
    assert not (tmp_path / "plan.json").exists()


def test_help_says_what_is_ignored(capsys):
    with pytest.raises(SystemExit):
        main(["plan", "--help"])
    said = capsys.readouterr().out
    assert "what the plan ignores" in said
    assert "judgement, not measurement" in said
