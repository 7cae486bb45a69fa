"""Tables, page and figure of ``benchmarks/scheduler_step.py``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks import allocate
from figures.provenance import provenance

PAGE = "docs/results/scheduler_step.md"
ROLLOUTS = 8  # per prompt of a batch
YARDSTICKS = ("dense numpy", "choice", "release", "bytes")


@dataclass(frozen=True)
class Timed:
    """Median seconds of a step; extrapolated from a smaller pool or not."""

    seconds: float
    is_extrapolated: bool = False


@dataclass(frozen=True)
class Held:
    """Memory of a scheduler, and its state on disk."""

    bytes_per_prompt: float
    save_s: float
    load_s: float
    megabytes: float


Times = dict[tuple[str, int, int], Timed]  # (what, prompts, batch)
Memories = dict[tuple[str, int], Held]  # (what, prompts)


def table(found: Times) -> str:
    """A line per pool, batch and scheduler: time, growth over pools, and every yardstick in steps."""
    header = f"{'prompts':>9}{'batch':>6}  {'':<19}{'step, ms':>11}{'growth':>8}"
    lines = [header + "".join(f"{name:>13}" for name in YARDSTICKS)]
    for (name, size, batch), time_ in found.items():
        smallest = min(n for what, n, b in found if (what, b) == (name, batch))
        growth = time_.seconds / found[name, smallest, batch].seconds
        mark = "~" if time_.is_extrapolated else ""
        line = f"{size:>9}{batch:>6}  {name:<19}{mark + format(time_.seconds * 1e3, '.3f'):>11}"
        line += f"{growth:>8.1f}"
        for other in YARDSTICKS:
            its = found[other, size, batch]
            ratio = f"{its.seconds / time_.seconds:.3g}"
            line += f"{('~' if its.is_extrapolated else '') + ratio + 'x':>13}"
        lines.append(line)
    return "\n".join(lines)


def memory_table(found: Memories) -> str:
    """A line per pool and scheduler."""
    lines = [
        f"{'prompts':>9}  {'':<19}{'bytes/prompt':>13}{'save, s':>9}{'load, s':>9}{'file, MB':>10}"
    ]
    for (name, size), held in found.items():
        lines.append(
            f"{size:>9}  {name:<19}{held.bytes_per_prompt:>13.1f}{held.save_s:>9.3f}"
            f"{held.load_s:>9.3f}{held.megabytes:>10.1f}"
        )
    return "\n".join(lines)


# -- the page ------------------------------------------------------------------------------------------

INTRODUCTION = """\
# Time and memory of a scheduler, from {fewest:,} to {most:,} prompts

![time of a step against the size of the pool](../figures/scheduler_step.png)

