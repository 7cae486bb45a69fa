"""A model's numbers beside the paper's Table 1, as markdown and as plain values."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from train.benchmarks.definitions import BENCHMARKS
from train.benchmarks.interval import Estimate, mean_of
from train.benchmarks.paper import LABELS, TABLE_1
from train.benchmarks.scores import CONFIDENCE, Score

CAVEAT = f"""\
Percent. `pass@1` is the mean over problems of the mean over a problem's judged answers; intervals \
({CONFIDENCE:.0%}) are over problems and samples. Truncated answers are wrong; an answer that engine or \
verifier lost is left out, and the bounds say what it could have changed. Averages give every benchmark \
the same weight, as the paper's do.

**The rows of the paper were not measured here and are no controls.** They are copied from its Table 1 \
(without intervals). Model, prompt, decoding, answer limit, verifier, data files and \
treatment of truncated answers may all differ: the paper states no decoding for its evaluation. Compare \
two models by running both here."""


def average(scores: Mapping[str, Score]) -> Estimate | None:
    """Mean of the benchmarks' pass@1, each with the same weight; None unless all have one.

    Parameters
    ----------
    scores : mapping of str to Score
        By the benchmark's name; at least one.
    """
    found = [score.pass_at_1 for score in scores.values()]
    return mean_of([e for e in found if e is not None]) if None not in found else None


def paper_rows(names: list[str]) -> dict[str, dict[str, dict[str, float]]]:
    """Table 1 for some benchmarks, in percent: size -> method -> name of the benchmark -> value.

    ``average`` is recomputed over these benchmarks; ``printed`` is the paper's own over all eight, and
    only there with all eight.
    """
    rows: dict[str, dict[str, dict[str, float]]] = {}
    for size, methods in TABLE_1.items():
        for method, values in methods.items():
            by_label = dict(zip(LABELS, values[:-1], strict=True))
            row = {name: by_label[BENCHMARKS[name].label] for name in names}
            row["average"] = sum(row.values()) / len(names)
            if len(names) == len(LABELS):
                row["printed"] = values[-1]
            rows.setdefault(size, {})[method] = row
    return rows


def as_dict(model: str, scores: Mapping[str, Score]) -> dict[str, Any]:
    """Everything that :func:`markdown` says and more, for a JSON file."""
    mean = average(scores)
    return {
        "model": model,
        "confidence": CONFIDENCE,
        "benchmarks": {name: score.as_dict() for name, score in scores.items()},
        "average": None
        if mean is None
        else {"value": mean.value, "low": mean.low, "high": mean.high},
        "paper_percent": paper_rows(list(scores)),
        "caveat": CAVEAT,
    }


def markdown(model: str, scores: Mapping[str, Score]) -> str:
    """The table, and what to bear in mind.

    Parameters
    ----------
    model : str
    scores : mapping of str to Score
        By the benchmark's name, at least one.
    """
    names = list(scores)
    heads = [_head(name, scores[name]) for name in names]
    lines = [_row(["", *heads, "average"]), "|---" * (len(names) + 2) + "|"]
    mean = average(scores)
    estimates = [score.pass_at_1 for score in scores.values()]
    lines.append(_row([f"**{model}**, pass@1", *map(_value, estimates), _value(mean)]))
    lines.append(_row(["interval", *map(_interval, estimates), _interval(mean)]))
    if any(score.missing for score in scores.values()):
        cells = [_pair(score.lowest, score.highest) for score in scores.values()]
        bounds = [
            sum(side) / len(scores)
            for side in zip(*((s.lowest, s.highest) for s in scores.values()), strict=True)
        ]
        lines.append(_row(["bounds: missing wrong, right", *cells, _pair(*bounds)]))
    if any(score.truncated for score in scores.values()):
        shown = [score.with_truncated for score in scores.values()]
        whole = None if None in shown else sum(x for x in shown if x is not None) / len(shown)
        lines.append(
            _row(["truncated judged by their text", *map(_percent, shown), _percent(whole)])
        )
    for k in sorted({k for score in scores.values() for k in score.pass_at_k if k > 1}):
        cells = [_value(s.pass_at_k.get(k)) for s in scores.values()]
        lines.append(_row([f"pass@{k}", *cells, ""]))
    for size, methods in paper_rows(names).items():
        for method, row in methods.items():
            cells = [f"{row[name]:.2f}" for name in names]
            lines.append(_row([f"paper, {size}, {method}", *cells, f"{row['average']:.2f}"]))
    return "\n".join(lines) + f"\n\n{_counts(scores)}\n\n{CAVEAT}\n"


def _head(name: str, score: Score) -> str:
    size = BENCHMARKS[name].problems
    problems = f"{score.problems}" if score.problems == size else f"{score.problems} of {size}"
    return f"{BENCHMARKS[name].label} ({problems} x {score.samples})"


def _counts(scores: Mapping[str, Score]) -> str:
    """What became of the answers, and where samples or problems are not the paper's."""
    lines = []
    for name, score in scores.items():
        benchmark = BENCHMARKS[name]
        tokens = "" if score.mean_tokens is None else f", {score.mean_tokens:.0f} tokens on average"
        line = (
            f"- {benchmark.label}: {score.answers} answers, {score.missing} missing, "
            f"{score.truncated} truncated, {score.without_box} without a boxed answer{tokens}."
        )
        if score.unanswered:
            line += f" Without a published answer, hence always wrong: {score.unanswered} problems."
        if (score.problems, score.samples) != (benchmark.problems, benchmark.samples):
            line += f" The paper: {benchmark.problems} problems x {benchmark.samples}."
        lines.append(line)
    return "\n".join(lines)


def _row(cells: list[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _percent(rate: float | None) -> str:
    return "" if rate is None else f"{100 * rate:.2f}"


def _pair(low: float, high: float) -> str:
    return f"{100 * low:.2f} to {100 * high:.2f}"


def _value(estimate: Estimate | None) -> str:
    return "" if estimate is None else _percent(estimate.value)


def _interval(estimate: Estimate | None) -> str:
    return "" if estimate is None else _pair(estimate.low, estimate.high)
