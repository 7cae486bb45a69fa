"""The figures whose quantity is real: the same arrays from run folders of ``python -m train run``.

Estimated success rates and gradient norms are drawn like the simulator's; learning curves and
quotas have files of their own (:mod:`figures.learning_curves`, :mod:`figures.quota_by_success_rate`).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from cures.checks import fail
from figures import estimated_rates, gradient_norms
from figures.run_folders import by_arm
from figures.style import method_name

LABEL = "tiny language model"
NORM_ARMS = ("uniform", "cures", "gvm", "speed")
CURVES = """\
Held-out success of a real language model of 0.2 million parameters that learns arithmetic by GRPO,
against every rollout generated; thick: mean of {seeds} paired seeds, thin: each seed. The quantity
of the paper's Fig. 2 and 6 on a model that a CPU can train; another task, hence no reproduction.
Six seeds, all methods and intervals are in tiny_lm.md."""
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
