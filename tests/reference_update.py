"""One policy update written a second time, rollout by rollout in float64, to hold the learner against.

Nothing of `train` is used: no padding, no masks, no micro-batches, no optimiser of torch. Sources are
the paper's Eq. 16 with the clipped ratio of Schulman et al. (2017), Eq. 7, and Algorithm 2 of
Loshchilov & Hutter (2019), its schedule multiplier and its alpha taken together as one learning rate.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

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


@dataclass(frozen=True)
class Sample:
    """One rollout without padding; ``weight`` is its factor in Eq. 16."""

    prompt: Tensor
    tokens: Tensor
    old_log_prob: Tensor
    advantage: float
    weight: float


def samples_of(rollouts, prompts, advantage_R, weight_R) -> list[Sample]:
    """Rows of the trainer's table, cut at their lengths."""
    return [
        Sample(
            prompts.row(int(rollouts.prompt_R[r])),
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


def minibatches_of(
    informative: np.ndarray, parts: int, seed: int, update_step: int
) -> list[np.ndarray]:
    """Rows of each minibatch. The trainer's generators have the tag 1, its sixth stream is this."""
    sequence = np.random.SeedSequence(seed, spawn_key=(1, 6, update_step))
    return np.array_split(np.random.default_rng(sequence).permutation(informative), parts)


class ReferenceLearner:
    """Updates ``model``, which is in float64, in place.

    Attributes
    ----------
    seen : dict of str to list
        ``loss`` and ``grad_norm`` of each minibatch; ``entropy`` of each token trained on, and whether
        its ratio was clipped from ``above`` or from ``below``.
    """

    def __init__(self, model) -> None:
        self.model = model
        self.parameters = list(model.parameters())
        self.first = [torch.zeros_like(p) for p in self.parameters]
        self.second = [torch.zeros_like(p) for p in self.parameters]
        self.steps = 0
        self.seen: dict[str, list] = defaultdict(list)

    def update(
        self, samples: list[Sample], minibatches: list[np.ndarray], settings: Settings
    ) -> None:
        """One optimiser step per minibatch."""
        for rows in minibatches:
            # a minibatch stands for the whole batch: of k minibatches each has k times the weight
            loss = len(minibatches) * sum(self._loss(samples[r], settings) for r in rows.tolist())
            gradients = torch.autograd.grad(loss, self.parameters)
            norm = float(torch.cat([g.flatten() for g in gradients]).norm())
            self.seen["loss"].append(float(loss.detach()))
            self.seen["grad_norm"].append(norm)
            self._adamw([g * min(1.0, settings.max_grad_norm / norm) for g in gradients], settings)

    def _loss(self, sample: Sample, settings: Settings) -> Tensor:
        policy = token_log_policy(
            self.model, sample.prompt, sample.tokens, settings.decode_temperature
        )
        total = torch.zeros((), dtype=torch.float64)
        for t, token in enumerate(sample.tokens.tolist()):
            ratio = (policy[t, token - EOS] - sample.old_log_prob[t]).exp()
            low, high = 1.0 - settings.clip_low, 1.0 + settings.clip_high
            is_above = sample.advantage > 0 and ratio.item() > high
            is_below = sample.advantage < 0 and ratio.item() < low
            used = high if is_above else low if is_below else ratio
            entropy = -(policy[t].exp() * policy[t]).sum()
            total = total + used * sample.advantage + settings.entropy_bonus * entropy
            self.seen["entropy"].append(entropy.item())
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
