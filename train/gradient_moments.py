r"""Moments of the scores of rollouts, group by group: what Eq. 21 needs.

The score of a rollout, :math:`s = \nabla_\theta \log\pi(y|x)`, is taken with respect to a chosen set of
linear layers and never made: only inner products of the rollouts of a group are (train/moments/). For
the head alone, the default, they follow from the last hidden states in closed form, so a forward pass
is enough, and none is needed if generation kept these states. For other layers there is one backward
pass for many rollouts together.

Groups of equal size come together in *bundles* of at most ``pass_tokens`` tokens; a larger group is a
bundle of several passes. What its passes leave is kept until the last of them, and its products are
exact, unless that would be more than ``exact_entries`` numbers: then each rollout is reduced to a sketch
at once. Bundles do not depend on the number of processes, which share them; but only one process alone
takes hidden states from generation, whose arithmetic differs in the last bits, and in bfloat16 by more.
"""

from __future__ import annotations

from dataclasses import fields

import numpy as np
import torch
from torch import Tensor

from cures.checks import FloatArray, IntArray, fail
from cures.records import Moments
from train.moments.bundles import Bundle, make_bundles, share
from train.moments.capture import Captured, capture
from train.moments.factors import EmbeddingFactors, Factors, Head, HeadFactors, LayerFactors
from train.moments.gram import score_gram
from train.moments.group_moments import GroupMoments, group_moments
from train.moments.parameters import ParameterSet, parameter_set
from train.moments.sketch import score_sketch
from train.moments_config import MomentsConfig
from train.policy import Policy
from train.prompts import Prompts
from train.rollouts import Rollouts, slots
from train.sequences import Sequences
from train.sharding import reshard
from train.tensors import whole
from train.world import World


def gradient_moments(
    policy: Policy,
    prompts: Prompts,
    rollouts: Rollouts,
    group_B: IntArray,
    config: MomentsConfig = MomentsConfig(),  # noqa: B008  frozen
    *,
    pass_tokens: int,
    seed: int = 0,
    world: World = World(),  # noqa: B008  frozen
    hidden_R_T_h: Tensor | None = None,
) -> Moments:
    """Moments of the scores of each group of a plan.

    Parameters
    ----------
    policy : Policy
        That the rollouts were sampled from, in evaluation mode.
    prompts : Prompts
        Of each rollout.
    rollouts : Rollouts
        Of groups in ``group_B``, in any order.
    group_B : ndarray of int64, shape (B,)
    config : MomentsConfig
    pass_tokens : int
        Padded tokens per pass; one longer rollout is a pass alone.
    seed : int
        Of the sketches.
    world : World
        All ranks make this call with equal arguments, and all get the result of one process.
    hidden_R_T_h : Tensor, optional
        Inputs of the head that each token was sampled from, as generation made them. No pass is made
        then, if the scores are those of an untied head.

    Returns
    -------
    Moments
        NaN where no rollout of a kind exists; the unbiased difference with fewer than two of either,
        the plug-in with none.

    Raises
    ------
    ValueError
        If ``config.parameters`` names what the model does not have, or what cannot be measured.
    """
    reshard(policy)
    scores = _Scores(
        policy, prompts, rollouts, parameter_set(policy, config.parameters), hidden_R_T_h
    )
    group_R = rollouts.group_R.numpy()
    if not np.isin(group_R, group_B).all():
        fail("gradient_moments", "group_B", "all groups of the rollouts", group_B.tolist())
    slot_R = slots(group_R, group_B)
    bundles = make_bundles(
        slot_R,
        scores.positions_R,
        rollouts.length_R.numpy(),
        scores.chosen.entries,
        exact_entries=config.exact_entries,
        pass_tokens=pass_tokens,
    )
    mine, missing_passes = share(bundles, world)
    names = [f.name for f in fields(GroupMoments)]
    found_B = torch.zeros(group_B.size, len(names), dtype=torch.float64)
    for bundle in mine:
        if bundle.is_exact:
            gram = _exact(scores, bundle)
        else:
            gram = _sketched(scores, bundle, config.sketch_size, seed)
        is_right = rollouts.reward_R.numpy()[bundle.row_R].reshape(-1, bundle.size) == 1.0
        moments = group_moments(gram, is_right)
        columns = [torch.from_numpy(getattr(moments, name)) for name in names]
        found_B[torch.from_numpy(bundle.slot_G)] = torch.stack(columns, dim=1)
    for _ in range(missing_passes if scores.needs_pass else 0):
        scores.captured(bundles[0].row_R[bundles[0].passes[0]])
    reshard(policy)
    world.add_up([found_B])
    found_B[torch.from_numpy(np.setdiff1d(np.arange(group_B.size), slot_R))] = torch.nan
    table = {name: found_B[:, i].numpy() for i, name in enumerate(names)}
    return GroupMoments(**table).moments(config.difference)


