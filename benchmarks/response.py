"""Do success rates that stay tell coins from prompts that learn? Replayed on finished runs.

    python -m benchmarks.response RUN ... [--memory 4 8 16 32] [--page docs/results/response.md]

RUN is a folder of ``python -m train run``, any scheduler: ``runs/league/xeon/coins/uniform-seed0`` of
`make league`. Its groups are told to ``cures/response.py`` in order. Runs of one pool, named by the
folder they lie in, are put together.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from scipy.stats import rankdata

from benchmarks.finished_runs import parser_of, publish, visits_of
from cures.checks import BoolArray, FloatArray
from cures.response import MEMORY, Response
from cures.schedulers.adaptive import FLOOR
from figures.visits import replay
from train.config import from_dict
from train.folder import read_config
from train.tasks.making import make_task

COIN = 0.5
MARKS = (0.5, 0.75, 1.0)  # of a run's updates
ABOUT = """\
# Do success rates that stay tell coins?

Finished runs, told group by group to `cures/response.py`; means over runs. *Judged*: prompts with
two visits and a rate in [0.2, 0.8]. *Area*: chance that a coin among them has higher odds of being
steady than another prompt. *Weight*: what is left of a visit.
"""


def believed(run: Path, memory: float) -> Iterator[tuple[float, Response]]:
    """What is believed at every mark."""
    seen, size, batch = visits_of(run)
    marks = {round(mark * seen.steps): mark for mark in MARKS}
    for updates, response in replay(seen, size, batch, memory=memory):
        if updates in marks:
            yield marks[updates], response


def area_under_curve(score: FloatArray, is_positive: BoolArray) -> float:
    """Chance that a positive one scores higher than another one, ties half (Mann and Whitney).

    Examples
    --------
    >>> area_under_curve(np.array([0.9, 0.5, 0.5]), np.array([True, True, False]))
    0.75
    """
    positive = int(is_positive.sum())
    others = is_positive.size - positive
    rank_sum = rankdata(score)[is_positive].sum()
    return float((rank_sum - positive * (positive + 1) / 2) / (positive * others))


def rows_of(pool: str, runs: list[Path], memory: float) -> Iterator[list[str]]:
    """A row for every mark, means over the pool's runs."""
    found: dict[float, list[dict[str, float]]] = {}
    for run in runs:
        config = from_dict(read_config(run))
        known_N = make_task(config).known_success_rate_N
        group_size = config.scheduler.budget / config.scheduler.batch_size
        for mark, response in believed(run, memory):
            is_judged_N = response.is_judged()
            is_coin_N = (
                np.zeros(is_judged_N.size, dtype=bool) if known_N is None else known_N == COIN
            )
            coins, others = is_judged_N & is_coin_N, is_judged_N & ~is_coin_N
            weight_N = response.weight(FLOOR)
            row = {
                "visits": response.trial_N.mean() / group_size,
                "judged": is_judged_N.sum(),
                "true": coins.sum() / max(is_judged_N.sum(), 1),
                "share": response.share,
            }
            if others.any():
                row["others"] = weight_N[others].mean()
            if coins.any():
                row["coins"] = weight_N[coins].mean()
            if coins.any() and others.any():
                row["area"] = area_under_curve(
                    response.log_odds_N[is_judged_N], is_coin_N[is_judged_N]
                )
            found.setdefault(mark, []).append({key: float(value) for key, value in row.items()})
    for mark, values in found.items():

        def mean(key: str, digits: int = 2, values: list[dict[str, float]] = values) -> str:
            there = [row[key] for row in values if key in row]
            return f"{np.mean(there):.{digits}f}" if there else ""

        yield [
            pool,
            f"{len(values)}",
            f"{mark:.0%}",
            mean("visits", 1),
            mean("judged", 0),
            mean("true"),
            mean("share"),
            mean("area"),
            mean("coins"),
            mean("others"),
        ]


def main() -> None:
    """Print, write the page."""
    parser = parser_of(__doc__)
    parser.add_argument(
        "--memory", type=float, nargs="+", default=[MEMORY], help=f"updates ({MEMORY:g})"
    )
    options = parser.parse_args()
    pools: dict[str, list[Path]] = {}
    for run in options.runs:
        pools.setdefault(run.parent.name, []).append(run)
    heads = (
        "memory", "pool", "runs", "of the run", "visits a prompt", "judged", "coins among them",
        "found steady", "area under curve", "weight of coins", "weight of others",
    )  # fmt: skip
    memories = [f"{memory:g}" for memory in options.memory]
    rows = (
        [shown, *row]
        for shown, memory in zip(memories, options.memory, strict=True)
        for pool, runs in pools.items()
        for row in rows_of(pool, runs, memory)
    )
    publish("response", options, ABOUT, heads, rows, words=["--memory", *memories])


if __name__ == "__main__":
    main()
