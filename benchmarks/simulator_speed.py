"""Where the time of a simulated step goes, in multiples of drawing its random numbers.

    python -m benchmarks.simulator_speed [--prompts 1000000] [--page docs/results/simulator_speed.md]
    python -m benchmarks.simulator_speed --compare      (also a whole comparison; minutes)

A step is everything between two updates: propose, rollout, observe, update, discard; batch 1024,
budget 8192, item-response host. Every part is timed by CPU seconds of this process in blocks of steps;
the table has the median block and, in brackets, the fastest and the slowest. The yardstick, timed in
the same blocks, is ``Generator.random`` of as many numbers as there are rollouts: the least that any
simulation of them can cost. CPU time still moves with what else runs on the machine (caches, clock);
the ratios move less.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

import cures
from benchmarks.one_thread import on_one_thread
from cures.records import Outcome, Plan, Selection
from cures.storage import atomic_write
from figures.provenance import provenance
from sim.host import SimHost
from sim.populations import Population, make_population
from sim.settings import REFERENCE

BATCH, BUDGET = 1024, 8192
BLOCKS = 7
BLOCK_S, MOST_STEPS = 0.1, 24  # CPU seconds of a block, about; steps of one at most
PARTS = ("scheduler", "rollout", "update", "discard")
COMPARISON = ("uniform", "cures", "cures-released", "gvm", "speed", "dapo")
TARGET_STEPS, TARGET_FACTOR, TARGET_COMPARE_S = 200.0, 3.0, 60.0


class Clock:
    """CPU seconds by part."""

    def __init__(self) -> None:
        self.seconds = dict.fromkeys(PARTS, 0.0)

    def timed(self, part: str, call: Callable[..., Any]) -> Callable[..., Any]:
        """The same call, booked under a part."""

        def wrapped(*arguments: Any, **keywords: Any) -> Any:
            start = time.process_time()
            result = call(*arguments, **keywords)
            self.seconds[part] += time.process_time() - start
            return result

        return wrapped


class TimedHost:
    """A host whose three calls are booked."""

    def __init__(self, host: SimHost, clock: Clock) -> None:
        self.estimator = host.estimator
        self.rollout: Callable[[Plan], Outcome] = clock.timed("rollout", host.rollout)
        self.update: Callable[[Selection], Mapping[str, float]] = clock.timed("update", host.update)
        self.discard: Callable[[Selection], None] = clock.timed("discard", host.discard)


def settings_of(name: str, host: SimHost, num_prompts: int) -> dict[str, object]:
    """One subset holding the whole pool, so that every step faces all N prompts."""
    if name in ("cures", "cures-released", "gvm"):
        return {"num_subsets": 1, "steps_per_subset": 2 * BLOCKS * MOST_STEPS, "pilots": 2}
    if name == "oracle":
        return {"true_success_rate": host.true_success_rate}
    if name == "staged":
        rate_N = np.linspace(1.0, 0.0, num_prompts)
        return {"prior_success_rate_N": rate_N, "total_rollouts": 10**9}
    return {}


def blocks_of(name: str, population: Population) -> dict[str, np.ndarray]:
    """Milliseconds per step of every part, of the whole step and of the yardstick, by block."""
    host = SimHost(population, seed=1, learning_rate=0.003)
    scheduler = cures.make_scheduler(
        name,
        num_prompts=population.num_pool,
        batch_size=BATCH,
        budget=BUDGET,
        seed=2,
        **settings_of(name, host, population.num_pool),
    )
    clock = Clock()
    for method in ("propose", "observe"):
        setattr(scheduler, method, clock.timed("scheduler", getattr(scheduler, method)))
    steps: Iterator[Any] = cures.loop.run(scheduler, TimedHost(host, clock), rollouts=2**50)
    for _ in range(3):  # pilots, caches
        start = time.process_time()
        next(steps)
    one_s = max(time.process_time() - start, 1e-6)
    size = max(1, min(MOST_STEPS, round(BLOCK_S / one_s)))
    generator = np.random.default_rng(0)
    rows: dict[str, list[float]] = {key: [] for key in (*PARTS, "step", "draws", "rollouts")}
    for _ in range(BLOCKS):
        clock.seconds = dict.fromkeys(PARTS, 0.0)
        before, start = scheduler.ledger.generated, time.process_time()
        for _ in range(size):
            next(steps)
        rows["step"].append((time.process_time() - start) / size)
        rows["rollouts"].append((scheduler.ledger.generated - before) / size)
        for part, seconds in clock.seconds.items():
            rows[part].append(seconds / size)
        start = time.process_time()
        for _ in range(100):
            generator.random(BUDGET)
        rows["draws"].append((time.process_time() - start) / 100)
    return {
        key: np.array(values) * (1.0 if key == "rollouts" else 1e3) for key, values in rows.items()
    }


def table(num_prompts: int) -> list[str]:
    """Markdown rows of every scheduler."""
    population = make_population(
        "uniform", "item_response", num_pool=num_prompts, num_held_out=512, seed=0
    )
    lines = [
        "| scheduler | rollouts | step, ms | steps/s | scheduler | rollout | update | discard "
        "| step / scheduler | step / draws |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for name in cures.list_schedulers():
        print(f"timing {name}", file=sys.stderr, flush=True)
        block = blocks_of(name, population)
        middle = {key: float(np.median(values)) for key, values in block.items()}
        parts = " | ".join(f"{middle[part]:.2f}" for part in PARTS)
        ratio = np.median(block["step"] / block["scheduler"])
        mark = "**" if ratio > TARGET_FACTOR and name != REFERENCE else ""
        # what this method draws: its own rollouts, at the yardstick's pace
        draws = block["draws"] * block["rollouts"] / BUDGET
        lines.append(
            f"| `{name}` | {middle['rollouts']:,.0f} | {middle['step']:.2f} "
            f"[{block['step'].min():.2f}, {block['step'].max():.2f}] "
            f"| {1e3 / middle['step']:,.0f} | {parts} | {mark}{ratio:.2f}{mark} "
            f"| {np.median(block['step'] / draws):,.0f} |"
        )
    return lines


def compare_wall_s(seeds: int) -> float:
    """Wall seconds of a whole comparison in two workers, start of Python and figures included."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "sim", "compare", "--schedulers", *COMPARISON]
        command += ["--seeds", str(seeds), "--rollouts", "200000", "--jobs", "2", "--out", folder]
        before = time.perf_counter()
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        return time.perf_counter() - before


