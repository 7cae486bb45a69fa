"""The figures of the paper from run folders that are written here by hand."""

from __future__ import annotations

import json
import re
import subprocess
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

import cures
from cures.storage import save_state
from figures import (
    ablation,
    against_gvm,
    estimated_rates,
    gradient_norms,
    lm_runs,
    making,
    measured_table,
    method_shapes,
    page,
    paper_runs,
    pilots_and_group_size,
    provenance,
    quota_by_iteration,
    reaching_the_best,
    sim_folders,
    steps_or_rollouts,
    subset_cuts,
    update_budgets,
)
from figures.__main__ import main
from figures.catalogue import BY_NAME, ENTRIES, Entry, folders_of, render
from sim.compare import tasks_of
from sim.settings import Settings
from train.benchmarks.paper import LABELS, TABLE_1

GRID_E = np.array([0.0, 50.0, 100.0])
PER_UPDATE = 25  # rollouts; so a run of 100 rollouts has 4 updates


def comparison(folder, rates, *, seeds=2, options=None, outcomes=None, gains=True, **config):
    """A finished comparison whose arms rise in a straight line from 0.2, by ``rates`` per rollout.

    Seed s starts 0.01 s higher. The 80 % level is 0.8 x 0.4, what uniform gains at a rate of 0.004.
    """
    arms = list(rates)
    folder.mkdir(parents=True)
    settings = {
        "arms": arms, "options": options or {}, "population": "skills", "estimator": "grpo",
        "optimiser": "adam", "seeds": seeds, "rollouts": 100, "batch_size": 4, "group_size": 8,
        **config,
    }  # fmt: skip
    (folder / "config.json").write_text(json.dumps(settings))
    targets = [{"fraction": 0.8, "gain": 0.32, "median": 80.0, "censored": 0}] if gains else []
    rows = {
        arm: {
            "final": 0.2 + 100 * rate,
            "told_true_rates": False,
            "targets": targets,
            **(
                {"difference": {"mean": -0.1, "low": -0.2, "high": 0.0, "verdict": "undecided"}}
                if arm != "uniform"
                else {}
            ),
        }
        for arm, rate in rates.items()
    }
    (folder / "comparison.json").write_text(json.dumps({"start": 0.2, "arms": rows}))
    for arm, rate in rates.items():
        for seed in range(seeds):
            start = 0.2 + 0.01 * seed
            one = folder / "arms" / f"{arm}-{seed}"
            one.mkdir(parents=True)
            # the second seed has an update more than the first
            generated = PER_UPDATE * np.arange(1, 5 + seed)
            curve = {
                "start": start,
                "grid_E": GRID_E,
                "held_out_E": start + rate * GRID_E,
                "generated_U": generated,
                "held_out_U": start + rate * generated,
            }
            save_state(one / "curve.npz", curve)
            metrics = [{"gradient_norm": 1.0 + u + seed} for u in range(generated.size)]
            (one / "metrics.jsonl").write_text("".join(json.dumps(m) + "\n" for m in metrics))
            if outcomes is not None:
                text = "".join(json.dumps(row) + "\n" for row in outcomes)
                (one / "outcomes.jsonl").write_text(text)
    return folder


def row(prompt, success, trial, is_pilot=False):
    return {"prompt": prompt, "step": 0, "success": success, "trial": trial, "is_pilot": is_pilot}


# two iterations: subset {0, 1}, then subset {2, 0}; N' = 2
EVIDENCE = [
    row(0, 0, 2, True),
    row(1, 2, 2, True),
    row(0, 3, 6),  # planned at (0 + 1) / (2 + 2) = 0.25
    row(1, 2, 2),  # at 0.75
    row(0, 1, 4),  # at (0 + 3 + 1) / (2 + 6 + 2) = 0.4
    row(2, 1, 2, True),
    row(0, 2, 2, True),
    row(2, 0, 8),  # at 0.5
    row(0, 1, 8),  # everything before is forgotten: at 0.75
]


# -- reading ----------------------------------------------------------------------------------------


