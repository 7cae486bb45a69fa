"""``python -m sim plan``: what a schedule costs before a GPU-hour is spent."""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from cures.checks import fail
from sim.planning.cost import TERMS, Site
from sim.planning.hardware import ACCELERATORS, EFFICIENCIES, Accelerator, efficiencies_with
from sim.planning.models import MODELS, shape_of
from sim.planning.settings import PlanSettings
from sim.planning.workload import Workload
from sim.settings import parse_options

SUMMARY = "rollouts, tokens and GPU-hours of a schedule, before it is run"
STOPPED = "Nothing was written; the same command starts again."
ARMS = (
    "cures",
    "uniform",
    "cures@norms",
    "cures-released",
    "gvm",
    "speed",
    "dapo",
    "band",
    "oracle",
)
# the paper takes sigma from gradient norms of the pilots; `cures` alone uses sqrt(p (1 - p))
PRESET = {"cures@norms": {"use_moments": True}}
DESCRIPTION = """\
What does a schedule cost, and what would the alternatives? Every scheduler is run for some updates on
prompts whose success rates follow the population, to see how many rollouts an update and its pilots
take; from there the totals are arithmetic, up to 1e7 prompts and 1e9 rollouts in seconds. Lengths,
model and machine turn rollouts into tokens and GPU-hours.

Two comparisons: the same number of updates, and the same number of generated rollouts (that of the
first arm, or --rollouts). Pilots, screening and dropped groups count. Defaults are section 6 of the
paper: T = 15 subsets, N' = 4 pilots, 1024 prompts x 8 rollouts per update, M = 10 updates per subset.
"""


def _efficiency_lines() -> str:
    names = [f.name for f in fields(next(iter(EFFICIENCIES.values())))]
    lines = []
    for name in names:
        shares = ", ".join(f"{getattr(level, name):g}" for level in EFFICIENCIES.values())
        lines.append(f"  {name:<10}{shares}")
    return "\n".join(lines)


def _epilog() -> str:
    models = "\n".join(
        f"  {m.name:<18} {m.parameters / 1e9:6.2f} billion parameters, {m.layers} layers, "
        f"{m.cache_bytes / 1024:.0f} KiB of cache per token"
        for m in MODELS.values()
    )
    machines = "\n".join(
        f"  {a.name:<12} {a.peak_flops / 1e12:6.0f} dense bf16 TFLOP/s, {a.bandwidth / 1e12:5.2f} TB/s, "
        f"{a.memory / 1e9:4.0f} GB"
        for a in ACCELERATORS.values()
    )
    terms = "\n".join(f"  {name:<10}{text}" for name, text in TERMS.items())
    return f"""\
models (--model):
{models}

hardware (--hardware), from the makers' data sheets:
{machines}

efficiencies (--efficiency), shares of the data sheet at the levels {", ".join(EFFICIENCIES)};
judgement, not measurement: time a short run of yours and give its shares instead
{_efficiency_lines()}

terms of the GPU-hours:
{terms}

how each is computed:
  forward pass   2 x parameters + 4 x layers x attention width x context FLOPs per token; embeddings
                 that are only looked up are not counted
  training       three forward passes (the backward pass counts two), one more if recomputed
  decoding       per token, the larger of memory traffic (weights once for the whole batch, plus every
                 sequence's cache) and FLOPs; the batch is what fits into memory, --max-concurrent and
                 the plan allow
  optimiser      30 bytes of traffic per parameter and mini-batch
  norms          a backward pass per measured rollout, and its gradient written and read once

what the plan ignores:
  - learning: success rates stay those of the population. Screening and refilling get dearer or cheaper
    as the policy improves: plan again with a population that resembles the end of training.
  - spread of lengths, but for one longest answer per plan; lengths that depend on the success rate
  - communication between devices, weights sent from trainer to engine, loading, start-up,
    evaluation, failures; generation that overlaps with training (phases follow each other)
  - the true size of subsets beyond 2^20 prompts: the method is run on 2^20 of them (other methods, on
    at most 2^17 prompts of the pool), which matters to cures-released alone
  - what is learned: equal updates are not equal success. That is the question of `compare`.

examples:
  python -m sim plan --model Qwen2.5-Math-7B --devices 8 --prompts 150000
  python -m sim plan --parameters 3e10 --hardware H200 --devices 64 --prompts 1e7 --rollouts 1e9
  python -m sim plan --schedulers uniform dapo --population mostly_hard --set dapo.refill_size=1024
  python -m sim plan --efficiency decode=0.3,0.4,0.5 train=0.42 --population runs/mine/population.json
"""


