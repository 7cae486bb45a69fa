"""The league's page: every arm beside uniform, pool by pool, read from the entries of finished runs."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from cures.checks import FloatArray, fail
from cures.comparison import harm_verdict, paired_difference, speed_up
from cures.targets import rollouts_to_target, target_gains
from figures.league import ARMS, DEV_SEEDS, POOLS, REFERENCE
from figures.style import POOLS as POOL_NAMES
from figures.style import light_grid, line, method_name, page_figure, styled, thousands
from figures.training_table import MARGIN
from sim.picture import arm_styles
from sim.wording import difference_text, speed_up_text

FRACTIONS = (0.8, 1.0)
Entries = dict[str, dict[str, Any]]
FloatMatrix = np.ndarray[Any, np.dtype[np.float64]]

INTRODUCTION = """\
# League: schedulers on a real tiny language model, four pools

A Qwen2 of 0.2 million parameters learns arithmetic by GRPO (AdamW, 128 groups x 8 rollouts an update,
`configs/tiny_cpu.toml`), {rollouts:,} generated rollouts a run, pilots, screening and discarded ones
included. Every seed has a warm start of its own; all arms of a seed and pool share it. Schedulers at
their own defaults. Held-out problems are natural in every pool.

- natural: 4,000 problems as they come. dead: 60 % of them never right, 25 % always right. coins: 20 %
  with a reward that is a coin flip. small: 256 problems.
- *minus uniform*: paired over seeds, held-out success at the end, 95 %. *Verdict*: no harm if the lower
  end lies above -{margin}.
- *Speed-up*: uniform's rollouts over the arm's, medians, to {fractions} of uniform's mean gain on the
  development seeds {dev}; both on the same grid, isotonic curves. In parentheses: uniform's and the
  arm's seeds that never arrive.
