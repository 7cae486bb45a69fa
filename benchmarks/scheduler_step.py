"""Time of one scheduler step (propose + observe) as the pool grows, against what else one could do.

    python -m benchmarks.scheduler_step [--prompts 10000 1000000] [--page docs/results/scheduler_step.md]

A step plans a batch, 8 rollouts a prompt, and observes its outcome. Every scheduler runs on every pool
at ``--batch-of-all``; ``cures``, with and without forgetting and in its dense mode, at every
``--batch``. Beside them, in the same run on the same machine:

- ``dense numpy``: the mathematics of a ``cures`` step (posterior mean, Eq. 14, draws with replacement,
  sigma, quotas, counts), written down for the whole pool;
- ``choice``: one ``Generator.choice(N, batch, p=...)`` alone;
- ``release``: the published release's sampler and counters, a Python loop over the pool (scores from
  the counters of every prompt, one weighted draw, counters of the batch). Where its repeats would take
  longer than ``--longest`` seconds: the time at the largest pool where they do not, times the ratio of
  the pools (``~``);
- ``bytes``: one pass over the two counts of every prompt, the least that looking at everyone costs.

Medians of the repeats; ratios are of this run. Only ratios travel to other machines. What comes once
in many steps (a permutation for a pass of uniform sampling, the horizon of ``adaptive``) is in the mean
of some blocks of steps and not of others.
"""

from __future__ import annotations

import argparse
import math
import platform
import shlex
import statistics
import sys
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

import cures
from benchmarks import allocate
from benchmarks.scheduler_tables import (
    PAGE,
    ROLLOUTS,
    YARDSTICKS,
    Held,
    Memories,
    Timed,
    Times,
    draw_figure,
    memory_table,
    page,
    table,
)
from cures.storage import atomic_write

TEMPERATURE = 0.05
PILOTS = 2
FORGETTING = 1e-4
CURES_ARMS = {
    "cures": {"draws": "tree"},
    "cures, forgetting": {"draws": "tree", "forgetting": FORGETTING},
    "cures, dense": {"draws": "dense"},
}


def settings_of(name: str, num_prompts: int) -> dict[str, object]:
    """One subset holding the whole pool, so that every step faces all N prompts."""
    if name in ("cures", "cures-released", "gvm"):
        return {"num_subsets": 1, "steps_per_subset": 1_000, "pilots": PILOTS}
    if name == "oracle":
        rate_N = np.linspace(0.0, 1.0, num_prompts)
        return {"true_success_rate": lambda: rate_N}
    if name == "staged":
        rate_N = np.linspace(1.0, 0.0, num_prompts)
        return {"prior_success_rate_N": rate_N, "total_rollouts": 10**12}
    return {}


def outcome_of(plan: cures.Plan, rate_N: np.ndarray) -> cures.Outcome:
    """Right answers close to their expectation; drawing them is not what is timed."""
    success_B = np.round(plan.quota_B * rate_N[plan.prompt_B]).astype(np.int64)
    return cures.Outcome.of(plan, success_B)


def ready_scheduler(
    name: str,
    num_prompts: int,
    rate_N: np.ndarray,
    batch: int = 1024,
    **settings: object,
) -> cures.Scheduler:
    """A scheduler past its pilots, with a first training plan observed."""
    scheduler = cures.make_scheduler(
        name,
        num_prompts=num_prompts,
        batch_size=batch,
        budget=ROLLOUTS * batch,
        **(settings_of(name, num_prompts) | settings),
    )
    while True:
        plan = scheduler.propose()
        scheduler.observe(outcome_of(plan, rate_N))
        if not plan.is_pilot_B.any():
            return scheduler


def step_of(scheduler: cures.Scheduler, rate_N: np.ndarray) -> Callable[[], float]:
    """One step that says how long the scheduler took; the host's share is left out."""

    def step() -> float:
        start = time.perf_counter()
        plan = scheduler.propose()
        total = time.perf_counter() - start
        outcome = outcome_of(plan, rate_N)
        start = time.perf_counter()
        scheduler.observe(outcome)
        return total + time.perf_counter() - start

    return step


def timed(call: Callable[[], object]) -> Callable[[], float]:
    """The same call, saying how long it took."""

    def step() -> float:
        start = time.perf_counter()
        call()
        return time.perf_counter() - start

    return step


# -- yardsticks ----------------------------------------------------------------------------------------


