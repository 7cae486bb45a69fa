"""Learning curves of a finished comparison, as one PNG."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from sim.analysis import load_curves
from sim.settings import REFERENCE, Settings

# Okabe and Ito's palette, distinguishable with any colour vision; yellow left out, too pale on
# white.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00")
DASHES = ("-", "--", "-.", ":")


def draw_curves(settings: Settings, root: Path, comparison: dict[str, Any]) -> Path:
    """Draw mean held-out success against generated rollouts, with the middle half of the seeds.

    Parameters
    ----------
    settings : Settings
    root : Path
        Run folder with every arm finished.
    comparison : dict
        From :func:`sim.analysis.compare_arms`.

    Returns
    -------
    Path
        ``curves.png`` in the run folder.
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(8.0, 5.0), layout="constrained")
    others = [arm for arm in settings.arms if arm != REFERENCE]
    style = {REFERENCE: ("black", "-")} | {
        arm: (COLOURS[i % len(COLOURS)], DASHES[(i // len(COLOURS)) % len(DASHES)])
        for i, arm in enumerate(others)
    }
    for arm in (REFERENCE, *others):
        curve_S_E = load_curves(root, arm, settings.seeds)
        colour, dash = style[arm]
        low, high = np.quantile(curve_S_E, [0.25, 0.75], axis=0)
        axes.fill_between(settings.grid_E, low, high, color=colour, alpha=0.15, linewidth=0)
        axes.plot(settings.grid_E, curve_S_E.mean(axis=0), dash, color=colour, label=arm, lw=2)
    for target in comparison["arms"][REFERENCE]["targets"]:
        level = comparison["start"] + target["gain"]
        axes.axhline(level, color="grey", lw=0.8, ls=(0, (1, 3)))
        axes.annotate(
            f"{target['fraction']:.0%} of the gain",
            (0, level),
            xytext=(2, 2),
            textcoords="offset points",
            fontsize=8,
            color="dimgrey",
        )
    axes.set_xlabel("rollouts generated (pilots and discarded ones included)")
    axes.set_ylabel("held-out success rate")
    axes.set_title(
        f"{settings.population}, {settings.policy} policy, {settings.estimator}: "
        f"mean of {settings.seeds} seeds, band = middle half",
        fontsize=10,
    )
    axes.set_xlim(0, settings.rollouts)
    axes.grid(alpha=0.2)
    axes.legend(frameon=False, loc="lower right")
    path = root / "curves.png"
    partial = root / ".curves.partial.png"
    figure.savefig(partial, dpi=150)
    plt.close(figure)
    partial.replace(path)
    return path
