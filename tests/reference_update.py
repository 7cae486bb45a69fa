"""One policy update written a second time, rollout by rollout in float64, to hold the learner against.

Nothing of `train` and `cures` is used: no padding, no masks, no passes, no optimiser of torch. Sources
are the paper's Eq. 16 with the clipped ratio of Schulman et al. (2017), Eq. 7, and Algorithm 2 of
Loshchilov & Hutter (2019), its schedule multiplier and its alpha taken together as one learning rate;
k1 and k3 as in Schulman's note on approximating KL divergence, k3 in the loss as in Shao et al. (2024,
Eq. 4); truncated importance weights of Ionides (2008).
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, replace
from statistics import mean, stdev

import numpy as np
import torch
from torch import Tensor

EOS = 2  # 0 and 1 are padding and the beginning of a text, which the policy never says
ADAM_EPSILON = 1e-8


@dataclass(frozen=True)
class Settings:
    """What an update depends on beside model and rollouts."""

    decode_temperature: float
    learning_rate: float
    clip_low: float
    clip_high: float
    entropy_bonus: float
    max_grad_norm: float
    beta1: float
    beta2: float
    weight_decay: float
    entropy_over: str = "informative"
    kl: str = "none"
    kl_weight: float = 0.0
    mismatch_cap: float | None = None  # None: no correction


@dataclass(frozen=True)
class Sample:
    """One rollout without padding; ``weight`` is its factor in Eq. 16."""

    prompt: Tensor
    tokens: Tensor
    old_log_prob: Tensor
    advantage: float
    weight: float
    correction: Tensor | None = None  # of each token


def samples_of(rollouts, prompts, advantage_R, weight_R) -> list[Sample]:
    """Rows of the trainer's table with the prompt of each, cut at their lengths."""
    return [
        Sample(
            prompts.row(r),
            rollouts.token_R_T[r, : rollouts.length_R[r]],
            rollouts.log_prob_R_T[r, : rollouts.length_R[r]].double(),
            float(advantage_R[r]),
            float(weight_R[r]),
        )
        for r in range(len(rollouts))
    ]


def token_log_policy(model, prompt: Tensor, tokens: Tensor, decode_temperature: float) -> Tensor:
    """Log-softmax over the legal tokens alone, shape (length, vocabulary - 2)."""
    logits = model(input_ids=torch.cat([prompt, tokens[:-1]])[None]).logits[0, len(prompt) - 1 :]
    legal = logits[:, EOS:] / decode_temperature
    return legal - legal.exp().sum(dim=1, keepdim=True).log()


def log_prob(model, prompt: Tensor, tokens: Tensor, decode_temperature: float) -> Tensor:
    """Log-probability of a whole completion, a scalar."""
    policy = token_log_policy(model, prompt, tokens, decode_temperature)
    return policy[torch.arange(len(tokens)), tokens - EOS].sum()


def advantages_of(estimator: str, reward_R: list[float], group_R: list[int]) -> np.ndarray:
    """By the definitions: GRPO (Shao et al. 2024), RLOO (Ahmadian et al. 2024), Dr. GRPO (Liu et al.
    2025), REINFORCE++ (Hu 2025); deviations by n - 1, plus 1e-6, as verl has them."""
    found = []
    for r, (reward, group) in enumerate(zip(reward_R, group_R, strict=True)):
        mine = [x for x, g in zip(reward_R, group_R, strict=True) if g == group]
        others = [x for i, (x, g) in enumerate(zip(reward_R, group_R, strict=True))
                  if g == group and i != r]  # fmt: skip
        found.append(
            {
                "grpo": (reward - mean(mine)) / (stdev(mine) + 1e-6),
                "rloo": reward - mean(others),
                "dr_grpo": reward - mean(mine),
                "reinforce++": (reward - mean(reward_R)) / (stdev(reward_R) + 1e-6),
            }[estimator]
        )
    return np.array(found)


def weights_of(
    aggregation: str, weight_G: list[float], group_R: list[int], length_R: list[int]
) -> np.ndarray:
    """What a rollout counts: a share of its prompt's weight (Eq. 16); or of m groups' all rollouts or
    all tokens alike, but for the prompts' weights."""
    size = len(weight_G)
    return np.array(
        [
            {
                "prompt": weight_G[group] / group_R.count(group),
                "rollout": size * weight_G[group] / len(group_R),
                "token": size * weight_G[group] * length / sum(length_R),
            }[aggregation]
            for group, length in zip(group_R, length_R, strict=True)
        ]
    )


def minibatches_of(
    informative: np.ndarray, parts: int, seed: int, update_step: int
) -> list[np.ndarray]:
    """Rows of each minibatch. The trainer's generators have the tag 1, its sixth stream is this."""
    sequence = np.random.SeedSequence(seed, spawn_key=(1, 6, update_step))
    return np.array_split(np.random.default_rng(sequence).permutation(informative), parts)