def page(lines: list[str], num_prompts: int, compare_s: float | None) -> str:
    """The page of docs/results."""
    command = "python -m benchmarks.simulator_speed"
    if num_prompts != 10**6:
        command += f" --prompts {num_prompts}"
    if compare_s is not None:
        command += " --compare"
    text = f"""\
# Time of a simulated step

Item-response host, {num_prompts:,} prompts, batch {BATCH}, budget {BUDGET}, one core. CPU milliseconds
per step, median of {BLOCKS} blocks of up to {MOST_STEPS} steps [fastest, slowest block]; `scheduler` is
propose + observe, the rest is the host. `step / draws`: against `Generator.random` of as many numbers as
the step has rollouts. Methods with pilots are timed after them, on one subset that holds the whole pool;
methods that screen or refill generate more than {BUDGET} rollouts per update. The scheduler's time of
`oracle` includes asking the host for every true success rate.

{provenance(command, f"numpy {np.__version__}")}

"""
    text += "\n".join(lines) + "\n"
    text += f"""
Aims: `uniform` at least {TARGET_STEPS:.0f} steps per second; the others at most {TARGET_FACTOR:.0f}
times their scheduler's own time (`step / scheduler`; **bold** where it is more).
"""
    if compare_s is not None:
        text += f"""
A comparison of {len(COMPARISON)} schedulers, 8 seeds (and 8 development seeds of the reference),
200,000 rollouts each, on the default task: {compare_s:.0f} s on two cores (`--jobs 2`), start and
figures included; the aim is {TARGET_COMPARE_S:.0f} s.
"""
    return text


def main() -> None:
    """Time, print, write the page."""
    on_one_thread("benchmarks.simulator_speed")
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--prompts", type=int, default=10**6, help="size N of the pool (1000000)")
    parser.add_argument("--compare", action="store_true", help="also time a whole comparison")
    parser.add_argument("--page", type=Path, help="markdown page to write")
    arguments = parser.parse_args()
    lines = table(arguments.prompts)
    compare_s = compare_wall_s(8) if arguments.compare else None
    text = page(lines, arguments.prompts, compare_s)
    print(text)
    if arguments.page is not None:
        atomic_write(arguments.page, text.encode())


if __name__ == "__main__":
    main()