class _Scores:
    """Passes over rows of rollouts, and what they say about the scores."""

    def __init__(
        self,
        policy: Policy,
        prompts: Prompts,
        rollouts: Rollouts,
        chosen: ParameterSet,
        hidden_R_T_h: Tensor | None,
    ) -> None:
        self.policy, self.prompts, self.rollouts, self.chosen = policy, prompts, rollouts, chosen
        self.hidden_R_T_h = None if chosen.needs_backward else hidden_R_T_h
        completion_R = rollouts.length_R.numpy()
        self.positions_R = (
            prompts.length_N + completion_R - 1 if self.needs_pass else completion_R
        )  # that something is computed at
        self.head = None
        if chosen.head is not None:
            bias = chosen.head.bias
            self.head = Head(
                whole(chosen.head.weight.detach()),
                None if bias is None else whole(bias.detach()),
                policy.decoding,
                policy.autocast,
                has_weight=chosen.head.has_weight,
                has_bias=chosen.head.has_bias,
            )

    @property
    def needs_pass(self) -> bool:
        """Whether the policy has to be run."""
        return self.hidden_R_T_h is None

    @property
    def device(self) -> torch.device:
        """Where the policy lives."""
        return next(self.policy.parameters()).device

    def sequences(self, row_R: IntArray) -> Sequences:
        """Some rollouts with their prompts."""
        some = self.rollouts.take(torch.from_numpy(row_R))
        sequences = Sequences.of(self.prompts.take(row_R), some.token_R_T, some.length_R)
        return sequences.to(self.device)

    def captured(self, row_R: IntArray) -> Captured:
        """One pass, or none if generation left what it would give."""
        if self.hidden_R_T_h is None:
            return capture(self.policy, self.sequences(row_R), self.chosen)
        index = torch.from_numpy(row_R)
        length_R = self.rollouts.length_R[index]
        width = int(length_R.max())
        is_over_R_T = torch.arange(width) >= length_R.unsqueeze(1)
        hidden = self.hidden_R_T_h[index, :width].float()
        return Captured([], hidden.masked_fill(is_over_R_T.unsqueeze(2), 0.0).to(self.device))

    def factors(self, captured: Captured, row_R: IntArray) -> list[Factors]:
        """The chosen layers, the head last."""
        found: list[Factors] = [
            LayerFactors.of(inputs, errors, has_weight=part.has_weight, has_bias=part.has_bias)
            for part, (inputs, errors) in zip(self.chosen.layers, captured.layers, strict=True)
        ]
        if self.head is not None and captured.hidden_R_T_h is not None:
            index = torch.from_numpy(row_R)
            width = captured.hidden_R_T_h.shape[1]
            found.append(
                HeadFactors(
                    self.head,
                    captured.hidden_R_T_h,
                    self.rollouts.token_R_T[index, :width].to(self.device),
                    self.rollouts.length_R[index].to(self.device),
                    self._embedding(captured, row_R),
                )
            )
        return found

    def _embedding(self, captured: Captured, row_R: IntArray) -> EmbeddingFactors | None:
        if self.chosen.embedding is None or captured.derivative_R_L_h is None:
            return None
        ids_R_L = self.sequences(row_R).ids_R_L
        # its row of the embedding is never trained, even where a prompt contains it
        padding = self.chosen.embedding.padding_idx
        is_trained_R_L = ids_R_L != (-1 if padding is None else padding)
        return EmbeddingFactors(captured.derivative_R_L_h * is_trained_R_L.unsqueeze(2), ids_R_L)


def _exact(scores: _Scores, bundle: Bundle) -> FloatArray:
    """Inner products of the scores of each group, shape (B, n, n)."""
    if scores.needs_pass:
        parts = [scores.captured(bundle.row_R[part]) for part in bundle.passes]
        captured = Captured.together(parts, bundle.passes)
    else:
        captured = scores.captured(bundle.row_R)
    grams = [score_gram(layer, bundle.size) for layer in scores.factors(captured, bundle.row_R)]
    return np.asarray(torch.stack(grams).sum(dim=0).numpy())


def _sketched(scores: _Scores, bundle: Bundle, size: int, seed: int) -> FloatArray:
    """The same from sketches; what a pass leaves is dropped at once."""
    sketch_R_k_k = torch.zeros(bundle.row_R.size, size, size)
    for part in bundle.passes:
        row_R = bundle.row_R[part]
        for i, layer in enumerate(scores.factors(scores.captured(row_R), row_R)):
            # one projection of a layer for all passes
            generator = np.random.default_rng([seed, int(bundle.slot_G[0]), i])
            sketch_R_k_k[torch.from_numpy(part)] += score_sketch(layer, size, generator)
    flat = sketch_R_k_k.view(-1, bundle.size, size**2)
    return np.asarray((flat @ flat.mT).double().numpy())
