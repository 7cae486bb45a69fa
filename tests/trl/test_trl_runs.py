"""Runs that stop and go on, run in several processes, ask a server, or only watch."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from packaging.version import Version
from trl import GRPOTrainer
from trl import __version__ as TRL_VERSION

import cures
from cures.integrations.trl import CuresGRPOTrainer
from cures.integrations.trl.rows import take_rows
from cures.storage import read_jsonl
from tests.scripted import same_plan, same_state
from tests.trl.tiny import (
    EOS,
    GROUP,
    POOL,
    ROWS,
    Recording,
    Told,
    largest_difference,
    trainer_of,
    uneven,
    weights_of,
)

CURES = {"num_subsets": 4, "pilots": 3, "steps_per_subset": 2}
SAVING = {"max_steps": 6, "save_strategy": "steps", "save_steps": 3}


def scheduler_of(name):
    if name == "uneven":
        return uneven()
    settings = CURES if name == "cures" else {}
    return cures.make_scheduler(
        name, num_prompts=POOL, batch_size=ROWS // GROUP, budget=ROWS, seed=3, **settings
    )


@pytest.mark.parametrize("name", ["uneven", "knapsack", "cures", "adaptive"])
def test_a_resumed_run_goes_on_as_if_it_had_never_stopped(name, tmp_path):
    whole = trainer_of(Recording, tmp_path / "a", Told(), scheduler=scheduler_of(name), args=SAVING)
    whole.train()
    log = (tmp_path / "a" / "outcomes.jsonl").read_bytes()
    rows = read_jsonl(tmp_path / "a" / "outcomes.jsonl")
    assert sum(row["trial"] for row in rows) == whole.scheduler.ledger.generated

    resumed = trainer_of(
        Recording, tmp_path / "a", Told(first=3), scheduler=scheduler_of(name), args=SAVING
    )
    resumed.train(resume_from_checkpoint=str(tmp_path / "a" / "checkpoint-3"))
    assert len(resumed.plans) == 3
    for mine, other in zip(resumed.plans, whole.plans[3:], strict=True):
        assert same_plan(mine, other)
    assert same_state(resumed.scheduler.state_dict(), whole.scheduler.state_dict())
    assert (tmp_path / "a" / "outcomes.jsonl").read_bytes() == log
    # the control: a scheduler that starts anew plans something else
    assert not same_plan(scheduler_of(name).propose(), resumed.plans[0])


def test_a_second_run_adds_to_the_evidence_and_another_one_keeps_it(tmp_path):
    trainer = trainer_of(Recording, tmp_path, Told(), scheduler=uneven(), args={"max_steps": 2})
    trainer.train()
    trainer.train()
    first = read_jsonl(tmp_path / "outcomes.jsonl")
    assert sum(row["trial"] for row in first) == trainer.scheduler.ledger.generated == 4 * ROWS
    assert {row["step"] for row in first} == {0, 1, 2, 3}
    trainer_of(Recording, tmp_path, Told(), scheduler=uneven(), args={"max_steps": 1}).train()
    assert read_jsonl(tmp_path / "outcomes.1.jsonl") == first
    assert sum(row["trial"] for row in read_jsonl(tmp_path / "outcomes.jsonl")) == ROWS


def test_a_checkpoint_without_a_state_is_refused(tmp_path):
    plain = trainer_of(GRPOTrainer, tmp_path, Told(), args=SAVING)
    plain.train()
    trainer = trainer_of(Recording, tmp_path, Told(), scheduler=uneven(), args=SAVING)
    with pytest.raises(
        ValueError, match=r"a checkpoint with cures.npz, which CuresGRPOTrainer writes"
    ):
        trainer.train(resume_from_checkpoint=str(tmp_path / "checkpoint-3"))


def test_a_checkpoint_of_another_scheduler_is_refused(tmp_path):
    trainer_of(Recording, tmp_path, Told(), scheduler=uneven(), args=SAVING).train()
    folder = str(tmp_path / "checkpoint-3")
    other = trainer_of(Recording, tmp_path, Told(), scheduler="mopps", args=SAVING)
    with pytest.raises(ValueError, match="mopps.load_state_dict: name must be"):
        other.train(resume_from_checkpoint=folder)
    watching = trainer_of(
        CuresGRPOTrainer, tmp_path, Told(), scheduler=uneven(), shadow=True, args=SAVING
    )
    with pytest.raises(ValueError, match="a checkpoint of a run with shadow=True"):
        watching.train(resume_from_checkpoint=folder)


def test_a_plan_whose_rollouts_were_lost_is_made_again(tmp_path):
    class Failing(Told):
        def __call__(self, *args, **kwargs):
            if self.batch == 2 and not self.numbers:
                raise OSError("the verifier is gone")
            return super().__call__(*args, **kwargs)

    told = Told()
    trainer = trainer_of(Recording, tmp_path, told, scheduler=uneven(), args={"max_steps": 2})
    trainer.train()
    told.__class__ = Failing
    told.numbers.clear()
    with pytest.raises(OSError, match="verifier"):
        trainer.train()
    told.__class__ = Told
    trainer.train()
    third, again = trainer.plans[2:4]
    assert same_plan(third, again)
    assert trainer.scheduler.ledger.generated == 4 * ROWS
    assert trainer.scheduler.ledger.missing == 0


# the same tokens in every process; plain steps, because Adam makes much of roundings near 0
GREEDY = {"top_k": 1, "optim": "sgd", "learning_rate": 0.5, "max_grad_norm": 0.0, "max_steps": 5}
NINE = (
    [0] * 9 + [1, 2, 3] + [4] * (POOL - 12)
)  # a subset of 27 pilots, which two processes cannot halve


def run_in_processes(folder, name):
    """Train; the first process keeps plans, advantages of all processes, and weights."""
    world, rank = (int(os.environ.get(key, d)) for key, d in (("WORLD_SIZE", "1"), ("RANK", "0")))
    if name == "shadow":
        args = {"per_device_train_batch_size": ROWS // world, **GREEDY}
        options = {"scheduler": "dapo", "shadow": True, "args": args}
        trainer_of(CuresGRPOTrainer, folder / f"shadow-{world}", Told(), **options).train()
        return
    scheduler = uneven(estimator="reinforce++")
    if name in ("cures", "resumed"):
        scheduler = cures.make_scheduler(
            "cures", num_prompts=POOL, batch_size=8, budget=ROWS, seed=3, num_subsets=5, pilots=3,
            steps_per_subset=2, subset_N=NINE, estimator="reinforce++",
        )  # fmt: skip
    if name == "split":
        scheduler = uneven(min_quota=1)
        scheduler._passes.position = rank
    args = {"per_device_train_batch_size": ROWS // world, **GREEDY}
    if name == "resumed":  # of the run of "cures", which two processes have just made
        trainer = trainer_of(Recording, folder, Told(first=2), scheduler=scheduler, args=args)
        trainer.train(resume_from_checkpoint=str(folder / "checkpoint-2"))
    else:
        saving = {"save_strategy": "steps", "save_steps": 2} if name == "cures" else {}
        args |= saving
        trainer = trainer_of(Recording, folder, Told(), scheduler=scheduler, args=args)
        trainer.train()
    gathered = [trainer.accelerator.gather(output["advantages"]) for output in trainer.outputs]
    if rank == 0:
        arrays = {f"advantage{i}": array.numpy() for i, array in enumerate(gathered)}
        arrays |= {f"weight/{key}": value.numpy() for key, value in weights_of(trainer).items()}
        for i, plan in enumerate(trainer.plans):
            arrays |= {f"prompt{i}": plan.prompt_B, f"quota{i}": plan.quota_B}
        fillers = [row["cures/fillers"] for row in trainer.state.log_history if "loss" in row]
        np.savez(folder / f"{name}-{world}.npz", fillers=fillers, **arrays)


PROGRAM = """
    import sys
    from pathlib import Path
    from tests.trl.test_trl_runs import run_in_processes

    for name in ("uneven", "cures", "resumed", "shadow", "split"):
        try:
            run_in_processes(Path(sys.argv[1]), name)
        except RuntimeError as error:
            print(f"{name}: {error}", flush=True)