class DenseNumpy:
    """A step of ``cures`` as one writes it for the whole pool."""

    def __init__(self, rate_N: np.ndarray, batch: int) -> None:
        self.rate_N, self.batch, self.budget = rate_N, batch, ROLLOUTS * batch
        self.success_N = np.round(PILOTS * rate_N)
        self.failure_N = PILOTS - self.success_N
        self.generator = np.random.default_rng(0)

    def chances(self) -> np.ndarray:
        """Eq. 14 at the posterior mean under Beta(1, 1)."""
        mean_N = (1.0 + self.success_N) / (2.0 + self.success_N + self.failure_N)
        weight_N = np.exp((np.sqrt(mean_N * (1.0 - mean_N)) - 0.5) / TEMPERATURE)
        return weight_N / weight_N.sum()

    def __call__(self) -> None:
        """Draw, split the budget by sigma with largest remainders, count."""
        cumulative = np.cumsum(self.chances())
        point = np.sort(self.generator.random(self.batch)) * cumulative[-1]
        prompt, draw = np.unique(np.searchsorted(cumulative, point, "right"), return_counts=True)
        success, failure = self.success_N[prompt], self.failure_N[prompt]
        mean = (1.0 + success) / (2.0 + success + failure)
        sigma = draw * np.sqrt(mean * (1.0 - mean))
        share = 2.0 + (self.budget - 2 * prompt.size) * sigma / sigma.sum()
        quota = np.floor(share)
        quota[np.argsort(quota - share)[: self.budget - int(quota.sum())]] += 1
        right = np.round(quota * self.rate_N[prompt])
        self.success_N[prompt] += right
        self.failure_N[prompt] += quota - right


class Release:
    """The published sampler and its counters, a dictionary entry per prompt and a loop over all.

    The score of a prompt is exp(sqrt(p (1-p)) / (100 (right answers + 1))). As if asked at every step,
    which is what following the counters takes; the published scripts ask once per pass over the data.
    """

    def __init__(self, rate_N: np.ndarray, batch: int) -> None:
        self.rate_N, self.batch = rate_N, batch
        right_N = np.round(PILOTS * rate_N).astype(int).tolist()
        self.counter = {
            prompt: {"accepted": right, "rejected": PILOTS - right}
            for prompt, right in enumerate(right_N)
        }
        self.generator = np.random.default_rng(0)

    def chances(self) -> np.ndarray:
        """Score everyone, one after the other."""
        score = []
        for prompt in range(len(self.counter)):
            entry = self.counter[prompt]
            mean = (entry["accepted"] + 1) / (entry["accepted"] + entry["rejected"] + 2)
            sharpness = 100.0 * (entry["accepted"] + 1)
            score.append(math.exp(math.sqrt(mean * (1.0 - mean)) / sharpness))
        weight_N = np.array(score)
        return weight_N / weight_N.sum()

    def __call__(self) -> None:
        """Draw a batch without replacement, count its answers."""
        prob_N = self.chances()
        drawn = self.generator.choice(prob_N.size, self.batch, replace=False, p=prob_N)
        for prompt in drawn.tolist():
            right = round(ROLLOUTS * float(self.rate_N[prompt]))
            self.counter[prompt]["accepted"] += right
            self.counter[prompt]["rejected"] += ROLLOUTS - right


def yardstick(name: str, rate_N: np.ndarray, batch: int) -> Callable[[], object]:
    """What is called once for every step of a scheduler."""
    if name == "dense numpy":
        return DenseNumpy(rate_N, batch)
    if name == "release":
        return Release(rate_N, batch)
    if name == "choice":
        prob_N, generator = DenseNumpy(rate_N, batch).chances(), np.random.default_rng(0)
        return lambda: generator.choice(rate_N.size, batch, p=prob_N)
    counts_2N = np.ones((2, rate_N.size))
    return lambda: counts_2N.sum()


# -- the table -----------------------------------------------------------------------------------------


def median_s(step: Callable[[], float], *, repeats: int, steps: int, longest: float) -> float:
    """Median over the repeats of the mean of some steps; fewer steps where one takes long."""
    once = step()
    count = max(1, min(steps, int(longest / max(once, 1e-9) / repeats)))
    return statistics.median(statistics.mean(step() for _ in range(count)) for _ in range(repeats))


