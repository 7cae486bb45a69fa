"""Verdicts per second: each verifier alone, in a pool, and in a pool with hostile texts among them.

python -m benchmarks.verifiers [--texts 2000] [--workers 2] [--hostile 0.01]
"""

from __future__ import annotations

import argparse
import importlib
import time
from collections.abc import Callable

from train.verifiers.pool import VerifierPool

OPTIONS = {"math": {}, "exact": {}, "regex": {"pattern": r"\\boxed\{([^{}]*)\}"}}
SOLUTION = "Let $x$ be the number. Then $2x + 3 = 7$, so $x = 2$. " * 20
HOSTILE = r"\boxed{9^{9^{9^9}}}"
TIME_LIMIT_S = 2.0


def texts(count: int) -> tuple[list[str], list[str]]:
    """Completions of a thousand characters, half of them right, and their references.

    No answer comes twice, and those that are right are written otherwise than the reference: nothing is
    decided by text alone, or remembered.
    """
    completions = [
        SOLUTION + rf"The answer is $\boxed{{\frac{{{2 * i + 2}}}{{{2 * (i % 7) + 4}}}}}$."
        for i in range(count)
    ]
    references = [rf"\frac{{{i + 1 + i % 2}}}{{{i % 7 + 2}}}" for i in range(count)]
    return completions, references


def rate(judge: Callable[[], object], count: int) -> float:
    """Verdicts per second."""
    began = time.perf_counter()
    judge()
    return count / (time.perf_counter() - began)


def main() -> None:
    """Print a line per verifier."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--texts", type=int, default=2000, help="completions judged (2000)")
    parser.add_argument("--workers", type=int, default=2, help="processes of a pool (2)")
    parser.add_argument("--hostile", type=float, default=0.01, help="share of hostile texts (0.01)")
    given = parser.parse_args()
    completions, references = texts(given.texts)
    print(f"{'verifier':<10}{'alone /s':>12}{f'{given.workers} workers /s':>16}")
    for name, options in OPTIONS.items():
        is_right = importlib.import_module(f"train.verifiers.{name}").is_right
        is_right(completions[0], references[0], **options)  # loads grammars

        def alone(is_right: Callable[..., bool] = is_right, options: dict = options) -> None:
            for completion, reference in zip(completions, references, strict=True):
                is_right(completion, reference, **options)

        with VerifierPool(name, given.workers, TIME_LIMIT_S, options=options) as verify:
            warm = [completions[0]] * given.workers * 8
            verify(warm, [references[0]] * len(warm))
            pooled = rate(lambda verify=verify: verify(completions, references), given.texts)
        print(f"{name:<10}{rate(alone, given.texts):>12,.0f}{pooled:>16,.0f}")
    hostile = round(given.hostile * given.texts)
    step = max(1, given.texts // max(1, hostile))
    mixed = [HOSTILE if i % step == 0 and hostile else c for i, c in enumerate(completions)]
    with VerifierPool("math", given.workers, TIME_LIMIT_S) as verify:
        speed = rate(lambda: verify(mixed, references), given.texts)
        print(f"math, {hostile} hostile texts at {TIME_LIMIT_S} s each: {speed:,.0f} /s")
        print(f"verdicts {verify.counters}")


if __name__ == "__main__":
    main()
