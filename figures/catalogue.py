"""Every figure of the paper and of its reviewers' questions: what draws it, from which runs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from matplotlib.figure import Figure

from cures.checks import InWords, fail
from cures.storage import write_json
from figures import (
    ablation,
    adaptive_pieces,
    against_gvm,
    boundary,
    estimated_rates,
    gradient_norms,
    language_model,
    learning_curves,
    learning_rates,
    method_shapes,
    pilots_and_group_size,
    quota_by_iteration,
    quota_by_success_rate,
    reaching_the_best,
    steps_or_rollouts,
    subset_cuts,
    update_budgets,
)
from figures.provenance import commit, runs_record
from figures.style import save_both

Arrays = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Source:
    """Runs that one command makes.

    Attributes
    ----------
    folder : Path
        Where they lie unless told otherwise.
    command : str
        Of ``python -m figures``.
    option : str
        That names another folder, of ``python -m figures all``.
    """

    folder: Path
    command: str
    option: str


SOURCES = {
    "paper": Source(Path("runs/paper"), "runs", "--runs"),
    "tiny_lm": Source(Path("runs/tiny_lm"), "tiny_lm", "--tiny-lm-runs"),
    "lm": Source(Path("runs/lm"), "lm_runs", "--lm-runs"),
}


@dataclass(frozen=True, slots=True)
class Entry:
    """A figure.

    Attributes
    ----------
    name : str
        On the command line, and of its files.
    title : str
    runs : tuple of str
        Patterns of the run folders below the root; each must match.
    source : str
        Which of :data:`SOURCES` they lie in.
    compute, draw, caption, finding : callable
        Folders -> arrays -> figure, what it shows, what came out.
    """

    name: str
    title: str
    runs: tuple[str, ...]
    compute: Callable[[list[Path]], Arrays]
    draw: Callable[[Arrays], Figure]
    caption: Callable[[Arrays], str]
    finding: Callable[[Arrays], str]
    source: str = "paper"

    @classmethod
    def of(cls, name: str, title: str, module: ModuleType, *runs: str) -> Entry:
        """An entry whose four functions are a module's."""
        functions = (module.compute, module.draw, module.caption, module.finding)
        return cls(name, title, runs, *functions)