"""


@pytest.fixture(scope="module")
def processes(tmp_path_factory):
    """A folder with what one and two processes have done, and what the two said."""
    folder = tmp_path_factory.mktemp("processes")
    for name in ("uneven", "cures", "shadow"):
        run_in_processes(folder, name)
    (folder / "program.py").write_text(textwrap.dedent(PROGRAM))
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    path = os.pathsep.join([os.getcwd(), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [*launcher, str(folder / "program.py"), str(folder)],
        env={**os.environ, "PYTHONPATH": path, "PYTHONWARNINGS": "ignore"},
        capture_output=True,
        text=True,
        timeout=900,  # a busy machine imports slowly
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return folder, done.stdout


@pytest.mark.parametrize("name", ["uneven", "cures"])
def test_two_processes_equal_one(name, processes, tmp_path):
    folder, _ = processes
    start = weights_of(trainer_of(GRPOTrainer, tmp_path, Told()))
    with np.load(folder / f"{name}-1.npz") as one, np.load(folder / f"{name}-2.npz") as two:
        assert one.keys() == two.keys()
        for key in one:
            if key.startswith(("prompt", "quota")):
                assert np.array_equal(one[key], two[key]), key
        for key in start:
            apart = np.abs(one[f"weight/{key}"] - two[f"weight/{key}"]).max()
            assert apart < 1e-5, key  # float32, sums in another order
        moved = [
            np.abs(one[f"weight/{key}"] - before.numpy()).max() for key, before in start.items()
        ]
        assert max(moved) > 1e-3
        whole = [i for i in range(5) if one[f"quota{i}"].sum() == ROWS]
        # of cures: 27 pilots, 2 steps, the 3 pilots of a subset of one prompt, a step
        assert len(whole) == (5 if name == "uneven" else 3)
        for i in whole:
            assert np.abs(one[f"advantage{i}"] - two[f"advantage{i}"]).max() < 1e-6
            assert np.abs(one[f"advantage{i}"]).max() > 0.1
        assert one["fillers"].max() == 0
        assert two["fillers"].max() == (2 if name == "cures" else 0)  # 28 and 4 rows


def test_two_processes_resume_with_the_plan_that_would_have_come_next(processes):
    folder, _ = processes
    with np.load(folder / "cures-2.npz") as whole, np.load(folder / "resumed-2.npz") as rest:
        for i in range(3):
            for key in ("prompt", "quota"):
                assert np.array_equal(rest[f"{key}{i}"], whole[f"{key}{i + 2}"])
            assert np.abs(rest[f"advantage{i}"] - whole[f"advantage{i + 2}"]).max() < 1e-6
        assert "prompt3" not in rest
        # the log of the first two steps is in the checkpoint
        assert rest["fillers"].tolist() == whole["fillers"].tolist()
        for key in whole:
            if key.startswith("weight/"):
                assert np.abs(rest[key] - whole[key]).max() < 1e-5, key
        # the control: from the start again these are other plans
        assert not np.array_equal(rest["prompt0"], whole["prompt0"])


def test_a_shadow_of_two_processes_sees_what_that_of_one_sees(processes):
    folder, _ = processes
    for name in ("outcomes", "shadow_plans"):
        one, two = (read_jsonl(folder / f"shadow-{world}" / f"{name}.jsonl") for world in (1, 2))
        assert one == two
    assert sum(row["trial"] for row in read_jsonl(folder / "shadow-2" / "outcomes.jsonl")) == (
        5 * ROWS
    )


def test_processes_that_plan_differently_are_stopped(processes):
    said = processes[1].splitlines()
    assert len(said) == 2
    for line in said:
        assert line.startswith("split: CuresGRPOTrainer: the processes' schedulers have planned")


class Server:
    """The client of a vLLM server: notes what it is asked, answers with the end."""

    def __init__(self) -> None:
        self.prompts: list = []
        self.n: list[int] = []

    def generate(self, prompts, n, **_):
        self.prompts.append(list(prompts))
        self.n.append(n)
        size = len(prompts) * n
        is_old = Version(TRL_VERSION) < Version(
            "0.29"
        )  # one log-probability, or the likeliest ones
        return {
            "prompt_ids": [[0] if isinstance(p, str) else p for p in prompts],
            "completion_ids": [[EOS]] * size,
            "logprobs": [[0.0] if is_old else [[0.0]]] * size,
        }


def serve(trainer, server):
    """Have TRL's own code for the server mode talk to ``server``; no weights are sent."""
    trainer.use_vllm = True
    trainer._last_loaded_step = -1
    trainer.vllm_importance_sampling_correction = False
    try:
        from trl.generation.vllm_generation import VLLMGeneration
    except ImportError:  # it was part of the trainer then
        trainer.vllm_mode, trainer.vllm_client = "server", server
        trainer.guided_decoding_regex = trainer.structured_outputs_regex = None
        trainer._move_model_to_vllm = lambda: None
        return
    trainer.vllm_generation = engine = VLLMGeneration.__new__(VLLMGeneration)
    options = ("temperature", "top_p", "top_k", "min_p", "repetition_penalty")
    vars(engine).update({name: getattr(trainer, name) for name in options})
    vars(engine).update(
        accelerator=trainer.accelerator, mode="server", vllm_client=server, logprobs=0,
        max_completion_length=trainer.max_completion_length, structured_outputs_regex=None,
        generation_kwargs={}, chat_template_kwargs={}, tools=None, chat_template=None,
        processing_class=trainer.processing_class, max_prompt_length=None,
        rollout_func=None, sync_weights=lambda: None,
    )  # fmt: skip


