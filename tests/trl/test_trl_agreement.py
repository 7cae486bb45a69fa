"""What does not fit is refused in one sentence."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from torch.utils.data import IterableDataset

import cures
from cures.integrations.trl import CuresGRPOTrainer
from cures.integrations.trl.agreement import check
from cures.schedulers.dapo import Dapo
from cures.schedulers.gvm import Gvm
from tests.scripted import small_scheduler
from tests.trl.tiny import (
    GROUP,
    POOL,
    ROWS,
    Told,
    arguments,
    dataset,
    model,
    tokenizer,
    trainer_of,
    uneven,
)

WORKS = ["uniform", "staged", "mopps", "knapsack", "vip", "adaptive", "oracle", "cures", "gvm"]
REFUSED = [name for name in cures.list_schedulers() if name not in WORKS]


def make(tmp_path, **options):
    return trainer_of(CuresGRPOTrainer, tmp_path, Told(), **options)


def made(name, **settings):
    defaults = {"num_prompts": POOL, "batch_size": ROWS // GROUP, "budget": ROWS, "seed": 3}
    if name == "speed":
        defaults |= {"screening_size": 2}
    return small_scheduler(name, **{**defaults, **settings})


def test_two_lines_are_changed(tmp_path):
    # docs/integrate.md: what is taken away runs, and so does what takes its place
    page = (Path(__file__).parents[2] / "docs" / "integrate.md").read_text()
    (change,) = re.findall(r"```diff\n(.*?)```", page, flags=re.DOTALL)
    for sign, steps in (("-", 1), ("+", 2)):
        lines = [line[1:] for line in change.splitlines() if line[0] == sign]
        assert len(lines) == 2
        names = {
            "model": model(), "reward": Told(), "args": arguments(tmp_path, max_steps=steps),
            "train_dataset": dataset(),
        }  # fmt: skip
        # the tokenizer of a model on a disk is found by the trainer itself
        code = "\n".join(lines).replace("train_dataset", "train_dataset, processing_class=words")
        exec(code, names | {"words": tokenizer()}, names)
        names["trainer"].train()
        assert names["trainer"].state.global_step == steps
    assert names["trainer"].scheduler.ledger.generated == 2 * ROWS


def test_names_make_schedulers_of_the_trainers_arguments(tmp_path):
    scheduler = make(tmp_path, scheduler="adaptive", scheduler_settings={"min_quota": 3}).scheduler
    assert (scheduler.name, scheduler.num_prompts, scheduler.min_quota) == ("adaptive", POOL, 3)
    assert (scheduler.batch_size, scheduler.budget, scheduler.seed) == (ROWS // GROUP, ROWS, 3)
    for scaling, estimator in (
        ("group", "grpo"), ("none", "dr_grpo"), ("batch", "reinforce++-baseline"),
    ):  # fmt: skip
        args = {"scale_rewards": scaling}
        assert make(tmp_path, scheduler="uniform", args=args).scheduler.estimator == estimator


@pytest.mark.parametrize("name", REFUSED)
def test_schedulers_of_several_plans_are_refused_but_as_shadows(name, tmp_path):
    with pytest.raises(ValueError, match="CuresGRPOTrainer: scheduler must be one of") as error:
        make(tmp_path, scheduler=made(name))
    listed = str(error.value).partition("[")[2].partition("]")[0].replace("'", "").split(", ")
    assert sorted(listed) == sorted(WORKS)
    assert str(error.value).endswith(f"or any with shadow=True, got {name!r}")
    assert make(tmp_path, scheduler=made(name), shadow=True).shadow is not None


def test_what_fits_is_asked_of_the_class_and_not_of_its_name(tmp_path):
    class Mine(Gvm):
        name = "mine"

    class Other(Dapo):
        name = "gvm"

    sizes = (POOL, ROWS // GROUP, ROWS)
    assert make(tmp_path, scheduler=Mine(*sizes))
    with pytest.raises(ValueError, match="scheduler must be one of"):
        make(tmp_path, scheduler=Other(*sizes))


def test_sizes_must_agree(tmp_path):
    with pytest.raises(ValueError, match=f"scheduler.num_prompts must be {POOL}, the rows of"):
        make(tmp_path, scheduler=made("uniform", num_prompts=POOL + 1))
    with pytest.raises(ValueError, match=f"scheduler.budget must be {ROWS}, args.generation_batch"):
        make(tmp_path, scheduler=made("uniform", budget=ROWS - 4))
    with pytest.raises(ValueError, match=f"scheduler.budget must be {ROWS}, args.generation_batch"):
        make(tmp_path, scheduler=made("gvm", budget=ROWS + 4))
    assert make(tmp_path, scheduler=made("gvm", budget=ROWS - 4))


def test_estimators_must_agree(tmp_path):
    args = {"scale_rewards": "none"}
    with pytest.raises(
        ValueError,
        match=r"estimator must be one of \['dr_grpo', 'rloo'\] with scale_rewards='none'",
    ):
        make(tmp_path, scheduler=uneven(), args=args)
    assert make(tmp_path, scheduler=uneven(estimator="rloo"), args=args)
    assert make(tmp_path, scheduler=uneven(estimator="reinforce++"))


def test_a_plan_makes_whole_optimiser_steps(tmp_path):
    args = {"per_device_train_batch_size": ROWS // 4, "gradient_accumulation_steps": 8}
    with pytest.raises(
        ValueError, match="must be a divisor of steps_per_generation . num_iterations, 4, got 8"
    ):
        make(tmp_path, scheduler=uneven(), args={**args, "steps_per_generation": 4})
    assert make(
        tmp_path, scheduler=uneven(), args={**args, "steps_per_generation": 4, "num_iterations": 2}
    )


def test_other_refusals(tmp_path):
    with pytest.raises(ValueError, match="scheduler.use_moments must be False"):
        make(tmp_path, scheduler=made("cures", use_moments=True))
    with pytest.raises(ValueError, match="scheduler.step_scaling must be False"):
        make(tmp_path, scheduler="adaptive", scheduler_settings={"step_scaling": True})
    with pytest.raises(
        ValueError, match="args.remove_unused_columns must be False with shadow=True"
    ):
        make(tmp_path, scheduler="uniform", shadow=True, args={"remove_unused_columns": True})
    with pytest.raises(ValueError, match="scheduler_settings must be None with a scheduler"):
        make(tmp_path, scheduler=uneven(), scheduler_settings={"min_quota": 2})
    with pytest.raises(ValueError, match="make_scheduler: name must be one of"):
        make(tmp_path, scheduler="greedy")
    with pytest.raises(ValueError, match="aggregation must be one of"):
        make(tmp_path, scheduler="uniform", aggregation="token")

    trainer = make(tmp_path, scheduler="uniform")
    trainer.args.multi_objective_aggregation = "normalize_then_sum"  # newer releases have it
    with pytest.raises(ValueError, match="multi_objective_aggregation must be 'sum_then_norm"):
        check(trainer, trainer.scheduler, shadow=False)
    trainer = make(tmp_path, scheduler="uniform")
    trainer.is_deepspeed_enabled = True
    check(trainer, trainer.scheduler, shadow=False)
    with pytest.raises(ValueError, match="must be one without pilots under DeepSpeed"):
        check(trainer, made("cures"), shadow=False)

    class Stream(IterableDataset):
        def __iter__(self):
            return iter([])

    class Bare:
        train_dataset = Stream()

    with pytest.raises(ValueError, match="train_dataset must be a data set with a length"):
        check(Bare(), uneven(), shadow=False)
