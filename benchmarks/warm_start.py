"""A supervised step with our Muon and with torch's, and how far a rounding spreads in a warm start.

    python -m benchmarks.warm_start [--page docs/results/warm_start.md]

Both are the warm start of ``configs/tiny_cpu.toml`` on one thread. Time: CPU seconds of this process in
blocks of steps, in turn. Spread: two warm starts that begin with neighbouring float32 numbers, every
weight of one a unit in the last place above or below that of the other.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import partial
from pathlib import Path
from unittest import mock

import numpy as np
import torch
from torch import Tensor
from transformers import Qwen2ForCausalLM

from benchmarks.one_thread import on_one_thread
from cures.storage import atomic_write
from figures.provenance import provenance
from train import warm_start
from train.building import fix_numerics
from train.config import Config
from train.config_file import load
from train.model import new_model_of
from train.muon import Muon
from train.tasks.arithmetic import ArithmeticTask
from train.tasks.making import make_task

CONFIG = "configs/tiny_cpu.toml"
BLOCKS, BLOCK_STEPS = 7, 10
MARKS = (1, 10, 25, 50, 100, 150, 200)


def torchs(parameters: Iterable[Tensor], lr: float) -> torch.optim.Optimizer:
    """Torch's Muon as the warm start would use it; its products are in bfloat16."""
    return torch.optim.Muon(parameters, lr=lr, weight_decay=0.0)


OPTIMIZERS: dict[str, Callable[..., torch.optim.Optimizer]] = {
    "`train/muon.py`": Muon,
    "`torch.optim.Muon`": torchs,
}


class _EnoughError(Exception):
    """Ends a warm start early."""


def followed(
    config: Config,
    optimizer: Callable[..., torch.optim.Optimizer],
    look: Callable[[int, Qwen2ForCausalLM], None],
    *,
    steps: int,
    is_moved: bool = False,
) -> None:
    """The first steps of a warm start, looked at after each of them.

    Parameters
    ----------
    config : Config
    optimizer : callable
        Of the body's matrices: (parameters, lr) -> optimizer.
    look : callable
        Called with (step, model), first with step 0.
    steps : int
        How many; the learning rate falls as if all were to follow.
    is_moved : bool
        Every weight begins at a float32 neighbour of its own, above or below by chance.
    """
    task = make_task(config)
    assert isinstance(task, ArithmeticTask)
    model = new_model_of(config, task)
    generator = torch.Generator().manual_seed(0)
    if is_moved:
        with torch.no_grad():
            for weight in model.parameters():
                side = torch.randn(weight.shape, generator=generator).sign() * torch.inf
                weight.copy_(weight.nextafter(side))
    look(0, model)

    def report(step: int, _: int) -> None:
        look(step, model)
        if step == steps:
            raise _EnoughError

    with suppress(_EnoughError), mock.patch.object(warm_start, "Muon", optimizer):
        warm_start.supervise(model, task, config, report)


def seconds_per_step(config: Config, optimizer: Callable[..., torch.optim.Optimizer]) -> float:
    """CPU seconds, mean of a block after two steps."""
    at: dict[int, float] = {}

    def look(step: int, model: Qwen2ForCausalLM) -> None:
        at[step] = time.process_time()

    followed(config, optimizer, look, steps=2 + BLOCK_STEPS)
    return (at[2 + BLOCK_STEPS] - at[2]) / BLOCK_STEPS


def _keep(weights: dict[int, list[Tensor]], step: int, model: Qwen2ForCausalLM) -> None:
    if step in (0, *MARKS):
        weights[step] = [weight.detach().clone() for weight in model.parameters()]


def spread(config: Config, optimizer: Callable[..., torch.optim.Optimizer]) -> dict[int, float]:
    """Step -> largest difference of a weight between two warm starts a unit in the last place apart."""
    kept: list[dict[int, list[Tensor]]] = []
    for is_moved in (False, True):
        weights: dict[int, list[Tensor]] = {}

        followed(config, optimizer, partial(_keep, weights), steps=MARKS[-1], is_moved=is_moved)
        kept.append(weights)
    return {
        step: max(
            float((one - other).abs().max())
            for one, other in zip(kept[0][step], kept[1][step], strict=True)
        )
        for step in (0, *MARKS)
    }


def tables(config: Config) -> list[str]:
    """Both, in markdown."""
    timed: dict[str, list[float]] = {name: [] for name in OPTIMIZERS}
    for block in range(BLOCKS):
        print(f"timing, block {block + 1} of {BLOCKS}", file=sys.stderr, flush=True)
        for name, optimizer in OPTIMIZERS.items():
            timed[name].append(1e3 * seconds_per_step(config, optimizer))
    first = np.array(next(iter(timed.values())))
    lines = ["| Muon | a step, ms | times the first row |", "|---|---|---|"]
    for name, values in timed.items():
        ratio = np.array(values) / first
        lines.append(
            f"| {name} | {np.median(values):.0f} [{min(values):.0f}, {max(values):.0f}] "
            f"| {np.median(ratio):.2f} [{ratio.min():.2f}, {ratio.max():.2f}] |"
        )
    heads = " | ".join(f"step {step}" for step in (0, *MARKS))
    lines += ["", f"| largest difference of a weight | {heads} |", "|---" * (2 + len(MARKS)) + "|"]
    for name, optimizer in OPTIMIZERS.items():
        print(f"spread, {name}", file=sys.stderr, flush=True)
        found = spread(config, optimizer)
        lines.append(f"| {name} | " + " | ".join(f"{found[s]:.1e}" for s in found) + " |")
    return lines


def page(lines: list[str]) -> str:
    """The page of docs/results."""
    return f"""\
# Warm start: time of a step, and how far a rounding spreads

The supervised steps of `{CONFIG}` on one thread. A step: CPU milliseconds, median of {BLOCKS} blocks of
{BLOCK_STEPS} steps [fastest, slowest], in turn; ratios within a round. `train/muon.py` multiplies in
float32, torch's Muon in bfloat16, which takes long on a processor without such instructions.

*Largest difference of a weight*: two warm starts that begin with neighbouring float32 numbers, every
weight of one a unit in the last place above or below that of the other.

{provenance("python -m benchmarks.warm_start", f"torch {torch.__version__}")}

{chr(10).join(lines)}
"""


def main() -> None:
    """Measure, print, write the page."""
    on_one_thread("benchmarks.warm_start")
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--page", type=Path, help="markdown page to write")
    options = parser.parse_args()
    config = load(CONFIG, [])
    fix_numerics(config)
    text = page(tables(config))
    print(text)
    if options.page is not None:
        atomic_write(options.page, text.encode())


if __name__ == "__main__":
    main()
