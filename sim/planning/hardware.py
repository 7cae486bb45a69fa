"""Accelerators by their data sheets, and the share of it that software reaches: stated assumptions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace

from cures.checks import as_choice, as_float, fail


@dataclass(frozen=True, slots=True)
class Accelerator:
    """One device.

    Attributes
    ----------
    name : str
    peak_flops : float
        Dense bf16 matrix products with fp32 accumulation, FLOP/s; never the figure "with sparsity".
    bandwidth : float
        Of its memory, bytes/s.
    memory : float
        Bytes.
    """

    name: str
    peak_flops: float
    bandwidth: float
    memory: float

    def __post_init__(self) -> None:
        as_float("Accelerator", "peak_flops", self.peak_flops, 1e9, 1e18)
        as_float("Accelerator", "bandwidth", self.bandwidth, 1e9, 1e16)
        as_float("Accelerator", "memory", self.memory, 1e8, 1e14)


# Makers' data sheets: dense bf16 TFLOP/s, TB/s, GB.
_SHEETS = (
    ("A100-40GB", 312.0, 1.555, 40),
    ("A100-80GB", 312.0, 2.039, 80),
    ("H100-PCIe", 756.0, 2.0, 80),
    ("H100-SXM", 989.4, 3.35, 80),
    ("H200", 989.4, 4.8, 141),
    ("B200", 2250.0, 8.0, 180),
    ("L40S", 362.05, 0.864, 48),
    ("RTX-4090", 165.2, 1.008, 24),
    ("MI300X", 1307.4, 5.3, 192),
)
ACCELERATORS = {
    name: Accelerator(name, tflops * 1e12, tbs * 1e12, gb * 1e9)
    for name, tflops, tbs, gb in _SHEETS
}
LEVELS = ("pessimistic", "middle", "optimistic")


@dataclass(frozen=True, slots=True)
class Efficiency:
    """Shares of the data sheet that are reached, each in (0, 1].

    Attributes
    ----------
    prefill : float
        Of peak FLOP/s, in forward passes.
    decode : float
        Of bandwidth, while generating and in the optimiser's step.
    train : float
        Of peak FLOP/s, forward and backward.
    memory : float
        Of memory, for weights and cache of the engine.
    overlap : float
        Share of verification that is hidden behind generation, in [0, 1].
    """

    prefill: float
    decode: float
    train: float
    memory: float
    overlap: float

    def __post_init__(self) -> None:
        for f in fields(self):
            is_open = f.name != "overlap"
            as_float(
                "plan", f"efficiency {f.name}", getattr(self, f.name), 0.0, 1.0, open_low=is_open
            )


# Judgement, not measurement: measure yours with a short run and give it with --efficiency.
EFFICIENCIES = {
    "pessimistic": Efficiency(prefill=0.30, decode=0.35, train=0.25, memory=0.5, overlap=0.0),
    "middle": Efficiency(prefill=0.45, decode=0.55, train=0.38, memory=0.7, overlap=0.5),
    "optimistic": Efficiency(prefill=0.60, decode=0.75, train=0.50, memory=0.85, overlap=1.0),
}


def efficiencies_with(changes: Mapping[str, tuple[float, ...]]) -> dict[str, Efficiency]:
    """The three levels with some shares replaced: one value for all levels, or three in order.

    Examples
    --------
    >>> levels = efficiencies_with({"train": (0.4,), "decode": (0.3, 0.4, 0.5)})
    >>> [(level.train, level.decode) for level in levels.values()]
    [(0.4, 0.3), (0.4, 0.4), (0.4, 0.5)]
    """
    names = tuple(f.name for f in fields(Efficiency))
    result = dict(EFFICIENCIES)
    for name, values in changes.items():
        as_choice("plan", "efficiency", name, names)
        if len(values) not in (1, len(LEVELS)) or list(values) != sorted(values):
            legal = f"one value or three ascending ones ({', '.join(LEVELS)})"
            fail("plan", f"efficiency {name}", legal, values)
        for i, level in enumerate(LEVELS):
            result[level] = replace(result[level], **{name: values[i % len(values)]})
    return result