def whole(text: str) -> int:
    """A count that may be written 1e7.

    Examples
    --------
    >>> whole("1e7"), whole("42")
    (10000000, 42)
    """
    try:
        return int(text)
    except ValueError:
        value = float(text)
    if not (math.isfinite(value) and value == int(value) and abs(value) <= 2**53):
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number")
    return int(value)


def add_arguments(p: argparse.ArgumentParser) -> None:
    """Fill the command's parser; defaults are those of the settings' classes."""
    p.description, p.epilog = DESCRIPTION, _epilog()
    default = {f.name: f.default for f in (*fields(PlanSettings), *fields(Workload))}

    def option(group: Any, flag: str, text: str, name: str, kind: Any = whole) -> None:
        shown = default.get(name)
        note = f" ({shown:g})" if isinstance(shown, int | float) else ""
        group.add_argument(flag, type=kind, metavar="N", dest=name, help=text + note)

    arms = p.add_argument_group("what is planned")
    arms.add_argument("--schedulers", nargs="+", metavar="NAME", help=f"arms ({' '.join(ARMS)})")
    arms.add_argument(
        "--set",
        nargs="+",
        action="extend",
        default=[],
        metavar="ARM.KEY=VALUE",
        help="options of single arms; cures@norms has use_moments=true",
    )
    arms.add_argument(
        "--population", metavar="NAME", help="success rates: a name, or PATH.json (u_shaped)"
    )
    option(arms, "--prompts", "prompts of the pool", "num_prompts")
    option(arms, "--updates", "updates of the first comparison", "updates")
    option(arms, "--rollouts", "rollouts of the second (those of the first arm)", "rollouts")
    arms.add_argument("--batch-size", type=whole, default=1024, metavar="N",
                      help="prompt draws per update (1024)")  # fmt: skip
    option(arms, "--group-size", "rollouts per draw", "group_size")
    option(arms, "--num-subsets", "T, of methods with subsets", "num_subsets")
    option(arms, "--pilots", "N', of methods with pilots", "pilots")
    option(arms, "--steps-per-subset", "M, of methods with subsets", "steps_per_subset")

    model = p.add_argument_group("model and machine")
    model.add_argument("--model", metavar="NAME", help="see below (Qwen2.5-Math-1.5B)")
    model.add_argument("--parameters", type=float, metavar="X", help="instead of a model's name")
    model.add_argument("--layers", type=whole, metavar="N", help="instead of the table's")
    model.add_argument("--attention-width", type=whole, metavar="N", help="heads x head dimension")
    model.add_argument("--kv-width", type=whole, metavar="N", help="the same of key-value heads")
    model.add_argument(
        "--hardware", default="H100-SXM", metavar="NAME", help="see below (H100-SXM)"
    )
    model.add_argument("--peak-tflops", type=float, metavar="X", help="dense bf16, instead")
    model.add_argument("--bandwidth-tbs", type=float, metavar="X", help="TB/s, instead")
    model.add_argument("--memory-gb", type=float, metavar="X", help="instead")
    model.add_argument("--devices", type=whole, default=8, metavar="N", help="in all (8)")
    model.add_argument(
        "--efficiency",
        nargs="+",
        action="extend",
        default=[],
        metavar="NAME=X[,X,X]",
        help="shares of the data sheet, one for all levels or three; see below",
    )

    work = p.add_argument_group("lengths and trainer")
    option(work, "--prompt-tokens", "mean length of a prompt", "prompt_tokens", float)
    option(work, "--response-tokens", "mean length of an answer", "response_tokens", float)
    option(work, "--response-limit", "longest answer, waited for; 0: no wait", "response_limit")
    option(work, "--mini-batch", "prompts of an optimiser step", "mini_batch")
    option(work, "--epochs", "passes over an update's rollouts", "epochs")
    option(work, "--logprob-passes", "old and reference policy: 2", "logprob_passes")
    work.add_argument("--no-recompute", action="store_true", help="activations are kept")
    option(work, "--max-concurrent", "sequences per replica", "max_concurrent")
    option(
        work,
        "--tensor-parallel",
        "devices per replica (as few as hold --max-concurrent sequences)",
        "tensor_parallel",
    )
    option(work, "--verify-s", "CPU seconds to verify a rollout", "verify_s", float)
    option(work, "--verify-workers", "CPU cores that verify", "verify_workers")

    run_ = p.add_argument_group("measurement and files")
    option(run_, "--measured-updates", "updates that are really run, per arm", "measured_updates")
    option(run_, "--seed", "root of all randomness", "seed")
    run_.add_argument(
        "--out",
        type=Path,
        default=Path("runs/plan"),
        help="folder (runs/plan); an earlier plan in it is replaced",
    )


