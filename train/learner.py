"""Minibatches, gradient accumulation, AdamW, and a learning rate that falls with rollouts generated.

Rollouts whose advantage is exactly 0 are left out: their policy term is 0, and skipping them is what
makes a small machine fast. The entropy bonus is therefore an average over informative rollouts only.
The learning rate is a function of rollouts *generated*, not of updates, so that arms with different
costs per update are annealed alike at equal cost.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedModel

from cures.checks import FloatArray, fail
from train.config import LearnerConfig
from train.errors import TrainingDivergedError
from train.loss import policy_loss
from train.policy import completion_log_policy
from train.rollouts import Rollouts
from train.seeds import Stream, numpy_generator


class Learner:
    """Turns rollouts with advantages and weights into optimiser steps on ``model``.

    Parameters
    ----------
    model : PreTrainedModel
        Updated in place.
    config : LearnerConfig
    decode_temperature : float
        The one that the rollouts were sampled with.
    total_rollouts : int
        Rollouts of the whole run: where the learning rate reaches its final share.
    seed : int
        Seed of the minibatch order.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        config: LearnerConfig,
        *,
        decode_temperature: float,
        total_rollouts: int,
        seed: int,
    ) -> None:
        self.model = model
        self.config = config
        self.decode_temperature = decode_temperature
        self.total_rollouts = total_rollouts
        self.seed = seed
        self.optimizer = torch.optim.AdamW(
            model.parameters(),
            lr=config.learning_rate,
            betas=(config.beta1, config.beta2),
            weight_decay=config.weight_decay,
        )

    def learning_rate(self, generated: int, step_scale: float = 1.0) -> float:
        """Learning rate after ``generated`` rollouts, times the scheduler's advice."""
        progress = min(generated / self.total_rollouts, 1.0)
        share = 1.0 - (1.0 - self.config.final_lr_share) * progress
        return self.config.learning_rate * share * step_scale

    def update(
        self,
        rollouts: Rollouts,
        prompt_R_L: Tensor,
        advantage_R: FloatArray,
        weight_R: FloatArray,
        *,
        generated: int,
        step_scale: float,
        update_step: int,
    ) -> dict[str, float | None]:
        """One policy update of ``minibatches`` optimiser steps.

        Returns
        -------
        dict
            ``loss``, ``grad_norm`` (before clipping), ``entropy`` (nats per token), ``clip_share``
            are None if no rollout is informative, and then nothing is stepped.

        Raises
        ------
        TrainingDivergedError
            If loss or gradient norm is not finite.
        """
        informative = np.flatnonzero(advantage_R != 0.0)
        learning_rate = self.learning_rate(generated, step_scale)
        order = numpy_generator(self.seed, Stream.MINIBATCHES, update_step).permutation(informative)
        parts = [p for p in np.array_split(order, self.config.minibatches) if p.size]
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate
        losses, norms, entropy, clipped, tokens = [], [], 0.0, 0, 0
        for part in parts:
            index = torch.from_numpy(part)
            loss, part_entropy, part_clipped = self._accumulate(
                rollouts.take(index),
                prompt_R_L[index],
                torch.from_numpy(advantage_R[part]).float(),
                torch.from_numpy(weight_R[part]).float() * len(parts),
            )
            norms.append(self._step(loss, update_step))
            losses.append(loss)
            entropy, clipped = entropy + part_entropy, clipped + part_clipped
            tokens += int(rollouts.length_R[index].sum())
        return {
            "learning_rate": learning_rate,
            "informative": informative.size,
            "loss": sum(losses) / len(parts) if parts else None,
            "grad_norm": sum(norms) / len(parts) if parts else None,
            "entropy": entropy / tokens if parts else None,
            "clip_share": clipped / tokens if parts else None,
        }

    def _accumulate(
        self, rollouts: Rollouts, prompt_R_L: Tensor, advantage_R: Tensor, weight_R: Tensor
    ) -> tuple[float, float, int]:
        """Gradients of one minibatch, micro-batch by micro-batch."""
        config = self.config
        loss, entropy, clipped = 0.0, 0.0, 0
        self.optimizer.zero_grad()
        for rows in torch.split(torch.arange(len(rollouts)), config.micro_batch):
            token_R_T = rollouts.token_R_T[rows]
            terms = policy_loss(
                completion_log_policy(
                    self.model, prompt_R_L[rows], token_R_T, self.decode_temperature
                ),
                token_R_T,
                rollouts.log_prob_R_T[rows],
                rollouts.length_R[rows],
                advantage_R[rows],
                weight_R[rows],
                clip_low=config.clip_low,
                clip_high=config.clip_high,
                entropy_bonus=config.entropy_bonus,
            )
            terms.loss.backward()  # type: ignore[no-untyped-call]
            loss += terms.loss.item()
            entropy += terms.entropy.item()
            clipped += int(terms.clipped.item())
        return loss, entropy, clipped

    def _step(self, loss: float, update_step: int) -> float:
        norm = float(
            torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.config.max_grad_norm)
        )
        if not (math.isfinite(loss) and math.isfinite(norm)):
            raise TrainingDivergedError(
                f"update {update_step}: loss is {loss}, gradient norm is {norm}; "
                "try a smaller learning_rate or max_grad_norm"
            )
        self.optimizer.step()
        if not all(bool(p.isfinite().all()) for p in self.model.parameters()):
            raise TrainingDivergedError(
                f"update {update_step}: a weight is not finite after the step; "
                "try a smaller learning_rate"
            )
        return norm

    def state_tensors(self) -> dict[str, Tensor]:
        """AdamW's moments and step counts as flat tensors, by parameter name."""
        state = self.optimizer.state
        return {
            f"{name}/{key}": value
            for name, parameter in self.model.named_parameters()
            if parameter in state
            for key, value in state[parameter].items()
        }

    def load_state_tensors(self, tensors: dict[str, Tensor]) -> None:
        """Inverse of :meth:`state_tensors`; other names or shapes are refused."""
        where = "Learner.load_state_tensors"
        by_name = dict(self.model.named_parameters())
        self.optimizer.state.clear()
        for key, value in tensors.items():
            name, _, field = key.rpartition("/")
            if name not in by_name:
                fail(where, "tensors", "named after parameters", key)
            self.optimizer.state[by_name[name]][field] = value.clone()
        for name, parameter in by_name.items():
            found = {k: tuple(v.shape) for k, v in self.optimizer.state.get(parameter, {}).items()}
            shape = tuple(parameter.shape)
            legal = {"step": (), "exp_avg": shape, "exp_avg_sq": shape}
            if found not in ({}, legal):
                fail(where, name, f"absent or of shapes {legal}", found)
