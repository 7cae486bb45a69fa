"""The figures whose quantity is real: the same arrays from run folders of ``python -m train run``.

They are drawn by the modules that draw the simulator's; learning curves and quotas by success rate
have files of their own (:mod:`figures.learning_curves`, :mod:`figures.quota_by_success_rate`).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from cures.checks import fail
from figures import (
    estimated_rates,
    gradient_norms,
    pilots_and_group_size,
    quota_by_iteration,
    reaching_the_best,
)
from figures.lm_folders import LABEL, read_lm
from figures.run_folders import by_arm
from figures.sim_folders import FRACTION
from figures.style import method_name

NORM_ARMS = ("uniform", "cures", "gvm", "speed")
CURVES = """\
Held-out success of a real language model of 0.2 million parameters that learns arithmetic by GRPO,
against every rollout generated; thick: mean of {seeds} paired seeds, thin: each seed. The quantity
of the paper's Fig. 2 and 6 on a model that a CPU can train; another task, hence no reproduction.
All methods and intervals are in tiny_lm.md."""
SAMPLED = """
Held-out success is sampled at common numbers of rollouts; against updates it is drawn by straight
lines between these."""
BEST = """\
Tiny language model, GRPO: held-out success of CurES and of uniform sampling against updates (left)
and against every rollout generated (right); mean of {seeds} paired seeds with a warm start each,
band: their middle half. Dashed: uniform's best (mean); dotted: 80 % of its gain on development
seeds. In the panels: uniform's median updates or rollouts to that level, over those of CurES and
over those of the control, which is uniform sampling from the same warm start with other random
numbers [95 % bootstrap interval]: above 1, the arm is faster; "k out": k of its runs have not
arrived. The paper reports 1.75x to 5.5x, to the baseline's best, in updates and without pilots.
Held-out success is sampled, with straight lines between evaluations."""
QUOTA = """\
Where the rollouts of the tiny language model go: share of the training groups (left) and rollouts
per group (right) by the success rate estimated from what was known of the prompt before. Without
gradient moments CurES's quota is a bell by its own rule (sigma = sqrt(p(1-p))), steeper because a
prompt that is drawn several times forms one larger group. The paper's Fig. 4 shows single
iterations."""


def rates(folders: list[Path]) -> dict[str, Any]:
    """Arrays of :mod:`figures.estimated_rates` from the runs of ``cures``."""
    runs = _arm(folders, "cures")
    return {
        LABEL: {**estimated_rates.shares([run["outcomes"] for run in runs]), "seeds": len(runs)}
    }


def norms(folders: list[Path]) -> dict[str, Any]:
    """Arrays of :mod:`figures.gradient_norms`: norms before clipping, updates that had a gradient."""
    arms = by_arm(folders)
    values: dict[str, Any] = {}
    for arm in (name for name in NORM_ARMS if name in arms):
        rows = [
            [row["grad_norm"] for row in run["metrics"] if row["grad_norm"] is not None]
            for run in arms[arm]
        ]
        shortest = min(map(len, rows))
        table = np.array([row[:shortest] for row in rows], dtype=np.float64)
        values[arm] = {"norm_S_U": gradient_norms.rolling_mean(table)}
    return {LABEL: values}


def grid(folders: list[Path]) -> dict[str, Any]:
    """Arrays of :mod:`figures.pilots_and_group_size`; a folder per n."""
    return pilots_and_group_size.arrays_of([read_lm(folder) for folder in folders])


def best(folders: list[Path]) -> dict[str, Any]:
    """Arrays of :mod:`figures.reaching_the_best`; the compared runs and the development runs."""
    by_name = {folder.name: read_lm(folder) for folder in folders}
    if sorted(by_name) != ["best", "best-dev"]:
        fail("figures", "folders", "best and best-dev", sorted(by_name))
    _, development = by_name["best-dev"].curve("uniform")
    gain = float((development[:, -1] - development[:, 0]).mean())
    level = FRACTION * gain if gain > 0 else None
    compared = by_name["best"]
    return {
        "population": LABEL,
        compared.config["estimator"]: reaching_the_best.panel_of(compared, level),
    }


def quota(folders: list[Path]) -> dict[str, Any]:
    """Arrays of :mod:`figures.quota_by_iteration`."""
    (folder,) = folders
    return quota_by_iteration.arrays_of(read_lm(folder))


def grid_caption(arrays: dict[str, Any]) -> str:
    """What the grid shows."""
    return pilots_and_group_size.caption(arrays) + SAMPLED


def best_caption(arrays: dict[str, Any]) -> str:
    """What the two axes show."""
    seeds = next(v for k, v in arrays.items() if k != "population")["uniform"]["held_out_S_E"]
    return BEST.format(seeds=seeds.shape[0])


def _arm(folders: list[Path], arm: str) -> list[dict[str, Any]]:
    arms = by_arm(folders)
    if arm not in arms:
        fail("figures", "run folders", f"with runs of {arm}", sorted(arms))
    return arms[arm]


def curves_caption(arrays: dict[str, Any]) -> str:
    """What the learning curves show."""
    return CURVES.format(seeds=next(iter(arrays.values()))["held_out_S_E"].shape[0])


def curves_finding(arrays: dict[str, Any]) -> str:
    """Final success of every arm, best first."""
    final = {arm: float(curve["held_out_S_E"][:, -1].mean()) for arm, curve in arrays.items()}
    ranked = sorted(final, key=lambda arm: -final[arm])
    return f"At the end: {', '.join(f'{method_name(arm)} {final[arm]:.3f}' for arm in ranked)}."


def quota_caption(arrays: dict[str, Any]) -> str:
    """What the quotas show."""
    del arrays
    return QUOTA


def quota_finding(arrays: dict[str, Any]) -> str:
    """Share of the groups whose estimates are neither low nor high, per arm."""
    parts = []
    for arm, values in arrays.items():
        size = values["share"].size
        low = size // 5
        parts.append(f"{method_name(arm)} {values['share'][low : size - low].sum():.0%}")
    return f"Share of the groups with estimates in [0.2, 0.8): {', '.join(parts)}."