def settings_of(arguments: argparse.Namespace) -> PlanSettings:
    """Validated settings of a command line."""
    given = {key: value for key, value in vars(arguments).items() if value is not None}
    workload = {f.name: given[f.name] for f in fields(Workload) if f.name in given}
    if workload.get("response_limit") == 0:
        workload["response_limit"] = None
    workload["recompute"] = not arguments.no_recompute
    name = arguments.model
    if name is None and arguments.parameters is None:
        name = "Qwen2.5-Math-1.5B"
    shape = shape_of(
        name,
        parameters=arguments.parameters,
        layers=arguments.layers,
        attention_width=arguments.attention_width,
        kv_width=arguments.kv_width,
    )
    site = Site(
        shape,
        _accelerator(arguments),
        arguments.devices,
        Workload(**workload),
        arguments.batch_size,
    )
    arms = tuple(arguments.schedulers or ARMS)
    options = {arm: dict(own) for arm, own in PRESET.items() if arm in arms}
    for arm, own in parse_options(arguments.set, "plan").items():
        options[arm] = {**options.get(arm, {}), **own}
    own_fields = {f.name for f in fields(PlanSettings)} - {
        "arms",
        "options",
        "site",
        "efficiencies",
    }
    return PlanSettings(
        arms=arms,
        site=site,
        options=options,
        efficiencies=efficiencies_with(_shares(arguments.efficiency)),
        **{key: value for key, value in given.items() if key in own_fields},
    )


def _accelerator(arguments: argparse.Namespace) -> Accelerator:
    if arguments.hardware not in ACCELERATORS:
        fail("plan", "hardware", f"one of {list(ACCELERATORS)}", arguments.hardware)
    own = {
        "peak_flops": (arguments.peak_tflops, 1e12),
        "bandwidth": (arguments.bandwidth_tbs, 1e12),
        "memory": (arguments.memory_gb, 1e9),
    }
    changes = {key: value * unit for key, (value, unit) in own.items() if value is not None}
    table = ACCELERATORS[arguments.hardware]
    return replace(table, name=f"{table.name} (changed)", **changes) if changes else table


def _shares(entries: Sequence[str]) -> dict[str, tuple[float, ...]]:
    """``NAME=X`` or ``NAME=X,X,X``."""
    shares = {}
    for entry in entries:
        name, _, text = entry.partition("=")
        try:
            shares[name] = tuple(float(part) for part in text.split(","))
        except ValueError:
            fail("plan", "efficiency", "NAME=X or NAME=X,X,X, e.g. train=0.4", entry)
    return shares


def run(arguments: argparse.Namespace, console: Console) -> int:
    """Measure, price, write, show."""
    settings = settings_of(arguments)
    from sim.planning.plan import check_folder, make_plan, write_plan
    from sim.planning.report import show

    check_folder(arguments.out)

    with Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=console,
        transient=True,
    ) as progress:
        task = progress.add_task("measuring", total=len(settings.arms))

        def on_arm(arm: str) -> None:
            progress.update(
                task, description=f"measuring {arm}", completed=settings.arms.index(arm)
            )

        plan = make_plan(settings, on_arm=on_arm)
    write_plan(plan, arguments.out)
    show(settings, plan, arguments.out, console)
    return 0
