"""Which memory predicts success rates best, and which one would have been chosen, on finished runs.

    python -m benchmarks.memory_length RUN ... [--page docs/results/memory_length.md]

RUN has an ``outcomes.jsonl`` and its settings: a folder of ``python -m train run``, such as
``runs/league/natural/uniform-seed100`` of `make league`. Its groups are told in order to the posterior
of scheduler `adaptive` (``cures/memory_length.py``), and to ones whose memory is fixed.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from cures.beta_binomial import log_beta_binomial
from cures.checks import fail
from cures.pool_posterior import PoolPosterior
from cures.schedulers.adaptive import forgotten
from cures.storage import atomic_write, read_jsonl
from figures.provenance import commit
from figures.run_folders import read_fields
from figures.visits import Visits
from train.folder import read_config

FIXED = (8.0, 16.0, 32.0, 64.0, 128.0, 512.0)  # updates
QUARTERS = 4


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
    for step in range(seen.steps):
        now = slice(seen.start_of(step), seen.start_of(step + 1))
        prompt, success, trial = seen.prompt_V[now], seen.success_V[now], seen.trial_V[now]
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
        fail("memory_length", "RUN", "a run that saw prompts twice", "none")
    return total / groups, [float(length) for length in lengths if length is not None]


def row_of(run: Path) -> str:
    """A row of the table: predictions beside those of the chosen memory, and what was chosen."""
    size = read_fields(run / "questions.json", ("prompts",))["prompts"]
    batch = read_config(run)["scheduler"]["batch_size"]
    seen = Visits.of(read_jsonl(run / "outcomes.jsonl"), size)
    chosen, lengths = told(seen, size, batch, None)
    cells = [f"{run.parent.name}/{run.name}", f"{chosen:.3f}"]
    cells += [f"{told(seen, size, batch, memory)[0] - chosen:+.3f}" for memory in FIXED]
    cells += [" ".join(f"{length:.0f}" for length in lengths)]
    return "| " + " | ".join(cells) + " |"


def main() -> None:
    """Print, write the page."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("runs", type=Path, nargs="+", help="finished runs")
    parser.add_argument("--page", type=Path, help="markdown page to write")
    options = parser.parse_args()
    heads = ["run", "chosen", *(f"{memory:g}" for memory in FIXED), "updates chosen, by quarter"]
    runs = " ".join(run.as_posix() for run in options.runs)
    text = "\n".join(
        [
            "# How long evidence about a success rate should last",
            "",
            "Finished runs of the tiny language model. *chosen*: mean logarithm of the chance",
            "that the posterior of `adaptive` gave to a group of a prompt that was seen before;",
            "then that of fixed memories of so many updates, minus it; then what was chosen",
            "(`cures/memory_length.py`).",
            "",
            f"Command: `python -m benchmarks.memory_length {runs}`, after `make league`.",
            f"Commit: `{commit()}`. No number depends on the machine's speed.",
            "",
            "| " + " | ".join(heads) + " |",
            "|---" * len(heads) + "|",
            *(row_of(run) for run in options.runs),
            "",
        ]
    )
    print(text)
    if options.page is not None:
        atomic_write(options.page, text.encode())


if __name__ == "__main__":
    main()