def asked(server, trainer) -> list[str]:
    """Texts of the prompts of the first request."""
    first = server.prompts[0]
    return (
        first
        if isinstance(first[0], str)
        else trainer.processing_class.batch_decode(first, skip_special_tokens=True)
    )


def test_a_vllm_server_is_asked_for_every_planned_rollout(tmp_path, monkeypatch):
    # releases in between import it for its names, even where a server generates
    vllm = SimpleNamespace(
        __version__="0.11.2", sampling_params=SimpleNamespace(StructuredOutputsParams=None)
    )
    for name, module in (("vllm", vllm), ("vllm.sampling_params", vllm.sampling_params)):
        monkeypatch.setitem(sys.modules, name, module)
    server = Server()
    trainer = trainer_of(Recording, tmp_path, Told(), scheduler=uneven(), args={"max_steps": 1})
    serve(trainer, server)
    trainer.train()
    (plan,) = trainer.plans
    assert server.n == [1]
    assert asked(server, trainer) == [
        f"{number:02d}=" for number in np.repeat(plan.prompt_B, plan.quota_B)
    ]

    # the control: TRL sends every GROUP-th row, which of unequal groups is nonsense
    server = Server()
    plain = trainer_of(GRPOTrainer, tmp_path, Told(), args={"max_steps": 1})
    serve(plain, server)
    plain.train()
    assert server.n == [GROUP]
    assert len(server.prompts[0]) == ROWS // GROUP


