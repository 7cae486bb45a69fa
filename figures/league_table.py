"""The league's page: every arm beside uniform, pool by pool, read from the entries of finished runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from cures.checks import InWords, fail
from cures.comparison import SpeedUp, harm_verdict, paired_difference, seeds_needed, speed_up
from figures.holm import holm, paired_p_value
from figures.league import (
    ARMS,
    AXES,
    BEST,
    DEV_SEEDS,
    POOLS,
    check_starts,
    chosen_oracle,
    gain_of,
    reached,
)
from figures.league_ranking import rank_lines
from figures.oracle_share import OracleShare, share_text, shares_of_arms
from figures.sim_folders import FRACTION
from figures.simulator_league_rows import OURS
from figures.style import POOLS as POOL_NAMES
from figures.style import light_grid, line, method_name, page_figure, styled, thousands
from figures.training_table import MARGIN
from sim.picture import arm_styles
from sim.settings import REFERENCE, is_told_true_rates
from sim.wording import difference_text, p_text, speed_up_text

FRACTIONS = (0.8, 1.0)
TICKS = (-0.1, -0.03, -0.01, 0.0, 0.01, 0.03)
Entries = dict[str, dict[str, Any]]  # of a pool and series: name of a run -> its entry
Rows = dict[str, dict[str, Any]]  # arm -> its numbers
FloatMatrix = np.ndarray[Any, np.dtype[np.float64]]

INTRODUCTION = """\
# League: schedulers on a real tiny language model, four pools

A Qwen2 of 0.2 million parameters learns arithmetic by GRPO (AdamW, 128 groups x 8 rollouts an update,
`configs/tiny_cpu.toml`), {rollouts:,} generated rollouts a run, pilots, screening and discarded ones
included. Every seed has a warm start of its own; all arms of a seed, pool and series share it. A series
is a kind of processor: on another one, the warm start of a seed is another model (roundings grow to the
size of the weights), so that a run is only compared with uniform of its own series. Where arms of
several series stand together, in the ranks and in the picture, each is shown by its difference to its
own uniform. Schedulers at their own defaults, but for `cures-released` on the small pool (one subset).
Held-out problems are natural in every pool.

- natural: 4,000 problems as they come. dead: 60 % of them never right, 25 % always right. coins: 20 %
  with a reward that is a coin flip. small: 256 problems, two batches, where `adaptive` samples uniformly
  by its own rule: its rows there are one run counted twice, and differ from uniform's by chance alone.
- *minus uniform*: paired over seeds, held-out success at the end, 95 %. *Verdict*: no harm if the lower
  end lies above -{margin}.
- *Speed-up*: uniform's rollouts over the arm's, medians, to {fractions} of uniform's mean gain on the
  development seeds {dev}; both on the same grid, isotonic curves. In parentheses: uniform's and the
  arm's seeds that never arrive.
- Verdicts are not corrected for their number. Levels rest on two development seeds.
- *oracle* is told success rates by rollouts that are not counted: no contender. `{best}` is the variant
  (temperature x quota on or off; with coins also told what is learnable) that was fastest on the
  development seeds; it alone is run on the others.
- *CPU*: seconds of rollouts and updates on the machines that ran them, which differ.
"""


def arms_of(pool: str, entries: Entries) -> dict[str, list[dict[str, Any]]]:
    """Arms that have every seed of the reference -> their entries on these, ascending.

    The others are still being made. The best oracle goes by that name.

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
    check_starts(entries)
    best = chosen_oracle(pool, entries)
    if best is not None:
        found[BEST] = found.get(best, {})
    return {
        arm: [found[arm][seed] for seed in sorted(reference)]
        for arm in (*ARMS, BEST)
        if reference and found.get(arm, {}).keys() >= reference.keys()
    }


def curves(runs: list[dict[str, Any]]) -> FloatMatrix:
    """Held-out success of every seed, shape (S, E)."""
    return np.array([run["held_out_E"] for run in runs])


