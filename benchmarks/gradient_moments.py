"""What gradient moments cost, beside one backward pass per rollout and beside generation.

    python -m benchmarks.gradient_moments [--rounds 7] [--prompts 32]
                                          [--page docs/results/gradient_moments.md]

The model of configs/tiny_cpu.toml, untrained, answers 32 prompts 8 times each on one thread, every
answer six tokens long; verdicts are coins. Then all arms take a turn in every round:

- generation of these rollouts by engine `native`, without and with its hidden states;
- one forward and backward pass per rollout through the whole model, of which the head's gradient is
  used: the way of the code released with the paper (which takes the embedding's norm);
- ``gradient_moments`` for the head with a pass of its own, for the head from hidden states that
  generation kept (what a run with engine `native` does), for the last block and for all linear layers;
- with a random head of 32,000 tokens on the same body: ``autograd.grad`` by the head for each rollout,
  the body being run for all rollouts at once without a graph, against ``gradient_moments``.

The loops over rollouts also add up the gradients of right and of wrong rollouts of each group, so that
both sides give the same moments; before anything is timed they must agree to 1e-4. Seconds are CPU
seconds of this process. A ratio is the median over the rounds of the ratio within a round.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.one_thread import on_one_thread
from cures.checks import FloatArray
from cures.records import Moments
from cures.storage import atomic_write
from figures.provenance import provenance
from train.building import fix_numerics
from train.config import Config
from train.config_file import load
from train.engines.native import NativeEngine
from train.gradient_moments import gradient_moments
from train.model import new_model_of
from train.moments_config import MomentsConfig
from train.policy import Policy, log_policy
from train.prompts import Prompts
from train.rollouts import Rollouts
from train.sequences import Sequences
from train.tasks.making import make_task

CONFIG = Path(__file__).parents[1] / "configs" / "tiny_cpu.toml"
QUOTA, LARGE_VOCABULARY, TOLERANCE = 8, 32_000, 1e-4
AIM_FACTOR, AIM_SHARE = 10.0, 0.1
GENERATION, KEEPING = "generation", "generation, hidden states kept"
FULL, HEAD, KEPT = "a backward pass per rollout", "head", "head, hidden states kept"
BLOCK, ALL = "last block", "all linear layers"
LARGE_AUTOGRAD, LARGE_HEAD = "32,000 tokens: autograd of the head", "32,000 tokens: head"
LARGE_KEPT = "32,000 tokens: head, hidden states kept"
# arm -> what it is compared with
RATIOS = {HEAD: FULL, KEPT: FULL, BLOCK: FULL, ALL: FULL, LARGE_HEAD: LARGE_AUTOGRAD}
SHARES = (HEAD, KEPT, BLOCK, ALL)


@dataclass(frozen=True, eq=False)
class Case:
    """A policy with rollouts of it."""

    config: Config
    policy: Policy
    prompts: Prompts
    rollouts: Rollouts
    hidden_R_T_h: Tensor

    def moments(self, parameters: str, hidden_R_T_h: Tensor | None = None) -> Moments:
        """As a host asks for them."""
        return gradient_moments(
            self.policy,
            self.prompts,
            self.rollouts,
            np.unique(self.rollouts.group_R.numpy()),
            MomentsConfig(parameters=parameters),
            pass_tokens=self.config.learner.pass_tokens,
            hidden_R_T_h=hidden_R_T_h,
        )

    def sequences(self, index: Tensor) -> Sequences:
        """Some rollouts with their prompts."""
        some = self.rollouts.take(index)
        return Sequences.of(self.prompts.take(index.numpy()), some.token_R_T, some.length_R)

    def full_backward(self, sequences_R: list[Sequences]) -> Moments:
        """By a backward pass per rollout."""

        def gradient(row: int) -> Tensor:
            self.policy.zero_grad()
            self.policy(sequences_R[row]).log_prob_F.sum().backward()
            return self.policy.head.weight.grad

        return self._by_gradients(gradient)

    def head_autograd(self) -> Moments:
        """By differentiating the head alone for each rollout."""
        sequences = self.sequences(torch.arange(len(self.rollouts)))
        with torch.no_grad():
            hidden_F_h = self.policy.hidden(sequences)
        counts = torch.bincount(sequences.row_F).tolist()
        hidden_R, target_R = hidden_F_h.split(counts), sequences.target_F.split(counts)
        head = self.policy.head

        def gradient(row: int) -> Tensor:
            log_probs = log_policy(head(hidden_R[row]), self.policy.decoding)
            total = log_probs.gather(1, target_R[row].unsqueeze(1)).sum()
            return torch.autograd.grad(total, [head.weight])[0]

        return self._by_gradients(gradient)

    def _by_gradients(self, gradient: Callable[[int], Tensor]) -> Moments:
        """Moments of groups of :data:`QUOTA` adjacent rollouts from the scores themselves."""
        reward_R = self.rollouts.reward_R.tolist()
        rows = []
        for first in range(0, len(reward_R), QUOTA):
            square: dict[float, list[float]] = {1.0: [], 0.0: []}
            total = {kind: torch.zeros_like(self.policy.head.weight) for kind in square}
            for row in range(first, first + QUOTA):
                score = gradient(row)
                square[reward_R[row]].append(float(score.square().sum()))
                with torch.no_grad():
                    total[reward_R[row]] += score
            rows.append(_moments(square, total))
        return Moments(*np.array(rows).T)


def _moments(square: dict[float, list[float]], total: dict[float, Tensor]) -> list[float]:
    """Of one group, from squared norms and sums of right (1) and wrong (0) scores."""
    count = {kind: len(values) for kind, values in square.items()}
    difference = np.nan
    if min(count.values()) >= 2:
        difference = -2.0 * float((total[1.0] * total[0.0]).sum()) / (count[1.0] * count[0.0])
        for kind, n in count.items():
            own = float(total[kind].square().sum()) - sum(square[kind])
            difference += own / (n * (n - 1))
    means = [np.mean(square[kind]) if count[kind] else np.nan for kind in (1.0, 0.0)]
    norms = [np.mean(np.sqrt(square[kind])) if count[kind] else np.nan for kind in (1.0, 0.0)]
    return [*means, difference, *norms]


def require_agreement(found: Moments, expected: Moments) -> None:
    """Refuse to time what does not compute the same."""
    for f in fields(Moments):
        ours, theirs = getattr(found, f.name), getattr(expected, f.name)
        # a difference of products: float32 roundings of them, not of it
        slack = TOLERANCE * np.nanmax(expected.sq_norm_correct) * (f.name == "sq_norm_difference")
        if not np.allclose(ours, theirs, rtol=TOLERANCE, atol=slack, equal_nan=True):
            raise RuntimeError(f"{f.name}: {ours}, by autograd {theirs}")


def generated(config: Config, prompts: int) -> tuple[Case, Callable[[bool], object]]:
    """Rollouts of the tiny model, and the call that generated them, with or without hidden states."""
    task = make_task(config)
    decoding = replace(task.decoding, end_tokens=())  # all answers of one length
    model = new_model_of(config, task)
    engine = NativeEngine(model, max_rows=config.rollout.max_rows)
    engine.load_weights(model.state_dict().items(), 0)
    chosen, quota_P = task.pool.prompts.take(np.arange(prompts)), np.full(prompts, QUOTA)
    seed_P = np.arange(prompts)

    def generate(keeps_hidden: bool) -> object:
        return engine.generate(
            chosen, quota_P, seed_P, decoding, version=0, keeps_hidden=keeps_hidden
        )

    found = engine.generate(chosen, quota_P, seed_P, decoding, version=0)
    prompt_R = torch.arange(prompts).repeat_interleave(QUOTA)
    rollouts = Rollouts(
        group_R=prompt_R,
        prompt_R=prompt_R,
        token_R_T=found.token_R_T,
        log_prob_R_T=found.log_prob_R_T,
        length_R=found.length_R,
        reward_R=torch.from_numpy(
            np.random.default_rng(0).integers(0, 2, len(prompt_R)).astype(float)
        ),
        is_truncated_R=torch.zeros(len(prompt_R), dtype=torch.bool),
    )
    policy = Policy(model, decoding)
    return _case(config, policy, chosen.take(prompt_R.numpy()), rollouts), generate


def with_large_head(case: Case) -> Case:
    """The same rollouts of a policy with a random head; their tokens are the first of 32,000."""
    model = new_model_of(case.config, make_task(case.config))
    model.load_state_dict(case.policy.model.state_dict())
    head = nn.Linear(model.config.hidden_size, LARGE_VOCABULARY, bias=False)
    nn.init.normal_(head.weight, std=0.1, generator=torch.Generator().manual_seed(0))
    model.set_output_embeddings(head)
    model.config.vocab_size = LARGE_VOCABULARY
    policy = Policy(model, case.policy.decoding)
    return _case(case.config, policy, case.prompts, case.rollouts)


def _case(config: Config, policy: Policy, prompts: Prompts, rollouts: Rollouts) -> Case:
    sequences = Sequences.of(prompts, rollouts.token_R_T, rollouts.length_R)
    with torch.no_grad():
        hidden = policy.hidden(sequences).view(*rollouts.token_R_T.shape, -1)
    return Case(config, policy, prompts, rollouts, hidden)


def seconds(arms: dict[str, Callable[[], object]], rounds: int) -> dict[str, FloatArray]:
    """CPU seconds of every arm in every round, after one that does not count."""
    rows: dict[str, list[float]] = {name: [] for name in arms}
    for turn in range(rounds + 1):
        print(f"round {turn} of {rounds}", file=sys.stderr, flush=True)
        for name, call in arms.items():
            start = time.process_time()
            call()
            if turn:
                rows[name].append(time.process_time() - start)
    return {name: np.array(values) for name, values in rows.items()}


def table(found: dict[str, FloatArray]) -> list[str]:
    """Markdown rows."""
    lines = [
        "| arm | CPU ms | faster than its loop over rollouts | share of generation |",
        "|---|---|---|---|",
    ]
    for name, values in found.items():
        cells = [
            f"{1e3 * np.median(values):.1f} [{1e3 * min(values):.1f}, {1e3 * max(values):.1f}]"
        ]
        loop = RATIOS.get(name)
        cells.append("" if loop is None else f"{np.median(found[loop] / values):.1f}x")
        share = np.median(values / found[GENERATION])
        cells.append(f"{100 * share:.0f} %" if name in SHARES else "")
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return lines


def verdicts(found: dict[str, FloatArray]) -> list[str]:
    """Aims beside what was measured."""
    lines = ["| aim | measured | |", "|---|---|---|"]
    for name in (HEAD, LARGE_HEAD):
        factor = float(np.median(found[RATIOS[name]] / found[name]))
        met = "met" if factor >= AIM_FACTOR else "missed"
        lines.append(
            f"| {name}: at least {AIM_FACTOR:.0f}x faster than {RATIOS[name]} | {factor:.1f}x | {met} |"
        )
    share = float(np.median(found[KEPT] / found[GENERATION]))
    met = "met" if share < AIM_SHARE else "missed"
    lines.append(
        f"| {KEPT}: below {100 * AIM_SHARE:.0f} % of generation | {100 * share:.1f} % | {met} |"
    )
    return lines


def page(found: dict[str, FloatArray], prompts: int, rounds: int) -> str:
    """The page of docs/results."""
    command = f"python -m benchmarks.gradient_moments --rounds {rounds} --prompts {prompts}"
    text = f"""\
