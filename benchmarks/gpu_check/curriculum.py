"""``uniform``, ``cures`` and ``adaptive`` on a model of this size, at equal generated rollouts.

A model of ``[model]`` kind scratch is trained where it is made, on the CPU. Here it gets its supervised
steps on the device, on the worked examples of ``train/warm_start.py``, and is saved as any published
model is, its arithmetic problems beside it as a data set: what the real trainer then does with them
(``train.run.train``) is what it does with a large model on a GPU. All runs begin with these weights;
a seed is of rollouts, minibatches and the scheduler, and the arms of a seed share it.
"""

from __future__ import annotations

import gc
import json
import shutil
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import PreTrainedModel

from benchmarks.gpu_check.clock import TimeIsUpError, further_rounds
from benchmarks.gpu_check.material import MissingError, Setting, native
from benchmarks.gpu_check.profiles import ARMS
from cures.comparison import seeds_needed
from cures.storage import atomic_write, read_json, write_json
from figures.results import stamp
from figures.training_table import rows as table_rows
from sim.wording import difference_text
from train.config import Config, from_dict
from train.evaluation import success_rate
from train.model import new_model_of
from train.policy import Policy
from train.progress import TrainingProgress
from train.run import train
from train.seeds import Stream, numpy_generator
from train.tasks.arithmetic import ArithmeticQuestions, ArithmeticTask
from train.tasks.making import make_task
from train.warm_start import FINAL_LR_SHARE, examples, fresh_problems
from train.world import World

FOLDER = "curriculum"  # below the output folder: warm start, data and runs


def warm_start(setting: Setting) -> dict[str, Any]:
    """Make and save the model that all runs begin with, and the problems; once for an output folder."""
    folder = setting.out / FOLDER
    stamp(folder)
    about = folder / "warm_start.json"
    if not about.exists():
        config = setting.profile.config()
        task = make_task(config)
        assert isinstance(task, ArithmeticTask)
        model = new_model_of(config, task).to(setting.device)
        with TrainingProgress(setting.console) as progress:
            found = supervised(model, task, config, progress)
        model.save_pretrained(folder / "model")
        # alone: beside a model's config.json it would be read as that model's kind of tokenizer
        task.save_tokenizer(folder / "tokenizer")
        for name, questions in (("pool", task.pool), ("held_out", task.held_out)):
            atomic_write(folder / f"{name}.jsonl", json_lines(questions, task).encode())
        write_json(about, found)
    return dict(read_json(about))


def supervised(
    model: PreTrainedModel, task: ArithmeticTask, config: Config, progress: TrainingProgress
) -> dict[str, Any]:
    """Train on worked examples until the target is reached on problems never seen, or the steps end."""
    warm = config.warm_start
    assert warm is not None
    worked, policy = examples(task, warm), Policy(model, task.decoding)
    probe = ArithmeticQuestions.of(fresh_problems(task, warm))
    named = list(model.named_parameters())
    matrices = [p for name, p in named if p.ndim == 2 and "layers" in name]
    others = [p for name, p in named if not (p.ndim == 2 and "layers" in name)]
    optimizers = (
        (torch.optim.Muon(matrices, lr=warm.muon_lr, weight_decay=0.0), warm.muon_lr),
        (torch.optim.AdamW(others, lr=warm.adamw_lr, weight_decay=0.0), warm.adamw_lr),
    )
    success, step = 0.0, 0
    for step in range(1, warm.steps + 1):
        generator = numpy_generator(warm.seed, Stream.SUPERVISED_ORDER, step)
        chosen = generator.integers(len(worked), size=warm.batch_size)
        share = 1.0 - (1.0 - FINAL_LR_SHARE) * (step - 1) / warm.steps
        loss = -policy(worked.sequences(chosen).to(model.device)).log_prob_F.mean()
        loss.backward()
        for optimizer, rate in optimizers:
            optimizer.param_groups[0]["lr"] = share * rate
            optimizer.step()
            optimizer.zero_grad()
        progress.warm_start_step(step, warm.steps)
        if step % warm.check_every == 0 or step == warm.steps:
            rate_N = success_rate(
                native(model, max_rows=config.rollout.max_rows), probe, task.decoding, samples=1,
                seed=warm.seed, stream=Stream.WARM_START_CHECK, version=0, world=World(),
            )  # fmt: skip
            success = float(rate_N.mean())
            if success >= (warm.target_success or 1.0):
                break
    parameters = sum(p.numel() for _, p in named)
    return {"parameters": parameters, "supervised_steps": step, "success": success}