def rows(pool: str, entries: Entries) -> Rows:
    """Numbers of every arm of a pool and series.

    Returns
    -------
    dict
        arm -> ``seeds``, ``start``, ``final``, ``minus_S_E`` (success minus uniform's at every point of
        ``generated_E``), ``difference`` (at the end; fields of
        :class:`cures.comparison.PairedDifference`, None for the reference), ``p_value`` (paired t; None
        below six seeds), ``verdict``, ``speed_up`` (fraction, or axis, -> fields of
        :class:`cures.comparison.SpeedUp`), ``reached_S`` (rollouts to the level, None where it is not
        reached) and means of ``wasted``, ``pilot``, ``updates``, ``tokens`` and ``cpu_s``.

    Raises
    ------
    ValueError
        See :func:`arms_of`.
    """
    arms = arms_of(pool, entries)
    gain = gain_of(entries)
    result: Rows = {}
    for arm, runs in arms.items():
        own, reference = curves(runs), curves(arms[REFERENCE])
        means = {
            key: float(np.mean([run[key] for run in runs]))
            for key in ("wasted", "pilot", "updates", "tokens", "cpu_s")
        }
        row: dict[str, Any] = {"seeds": len(own), "final": float(own[:, -1].mean()), **means}
        row["start"] = float(own[:, 0].mean())
        row["generated_E"], row["minus_S_E"] = runs[0]["generated_E"], own - reference
        row["difference"], row["verdict"], row["speed_up"] = None, "reference", {}
        row["p_value"] = None
        row["reached_S"] = [None if gain is None else reached(run, gain) for run in runs]
        if arm != REFERENCE:
            difference = paired_difference(own[:, -1], reference[:, -1])
            row["difference"] = asdict(difference)
            is_told = is_told_true_rates(arm)
            row["verdict"] = "told" if is_told else harm_verdict(difference, MARGIN)
            if len(own) >= seeds_needed():
                row["p_value"] = paired_p_value(own[:, -1] - reference[:, -1])
            if gain is not None:
                for fraction in FRACTIONS:
                    part = gain * fraction / FRACTION
                    found = along("generated", runs, arms[REFERENCE], part)
                    row["speed_up"][f"{fraction}"] = asdict(found)
                for axis in AXES:
                    row["speed_up"][axis] = asdict(along(axis, runs, arms[REFERENCE], gain))
        result[arm] = row
    return result


def along(
    axis: str, runs: list[dict[str, Any]], reference: list[dict[str, Any]], gain: float
) -> SpeedUp:
    """Speed-up to the level on an axis; ends may differ, grids are as fine.

    Parameters
    ----------
    axis : str
        ``generated``, or of :data:`figures.league.AXES`.
    runs, reference : list of dict
        Entries of an arm and of uniform, seed by seed.
    gain : float
        Held-out success above the start.
    """
    spacing = None
    if axis != "generated":  # where all runs share a grid
        points = len(reference[0]["held_out_E"]) - 1
        spacing = float(np.mean([run[f"{axis}_E"][-1] for run in reference])) / points
    timed: list[Any] = []
    for found in (reference, runs):
        at_S = [reached(run, gain, axis=axis, spacing=spacing) for run in found]
        ends = [run[f"{axis}_E"][-1] for run in found]
        timed.append([end if at is None else at for at, end in zip(at_S, ends, strict=True)])
        timed.append([at is None for at in at_S])
    return speed_up(*timed, generator=np.random.default_rng(0))


def numbers_of(by_series: Mapping[str, Mapping[str, Entries]]) -> dict[str, dict[str, Rows]]:
    """Pool -> series -> :func:`rows`, where there are any.

    Parameters
    ----------
    by_series : mapping
        Series -> pool -> entries.
    """
    numbers: dict[str, dict[str, Rows]] = {}
    for pool in POOLS:
        by_name = {name: rows(pool, pools.get(pool, {})) for name, pools in by_series.items()}
        found = {name: of_series for name, of_series in by_name.items() if of_series}
        if found:
            numbers[pool] = found
    return numbers


def together(found: Mapping[str, Rows]) -> Rows:
    """Every arm of a pool, each beside the uniform of its own series.

    Of several series that have it the one with the most arms counts, so that most stand in one. A series
    with fewer seeds than another is still being made, and left out.
    """
    seeds = max((of_series[REFERENCE]["seeds"] for of_series in found.values()), default=0)
    whole = {
        name: rows
        for name, rows in sorted(found.items(), key=lambda item: -len(item[1]))  # stable
        if rows[REFERENCE]["seeds"] == seeds
    }
    result: Rows = {}
    for arm in (*ARMS, BEST):
        for name, of_series in whole.items():
            if arm in of_series and arm not in result:
                result[arm] = of_series[arm] | {"series": name}
    return result