_MAIN = (
    "against-skills-grpo",
    "against-skills-rpp",
    "against-u_shaped-grpo",
    "against-u_shaped-rpp",
)
ENTRIES = (
    Entry.of("fig1", "Fig. 1: sampling and quotas of CurES, SPEED, GVM", method_shapes),
    Entry.of("fig2", "Fig. 2: learning curves against GVM", against_gvm, *_MAIN),
    Entry.of(
        "fig3",
        "Fig. 3: estimated success rates over the iterations",
        estimated_rates,
        "trace-skills",
        "trace-u_shaped",
    ),
    Entry.of(
        "fig4",
        "Fig. 4: quota against success rate, natural pool",
        quota_by_iteration,
        "trace-skills",
    ),
    Entry.of("fig5", "Fig. 5: N' and n, natural pool", pilots_and_group_size, "grid-skills-n*"),
    Entry.of(
        "fig6",
        "Fig. 6: updates and rollouts to the baseline's best, natural pool",
        reaching_the_best,
        *_MAIN[:2],
    ),
    Entry.of("fig7", "Fig. 7: gradient norms", gradient_norms, _MAIN[0], _MAIN[2]),
    Entry.of(
        "fig8",
        "Fig. 8: quota against success rate, U-shaped pool",
        quota_by_iteration,
        "trace-u_shaped",
    ),
    Entry.of("fig9", "Fig. 9: N' and n, U-shaped pool", pilots_and_group_size, "grid-u_shaped-n*"),
    Entry.of(
        "fig10",
        "Fig. 10: updates and rollouts to the baseline's best, U-shaped pool",
        reaching_the_best,
        *_MAIN[2:],
    ),
    Entry.of(
        "best-dead",
        "Where CurES pays: updates and rollouts to the baseline's best, dead prompts, SGD",
        reaching_the_best,
        "dead-sgd-grpo",
        "dead-sgd-rpp",
    ),
    Entry.of(
        "ablation",
        "Sampling only, quota only, both",
        ablation,
        "ablation-skills-*",
        "ablation-u_shaped-*",
        "ablation-dead-*",
    ),
    Entry.of("axes", "Rollouts instead of updates", steps_or_rollouts, "budget-x1"),
    Entry.of(
        "budgets", "Methods and baselines under different budgets", update_budgets, "budget-x*"
    ),
    Entry.of("cuts", "How the pool is cut into subsets", subset_cuts, "subsets", "cut-seed*"),
    Entry.of("pieces", "`adaptive` piece by piece", adaptive_pieces, "pieces-*"),
    Entry.of("boundary", "When curricula help, and when they cannot", boundary, "boundary-*"),
    Entry.of(
        "learning-rates", "A curriculum, or a larger learning rate?", learning_rates, "rates-*"
    ),
    Entry(
        "lm-curves",
        "Tiny language model: learning curves",
        ("*-seed*",),
        learning_curves.compute,
        learning_curves.draw,
        language_model.curves_caption,
        language_model.curves_finding,
        source="tiny_lm",
    ),
    Entry(
        "lm-rates",
        "Tiny language model: estimated success rates over the iterations",
        ("cures-seed*",),
        language_model.rates,
        estimated_rates.draw,
        estimated_rates.caption,
        estimated_rates.finding,
        source="tiny_lm",
    ),
    Entry(
        "lm-quota",
        "Tiny language model: quota against success rate",
        ("*-seed*",),
        quota_by_success_rate.compute,
        quota_by_success_rate.draw,
        language_model.quota_caption,
        language_model.quota_finding,
        source="tiny_lm",
    ),
    Entry(
        "lm-norms",
        "Tiny language model: gradient norms",
        ("*-seed*",),
        language_model.norms,
        gradient_norms.draw,
        gradient_norms.caption,
        gradient_norms.finding,
        source="tiny_lm",
    ),
    Entry(
        "lm-grid",
        "Tiny language model: N' and n",
        ("grid-n*",),
        language_model.grid,
        pilots_and_group_size.draw,
        language_model.grid_caption,
        pilots_and_group_size.finding,
        source="lm",
    ),
    Entry(
        "lm-best",
        "Tiny language model: updates and rollouts to the baseline's best",
        ("best", "best-dev"),
        language_model.best,
        reaching_the_best.draw,
        language_model.best_caption,
        reaching_the_best.finding,
        source="lm",
    ),
    Entry(
        "lm-quota-iterations",
        "Tiny language model: quota against success rate, by iteration",
        ("trace",),
        language_model.quota,
        quota_by_iteration.draw,
        quota_by_iteration.caption,
        quota_by_iteration.finding,
        source="lm",
    ),
)
BY_NAME = {entry.name: entry for entry in ENTRIES}


def folders_of(entry: Entry, root: Path) -> list[Path]:
    """Run folders of a figure.

    Raises
    ------
    ValueError
        If one is missing; the sentence says which command makes it.
    """
    folders: list[Path] = []
    for pattern in entry.runs:
        found = sorted(path for path in root.glob(pattern) if path.is_dir())
        if not found:
            command = SOURCES[entry.source].command
            legal = f"with run folders {pattern} for {entry.name} (python -m figures {command})"
            fail("figures", str(root), legal, InWords("none"))
        folders += [path for path in found if path not in folders]
    return folders


def render(entry: Entry, folders: list[Path], out: Path, command: str) -> list[Path]:
    """Draw a figure: PNG, PDF, and a JSON file that says what it shows and what made it.

    Returns
    -------
    list of Path
        The three files.
    """
    arrays = entry.compute(folders)
    png, pdf = save_both(entry.draw(arrays), out, entry.name)
    record = {
        "figure": entry.name,
        "title": entry.title,
        "caption": " ".join(entry.caption(arrays).split()),
        "finding": " ".join(entry.finding(arrays).split()),
        "command": command,
        "drawn_at": commit(),
        **runs_record(folders),
    }
    write_json(out / f"{entry.name}.json", record)
    return [png, pdf, out / f"{entry.name}.json"]
