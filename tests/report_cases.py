"""A run folder written by hand: six prompts, of which every class of the report has one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from cures.ledger import Ledger
from cures.storage import JsonlLog, write_json
from tests.text_cases import save_tokenizer, write_rows
from train.config import from_dict
from train.folder import FORMAT, check_questions
from train.tasks.making import make_task

HOSTILE = "<script>document.title = 'owned'</script><img src=http://evil.example/x> & {} + {}?"
UPDATES = 201
# prompt -> step -> right answers of a group of eight
SCRIPT = {
    0: {0: (0,), 40: (0,), 80: (0,)},  # dead
    1: {0: (8,), 40: (8,)},  # mastered
    2: dict.fromkeys(range(0, UPDATES, 40), (4,)),  # one half for ever
    3: {0: (0,), 40: (2,), 80: (4,), 120: (7,), 160: (8,), 200: (8,)},  # learned
    4: {3: (0, 8)},  # pilots, then a group: one visit
}  # 5: not visited


def outcome_rows() -> list[dict[str, Any]]:
    """Lines of ``outcomes.jsonl``, by step."""
    rows = [
        {"prompt": prompt, "step": step, "success": success, "trial": 8, "is_pilot": i < len(all_) - 1}
        for prompt, visits in SCRIPT.items()
        for step, all_ in visits.items()
        for i, success in enumerate(all_)
    ]  # fmt: skip
    return sorted(rows, key=lambda row: row["step"])


def metrics_row(step: int) -> dict[str, Any]:
    """Half of what is trained is wasted."""
    return {
        "step": step, "generated": 16 * step, "trained": 16, "reward": 0.5, "wasted": 0.5,
        "effective_sample_size": None,
    }  # fmt: skip


def scripted_run(folder: Path) -> Path:
    """A finished run without a checkpoint, on a data set with hostile questions; its folder."""
    files = folder / "files"
    files.mkdir(parents=True)
    save_tokenizer(files / "tokenizer")
    questions = [{"problem": HOSTILE.format(i, i), "answer": str(2 * i)} for i in range(8)]
    config = from_dict(
        {
            "task": {
                "kind": "dataset", "data": str(write_rows(files / "data.jsonl", questions)),
                "tokenizer": str(files / "tokenizer"), "held_out_size": 2, "max_new_tokens": 8,
                "verifier": "exact",  # the quickest to start
            },
            "model": {"kind": "pretrained", "path": str(files / "tokenizer"), "device": "cpu"},
            "scheduler": {"batch_size": 2, "budget": 16},
            "evaluation": {"every": 800},
            "run": {"rollouts": 16 * UPDATES, "seed": 5},
        }
    )  # fmt: skip
    run = folder / "run"
    run.mkdir()
    write_json(run / "config.json", {"format": FORMAT, **config.as_dict()})
    check_questions(make_task(config), run)
    ledger = Ledger(steps=UPDATES, tokens=12_345)
    ledger.add("train", "generated", 16 * UPDATES - 8)
    ledger.add("train", "trained", 16 * UPDATES - 9)
    ledger.add("train", "missing", 1)
    ledger.add("pilot", "generated", 8)
    ledger.add("pilot", "discarded", 8)
    write_json(run / "summary.json", {"generated": 16 * UPDATES, "ledger": ledger.as_dict()})
    evaluation = [
        {"generated": x, "held_out": rate, "standard_error": 0.02} for x, rate in ((0, 0.25), (800, 0.5))
    ]  # fmt: skip
    # a second process, resumed after update 100, counts its processor time from 0
    timing = [
        {
            "step": step, "unix_time_s": 1000.0 + 2.0 * step,
            "rollout_cpu_time_s": 0.5 * (step if step <= 100 else step - 100),
            "update_cpu_time_s": 1.0 * (step if step <= 100 else step - 100),
        }
        for step in range(1, UPDATES + 1)
    ]  # fmt: skip
    metrics = [metrics_row(step) for step in range(1, UPDATES + 1)]
    for name, rows in (
        ("metrics", metrics), ("evaluation", evaluation), ("timing", timing),
        ("outcomes", outcome_rows()),
    ):  # fmt: skip
        with JsonlLog(run / f"{name}.jsonl") as log:
            for row in rows:
                log.append(row)
    return run