class ReferenceLearner:
    """Updates ``model``, which is in float64 like the reference of a divergence, in place.

    Attributes
    ----------
    seen : dict of str to list
        ``loss`` and ``grad_norm`` of each minibatch; of each token trained on ``entropy``, ``kl`` (k3),
        ``correction``, and whether its ratio was clipped from ``above`` or from ``below``.
    """

    def __init__(self, model, reference=None) -> None:
        self.model = model
        self.reference = reference
        self.parameters = list(model.parameters())
        self.first = [torch.zeros_like(p) for p in self.parameters]
        self.second = [torch.zeros_like(p) for p in self.parameters]
        self.steps = 0
        self.seen: dict[str, list] = defaultdict(list)

    def update(
        self, samples: list[Sample], minibatches: list[np.ndarray], settings: Settings
    ) -> None:
        """One optimiser step per minibatch."""
        if settings.mismatch_cap is not None:
            samples = [self._corrected(sample, settings) for sample in samples]
        for rows in minibatches:
            # a minibatch stands for the whole batch: of k minibatches each has k times the weight
            loss = len(minibatches) * sum(self._loss(samples[r], settings) for r in rows.tolist())
            gradients = torch.autograd.grad(loss, self.parameters)
            norm = float(torch.cat([g.flatten() for g in gradients]).norm())
            self.seen["loss"].append(float(loss.detach()))
            self.seen["grad_norm"].append(norm)
            self._adamw([g * min(1.0, settings.max_grad_norm / norm) for g in gradients], settings)

    @torch.no_grad()
    def _corrected(self, sample: Sample, settings: Settings) -> Sample:
        """Ratios to the policy before the update, weighted by what it has over the sampler."""
        old = self._of_tokens(self.model, sample, settings)
        weight = (old - sample.old_log_prob).exp().clamp(max=settings.mismatch_cap)
        return replace(sample, old_log_prob=old, correction=weight)

    def _of_tokens(self, model, sample: Sample, settings: Settings) -> Tensor:
        policy = token_log_policy(model, sample.prompt, sample.tokens, settings.decode_temperature)
        return policy[torch.arange(len(sample.tokens)), sample.tokens - EOS]

    def _loss(self, sample: Sample, settings: Settings) -> Tensor:
        policy = token_log_policy(
            self.model, sample.prompt, sample.tokens, settings.decode_temperature
        )
        advantage = [sample.advantage] * len(sample.tokens)
        if self.reference is not None:
            with torch.no_grad():
                reference = self._of_tokens(self.reference, sample, settings)
        if settings.kl == "k1":
            k1 = sample.old_log_prob - reference
            cost = [settings.kl_weight * k1[t:].sum().item() for t in range(len(k1))]
            advantage = [a - c for a, c in zip(advantage, cost, strict=True)]
        has_bonus = settings.entropy_over == "all" or sample.advantage != 0.0
        total = torch.zeros((), dtype=torch.float64)
        for t, token in enumerate(sample.tokens.tolist()):
            log_prob = policy[t, token - EOS]
            ratio = (log_prob - sample.old_log_prob[t]).exp()
            low, high = 1.0 - settings.clip_low, 1.0 + settings.clip_high
            is_above = advantage[t] > 0 and ratio.item() > high
            is_below = advantage[t] < 0 and ratio.item() < low
            used = high if is_above else low if is_below else ratio
            correction = 1.0 if sample.correction is None else sample.correction[t].item()
            total = total + correction * used * advantage[t]
            entropy = -(policy[t].exp() * policy[t]).sum()
            if has_bonus:
                total = total + settings.entropy_bonus * entropy
            if self.reference is not None:
                quotient = (reference[t] - log_prob).exp()
                k3 = quotient - 1.0 - quotient.log()
                self.seen["kl"].append(k3.item())
                if settings.kl == "k3":
                    total = total - settings.kl_weight * k3
            self.seen["entropy"].append(entropy.item())
            self.seen["correction"].append(correction)
            self.seen["above"].append(is_above)
            self.seen["below"].append(is_below)
        return -sample.weight * total / len(sample.tokens)

    @torch.no_grad()
    def _adamw(self, gradients: list[Tensor], settings: Settings) -> None:
        self.steps += 1
        beta1, beta2 = settings.beta1, settings.beta2
        for parameter, gradient, first, second in zip(
            self.parameters, gradients, self.first, self.second, strict=True
        ):
            first.copy_(beta1 * first + (1.0 - beta1) * gradient)
            second.copy_(beta2 * second + (1.0 - beta2) * gradient**2)
            mean = first / (1.0 - beta1**self.steps)
            root = (second / (1.0 - beta2**self.steps)).sqrt()
            step = mean / (root + ADAM_EPSILON) + settings.weight_decay * parameter
            parameter.sub_(settings.learning_rate * step)
