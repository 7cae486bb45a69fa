"""The report of a run: one page that stands alone, and a CSV with the posterior of every prompt.

::

    python -m figures report RUN [--out FOLDER]

The page has neither scripts nor links out of it; its plots stand in it. Whatever comes from the run, its
questions above all, is escaped.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from cures.ledger import FATES, PURPOSES, shares
from cures.response import MIDDLE, Response
from cures.storage import atomic_write
from figures import report_plots
from figures.report_run import ReportedRun, read_run
from figures.run_folders import PARTS, cpu_clock, scheduler_options
from figures.training_table import wasted
from figures.visits import replay
from figures.wasteful_prompts import (
    COIN_LIKE,
    INTERVAL,
    KINDS,
    LIKELY,
    PromptTable,
    interval,
    posterior_csv,
)
from sim.run_folder import refuse_unwritable

PAGE, CSV = "report.html", "posterior.csv"
STYLE = Path(__file__).parent / "report.css"
MOST = 50  # prompts in the table
LONGEST = 300  # characters of a question that are shown
UNKNOWN = "—"
# what a reader looks for first; everything else is in the fold
FIRST = (
    ("scheduler", "name"), ("scheduler", "batch_size"), ("scheduler", "budget"), ("task", "kind"),
    ("model", "kind"), ("learner", "estimator"), ("learner", "learning_rate"), ("run", "seed"),
)  # fmt: skip


def write(run: Path, out: Path) -> tuple[Path, Path]:
    """Write ``report.html`` and ``posterior.csv`` of a run into a folder.

    Parameters
    ----------
    run : Path
        Folder of ``python -m train run``, of a finished run or of one with a checkpoint.
    out : Path
        Made if it is not there; its two files are replaced.

    Raises
    ------
    ValueError
        If ``run`` is not such a folder, or lacks what a report shows (:func:`read_run`).
    """
    refuse_unwritable("report", "--out", out)
    reported = read_run(run)
    response = Response(len(reported.posterior))
    batch_size = reported.config["scheduler"]["batch_size"]
    for _, believed in replay(reported.seen, len(reported.posterior), batch_size):
        response = believed
    table = PromptTable.of(reported.seen, response)
    out.mkdir(parents=True, exist_ok=True)
    paths = out / PAGE, out / CSV
    atomic_write(paths[0], page(reported, table, response.share).encode())
    atomic_write(paths[1], posterior_csv(table, reported.posterior).encode())
    return paths


def page(run: ReportedRun, table: PromptTable, share: float) -> str:
    """The page; ``share`` of steady prompts as :class:`cures.response.Response` estimates it."""
    config = run.config
    title = f"{config['scheduler']['name']}, seed {config['run']['seed']}"
    body = [
        f"<h1>{escape(title)}</h1>",
        f'<p class="where">{escape(run.folder.as_posix())}</p>',
        *_state(run),
        *_summary(run),
        "<h2>Course of the run</h2>",
        *_plots(run, len(table)),
        *_prompts(run, table, share),
        *_settings(config),
    ]
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>Run report: {escape(title)}</title>\n"
        f"<style>\n{STYLE.read_text()}</style>\n</head>\n<body>\n" + "\n".join(body) + "\n"
        "</body>\n</html>\n"
    )


def _state(run: ReportedRun) -> Iterator[str]:
    if not run.is_finished:
        planned = run.config["run"]["rollouts"]
        yield _note(
            f"This run is not finished: it was interrupted, or is still going on. Everything here is "
            f"as at its latest checkpoint, after update {len(run.metrics)}, at "
            f"{run.ledger.generated:,} of {planned:,} rollouts."
        )
    for note in run.notes:
        yield _note(note)


def _summary(run: ReportedRun) -> Iterator[str]:
    ledger = run.ledger
    first, last = run.evaluation[0], run.evaluation[-1]
    held_out = (
        f"{first['held_out']:.3f} → {last['held_out']:.3f} ± {last['standard_error']:.3f}"
        if len(run.evaluation) > 1
        else f"{first['held_out']:.3f} ± {first['standard_error']:.3f}"
    )
    has_updates = any(row["trained"] for row in run.metrics)
    numbers = {
        "held-out success, first → last": held_out,
        "updates": f"{len(run.metrics):,}",
        "rollouts generated": f"{ledger.generated:,}",
        "of them pilots": _percent(ledger.pilots, ledger.generated),
        "of them trained on": _percent(ledger.trained, ledger.generated),
        "of the trained, wasted (advantage 0)": (
            f"{wasted({'metrics': run.metrics}):.1%}" if has_updates else UNKNOWN
        ),
        "tokens generated": f"{ledger.tokens:,}",
        **_times(run.timing),
    }
    yield '<h2>Summary</h2>\n<div class="side">'
    yield from _table(("", ""), numbers.items(), numbers=(1,), has_head=False)
    yield "<div>"
    flat = ledger.as_dict()
    rows = [
        [purpose, *(f"{flat[f'{purpose}/{fate}']:,}" for fate in FATES)] for purpose in PURPOSES
    ]
    rows = [row for row in rows if row[0] != "oracle" or row[1] != "0"]
    yield from _table(("rollouts for", *FATES), rows, numbers=range(1, 5))
    pending = f"{ledger.pending:,} wait in a live group. " if ledger.pending else ""
    oracle = "What the oracle asked for is outside the budget. " if len(rows) > 2 else ""
    yield f'<p class="soft">{pending}{oracle}Every rollout is counted once, by purpose and fate.</p>'
    if ledger.generated:
        shares(flat)  # a ledger that does not add up is no report
    yield "</div></div>"


def _times(timing: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """Between first and last update by the clock; processor time, which each process counts from 0."""
    if not timing:
        return {"time": UNKNOWN}
    result = {
        "first to last update, pauses included": _duration(
            timing[-1]["unix_time_s"] - timing[0]["unix_time_s"]
        )
    }
    for part in PARTS:
        result[f"processor time, {part}s"] = _duration(cpu_clock(timing, (part,))[-1])
    return result


def _plots(run: ReportedRun, num_prompts: int) -> Iterator[str]:
    x = "x axis: rollouts generated for any purpose."
    yield '<div class="plots">'
    yield _figure(
        report_plots.held_out(run.evaluation),
        "Held-out success",
        f"Success rate on questions never trained on, ± one standard error; {x}",
    )
    if run.metrics:
        yield _figure(
            report_plots.reward_and_wasted(run.metrics),
            "Reward and wasted share",
            "Mean reward of the rollouts trained on, and the share of them whose advantage is 0.",
        )
    if run.metrics and len(run.seen) and run.seen.step_V[0] < len(run.metrics):
        yield _figure(
            report_plots.mixed_groups(run.metrics, run.seen),
            "Mixed groups of an update",
            "Prompts visited at one state of the policy, and those with right and wrong answers.",
        )
        yield _figure(
            report_plots.sample_size(run.metrics, run.seen, num_prompts),
            "Effective sample size of the visits",
            f"Prompts that the visits so far amount to, (Σ v)² / Σ v², of {num_prompts:,} in the pool; "
            "lower than what was visited where visits are uneven. Dotted, where the scheduler has a "
            "distribution: what its chances amount to.",
        )
    if report_plots.first_and_last(run.seen)[0].size:
        yield _figure(
            report_plots.success_rates(run.seen),
            "Success rates of the pool, first against last",
            "Prompts visited at least twice, by the share of right answers in their first and their "
            "last visit; above the diagonal: learned. Colours are logarithmic.",
        )
    yield "</div>"


def _prompts(run: ReportedRun, table: PromptTable, share: float) -> Iterator[str]:
    yield "<h2>Prompts by class</h2>"
    total = int(table.rollouts_N.sum())
    rows = []
    for kind, name in enumerate(KINDS):
        is_kind_N = table.kind_N == kind
        count, rollouts, lost = (
            int(values.sum())
            for values in (is_kind_N, table.rollouts_N[is_kind_N], table.wasted_N[is_kind_N])
        )
        rows.append((name, f"{count:,}", f"{rollouts:,}", f"{lost:,}", _percent(lost, total)))
    heads = ("class", "prompts", "rollouts", "wasted", "of all rollouts")
    yield from _table(heads, rows, numbers=range(1, 5))
    yield from _meanings(run)
    if share > 0.5:
        yield _note(
            f"{share:.0%} of the prompts of a middling rate look steady. Where a policy hardly moves, "
            "most of them do, and “coin-like” says little."
        )
    named = table.most_wasteful(MOST)
    yield "<h2>The most wasteful prompts</h2>"
    if not named.size:
        yield "<p>No prompt is dead, mastered or coin-like.</p>"
        return
    columns = ["prompt", "question", "class", "visits", "rollouts", "successes", "wasted"]
    columns += ["posterior mean", f"{INTERVAL:.0%} interval"]
    mean, (low, high) = run.posterior.mean(named), interval(run.posterior, named)
    lines: list[list[str]] = []
    for i, prompt in enumerate(named.tolist()):
        counts = (array[prompt] for array in (
            table.visits_N, table.rollouts_N, table.success_N, table.wasted_N
        ))  # fmt: skip
        lines.append(
            [
                str(prompt),
                UNKNOWN if run.text_of is None else _shortened(run.text_of(prompt)),
                KINDS[table.kind_N[prompt]],
                *(f"{count:,}" for count in counts),
                f"{mean[i]:.3f}",
                f"{low[i]:.3f} to {high[i]:.3f}",
            ]
        )
    yield from _table(columns, lines, numbers=(0, *range(3, 9)), texts=(1,))
    yield (
        f'<p class="soft">{named.size} prompts, of every class alike where it has so many; ties by '
        f"number. Posterior: {escape(run.posterior_is)}. All {len(table):,} prompts are in {CSV} "
        "beside this page.</p>"
    )


def _meanings(run: ReportedRun) -> Iterator[str]:
    own = scheduler_options(run.config)
    has_group_baseline = run.config["learner"]["estimator"] != "reinforce++"
    meanings = {
        KINDS[0]: "never right.",
        KINDS[1]: "always right.",
        KINDS[COIN_LIKE]: (
            f"right at a rate between {MIDDLE[0]:g} and {MIDDLE[1]:g} that more likely stays than "
            f"moves with the policy (chance above {LIKELY:g}): like a coin flip, it may teach nothing."
        ),
        "visit": "all that came back of a prompt at one state of the policy, pilots included.",
        "wasted": (
            "rollouts of visits all right or all wrong, in which a group baseline leaves no "
            "advantage; of a coin-like prompt, all."
        ),
    }
    if not has_group_baseline or own.get("baseline") == "posterior":
        meanings["wasted"] += (
            " The baseline of this run is not the group's: such visits had advantages all the same."
        )
    yield "<dl>"
    for word, meaning in meanings.items():
        yield f"<dt>{escape(word)}</dt><dd>{escape(meaning)}</dd>"
    yield "</dl>"


def _settings(config: Mapping[str, Any]) -> Iterator[str]:
    yield "<h2>Settings</h2>"
    chosen = [(f"{s}.{k}", str(config[s][k])) for s, k in FIRST if k in config.get(s, {})]
    name, own = config["scheduler"]["name"], scheduler_options(config)
    chosen += [(f"scheduler.{name}.{k}", str(v)) for k, v in sorted(own.items())]
    chosen.append(("run.rollouts", f"{config['run']['rollouts']:,}"))
    yield from _table(("", ""), chosen, has_head=False)
    yield "<details><summary>All settings</summary>"
    yield from _table(("", ""), _flat(config), has_head=False)
    yield "</details>"


def _flat(content: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    for key, value in content.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", UNKNOWN if value is None else str(value)


def _table(
    heads: Sequence[str],
    rows: Iterable[Iterable[str]],
    *,
    numbers: Iterable[int] = (),
    texts: Iterable[int] = (),
    has_head: bool = True,
) -> Iterator[str]:
    """A table of plain text, escaped here; the first column names its row."""
    kinds = {**dict.fromkeys(numbers, "number"), **dict.fromkeys(texts, "text")}
    attribute = {i: f' class="{kinds[i]}"' if i in kinds else "" for i in range(len(heads))}
    yield '<div class="scroll"><table>'
    if has_head:
        cells = "".join(
            f'<th scope="col"{attribute[i]}>{escape(head)}</th>' for i, head in enumerate(heads)
        )
        yield f"<thead><tr>{cells}</tr></thead>"
    yield "<tbody>"
    for row in rows:
        first, *others = (escape(cell) for cell in row)
        cells = "".join(f"<td{attribute[i]}>{cell}</td>" for i, cell in enumerate(others, start=1))
        yield f'<tr><th scope="row"{attribute[0]}>{first}</th>{cells}</tr>'
    yield "</tbody></table></div>"


def _figure(figure: Figure, title: str, caption: str) -> str:
    return (
        f'<figure><img src="{report_plots.data_uri(figure)}" alt="{escape(title)}">'
        f"<figcaption><b>{escape(title)}.</b> {escape(caption)}</figcaption></figure>"
    )


def _note(text: str) -> str:
    return f'<p class="note">{escape(text)}</p>'


def _shortened(text: str) -> str:
    return text if len(text) <= LONGEST else text[:LONGEST] + " …"


def _percent(part: int, whole: int) -> str:
    return f"{part / whole:.1%}" if whole else UNKNOWN


def _duration(seconds: float) -> str:
    """Hours, minutes and seconds.

    Examples
    --------
    >>> _duration(3725.2), _duration(9.84)
    ('1 h 02 min', '9.8 s')
    """
    if seconds < 60.0:
        return f"{seconds:.1f} s"
    minutes = int(np.floor(seconds / 60.0))
    if minutes < 60:
        return f"{minutes} min {int(seconds) % 60:02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"