def test_curves_and_updates_of_a_folder(tmp_path):
    read = sim_folders.read(comparison(tmp_path / "c", {"uniform": 0.004}))
    grid_E, held_out_S_E = read.curve("uniform")
    assert grid_E.tolist() == [0.0, 50.0, 100.0]
    assert np.allclose(held_out_S_E, [[0.2, 0.4, 0.6], [0.21, 0.41, 0.61]])
    # before the first update and after each of the four that both seeds have
    assert np.allclose(read.by_update("uniform")[1], 0.21 + 0.1 * np.arange(5))
    assert read.metric("uniform", "gradient_norm").tolist() == [[1, 2, 3, 4], [2, 3, 4, 5]]


def test_what_is_missing_is_named(tmp_path):
    folder = comparison(tmp_path / "c", {"uniform": 0.004})
    with pytest.raises(ValueError, match=r"arm of .* must be one of .*uniform.*got 'cures'"):
        sim_folders.read(folder).curve("cures")
    with pytest.raises(ValueError, match=r"with outcomes.jsonl \(--outcomes\)"):
        sim_folders.read(folder).outcomes("uniform")
    (folder / "comparison.json").unlink()
    with pytest.raises(ValueError, match=r"a finished comparison with comparison.json"):
        sim_folders.read(folder)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("config.json", "[1]"),
        ("config.json", "{}"),
        ("config.json", "3"),
        ("comparison.json", "{}"),
    ],
)
def test_files_of_another_kind_are_refused_by_name(tmp_path, name, text):
    folder = comparison(tmp_path / "c", {"uniform": 0.004})
    (folder / name).write_text(text)
    with pytest.raises(ValueError, match=rf"{name} must be an object with the fields .*arms"):
        sim_folders.read(folder)


def test_two_folders_of_one_panel_are_refused(tmp_path):
    rates = dict.fromkeys(gradient_norms.SHOWN, 0.004)
    folders = [comparison(tmp_path / name, rates) for name in ("a", "b")]
    with pytest.raises(ValueError, match="run folders must be one of skills"):
        gradient_norms.compute(folders)


# -- each figure ------------------------------------------------------------------------------------


def test_shapes_are_the_librarys_own_formulas():
    arrays = method_shapes.compute([])
    p = arrays["success_rate_P"]
    prob = cures.sampling_distribution(cures.potential(p), arrays["temperature"])
    assert np.allclose(arrays["selection"]["cures"], prob / prob.max(), atol=1e-12)
    assert np.allclose(arrays["quota"]["cures"], 2 * cures.potential(p), atol=1e-12)
    # mixed groups of four: 1 - p^4 - (1-p)^4, at most 7/8
    assert np.allclose(arrays["selection"]["speed"], (1 - p**4 - (1 - p) ** 4) * 8 / 7)
    # two answers (PAPER, 7.3): sigma ~ sqrt(p(1-p)) |1 - 2p|, zero at 1/2
    assert np.allclose(
        arrays["quota"]["cures, two answers"], 4 * cures.potential(p) * np.abs(1 - 2 * p)
    )
    with pytest.raises(ValueError, match="folders must be none"):
        method_shapes.compute([method_shapes])


def test_against_gvm_takes_the_paired_difference_at_the_end(tmp_path):
    rates = {"uniform": 0.004, "cures": 0.003, "gvm": 0.002}
    folder = comparison(tmp_path / "c", rates, seeds=6)
    arrays = against_gvm.compute([folder])
    panel = arrays["skills/grpo"]
    # every seed: 100 rollouts x 0.001 more than gvm and less than uniform
    assert np.allclose(panel["minus_gvm"], 0.1)
    assert np.allclose(panel["minus_uniform"], -0.1)
    finding = against_gvm.finding(arrays)
    assert "+0.100 [+0.100, +0.100] to GVM, -0.100 [-0.100, -0.100] to uniform" in finding
    assert finding.startswith("As in the paper, CurES ends above GVM in 1 of 1 panels")
    assert "below uniform sampling in 1 of 1" in finding
    worse = comparison(tmp_path / "d", rates | {"gvm": 0.0035}, seeds=6)
    assert against_gvm.finding(against_gvm.compute([worse])).startswith("Unlike in the paper")


