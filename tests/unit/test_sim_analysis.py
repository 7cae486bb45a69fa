"""From finished arms to the numbers of a comparison, worked by hand."""

from __future__ import annotations

import io
import json

import numpy as np
import pytest
from rich.console import Console

from cures.storage import save_state
from figures.results import section
from sim.analysis import compare_arms
from sim.report import show
from sim.settings import Settings
from sim.task import ArmTask

GRID = 11  # points at 0, 100, ..., 1000


def settings(arms=("uniform", "cures"), **changes):
    return Settings(
        arms=arms, rollouts=1000, seeds=6, dev_seeds=2, grid_points=GRID, margin=0.005, **changes
    )


def write_arm(root, task, rate, *, trained=600, wasted=150, start=0.2):
    """A run whose held-out success rises by ``rate`` per 1000 rollouts in a straight line."""
    folder = root / task.folder
    folder.mkdir(parents=True)
    save_state(folder / "curve.npz", {"held_out_E": start + rate * np.linspace(0, 1, GRID)})
    ledger = {
        "train/generated": 900, "train/trained": trained, "train/discarded": 200,
        "train/missing": 50, "pilot/generated": 100, "pilot/trained": 0, "pilot/discarded": 100,
        "pilot/missing": 0, "pending": 50, "steps": 7, "tokens": 11,
    }  # fmt: skip
    summary = {
        "generated": 1000,
        "ledger": ledger,
        "trained": trained,
        "zero_advantage": wasted,
        "steps": 7,
        "tokens": 11,
    }
    (folder / "summary.json").write_text(json.dumps(summary))


@pytest.fixture
def root(tmp_path):
    """Uniform gains 0.4, cures 0.8 in the same rollouts; each seed starts elsewhere."""
    for seed in range(2):
        write_arm(tmp_path, ArmTask("uniform", seed, True), 0.4)
    for seed in range(6):
        shift = 0.01 * seed
        write_arm(tmp_path, ArmTask("uniform", seed, False), 0.4, start=0.1 + shift)
        write_arm(tmp_path, ArmTask("cures", seed, False), 0.8, start=0.1 + shift)
    return tmp_path


def test_a_faster_arm_by_hand(root):
    arms = compare_arms(settings(), root)["arms"]
    for target, fraction in zip(arms["cures"]["targets"], (0.5, 0.8, 0.95), strict=True):
        # the level is fraction x 0.4 above the start: uniform at fraction x 1000, cures at half that
        assert target["reference_median"] == pytest.approx(1000 * fraction)
        assert target["arm_median"] == pytest.approx(500 * fraction)
        assert target["ratio"] == pytest.approx(2.0)  # faster is above 1
        assert (target["bound"], target["arm_censored"]) == ("exact", 0)
    assert arms["cures"]["difference"]["mean"] == pytest.approx(0.4)
    assert arms["cures"]["difference"]["verdict"] == "no harm"


@pytest.mark.parametrize(
    ("loss", "verdict"), [(0.0049, "no harm"), (0.0051, "harm"), (0.4, "harm")]
)
def test_the_verdict_turns_at_the_margin(tmp_path, loss, verdict):
    # equal losses on every seed: the interval is a point
    for seed in range(2):
        write_arm(tmp_path, ArmTask("uniform", seed, True), 0.4)
    for seed in range(6):
        write_arm(tmp_path, ArmTask("uniform", seed, False), 0.4)
        write_arm(tmp_path, ArmTask("cures", seed, False), 0.4 - loss)
    row = compare_arms(settings(), tmp_path)["arms"]["cures"]
    assert row["difference"]["verdict"] == verdict
    assert row["difference"]["margin"] == 0.005


def test_an_arm_that_never_arrives_gives_a_bound(tmp_path):
    for seed in range(2):
        write_arm(tmp_path, ArmTask("uniform", seed, True), 0.4)
    for seed in range(6):
        write_arm(tmp_path, ArmTask("uniform", seed, False), 0.4)
        write_arm(tmp_path, ArmTask("cures", seed, False), 0.1)
    target = compare_arms(settings(), tmp_path)["arms"]["cures"]["targets"][0]
    # uniform crosses half of 0.4 at 500; cures is censored at 1000: the ratio is at most 500 / 1000
    assert target["ratio"] == pytest.approx(0.5)
    assert (target["bound"], target["reference_censored"], target["arm_censored"]) == (
        "at most",
        0,
        6,
    )


