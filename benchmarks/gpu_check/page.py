"""Numbers of a check -> aims beside what was measured, and a page of markdown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sim.wording import difference_text
from train.dry_run.show import size_text

Part = Mapping[str, Any]
CORRECTNESS = ("agreement", "accumulation", "resume")  # and vllm, where there is one
GENERATION_AIM, UPDATE_AIM, MOMENTS_AIM = 0.60, 0.40, 0.05
REHEARSAL = """\
**A rehearsal on a CPU** (profile `cpu`, a tiny model): it shows that the program works. Nothing here
says anything about a GPU.
"""
WHAT = """\
`make gpu-check` takes at most eight minutes on one GPU and downloads nothing. It shows

- whether engine (`native`, and vLLM where it is installed) and learner give the same log-probabilities
  in float32 and bfloat16, whether the gradient is the same however it is cut into passes, and whether a
  run that was stopped and gone on with is the run that was left alone;
- tokens per second of generation and of an update beside the card's own speed: bytes that generation
  has to read (weights and cache) beside its copies, floating-point operations of an update beside
  its bf16 products, and peak memory beside the plan of `--dry-run`;
- what gradient moments cost beside the pilots' generation, a step, and a backward pass per rollout;
- `uniform`, `cures` and `adaptive` at equal generated rollouts on a model of 34 million parameters, as
  many paired seeds as fit.
"""
# title, and a sentence about the table of a part's rows
SECTIONS = {
    "agreement": (
        "Log-probabilities, engine and learner",
        "Size of the differences at the sampled tokens, in nats.",
    ),
    "accumulation": (
        "One update in several passes",
        "Norm of the difference to one pass, over the norm, float32; the gradient's limit is {limit:g}. "
        "A first step of AdamW has one size for every weight, also for those whose gradient is all "
        "rounding: shown, not judged.",
    ),
    "resume": (
        "Stopped and gone on with",
        "{updates} updates of `adaptive`. Distance of the last weights, over the way that they went.",
    ),
    "vllm": ("vLLM", "{note}"),
    "throughput": (
        "Speed",
        "Products in bf16: {products:.3g} TFLOP/s; copies: {copies:.3g} GB/s; the model: {parameters:,} "
        "parameters. Memory of generation is that of keys and values.",
    ),
    "moments": (
        "Gradient moments",
        "{rollouts} rollouts, float32. Keeping generation's hidden states and making the head's moments "
        "of them takes {of_generation:.1%} of the pilots' generation, {of_step:.1%} of a step and "
        "{of_loop:.1%} of a backward pass per rollout. Same moments as that loop's: {agrees}.",
    ),
    "curriculum": (
        "Curricula at equal generated rollouts",
        "{parameters:,} parameters, {rollouts:,} generated rollouts a run, {seeds} paired seeds from "
        "one warm start (success {success:.3f} after {supervised_steps} supervised steps). Differences "
        "are paired, with 95 % intervals. {note}",
    ),
}


def aims(parts: Mapping[str, Part], *, is_gpu: bool) -> list[dict[str, Any]]:
    """Every aim with what was measured, and with the best row where a part has several.

    None where it was not measured, which is everywhere but on a GPU.
    """
    rows = {name: parts.get(name, {}).get("rows", ()) for name in ("throughput", "vllm")}
    overhead = parts.get("moments", {}).get("of_generation")
    copies = f"at least {GENERATION_AIM:.0%} of the bandwidth of the card's copies"
    found = (
        (f"generation by native: {copies}", *best(rows["throughput"], "bandwidth_share"),
         lambda value: value >= GENERATION_AIM),
        (f"generation by vllm: {copies}", *best(rows["vllm"], "bandwidth_share"),
         lambda value: value >= GENERATION_AIM),
        (f"update: at least {UPDATE_AIM:.0%} of the card's bf16 products",
         *best(rows["throughput"], "matmul_share"), lambda value: value >= UPDATE_AIM),
        (f"moments: less than {MOMENTS_AIM:.0%} of the pilots' generation", None, overhead,
         lambda value: value < MOMENTS_AIM),
    )  # fmt: skip
    return [
        {"aim": aim, "row": row, "measured": value, "is_met": is_met(value)}
        if is_gpu and value is not None
        else {"aim": aim, "row": None, "measured": None, "is_met": None}
        for aim, row, value, is_met in found
    ]


def best(rows: Sequence[Mapping[str, Any]], key: str) -> tuple[str | None, float | None]:
    """Name and value of the row with the largest value."""
    row = max((row for row in rows if key in row), key=lambda row: row[key], default=None)
    if row is None:
        return None, None
    return f"{row.get('what', row.get('engine'))}, {row['rollouts']} rollouts", row[key]


def is_correct(parts: Mapping[str, Part]) -> bool:
    """Whether every correctness part was measured and holds; vLLM may be missing."""
    found = [parts.get(name, {}).get("holds", False) for name in CORRECTNESS]
    vllm = parts.get("vllm", {"status": "missing"})
    return all(found) and (vllm["status"] == "missing" or vllm.get("holds", False))


def page(found: Mapping[str, Any], *, has_times: bool) -> str:
    """The page of a ``gpu_check.json``; without times, what a machine's speed does not change."""
    parts = found["parts"]
    lines = ["# GPU check", "", *([REHEARSAL] if found["gpu"] is None else []), WHAT]
    lines += [found["origin"], ""]
    left_out = [
        title
        for name, (title, _) in SECTIONS.items()
        if not has_times
        and name not in CORRECTNESS
        and parts.get(name, {}).get("status") == "measured"
    ]
    if left_out:
        lines += [f"Measured, too, and left out here: {'; '.join(left_out)}.", ""]
    met = {None: "not measured", True: "met", False: "missed"}
    lines += table([
        {
            "aim": row["aim"], "measured_share": row["measured"], "best_row": row["row"],
            "": met[row["is_met"]],
        }
        for row in found["aims"]
    ])  # fmt: skip
    failed = [f"{name}: {p['sentence']}" for name, p in parts.items() if p["status"] == "failed"]
    for title, sentences in (("Missing", found["missing"]), ("Failed", failed)):
        if sentences:
            lines += [f"## {title}", "", *(f"- {sentence}" for sentence in sentences), ""]
    for name, (title, sentence) in SECTIONS.items():
        part = parts.get(name, {})
        if part.get("status") == "measured" and (has_times or name in CORRECTNESS):
            lines += [f"## {title}", "", sentence.format(**part).rstrip(), "", *table(part["rows"])]
    return "\n".join(lines).rstrip() + "\n"