def test_estimated_rates_by_hand(tmp_path):
    rates = {"uniform": 0.004, "cures": 0.004}
    folder = comparison(tmp_path / "c", rates, outcomes=EVIDENCE)
    values = estimated_rates.compute([folder])["skills"]
    assert values["rate_K"].tolist() == [0.25, 0.5, 0.75]  # (s + 1) / (2 + 2)
    # iteration 1: one prompt with 0, one with 2 right pilots; iteration 2: 1 and 2
    assert values["share_I_K"].tolist() == [[0.5, 0.0, 0.5], [0.0, 0.5, 0.5]]
    assert values["mean_I"].tolist() == [0.5, 0.625]
    # groups that the end of the run cut short, in the second iteration and alone in a third
    cut = row(3, 1, 1, True)
    again = estimated_rates.shares([[*EVIDENCE[:7], cut, *EVIDENCE[7:], cut]])
    assert again["share_I_K"].tolist() == values["share_I_K"].tolist()
    assert "mean estimate 0.50 in the first iteration, 0.62 in the last" in estimated_rates.finding(
        {"skills": values}
    )


def test_quotas_by_hand(tmp_path):
    assert list(quota_by_iteration.groups(EVIDENCE)) == [
        (1, 0.25, 6), (1, 0.75, 2), (1, 0.4, 4), (2, 0.5, 8), (2, 0.75, 8),
    ]  # fmt: skip
    table = np.array([(1, 0.1, 6), (1, 0.5, 2), (2, 0.75, 8), (2, 0.9, 8)], dtype=float)
    # [0.25, 0.75] with its ends: 2 of 8 rollouts, then 8 of 16
    assert quota_by_iteration.middle_share(table, 2).tolist() == [0.25, 0.5]
    folder = comparison(
        tmp_path / "c",
        dict.fromkeys(("uniform", "cures", "cures@moments"), 0.004),
        outcomes=EVIDENCE,
    )
    arrays = quota_by_iteration.compute([folder])
    last = arrays["cures"]["iteration 2"]
    assert last["trial_G"].tolist() == [8, 8, 8, 8]  # two seeds
    assert last["mean_K"][[5, 7]].tolist() == [8.0, 8.0]
    assert "iterations 1, 2" in quota_by_iteration.caption(arrays)
    # first iteration: a group of 4 near 0.5 against 6 at 0.25 and 2 at 0.75; last: 8 against 8
    words = (
        "near 0.5 get 1.00 times the rollouts of those near 0.25 and 0.75 in the first iteration"
    )
    assert f"{words}, 1.00 times in the last" in quota_by_iteration.finding(arrays)
    arrays["cures"]["iteration 1"]["mean_K"][:] = np.nan  # no groups, no ratio
    assert "get undefined times" in quota_by_iteration.finding(arrays)


def test_grid_of_pilots_and_group_sizes(tmp_path):
    folders = [
        comparison(
            tmp_path / f"n{n}",
            {"uniform": 0.004, "cures@a": 0.004 / n, "cures@b": 0.0024 / n},
            options={"cures@a": {"pilots": 4}, "cures@b": {"pilots": 8}},
            group_size=n,
        )
        for n in (16, 8)
    ]
    arrays = pilots_and_group_size.compute(folders)
    assert list(arrays) == ["population", "n8", "n16"]  # ascending, whatever the folders' order
    assert list(arrays["n8"])[-2:] == ["pilots4", "pilots8"]
    finding = pilots_and_group_size.finding(arrays)
    # at the end 0.205 + 0.4 / 8 and 0.205 + 0.24 / 16; four updates, all that the first seed has,
    # are the same 100 rollouts
    best = "best at N' = 4, n = 8 (0.255) and worst at N' = 8, n = 16 (0.220)"
    assert f"At equal rollouts CurES is {best}" in finding
    assert f"After 4 updates, as many as every run has, CurES is {best}" in finding
    other = comparison(tmp_path / "u", {"uniform": 0.004}, population="u_shaped", group_size=32)
    with pytest.raises(ValueError, match="of one population"):
        pilots_and_group_size.compute([*folders, other])


@pytest.mark.parametrize(
    ("rate", "ratio", "words"),
    [(0.008, 2.0, "is faster"), (0.002, 0.5, "nowhere seen to be faster")],
)
def test_ratios_are_those_of_straight_lines(tmp_path, rate, ratio, words):
    rates = {"uniform": 0.004, "uniform@again": 0.004, "cures": rate}
    arrays = reaching_the_best.compute([comparison(tmp_path / "c", rates, seeds=6)])
    ratios = arrays["grpo"]["ratio"]
    for axis in reaching_the_best.AXES:
        control = ratios[axis]["best"]["uniform@again"]
        assert control["ratio"] == pytest.approx(1.0)  # equals are equal
        ours = ratios[axis]["80 %"]["cures"]
        if ratio > 1:
            # 0.32 above the start: 80 rollouts or 3.2 updates of uniform, half of that here
            assert ours["ratio"] == pytest.approx(ratio)
            assert ours["bound"] == "exact"
        else:
            # half as steep: 0.32 would take 160 rollouts, the run ends at 100 (or 4 updates)
            assert ours["arm_censored"] == 6
            assert ours["bound"] == "at most"
            assert ours["ratio"] == pytest.approx(0.8)
    assert words in reaching_the_best.finding(arrays)


