"""The recommendation as a TOML file that ``python -m train run CONFIG --scheduler FILE`` reads.

``[scheduler]`` names the scheduler and the group size n (the trainer keeps its own rollouts per update
and takes ``batch_size = budget / n``), ``[scheduler.NAME]`` holds its keywords, ``[scheduler.tuned]``
says on what they were tuned, so that the trainer can tell when it has left that.
"""

from __future__ import annotations

import json
from pathlib import Path
from textwrap import wrap
from typing import Any

from cures.checks import fail
from cures.storage import atomic_write
from sim.tuning.protocol import Study
from sim.wording import difference_text

TUNED_FORMAT = "cures-tuned-1"


def write_toml(path: Path, study: Study, report: dict[str, Any], command: str) -> None:
    """Write the recommendation of a finished study.

    Parameters
    ----------
    path : Path
    study : Study
    report : dict
        What ``recommendation.json`` holds.
    command : str
        The command that made it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    atomic_write(path, toml_text(study, report, command).encode())


def toml_text(study: Study, report: dict[str, Any], command: str) -> str:
    """Comments for people, three tables for ``train/``."""
    recommended, protocol = report["recommended"], study.protocol
    met = report["exposure"]
    tables = {
        "scheduler": {"name": study.scheduler, "group_size": recommended["group_size"]},
        f"scheduler.{study.scheduler}": recommended["options"],
        "scheduler.tuned": {
            "format": TUNED_FORMAT,
            "command": command,
            "population": protocol.population,
            "policy": protocol.policy,
            "pool": protocol.pool,
            "budget": protocol.budget,
            "rollouts": protocol.rollouts,
            "verdict": report["verdict"],
            "minus_uniform": _interval(report["recommended_minus_uniform"]),
            "phase_end": met["phase_end"],
            "limit": met["limit"],
            "success_rate": met["success_rate"],
        },
    }
    lines = [f"# {line}" for line in _comments(study, report)]
    for title, table in tables.items():
        if table:
            lines += ["", f"[{title}]", *_entries(table)]
    lines += [
        "",
        "# Success rates met, by phase of the run and kind of group (sim/tuning/exposure.py).",
    ]
    for stratum in met["met"]:
        lines += ["[[scheduler.tuned.met]]", *_entries(stratum)]
    return "\n".join(lines) + "\n"


def toml_value(key: str, value: Any) -> str:
    """A TOML literal.

    Examples
    --------
    >>> toml_value("temperature", 0.05), toml_value("quota", False), toml_value("x", [1, 2.0])
    ('0.05', 'false', '[1, 2.0]')
    """
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list | tuple):
        return f"[{', '.join(toml_value(key, entry) for entry in value)}]"
    if not isinstance(value, int | float | str):
        fail("tune", key, "a number, a string, a boolean or a list of these", value)
    return json.dumps(value)  # TOML's basic strings and numbers are those of JSON


def _comments(study: Study, report: dict[str, Any]) -> list[str]:
    protocol = study.protocol
    own = difference_text(report["recommended_minus_uniform"])
    text = (
        f"Settings of {study.scheduler} from a search on the simulated population "
        f"{protocol.population} ({protocol.policy} policy, pool of {protocol.pool}, "
        f"{protocol.rollouts} rollouts, {protocol.budget} per update). {study.confirm_seeds} further "
        f"seeds: held-out success minus uniform {own}. Verdict: {report['verdict']}."
    )
    lines = wrap(text, 98)
    if report["is_default"] and not report["defaults_won"]:
        found = difference_text(report["minus_defaults"])
        lines += wrap(
            f"Hence these are the defaults. The best of the search, minus the defaults {found}, "
            f"was {json.dumps(report['chosen_setting'])}",
            98,
            break_long_words=False,
        )
    if report["recommended_minus_uniform"]["high"] < 0.0:
        lines += ["Plain uniform sampling does better on this population than these settings."]
    return lines


def _entries(table: dict[str, Any]) -> list[str]:
    return [f"{key} = {toml_value(key, value)}" for key, value in table.items()]


def _interval(difference: dict[str, Any]) -> list[float]:
    return [float(difference[name]) for name in ("mean", "low", "high")]