- Verdicts are not corrected for their number. Levels rest on two development seeds.
- *oracle* is told success rates by rollouts that are not counted: no contender.
- *CPU*: seconds of rollouts and updates on the machines that ran them, which differ.
"""


def arms_of(entries: Entries) -> dict[str, list[dict[str, Any]]]:
    """Arms that have every seed of the reference -> their entries on these, ascending.

    The others are still being made.

    Raises
    ------
    ValueError
        If the runs of a pool differ in more than scheduler and seed, or those of a seed in their warm
        start.
    """
    found: dict[str, dict[int, dict[str, Any]]] = {}
    for entry in entries.values():
        if entry["seed"] not in DEV_SEEDS:
            found.setdefault(entry["arm"], {})[entry["seed"]] = entry
    reference = found.get(REFERENCE, {})
    for key in ("generated_E", "same"):
        kinds = {str(entry[key]) for entry in entries.values()}
        if len(kinds) > 1:
            fail("league", key, "the same in all runs of a pool", sorted(kinds))
    for arm, runs in found.items():
        for seed in runs.keys() & reference.keys():
            start, expected = runs[seed]["held_out_E"][0], reference[seed]["held_out_E"][0]
            if start != expected:
                legal = f"{expected}, that of {REFERENCE}: the same warm start"
                fail("league", f"start of {arm}, seed {seed}", legal, start)
    return {
        arm: [found[arm][seed] for seed in sorted(reference)]
        for arm in ARMS
        if reference and found.get(arm, {}).keys() >= reference.keys()
    }


def curves(runs: list[dict[str, Any]]) -> FloatMatrix:
    """Held-out success of every seed, shape (S, E)."""
    return np.array([run["held_out_E"] for run in runs])


def rows(entries: Entries) -> dict[str, dict[str, Any]]:
    """Numbers of every arm of a pool.

    Returns
    -------
    dict
        arm -> ``seeds``, ``final``, ``difference`` (fields of
        :class:`cures.comparison.PairedDifference`, None for the reference), ``verdict``,
        ``speed_up`` (fraction -> fields of :class:`cures.comparison.SpeedUp`) and means of ``wasted``,
        ``pilot``, ``updates``, ``tokens`` and ``cpu_s``.

    Raises
    ------
    ValueError
        See :func:`arms_of`.
    """
    arms = arms_of(entries)
    dev = [e for e in entries.values() if e["seed"] in DEV_SEEDS and e["arm"] == REFERENCE]
    result: dict[str, dict[str, Any]] = {}
    for arm, runs in arms.items():
        own, reference = curves(runs), curves(arms[REFERENCE])
        means = {
            key: float(np.mean([run[key] for run in runs]))
            for key in ("wasted", "pilot", "updates", "tokens", "cpu_s")
        }
        row: dict[str, Any] = {"seeds": len(own), "final": float(own[:, -1].mean()), **means}
        row["start"] = float(own[:, 0].mean())
        row["difference"], row["verdict"], row["speed_up"] = None, "reference", {}
        if arm != REFERENCE:
            difference = paired_difference(own[:, -1], reference[:, -1])
            row["difference"] = asdict(difference)
            row["verdict"] = harm_verdict(difference, MARGIN)
            row["speed_up"] = _speed_ups(np.array(runs[0]["generated_E"]), own, reference, dev)
        result[arm] = row
    return result


def _speed_ups(
    grid_E: FloatArray, own: FloatMatrix, reference: FloatMatrix, dev: list[dict[str, Any]]
) -> dict[str, Any]:
    start, final = ([e["held_out_E"][i] for e in dev] for i in (0, -1))
    if not dev or np.mean(final) <= np.mean(start):  # there is no level to reach
        return {}
    gain_F = target_gains(start, final, FRACTIONS)
    found = {}
    for fraction, gain in zip(FRACTIONS, gain_F, strict=True):
        timed: list[Any] = []
        for curve in (reference, own):
            timed.extend(rollouts_to_target(grid_E, curve, reference[:, 0] + gain))
        found[f"{fraction}"] = asdict(speed_up(*timed, generator=np.random.default_rng(0)))
    return found


def section(pool: str, entries: Entries) -> str:
    """One pool as a markdown table."""
    found = rows(entries)
    if not found:
        return ""
    heads = " | ".join(f"speed-up to {fraction:.0%}" for fraction in FRACTIONS)
    lines = [
        f"## {POOL_NAMES.get(pool, pool)}",
        "",
        f"Held-out success starts at {found[REFERENCE]['start']:.3f}.",
        "",
        f"| arm | seeds | final | minus uniform [95 %] | verdict | {heads} | wasted | pilots | updates "
        "| tokens, millions | CPU, s |",
        "|---" * (10 + len(FRACTIONS)) + "|",
    ]
    for arm, row in found.items():
        cells = [
            arm,
            f"{row['seeds']}",
            f"{row['final']:.3f}",
            difference_text(row["difference"], digits=3),
            row["verdict"],
            *(speed_up_text(row["speed_up"].get(f"{fraction}")) for fraction in FRACTIONS),
            f"{row['wasted']:.0%}",
            f"{row['pilot']:.0%}",
            f"{row['updates']:.0f}",
            f"{row['tokens'] / 1e6:.2f}",
            f"{row['cpu_s']:.0f}",
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def page(by_pool: dict[str, Entries], command: str, simulated: str = "") -> str:
    """The page of docs/results.

    Parameters
    ----------
    by_pool : dict
        Entries of the language model's runs.
    command : str
        That makes them.
    simulated : str
        The simulator's part, from :func:`figures.simulator_league_table.section`; it comes last.

    Raises
    ------
    ValueError
        If there is neither an entry nor a simulator's part.
    """
    everything = [entry for entries in by_pool.values() for entry in entries.values()]
    if not everything and not simulated:
        fail("league", "entries", "of one run at least", "none")
    parts = [f"# League of schedulers\n\nCommand: `{command}`.\n"]
    if everything:
        commits = sorted({entry["commit"] for entry in everything})
        parts = [
            INTRODUCTION.format(
                rollouts=everything[0]["settings"]["run.rollouts"],
                margin=MARGIN,
                fractions=" and ".join(f"{fraction:.0%}" for fraction in FRACTIONS),
                dev=", ".join(map(str, DEV_SEEDS)),
            ),
            f"Command: `{command}`. Commits of the runs: {', '.join(f'`{c}`' for c in commits)}.\n",
            "![learning curves](../figures/league.png)\n",
        ]
        parts += [section(pool, by_pool[pool]) for pool in POOLS if by_pool.get(pool)]
        if simulated:
            parts[0] += "\nBelow: the same in the simulator, every scheduler and four estimators.\n"
    return "\n".join(part for part in (*parts, simulated) if part)


@styled
def draw(by_pool: dict[str, Entries]) -> Figure:
    """A panel per pool: mean curves; the band is one standard error of uniform's mean."""
    figure = page_figure(5.2)
    panels = figure.subplots(2, 2, sharex=True)
    shown: dict[str, Any] = {}
    styles = arm_styles(list(ARMS))
    for axes, pool in zip(panels.flat, POOLS, strict=True):
        for arm, runs in arms_of(by_pool.get(pool, {})).items():
            grid_E = np.array(runs[0]["generated_E"])
            curve_S_E = curves(runs)
            (handle,) = axes.plot(grid_E, curve_S_E.mean(axis=0), **line(styles[arm]))
            shown[method_name(arm)] = handle
            if arm == REFERENCE and len(runs) > 1:
                error_E = curve_S_E.std(axis=0, ddof=1) / np.sqrt(len(runs))
                mean_E = curve_S_E.mean(axis=0)
                axes.fill_between(
                    grid_E, mean_E - error_E, mean_E + error_E, color="black", alpha=0.12, lw=0
                )
        axes.set_title(POOL_NAMES.get(pool, pool))
        light_grid(axes)
        thousands(axes, "rollouts generated (thousands)")
    for axes in panels[:, 0]:
        axes.set_ylabel("held-out success rate")
    figure.legend(
        list(shown.values()), list(shown), frameon=False, loc="outside lower center", ncols=4
    )
    return figure