def test_a_ratio_with_an_open_interval_is_no_evidence(tmp_path):
    rates = {"uniform": 0.004, "uniform@again": 0.004, "cures": 0.008}
    arrays = reaching_the_best.compute([comparison(tmp_path / "c", rates, seeds=2)])
    assert arrays["grpo"]["ratio"]["updates"]["80 %"]["cures"]["ratio"] == pytest.approx(2.0)
    assert "nowhere seen to be faster" in reaching_the_best.finding(arrays)


def test_no_level_without_a_gain_on_the_development_seeds(tmp_path):
    rates = {"uniform": 0.004, "uniform@again": 0.004, "cures": 0.004}
    arrays = reaching_the_best.compute([comparison(tmp_path / "c", rates, gains=False)])
    assert list(arrays["grpo"]["level"]["rollouts"]) == ["best"]


def test_norms_are_means_over_a_window(tmp_path):
    rates = dict.fromkeys(gradient_norms.SHOWN, 0.004)
    values = gradient_norms.compute([comparison(tmp_path / "c", rates)])["skills"]
    # four updates, fewer than the window: their mean
    assert values["cures"]["norm_S_U"].tolist() == [[2.5], [3.5]]
    assert "CurES 1.00" in gradient_norms.finding({"skills": values})
    # an arm with fewer updates is compared over those: 4 to the mean of 2 and 6, not of 2, 6 and 10
    short = {"uniform": {"norm_S_U": np.array([[2.0, 6.0, 10.0]])}}
    short["cures"] = {"norm_S_U": np.array([[4.0, 4.0]])}
    assert "CurES 1.00" in gradient_norms.finding({"skills": short})


def test_ablation_pairs_the_halves(tmp_path):
    rates = {
        "uniform": 0.004, "cures": 0.003, "cures@sampling-only": 0.005, "cures@quota-only": 0.001,
    }  # fmt: skip
    arrays = ablation.compute([comparison(tmp_path / "c", rates, seeds=6)])
    assert np.allclose(arrays["skills/adam"]["cures@sampling-only"], 0.1)
    assert np.allclose(arrays["skills/adam"][ablation.BOTH_MINUS_SAMPLING], -0.2)
    words = "both minus sampling only -0.200 [-0.200, -0.200]"
    assert f"sampling only +0.100, quota only -0.300; {words}" in ablation.finding(arrays)
    # below six seeds the interval is open: NaN, not a number that looks like one
    few = ablation.compute([comparison(tmp_path / "d", rates, seeds=2)])
    assert np.isnan(few["skills/adam"]["cures"][1:]).all()


def test_the_order_depends_on_the_axis(tmp_path):
    folder = comparison(tmp_path / "c", {"uniform": 0.004, "dapo": 0.003})
    arrays = steps_or_rollouts.compute([folder])
    assert "After 4 updates" in steps_or_rollouts.finding(arrays)
    assert "equal rollouts: uniform 0.605, DAPO 0.505" in steps_or_rollouts.finding(arrays)
    with pytest.raises(ValueError, match="one comparison"):
        steps_or_rollouts.compute([folder, folder])


def test_budgets_are_read_at_their_rollouts(tmp_path):
    folders = [
        comparison(tmp_path / f"b{b}", {"uniform": 0.004 * 4 / b}, batch_size=b) for b in (8, 4)
    ]
    arrays = update_budgets.compute(folders)
    assert arrays["batch_K"].tolist() == [4, 8]
    assert arrays["total_F"].tolist() == [25.0, 50.0, 100.0]
    # 25 lies before the grid's 50: still the start; mean of the two seeds' starts 0.205
    expected = [[0.205, 0.205], [0.405, 0.305], [0.605, 0.405]]
    assert np.allclose(arrays["uniform"]["held_out_F_K"], expected)
    assert "uniform 0.605 at 32*. *: the edge" in update_budgets.finding(arrays)
    other = comparison(tmp_path / "x", {"uniform": 0.004}, batch_size=16, rollouts=7)
    with pytest.raises(ValueError, match="but for batch_size"):
        update_budgets.compute([*folders, other])


