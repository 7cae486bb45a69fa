"""Figures are computed from run folders; the arrays are checked by hand."""

from __future__ import annotations

import ast
import json
from pathlib import Path

import numpy as np
import pytest

import figures
from figures import __main__ as command_line
from figures import demo, learning_curves, quota_by_success_rate, results, tiny_lm
from figures.__main__ import main
from sim.picture import save


def fake_run(folder, arm, seed, evaluation, outcomes):
    folder.mkdir(parents=True)
    config = {"scheduler": {"name": arm}, "run": {"seed": seed}, "evaluation": {"every": 100}}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "summary.json").write_text(json.dumps({"generated": evaluation[-1][0]}))
    for name, rows in (
        ("metrics", []),
        ("evaluation", [{"generated": g, "held_out": h} for g, h in evaluation]),
        ("outcomes", outcomes),
    ):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    return folder


def row(prompt, success, trial, is_pilot=False):
    return {"prompt": prompt, "step": 0, "success": success, "trial": trial, "is_pilot": is_pilot}


@pytest.fixture
def folders(tmp_path):
    outcomes = [
        row(0, 1, 4, True),  # estimate (1 + 1) / (4 + 2) = 1/3 -> bin 3
        row(1, 4, 4, True),  # 5/6 -> bin 8
        row(0, 5, 10),  # counted in bin 3; then (6 + 1) / (14 + 2) = .4375 -> bin 4
        row(1, 2, 2),  # counted in bin 8; then (6 + 1) / (6 + 2) = .875 -> bin 8
        row(0, 0, 6),  # bin 4
        row(1, 1, 4),  # bin 8
        row(2, 1, 4),  # never seen before: not counted
    ]
    return [
        fake_run(tmp_path / "b1", "cures", 1, [(0, 0.3), (104, 0.7)], outcomes),
        fake_run(tmp_path / "b0", "cures", 0, [(0, 0.3), (104, 0.5)], outcomes),
        fake_run(tmp_path / "a1", "uniform", 1, [(0, 0.3), (100, 0.6)], outcomes[2:]),
        fake_run(tmp_path / "a0", "uniform", 0, [(0, 0.3), (100, 0.4)], outcomes[2:]),
    ]


def test_learning_curves_are_where_they_were_measured(folders):
    arrays = learning_curves.compute(folders)
    assert list(arrays) == ["uniform", "cures"]  # the reference first
    assert arrays["uniform"]["held_out_S_E"].tolist() == [[0.3, 0.4], [0.3, 0.6]]
    assert arrays["cures"]["generated_S_E"].tolist() == [[0, 104], [0, 104]]
    assert arrays["cures"]["held_out_S_E"].tolist() == [[0.3, 0.5], [0.3, 0.7]]


def test_quota_by_success_rate_by_hand(folders):
    cures = quota_by_success_rate.compute(folders)["cures"]
    expected = np.zeros(10)
    expected[[3, 4, 8]] = [1 / 4, 1 / 4, 2 / 4]
    assert np.allclose(cures["share"], expected)
    assert cures["quota"][[3, 4, 8]].tolist() == [10.0, 6.0, 3.0]  # (2 + 4) / 2 = 3
    assert np.isnan(cures["quota"][0])


@pytest.mark.parametrize("module", [learning_curves, quota_by_success_rate])
def test_the_same_arrays_give_the_same_file(module, folders, tmp_path):
    arrays = module.compute(folders)
    first = save(module.draw(arrays), tmp_path / "1.png").read_bytes()
    assert first == save(module.draw(arrays), tmp_path / "2.png").read_bytes()
    assert first.startswith(b"\x89PNG")


def test_the_command_names_what_is_missing(folders, tmp_path, capsys):
    out = tmp_path / "x.png"
    assert main(["learning_curves", *map(str, folders), "--out", str(out)]) == 0
    assert out.exists()
    assert main(["learning_curves", str(tmp_path / "nowhere"), "--out", str(out)]) == 2
    assert "a finished training run with config.json" in capsys.readouterr().err
    (folders[0] / "config.json").write_text("{}")
    assert main(["learning_curves", *map(str, folders), "--out", str(out)]) == 2
    assert "an object with the fields scheduler, run, got []" in capsys.readouterr().err


# -- what may be compared, and the tables of docs/results ---------------------------------------------


def full_run(folder, arm, seed, end, **changes):
    """A finished run as the tables read it; ``changes`` go into the configuration."""
    folder.mkdir(parents=True)
    config = {
        "task": {"pool_size": 100, "held_out_size": 50},
        "warm_start": {"seed": seed, "steps": 5},
        "scheduler": {"name": arm, "batch_size": 4, "budget": 32, "options": {}},
        "evaluation": {"every": 100, "samples": 8},
        "run": {"seed": seed, "rollouts": 1000, "cache": str(folder)},
    }
    for key, value in changes.items():
        section, name = key.split("__")
        config[section][name] = value
    ledger = {
        "train/generated": 900, "train/trained": 600, "train/discarded": 250, "train/missing": 50,
        "pilot/generated": 100, "pilot/trained": 0, "pilot/discarded": 100, "pilot/missing": 0,
        "pending": 0,
    }  # fmt: skip
    summary = {
        "generated": 1000,
        "held_out_start": 0.2,
        "held_out_end": end,
        "updates": 10,
        "ledger": ledger,
    }
    metrics = [{"trained": 100, "wasted": 0.5}, {"trained": 300, "wasted": 0.1}]
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "summary.json").write_text(json.dumps(summary))
    rows = {"metrics": metrics, "evaluation": [{"generated": 0, "held_out": 0.2}], "outcomes": []}
    for name, content in rows.items():
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(r) + "\n" for r in content))
    return folder


