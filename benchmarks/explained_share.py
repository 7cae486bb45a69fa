"""Explained share of coins and of other prompts, as `adaptive` has measured it in finished runs.

    python -m benchmarks.explained_share RUN ... [--page docs/results/explained_share.md]

RUN is a folder of ``python -m train run`` with scheduler adaptive, use_moments and task.coins, such as
``runs/league/xeon/coins/adaptive@moments-seed0`` of `make league`. Its latest checkpoint has the two
variances of every prompt (cures/explained_share.py), its task says which prompts are coins.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from benchmarks.finished_runs import parser_of, publish
from cures.checks import FloatArray, fail
from cures.storage import load_state
from figures.league import fingerprint
from train import checkpoint
from train.config import from_dict
from train.folder import read_config
from train.tasks.making import make_task

COIN = 0.5
QUANTILES = (0.1, 0.5, 0.9)
ABOUT = """\
# How much of the score the reward explains: coins and other prompts

Finished runs. Scores by the head of the language model, summed over the groups of a whole run that
had two right and two wrong rollouts at least (`cures/explained_share.py`).
"""


def shares(run: Path) -> dict[str, FloatArray]:
    """``coins`` and ``others`` -> between and total variance of every measured prompt, shape (2, n)."""
    config = read_config(run)
    known_N = make_task(from_dict(config)).known_success_rate_N
    latest = checkpoint.model_folder(run / "checkpoint").parent
    with checkpoint.reading(run / "checkpoint", "scheduler.npz"):
        state = load_state(latest / "scheduler.npz")
    if known_N is None or not (known_N == COIN).any() or "rule/between_N" not in state:
        fail(
            "explained_share", "RUN", "a finished run of adaptive with moments and coins", str(run)
        )
    both_2_N = np.array([state["rule/between_N"], state["rule/total_N"]])
    is_measured_N = both_2_N[1] > 0.0
    is_coin_N = known_N == COIN
    return {
        "coins": both_2_N[:, is_measured_N & is_coin_N],
        "others": both_2_N[:, is_measured_N & ~is_coin_N],
    }


def rows_of(run: Path) -> Iterator[list[str]]:
    """Rows of a run: ratio of the sums, and quantiles over prompts."""
    for kind, (between, total) in shares(run).items():
        cells = [run.name, kind, f"{total.size}", f"{between.sum() / total.sum():.3f}"]
        yield cells + [f"{value:.3f}" for value in np.quantile(between / total, QUANTILES)]


def main() -> None:
    """Print, write the page."""
    options = parser_of(__doc__).parse_args()
    kinds = {fingerprint(read_config(run)) for run in options.runs}
    if len(kinds) > 1:
        fail("explained_share", "RUN", "runs that differ in their seed alone", sorted(kinds))
    heads = ["run", "prompts", "measured", "share of all"]
    heads += [f"{q:.0%} of prompts below" for q in QUANTILES]
    rows = (row for run in options.runs for row in rows_of(run))
    publish("explained_share", options, ABOUT, heads, rows)


if __name__ == "__main__":
    main()