# Cost of gradient moments

The model of `configs/tiny_cpu.toml` (0.23 million parameters), {prompts} prompts x {QUOTA} answers of
six tokens, one thread. CPU milliseconds, median of {rounds} rounds [fastest, slowest]; ratios are
medians of the ratio within a round. All arms take a turn in every round; all but generation give the
same moments. "{FULL}" is the way of the code released with the paper.

{provenance(command, f"torch {torch.__version__}")}

"""
    text += "\n".join(table(found)) + "\n\n" + "\n".join(verdicts(found)) + "\n"
    text += f"""
Generation reads a prompt once for its {QUOTA} answers and computes every token once. A pass over prompts
and answers computes more tokens than that, so that moments with a pass of their own are not cheap beside
generation. From the hidden states that generation made,
only the products remain: so it is in a run with engine `native`, in one process, with the untied head as
parameters. Other engines and tied heads pay for a pass. How the two compare for a large model on a GPU
is not measured here.
"""
    return text


def main() -> None:
    """Check, time, print, write the page."""
    on_one_thread("benchmarks.gradient_moments")
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=7, help="turns of every arm (7)")
    parser.add_argument("--prompts", type=int, default=32, help="prompts of 8 rollouts (32)")
    parser.add_argument("--page", type=Path, help="markdown page to write")
    arguments = parser.parse_args()
    config = load(CONFIG)
    fix_numerics(config)
    case, generate = generated(config, arguments.prompts)
    large = with_large_head(case)
    one_R = [case.sequences(torch.tensor([row])) for row in range(len(case.rollouts))]
    require_agreement(case.moments("head"), case.full_backward(one_R))
    require_agreement(large.moments("head"), large.head_autograd())
    arms: dict[str, Callable[[], object]] = {
        GENERATION: lambda: generate(False),
        KEEPING: lambda: generate(True),
        FULL: lambda: case.full_backward(one_R),
        HEAD: lambda: case.moments("head"),
        KEPT: lambda: case.moments("head", case.hidden_R_T_h),
        BLOCK: lambda: case.moments("last-block"),
        ALL: lambda: case.moments("linear"),
        LARGE_AUTOGRAD: large.head_autograd,
        LARGE_HEAD: lambda: large.moments("head"),
        LARGE_KEPT: lambda: large.moments("head", large.hidden_R_T_h),
    }
    found = seconds(arms, arguments.rounds)
    text = page(found, arguments.prompts, arguments.rounds)
    print(text)
    if arguments.page is not None:
        atomic_write(arguments.page, text.encode())


if __name__ == "__main__":
    main()