def measure(
    sizes: list[int], batches: list[int], batch_of_all: int, names: list[str], **how: object
) -> Times:
    """Time of a step of every scheduler and yardstick."""
    found: Times = {}
    repeats, steps, longest = how["repeats"], how["steps"], how["longest"]
    for size in sizes:
        rate_N = np.random.default_rng(0).beta(0.6, 0.6, size)
        for batch in sorted({*batches, batch_of_all}):
            if 4 * batch > size:  # `staged` has three stages
                continue
            arms = dict(CURES_ARMS)
            if batch == batch_of_all:
                arms |= {name: {} for name in names if name != "cures"}
            for name in (*arms, *YARDSTICKS):
                smaller = [n for n in sizes if (name, n, batch) in found]
                if name == "release" and smaller:
                    at = found[name, smaller[-1], batch]
                    expected = at.seconds * size / smaller[-1]
                    if at.is_extrapolated or expected * (repeats + 2) > longest:
                        found[name, size, batch] = Timed(expected, True)
                        continue
                print(f"  {name}, {size} prompts, batch {batch}", file=sys.stderr)
                if name in YARDSTICKS:
                    step = timed(yardstick(name, rate_N, batch))
                else:
                    scheduler = name.split(",")[0]
                    step = step_of(
                        ready_scheduler(scheduler, size, rate_N, batch, **arms[name]), rate_N
                    )
                seconds = median_s(step, repeats=repeats, steps=steps, longest=longest)
                found[name, size, batch] = Timed(seconds)
                del step
    return found


def measure_memory(sizes: list[int], names: list[str]) -> Memories:
    """What every scheduler holds, and how long its state takes to go to disk and back."""
    found: Memories = {}
    for size in sizes:
        rate_N = np.random.default_rng(0).beta(0.6, 0.6, size)
        for name in names:
            arms = CURES_ARMS if name == "cures" else {name: {}}
            for arm, settings in arms.items():
                given = settings_of(name, size) | settings  # what the caller holds anyway
                tracemalloc.start()
                scheduler = cures.make_scheduler(
                    name, num_prompts=size, batch_size=1024, budget=1024 * ROLLOUTS, **given
                )
                for _ in range(3):
                    plan = scheduler.propose()
                    scheduler.observe(outcome_of(plan, rate_N))
                held = tracemalloc.get_traced_memory()[0]
                tracemalloc.stop()
                with TemporaryDirectory() as folder:
                    path = Path(folder) / "state.npz"
                    start = time.perf_counter()
                    cures.save_state(path, scheduler.state_dict())
                    saved = time.perf_counter()
                    scheduler.load_state_dict(cures.load_state(path))
                    loaded = time.perf_counter()
                    megabytes = path.stat().st_size / 1e6
                found[arm, size] = Held(held / size, saved - start, loaded - saved, megabytes)
    return found


def main() -> None:
    """Print the tables, draw the figure."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("--prompts", type=int, nargs="+", default=[10**4, 10**5, 10**6, 10**7], help="pools N")
    add("--batch", type=int, nargs="+", default=[64, 256, 1024, 4096], help="batches of cures")
    add(
        "--batch-of-all", type=int, default=1024, help="batch of every scheduler, and of the figure"
    )
    add("--schedulers", nargs="+", default=cures.list_schedulers(), help="default: all")
    add("--repeats", type=int, default=7, help="timed blocks; the median counts")
    add("--steps", type=int, default=20, help="steps per timed block, fewer where they take long")
    add("--longest", type=float, default=12.0, help="seconds that one line of the table may take")
    add("--figure", type=Path, default=Path("docs/figures/scheduler_step.png"), help="PNG to write")
    add("--page", type=Path, help=f"markdown page to write; that of the repository is {PAGE}")
    arguments = parser.parse_args()
    print(f"{platform.processor() or platform.machine()}, numpy {np.__version__}")
    print(f"{ROLLOUTS} rollouts a prompt; medians of {arguments.repeats}; ~ extrapolated")
    print("what a yardstick costs in steps of the line: above 1 the line is the faster one\n")
    sizes, names = sorted(arguments.prompts), arguments.schedulers
    found = measure(
        sizes, arguments.batch, arguments.batch_of_all, names,
        repeats=arguments.repeats, steps=arguments.steps, longest=arguments.longest,
    )  # fmt: skip
    print(table(found))
    memories = measure_memory(sizes, names)
    print(f"\n{memory_table(memories)}")
    draw_figure(found, arguments.batch_of_all, arguments.figure)
    if arguments.page is not None:
        command = shlex.join(["python", "-m", "benchmarks.scheduler_step", *sys.argv[1:]])
        text = page(found, memories, allocate.measured(), command)
        atomic_write(arguments.page, text.encode())


if __name__ == "__main__":
    main()