def pairs(tmp_path, shift):
    """Six paired seeds; cures ends ``shift`` above uniform, a little more or less each time."""
    noise = [0.001, -0.001, 0.002, -0.002, 0.0005, -0.0005]  # sums to 0
    folders = []
    for seed in range(6):
        level = 0.4 + 0.05 * seed  # seeds differ far more than arms: pairing matters
        folders.append(full_run(tmp_path / f"u{seed}", "uniform", seed, level))
        end = level + shift + noise[seed]
        folders.append(full_run(tmp_path / f"c{seed}", "cures", seed, end))
    return folders


@pytest.mark.parametrize(
    ("shift", "verdict"), [(0.05, "no harm"), (-0.05, "harm"), (-0.01, "undecided")]
)
def test_the_table_compares_pairs_in_the_right_direction(tmp_path, shift, verdict):
    folders = pairs(tmp_path, shift)
    text = tiny_lm.table(folders[::-1])  # the order of folders does not matter
    row = next(line for line in text.splitlines() if line.startswith("| cures"))
    assert f"{shift:+.3f} [" in row
    assert f"| {verdict} |" in row  # the margin is 0.01; half-width about 0.002
    # pilots 100 / 1000, trained 600 / 1000, wasted (100 x .5 + 300 x .1) / 400, 10 updates
    assert row.endswith("| 10% | 60% | 20% | 10 |")
    assert f"{0.525 + shift:.3f}" in row  # mean of .4 ... .65 plus the shift
    assert verdict in demo.verdict(folders)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"run__rollouts": 500}, "run of cures must be"),
        ({"task__pool_size": 99}, "task of cures must be"),
        ({"scheduler__options": {"sampling": False}}, "options of cures must be"),
        ({"run__seed": 9}, "seeds of cures must be"),
    ],
)
def test_runs_that_differ_are_not_compared(tmp_path, changes, sentence):
    folders = [
        full_run(tmp_path / "u0", "uniform", 0, 0.4),
        full_run(tmp_path / "u1", "uniform", 1, 0.4),
        full_run(tmp_path / "c0", "cures", 0, 0.4),
        full_run(tmp_path / "c1", "cures", 1, 0.4, **changes),
    ]
    with pytest.raises(ValueError, match=sentence):
        tiny_lm.table(folders)


def test_header_says_what_ran(tmp_path):
    text = tiny_lm.header([full_run(tmp_path / "u0", "uniform", 0, 0.4)])
    assert "100 prompts, 4 groups x\n8 rollouts" in text
    assert "1000 generated rollouts" in text
    assert "50\nunseen problems, 8 answers" in text


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"arms": ("cures",)}, "arms must be with uniform among them"),
        ({"arms": ("uniform", "oracle")}, "arms must be"),
        ({"seeds": 0}, "seeds must be"),
    ],
)
def test_a_comparison_that_makes_no_sense_is_refused_before_it_starts(tmp_path, options, sentence):
    with pytest.raises(ValueError, match=sentence):
        tiny_lm.measure(*(tmp_path / n for n in ("runs", "page", "png")), 1, "made", **options)
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("tiny_lm --jobs 4 --page x.md --picture x.png", "tiny_lm"),
        ("tiny_lm --arms uniform cures --seeds 2", "tiny_lm --arms uniform cures --seeds 2"),
        ("results --runs elsewhere", "results --runs elsewhere"),
        ("results --runs runs/results", "results"),  # its default
        ("calibration --quick", "calibration --quick"),
        ("league --page-only --simulator-picture x.png", "league"),
        (
            "league --pools dead --entries e --simulator-seeds 4",
            "league --entries e --pools dead --simulator-seeds 4",
        ),
    ],
)
def test_a_page_says_what_changes_its_numbers(words, said):
    options = command_line._parser().parse_args(words.split())
    assert command_line._said(options) == f"python -m figures {said}"


def test_runs_of_another_commit_are_not_mixed_in(tmp_path):
    made_at = results.stamp(tmp_path)
    assert made_at == json.loads((tmp_path / "made_by.json").read_text())["commit"]
    assert results.stamp(tmp_path) == made_at  # the same code may go on
    (tmp_path / "made_by.json").write_text('{"commit": "0000000"}')
    with pytest.raises(ValueError, match="remove it to measure anew"):
        results.stamp(tmp_path)


def test_figures_take_words_and_looks_from_the_simulator_and_nothing_that_runs():
    reads = {"sim.picture", "sim.wording", "sim.settings", "sim.diagnosis", "sim.run_folder"}
    may_run = {  # these draw nothing
        "paper_runs.py": {"sim.population_file", "sim.task"},
        "making.py": {"sim.compare"},
        "simulator_league.py": {"sim.compare", "sim.task", "sim.workers"},
    }
    found = set()
    for path in sorted(Path(figures.__file__).parent.glob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "sim":
                assert node.module in reads | may_run.get(path.name, set()), path
                found.add(node.module)
    assert "sim.compare" in found  # the walk sees imports at all
