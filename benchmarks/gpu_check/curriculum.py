"""``uniform``, ``cures`` and ``adaptive`` on a model of this size, at equal generated rollouts.

A model of ``[model]`` kind scratch is trained where it is made, on the CPU. Here it gets the supervised
steps of ``train/warm_start.py`` on the device, and is saved as any published model is, its arithmetic
problems beside it as a data set: what the real trainer then does with them (``train.run.train``) is what
it does with a large model on a GPU. All runs begin with these weights; a seed is of rollouts,
minibatches and the scheduler, and the arms of a seed share it.
"""

from __future__ import annotations

import gc
import json
import shutil
import time
from pathlib import Path
from typing import Any

from benchmarks.gpu_check.clock import TimeIsUpError, further_rounds
from benchmarks.gpu_check.material import MissingError, Setting
from benchmarks.gpu_check.profiles import ARMS
from cures.comparison import PairedDifference, seeds_needed
from cures.storage import atomic_write, read_json, write_json
from figures.demo import run_folder
from figures.training_table import rows as table_rows
from sim.analysis import closed
from train.config import Config, from_dict
from train.errors import TargetNotReachedError
from train.model import new_model_of
from train.progress import TrainingProgress
from train.run import train
from train.tasks.arithmetic import ArithmeticQuestions, ArithmeticTask
from train.tasks.making import make_task
from train.warm_start import supervise

FOLDER = "curriculum"  # below the output folder: warm start, data and runs


def warm_start(setting: Setting) -> dict[str, Any]:
    """Make and save the model that all runs begin with, and the problems; once for an output folder."""
    folder = setting.out / FOLDER
    about = folder / "warm_start.json"
    if not about.exists():
        config = setting.profile.config()
        task = make_task(config)
        assert isinstance(task, ArithmeticTask)
        model = new_model_of(config, task).to(setting.device)
        with TrainingProgress(setting.console) as progress:
            try:
                steps, _, success = supervise(model, task, config, progress.warm_start_step)
            except TargetNotReachedError as error:
                # a weak start is a start, and the page says how weak
                assert config.warm_start is not None
                steps, success = config.warm_start.steps, error.success
        model.save_pretrained(folder / "model")
        # alone: beside a model's config.json it would be read as that model's kind of tokenizer
        task.save_tokenizer(folder / "tokenizer")
        for name, questions in (("pool", task.pool), ("held_out", task.held_out)):
            atomic_write(folder / f"{name}.jsonl", json_lines(questions, task).encode())
        parameters = sum(p.numel() for p in model.parameters())
        made = {"parameters": parameters, "supervised_steps": steps, "success": success}
        write_json(about, made)
    return dict(read_json(about))


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
    root, done = setting.out / FOLDER, 0  # seeds
    seed_s: float | None = None  # of the slowest one so far
    for seed in range(setting.profile.seeds):
        folders = {arm: run_folder(root, arm, seed) for arm in ARMS}
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
        done += 1
    needed = seeds_needed()
    return {
        **warm,
        "rows": compared(root, done),
        "seeds": done,
        "rollouts": setting.profile.sections["run"]["rollouts"],
        "note": "" if done >= needed else f"An interval needs {needed} seeds.",
    }


def make(setting: Setting, arm: str, seed: int, folder: Path) -> None:
    """Make a run; its weights go, its logs stay."""
    setting.console.print(f"{arm}, seed {seed}", highlight=False)
    with TrainingProgress(setting.console) as progress:
        train(run_config(setting, arm, seed), folder, progress)
    shutil.rmtree(folder / "checkpoint")
    gc.collect()  # the model and the verifier's processes


def folders_of(root: Path, seeds: int) -> list[Path]:
    """All runs of the first seeds."""
    return [run_folder(root, arm, seed) for seed in range(seeds) for arm in ARMS]


def compared(root: Path, seeds: int) -> list[dict[str, Any]]:
    """A row per arm (figures/training_table.py), with the paired difference of cures.comparison."""
    rows = table_rows(folders_of(root, seeds))
    return [
        {
            "arm": arm,
            "held-out_before": row.before,
            "after": row.after,
            "minus_uniform": None if row.difference is None else interval(row.difference),
            "verdict": row.verdict,
            "updates": row.updates,
            "pilots_share": row.pilot,
        }
        for arm, row in rows.items()
    ]


def interval(difference: PairedDifference) -> dict[str, float | None]:
    """Mean and ends; an end that too few seeds leave open is None."""
    return closed({name: getattr(difference, name) for name in ("mean", "low", "high")})
