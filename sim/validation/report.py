"""A validation on screen: one table per family, pass or fail with the statistic and its band."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from sim.validation import FAMILIES
from sim.validation.run import Row


def show(summary: dict[str, Any], figures: dict[str, str], root: Path, console: Console) -> None:
    """Print the tables, what failed, and where the files are."""
    rows = summary["checks"]
    for family, heading in FAMILIES.items():
        mine = [row for row in rows if row["family"] == family]
        if mine:
            console.print("", _table(heading, mine), sep="\n")
    random = sum(row["is_random"] for row in rows)
    console.print(
        "\nA check passes if its statistic lies in the band and that of the control, a wrong formula "
        f"or setting, does not. {random} of {len(rows)} checks are random: each fails by chance with "
        f"probability {summary['false_alarm_per_random_check']:.1e} (4 standard errors), at least one "
        f"of them with at most {summary['false_alarm_at_most']:.1e}. z is the largest of all points, "
        "its band widened for their number.",
        style="dim",
    )
    damaged = summary["damaged"]
    if damaged:
        console.print(
            f"{len(damaged)} of {len(rows)} results kept from before were damaged and have been "
            f"computed again: {', '.join(damaged)}",
            style="yellow",
            soft_wrap=True,
        )
    failed = [row for row in rows if not row["passes"]]
    for row in failed:
        console.print(_complaint(row), style="red", markup=False, soft_wrap=True)
    verdict = f"{len(rows) - len(failed)} of {len(rows)} checks pass"
    console.print(verdict, style="bold red" if failed else "bold green")
    pictures = ", ".join(figures)
    console.print(
        f"Files in {root}: validate.json (these numbers and more), {pictures}, checks/ (arrays)",
        soft_wrap=True,
    )


def _table(heading: str, rows: list[Row]) -> Table:
    """Fits into 80 columns; only the claims fold."""
    table = Table(
        title=heading,
        title_justify="left",
        title_style="bold",
        box=None,
        padding=(0, 1, 0, 0),
        pad_edge=False,
        header_style="underline",
    )
    table.add_column("check", no_wrap=True)
    table.add_column("claims", min_width=7)
    for name in ("measured", "expected", "statistic", "band", "control"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("", no_wrap=True)
    for row in rows:
        style = None if row["passes"] else "bold red"
        statistic = f"{_symbol(row)} {short(row['value'])}"
        cells = [row["name"], " ".join(row["claims"]), short(row["measured"]),
                 short(row["expected"]), statistic, _band(row), short(row["control"]),
                 "pass" if row["passes"] else "FAIL"]  # fmt: skip
        table.add_row(*cells, style=style)
    return table


def _symbol(row: Row) -> str:
    """The statistic in a few letters."""
    words = {"relative error": "error", "largest gain over bound": "ratio", "slope": "slope"}
    if row["statistic"].startswith("chi-square"):
        return "chi2"
    return words.get(row["statistic"], "z")


def _band(row: Row) -> str:
    """``<= high`` or ``low..high``."""
    if row["low"] == 0.0:
        return f"<= {short(row['high'])}"
    return f"{short(row['low'])}..{short(row['high'])}"


def short(value: float | None) -> str:
    """Three digits, one where only the order of magnitude matters.

    Examples
    --------
    >>> short(0.123456), short(1.00000000001), short(41234.4), short(1e-12), short(None)
    ('0.123', '1', '41234', '1e-12', 'none')
    """
    if value is None:
        return "none"
    if 1000.0 <= abs(value) < 1e6:
        return f"{value:.0f}"
    return f"{value:.1g}" if 0.0 < abs(value) < 1e-5 else f"{value:.3g}"


def _complaint(row: Row) -> str:
    """Why a check fails, in one line."""
    name = f"{row['family']}/{row['name']} (claims {', '.join(row['claims'])}): {row['what']}"
    at = f" at {row['where']}" if row["where"] else ""
    if not row["is_control_rejected"]:
        told = f"{row['statistic']} {row['control']}"
        return f"FAIL {name}; the control, {row['control_is']}, is not told apart: {told}"
    return (
        f"FAIL {name}; measured {row['measured']}, expected {row['expected']}{at}; "
        f"{row['statistic']} {row['value']} outside [{row['low']}, {row['high']}]"
    )
