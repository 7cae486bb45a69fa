"""Do engine and learner mean the same policy? Is an update the same however it is cut into passes?"""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any, NamedTuple

import torch
from torch import Tensor

from benchmarks.gpu_check.material import Batch, Setting, Subject, config_of, native
from train.policy import Policy
from train.sequences import Sequences, completion_tokens, cut_by_tokens


class Limits(NamedTuple):
    """Of the differences at the sampled tokens, nats."""

    largest: float
    mean: float


FLOAT32 = Limits(1e-4, 1e-4)  # at any token: what docs/engines.md promises of every engine
# A number near 1 has roundings of 2^-8 = 0.004 in bfloat16. Both limits are some four times what the
# tiny model has on a CPU (docs/results/gpu.md); a mean alone would hide one wrong token.
BFLOAT16 = Limits(0.1, 0.02)
# Of the gradient's norm, float32. Sums in another order leave a hundredth of it on a CPU (the same
# page), one lost rollout a thousand times as much (the control in tests/unit/test_gpu_check.py).
GRADIENT_LIMIT = 1e-4


def agreement(setting: Setting) -> dict[str, Any]:
    """Engine ``native`` against the learner, in float32 and in bfloat16.

    The middle row is a run with ``learner.precision = "bfloat16"``: weights and engine in float32.
    """
    subject = Subject.short(setting)
    in_bfloat16 = copy.deepcopy(subject.model).to(torch.bfloat16)
    rows = []
    for model, autocast, learner, limits in (
        (subject.model, None, "float32", FLOAT32),
        (subject.model, torch.bfloat16, "products in bfloat16", BFLOAT16),
        (in_bfloat16, None, "bfloat16", BFLOAT16),
    ):
        batch = subject.batch(subject.generate(native(model)))
        difference_F = differences(Policy(model, subject.decoding, autocast), batch)
        weights = str(model.dtype).removeprefix("torch.")
        rows.append(agreement_row(f"native, {weights}", learner, difference_F, limits))
    return {"rows": rows, "holds": all(row["holds"] for row in rows)}


@torch.no_grad()
def differences(policy: Policy, batch: Batch) -> Tensor:
    """Of the log-probabilities of the sampled tokens, learner minus engine, shape (F,)."""
    rollouts = batch.rollouts
    sequences = Sequences.of(batch.prompts, rollouts.token_R_T, rollouts.length_R)
    device = next(policy.parameters()).device
    engine_F = completion_tokens(rollouts.log_prob_R_T, rollouts.length_R)
    return policy(sequences.to(device)).log_prob_F.cpu() - engine_F


def agreement_row(
    engine: str, learner: str, difference_F: Tensor, limits: Limits
) -> dict[str, Any]:
    """Largest and mean size of the differences, and whether both are within their limits."""
    size_F = difference_F.abs().double()
    largest, mean = float(size_F.max()), float(size_F.mean())
    return {
        "engine": engine,
        "learner": learner,
        "tokens": size_F.numel(),
        "largest": largest,
        "largest_limit": limits.largest,
        "mean": mean,
        "mean_limit": limits.mean,
        "holds": largest <= limits.largest and mean <= limits.mean,
    }


def accumulation(setting: Setting) -> dict[str, Any]:
    """The gradient of one update in float32, in one pass and in more and more of them.

    ``step`` compares what AdamW makes of it: its first step has one size for all weights, also where
    a gradient is as small as its roundings, so that it is shown and not judged.
    """
    subject = Subject.short(setting)
    batch = subject.batch(subject.generate(native(subject.model)))
    whole = int(batch.row_tokens_R.max()) * len(batch.rollouts)
    rows: list[dict[str, Any]] = []
    reference: tuple[Tensor, Tensor] | None = None
    for pass_tokens in (whole, whole // 4, whole // 16, 1):
        found = updated(setting, subject, batch, pass_tokens)
        reference = reference or found
        gradient, step = (distance(*pair) for pair in zip(found, reference, strict=True))
        passes = len(cut_by_tokens(batch.row_tokens_R, pass_tokens))
        row = {"pass_tokens": pass_tokens, "passes": passes, "gradient": gradient, "step": step}
        rows.append({**row, "holds": gradient <= GRADIENT_LIMIT})
    return {"rows": rows, "limit": GRADIENT_LIMIT, "holds": all(row["holds"] for row in rows)}


def updated(
    setting: Setting, subject: Subject, batch: Batch, pass_tokens: int
) -> tuple[Tensor, Tensor]:
    """Gradient of one update, and the step that the weights take, flat; of a copy of the model."""
    own = replace(subject, model=copy.deepcopy(subject.model))
    learner = own.learner(config_of(setting.profile, pass_tokens=pass_tokens))
    batch.update(learner)
    pairs = list(zip(own.model.parameters(), subject.model.parameters(), strict=True))
    gradient = [after.grad.flatten() for after, _ in pairs if after.grad is not None]
    step = [(after - before).detach().flatten() for after, before in pairs]
    return torch.cat(gradient), torch.cat(step)


def distance(found: Tensor, expected: Tensor) -> float:
    """Norm of the difference over the norm of what is expected.

    Examples
    --------
    >>> distance(torch.tensor([3.0, 4.0]), torch.tensor([0.0, 4.0]))
    0.75
    """
    return float((found - expected).norm() / expected.norm())