def json_lines(questions: ArithmeticQuestions, task: ArithmeticTask) -> str:
    """The problems as a data set."""
    problems = questions.problems
    columns = (problems.text_N, problems.answer_N, problems.cell_N)
    return "".join(
        json.dumps({"problem": text, "answer": answer, "kind": task.category_names[cell]}) + "\n"
        for text, answer, cell in zip(*columns, strict=True)
    )


def run_config(setting: Setting, scheduler: str, seed: int, **sections: dict[str, Any]) -> Config:
    """One run from the saved model; ``sections`` override single values."""
    folder, plain = (setting.out / FOLDER).resolve(), setting.profile.sections
    if not (folder / "warm_start.json").exists():
        raise MissingError("the warm start is not there")
    width = max(setting.profile.config().task.digits)
    content: dict[str, dict[str, Any]] = {
        "task": {
            "kind": "dataset",
            "data": str(folder / "pool.jsonl"),
            "held_out_data": str(folder / "held_out.jsonl"),
            "category_column": "kind",
            "tokenizer": str(folder / "tokenizer"),
            "template": "plain",
            "instruction": "none",
            "answer_format": "text",
            "verifier": "operator:eq",
            "verifier_workers": plain["run"].get("threads", 1),
            "max_prompt_tokens": 2 * width + 3,
            "max_new_tokens": width + 2,
        },
        "model": {
            "kind": "pretrained", "path": str(folder / "model"), "device": setting.device.type,
        },
        "learner": plain["learner"],
        "scheduler": {**plain["scheduler"], "name": scheduler},
        "evaluation": plain["evaluation"],
        "run": {**plain["run"], "seed": seed},
    }  # fmt: skip
    return from_dict({title: {**own, **sections.get(title, {})} for title, own in content.items()})


def curriculum(setting: Setting) -> dict[str, Any]:
    """As many seeds as fit in the time, every arm of each; what is finished is kept."""
    warm = warm_start(setting)
    done: list[int] = []
    seed_s: float | None = None  # of the slowest one so far
    for seed in range(setting.profile.seeds):
        folders = {arm: run_folder(setting, arm, seed) for arm in ARMS}
        missing = [arm for arm in ARMS if not (folders[arm] / "summary.json").exists()]
        if missing:
            if seed_s is not None and not further_rounds(setting.deadline.left(), seed_s):
                break
            start = time.monotonic()
            try:
                for arm in missing:
                    make(setting, arm, seed, folders[arm])
            except TimeIsUpError:
                if not done:
                    raise
                break
            if seed_s is None:
                fit = further_rounds(setting.deadline.left(), time.monotonic() - start)
                more = min(fit, setting.profile.seeds - seed - 1)
                setting.console.print(f"about {more} more seeds will follow", highlight=False)
            seed_s = max(seed_s or 0.0, time.monotonic() - start)
        done.append(seed)
    needed = seeds_needed()
    return {
        **warm,
        "rows": compared(setting, done),
        "seeds": len(done),
        "rollouts": setting.profile.sections["run"]["rollouts"],
        "note": "" if len(done) >= needed else f"An interval needs {needed} seeds.",
    }


def run_folder(setting: Setting, arm: str, seed: int) -> Path:
    """Of one run."""
    return setting.out / FOLDER / f"{arm}-seed{seed}"


def make(setting: Setting, arm: str, seed: int, folder: Path) -> None:
    """Make a run; its weights go, its logs stay."""
    setting.console.print(f"{arm}, seed {seed}", highlight=False)
    with TrainingProgress(setting.console) as progress:
        train(run_config(setting, arm, seed), folder, progress)
    shutil.rmtree(folder / "checkpoint")
    gc.collect()  # the model and the verifier's processes


def compared(setting: Setting, seeds: list[int]) -> list[dict[str, Any]]:
    """A row per arm (figures/training_table.py), with the paired difference of cures.comparison."""
    rows = table_rows([run_folder(setting, arm, seed) for seed in seeds for arm in ARMS])
    return [
        {
            "arm": arm,
            "held-out_before": row.before,
            "after": row.after,
            "minus_uniform_[95_%]": None
            if row.difference is None
            else difference_text(closed(asdict(row.difference)), digits=3),
            "verdict": row.verdict,
            "updates": row.updates,
            "pilots_share": row.pilot,
        }
        for arm, row in rows.items()
    ]


def closed(difference: dict[str, Any]) -> dict[str, Any]:
    """An open end of an interval is None, as in ``comparison.json``."""
    return {key: value if np.isfinite(value) else None for key, value in difference.items()}