def test_a_shadow_touches_nothing(tmp_path):
    plain = trainer_of(GRPOTrainer, tmp_path / "plain", Told(), args={"max_steps": 6})
    plain.train()
    told = Told()
    options = {"args": {"max_steps": 6}, "scheduler": "dapo"}
    watched = trainer_of(CuresGRPOTrainer, tmp_path / "watched", told, shadow=True, **options)
    watched.train()
    assert largest_difference(weights_of(plain), weights_of(watched)) == 0.0
    planned = trainer_of(  # the control
        CuresGRPOTrainer, tmp_path / "c", Told(), scheduler="mopps", args={"max_steps": 6}
    )
    planned.train()
    assert largest_difference(weights_of(plain), weights_of(planned)) > 0.0

    rows = read_jsonl(tmp_path / "watched" / "outcomes.jsonl")
    for step in range(6):
        number_R, reward_R = np.array(told.numbers[step]), told.rewards[step]
        of_step = {row["prompt"]: row for row in rows if row["step"] == step}
        assert sorted(of_step) == sorted(set(number_R.tolist()))
        for number, row in of_step.items():
            assert row["trial"] == (number_R == number).sum()
            assert row["success"] == reward_R[number_R == number].sum()
    plans = read_jsonl(tmp_path / "watched" / "shadow_plans.jsonl")
    assert sum(sum(plan["quotas"]) for plan in plans) == watched.scheduler.ledger.generated
    assert watched.scheduler.ledger.generated >= 6 * ROWS
    metrics = watched.state.log_history[5]
    mixed = sum(row["trial"] for row in rows if 0 < row["success"] < row["trial"])
    assert metrics["cures/measured_mixed"] == pytest.approx(mixed / (6 * ROWS))
    assert {"cures/shadow_mixed", "cures/training_mixed"} <= metrics.keys()
    assert "cures/generated" not in metrics


def test_a_shadow_resumes(tmp_path):
    def trainer(first):
        return trainer_of(
            CuresGRPOTrainer, tmp_path, Told(first=first), scheduler="dapo", shadow=True,
            args=SAVING,
        )  # fmt: skip

    whole = trainer(0)
    whole.train()
    files = {n: (tmp_path / f"{n}.jsonl").read_bytes() for n in ("outcomes", "shadow_plans")}
    resumed = trainer(3)
    resumed.train(resume_from_checkpoint=str(tmp_path / "checkpoint-3"))
    assert same_state(resumed.shadow.state_dict(), whole.shadow.state_dict())
    assert {n: (tmp_path / f"{n}.jsonl").read_bytes() for n in files} == files


def test_a_batch_with_images_is_refused_where_rows_are_repeated():
    output = {"advantages": torch.zeros(4), "pixel_values": torch.zeros(7, 3)}
    with pytest.raises(ValueError, match=r"batch\['pixel_values'\] must be of 4 rows"):
        take_rows(output, torch.arange(6) % 4, 4)
    taken = take_rows({"a": torch.arange(4)}, torch.tensor([3, 3]), 4)
    assert taken["a"].tolist() == [3, 3]
