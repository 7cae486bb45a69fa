"""Minibatches, gradient accumulation, AdamW, and a learning rate that follows rollouts generated.

Rollouts that no term of the loss touches are left out: a policy term of advantage 0 is 0, and skipping
it is what makes a small machine fast. A reference (KL) or an entropy bonus over all rollouts touches
every one, and then none is skipped. The learning rate is a function of rollouts *generated*, not of
updates, so that arms with different costs per update are annealed alike at equal cost.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedModel

from cures.checks import FloatArray, IntArray, InWords, fail
from train.config import LearnerConfig
from train.engines.protocol import Decoding
from train.errors import TrainingDivergedError
from train.learning_rate import learning_rate
from train.loss import TokenTargets, cost_to_go, policy_loss
from train.policy import Policy
from train.prompts import Prompts
from train.rollouts import Rollouts
from train.seeds import Stream, numpy_generator
from train.sequences import Sequences, completion_tokens, cut_by_tokens
from train.tensors import like, local, whole
from train.world import World


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """Rollouts of one update, with what the loss is given of each.

    Attributes
    ----------
    rollouts : Rollouts
    prompts : Prompts
        Of each rollout.
    advantage_R, weight_R : ndarray of float64, shape (R,)
    correction_R_T, reference_R_T : Tensor of float32 or None, shape (R, T)
        Mismatch weights; log-probabilities of the reference.
    old_R_T : Tensor of float32, shape (R, T)
        Log-probabilities that ratios are taken to.
    """

    rollouts: Rollouts
    prompts: Prompts
    advantage_R: FloatArray
    weight_R: FloatArray
    old_R_T: Tensor
    correction_R_T: Tensor | None = None
    reference_R_T: Tensor | None = None


@dataclass(slots=True)
class _Sums:
    """Over the tokens of a minibatch."""

    loss: float = 0.0
    entropy: float = 0.0
    clipped: float = 0.0
    kl: float = 0.0


def policy_of(model: PreTrainedModel, decoding: Decoding, config: LearnerConfig) -> Policy:
    """The policy of a model, in the precision and with the memory that ``[learner]`` says."""
    return Policy(
        model,
        decoding,
        torch.bfloat16 if config.precision == "bfloat16" else None,
        recomputes_activations=config.activation_checkpointing,
        is_compiled=config.compile,
    )


class Learner:
    """Turns rollouts with advantages and weights into optimiser steps on the policy.

    Parameters
    ----------
    policy : Policy
        Updated in place.
    config : LearnerConfig
    total_rollouts : int
        Rollouts of the whole run: where the learning rate reaches its final share.
    seed : int
        Seed of the minibatch order.
    reference : Policy, optional
        What a KL term pulls towards; needed iff ``config.kl`` is not "none".
    world : World
        The processes that share the passes of every minibatch.
    is_sharded : bool
        Whether the policy is spread over them (train/sharding.py).
    """

    def __init__(
        self,
        policy: Policy,
        config: LearnerConfig,
        *,
        total_rollouts: int,
        seed: int,
        reference: Policy | None = None,
        world: World = World(),  # noqa: B008  frozen
        is_sharded: bool = False,
    ) -> None:
        if (config.kl != "none") != (reference is not None):
            legal = "given if and only if learner.kl is not 'none'"
            fail("Learner", "reference", legal, None if reference is None else InWords("a policy"))
        self.policy = policy
        self.config = config
        self.total_rollouts = total_rollouts
        self.seed = seed
        self.reference = reference
        self.world = world
        self.is_sharded = is_sharded
        self.optimizer = torch.optim.AdamW(
            policy.model.parameters(),
            lr=config.learning_rate,
            betas=(config.beta1, config.beta2),
            weight_decay=config.weight_decay,
        )

    @property
    def device(self) -> torch.device:
        """Where the policy lives."""
        return next(self.policy.parameters()).device

    def update(
        self,
        rollouts: Rollouts,
        prompts: Prompts,
        advantage_R: FloatArray,
        weight_R: FloatArray,
        *,
        generated: int,
        step_scale: float,
        update_step: int,
    ) -> dict[str, float | None]:
        """One policy update of ``minibatches`` optimiser steps.

        Parameters
        ----------
        rollouts : Rollouts
            R of them.
        prompts : Prompts
            R prompts, one of each rollout.
        advantage_R, weight_R : ndarray of float64, shape (R,)
            From `cures.advantages` and `cures.rollout_weights`.
        generated, update_step : int
            Rollouts and updates so far.
        step_scale : float
            The scheduler's advice: multiplies the learning rate.

        Returns
        -------
        dict
            ``loss``, ``grad_norm`` (before clipping), ``entropy`` (nats per token), ``clip_share``,
            ``kl`` (k3 per token) and ``mismatch`` (mean of the correction) are None where there is
            nothing to measure; without a rollout to learn from nothing is stepped.

        Raises
        ------
        TrainingDivergedError
            If loss or gradient norm is not finite.
        """
        used = self._touched(advantage_R)
        order = numpy_generator(self.seed, Stream.MINIBATCHES, update_step).permutation(used)
        parts = [p for p in np.array_split(order, self.config.minibatches) if p.size]
        rate = step_scale * learning_rate(self.config, generated / self.total_rollouts)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        batch = self._batch(rollouts, prompts, advantage_R, weight_R, used) if parts else None
        total, norms, tokens = _Sums(), [], 0
        for part in parts:
            assert batch is not None
            sums = self._accumulate(batch, part, share=len(parts))
            norms.append(self._step(sums.loss, update_step))
            total.loss += sums.loss
            total.entropy += sums.entropy
            total.clipped += sums.clipped
            total.kl += sums.kl
            tokens += int(rollouts.length_R[torch.from_numpy(part)].sum())
        has_reference = batch is not None and batch.reference_R_T is not None
        correction = None if batch is None else batch.correction_R_T
        return {
            "learning_rate": rate,
            "informative": int((advantage_R != 0.0).sum()),
            "learned_from": int(used.size),
            "loss": total.loss / len(parts) if parts else None,
            "grad_norm": sum(norms) / len(parts) if parts else None,
            "entropy": total.entropy / tokens if parts else None,
            "clip_share": total.clipped / tokens if parts else None,
            "kl": total.kl / tokens if has_reference else None,
            "mismatch": None
            if correction is None
            else float(_mean(correction[torch.from_numpy(used)], rollouts.length_R[used])),
        }

    def _touched(self, advantage_R: FloatArray) -> IntArray:
        """Rollouts that some term of the loss depends on."""
        config = self.config
        has_bonus = config.entropy_bonus > 0.0 and config.entropy_over == "all"
        if not config.skip_untouched or has_bonus or config.kl != "none":
            return np.arange(advantage_R.size)
        return np.flatnonzero(advantage_R != 0.0)

    def _batch(
        self,
        rollouts: Rollouts,
        prompts: Prompts,
        advantage_R: FloatArray,
        weight_R: FloatArray,
        used: IntArray,
    ) -> Batch:
        """Add what takes passes without a gradient: old and reference log-probabilities."""
        old_R_T = sampled_R_T = rollouts.log_prob_R_T
        correction_R_T = reference_R_T = None
        if self.config.mismatch == "truncated":
            old_R_T = self._log_prob(self.policy, rollouts, prompts, used)
            cap = self.config.mismatch_cap
            correction_R_T = (old_R_T - sampled_R_T).exp().clamp(max=cap)
        if self.reference is not None:
            reference_R_T = self._log_prob(self.reference, rollouts, prompts, used)
        return Batch(
            rollouts, prompts, advantage_R, weight_R, old_R_T, correction_R_T, reference_R_T
        )

    def _accumulate(self, batch: Batch, part: IntArray, *, share: int) -> _Sums:
        """Gradients of one minibatch, pass by pass, summed over the ranks."""
        config = self.config
        self.optimizer.zero_grad()
        sums = torch.zeros(4, dtype=torch.float64)
        for rows, is_real in self.world.deal(self._passes(batch.rollouts, batch.prompts, part)):
            sequences = self._sequences(batch.rollouts, batch.prompts, rows)
            targets = self._targets(batch, rows, sequences, share if is_real else 0.0)
            terms = policy_loss(
                self.policy(sequences),
                targets,
                clip_low=config.clip_low,
                clip_high=config.clip_high,
                entropy_bonus=config.entropy_bonus,
                kl_weight=config.kl_weight if config.kl == "k3" else 0.0,
            )
            # sharded gradients come back as means over the ranks, and sums are meant
            scale = self.world.size if self.is_sharded else 1
            (scale * terms.loss).backward()
            if is_real:
                found = (terms.loss.detach(), terms.entropy, terms.clipped, terms.kl)
                sums += torch.stack([value.double().cpu() for value in found])
        self.world.add_up([sums])
        if not self.is_sharded:
            self.world.add_up([p.grad for p in self.policy.parameters() if p.grad is not None])
        return _Sums(*sums.tolist())

    def _passes(self, rollouts: Rollouts, prompts: Prompts, part: IntArray) -> list[IntArray]:
        length_R = prompts.length_N[part] + rollouts.length_R.numpy()[part] - 1
        return [part[rows] for rows in cut_by_tokens(length_R, self.config.pass_tokens)]

    def _sequences(self, rollouts: Rollouts, prompts: Prompts, rows: IntArray) -> Sequences:
        index = torch.from_numpy(rows)
        sequences = Sequences.of(
            prompts.take(rows), rollouts.token_R_T[index], rollouts.length_R[index]
        )
        return sequences.to(self.device)

    def _targets(
        self, batch: Batch, rows: IntArray, sequences: Sequences, share: float
    ) -> TokenTargets:
        index = torch.from_numpy(rows)
        length_R = batch.rollouts.length_R[index]

        def flat(values_R_T: Tensor | None) -> Tensor | None:
            if values_R_T is None:
                return None
            return completion_tokens(values_R_T[index], length_R).to(self.device)

        def spread(values_R: FloatArray) -> Tensor:
            return torch.from_numpy(values_R).float().to(self.device)[sequences.row_F]

        advantage_F = spread(batch.advantage_R[rows])
        # ratio_r of Eq. (16) is the mean over the tokens of rollout r
        weight_F = spread(share * batch.weight_R[rows] / length_R.numpy())
        bonus_F = weight_F
        if self.config.entropy_over == "informative":
            bonus_F = weight_F * (advantage_F != 0.0)
        old_F = flat(batch.old_R_T)
        reference_F = flat(batch.reference_R_T)
        assert old_F is not None
        if self.config.kl == "k1" and reference_F is not None:
            cost_F = self.config.kl_weight * (old_F - reference_F)
            advantage_F = advantage_F - cost_to_go(cost_F, sequences.row_F)
        return TokenTargets(
            advantage_F=advantage_F,
            weight_F=weight_F,
            bonus_weight_F=bonus_F,
            old_log_prob_F=old_F,
            reference_log_prob_F=reference_F,
            correction_F=flat(batch.correction_R_T),
        )

    @torch.no_grad()
    def _log_prob(
        self, policy: Policy, rollouts: Rollouts, prompts: Prompts, used: IntArray
    ) -> Tensor:
        """Log-probabilities of the tokens of ``used`` rollouts under a policy; 0 elsewhere."""
        log_prob_R_T = torch.zeros_like(rollouts.log_prob_R_T)
        place_T = torch.arange(log_prob_R_T.shape[1]).unsqueeze(0)
        for rows, is_real in self.world.deal(self._passes(rollouts, prompts, used)):
            terms = policy(self._sequences(rollouts, prompts, rows))
            if is_real:
                index = torch.from_numpy(rows)
                table = torch.zeros(rows.size, log_prob_R_T.shape[1])
                table[place_T < rollouts.length_R[index].unsqueeze(1)] = terms.log_prob_F.cpu()
                log_prob_R_T[index] = table
        self.world.add_up([log_prob_R_T])
        return log_prob_R_T

    def _step(self, loss: float, update_step: int) -> float:
        parameters = list(self.policy.parameters())
        clipped = torch.nn.utils.clip_grad_norm_(parameters, self.config.max_grad_norm)
        norm = float(whole(clipped))
        if not (math.isfinite(loss) and math.isfinite(norm)):
            raise TrainingDivergedError(
                f"update {update_step}: loss is {loss}, gradient norm is {norm}; "
                "try a smaller learning_rate or max_grad_norm"
            )
        self.optimizer.step()
        if self.world.any(not all(bool(local(p).isfinite().all()) for p in parameters)):
            raise TrainingDivergedError(
                f"update {update_step}: a weight is not finite after the step; "
                "try a smaller learning_rate"
            )
        return norm

    def state_tensors(self) -> dict[str, Tensor]:
        """AdamW's moments and step counts as flat tensors, by parameter name; this rank's part."""
        state = self.optimizer.state
        found = {
            f"{name}/{key}": local(value)
            for name, parameter in self.policy.model.named_parameters()
            if parameter in state
            for key, value in state[parameter].items()
        }
        if len(found) != sum(map(len, state.values())):
            raise RuntimeError(
                "Learner: the optimiser knows parameters that the policy does not have"
            )
        return found

    def load_state_tensors(self, tensors: dict[str, Tensor]) -> None:
        """Inverse of :meth:`state_tensors`; other names or shapes are refused."""
        where = "Learner.load_state_tensors"
        by_name = dict(self.policy.model.named_parameters())
        self.optimizer.state.clear()
        for key, value in tensors.items():
            name, _, field = key.rpartition("/")
            if name not in by_name:
                fail(where, "tensors", "named after parameters", key)
            self.optimizer.state[by_name[name]][field] = value.clone()
        for name, parameter in by_name.items():
            state = self.optimizer.state.get(parameter, {})
            found = {k: tuple(v.shape) for k, v in state.items()}
            shape = tuple(local(parameter).shape)
            legal = {"step": (), "exp_avg": shape, "exp_avg_sq": shape}
            if found not in ({}, legal):
                fail(where, name, f"absent or of shapes {legal}", found)
            for key in ("exp_avg", "exp_avg_sq"):
                if key in state:
                    state[key] = like(state[key], parameter)


def _mean(values_R_T: Tensor, length_R: Tensor) -> Tensor:
    """Mean over the real tokens of padded rows."""
    return completion_tokens(values_R_T, length_R).mean()
