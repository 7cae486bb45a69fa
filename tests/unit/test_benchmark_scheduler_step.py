"""The yardsticks of benchmarks/scheduler_step.py compute what they are named after."""

from __future__ import annotations

import numpy as np
import pytest

import cures
from benchmarks import scheduler_step as bench
from benchmarks.scheduler_tables import Held, Timed, page

RATE_N = np.random.default_rng(0).beta(0.6, 0.6, 300)


def test_dense_numpy_is_equation_14_and_spends_the_budget():
    dense = bench.DenseNumpy(RATE_N, 32)
    for _ in range(3):
        mean_N = (1 + dense.success_N) / (2 + dense.success_N + dense.failure_N)
        # the library's own reference, tested against the paper elsewhere
        expected = cures.sampling_distribution(cures.potential(mean_N), bench.TEMPERATURE)
        assert np.allclose(dense.chances(), expected, rtol=1e-12)
        before = dense.success_N.sum() + dense.failure_N.sum()
        dense()
        assert dense.success_N.sum() + dense.failure_N.sum() - before == 32 * bench.ROLLOUTS


def test_the_release_loop_has_the_scores_of_cures_released():
    scheduler = bench.ready_scheduler("cures-released", 300, RATE_N, 32)
    release = bench.Release(RATE_N, 32)
    # the vectorised reconstruction, whose own tests are in test_cures_released.py
    assert np.allclose(release.chances(), scheduler.sampling_distribution(), rtol=1e-12)
    release()
    counts = [sum(entry.values()) for entry in release.counter.values()]
    assert sum(counts) == 300 * bench.PILOTS + 32 * bench.ROLLOUTS


@pytest.mark.parametrize(("longest", "is_extrapolated"), [(60.0, False), (1e-9, True)])
def test_table_and_figure(tmp_path, longest, is_extrapolated):
    found = bench.measure(
        [256, 512], [32], 64, ["cures", "uniform"], repeats=1, steps=1, longest=longest
    )
    assert found["release", 512, 64].is_extrapolated == is_extrapolated
    if is_extrapolated:  # linear in the pool
        assert found["release", 512, 64].seconds == 2 * found["release", 256, 64].seconds
    lines = bench.table(found).splitlines()
    # two pools x (two batches x (three arms of cures and four yardsticks) + uniform), and a header
    assert len(lines) == 2 * (2 * 7 + 1) + 1
    assert any("~" in line for line in lines) == is_extrapolated
    bench.draw_figure(found, 64, tmp_path / "step.png")
    assert (tmp_path / "step.png").read_bytes().startswith(b"\x89PNG")
    assert list(tmp_path.iterdir()) == [tmp_path / "step.png"]


def test_memory_is_reported_per_prompt():
    line = bench.memory_table(bench.measure_memory([4096], ["uniform"])).splitlines()[1].split()
    assert line[:2] == ["4096", "uniform"]
    assert 16.0 < float(line[2]) < 100.0  # members and a permutation, and what does not grow


def test_the_page_says_what_was_missed():
    arms = ("cures", "cures, forgetting", "dense numpy", "release", "bytes", "choice")
    step_s = dict(zip(arms, (2.5e-3, 3e-3, 0.1, 2.4, 1e-3, 1e-2), strict=True))
    times = {
        (arm, size, 1024): Timed(seconds, arm == "release")
        for size in (10**6, 10**7)
        for arm, seconds in step_s.items()
    }
    memories = {(name, 10**7): Held(38.0, 0.5, 2.5, 320.0) for name in ("cures", "adaptive")}
    allocations = {("uniform", 10**6): (0.2, 0.01), ("equal", 10**6): (0.3, 0.01)}
    text = page(times, memories, allocations, "python -m benchmarks.scheduler_step --repeats 3")
    assert "Command: `python -m benchmarks.scheduler_step --repeats 3`." in text
    # by hand: 2.5 ms of 2, 2.5 ms of 4, loading 2.5 s of 2 twice
    missed = [line.split("|")[1].strip() for line in text.splitlines() if "**missed**" in line]
    assert missed == [
        "`cures`, a step at 1,000,000 prompts",
        "`cures`, state of 10,000,000 prompts loaded",
        "`adaptive`, state of 10,000,000 prompts loaded",
        "release",
    ]
    # 0.1 / 2.5e-3 and 0.1 / 3e-3; 2.4 / 2.5e-3 and 2.4 / 3e-3
    assert "| dense numpy | 20x | 40x |  | 33x |  |" in text
    assert "| release | 1000x | ~960x | **missed** | ~800x | **missed** |" in text
    allocate = "| `allocate` for 1,000,000 groups, the slowest kind | 0.5 s | 0.3 s |  |"
    assert allocate in text
    # of smaller pools and other schedulers: what was measured, and no more
    few = page({k: t for k, t in times.items() if k[1] == 10**6}, {}, allocations, "c")
    assert [line for line in few.splitlines() if line.startswith("| `")] == [
        "| `cures`, a step at 1,000,000 prompts | 2 ms | 2.5 ms | **missed** |",
        allocate,
    ]
    assert "faster than" not in few
