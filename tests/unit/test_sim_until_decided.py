"""When to stop adding seeds: error rates of the rule, and the rule on run folders."""

from __future__ import annotations

import numpy as np
import pytest

from cures.comparison import harm_verdict, paired_difference
from cures.storage import save_state, write_json
from sim.cli import main
from sim.settings import Settings
from sim.task import ArmTask
from sim.until_decided import MOST_SEEDS, STEP, contenders, first_look, is_decided, next_look

MARGIN = 0.005
LOOKS = range(STEP, MOST_SEEDS + 1, STEP)


def verdict_after_looking(difference_S, is_last):
    """Ordinary 95 % verdict at the first look that ``is_last`` allows, or at the last one."""
    zero_S = np.zeros_like(difference_S)
    for seeds in LOOKS:
        if seeds == MOST_SEEDS or is_last(difference_S[:seeds], zero_S[:seeds], MARGIN):
            return harm_verdict(paired_difference(difference_S[:seeds], zero_S[:seeds]), MARGIN)
    raise AssertionError


def at_first_verdict(arm_S, reference_S, margin):
    """The common wrong variant: stop as soon as the 95 % interval decides."""
    return harm_verdict(paired_difference(arm_S, reference_S), margin) != "undecided"


def wrong_verdicts(is_last, comparisons=2000):
    """Share of verdicts for an arm exactly at the margin, where each is wrong in 2.5 % of one look."""
    generator = np.random.default_rng(4)
    difference = generator.normal(-MARGIN, 0.01, (comparisons, MOST_SEEDS))
    verdicts = [verdict_after_looking(row, is_last) for row in difference]
    return np.array([verdicts.count("no harm"), verdicts.count("harm")]) / comparisons


@pytest.mark.slow
def test_looking_often_is_not_wrong_more_often():
    """4 sigma of .025 at 2000 comparisons; stopping at the first verdict must fail the same check."""
    error = 4 * np.sqrt(0.025 * 0.975 / 2000)
    assert (wrong_verdicts(is_decided) <= 0.025 + error).all()
    assert (wrong_verdicts(at_first_verdict) > 0.025 + error).all()


def test_an_early_look_needs_eleven_seeds_and_a_clear_case():
    # the range of n values misses their median with chance 2^(1-n), .00098 at 11: no 99.9 % before
    noise = np.resize([1e-4, -1e-4], 11)
    assert not is_decided(noise[:10], np.zeros(10), MARGIN)
    assert is_decided(noise, np.zeros(11), MARGIN)  # no harm
    assert is_decided(noise - 0.2, np.zeros(11), MARGIN)  # harm
    # mean -.0035 +- t(10) s / sqrt(11) with s = 2e-3 sqrt(12/11): t .975 is 2.228, t .9995 is 4.587:
    # half-width .0014 at 95 %, which decides, and .0029 at 99.9 %, which does not
    spread = np.resize([2e-3, -2e-3], 12)
    difference_S = -0.0035 + spread[:11] - spread[:11].mean()
    assert at_first_verdict(difference_S, np.zeros(11), MARGIN)
    assert not is_decided(difference_S, np.zeros(11), MARGIN)


def settings_of(seeds, arms=("uniform", "cures", "speed", "oracle")):
    return Settings(arms=arms, rollouts=1000, seeds=seeds, grid_points=2, margin=MARGIN)


def write_finals(root, arm, final_S):
    for seed, final in enumerate(final_S):
        folder = root / ArmTask(arm, seed, False).folder
        folder.mkdir(parents=True)
        save_state(folder / "curve.npz", {"held_out_E": np.array([0.1, final])})


def test_only_contenders_hold_a_comparison_open(tmp_path):
    assert contenders(settings_of(8)) == ["cures", "speed"]
    level = 0.5 + 0.01 * np.arange(MOST_SEEDS)
    unclear = np.resize([0.02, -0.03], MOST_SEEDS)  # mean -.005: exactly at the margin
    for arm, shift in (("uniform", 0), ("cures", -0.1), ("speed", unclear), ("oracle", unclear)):
        write_finals(tmp_path, arm, level + shift)
    assert next_look(settings_of(8), tmp_path) == (16, ["cures", "speed"])
    assert next_look(settings_of(16), tmp_path) == (24, ["speed"])
    assert next_look(settings_of(27), tmp_path) == (32, ["speed"])
    assert next_look(settings_of(32), tmp_path) == (None, ["speed"])
    # without the unclear contender 16 seeds do; the oracle is as unclear and has no say
    alone = settings_of(16, arms=("uniform", "cures", "oracle"))
    assert next_look(alone, tmp_path) == (None, [])


def test_a_comparison_goes_on_from_the_seeds_it_has_grown_to(tmp_path):
    assert first_look(settings_of(8), tmp_path) == 8
    write_json(tmp_path / "config.json", settings_of(24).as_json())
    assert first_look(settings_of(8), tmp_path) == 24
    assert first_look(settings_of(32), tmp_path) == 32


def test_the_command_adds_seeds_until_it_can_tell_and_resumes(tmp_path, capsys):
    """speed drops what uniform trains on: far behind after so few rollouts, clear at 16 seeds."""
    command = [
        "compare",
        "--schedulers",
        "speed",
        "--until-decided",
        "--out",
        str(tmp_path / "run"),
    ]
    command += ["--rollouts", "3000", "--batch-size", "8", "--pool", "100", "--held-out", "30"]
    command += ["--seeds", "8", "--dev-seeds", "1", "--grid-points", "5", "--margin", "0.2"]
    assert main(command) == 0
    shown = capsys.readouterr().out
    assert "8 seeds: open: speed; going on to 16" in shown
    assert "16 seeds: every verdict is in; this was the last look" in shown
    numbers = (tmp_path / "run" / "comparison.json").read_bytes()
    assert main(command) == 0  # the folder has 16 seeds by now: one look, nothing is run again
    shown = capsys.readouterr().out
    assert "8 seeds: open" not in shown
    assert "16 seeds: every verdict is in" in shown
    assert (tmp_path / "run" / "comparison.json").read_bytes() == numbers
