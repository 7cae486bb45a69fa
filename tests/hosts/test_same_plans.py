"""The same scheduler and the same rewards give the same plans in every host: sim, train, TRL, verl.

What the hosts must plan is recorded in ``same_plans.json``: made by the scheduler alone, ``propose``
and ``observe`` in turn, with rewards by the rule of ``tests/told_rewards.py``. Every host has its own
way to the same rewards: an answer of the simulator's policy, tokens that the task finds right, TRL's
reward function, verl's agent loop. A host whose library is not there is skipped: ``make test`` runs
sim and train, ``make test-trl`` TRL, ``make test-verl`` verl.

Regenerate the file with ``python -m tests.hosts.test_same_plans`` and say why in CHANGELOG.md.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest

import cures
from cures.records import Outcome, Plan
from cures.storage import atomic_write
from tests.told_rewards import GROUP, POOL, PROMPTS, ROWS, overheard, rewards_of

RECORD = Path(__file__).with_name("same_plans.json")
PLANS = 8  # the first pass over the pool takes 5
SEED = 3
SETTINGS = {
    "uniform": {},
    "mopps": {},
    "knapsack": {},
    "adaptive": {},
    "cures": {"num_subsets": 4, "pilots": 3, "steps_per_subset": 2},  # pilots
}


def make(name):
    return cures.make_scheduler(
        name, num_prompts=POOL, batch_size=PROMPTS, budget=ROWS, seed=SEED, **SETTINGS[name]
    )


def as_rows(heard):
    """What was planned and what came back, plan by plan, as plain numbers."""
    rows = []
    for plan, outcome in zip(heard[::2], heard[1::2], strict=False):
        assert isinstance(plan, Plan)  # each one is made when the former's rewards are known
        assert isinstance(outcome, Outcome)
        right = dict(zip(outcome.group_B.tolist(), outcome.success_B.tolist(), strict=True))
        rows.append(
            {
                "plan": plan.plan_id,
                "pilots": bool(plan.is_pilot_B.any()),
                "group": plan.group_B.tolist(),
                "prompt": plan.prompt_B.tolist(),
                "quota": plan.quota_B.tolist(),
                "draw": plan.draw_B.tolist(),
                "right": [right[group] for group in plan.group_B.tolist()],
            }
        )
    return rows[:PLANS]


def alone(name, **luck):
    """A scheduler with nothing around it."""
    scheduler = make(name)
    with overheard() as heard:
        for _ in range(PLANS):
            plan = scheduler.propose()
            group_R = np.repeat(plan.group_B, plan.quota_B)
            scheduler.observe(Outcome.from_rewards(plan, rewards_of(plan, **luck), group_R))
    return as_rows(heard)


def driven(name, host):
    """The loop that sim and train have in common, for as many plans."""
    plans = 0
    for record in cures.loop.run(make(name), host, rollouts=100 * ROWS):
        plans += len(record.plans)
        if plans >= PLANS:
            return


def sim(name, heard, folder, request):
    from sim.host import SimHost
    from sim.populations import Population
    from sim.tabular import Tabular

    class ToldPolicy(Tabular):  # of two answers; the first one is right
        def generate(self, theta_D, prompt_R, generator):
            return np.where(rewards_of(heard[-1]) == 1.0, 0, 1)

    policy = ToldPolicy(np.tile([True, False], (POOL, 1)))
    theta_D, natural_N = np.zeros(policy.num_parameters), np.full(POOL, np.nan)
    population = Population("told", policy, theta_D, POOL, np.arange(POOL), natural_N)
    driven(name, SimHost(population, seed=1))


def train(name, heard, folder, request):
    for library in ("torch", "safetensors", "rich"):
        pytest.importorskip(library, reason=f"host train: needs {library}")
    pytest.importorskip("transformers", "5.16", reason="host train: needs transformers >= 5.16")
    from tests.train_cases import small_host
    from train.engines.scripted import ScriptedEngine

    def said(rollout):
        plan, questions = heard[-1], host.task.pool
        rows = [tuple(questions.prompts.row(i).tolist()) for i in plan.prompt_B.tolist()]
        slot = rows.index(rollout.prompt)
        reward_R = rewards_of(plan)[np.repeat(plan.group_B, plan.quota_B) == plan.group_B[slot]]
        answer = questions.answer_N_A[plan.prompt_B[slot]].tolist()
        return answer if reward_R[rollout.slot] == 1.0 else answer[-1:]  # the end token alone

    task = {"pool_size": POOL, "held_out_size": 4}
    host = small_host(engine=ScriptedEngine(said), task=task, run={"rollouts": 100 * ROWS})
    driven(name, host)


def trl(name, heard, folder, request):
    pytest.importorskip("trl", reason="host trl: needs TRL, see make test-trl")
    from cures.integrations.trl import CuresGRPOTrainer
    from tests.trl.tiny import trainer_of

    def by_rule(prompts, completions, number, **_):
        plan = heard[-1]
        assert number == np.repeat(plan.prompt_B, plan.quota_B).tolist()
        return rewards_of(plan).tolist()

    trainer_of(
        CuresGRPOTrainer, folder, by_rule, scheduler=name, scheduler_settings=SETTINGS[name],
        args={"max_steps": PLANS, "seed": SEED, "num_generations": GROUP},
    ).train()  # fmt: skip


def verl(name, heard, folder, request):
    pytest.importorskip("verl", reason="host verl: needs verl, see make test-verl")
    if "CURES_TEST_VERL" not in os.environ:
        pytest.skip("host verl: needs a Ray of its own, see make test-verl")
    from tests.verl.tiny import configuration, write_prompts
    from tests.verl.tiny import train as train_verl

    for part in ("train", "val"):
        write_prompts(folder / f"{part}.parquet")
    settings = ", ".join(f"{key}: {value}" for key, value in SETTINGS[name].items())
    sampler = "trainer.v1.sampler.sampler_kwargs"
    config = configuration(
        request.getfixturevalue("model"), folder, f"{sampler}.scheduler={name}",
        f"+{sampler}.settings={{{settings}}}", f"data.seed={SEED}",
    )  # fmt: skip
    train_verl(request.getfixturevalue("manager"), config, PLANS)


@pytest.fixture(scope="module")
def recorded():
    return json.loads(RECORD.read_text())["plans"]


@pytest.mark.parametrize("name", SETTINGS)
@pytest.mark.parametrize("host", [sim, train, trl, verl])
def test_every_host_plans_what_is_recorded(host, name, recorded, tmp_path, request):
    with overheard() as heard:
        host(name, heard, tmp_path, request)
    assert as_rows(heard) == recorded[name]


@pytest.mark.parametrize("name", SETTINGS)
def test_the_record_is_of_the_scheduler_alone(name, recorded):
    assert alone(name) == recorded[name]
    # the control: with other rewards the later plans are other ones, but for the rule without eyes
    other = [(row["prompt"], row["quota"]) for row in alone(name, luck=8)]
    same = other == [(row["prompt"], row["quota"]) for row in recorded[name]]
    assert same == (name == "uniform")


if __name__ == "__main__":
    plans = ",\n".join(
        f'  "{name}": [\n' + ",\n".join(f"   {json.dumps(row)}" for row in alone(name)) + "\n  ]"
        for name in SETTINGS
    )
    made = {
        "made_by": "python -m tests.hosts.test_same_plans",
        "how": "make_scheduler(name, num_prompts, batch_size, budget, seed, **settings), then propose "
        "and observe in turn, rewards by tests/told_rewards.py",
        "num_prompts": POOL, "batch_size": PROMPTS, "budget": ROWS, "seed": SEED,
        "settings": SETTINGS,
    }  # fmt: skip
    head = "".join(f' "{key}": {json.dumps(value)},\n' for key, value in made.items())
    atomic_write(RECORD, f'{{\n{head} "plans": {{\n{plans}\n }}\n}}\n'.encode())
