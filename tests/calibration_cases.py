"""Populations and logs with known answers, for the tests of calibration."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from scipy.special import expit

from sim.calibration.evidence import Evidence

# Two populations with the moments of the uniform law up to degree 5: the nodes and weights of the
# quadrature rules that integrate polynomials of that degree exactly (Gauss-Legendre with 3 nodes,
# Gauss-Lobatto with 4; Abramowitz and Stegun 25.4.29 and 25.4.32), moved from [-1, 1] to [0, 1].
LEGENDRE = (
    np.array([0.5 - np.sqrt(0.15), 0.5, 0.5 + np.sqrt(0.15)]),
    np.array([5.0, 8.0, 5.0]) / 18.0,
)
LOBATTO = (
    np.array([0.0, 0.5 - np.sqrt(0.05), 0.5 + np.sqrt(0.05), 1.0]),
    np.array([1.0, 5.0, 5.0, 1.0]) / 12.0,
)


def random_walk_log(
    drift_sd: float,
    *,
    prompts: int = 600,
    updates: int = 36,
    batch: int = 75,
    group: int = 8,
    pilots: int = 4,
    shared: float = 0.004,
    own: float = 0.3,
    seed: int = 0,
) -> Evidence:
    """A log made by the model's own equations, written down once more: logits learn and drift."""
    generator = np.random.default_rng(seed)
    logit = generator.normal(-0.5, 1.5, prompts)
    rows = [(i, 0, generator.binomial(pilots, expit(logit[i])), pilots, 1) for i in range(prompts)]
    waiting: list[int] = []
    for step in range(updates):
        if len(waiting) < batch:
            waiting = generator.permutation(prompts).tolist()
        chosen, waiting = np.array(waiting[:batch]), waiting[batch:]
        success = generator.binomial(group, expit(logit[chosen]))
        rows += [(i, step, s, group, 0) for i, s in zip(chosen, success, strict=True)]
        dose = np.sqrt(success / group * (1.0 - success / group))
        logit += shared * dose.sum() + generator.normal(0.0, drift_sd, prompts)
        logit[chosen] += own * dose
    table = np.array(rows, dtype=np.int64)
    return Evidence(*table[:, :4].T, table[:, 4].astype(bool))


def write_evidence(path: Path, evidence: Evidence) -> Path:
    """As ``outcomes.jsonl``."""
    columns = (
        evidence.prompt_V, evidence.step_V, evidence.success_V, evidence.trial_V,
        evidence.is_pilot_V,
    )  # fmt: skip
    names = ("prompt", "step", "success", "trial", "is_pilot")
    lines = [
        json.dumps(dict(zip(names, row, strict=True)))
        for row in zip(*(column.tolist() for column in columns), strict=True)
    ]
    path.write_text("\n".join(lines) + "\n")
    return path
