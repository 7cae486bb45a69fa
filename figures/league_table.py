"""The league's page: every arm beside uniform, pool by pool, read from the entries of finished runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from cures.checks import FloatArray, InWords, fail
from figures.holm import holm
from figures.league import (
    ARMS,
    AXES,
    BEST,
    DEV_SEEDS,
    POOLS,
    VISITED,
    Entries,
    is_of,
)
from figures.league_ranking import rank_lines, rank_text
from figures.league_rows import FRACTIONS, Rows, alike, shares_of, together
from figures.oracle_share import share_text
from figures.sim_folders import FRACTION
from figures.style import POOLS as POOL_NAMES
from figures.training_table import MARGIN
from sim.settings import REFERENCE, is_told_true_rates
from sim.wording import difference_text, p_text, speed_up_text

VARIANTS = {"adaptive@moments": "adaptive"}  # ranked in the place of the other, not beside it
INTRODUCTION = """\
# League: schedulers on a real tiny language model, four pools

A Qwen2 of 0.2 million parameters learns arithmetic by GRPO (AdamW, 128 groups x 8 rollouts an update,
`configs/tiny_cpu.toml`), {rollouts:,} generated rollouts a run, pilots, screening and discarded ones
included. Every seed has a warm start of its own; all arms of a seed, pool and series share it. A series
is a kind of processor and a code of the warm start: with another one the same seed has another model
(hundreds of steps amplify roundings, [warm_start.md](warm_start.md)), so that a run is only compared
with uniform of its own series, and differences are averaged over series by seed. Series `xeon` and
`epyc` were made with torch's Muon, `zen3` with that of `train/muon.py`. Schedulers at their own
defaults, but for `cures-released` on the small pool (one subset). Held-out problems are natural in every
pool.

- natural: 4,000 problems as they come. dead: 60 % of them never right, 25 % always right. coins: 20 %
  with a reward that is a coin flip. small: 256 problems, two batches, where `adaptive` samples uniformly
  by its own rule: its rows there are one run counted twice, and differ from uniform's by chance alone.
- *minus uniform*: paired over seeds, held-out success at the end, 95 %. *Verdict*: no harm if the lower
  end lies above -{margin}, harm if the upper end lies below it, else undecided.
- *Speed-up*: uniform's rollouts over the arm's, medians, to {fractions} of uniform's mean gain on the
  development seeds {dev}; both on the same grid, isotonic curves. In parentheses: uniform's and the
  arm's seeds that never arrive.
- Verdicts are not corrected for their number. Levels rest on two development seeds.
- *oracle* is told success rates by rollouts that are not counted: no contender. `{best}` is one of its
  variants (temperature x quota on or off; with coins also told what is learnable), the same in all
  series; it alone is run on the compared seeds. All variants of a development seed ran in one series, to
  the level of its uniform; the two seeds may be of two series. Chosen: the smallest median of rollouts
  to the level, where a run that never arrives counts with its budget; then the higher final.
- *CPU*: seconds of rollouts and updates on the machines that ran them, which differ.
"""


def section(pool: str, found: Mapping[str, Rows]) -> str:
    """One pool in markdown: a table for every series.

    Parameters
    ----------
    pool : str
    found : mapping
        Series -> :func:`rows`.
    """
    parts = [f"## {POOL_NAMES.get(pool, pool)}\n"]
    for name, of_series in found.items():
        about = [
            f"Series `{name}`: held-out success starts at {of_series[REFERENCE]['start']:.3f}."
        ]
        if BEST in of_series:
            about.append(f"The best oracle is `{of_series[BEST]['variant']}`.")
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
            f"{row['final_S'].mean():.3f}",
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
    parts = [_ranks(merged), _corrected(merged), _of_several_series(numbers, merged)]
    parts += [_shares(numbers), _paper(numbers)]
    return "\n".join(part for part in parts if part)


def missing(numbers: Mapping[str, Mapping[str, Rows]]) -> str:
    """Arms that are not on every pool's table yet, in a sentence; empty if there are none."""
    there = {pool: together(numbers.get(pool, {})) for pool in POOLS}
    absent = [
        arm
        for arm in (*ARMS, BEST)
        if any(is_of(pool, arm) and arm not in found for pool, found in there.items())
    ]
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

    def finals(ranked: Sequence[str]) -> list[list[FloatArray]]:
        return [[found[arm]["minus_S_E"][:, -1] for arm in ranked] for found in merged.values()]

    ranked = [arm for arm in arms if arm not in VARIANTS]
    lines = [
        f"## Mean rank over {len(merged)} pools",
        "",
        "By mean held-out success at the end minus uniform's, over all series; 1 is the highest. Of "
        "arms that every pool has, told ones left out. 95 % by redrawing seeds; *behind the first* "
        "takes the first as it was found. Verdicts are counted over all series, too.",
        "",
        *rank_lines(
            ranked,
            finals(ranked),
            [[found[arm]["verdict"] for arm in ranked] for found in merged.values()],
        ),
        "",
    ]
    for variant, arm in VARIANTS.items():
        if variant in arms and arm in arms:
            swapped = [variant if a == arm else a for a in ranked]
            rank = rank_text(finals(swapped), swapped.index(variant))
            lines += [f"In the place of `{arm}`, `{variant}` has a mean rank of {rank}.", ""]
    return "\n".join(lines)


