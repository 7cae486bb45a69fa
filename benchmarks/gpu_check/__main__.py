"""Command line: see the package."""

from __future__ import annotations

import argparse
import faulthandler
import gc
import json
import os
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

# read when CUDA starts: without it, matrix products have no deterministic form
os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
os.environ.setdefault("HF_HUB_OFFLINE", "1")  # everything is made here

import torch
import transformers
from rich.console import Console

import benchmarks.gpu_check as package
from benchmarks.gpu_check.clock import Deadline, TimeIsUpError
from benchmarks.gpu_check.correctness import accumulation, agreement
from benchmarks.gpu_check.curriculum import FOLDER, curriculum, warm_start
from benchmarks.gpu_check.material import MissingError, Setting
from benchmarks.gpu_check.moments import moments
from benchmarks.gpu_check.page import aims, is_correct, page
from benchmarks.gpu_check.pictures import draw_all
from benchmarks.gpu_check.profiles import PROFILES
from benchmarks.gpu_check.resume import resume
from benchmarks.gpu_check.throughput import throughput
from benchmarks.gpu_check.vllm_engine import vllm, why_missing
from cures.checks import as_float
from cures.storage import atomic_write, write_json
from figures.provenance import NOISY, provenance
from figures.results import stamp

Measure = Callable[[Setting], dict[str, Any]]
PARTS: dict[str, tuple[Measure, float]] = {  # with the largest share of the time
    "agreement": (agreement, 0.1),
    "accumulation": (accumulation, 0.1),
    "warm_start": (warm_start, 0.2),
    "resume": (resume, 0.15),
    "throughput": (throughput, 0.2),
    "moments": (moments, 0.15),
    "vllm": (vllm, 0.25),
    "curriculum": (curriculum, 1.0),  # what is left
}
WRITING_S = 15.0  # kept for page and pictures


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print, write; 0, or 1 if a correctness part failed, 2 on bad input."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.gpu_check", description=(package.__doc__ or "").splitlines()[0]
    )
    parser.add_argument("--out", type=Path, default=Path("runs/gpu_check"), help="output folder")
    parser.add_argument(
        "--profile", choices=tuple(PROFILES), help="default: gpu where there is one"
    )
    parser.add_argument("--minutes", type=float, default=8.0, help="at most (8)")
    parser.add_argument("--page", type=Path, help="page to write as well, for docs/results")
    options = parser.parse_args(arguments)
    has_gpu = torch.cuda.is_available()
    name = options.profile or "gpu"
    missing = []
    if name == "gpu" and not has_gpu:
        missing.append("torch sees no CUDA device: profile cpu, a rehearsal, is run instead")
        name = "cpu"
    out = options.out / name  # nothing of a rehearsal passes for a GPU's
    try:
        minutes = as_float("gpu_check", "--minutes", options.minutes, 1.0, 60.0)
        stamp(out / FOLDER)
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    device = torch.device("cuda", 0) if name == "gpu" else torch.device("cpu")
    deadline = Deadline.after(60.0 * minutes - WRITING_S)
    # a call that never ends is no interpreter's to interrupt
    faulthandler.dump_traceback_later(60.0 * minutes, exit=True, file=sys.__stderr__)
    setting = Setting(PROFILES[name], device, out, deadline, Console(soft_wrap=True))
    command = f"python -m benchmarks.gpu_check --profile {name} --minutes {minutes:g}"
    try:
        found = measured(setting, command, missing, options.page)
    finally:
        faulthandler.cancel_dump_traceback_later()
    return 0 if is_correct(found["parts"]) else 1


def measured(
    setting: Setting, command: str, missing: Sequence[str] = (), also: Path | None = None
) -> dict[str, Any]:
    """All parts, one after the other; what they found is written after each, to ``also``, too."""
    profile, out, console = setting.profile, setting.out, setting.console
    out.mkdir(parents=True, exist_ok=True)
    transformers.utils.logging.disable_progress_bar()
    lacking = [*missing, why_missing(setting.device)]
    if setting.has_gpu and not torch.cuda.is_bf16_supported(including_emulation=False):
        lacking.append("this GPU has no bfloat16 of its own: its speed is that of emulation")
    found: dict[str, Any] = {
        "profile": profile.name,
        "gpu": torch.cuda.get_device_name(setting.device) if setting.has_gpu else None,
        "origin": origin(setting, command),
        "missing": [sentence for sentence in lacking if sentence is not None],
        "parts": {},
    }
    total_s = setting.deadline.left()
    for name, (measure, share) in PARTS.items():
        console.rule(f"{name}, {max(setting.deadline.left(), 0.0):.0f} s left")
        found["parts"][name] = part = one_part(measure, setting, share * total_s)
        state = part.get("sentence") or {True: "holds", False: "DOES NOT HOLD"}.get(
            part.get("holds"), ""
        )
        console.print(f"{name}: {part['status']} {state}", highlight=False, markup=False)
        found["aims"] = aims(found["parts"], is_gpu=setting.has_gpu)
        write_json(out / "gpu_check.json", found)
        text = page(found, has_times=True)
        atomic_write(out / "gpu_check.md", text.encode())
        if also is not None:
            atomic_write(also, page(found, has_times=setting.has_gpu).encode())
    pictures = draw_all(found["parts"], out)
    console.print(text, highlight=False, markup=False)
    for path in (out / "gpu_check.json", out / "gpu_check.md", *pictures):
        console.print(str(path), highlight=False, markup=False)
    return found


def one_part(measure: Measure, setting: Setting, limit_s: float) -> dict[str, Any]:
    """What a part found, or the sentence of why it did not."""
    start = time.monotonic()
    try:
        with setting.deadline.part(limit_s):
            numbers = measure(setting)
        json.dumps(numbers, allow_nan=False)  # a number that is none is a failure, too
        found = {"status": "measured", **numbers}
    except MissingError as error:
        found = {"status": "missing", "sentence": str(error)}
    except TimeIsUpError as error:
        found = {"status": "failed", "sentence": str(error)}
    except Exception as error:  # whatever a part meets, the others go on
        text = " ".join(str(error).split())
        found = {"status": "failed", "sentence": f"{type(error).__name__}: {text:.500}"}
    if setting.has_gpu:
        gc.collect()
        torch.cuda.empty_cache()
    return {**found, "part_s": time.monotonic() - start}


def origin(setting: Setting, command: str) -> str:
    """Command, commit and what the numbers were measured on, in markdown."""
    versions = [f"torch {torch.__version__}", f"transformers {transformers.__version__}"]
    if not setting.has_gpu:
        return provenance(command, *versions, speed="Times of a rehearsal mean nothing.")
    card = f"{torch.cuda.get_device_name(setting.device)}, CUDA {torch.version.cuda}"
    return provenance(command, card, *versions, speed=NOISY)


if __name__ == "__main__":
    sys.exit(main())
