"""A finished study on screen: what is recommended, how sure that is, how much it matters."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from scipy.stats import t

from sim.settings import REFERENCE
from sim.tuning.protocol import Study
from sim.wording import difference_text, speed_up_text


def show(
    study: Study,
    report: dict[str, Any],
    folder: Path,
    pictures: Sequence[Path],
    out: Path,
    console: Console,
) -> None:
    """Print the tables of a finished study, and where everything is."""
    protocol = study.protocol
    console.print(
        f"{study.scheduler} on {protocol.population}, {protocol.policy} policy: {study.trials} trials, "
        f"{protocol.rollouts:,} generated rollouts a run",
        "",
        _candidates(report),
        "",
        sep="\n",
    )
    seeds = study.confirm_seeds
    console.print(f"On {seeds} further seeds, final held-out success [95 %]:")
    rows = [
        (f"{report['chosen']} minus {REFERENCE}", "minus_uniform"),
        (f"{report['chosen']} minus defaults", "minus_defaults"),
        (
            f"{report['chosen']} minus {REFERENCE} in groups of as many",
            "minus_uniform_same_group_size",
        ),
        (f"defaults minus {REFERENCE}", "defaults_minus_uniform"),
    ]
    for text, key in rows:
        is_the_same = report["defaults_won"] and key in ("minus_uniform", "minus_defaults")
        if key in report and not is_the_same:
            console.print(f"  {text:<48} {difference_text(report[key])}", highlight=False)
    for target in report["speed_up"]:
        text = f"recommended: speed-up to {target['fraction']:.0%} of {REFERENCE}'s gain"
        console.print(f"  {text:<48} {speed_up_text(target)}", highlight=False)
    console.print(f"Verdict: {report['verdict']}.", style="bold", soft_wrap=True)
    if report["recommended_minus_uniform"]["high"] < 0.0:
        console.print(
            f"Plain {REFERENCE} sampling does better here than {study.scheduler} as recommended.",
            style="bold",
        )
    if report["told_true_rates"]:
        console.print("This scheduler is told true success rates: a reference, no contender.")
    if report["profiles"]:
        console.print("", _sensitivity(report, protocol.margin), sep="\n")
        console.print(
            f"tolerated: values around the best of the search that lose at most {protocol.margin:g} on "
            f"{len(study.profile_indices)} of these seeds; importance: share of the spread among good "
            "trials (PED-ANOVA).",
            style="dim",
        )
        _point_further(report, console)
    console.print(
        f"Files in {folder}: recommendation.json (these numbers), trials.jsonl and study.db (every "
        f"trial), {', '.join(picture.name for picture in pictures)}, runs/ (every run)",
        soft_wrap=True,
    )
    console.print(f"For the trainer: python -m train run CONFIG --scheduler {out}", soft_wrap=True)


def _point_further(report: dict[str, Any], console: Console) -> None:
    """Say so where a profile found something better: an interval of 95 % over all its values."""
    looks = sum(len(row["value"]) - 1 for row in report["profiles"])
    for row in report["profiles"]:
        if row["loss_standard_error"] is None:  # one seed tells nothing
            continue
        reach = t.ppf(1.0 - 0.025 / looks, len(row["objective_S"][0]) - 1)
        for value, loss, error in zip(
            row["value"], row["loss"], row["loss_standard_error"], strict=True
        ):
            if loss is not None and loss < -reach * error:
                console.print(
                    f"The profile of {row['name']} is {-loss:.4f} ± {error:.4f} higher at {value:.3g} "
                    "than at the best of the search: a larger --trials may find more.",
                    soft_wrap=True,
                )


def _candidates(report: dict[str, Any]) -> Table:
    table = Table(title="The best again on fresh seeds", title_justify="left", box=None,
                  pad_edge=False, header_style="bold underline")  # fmt: skip
    for heading in ("", "trial seeds", "fresh seeds"):
        table.add_column(heading, justify="right" if heading else "left", no_wrap=True)
    table.add_column("settings", overflow="fold")
    for row in report["candidates"]:
        cells = ["diverged" if row[k] is None else f"{row[k]:+.4f}" for k in ("search", "select")]
        options = {"group_size": row["group_size"], **row["options"]}
        mark = " *" if row["label"] == report["chosen"] else ""
        table.add_row(
            row["label"] + mark, *cells, ", ".join(_option(k, v) for k, v in options.items())
        )
    return table


def _option(key: str, value: Any) -> str:
    return f"{key}={value:.3g}" if isinstance(value, float) else f"{key}={value}"


def _sensitivity(report: dict[str, Any], margin: float) -> Table:
    table = Table(title=f"How much each knob matters, through {report['profile_centre']}",
                  title_justify="left", box=None, pad_edge=False,
                  header_style="bold underline")  # fmt: skip
    table.add_column("knob", overflow="fold")
    for heading in ("best", "tolerated", "worst", "it loses", "importance"):
        table.add_column(heading, justify="right", no_wrap=True)
    for row in report["profiles"]:
        worst, name = row["worst"], row["name"]
        loss = "diverged" if worst["loss"] is None else f"{worst['loss']:.4f}"
        if worst["standard_error"] is not None:
            loss += f" ± {worst['standard_error']:.4f}"
        share = report["importance"].get(name, report["importance"].get(f"{name}>0"))
        low, high = row["tolerated"]
        table.add_row(
            name, f"{row['centre']:.3g}", f"{low:.3g} to {high:.3g}", f"{worst['value']:.3g}", loss,
            "" if share is None else f"{share:.2f}",
        )  # fmt: skip
    return table
