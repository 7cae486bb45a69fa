"""Time of ``cures.allocate`` for 1e3 .. 1e6 prompts, as a multiple of sorting the same array.

    python -m benchmarks.allocate

CPU seconds, median of 7 runs, 8 rollouts per prompt on average. Sorting is the yardstick because it
makes the table comparable between machines. The ``equal`` row is the worst case for ties.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np

from cures.quota import allocate

SIZES = (10**3, 10**4, 10**5, 10**6)
REPEATS = 7
Times = dict[tuple[str, int], tuple[float, float]]  # (kind of sigma, prompts) -> ours, a sort


def median_cpu_s(call: Callable[[], object]) -> float:
    """Median CPU time of ``REPEATS`` calls, after one call to warm up.

    Calls too short for the clock are repeated within a measurement until they last 10 ms.
    """
    start = time.process_time()
    call()
    once_s = time.process_time() - start
    inner = max(1, int(0.01 / max(once_s, 1e-5)))
    times_s = []
    for _ in range(REPEATS):
        start = time.process_time()
        for _ in range(inner):
            call()
        times_s.append((time.process_time() - start) / inner)
    return float(np.median(times_s))


def cases(size: int) -> dict[str, tuple[np.ndarray, int | None]]:
    """Name -> (sigma, max_quota)."""
    generator = np.random.default_rng(0)
    spread = generator.random(size)
    return {
        "uniform": (spread, None),
        "capped at 16": (spread, 16),
        "equal": (np.full(size, 0.5), None),
        "600 decades": (10.0 ** generator.uniform(-300, 300, size), None),
    }


def measured() -> Times:
    """CPU seconds of ``allocate``, and of sorting as many numbers."""
    found = {}
    for size in SIZES:
        # One yardstick for every row: sorting equal numbers would be no work. np.sort copies first.
        random = np.random.default_rng(0).random(size)
        sort_s = median_cpu_s(lambda random=random: np.sort(random))
        for name, (sigma, cap) in cases(size).items():
            allocate_s = median_cpu_s(
                lambda sigma=sigma, cap=cap, size=size: allocate(sigma, 8 * size, max_quota=cap)
            )
            found[name, size] = allocate_s, sort_s
    return found


def table(found: Times) -> str:
    """A line per size and kind of sigma."""
    lines = [f"{'prompts':>9}  {'sigma':<13}{'allocate [s]':>13}{'sort [s]':>12}{'ratio':>8}"]
    for (name, size), (allocate_s, sort_s) in found.items():
        ratio = allocate_s / sort_s
        lines.append(f"{size:>9}  {name:<13}{allocate_s:>13.6f}{sort_s:>12.6f}{ratio:>8.1f}")
    return "\n".join(lines)


def main() -> None:
    """Print the table."""
    print(table(measured()))


if __name__ == "__main__":
    main()
