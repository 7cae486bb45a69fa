"""Twenty plans of every scheduler, as text. A change of these is a change of behaviour.

Regenerate with ``python -m tests.golden.test_plans`` and say why in CHANGELOG.md.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import cures
from tests.scripted import ScriptedHost, small_scheduler

FOLDER = Path(__file__).parent / "plans"
RATE_N = np.concatenate([np.zeros(12), np.linspace(0.05, 0.95, 24), np.ones(12)])


def plans_as_text(name: str) -> str:
    """Prompts and quotas, integers only: exact on every machine with the pinned numpy."""
    scheduler, host = small_scheduler(name), ScriptedHost(RATE_N)
    lines = []
    for _ in range(20):
        plan = scheduler.propose()
        outcome = host.rollout(plan) if len(plan) else cures.Outcome.of(plan, [])
        selection = scheduler.observe(outcome)
        (host.update if selection.is_update else host.discard)(selection)
        groups = " ".join(
            f"{'*' if pilot else ''}{prompt}:{quota}"
            for prompt, quota, pilot in zip(
                plan.prompt_B, plan.quota_B, plan.is_pilot_B, strict=True
            )
        )
        lines.append(f"{plan.plan_id} | {groups} | train {selection.group_G.tolist()}")
    return "\n".join(lines) + "\n"


@pytest.mark.parametrize("name", cures.list_schedulers())
def test_plans_are_what_they_were(name):
    assert plans_as_text(name) == (FOLDER / f"{name}.txt").read_text()


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for scheduler_name in cures.list_schedulers():
        (FOLDER / f"{scheduler_name}.txt").write_text(plans_as_text(scheduler_name))
