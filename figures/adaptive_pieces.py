"""`adaptive` piece by piece: what each part adds, and what its options do, on four populations."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from figures.ablation import forest
from figures.sim_folders import by_label, difference, in_words
from figures.style import POOLS, letters, page_figure, sentence, styled
from sim.settings import REFERENCE

OURS = "adaptive"
PIECES: dict[str, tuple[str, dict[str, Any]]] = {  # label of the arm -> in words, options
    "lottery": ("without the queue", {"queue": False}),
    "flat": ("without the pool's prior", {"pool_prior": False}),
    "chance": ("by the chance itself", {"worth": "mixed"}),
    "bound": ("by the paper's bound", {"worth": "potential"}),
    "fixed": ("with a fixed memory", {"choose_memory": False}),
    "keep": ("nothing fades", {"memory_passes": 1e6, "choose_memory": False}),
    "blind": ("without the response", {"response": False}),
    "moments": ("with gradient moments", {"use_moments": True}),
    "step": ("with advice on the step", {"step_scaling": True}),
    "weights": ("with importance weights", {"importance_weights": True}),
}
WHOLE = "(all of it) minus uniform"
CAPTION = """\
Held-out success after {rollouts:,} generated rollouts: `adaptive` minus uniform sampling (first row),
and `adaptive` with one part left out, replaced or added minus `adaptive` as it is; mean of {seeds}
paired seeds with Student's 95 % interval. Left of 0 the change is for the worse."""


def compute(folders: list[Path]) -> dict[str, Any]:
    """Paired differences.

    Returns
    -------
    dict
        ``rollouts``, ``seeds``; per population and row ``[mean, low, high]``.
    """
    comparisons = by_label(folders, lambda c: str(c.config["population"]), "adaptive_pieces")
    first = next(iter(comparisons.values()))
    arrays: dict[str, Any] = {"rollouts": first.config["rollouts"], "seeds": first.seeds}
    for population, comparison in comparisons.items():
        arms = (REFERENCE, OURS, *(f"{OURS}@{label}" for label in PIECES))
        end = {arm: comparison.curve(arm)[1][:, -1] for arm in arms}
        arrays[population] = {WHOLE: difference(end[OURS], end[REFERENCE])} | {
            words: difference(end[f"{OURS}@{label}"], end[OURS])
            for label, (words, _) in PIECES.items()
        }
    return arrays


def _populations(arrays: dict[str, Any]) -> list[str]:
    return [key for key in arrays if key not in ("rollouts", "seeds")]


@styled
def draw(arrays: dict[str, Any]) -> Figure:
    """A panel per population, a row per piece."""
    populations = _populations(arrays)
    figure = page_figure(0.5 + 0.19 * (len(PIECES) + 1) * ((len(populations) + 1) // 2))
    grid = figure.subplots((len(populations) + 1) // 2, 2, sharey=True, squeeze=False)
    panels: list[Axes] = list(grid.flat)
    for axes, population in zip(panels, populations, strict=False):
        rows = arrays[population]
        looks = {
            name: {"color": "black" if name == WHOLE else "C0", "marker": "os"[name == WHOLE]}
            for name in rows
        }
        forest(axes, rows, looks)
        axes.xaxis.set_major_locator(MaxNLocator(5))
    for axes in panels[len(populations) :]:
        axes.set_visible(False)
    for axes in grid[-1]:
        axes.set_xlabel("difference in held-out success")
    letters(panels[: len(populations)], [POOLS.get(p, p) for p in populations])
    return figure


def caption(arrays: dict[str, Any]) -> str:
    """What is shown."""
    return CAPTION.format(rollouts=int(arrays["rollouts"]), seeds=int(arrays["seeds"]))


def finding(arrays: dict[str, Any]) -> str:
    """The whole against uniform, and the pieces whose interval leaves 0 out."""
    parts = []
    for population in _populations(arrays):
        rows = arrays[population]
        certain = [
            f"{name} {in_words(values)}"
            for name, values in rows.items()
            if name != WHOLE and (values[1] > 0.0 or values[2] < 0.0)
        ]
        text = f"{sentence(POOLS.get(population, population))}: {in_words(rows[WHOLE])} to uniform"
        parts.append(f"{text}; {', '.join(certain) if certain else 'no piece that shows'}")
    return ". ".join(parts) + "."
