"""How large everything is: on a GPU, and in the rehearsal on a CPU."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from train.config import Config, from_dict
from train.model_config import ScratchConfig

ARMS = ("uniform", "cures", "adaptive")  # the reference first


@dataclass(frozen=True, kw_only=True)
class Profile:
    """Sizes of the parts.

    Attributes
    ----------
    model : ScratchConfig
        Of all parts but the curriculum, which has a smaller one.
    rollouts, new_tokens : int
        Of agreement, accumulation and moments.
    rows, long_tokens : tuple of int, int
        Rollouts generated at once by throughput, and tokens of each; its update takes the fewest.
    pass_tokens : int
        Padded tokens of a pass.
    matmul_width, copied_bytes : int
        Of the products and copies that speeds are compared with.
    rounds : int
        Turns of an update and of the arms of moments, of which the median counts. Generation in
        throughput and the loop of moments, which take longest, have one.
    sections : dict
        The curriculum's configuration: arithmetic task, new model and its warm start.
    seeds : int
        At most, of the curriculum.
    """

    name: str
    model: ScratchConfig
    rollouts: int
    new_tokens: int
    rows: tuple[int, ...]
    long_tokens: int
    pass_tokens: int
    matmul_width: int
    copied_bytes: int
    rounds: int
    sections: dict[str, dict[str, Any]]
    seeds: int

    def config(self) -> Config:
        """Of the curriculum, before there is a warm-started model."""
        return from_dict(self.sections)


GPU = Profile(
    name="gpu",
    model=ScratchConfig(  # 134 million parameters
        hidden_size=1024, layers=8, heads=16, kv_heads=16, ffn_size=4096, initializer_range=0.02
    ),
    rollouts=256, new_tokens=64, rows=(128, 512, 2048), long_tokens=256, pass_tokens=16_384,
    matmul_width=8192, copied_bytes=2**31, rounds=3, seeds=16,
    sections={
        "task": {"pool_size": 4000, "held_out_size": 500},
        "model": {  # 34 million parameters
            "hidden_size": 512, "layers": 10, "heads": 8, "kv_heads": 8, "ffn_size": 1536,
            "initializer_range": 0.02,
        },
        # many examples, or a model of this size learns them by heart
        "warm_start": {
            "steps": 1000, "examples": 50_000, "batch_size": 256, "digit_noise": 0.05,
            "target_success": 0.35, "check_problems": 1000,
        },
        "learner": {"learning_rate": 1e-4, "pass_tokens": 32_768},
        "scheduler": {"batch_size": 128, "budget": 1024},
        "evaluation": {"every": 6144, "samples": 8},
        "run": {"rollouts": 30_720, "checkpoint_every": 10_000, "threads": 4},
    },
)  # fmt: skip
CPU = Profile(
    name="cpu",
    model=ScratchConfig(hidden_size=64, layers=2, heads=4, kv_heads=4, ffn_size=192),
    rollouts=32, new_tokens=16, rows=(32, 128), long_tokens=32, pass_tokens=512,
    matmul_width=256, copied_bytes=2**24, rounds=1, seeds=2,
    sections={
        "task": {
            "families": ["add", "dig"], "digits": [1, 2], "pool_size": 500, "held_out_size": 100,
        },
        "model": {"hidden_size": 64, "ffn_size": 192},
        "warm_start": {
            "steps": 300, "digit_noise": 0.1, "target_success": 0.25, "check_problems": 200,
        },
        "learner": {"learning_rate": 1e-3},
        "scheduler": {
            "batch_size": 16, "budget": 128,
            "cures": {"num_subsets": 5, "pilots": 2, "steps_per_subset": 4},
        },
        "evaluation": {"every": 512, "samples": 4},
        "run": {"rollouts": 2048, "checkpoint_every": 10_000},
    },
)  # fmt: skip
PROFILES = {profile.name: profile for profile in (GPU, CPU)}