def test_sorted_cuts_are_paired_over_folders(tmp_path):
    several = comparison(
        tmp_path / "subsets",
        {"uniform": 0.004, "cures@T1": 0.001}
        | dict(
            zip(
                ("cures@T15", "cures@T15-cut2", "cures@T15-cut3"),
                (0.001, 0.002, 0.003),
                strict=True,
            )
        ),
        seeds=6,
    )
    single = [
        comparison(
            tmp_path / f"cut{k}",
            # seeds differ by 0.1 k at the end, in both arms alike: pairing takes it out
            {"uniform": 0.004 + 0.001 * k, "cures@easy-first": 0.003 + 0.001 * k},
            seeds=1,
        )
        for k in range(6)
    ]
    arrays = subset_cuts.compute([several, *single])
    assert np.allclose(arrays["sorted"]["cures@easy-first"], -0.1)
    # means -0.3, -0.2, -0.1: standard deviation 0.1
    assert arrays["cut_spread"] == pytest.approx(0.1)
    with pytest.raises(ValueError, match="at least one of sorted ones"):
        subset_cuts.compute([several])


# -- the table --------------------------------------------------------------------------------------


def test_the_papers_averages_recompute():
    for size, rows in TABLE_1.items():
        for name, values in rows.items():
            assert len(values) == len(LABELS) + 1
            # two decimals; the base row of 1.5B is printed 20.00 and recomputes to 19.99
            slack = 0.015 if (size, name) == ("1.5B", "base") else 0.0051
            assert np.mean(values[:-1]) == pytest.approx(values[-1], abs=slack), (size, name)


def test_table_keeps_the_two_halves_apart(tmp_path):
    rates = {"uniform": 0.004, "cures": 0.003, "gvm": 0.002, "speed": 0.001}
    arrays = measured_table.compute(
        [comparison(tmp_path / e, rates, estimator=e) for e in ("grpo", "reinforce++")]
    )
    lines = measured_table.table(arrays).splitlines()
    assert "| GRPO (`uniform`) | 41.64 | 47.59 | 0.600 |" in lines
    assert "| CurES-RPP | 44.14 | 49.62 | 0.500 (-0.100 [-0.200, +0.000], undecided) |" in lines
    assert "simulator, natural pool, GRPO: uniform > cures > gvm > speed" in measured_table.ranking(
        arrays
    )
    assert "paper, 7B: RPP > CurES-RPP" in measured_table.ranking(arrays)  # 50.18 > 49.62
    assert "reproduces nothing" in " ".join(measured_table.introduction(arrays).split())


def test_pages_are_read_and_other_formats_refused(tmp_path):
    path = tmp_path / "some.md"
    path.write_text(
        "# Page\n\n## skills, adam\n\n| arm | final | minus uniform [95 %] | verdict | more |\n"
        "|---|---|---|---|---|\n| uniform | 0.8 |  | reference | 1 |\n| x | 0.7 | -0.1 | harm | 2 |\n\n"
        "| arm | other |\n|---|---|\n| y | 1 |\n"
    )
    assert measured_table.page_rows(path) == {
        "skills, adam": [("uniform", "0.8", "", "reference"), ("x", "0.7", "-0.1", "harm")]
    }
    path.write_text("# Page\n\nno table\n")
    with pytest.raises(ValueError, match=r"some.md must be with a table"):
        measured_table.page_rows(path)


# -- the runs ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("source", "names"),
    [
        ("paper", paper_runs.comparisons(paper_runs.FULL)),
        ("lm", lm_runs.comparisons(lm_runs.FULL)),
    ],
)
def test_every_figure_finds_its_runs_among_those_that_are_made(source, names, tmp_path):
    for name in names:
        (tmp_path / name).mkdir()
    entries = [entry for entry in ENTRIES if entry.source == source]
    for entry in entries:
        assert len(folders_of(entry, tmp_path)) >= len(entry.runs)
    used = {folder for entry in entries for folder in folders_of(entry, tmp_path)}
    assert used == set(tmp_path.iterdir())  # and nothing is run for no figure
    assert len(BY_NAME) == len(ENTRIES)


