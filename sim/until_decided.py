"""Further seeds until the verdicts are in: looking several times without paying for it in errors.

Looking at a 95 % interval after every few seeds and stopping at the first verdict is wrong more often
than 5 %: an arm exactly at the margin gets a verdict in 13 % of four looks. Here an early look stops
only where an interval of 99.9 % decides, which takes eleven seeds, so a look at eight never does; the
last one, at 32 seeds, is an ordinary one. Four looks are then wrong as often as one (Haybittle and
Peto's rule [1]_, [2]_). What is undecided at 32 seeds stays undecided, which is no pass.

References
----------
.. [1] J. L. Haybittle, "Repeated assessment of results in clinical trials of cancer treatment",
   British Journal of Radiology 44, 1971.
.. [2] R. Peto et al., "Design and analysis of randomized clinical trials requiring prolonged
   observation of each patient", British Journal of Cancer 34, 1976.
"""

from __future__ import annotations

from pathlib import Path

from numpy.typing import ArrayLike

from cures.checks import as_int, fail
from cures.comparison import harm_verdict, paired_difference
from cures.storage import read_json
from sim.analysis import load_curves
from sim.settings import REFERENCE, Settings, is_told_true_rates

MOST_SEEDS = 32
STEP = 8  # seeds between looks
EARLY_CONFIDENCE = 0.999


def contenders(settings: Settings) -> list[str]:
    """Arms that get a verdict: neither the reference nor told the true success rates."""
    return [arm for arm in settings.arms if arm != REFERENCE and not is_told_true_rates(arm)]


def first_look(settings: Settings, root: Path) -> int:
    """Seeds to begin with: those asked for, or those that the run folder has grown to.

    Raises
    ------
    ValueError
        If no arm is a contender, or more than :data:`MOST_SEEDS` seeds are asked for.
    """
    as_int("compare --until-decided", "seeds", settings.seeds, 1, MOST_SEEDS)
    if not contenders(settings):
        legal = f"a list with an arm other than {REFERENCE} and those told the true success rates"
        fail("compare --until-decided", "schedulers", legal, list(settings.arms))
    path = root / "config.json"
    stored = read_json(path) if path.is_file() else None
    grown = stored.get("seeds") if isinstance(stored, dict) else None
    return max(settings.seeds, grown) if isinstance(grown, int) else settings.seeds


def is_decided(arm_S: ArrayLike, reference_S: ArrayLike, margin: float) -> bool:
    """Whether an early look at a contender's final held-out success may be the last one."""
    difference = paired_difference(arm_S, reference_S, confidence=EARLY_CONFIDENCE)
    return harm_verdict(difference, margin) != "undecided"


def next_look(settings: Settings, root: Path) -> tuple[int | None, list[str]]:
    """What to do after a look at a finished comparison.

    Parameters
    ----------
    settings : Settings
        With the seeds of this look.
    root : Path
        Run folder with every arm finished.

    Returns
    -------
    seeds : int or None
        How many seeds to go on with; ``None``: this look was the last one.
    open_arms : list of str
        Contenders that an early look does not decide.
    """
    reference_S = load_curves(root, REFERENCE, settings.seeds)[:, -1]
    open_arms = [
        arm
        for arm in contenders(settings)
        if not is_decided(
            load_curves(root, arm, settings.seeds)[:, -1], reference_S, settings.margin
        )
    ]
    if not open_arms or settings.seeds >= MOST_SEEDS:
        return None, open_arms
    return min(settings.seeds + STEP, MOST_SEEDS), open_arms
