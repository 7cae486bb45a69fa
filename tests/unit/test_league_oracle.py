"""The best oracle of a pool: on which runs it is chosen, on which it is run, what it saves."""

from __future__ import annotations

import pytest

from cures.storage import write_json
from figures import league, league_oracle, league_rows
from figures.league import DEV_SEEDS, Run
from tests.league_cases import FINAL, entries, entry, summary


def with_oracles(pool, finals):
    """The entries with development runs of all the oracle's variants, by name their final success."""
    found = entries()
    for name in league.oracles(pool):
        for seed in DEV_SEEDS:
            row = entry(name, seed, [0.1, *finals.get(name, (0.15, 0.2))])
            found[Run(pool, name, seed).name] = row
    return found


def test_the_best_oracle_is_chosen_on_development_seeds_and_run_on_the_others(
    tmp_path, monkeypatch
):
    names = list(league.oracles("dead"))
    assert names == [f"oracle@{t}{e}" for t in ("t05", "t15", "t50") for e in ("", "-even")]
    assert [n for n in league.oracles("coins") if "learnable" in n] == [
        f"{name}-learnable" for name in names
    ]
    assert (
        Run("coins", "oracle@t05-learnable", 0).settings(8)["scheduler.oracle.learnable"] == "host"
    )
    runs = league.wanted(["dead"], ["uniform", league.BEST], [0])
    assert {run.arm for run in runs if run.seed in DEV_SEEDS} == {"uniform", *names}
    assert [run.arm for run in runs if run.seed not in DEV_SEEDS] == ["uniform"]
    # the level, 0.26, is reached after 1/2 * 0.16/0.2 of the run; the others never arrive
    found = with_oracles("dead", {"oracle@t15": (0.3, 0.3)})
    assert league_oracle.chosen_oracle("dead", {"one": found}) == "oracle@t15"
    del found["oracle@t05-seed100"]
    assert league_oracle.chosen_oracle("dead", {"one": found}) is None  # not yet
    found = with_oracles("dead", {"oracle@t15": (0.3, 0.3)})
    (tmp_path / "one").mkdir()
    write_json(tmp_path / "one" / "dead.json", found)
    read = league.read_all(tmp_path)
    best = league_oracle.best_runs(read, ["dead", "natural"], ["uniform", league.BEST], [0, 1])
    assert best == [Run("dead", "oracle@t15", 0), Run("dead", "oracle@t15", 1)]
    assert league_oracle.best_runs(read, ["dead"], ["uniform"], [0]) == []
    for seed in FINAL:
        found[f"oracle@t15-seed{seed}"] = entry("oracle@t15", seed, [0.1, 0.35, 0.4])
    with pytest.raises(ValueError, match=r"must be oracle@t05, the best one, got \['oracle@t15'\]"):
        league_rows.rows(found, "oracle@t05")  # chosen otherwise since
    rows = league_rows.rows(found, "oracle@t15")
    assert list(rows) == ["uniform", "adaptive", league.BEST]
    assert rows[league.BEST]["verdict"] == "told"
    # uniform reaches 0.26 at 819.2, ours at 409.6, the oracle at 512 * 0.16 / 0.25 = 327.68
    share = league_rows.shares_of(rows)["adaptive"]
    assert share.value == pytest.approx((819.2 - 409.6) / (819.2 - 327.68))
    assert league_rows.shares_of(league_rows.rows(entries())) == {}
    text = summary(found)
    assert (
        "| dead | one | 2.50 [2.50, 2.50] | adaptive | 2.00 [2.00, 2.00] | 0.83 [0.83, 0.83] |"
        in text
    )
    assert "| adaptive | 1.0 [1.0, 1.0] |  | 1 | 0 | 0 |" in text
    assert "5.5x" not in text  # of an arm that is not there nothing is said
    cures = {f"cures-seed{s}": entry("cures", s, [0.1, 0.3, 0.3]) for s in FINAL}
    text = summary({**found, **cures})
    assert "| cures | dead | one | 2.00 [2.00, 2.00] | 2.00 [2.00, 2.00] |" in text
    text = summary(found)
    assert "Of 1 comparisons of a contender with uniform 1 differ at 5 %" in text


def test_a_development_seed_is_run_in_one_series_alone_and_timed_by_its_uniform():
    fast = with_oracles("dead", {"oracle@t15": (0.3, 0.3)})
    # started elsewhere, and ten times as much to gain: every variant but one is far from the level
    steep = {name: {**e, "held_out_E": [0.0, *e["held_out_E"][1:]]} for name, e in fast.items()}
    for seed in DEV_SEEDS:
        steep[f"uniform-seed{seed}"]["held_out_E"] = [0.0, 1.0, 2.0]
        steep[f"oracle@t50-seed{seed}"]["held_out_E"] = [0.0, 1.9, 2.0]

    def without(entries, seed):
        return {k: e for k, e in entries.items() if e["arm"] == "uniform" or e["seed"] != seed}

    one, two = without(fast, 101), without(steep, 100)

    def series(entries_of):
        return {
            seed: name for seed, (name, _) in league_oracle.developed("dead", entries_of).items()
        }

    assert series({"one": one}) == {100: "one"}
    assert league_oracle.chosen_oracle("dead", {"one": one}) is None
    assert series({"one": one, "two": two}) == {100: "one", 101: "two"}
    levels = [
        gain for _, gain in league_oracle.developed("dead", {"one": one, "two": two}).values()
    ]
    assert levels == pytest.approx([0.16, 1.6])  # 80 % of 0.2 and of 2
    # at t15: 409.6 of 1024 and never; at t50: never and 1024 * 0.5 * 1.6 / 1.9 = 431
    assert league_oracle.chosen_oracle("dead", {"one": one, "two": two}) == "oracle@t15"
    turned = {"one": without(steep, 101), "two": without(fast, 100)}
    assert league_oracle.chosen_oracle("dead", turned) == "oracle@t15"  # by one's level alone: t50
    assert league_oracle.chosen_oracle("dead", {"one": fast, "two": two}) == "oracle@t15"
    assert league_oracle.chosen_oracle("dead", {"one": steep, "two": fast}) == "oracle@t50"
    # a variant is missing, or uniform: that seed is not there
    assert series({"one": without(one, 100), "two": two}) == {101: "two"}
    for missing in ("uniform-seed100", "uniform-seed101"):  # the level rests on both
        assert series({"one": {k: e for k, e in fast.items() if k != missing}}) == {}
    runs = league.wanted(
        ["dead"], ["uniform", league.BEST], [0], done=[("dead", 100), ("coins", 101)]
    )
    due = {run.seed for run in runs if run.arm.startswith("oracle")}
    assert due == {101}
