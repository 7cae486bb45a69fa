"""Both hosts are driven by the same objects: same outcomes, same plans; and neither decides anything."""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

import cures
from cures.records import Outcome, Plan, Selection
from sim.host import SimHost
from sim.populations import make_population
from tests.scripted import ScriptedHost, same_plan
from train.config_file import load
from train.host import LanguageModelHost
from train.model import new_model_of
from train.tasks.making import make_task

ROOT = Path(__file__).parents[2]
POOL = 160
RATE_N = np.random.default_rng(0).beta(0.6, 0.6, POOL)
SETTINGS = {
    "cures": {"num_subsets": 4, "steps_per_subset": 3},
    "cures-released": {"num_subsets": 4, "steps_per_subset": 3, "num_workers": 4, "num_gpus": 2},
    "gvm": {"num_subsets": 4, "steps_per_subset": 3},
    "vip": {"features_N_D": RATE_N[:, None]},
    "staged": {"prior_success_rate_N": RATE_N, "total_rollouts": 2000},
    "oracle": {"true_success_rate": lambda: RATE_N},
}


def make(name):
    return cures.make_scheduler(
        name, num_prompts=POOL, batch_size=8, budget=64, seed=3, **SETTINGS.get(name, {})
    )


def sim_host():
    return SimHost(
        make_population("skills", "skills", num_pool=POOL, num_held_out=20, seed=0), seed=1
    )


def language_model_host():
    config = load(
        ROOT / "configs" / "smoke.toml",
        overrides=[f"task.pool_size={POOL}", "rollout.gradient_moments=true"],
    )
    task = make_task(config)
    return LanguageModelHost(config, task, new_model_of(config, task))


class Replay:
    """A real host whose rewards are replaced: it generates, stores and trains, on told outcomes."""

    def __init__(self, host) -> None:
        self.host = host
        self.script = ScriptedHost(RATE_N, missing_rate=0.1)
        self.plans: list[Plan] = []
        self.returned: list[int] = []

    @property
    def estimator(self) -> str:
        return self.host.estimator

    def rollout(self, plan: Plan) -> Outcome:
        self.plans.append(plan)
        self.returned.append(int(self.host.rollout(plan).trial_B.sum()))
        return self.script.outcome(plan)

    def update(self, selection: Selection):
        return self.host.update(selection)

    def discard(self, selection: Selection) -> None:
        self.host.discard(selection)


@pytest.mark.parametrize("name", cures.list_schedulers())
def test_same_outcomes_give_the_same_plans_in_both_hosts(name):
    hosts = [Replay(sim_host()), Replay(language_model_host())]
    for host in hosts:
        list(cures.loop.run(make(name), host, rollouts=1300))
    a, b = (host.plans for host in hosts)
    assert len(a) == len(b) > 4
    assert all(same_plan(x, y) for x, y in zip(a, b, strict=True))
    for host in hosts:  # every planned rollout was really generated, no more and no fewer
        assert host.returned == [plan.num_rollouts for plan in host.plans]
    # negative control: other outcomes, other plans (for schedulers that look at outcomes at all)
    if name not in ("uniform", "staged", "oracle", "dapo"):  # dapo only selects by outcomes
        other = Replay(sim_host())
        other.script = ScriptedHost(1.0 - RATE_N, seed=1)
        list(cures.loop.run(make(name), other, rollouts=1300))
        assert not all(same_plan(x, y) for x, y in zip(a, other.plans, strict=False))


CONCEPTS = (
    "posterior", "beta_moments", "potential", "sampling", "gradient_std", "quota", "marginal",
    "water_level",
)  # fmt: skip


@pytest.mark.parametrize("make_host", [sim_host, language_model_host])
def test_only_schedulers_call_what_decides(make_host):
    """A spy on every Python call: who calls allocation, prompt sampling and posterior arithmetic?"""
    folder = Path(cures.__file__).parent
    concept_files = {str(folder / f"{concept}.py") for concept in CONCEPTS}
    advantage_file = str(folder / "advantage.py")
    callers: Counter[str] = Counter()
    advantage_callers: Counter[str] = Counter()

    def spy(frame, event, argument):
        if event != "call":
            return
        file = frame.f_code.co_filename
        caller = frame.f_back.f_globals.get("__name__", "") if frame.f_back else ""
        if file in concept_files:
            callers[caller] += 1
        elif file == advantage_file and frame.f_code.co_name in ("advantages", "rollout_weights"):
            advantage_callers[caller] += 1

    scheduler, host = make("cures"), make_host()
    sys.setprofile(spy)
    try:
        updates = len(list(cures.loop.run(scheduler, host, rollouts=900)))
    finally:
        sys.setprofile(None)
    assert updates > 3
    assert callers["cures.schedulers.cures"] > 3 * updates  # the spy sees the scheduler's calls
    hosts_calling = [c for c in callers if c.startswith(("sim", "train", "tests"))]
    assert not hosts_calling, callers
    # advantages and weights come from the core as well, once per update and host
    outside = {c: n for c, n in advantage_callers.items() if not c.startswith("cures.")}
    assert sum(outside.values()) == 2 * updates, outside