def test_where_the_rollouts_went(root):
    row = compare_arms(settings(), root)["arms"]["cures"]
    shares = row["shares"]
    # of 1000: 600 trained, 200 + 100 discarded, 50 missing, 50 pending; 100 were pilots
    assert shares["trained"] == pytest.approx(0.6)
    assert shares["discarded"] == pytest.approx(0.3)
    assert shares["missing"] == pytest.approx(0.05)
    assert shares["pending"] == pytest.approx(0.05)
    assert shares["pilot"] == pytest.approx(0.1)
    assert row["wasted"] == pytest.approx(150 / 600)  # of the trained
    assert row["used"] == pytest.approx(450 / 1000)  # of the generated


def test_another_arm_moves_no_interval(root):
    alone = compare_arms(settings(), root)["arms"]["cures"]
    for seed in range(6):
        write_arm(root, ArmTask("gvm", seed, False), 0.3, start=0.1 + 0.01 * seed)
    together = compare_arms(settings(arms=("uniform", "gvm", "cures")), root)["arms"]["cures"]
    assert together == alone


def test_arms_that_know_the_truth_are_marked(root):
    for seed in range(6):
        write_arm(root, ArmTask("oracle", seed, False), 0.8, start=0.1 + 0.01 * seed)
    arms = compare_arms(settings(arms=("uniform", "oracle", "cures")), root)["arms"]
    assert {arm: row["told_true_rates"] for arm, row in arms.items()} == {
        "uniform": False, "oracle": True, "cures": False,
    }  # fmt: skip


@pytest.mark.parametrize("told", ["oracle", "staged", "oracle@learnable"])
def test_arms_that_know_the_truth_get_no_verdict_in_words(root, told):
    """However far above the margin they end; a contender with the same curves gets one."""
    for seed in range(6):
        write_arm(root, ArmTask(told, seed, False), 0.8, start=0.1 + 0.01 * seed)
    config = settings(arms=("uniform", told, "cures"))
    comparison = compare_arms(config, root)
    text = io.StringIO()
    show(config, comparison, root, Console(file=text, width=80))
    lines = text.getvalue().splitlines()
    table = lines[lines.index(next(x for x in lines if x.startswith("Held-out success at"))) :]
    verdict = {arm: next(x for x in table if x.split()[:1] == [arm]) for arm in config.arms}
    assert verdict[told].endswith("told the true rates")
    assert verdict["cures"].endswith("no harm")
    assert verdict["uniform"].endswith("reference")
    assert "a reference, no contender" in " ".join(text.getvalue().split())
    # and on the page of docs/results
    rows = {
        x.split(" | ")[0]: x for x in section("skills", "adam", "command", comparison).split("\n")
    }
    assert " | told the true rates | " in rows[f"| {told}"]
    assert "harm" not in rows[f"| {told}"]
    assert " | no harm | " in rows["| cures"]


def test_tables_lose_nothing_in_eighty_columns(root):
    """The longest cells that the analysis can give: nothing may be cut off."""
    for seed in range(6):
        write_arm(root, ArmTask("oracle@learnable", seed, False), 0.8, start=0.1 + 0.01 * seed)
    config = settings(arms=("uniform", "cures", "oracle@learnable"))
    comparison = compare_arms(config, root)
    for target in comparison["arms"]["oracle@learnable"]["targets"]:
        target.update(bound="at most", ratio=10.25, low=0.0, high=12.5, seeds=32)
        target.update(reference_censored=16, arm_censored=16)
    text = io.StringIO()
    show(config, comparison, root, Console(file=text, width=80))
    assert "…" not in text.getvalue()
    assert text.getvalue().count("≤ 10.25 [0.00, 12.50]") == 3  # numbers in one piece
    assert "missing pending wasted used steps" in text.getvalue()
    assert "What was sampled" not in text.getvalue()  # these runs kept no records
    known = {"effective_prompts": 123456.7, "never_visited": 1.0, "wasted_by_quarter": [1.0] * 4}
    scores = {"log_loss": 1.6, "log_loss_truth": 0.5, "brier": 1.0, "brier_truth": 0.1}
    posterior = {"coverage": {"0.5": 1.0, "0.8": 1.0, "0.95": 1.0}, **scores}
    for row in comparison["arms"].values():
        row["diagnostics"] = known | {"posterior": posterior}
    comparison["arms"]["uniform"]["diagnostics"] = known | {"posterior": None}
    text = io.StringIO()
    show(config, comparison, root, Console(file=text, width=80))
    assert "…" not in text.getvalue()
    assert text.getvalue().count("100% 100% 1.00 1.00 1.00  +1.1000 +0.9000") == 2
    assert text.getvalue().count("p=0.031") == 2  # 2 / 2^6, by hand
