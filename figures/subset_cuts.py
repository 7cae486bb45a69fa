"""How the pool is cut into subsets: their number, the draw of the cut, and sorted cuts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from cures.checks import fail
from cures.comparison import paired_difference
from figures.ablation import forest, look
from figures.sim_folders import Comparison, difference, read
from figures.style import COLUMN, page_figure, styled
from sim.picture import arm_styles
from sim.settings import REFERENCE

NAMES = {
    "cures@T1": "T = 1",
    "cures@T5": "T = 5",
    "cures@T15": "T = 15, random",
    "cures@T15-cut2": "T = 15, second cut",
    "cures@T15-cut3": "T = 15, third cut",
    "cures@T30": "T = 30",
    "cures@random": "T = 15, random",
    "cures@easy-first": "T = 15, easy first",
    "cures@hard-first": "T = 15, hard first",
}
CAPTION = """\
CurES minus uniform sampling in held-out success after one pass of the paper's schedule
({rollouts:,} generated rollouts, natural pool, GRPO); mean of {seeds} paired seeds with Student's
95 % interval. Top: random cuts into T subsets, with as many updates and pilots in all; three
random cuts at T = 15. Bottom: other seeds, 15 subsets cut at random, or sorted by the initial
success rates, which no real run knows. The paper cuts into 15 and does not vary it."""


def compute(folders: list[Path]) -> dict[str, Any]:
    """Paired differences to uniform.

    Returns
    -------
    dict
        ``rollouts``, ``seeds``; under ``random`` and ``sorted`` per arm ``[mean, low, high]``;
        ``cut_spread``: standard deviation over the three random cuts of the mean difference.
    """
    comparisons = [read(folder) for folder in folders]
    several = [c for c in comparisons if "cures@T1" in c.arms]
    single = [c for c in comparisons if "cures@easy-first" in c.arms]
    if len(several) != 1 or not single:
        legal = "one comparison of random cuts and at least one of sorted ones"
        fail("subset_cuts", "folders", legal, [str(folder) for folder in folders])
    arrays = {
        "rollouts": several[0].config["rollouts"],
        "seeds": several[0].seeds,
        "random": _differences(several),
        "sorted": _differences(single),
    }
    cuts = [
        paired_difference(_final(several, arm), _final(several, REFERENCE)).mean
        for arm in ("cures@T15", "cures@T15-cut2", "cures@T15-cut3")
    ]
    arrays["cut_spread"] = float(np.std(cuts, ddof=1))
    return arrays


def _final(comparisons: list[Comparison], arm: str) -> Any:
    return np.concatenate([comparison.curve(arm)[1][:, -1] for comparison in comparisons])


def _differences(comparisons: list[Comparison]) -> dict[str, Any]:
    reference = _final(comparisons, REFERENCE)
    arms = [arm for arm in NAMES if arm in comparisons[0].arms]
    return {arm: difference(_final(comparisons, arm), reference) for arm in arms}


@styled
def draw(arrays: dict[str, Any]) -> Figure:
    """Two forests, one above the other, at the width of a column."""
    figure = page_figure(2.9, width=COLUMN)
    panels = figure.subplots(2, 1, sharex=True, height_ratios=[6, 3])
    style = look(arm_styles(["cures"])["cures"])
    for axes, which in zip(panels, ("random", "sorted"), strict=True):
        rows = {NAMES[arm]: values for arm, values in arrays[which].items()}
        forest(axes, rows, dict.fromkeys(rows, style))
    panels[1].xaxis.set_major_locator(MaxNLocator(4))
    panels[1].set_xlabel("held-out success minus uniform's")
    return figure


def caption(arrays: dict[str, Any]) -> str:
    """What is shown."""
    return CAPTION.format(rollouts=int(arrays["rollouts"]), seeds=int(arrays["seeds"]))


def finding(arrays: dict[str, Any]) -> str:
    """Best and worst cut, and how much the draw of the cut moves."""
    mean = {NAMES[arm]: float(values[0]) for arm, values in arrays["random"].items()}
    sorted_mean = {NAMES[arm]: float(values[0]) for arm, values in arrays["sorted"].items()}
    best, worst = max(mean, key=mean.__getitem__), min(mean, key=mean.__getitem__)
    bottom = ", ".join(f"{name} {value:+.3f}" for name, value in sorted_mean.items())
    return (
        f"Random cuts: best {best} ({mean[best]:+.3f}), worst {worst} ({mean[worst]:+.3f}); three "
        f"random cuts into 15 differ by a standard deviation of {arrays['cut_spread']:.4f}. Other "
        f"seeds: {bottom}."
    )
