"""Which memory predicts success rates best, and which one would have been chosen, on finished runs.

    python -m benchmarks.memory_length RUN ... [--page docs/results/memory_length.md]

RUN has an ``outcomes.jsonl`` and its settings: a folder of ``python -m train run``, such as
``runs/league/xeon/natural/uniform-seed100`` of `make league`. Its groups are told in order to the
posterior of scheduler `adaptive` (``cures/memory_length.py``), and to ones whose memory is fixed.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from benchmarks.finished_runs import parser_of, publish, visits_of
from cures.beta_binomial import log_beta_binomial
from cures.checks import InWords, fail
from cures.pool_posterior import PoolPosterior
from cures.schedulers.adaptive import forgotten
from figures.visits import Visits

FIXED = (8.0, 16.0, 32.0, 64.0, 128.0, 512.0)  # updates
QUARTERS = 4
ABOUT = """\
# How long evidence about a success rate should last

Finished runs. *chosen*: mean logarithm of the chance that the posterior of `adaptive` gave to a
group of a prompt that was seen before; then that of fixed memories of so many updates, minus it;
then what was chosen (`cures/memory_length.py`).
"""


def told(
    seen: Visits, num_prompts: int, batch_size: int, memory: float | None
) -> tuple[float, list[float]]:
    """Mean logarithm of what was given to every later group, and the memory after every quarter.

    Parameters
    ----------
    seen : Visits
    num_prompts, batch_size : int
    memory : float or None
        Updates; None: chosen along the way.
    """
    posterior = PoolPosterior(
        num_prompts,
        visits_per_step=batch_size,
        forgetting=forgotten(num_prompts, batch_size) if memory is None else -np.expm1(-1 / memory),
        choose_memory=memory is None,
    )
    is_seen_N = np.zeros(num_prompts, dtype=bool)
    total, groups, lengths = 0.0, 0, []
    for step, (prompt, success, trial) in enumerate(seen.by_step()):
        if prompt.size:
            alpha, beta = posterior.alpha_beta(prompt)
            is_again = is_seen_N[prompt]
            total += float(log_beta_binomial(success, trial, alpha, beta)[is_again].sum())
            groups += int(is_again.sum())
            is_seen_N[prompt] = True
            posterior.update(prompt, success, trial)
        posterior.advance()
        if (step + 1) * QUARTERS // seen.steps > step * QUARTERS // seen.steps:
            lengths.append(memory if posterior.memory is None else posterior.memory.updates)
    if not groups:
        fail("memory_length", "RUN", "a run that saw prompts twice", InWords("none"))
    return total / groups, [float(length) for length in lengths if length is not None]


def cells_of(run: Path) -> list[str]:
    """A row of the table: predictions beside those of the chosen memory, and what was chosen."""
    seen, size, batch = visits_of(run)
    chosen, lengths = told(seen, size, batch, None)
    fixed = [told(seen, size, batch, memory)[0] - chosen for memory in FIXED]
    return [
        f"{run.parent.name}/{run.name}",
        f"{chosen:.3f}",
        *(f"{value:+.3f}" for value in fixed),
        " ".join(f"{length:.0f}" for length in lengths),
    ]


def main() -> None:
    """Print, write the page."""
    options = parser_of(__doc__).parse_args()
    heads = ["run", "chosen", *(f"{memory:g}" for memory in FIXED), "updates chosen, by quarter"]
    publish("memory_length", options, ABOUT, heads, map(cells_of, options.runs))


if __name__ == "__main__":
    main()
