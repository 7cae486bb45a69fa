"""Numbers of a check -> aims beside what was measured, and a page of markdown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from train.dry_run.show import size_text

Part = Mapping[str, Any]
CORRECTNESS = ("agreement", "accumulation", "resume")  # and vllm, where there is one
GENERATION_AIM, UPDATE_AIM, MOMENTS_AIM = 0.60, 0.40, 0.05
REHEARSAL = """\
**No GPU run has been made yet.** What follows is the program's rehearsal on a CPU (profile `cpu`, a tiny
model): it shows that the program works. Nothing here says anything about a GPU.
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
        "one warm start (success {success:.3f} after {supervised_steps} supervised steps). {note}",
    ),
}


def aims(parts: Mapping[str, Part], *, is_gpu: bool) -> list[dict[str, Any]]:
    """Every aim with what was measured; None where it was not, which is everywhere but on a GPU."""
    rows = [*parts.get("throughput", {}).get("rows", ()), *parts.get("vllm", {}).get("rows", ())]
    best = {
        key: max((row[key] for row in rows if row.get(key) is not None), default=None)
        for key in ("bandwidth_share", "matmul_share")
    }
    overhead = parts.get("moments", {}).get("of_generation")
    found = (
        ("generation: at least 60 % of the bandwidth of the card's copies", best["bandwidth_share"],
         lambda value: value >= GENERATION_AIM),
        ("update: at least 40 % of the card's bf16 products", best["matmul_share"],
         lambda value: value >= UPDATE_AIM),
        ("moments: less than 5 % of the pilots' generation", overhead,
         lambda value: value < MOMENTS_AIM),
    )  # fmt: skip
    return [
        {"aim": aim, "measured": value, "is_met": is_met(value)}
        if is_gpu and value is not None
        else {"aim": aim, "measured": None, "is_met": None}
        for aim, value, is_met in found
    ]


def is_correct(parts: Mapping[str, Part]) -> bool:
    """Whether every correctness part was measured and holds; vLLM may be missing."""
    found = [parts.get(name, {}).get("holds", False) for name in CORRECTNESS]
    vllm = parts.get("vllm", {"status": "missing"})
    return all(found) and (vllm["status"] == "missing" or vllm.get("holds", False))


def page(found: Mapping[str, Any], *, has_times: bool) -> str:
    """The page of a ``gpu_check.json``; without times, what a machine's speed does not change."""
    parts, machine = found["parts"], found["machine"]
    about = ", ".join(f"{key} {value}" for key, value in machine.items() if value is not None)
    lines = ["# GPU check", "", *([REHEARSAL] if machine["gpu"] is None else []), WHAT]
    lines += [f"Command: `{found['command']}`. Commit: `{found['commit']}`. Machine: {about}.", ""]
    met = {None: "not measured", True: "met", False: "missed"}
    lines += table([
        {"aim": row["aim"], "measured_share": row["measured"], "": met[row["is_met"]]}
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
    """
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "**no**"
    if isinstance(value, str):
        return value
    assert isinstance(value, int | float)
    if key.endswith("_share"):
        return f"{100 * value:.3g} %"
    if key.endswith("_bytes"):
        return size_text(value)
    return f"{value:,.0f}" if isinstance(value, int) or value >= 1000.0 else f"{value:.3g}"