def section(pool: str, found: Mapping[str, Rows], best: Mapping[str, str | None]) -> str:
    """One pool in markdown: a table for every series.

    Parameters
    ----------
    pool : str
    found : mapping
        Series -> :func:`rows`.
    best : mapping
        Series -> which variant the best oracle is.
    """
    parts = [f"## {POOL_NAMES.get(pool, pool)}\n"]
    for name, of_series in found.items():
        about = [
            f"Series `{name}`: held-out success starts at {of_series[REFERENCE]['start']:.3f}."
        ]
        if BEST in of_series:
            about.append(f"The best oracle is `{best[name]}`.")
        parts += [" ".join(about) + "\n", "\n".join(_table(of_series)) + "\n"]
    return "\n".join(parts)


def _table(of_series: Rows) -> list[str]:
    heads = " | ".join(f"speed-up to {fraction:.0%}" for fraction in FRACTIONS)
    lines = [
        f"| arm | seeds | final | minus uniform [95 %] | p | verdict | {heads} | wasted | pilots "
        "| updates | tokens, millions | CPU, s |",
        "|---" * (11 + len(FRACTIONS)) + "|",
    ]
    for arm, row in of_series.items():
        cells = [
            arm,
            f"{row['seeds']}",
            f"{row['final']:.3f}",
            difference_text(row["difference"], digits=3),
            p_text(row["p_value"]),
            row["verdict"],
            *(speed_up_text(row["speed_up"].get(f"{fraction}")) for fraction in FRACTIONS),
            f"{row['wasted']:.0%}",
            f"{row['pilot']:.0%}",
            f"{row['updates']:.0f}",
            f"{row['tokens'] / 1e6:.2f}",
            f"{row['cpu_s']:.0f}",
        ]
        lines.append("| " + " | ".join(cells) + " |")
    if any(row["speed_up"] for row in of_series.values()):
        lines += ["", f"Speed-up to {FRACTION:.0%}, by what is counted:", ""]
        lines += [f"| arm | rollouts | {' | '.join(AXES)} |", "|---" * (2 + len(AXES)) + "|"]
        for arm, row in of_series.items():
            if arm != REFERENCE:
                names = (f"{FRACTION}", *AXES)
                texts = [speed_up_text(row["speed_up"].get(name)) for name in names]
                lines.append("| " + " | ".join([arm, *texts]) + " |")
    return lines


def summary(numbers: Mapping[str, Mapping[str, Rows]]) -> str:
    """Over all pools: mean ranks, Holm's correction, and the share of the best oracle's saving."""
    merged = {pool: together(found) for pool, found in numbers.items()}
    parts = [_ranks(merged), _corrected(numbers), _of_all_series(numbers)]
    parts += [_shares(numbers), _paper(merged)]
    return "\n".join(part for part in parts if part)


def missing(numbers: Mapping[str, Mapping[str, Rows]]) -> str:
    """Arms that are not on every pool's table yet, in a sentence; empty if there are none."""
    there = [together(numbers.get(pool, {})) for pool in POOLS]
    absent = [arm for arm in (*ARMS, BEST) if any(arm not in found for found in there)]
    return f"Not on all pools yet: {', '.join(f'`{arm}`' for arm in absent)}.\n" if absent else ""


def _ranks(merged: Mapping[str, Rows]) -> str:
    arms = [
        arm
        for arm in ARMS
        if not is_told_true_rates(arm) and all(arm in found for found in merged.values())
    ]
    sizes = {found[arm]["seeds"] for found in merged.values() for arm in arms}
    if len(arms) < 2 or len(sizes) != 1 or sizes == {1}:
        return ""
    lines = [
        f"## Mean rank over {len(merged)} pools",
        "",
        "By mean held-out success at the end minus that of the series' uniform, 1 is the highest; of "
        "arms that every pool has, told ones left out. 95 % by redrawing seeds (those of several "
        "series, which have nothing in common, by the same numbers; that moves no arm's mean)."
        + _of_other_series(merged, arms),
        "",
        *rank_lines(
            arms,
            [[found[arm]["minus_S_E"][:, -1] for arm in arms] for found in merged.values()],
            [[found[arm]["verdict"] for arm in arms] for found in merged.values()],
        ),
    ]
    return "\n".join(lines) + "\n"