def test_the_estimate_is_what_is_run():
    size = paper_runs.QUICK
    settings = [recipe() for recipe in paper_runs.comparisons(size).values()]
    runs = sum(len(tasks_of(s)) for s in settings)
    rollouts = sum(len(tasks_of(s)) * s.rollouts for s in settings)
    assert making.estimate(size) == (runs, rollouts)


def test_the_papers_schedule_is_one_pass():
    # T = 15, N' = 4, M = 10, n = 8 (PAPER, 6), on 4000 prompts with 64 draws
    assert paper_runs.FULL.one_pass == 4000 * 4 + 150 * 64 * 8
    trace = paper_runs.comparisons(paper_runs.FULL)["trace-skills"]()
    assert trace.has_outcomes
    assert trace.rollouts == 92_800


def test_pilots_keep_their_share_at_every_update_budget():
    # M x draws x n rollouts a subset: 10 x 64 x 8 of the paper's schedule; at factor 4, M = 2.5 is cut
    known = paper_runs.comparisons(paper_runs.FULL)
    for factor in paper_runs.BATCH_FACTORS:
        settings = known[f"budget-x{factor:g}"]()
        for arm in ("cures", "gvm"):
            a_subset = settings.options[arm]["steps_per_subset"] * settings.batch_size
            assert a_subset == (640 if factor < 4 else 512)


def test_sorted_cuts_are_sorted():
    size = paper_runs.QUICK
    settings = paper_runs.comparisons(size)["cut-seed1"]()
    plain = Settings(**{**settings.as_json(), "arms": ("uniform",), "options": {}})
    host = paper_runs.build(plain, paper_runs.ArmTask("uniform", 0, False))[1]
    rate_N = host.true_success_rate()
    for arm, sign in (("cures@easy-first", -1), ("cures@hard-first", 1)):
        label_N = np.array(settings.options[arm]["subset_N"])
        assert np.bincount(label_N).tolist() == [8] * 15  # 120 prompts in equal parts
        parts = [rate_N[label_N == k] for k in range(15)]
        if sign < 0:
            assert all(a.min() >= b.max() for a, b in pairwise(parts))
        else:
            assert all(a.max() <= b.min() for a, b in pairwise(parts))
    again = paper_runs.comparisons(size)["cut-seed0"]()
    assert again.options != settings.options  # every seed is cut by its own prompts


TINY = replace(paper_runs.QUICK, pool=30, held_out=5, batch=2, rollouts=64, seeds=1)


def test_runs_are_made_once_and_never_mixed(tmp_path, monkeypatch):
    told = []

    def make():
        making.produce(tmp_path, TINY, names=["budget-x1"], on_progress=told.append)

    monkeypatch.setattr(making, "commit", lambda: "1111111")
    make()
    assert told[-1] == 6 * 64  # five arms and a development run
    assert json.loads((tmp_path / "made_by.json").read_text()) == {"budget-x1": "1111111"}
    path = tmp_path / "budget-x1" / "comparison.json"
    stamp = path.stat().st_mtime_ns
    monkeypatch.setattr(making, "commit", lambda: "2222222")
    make()  # finished: other code leaves it alone, and its commit stays on record
    assert path.stat().st_mtime_ns == stamp
    assert json.loads((tmp_path / "made_by.json").read_text()) == {"budget-x1": "1111111"}
    path.unlink()
    with pytest.raises(ValueError, match=r"begun at commit 2222222 .* got '1111111'"):
        make()  # unfinished: two versions of the code would be mixed
    with pytest.raises(ValueError, match="budget-x9"):
        making.produce(tmp_path, TINY, names=["budget-x9"])
    with pytest.raises(ValueError, match="batch_size must be 2 as in"):
        making.is_finished(
            tmp_path / "budget-x1", paper_runs.comparisons(paper_runs.QUICK)["budget-x1"]()
        )


def test_an_interrupted_comparison_goes_on_to_the_same_files(tmp_path):
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    making.produce(whole, TINY, names=["budget-x1"])

    def interrupt(generated):
        if generated > 100:  # in the second run
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        making.produce(parts, TINY, names=["budget-x1"], on_progress=interrupt)
    assert not (parts / "budget-x1" / "comparison.json").exists()
    making.produce(parts, TINY, names=["budget-x1"])
    skipped = {".lock", "timing.json"}
    files = [
        p.relative_to(whole) for p in whole.rglob("*") if p.is_file() and p.name not in skipped
    ]
    assert len(files) > 15
    for file in files:
        assert (whole / file).read_bytes() == (parts / file).read_bytes(), file