def _of_several_series(
    numbers: Mapping[str, Mapping[str, Rows]], merged: Mapping[str, Rows]
) -> str:
    """Arms that several series have: differences averaged by seed."""
    lines = [
        f"| {pool} | {arm} | {', '.join(row['series'])} | {row['seeds']} "
        f"| {difference_text(row['difference'], digits=3)} "
        f"| {difference_text(row['widened'], digits=3)} | {row['verdict']} |"
        for pool, found in merged.items()
        for arm, row in found.items()
        if arm != REFERENCE and len(row["series"]) > 1
    ]
    if not lines:
        return ""
    heads = [
        "| pool | arm | series | seeds | minus uniform [95 %] | for as many looks | verdict |",
        "|---" * 7 + "|",
    ]
    alikes = [value for found in numbers.values() for value in alike(found)]
    about = (
        "Each run minus uniform of its own series, averaged over series by seed: runs of one seed share "
        "problems and random numbers (over seeds, uniform's final success in two series correlates by "
        f"{min(alikes):.2f} to {max(alikes):.2f}). Every series is one more look, for which the second "
        "interval is widened (Bonferroni); the verdict goes by that one."
    )
    return "\n".join(["## Arms of several series", "", about, "", *heads, *lines, ""])


def _corrected(merged: Mapping[str, Rows]) -> str:
    """Holm's correction; a run that stands there under two names is counted once."""
    p_value: dict[tuple[str, bytes], float] = {}
    for pool, found in merged.items():
        for arm, row in found.items():
            if row["p_value"] is not None and not is_told_true_rates(arm):
                p_value.setdefault((pool, row["minus_S_E"].tobytes()), row["p_value"])
    if not p_value:
        return ""
    values = list(p_value.values())
    alone, kept = (int((np.array(p) < 0.05).sum()) for p in (values, holm(values)))
    return (
        f"Of {len(values)} comparisons of a contender with uniform {alone} differ at 5 % (two-sided "
        f"paired t); {kept} still do after Holm's correction for their number.\n"
    )


def _shares(numbers: Mapping[str, Mapping[str, Rows]]) -> str:
    lines = []
    for pool, by_name in numbers.items():
        for name, found in by_name.items():
            if BEST not in found:
                continue
            best = speed_up_text(found[BEST]["speed_up"].get(f"{FRACTION}"))
            shares = shares_of(found)
            arms = [arm for arm in found if arm.startswith("adaptive") or arm == VISITED]
            if not arms:
                lines.append(f"| {pool} | {name} | {best} | | | |")
            for arm in arms:
                own = speed_up_text(found[arm]["speed_up"].get(f"{FRACTION}"))
                cells = [pool, name, best, arm, own, share_text(shares.get(arm))]
                lines.append("| " + " | ".join(cells) + " |")
    if not lines:
        return ""
    looking = (
        f" `{VISITED}` is told the rates of visited prompts alone (temperature 0.15): what it falls "
        "short of is the price of looking, which nobody is spared who is told nothing."
    )
    has_looked = any(VISITED in found for by_name in numbers.values() for found in by_name.values())
    return "\n".join(
        [
            "## What the best oracle saves, and how much of it `adaptive` does",
            "",
            f"Rollouts to {FRACTION:.0%} of uniform's gain; share of the oracle's saving, where the "
            f"interval of its speed-up lies above 1.{looking if has_looked else ''}",
            "",
            "| pool | series | best oracle | arm | speed-up | share |",
            "|---|---|---|---|---|---|",
            *lines,
            "",
        ]
    )


def _paper(numbers: Mapping[str, Mapping[str, Rows]]) -> str:
    """The paper's speed-up in steps beside what these runs have, in steps and in rollouts."""
    lines = []
    for arm in ("cures", "cures-released"):
        for pool, by_name in numbers.items():
            for name, found in by_name.items():
                speed_ups = found.get(arm, {}).get("speed_up", {})
                if speed_ups:
                    cells = [speed_up_text(speed_ups.get(k)) for k in ("updates", f"{FRACTION}")]
                    lines.append("| " + " | ".join([arm, pool, name, *cells]) + " |")
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
            "| arm | pool | series | in updates | in rollouts |",
            "|---|---|---|---|---|",
            *lines,
            "",
        ]
    )


def page(
    by_series: Mapping[str, Mapping[str, Entries]],
    numbers: Mapping[str, Mapping[str, Rows]],
    command: str,
    simulated: str = "",
) -> str:
    """The page of docs/results.

    Parameters
    ----------
    by_series : mapping
        Series -> pool -> entries of the language model's runs.
    numbers : mapping
        Of these, from :func:`figures.league_rows.numbers_of`.
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
            parts.append(section(pool, found))
        if simulated:
            parts[0] += "\nBelow: the same in the simulator, with every scheduler.\n"
    return "\n".join(part for part in (*parts, simulated) if part)
