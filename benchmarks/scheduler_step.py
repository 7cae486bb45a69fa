"""Time of one scheduler step (propose + observe) against numpy's own draw of the same batch.

    make bench      or      python benchmarks/scheduler_step.py [--prompts 100000] [--repeats 7]

A step plans batch 1024 with budget 8192 and observes its outcome; the yardstick is one
``Generator.choice(N, 1024, p=...)``, timed in the same loop on the same machine. Medians of the repeats;
only the ratio travels to other machines.
"""

from __future__ import annotations

import argparse
import platform
import statistics
import time

import numpy as np

import cures

BATCH, BUDGET = 1024, 8192


def settings_of(name: str, num_prompts: int) -> dict[str, object]:
    """One subset holding the whole pool, so that every step faces all N prompts."""
    if name in ("cures", "cures-released", "gvm"):
        return {"num_subsets": 1, "steps_per_subset": 10_000, "pilots": 2}
    if name == "oracle":
        return {"true_success_rate": lambda: np.linspace(0.0, 1.0, num_prompts)}
    if name == "staged":
        rate_N = np.linspace(1.0, 0.0, num_prompts)
        return {"prior_success_rate_N": rate_N, "total_rollouts": 10**9}
    return {}


def outcome_of(plan: cures.Plan, rate_N: np.ndarray) -> cures.Outcome:
    """Right answers close to their expectation; drawing them is not what is timed."""
    success_B = np.round(plan.quota_B * rate_N[plan.prompt_B]).astype(np.int64)
    return cures.Outcome.of(plan, success_B)


def ready_scheduler(name: str, num_prompts: int, rate_N: np.ndarray) -> cures.Scheduler:
    """A scheduler past its pilots, with a first training plan observed."""
    scheduler = cures.make_scheduler(
        name,
        num_prompts=num_prompts,
        batch_size=BATCH,
        budget=BUDGET,
        **settings_of(name, num_prompts),
    )
    while True:
        plan = scheduler.propose()
        scheduler.observe(outcome_of(plan, rate_N))
        if not plan.is_pilot_B.any():
            return scheduler


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--prompts", type=int, default=100_000, help="size N of the pool")
    parser.add_argument("--repeats", type=int, default=7, help="timed blocks; the median counts")
    parser.add_argument("--steps", type=int, default=10, help="steps per timed block")
    arguments = parser.parse_args()
    generator = np.random.default_rng(0)
    rate_N = generator.beta(0.6, 0.6, arguments.prompts)
    prob_N = cures.sampling_distribution(cures.potential(rate_N), 0.05)
    print(f"{platform.processor() or platform.machine()}, numpy {np.__version__}")
    print(
        f"N = {arguments.prompts}, batch {BATCH}, budget {BUDGET}; medians of {arguments.repeats}"
    )
    print(f"{'scheduler':<16}{'step, ms':>10}{'choice, ms':>12}{'ratio':>8}")
    for name in cures.list_schedulers():
        scheduler = ready_scheduler(name, arguments.prompts, rate_N)
        step_s, choice_s = [], []
        for _ in range(arguments.repeats):
            total = 0.0
            for _ in range(arguments.steps):
                start = time.perf_counter()
                plan = scheduler.propose()
                total += time.perf_counter() - start
                outcome = outcome_of(plan, rate_N) if len(plan) else cures.Outcome.of(plan, [])
                start = time.perf_counter()
                scheduler.observe(outcome)
                total += time.perf_counter() - start
            step_s.append(total / arguments.steps)
            start = time.perf_counter()
            for _ in range(arguments.steps):
                generator.choice(arguments.prompts, BATCH, p=prob_N)
            choice_s.append((time.perf_counter() - start) / arguments.steps)
        step, choice = statistics.median(step_s), statistics.median(choice_s)
        print(f"{name:<16}{step * 1e3:>10.3f}{choice * 1e3:>12.3f}{step / choice:>8.2f}")


if __name__ == "__main__":
    main()
