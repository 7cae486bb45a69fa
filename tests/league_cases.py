"""Entries of the league on the language model as tests make them up: two points after the start."""

from __future__ import annotations

from figures import league_rows, league_table
from figures.league import DEV_SEEDS, Run

FINAL = {0: 0.30, 1: 0.34, 2: 0.32, 3: 0.33, 4: 0.31, 5: 0.36}  # six: fewer give no interval


def entry(arm, seed, curve, rollouts=1024, **values):
    row = {
        "arm": arm,
        "seed": seed,
        "settings": Run("dead", arm, seed).settings(rollouts),
        "defaults": Run("dead", arm, seed).defaults,
        "generated_E": [0, 512, 1024],
        "held_out_E": curve,
        "updates_E": [0, 1, 2],
        "tokens_E": [0, 2500, 5000],
        "cpu_E": [0.0, 1.0, 2.0],
        "updates": 2,
        "tokens": 5000,
        "pilot": 0.0,
        "trained": 1.0,
        "wasted": 0.5,
        "cpu_s": 2.0,
        "commit": "abc",
        "same": "0123",
    }
    return {**row, **values}


def entries():
    found = [entry("uniform", seed, [0.1, 0.2, 0.3]) for seed in DEV_SEEDS]
    found += [entry("uniform", seed, [0.1, 0.2, 0.3]) for seed in FINAL]
    # the gain of 0.2 after half of the rollouts, and a little more at the end
    found += [entry("adaptive", seed, [0.1, 0.3, final]) for seed, final in FINAL.items()]
    found += [entry("mopps", 0, [0.1, 0.1, 0.1])]  # being made
    return {f"{row['arm']}-seed{row['seed']}": row for row in found}


def summary(entries_of_dead):
    """Of the page: what is said over all pools, here the one of these entries."""
    return league_table.summary(league_rows.numbers_of({"one": {"dead": entries_of_dead}}))
