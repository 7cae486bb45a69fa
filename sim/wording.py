"""Numbers of a comparison in words, for the screen and for the pages of docs/results."""

from __future__ import annotations

from math import isfinite
from typing import Any

from cures.comparison import seeds_needed

BOUND = {"exact": "", "at least": "≥ ", "at most": "≤ "}
TOLD = "told the true rates"


def verdict_text(row: dict[str, Any]) -> str:
    """Verdict of an arm; none for the reference and for arms that are no contenders.

    Parameters
    ----------
    row : dict
        An arm of ``comparison.json``.
    """
    if "difference" not in row:
        return "reference"
    return TOLD if row["told_true_rates"] else str(row["difference"]["verdict"])


def difference_text(difference: dict[str, Any] | None, *, digits: int = 4) -> str:
    """Mean with its interval, without one where too few seeds leave it open: ends None or not finite.

    Examples
    --------
    >>> difference_text({"mean": 0.01, "low": -0.002, "high": 0.022}, digits=3)
    '+0.010 [-0.002, +0.022]'
    >>> difference_text({"mean": 0.01, "low": None, "high": None}, digits=3)
    '+0.010'
    """
    if difference is None:
        return ""
    mean, low, high = difference["mean"], difference["low"], difference["high"]
    if any(end is None or not isfinite(end) for end in (low, high)):
        return f"{mean:+.{digits}f}"
    return f"{mean:+.{digits}f} [{low:+.{digits}f}, {high:+.{digits}f}]"


def speed_up_text(target: dict[str, Any] | None) -> str:
    """Ratio with interval, bound sign and censored counts; the reference's median without a ratio.

    Parameters
    ----------
    target : dict, optional
        An entry of an arm's ``targets`` in ``comparison.json``; ``None`` where there is no target.
    """
    if target is None:
        return ""
    if "ratio" not in target:
        out = f" ({target['censored']} out)" if target["censored"] else ""
        return f"{target['median']:,.0f}{out}"
    out = ""
    if target["reference_censored"] or target["arm_censored"]:
        out = f" ({target['reference_censored']}, {target['arm_censored']} out)"
    if target["ratio"] is None:
        return f"undefined{out}"
    text = f"{BOUND[target['bound']]}{target['ratio']:.2f}"
    if target["seeds"] >= seeds_needed():
        high = "inf" if target["high"] is None else f"{target['high']:.2f}"
        text += f" [{target['low']:.2f}, {high}]"
    return text + out


def sign_text(difference: dict[str, Any] | None) -> str:
    """Seeds won, tied and lost against the reference, with the two-sided exact sign test.

    Examples
    --------
    >>> sign_text({"wins": 7, "ties": 0, "losses": 1, "sign_p_value": 0.0703125})
    '7-0-1 p=0.070'
    >>> sign_text({"wins": 32, "ties": 0, "losses": 0, "sign_p_value": 4.7e-10})
    '32-0-0 p<0.001'
    """
    if difference is None:
        return ""
    counts = "-".join(str(difference[key]) for key in ("wins", "ties", "losses"))
    return f"{counts} {p_text(difference['sign_p_value'], name='p')}"


def p_text(p_value: float | None, *, name: str = "") -> str:
    """A p-value to three digits, with a name or for a column that has it; empty without one.

    Examples
    --------
    >>> p_text(0.031), p_text(0.031, name="p"), p_text(0.0004), p_text(0.0004, name="p"), p_text(None)
    ('0.031', 'p=0.031', '<0.001', 'p<0.001', '')
    """
    if p_value is None:
        return ""
    if p_value < 0.001:
        return f"{name}<0.001"
    return f"{name}={p_value:.3f}" if name else f"{p_value:.3f}"


def coverage_text(posterior: dict[str, Any] | None) -> str:
    """Coverage of the central intervals, levels ascending; empty without a posterior.

    Examples
    --------
    >>> coverage_text({"coverage": {"0.5": 0.481, "0.8": 0.77, "0.95": 0.9}})
    '.48 .77 .90'
    """
    if posterior is None:
        return ""
    values = list(posterior["coverage"].values())
    if any(value is None for value in values):
        return ""
    return " ".join(f"{value:.2f}".removeprefix("0") for value in values)


def excess_text(posterior: dict[str, Any] | None, score: str) -> str:
    """A score of the posterior's forecasts per rollout, less that of the true success rates.

    Examples
    --------
    >>> excess_text({"log_loss": 0.52, "log_loss_truth": 0.5}, "log_loss")
    '+0.0200'
    """
    if posterior is None or posterior[score] is None:
        return ""
    return f"{posterior[score] - posterior[f'{score}_truth']:+.4f}"