# -- files and commands -----------------------------------------------------------------------------


@pytest.fixture
def axes_entry(tmp_path):
    folder = comparison(tmp_path / "runs" / "budget-x1", {"uniform": 0.004, "cures": 0.003})
    (tmp_path / "runs" / "made_by.json").write_text('{"budget-x1": "abc1234"}')
    return Entry.of("axes", "Rollouts instead of updates", steps_or_rollouts, folder.name)


def test_a_figure_says_what_made_it(axes_entry, tmp_path):
    folders = folders_of(axes_entry, tmp_path / "runs")
    files = render(axes_entry, folders, tmp_path / "out", "python -m figures axes")
    assert [file.name for file in files] == ["axes.png", "axes.pdf", "axes.json"]
    assert files[0].read_bytes().startswith(b"\x89PNG")
    assert files[1].read_bytes().startswith(b"%PDF")
    record = json.loads(files[2].read_text())
    assert record["command"] == "python -m figures axes"
    assert record["runs"][0]["made_at"] == "abc1234"
    assert record["settings"]["population"] == "skills"
    assert record["runs"][0]["own_settings"] == {}  # one run: all of them are common
    before = [file.read_bytes() for file in files]
    render(axes_entry, folders, tmp_path / "out", "python -m figures axes")
    assert [file.read_bytes() for file in files] == before  # equal figures are equal files
    text = page.section(record, "../figures")
    for part in (
        "../figures/axes.png",
        "../figures/axes.pdf",
        record["caption"],
        record["finding"],
    ):
        assert part in text
    assert "made at `abc1234`" in text


def test_drawing_does_not_make_the_commit_dirty(tmp_path):
    def git(*words):
        identity = ("-c", "user.name=n", "-c", "user.email=e")
        subprocess.run(["git", *identity, *words], cwd=tmp_path, check=True, capture_output=True)

    folder = tmp_path / "figures"
    folder.mkdir()
    assert provenance.commit(folder) == "unknown"
    (tmp_path / "docs").mkdir()
    for name in ("code.py", "docs/page.md"):
        (tmp_path / name).write_text("before")
    git("init")
    git("add", ".")
    git("commit", "-m", "first")
    clean = provenance.commit(folder)
    assert re.fullmatch("[0-9a-f]{7,}", clean)
    (tmp_path / "docs" / "page.md").write_text("drawn anew")
    assert provenance.commit(folder) == clean
    (tmp_path / "code.py").write_text("another")
    assert provenance.commit(folder) == f"{clean}-dirty"


def test_settings_are_stated_once(tmp_path):
    rates = dict.fromkeys(against_gvm.SHOWN, 0.004)
    options = {"cures": {"pilots": 4, "subset_N": [0] * 65}}
    folders = [
        comparison(tmp_path / "a", rates, options=options),
        comparison(
            tmp_path / "b",
            rates,
            options={"cures": {**options["cures"], "pilots": 8}},
            estimator="reinforce++",
        ),
    ]
    entry = Entry.of("fig2", "title", against_gvm, "a", "b")
    record = json.loads(render(entry, folders, tmp_path / "out", "command")[2].read_text())
    assert record["settings"]["options"] == {"cures": {"subset_N": "list of 65"}}
    assert "estimator" not in record["settings"]
    assert [run["own_settings"] for run in record["runs"]] == [
        {"options": {"cures": {"pilots": 4}}, "estimator": "grpo"},
        {"options": {"cures": {"pilots": 8}}, "estimator": "reinforce++"},
    ]


def test_the_command_draws_and_names_what_is_missing(axes_entry, tmp_path, capsys):
    runs = str(tmp_path / "runs")
    assert main(["axes", "--runs", runs, "--out", str(tmp_path / "out")]) == 0
    assert "axes.pdf" in capsys.readouterr().out
    assert main(["fig6", "--runs", runs, "--out", str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err
    assert "against-skills-grpo for fig6 (python -m figures runs)" in error
    assert main(["runs", "--runs", runs, "--only", "nothing"]) == 2
    assert "nothing" in capsys.readouterr().err