def table(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Markdown with a column for every key, and an empty line."""
    keys = list(dict.fromkeys(key for row in rows for key in row))
    heads = [key.removesuffix("_bytes").removesuffix("_share").replace("_", " ") for key in keys]
    cells = [[cell(key, row.get(key)) for key in keys] for row in rows]
    lines = ["| " + " | ".join(row) + " |" for row in (heads, *cells)]
    return [lines[0], "|---" * len(keys) + "|", *lines[1:], ""]


def cell(key: str, value: object) -> str:
    """A value by its type, and by what its key ends with.

    Examples
    --------
    >>> cell("bandwidth_share", 0.613), cell("peak_bytes", 1536.0), cell("mean", 1.234e-6)
    ('61.3 %', '1.5 KiB', '1.23e-06')
    >>> cell("tokens_per_s", 123456.7), cell("holds", False), cell("mean", None)
    ('123,457', '**no**', '')
    >>> cell("minus_uniform", {"mean": 0.01, "low": -0.002, "high": 0.022}), cell("arm", "cures")
    ('+0.010 [-0.002, +0.022]', 'cures')
    """
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "**no**"
    if isinstance(value, str):
        return value
    if isinstance(value, dict):
        return difference_text(value, digits=3)
    assert isinstance(value, int | float)
    if key.endswith("_share"):
        return f"{100 * value:.3g} %"
    if key.endswith("_bytes"):
        return size_text(value)
    return f"{value:,.0f}" if isinstance(value, int) or value >= 1000.0 else f"{value:.3g}"