A step plans a batch, {rollouts} rollouts a prompt, and observes its outcome. Beside the schedulers, in
the same run: the mathematics of a `cures` step written down for the whole pool in plain numpy; one
`Generator.choice(N, batch, p=...)`; the published release's sampler and counters, a Python loop over
the pool (~: extrapolated from a smaller one); one pass over the two counts of every prompt. Where a
step grows with the pool: `oracle` and `cures-released`, which look at everyone by their rule, and
`cures` in its dense mode, the reference. What comes once in many steps, such as the permutation for a
pass of uniform sampling, need not show in a median.
"""
MILLION = 10**6
BATCH = 1024  # that the aims are about


MISSED = "**missed**"


def aims(times: Times, memories: Memories, allocations: allocate.Times) -> list[str]:
    """What was wanted of pools of one and of ten million prompts, and what was found; in markdown.

    What was not measured is left out.
    """
    rows = [
        (f"`cures`, a step at {size:,} prompts", most, times["cures", size, BATCH].seconds * 1e3, "ms")
        for size, most in ((MILLION, 2), (10 * MILLION, 4))
        if ("cures", size, BATCH) in times
    ]  # fmt: skip
    for name in ("cures", "adaptive"):
        held, pool = memories.get((name, 10 * MILLION)), f"{10 * MILLION:,} prompts"
        if held is None:
            continue
        rows.append((f"`{name}`, {pool} in memory", 40, held.bytes_per_prompt, "bytes each"))
        rows.append((f"`{name}`, state of {pool} saved", 2, held.save_s, "s"))
        rows.append((f"`{name}`, state of {pool} loaded", 2, held.load_s, "s"))
    slowest_s = max(own_s for (_, size), (own_s, _) in allocations.items() if size == MILLION)
    rows.append((f"`allocate` for {MILLION:,} groups, the slowest kind", 0.5, slowest_s, "s"))
    lines = [f"| at batch {BATCH} | at most | measured | |", "|---|---|---|---|"]
    for what, most, found, unit in rows:
        verdict = "" if found <= most else MISSED
        lines.append(f"| {what} | {most} {unit} | {found:.3g} {unit} | {verdict} |")
    if ("cures", 10 * MILLION, BATCH) not in times:
        return lines
    heading = (
        f"| at {10 * MILLION:,} prompts faster than | at least | `cures` | | with forgetting | |"
    )
    lines += ["", heading, "|---" * 6 + "|"]
    for other, least in (("dense numpy", 20), ("release", 1000)):
        yardstick = times[other, 10 * MILLION, BATCH]
        mark, cells = "~" if yardstick.is_extrapolated else "", [other, f"{least}x"]
        for arm in ("cures", "cures, forgetting"):
            factor = yardstick.seconds / times[arm, 10 * MILLION, BATCH].seconds
            cells += [f"{mark}{factor:.0f}x", "" if factor >= least else MISSED]
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def page(times: Times, memories: Memories, allocations: allocate.Times, command: str) -> str:
    """The whole of it as markdown, made by ``command``."""
    sizes = sorted({size for _, size, _ in times})
    lines = [
        INTRODUCTION.format(fewest=sizes[0], most=sizes[-1], rollouts=ROLLOUTS),
        provenance(command, f"numpy {np.__version__}"),
        "",
        *aims(times, memories, allocations),
        "",
    ]
    how = "Time of propose + observe; `growth` over the smallest pool of the batch. Last columns: what a"
    how += "\nyardstick takes, in steps of the line; above 1 the line is the faster one."
    for heading, words, text in (
        ("Steps", how, table(times)),
        ("Memory, and states on disk", "", memory_table(memories)),
        ("`allocate`", "CPU seconds.", allocate.table(allocations)),
    ):
        lines += [f"## {heading}", "", *([words, ""] if words else [])]
        lines += ["```", *(line.rstrip() for line in text.splitlines()), "```", ""]
    return "\n".join(lines)


def draw_figure(found: Times, batch: int, path: Path) -> None:
    """Time of a step against the size of the pool, at one batch size."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    lines = {
        "cures": ("C0", "-"), "cures, forgetting": ("C0", "--"), "cures, dense": ("C0", ":"),
        "adaptive": ("C2", "-"), "uniform": ("C7", "-"), "dense numpy": ("C1", "-"),
        "choice": ("C1", "--"), "release": ("C3", "-"), "bytes": ("0.7", ":"),
    }  # fmt: skip
    with rc_context({"font.size": 7.5, "axes.spines.top": False, "axes.spines.right": False}):
        figure = Figure(figsize=(3.3, 3.0), layout="constrained")
        axes = figure.add_subplot()
        for name, (colour, dash) in lines.items():
            points = [(n, t) for (what, n, b), t in found.items() if (what, b) == (name, batch)]
            if not points:
                continue
            sizes, times = zip(*points, strict=True)
            seconds = [t.seconds * 1e3 for t in times]
            axes.plot(sizes, seconds, dash, color=colour, marker=".", lw=1.2, label=name)
        axes.set(xscale="log", yscale="log", xlabel="prompts", ylabel="a step, ms")
        figure.legend(loc="outside lower center", fontsize=6, ncols=3, frameon=False)
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(f".{path.name}.partial")
        figure.savefig(partial, format="png", dpi=200, metadata={"Software": None})
        partial.replace(path)
