"""Numbers in words, and how arms are drawn."""

from __future__ import annotations

import math

import numpy as np
import pytest
from matplotlib.colors import to_rgb

from cures import list_schedulers
from sim.picture import LOOKS, arm_styles, new_figure, rollouts_axis, save
from sim.wording import difference_text, speed_up_text, verdict_text

RATIO = {"ratio": 1.5, "low": 1.2, "high": 2.0, "reference_censored": 0, "arm_censored": 0}


@pytest.mark.parametrize(
    ("target", "text"),
    [
        (None, ""),
        ({"median": 1234.5, "censored": 0}, "1,234"),
        ({"median": 1234.5, "censored": 3}, "1,234 (3 out)"),
        (RATIO | {"bound": "exact", "seeds": 6}, "1.50 [1.20, 2.00]"),
        (RATIO | {"bound": "exact", "seeds": 5}, "1.50"),  # 95 % needs six seeds
        (
            RATIO | {"bound": "at least", "high": None, "reference_censored": 9, "seeds": 16},
            "≥ 1.50 [1.20, inf] (9, 0 out)",
        ),
        (
            RATIO | {"bound": "at most", "low": 0.0, "arm_censored": 9, "seeds": 16},
            "≤ 1.50 [0.00, 2.00] (0, 9 out)",
        ),
        (
            RATIO | {"bound": "undefined", "ratio": None, "reference_censored": 9, "seeds": 16}
            | {"arm_censored": 9},
            "undefined (9, 9 out)",
        ),
    ],
)  # fmt: skip
def test_speed_ups_in_words(target, text):
    assert speed_up_text(target) == text


def test_differences_and_verdicts_in_words():
    difference = {"mean": -0.01234, "low": -0.02, "high": -0.004, "verdict": "undecided"}
    assert difference_text(difference) == "-0.0123 [-0.0200, -0.0040]"
    # what paired_difference gives below six seeds
    open_ = {"mean": -0.01234, "low": -math.inf, "high": math.inf}
    assert difference_text(open_) == "-0.0123"
    assert difference_text(difference | {"low": None, "high": None}, digits=2) == "-0.01"
    assert difference_text(None) == ""
    assert verdict_text({"told_true_rates": False, "difference": difference}) == "undecided"
    assert (
        verdict_text({"told_true_rates": True, "difference": difference}) == "told the true rates"
    )
    assert verdict_text({"told_true_rates": False}) == "reference"


def test_every_scheduler_has_a_look_of_its_own():
    assert sorted(LOOKS) == sorted(list_schedulers())
    assert len({colour for colour, _ in LOOKS.values()}) == len(LOOKS)
    assert len({marker for _, marker in LOOKS.values()}) == len(LOOKS)
    told = [LOOKS[name][0] for name in ("oracle", "staged")]
    assert all(len(set(to_rgb(colour))) == 1 for colour in told)  # grey


def test_a_look_does_not_depend_on_the_company():
    together = arm_styles(["uniform", "band", "speed", "cures"])
    for arm, style in together.items():
        assert arm_styles([arm])[arm] == style
    # ten labelled arms of one scheduler can all be told apart
    arms = ["cures", *(f"cures@{i}" for i in range(9))]
    styles = arm_styles(arms)
    assert len({(s.dash, s.marker) for s in styles.values()}) == 10
    assert {s.colour for s in styles.values()} == {LOOKS["cures"][0]}


def test_equal_pictures_are_equal_files_and_nothing_is_left_half_written(tmp_path):
    def draw():
        figure = new_figure(4.0, 3.0)
        axes = figure.subplots()
        axes.plot(np.linspace(0, 200_000, 5), np.arange(5.0))
        rollouts_axis(axes)
        return figure

    first = draw()
    path = save(first, tmp_path / "new" / "x.png")
    assert path.read_bytes() == save(draw(), tmp_path / "y.png").read_bytes()
    assert [p.name for p in path.parent.iterdir()] == ["x.png"]
    labels = [label.get_text() for label in first.axes[0].get_xticklabels()]
    assert "120,000" in labels
