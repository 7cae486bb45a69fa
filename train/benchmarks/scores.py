"""Answers -> numbers: pass@1, pass@k, their intervals, and what missing and truncated answers could do.

A missing answer (engine or verifier had no time) is missing data: it is left out, and the two results
that it could have led to, all missing ones wrong or all right, are reported as bounds. A truncated
answer is wrong; what pass@1 would be if its text counted is reported beside it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from cures.checks import FloatArray
from train.benchmarks.answer_file import Answer
from train.benchmarks.interval import Estimate, clustered_interval
from train.benchmarks.pass_at_k import pass_at_k

CONFIDENCE = 0.95


@dataclass(frozen=True, kw_only=True)
class Score:
    """What a model reached in one benchmark; rates lie in [0, 1].

    Attributes
    ----------
    problems, samples : int
    unanswered : int
        Problems without a published answer, all of whose answers are wrong.
    answers, missing, truncated, without_box : int
        Answers asked for; without a verdict; cut short; with no closed ``\\boxed{}`` (of those that are
        not missing).
    mean_tokens : float or None
        Of the answers that are not missing.
    pass_at_1 : Estimate or None
        Mean over problems of the mean over judged answers; None if nothing was judged.
    lowest, highest : float
        pass@1 if every missing answer were wrong, or right.
    with_truncated : float or None
        pass@1 if truncated answers were judged by their text.
    pass_at_k : dict of int to Estimate
        Over the problems with at least k judged answers, where there are any.
    """

    problems: int
    samples: int
    unanswered: int
    answers: int
    missing: int
    truncated: int
    without_box: int
    mean_tokens: float | None
    pass_at_1: Estimate | None
    lowest: float
    highest: float
    with_truncated: float | None
    pass_at_k: dict[int, Estimate]

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)


def score(answers: Sequence[Answer], samples: int, confidence: float = CONFIDENCE) -> Score:
    """Numbers of a benchmark.

    Parameters
    ----------
    answers : sequence of Answer
        By problem and sample, complete: ``samples`` for each problem.
    samples : int
    confidence : float in (0, 1)
    """
    reward_N_S = _table([answer.reward for answer in answers], samples)
    verdict_N_S = _table([answer.verdict for answer in answers], samples)
    judged_N = np.isfinite(reward_N_S).sum(axis=1)
    right_N = np.nansum(reward_N_S, axis=1).astype(np.int64)
    estimates = {}
    for k in _ks(samples):
        value_N = pass_at_k(right_N, judged_N, k)
        value_N = value_N[np.isfinite(value_N)]
        if value_N.size:
            estimates[k] = clustered_interval(value_N, samples, confidence=confidence)
    lengths = [answer.tokens for answer in answers if answer.finish != "missing"]
    return Score(
        problems=judged_N.size,
        samples=samples,
        unanswered=len({answer.problem for answer in answers if not answer.reference}),
        answers=len(answers),
        missing=int(np.isnan(reward_N_S).sum()),
        truncated=sum(answer.finish == "length" for answer in answers),
        without_box=sum(a.extracted is None for a in answers if a.finish != "missing"),
        mean_tokens=float(np.mean(lengths)) if lengths else None,
        pass_at_1=estimates.get(1),
        lowest=float(np.nan_to_num(reward_N_S, nan=0.0).mean()),
        highest=float(np.nan_to_num(reward_N_S, nan=1.0).mean()),
        with_truncated=_mean_of_problems(verdict_N_S),
        pass_at_k=estimates,
    )


def _table(values: Sequence[float | None], samples: int) -> FloatArray:
    """Problems by samples, NaN for None."""
    flat = np.array([np.nan if value is None else value for value in values], dtype=np.float64)
    return flat.reshape(-1, samples)


def _mean_of_problems(value_N_S: FloatArray) -> float | None:
    judged_N = np.isfinite(value_N_S).sum(axis=1)
    if not judged_N.any():
        return None
    is_judged_N = judged_N > 0
    return float(np.mean(np.nansum(value_N_S, axis=1)[is_judged_N] / judged_N[is_judged_N]))


def _ks(samples: int) -> list[int]:
    """Powers of two up to the number of samples, and that number."""
    powers = [2**i for i in range(samples.bit_length()) if 2**i < samples]
    return [*powers, samples]