def _of_other_series(merged: Mapping[str, Rows], arms: Sequence[str]) -> str:
    """Which arms are not of the series of the reference, in a sentence."""
    others = {
        pool: [arm for arm in arms if found[arm]["series"] != found[REFERENCE]["series"]]
        for pool, found in merged.items()
    }
    texts = [
        f"{', '.join(f'`{arm}`' for arm in there)} ({pool}: `{merged[pool][there[0]]['series']}`)"
        for pool, there in others.items()
        if there
    ]
    return f" Of another series than uniform's row: {'; '.join(texts)}." if texts else ""


def _of_all_series(numbers: Mapping[str, Mapping[str, Rows]]) -> str:
    """Arms that several series have: all their seeds together, each beside uniform of its series."""
    lines = []
    for pool, found in numbers.items():
        for arm in (a for a in (*ARMS, BEST) if a != REFERENCE and not is_told_true_rates(a)):
            own = [
                of_series[arm]["minus_S_E"][:, -1]
                for of_series in found.values()
                if arm in of_series
            ]
            if len(own) > 1:
                minus_S = np.concatenate(own)
                difference = paired_difference(minus_S, np.zeros(minus_S.size))
                text = difference_text(asdict(difference), digits=3)
                verdict = harm_verdict(difference, MARGIN)
                lines.append(f"| {pool} | {arm} | {minus_S.size} | {text} | {verdict} |")
    if not lines:
        return ""
    heads = [
        "| pool | arm | seeds of all series | minus uniform [95 %] | verdict |",
        "|---" * 5 + "|",
    ]
    return "\n".join(["## Arms of several series", "", *heads, *lines, ""])


def _corrected(numbers: Mapping[str, Mapping[str, Rows]]) -> str:
    p_value = [
        row["p_value"]
        for found in numbers.values()
        for of_series in found.values()
        for arm, row in of_series.items()
        if row["p_value"] is not None and not is_told_true_rates(arm)
    ]
    if not p_value:
        return ""
    alone, kept = (int((np.array(p) < 0.05).sum()) for p in (p_value, holm(p_value)))
    return (
        f"Of {len(p_value)} comparisons of a contender with uniform {alone} differ at 5 % (two-sided "
        f"paired t); {kept} still do after Holm's correction for their number.\n"
    )


def shares_of(found: Rows) -> dict[str, OracleShare]:
    """Share of the best oracle's saving that `adaptive` reaches, where it saves any for certain."""
    best = found.get(BEST, {"speed_up": {}})["speed_up"].get(f"{FRACTION}")
    if best is None or not (best["low"] or 0.0) > 1.0:
        return {}
    return shares_of_arms(
        {arm: row["reached_S"] for arm, row in found.items()},
        reference=REFERENCE,
        best=BEST,
        arms=[arm for arm in found if arm.startswith("adaptive")],
    )


def _shares(numbers: Mapping[str, Mapping[str, Rows]]) -> str:
    lines = []
    for pool, by_name in numbers.items():
        for name, found in by_name.items():
            if BEST not in found:
                continue
            best = speed_up_text(found[BEST]["speed_up"].get(f"{FRACTION}"))
            shares = shares_of(found)
            for arm in (a for a in found if a.startswith("adaptive")):
                own = speed_up_text(found[arm]["speed_up"].get(f"{FRACTION}"))
                cells = [pool, name, best, arm, own, share_text(shares.get(arm))]
                lines.append("| " + " | ".join(cells) + " |")
    if not lines:
        return ""
    return "\n".join(
        [
            "## What the best oracle saves, and how much of it `adaptive` does",
            "",
            f"Rollouts to {FRACTION:.0%} of uniform's gain; share of the oracle's saving, where the "
            "interval of its speed-up lies above 1.",
            "",
            "| pool | series | best oracle | arm | speed-up | share |",
            "|---|---|---|---|---|---|",
            *lines,
            "",
        ]
    )


