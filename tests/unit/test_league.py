"""The league: which runs there are, what is kept of them, and the table that is made of it."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from scipy import stats

from cures.storage import write_json
from figures import league, league_curves, league_rows, league_table
from figures.__main__ import main
from figures.league import ARMS, DEV_SEEDS, SEEDS, Book, Run
from figures.training_runs import run_quietly
from tests.league_cases import FINAL, entries, entry, summary


def test_development_seeds_come_first_and_are_others():
    assert not set(DEV_SEEDS) & set(SEEDS)
    runs = list(league.wanted(["dead", "coins"], ["uniform", "adaptive"], [0, 1]))
    dev = 2 * len(DEV_SEEDS)
    assert {(run.arm, run.seed) for run in runs[:dev]} == {("uniform", s) for s in DEV_SEEDS}
    # seed by seed, so that what there is after a stop can be compared
    assert [run.seed for run in runs[dev:]] == [0] * 4 + [1] * 4
    assert len(set(runs)) == len(runs)


@pytest.mark.parametrize(
    ("pools", "arms", "seeds", "message"),
    [
        (["moon"], ["uniform"], [0], "--pools must be one of"),
        (["dead"], ["best"], [0], "--arms must be one of"),
        (["dead"], ["uniform"], [100], "--seeds must be of"),
    ],
)
def test_what_is_not_in_the_league_is_refused(pools, arms, seeds, message):
    with pytest.raises(ValueError, match=message):
        list(league.wanted(pools, arms, seeds))


def test_runs_of_a_seed_differ_by_the_scheduler_alone(tmp_path):
    def settings(arm):
        return Run("coins", arm, 3).settings(1024)

    own = {key for key in settings("adaptive@moments") if key not in settings("uniform")}
    assert own == {"scheduler.adaptive.use_moments", "rollout.gradient_moments"}
    assert settings("uniform")["task.coins"] == 0.2
    command = Run("coins", "adaptive@moments", 3).command(tmp_path, 1024, "x.toml")
    assert command[command.index("--scheduler") + 1] == "adaptive"
    assert "scheduler.adaptive.use_moments=true" in command
    assert command[-1] == str(tmp_path / "coins" / "adaptive@moments-seed3")


def test_every_arm_is_a_scheduler_with_its_own_options():
    # as the trainer reads them: a misspelt option would be refused
    from train.config_file import load

    for name in ARMS:
        values = Run("natural", name, 0).settings(1024)
        sets = [
            f"{key}={str(value).lower() if isinstance(value, bool) else value}"
            for key, value in values.items()
        ]
        config = load("configs/tiny_cpu.toml", [f"scheduler.name={ARMS[name].scheduler}", *sets])
        assert config.scheduler.name == ARMS[name].scheduler
        for key, value in ARMS[name].options.items():
            assert config.scheduler.resolved_options()[key] == value


def fake_training(monkeypatch, failing=()):
    """Runs are names in a list instead of minutes."""
    made = []

    def run(command):
        name = command[-1].rpartition("/")[2]
        made.append(name)
        if name in failing:
            raise subprocess.CalledProcessError(1, command)

    monkeypatch.setattr(league, "run_quietly", run)
    monkeypatch.setattr(
        league, "entry_of", lambda run, rollouts, folder: entry(run.arm, run.seed, [0.1, 0.2, 0.3])
    )
    return made


def test_finished_runs_are_never_made_again(tmp_path, monkeypatch):
    made, book = fake_training(monkeypatch, failing=["uniform-seed0"]), Book(tmp_path / "book")
    runs = list(league.wanted(["dead"], ["uniform", "adaptive"], [0]))
    with pytest.raises(subprocess.CalledProcessError):
        league.make(tmp_path, book, runs, jobs=1, rollouts=1024)
    assert made == ["uniform-seed100", "uniform-seed101", "uniform-seed0", "adaptive-seed0"]
    assert sorted(book.entries("dead")) == sorted(set(made) - {"uniform-seed0"})
    made = fake_training(monkeypatch)
    said = []
    league.make(tmp_path, book, runs, jobs=2, rollouts=1024, report=said.append)
    assert made == ["uniform-seed0"]
    assert said[0].startswith("1 of 4 runs are missing, about ")
    league.make(tmp_path, book, runs, jobs=2, rollouts=1024)
    assert made == ["uniform-seed0"]
    with pytest.raises(ValueError, match="remove the entry to make it anew"):
        league.make(tmp_path, book, runs, jobs=2, rollouts=2048)
    own = book.entries("dead")["adaptive-seed0"]["defaults"]
    assert own["rest"] == 4
    monkeypatch.setattr(league, "defaults", lambda scheduler: {**own, "came_since": True})
    adaptive = [run for run in runs if run.arm == "adaptive"]
    assert league.missing_of(book, adaptive, 1024) == []
    for other in ({**own, "rest": 5}, {k: v for k, v in own.items() if k != "rest"}):
        monkeypatch.setattr(league, "defaults", lambda scheduler, other=other: other)
        with pytest.raises(ValueError, match="remove the entry to make it anew"):
            league.make(tmp_path, book, adaptive, jobs=2, rollouts=1024)


def test_what_is_kept_of_a_run(tmp_path):
    ledger = {f"{p}/{f}": 0 for p in ("train", "pilot", "oracle") for f in
              ("generated", "trained", "discarded", "missing")}  # fmt: skip
    ledger |= {"train/generated": 6, "train/trained": 6, "pilot/generated": 2, "pilot/discarded": 2}
    write_json(tmp_path / "config.json", {"scheduler": {}, "run": {}})
    summary = {"generated": 8, "updates": 2, "ledger": {**ledger, "pending": 0, "tokens": 40}}
    write_json(tmp_path / "summary.json", summary)
    logs = {
        "evaluation": '{"step": 0, "generated": 0, "held_out": 0.1}\n'
        '{"step": 2, "generated": 8, "held_out": 0.3}\n',
        "metrics": '{"step": 1, "trained": 2, "wasted": 1.0, "tokens": 15}\n'
        '{"step": 2, "trained": 4, "wasted": 0.25, "tokens": 40}\n',
        "outcomes": "",
        "timing": '{"step": 1, "rollout_cpu_time_s": 1.0, "update_cpu_time_s": 1.5}\n'
        '{"step": 2, "rollout_cpu_time_s": 0.5, "update_cpu_time_s": 0.5}\n',
    }
    for name, text in logs.items():
        (tmp_path / f"{name}.jsonl").write_text(text)
    found = league.entry_of(Run("dead", "cures", 1), 8, tmp_path)
    # wasted: (2 * 1 + 4 * 1/4) / 6
    with pytest.raises(ValueError, match="rollouts of cures-seed1 must be 10, or one less"):
        league.entry_of(Run("dead", "cures", 1), 10, tmp_path)
    assert league.entry_of(Run("dead", "cures", 1), 9, tmp_path)["generated_E"] == [0, 9]
    other = {
        "scheduler": {"name": "cures"},
        "run": {"seed": 3},
        "rollout": {"gradient_moments": True},
    }
    assert league.fingerprint(other) == found["same"]  # seeds and moments aside, all is alike
    assert league.fingerprint({**other, "task": {"coins": 0.1}}) != found["same"]
    expected = {
        "generated_E": [0, 8], "held_out_E": [0.1, 0.3], "updates": 2, "tokens": 40,
        "pilot": 0.25, "trained": 0.75, "wasted": 0.5, "cpu_s": 3.5,
        "updates_E": [0, 2], "tokens_E": [0, 40], "cpu_E": [0.0, 3.5],
    }  # fmt: skip
    assert {key: found[key] for key in expected} == expected


def test_rows_by_hand():
    rows = league_rows.rows(entries())
    assert list(rows) == ["uniform", "adaptive"]  # mopps has one seed of six
    # scipy's paired test
    assert rows["adaptive"]["p_value"] == pytest.approx(
        stats.ttest_rel(list(FINAL.values()), [0.3] * 6).pvalue
    )
    row = rows["adaptive"]
    difference = np.array(list(FINAL.values())) - 0.3
    assert row["difference"]["mean"] == pytest.approx(difference.mean())
    low, high = stats.t.interval(0.95, 5, difference.mean(), stats.sem(difference))
    assert (row["difference"]["low"], row["difference"]["high"]) == pytest.approx((low, high))
    assert low > -0.01
    assert row["verdict"] == "no harm"
    assert (rows["uniform"]["verdict"], rows["uniform"]["difference"]) == ("reference", None)
    # level 0.1 + 1.0 * 0.2 at 1024 and at 512 rollouts; 0.1 + 0.8 * 0.2 at 819.2 and 409.6
    assert row["speed_up"]["1.0"]["ratio"] == pytest.approx(2.0)
    assert row["speed_up"]["0.8"]["ratio"] == pytest.approx(2.0)
    assert rows["uniform"]["seeds"] == 6
    assert row["reached_S"] == pytest.approx([409.6] * 6)
    # as many updates, tokens and seconds per rollout: the same factor on every axis
    for axis in league.AXES:
        assert row["speed_up"][axis]["ratio"] == pytest.approx(2.0)
    twice = {
        k: {**v, "updates_E": [0, 2, 4], "updates": 4} if v["arm"] == "adaptive" else v
        for k, v in entries().items()
    }
    on_updates = league_rows.rows(twice)["adaptive"]["speed_up"]
    assert on_updates["updates"]["ratio"] == pytest.approx(1.0)  # twice as many updates each
    assert on_updates["tokens"]["ratio"] == pytest.approx(2.0)
    slow = {**entries(), **{f"mopps-seed{s}": entry("mopps", s, [0.1, 0.1, 0.1]) for s in FINAL}}
    assert league_rows.rows(slow)["mopps"]["speed_up"]["1.0"]["bound"] == "at most"  # never arrives
    dead = {k: {**v, "held_out_E": [0.1, 0.1, 0.1]} for k, v in entries().items()}
    assert league_rows.rows(dead)["adaptive"]["speed_up"] == {}  # uniform learned nothing
    assert league_rows.rows({}) == {}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"generated_E": [0, 512, 2048]}, r"generated_E of adaptive-seed0, dead must be \[0, 512"),
        ({"same": "4567"}, "same of adaptive-seed0, dead must be 0123, as in the others"),
        ({"held_out_E": [0.2, 0.3, 0.3]}, "start of adaptive-seed0 must be 0.1, that of the other"),
    ],
)
def test_what_differs_cannot_be_compared(change, message):
    mixed = entries()
    mixed["adaptive-seed0"] |= change
    with pytest.raises(ValueError, match=message):
        league_rows.numbers_of({"one": {"dead": mixed}})


def of_other_starts():
    """The reference a tenth higher from the start, ``mopps`` 0.05 above it at the end, no adaptive."""
    found = [entry("uniform", seed, [0.2, 0.3, 0.4]) for seed in (*DEV_SEEDS, *FINAL)]
    found += [entry("mopps", seed, [0.2, 0.3, 0.45]) for seed in FINAL]
    return {Run("dead", row["arm"], row["seed"]).name: row for row in found}


def test_another_processor_is_a_series_of_its_own(tmp_path, monkeypatch):
    by_series = {"one": {"dead": entries()}, "two": {"dead": of_other_starts(), "coins": {}}}
    numbers = league_rows.numbers_of(by_series)
    assert {pool: list(found) for pool, found in numbers.items()} == {"dead": ["one", "two"]}
    merged = league_rows.together(numbers["dead"])
    assert list(merged) == ["uniform", "adaptive", "mopps"]
    # beside uniform of its own series; beside the other one it would be 0.15
    assert merged["mopps"]["difference"]["mean"] == pytest.approx(0.05)
    assert merged["uniform"]["verdict"] == "reference"
    assert [merged[arm]["series"] for arm in merged] == [["one", "two"], ["one"], ["two"]]
    text = league_table.page(by_series, numbers, "make league")
    assert "Series `one`: held-out success starts at 0.100." in text
    assert "Series `two`: held-out success starts at 0.200." in text
    ranks = [line for line in text.split("\n") if line.startswith("| ") and " 1.0 [1.0, " in line]
    assert ranks[0].startswith("| mopps | 1.0 [1.0, 1.0] |")  # +0.05, +0.027, 0
    assert "Of 2 comparisons" in text
    dead = league_curves.draw(numbers).axes[1]
    drawn = [list(line.get_ydata()) for line in dead.get_lines()]
    for expected in (
        [0.0] * 3,
        [0.0, 0.1, 0.16 / 6],
        [0.0, 0.0, 0.05],
    ):  # minus the series' uniform
        assert any(line == pytest.approx(expected) for line in drawn), expected
    # one file of both: the table and the run itself refuse it
    mixed = {**entries(), "mopps-seed1": of_other_starts()["mopps-seed1"]}
    with pytest.raises(ValueError, match=r"start of .*-seed1 must be .* --series NAME"):
        league_rows.rows(mixed)
    book = Book(tmp_path)
    write_json(book.path("dead"), entries())
    fake_training(monkeypatch)
    monkeypatch.setattr(
        league, "entry_of", lambda run, *rest: of_other_starts()[f"{run.arm}-seed{run.seed}"]
    )
    run = Run("dead", "mopps", 1)
    with pytest.raises(
        ValueError, match="start of mopps-seed1 must be 0.1, that of the other runs"
    ):
        league.make(tmp_path, book, [run], jobs=1, rollouts=1024)
    assert book.entries("dead") == entries()


def test_a_series_that_is_being_made_is_left_out_of_what_stands_together():
    new = {k: v for k, v in of_other_starts().items() if v["seed"] in (*DEV_SEEDS, 0)}
    numbers = league_rows.numbers_of({"one": {"dead": entries()}, "two": {"dead": new}})
    assert numbers["dead"]["two"]["mopps"]["seeds"] == 1
    assert list(league_rows.together(numbers["dead"])) == ["uniform", "adaptive"]
    assert "## Mean rank over 1 pools" in league_table.summary(numbers)


def test_an_arm_of_several_series_is_averaged_by_seed():
    finals = {**FINAL, 6: 0.35, 7: 0.30}

    more = [{s: 0.001 * s for s in finals}, {s: 0.001 * s**2 for s in finals}]  # of both arms

    def series(start, final_of, more):
        rows = [
            entry("uniform", s, [start, 0.2, 0.3 + more.get(s, 0)]) for s in (*DEV_SEEDS, *finals)
        ]
        rows += [entry("adaptive", s, [start, 0.3, final_of(s) + more[s]]) for s in finals]
        return {"dead": {Run("dead", row["arm"], row["seed"]).name: row for row in rows}}

    by_series = {
        "one": series(0.1, finals.get, more[0]),
        "two": series(0.15, lambda seed: 0.31, more[1]),
    }
    numbers = league_rows.numbers_of(by_series)
    merged = league_rows.together(numbers["dead"])["adaptive"]
    assert merged["series"] == ["one", "two"]
    # eight seeds, each the mean of minus 0.3 in one series and 0.01 in the other; not sixteen
    minus = np.array([(final - 0.3 + 0.01) / 2 for final in finals.values()])
    assert merged["minus_S_E"][:, -1] == pytest.approx(minus)
    once, twice = (
        stats.t.interval(level, 7, minus.mean(), stats.sem(minus)) for level in (0.95, 0.975)
    )
    for name, interval in (("difference", once), ("widened", twice)):
        assert [merged[name][end] for end in ("low", "high")] == pytest.approx(interval)
    assert merged["p_value"] == pytest.approx(stats.ttest_1samp(minus, 0.0).pvalue)
    texts = [f"{minus.mean():+.3f} [{low:+.3f}, {high:+.3f}]" for low, high in (once, twice)]
    line = f"| dead | adaptive | one, two | 8 | {texts[0]} | {texts[1]} | no harm |"
    assert line in league_table.summary(numbers)
    alike = stats.pearsonr(*(list(values.values()) for values in more)).statistic
    text = f"correlates by {alike:.2f} to {alike:.2f})"
    assert text in league_table.summary(numbers)
    assert "Arms of several" not in summary(entries())


def test_a_verdict_of_several_looks_is_that_of_the_wider_interval():
    minus_S = np.array([-0.013, 0.0, -0.004, 0.004, -0.010, 0.002, -0.007, -0.002])
    once, thrice = (league_rows.judged("adaptive", minus_S, looks=looks) for looks in (1, 3))
    for found, level in ((once, 0.95), (thrice, 1 - 0.05 / 3)):
        expected = stats.t.interval(level, 7, minus_S.mean(), stats.sem(minus_S))
        assert [found["widened"][end] for end in ("low", "high")] == pytest.approx(expected)
    assert once["widened"]["low"] > -0.01 > thrice["widened"]["low"]
    assert [found["verdict"] for found in (once, thrice)] == ["no harm", "undecided"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"same": "4567"}, "same of uniform-seed100, dead must be 0123, as in the others"),
        ({"defaults": {"rest": 5}}, "defaults of uniform-seed100, dead must be"),
        ({"settings": {"task.coins": 0.2}}, "settings of uniform-seed100, dead must be"),
    ],
)
def test_series_that_differ_in_more_than_their_warm_starts_are_refused(change, message):
    new = {name: {**row, **change} for name, row in of_other_starts().items()}
    old = {name: {**row, "defaults": {"rest": 4}} for name, row in entries().items()}
    with pytest.raises(ValueError, match=message):
        league_rows.numbers_of({"one": {"dead": old}, "two": {"dead": {**new}}})
    # seeds and an option that came since are no difference
    since = {
        name: {**row, "defaults": {"rest": 4, "came": 1}} for name, row in of_other_starts().items()
    }
    assert league_rows.numbers_of({"one": {"dead": old}, "two": {"dead": since}})


def test_variants_of_an_arm_are_ranked_in_its_place_and_one_run_is_compared_once():
    found = entries() | {
        f"adaptive@moments-seed{seed}": entry("adaptive@moments", seed, [0.1, 0.3, final])
        for seed, final in FINAL.items()
    }
    text = summary(found)
    assert "| adaptive | 1.0 [1.0, 1.0] |" in text
    assert "| adaptive@moments |" not in text
    assert (
        "In the place of `adaptive`, `adaptive@moments` has a mean rank of 1.0 [1.0, 1.0]." in text
    )
    assert "Of 1 comparisons" in text  # the same curves twice: a pool where both do the same
    found["adaptive@moments-seed0"]["held_out_E"] = [0.1, 0.3, 0.31]
    assert "Of 2 comparisons" in summary(found)


def test_series_are_folders_with_entries(tmp_path):
    for name, pool in (("new", "dead"), ("epyc", "small"), ("simulator", "dead-grpo")):
        (tmp_path / name).mkdir()
        write_json(tmp_path / name / f"{pool}.json", {})
    assert league.all_series(tmp_path) == ["epyc", "new"]
    assert league.all_series(tmp_path / "none") == []
    for name in ("", "../up", "simulator", "Xeon", "a/b"):
        with pytest.raises(ValueError, match="--series must be a name"):
            league.checked_series(name)
    assert league.checked_series("xeon-8") == "xeon-8"


def test_an_arm_of_some_pools_is_missing_nowhere_else():
    runs = league.wanted(["dead", "coins"], ["uniform", league.VISITED], [0])
    assert [run.pool for run in runs if run.arm == league.VISITED] == ["dead"]
    row = {"seeds": 6, "minus_S_E": np.zeros((6, 3)), "generated_E": [0, 512, 1024]}
    everywhere = {arm: row for arm in (*ARMS, league.BEST) if arm != league.VISITED}
    numbers = {pool: {"one": everywhere} for pool in league.POOLS}
    assert league_table.missing(numbers) == "Not on all pools yet: `oracle@visited`.\n"
    numbers["dead"] = {"one": {**everywhere, league.VISITED: row}}
    assert league_table.missing(numbers) == ""


def test_small_pools_have_room_for_a_batch():
    options = league.arm_of("small", "cures-released").options
    assert options == {"num_subsets": 1}
    assert league.arm_of("dead", "cures-released").options == {}


def test_page_and_picture_from_the_entries_alone(tmp_path, capsys):
    (tmp_path / "entries" / "xeon").mkdir(parents=True)
    write_json(tmp_path / "entries" / "xeon" / "dead.json", entries())
    options = ["--entries", str(tmp_path / "entries"), "--page", str(tmp_path / "league.md")]
    options += ["--picture", str(tmp_path / "league.png"), "--page-only"]
    assert main(["league", *options]) == 0
    text = (tmp_path / "league.md").read_text()
    assert "## 85 % dead prompts" in text
    assert "| adaptive | 6 | 0.327 | +0.027" in text
    assert "natural pool" not in text  # nothing of it is there
    assert (tmp_path / "league.png").stat().st_size > 10_000
    assert main(["league", "--entries", str(tmp_path / "none"), "--page-only"]) == 2
    assert "entries must be of one run at least" in capsys.readouterr().err


def test_a_command_that_fails_says_why(capfd):
    command = [sys.executable, "-c", "import sys; sys.exit('out of luck')"]
    with pytest.raises(subprocess.CalledProcessError):
        run_quietly(command)
    assert "out of luck" in capfd.readouterr().err
    run_quietly([sys.executable, "-c", "print('fine')"])
    assert capfd.readouterr().out == ""
