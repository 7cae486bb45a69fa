"""Lengths of prompts and answers, and habits of the trainer: what a plan is told, never estimates."""

from __future__ import annotations

from dataclasses import dataclass

from cures.checks import as_bool, as_float, as_int, fail


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """Means over rollouts, and settings of the trainer.

    Attributes
    ----------
    prompt_tokens, response_tokens : float
        Mean lengths.
    response_limit : int, optional
        Longest answer. One answer of every round is taken to reach it, and the devices wait for it.
        ``None``: nobody waits.
    max_concurrent : int
        Most sequences that one replica of the engine decodes at once.
    tensor_parallel : int, optional
        Devices that share one replica; ``None``: the fewest that hold ``max_concurrent`` sequences.
    mini_batch : int
        Prompts of one optimiser step.
    epochs : int
        Passes over the rollouts of an update.
    logprob_passes : int
        Forward passes over trained rollouts beside the training itself: 2 for old and reference
        policy.
    recompute : bool
        Whether activations are recomputed in the backward pass.
    verify_s : float
        CPU seconds to verify a rollout.
    verify_workers : int
        CPU cores that do.
    """

    prompt_tokens: float = 200.0
    response_tokens: float = 800.0
    response_limit: int | None = 3072
    max_concurrent: int = 256
    tensor_parallel: int | None = None
    mini_batch: int = 256
    epochs: int = 1
    logprob_passes: int = 2
    recompute: bool = True
    verify_s: float = 0.02
    verify_workers: int = 32

    def __post_init__(self) -> None:
        where = "plan"
        as_float(where, "prompt_tokens", self.prompt_tokens, 1.0, 1e7)
        as_float(where, "response_tokens", self.response_tokens, 1.0, 1e7)
        if self.response_limit is not None:
            as_int(where, "response_limit", self.response_limit, 1)
            if self.response_limit < self.response_tokens:
                legal = f"at least response_tokens, {self.response_tokens:g} (a mean)"
                fail(where, "response_limit", legal, self.response_limit)
        for name in ("max_concurrent", "mini_batch", "epochs", "verify_workers"):
            as_int(where, name, getattr(self, name), 1)
        if self.tensor_parallel is not None:
            as_int(where, "tensor_parallel", self.tensor_parallel, 1)
        as_int(where, "logprob_passes", self.logprob_passes, 0)
        as_bool(where, "recompute", self.recompute)
        as_float(where, "verify_s", self.verify_s, 0.0)

    @property
    def sequence_tokens(self) -> float:
        """Prompt and answer."""
        return self.prompt_tokens + self.response_tokens