def _paper(merged: Mapping[str, Rows]) -> str:
    """The paper's speed-up in steps beside what these runs have, in steps and in rollouts."""
    lines = []
    for arm in ("cures", "cures-released"):
        for pool, found in merged.items():
            speed_ups = found.get(arm, {}).get("speed_up", {})
            if speed_ups:
                cells = [speed_up_text(speed_ups.get(key)) for key in ("updates", f"{FRACTION}")]
                lines.append("| " + " | ".join([arm, pool, *cells]) + " |")
    if not lines:
        return ""
    return "\n".join(
        [
            "## The paper's 5.5x",
            "",
            "The paper has CurES reach the best of GRPO in 5.5 times fewer *steps* (its Fig. 6, 1.5B; "
            "1.75x against REINFORCE++, 4.3x and 3.7x at 7B), pilots not counted. Here, to "
            f"{FRACTION:.0%} of uniform's gain; the way to the baseline's *best* is figure `lm-best` "
            "of [figures.md](figures.md).",
            "",
            "| arm | pool | in updates | in rollouts |",
            "|---|---|---|---|",
            *lines,
            "",
        ]
    )


def page(by_series: Mapping[str, Mapping[str, Entries]], command: str, simulated: str = "") -> str:
    """The page of docs/results.

    Parameters
    ----------
    by_series : mapping
        Series -> pool -> entries of the language model's runs.
    command : str
        That makes them.
    simulated : str
        The simulator's part, from :func:`figures.simulator_league_table.section`; it comes last.

    Raises
    ------
    ValueError
        If there is neither an entry nor a simulator's part.
    """
    everything = [
        entry
        for pools in by_series.values()
        for entries in pools.values()
        for entry in entries.values()
    ]
    if not everything and not simulated:
        fail("league", "entries", "of one run at least", InWords("none"))
    parts = [f"# League of schedulers\n\nCommand: `{command}`.\n"]
    if everything:
        commits = sorted({entry["commit"] for entry in everything})
        numbers = numbers_of(by_series)
        parts = [
            INTRODUCTION.format(
                rollouts=everything[0]["settings"]["run.rollouts"],
                margin=MARGIN,
                fractions=" and ".join(f"{fraction:.0%}" for fraction in FRACTIONS),
                dev=", ".join(map(str, DEV_SEEDS)),
                best=BEST,
            ),
            f"Command: `{command}`. Commits of the runs: {', '.join(f'`{c}`' for c in commits)}.\n",
            missing(numbers),
            "![success minus uniform's](../figures/league.png)\n",
        ]
        parts.append(summary(numbers))
        for pool, found in numbers.items():
            best = {name: chosen_oracle(pool, by_series[name][pool]) for name in found}
            parts.append(section(pool, found, best))
        if simulated:
            parts[0] += "\nBelow: the same in the simulator, with every scheduler.\n"
    return "\n".join(part for part in (*parts, simulated) if part)


@styled
def draw(by_series: Mapping[str, Mapping[str, Entries]]) -> Figure:
    """A panel per pool: mean held-out success minus uniform's of the same seeds.

    The band is one standard error of the mean difference of `adaptive`. The scale is linear up to four
    margins, and logarithmic beyond.
    """
    numbers = numbers_of(by_series)
    figure = page_figure(5.2)
    panels = figure.subplots(2, 2, sharex=True, sharey=True)
    shown: dict[str, Any] = {}
    styles = arm_styles([*ARMS, BEST])
    for axes, pool in zip(panels.flat, POOLS, strict=True):
        for arm, row in together(numbers.get(pool, {})).items():
            grid_E, minus_S_E = row["generated_E"], row["minus_S_E"]
            mean_E = minus_S_E.mean(axis=0)
            (handle,) = axes.plot(grid_E, mean_E, **line(styles[arm]))
            shown[method_name(arm)] = handle
            if arm == OURS[0] and len(minus_S_E) > 1:
                error_E = minus_S_E.std(axis=0, ddof=1) / np.sqrt(len(minus_S_E))
                color = handle.get_color()
                axes.fill_between(
                    grid_E, mean_E - error_E, mean_E + error_E, color=color, alpha=0.2, lw=0
                )
        axes.axhline(-MARGIN, color="0.5", linewidth=0.8, linestyle=":")
        axes.set_yscale("symlog", linthresh=4.0 * MARGIN, linscale=2.0)
        axes.set_yticks(TICKS, [f"{tick:+g}" if tick else "0" for tick in TICKS])
        axes.yaxis.set_minor_locator(NullLocator())
        axes.set_title(POOL_NAMES.get(pool, pool))
        light_grid(axes)
        thousands(axes, "rollouts generated (thousands)")
    for axes in panels[:, 0]:
        axes.set_ylabel("held-out success minus uniform's")
    figure.legend(
        list(shown.values()), list(shown), frameon=False, loc="outside lower center", ncols=4
    )
    return figure
