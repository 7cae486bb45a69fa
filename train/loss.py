r"""The clipped policy loss of Eq. 16, token by token, with its optional terms.

.. math:: L = -\sum_r w_r \frac{1}{T_r} \sum_t \bigl[c_{rt} \min(\rho_{rt} A_{rt},\
          \mathrm{clip}(\rho_{rt}, 1-\epsilon_l, 1+\epsilon_h) A_{rt})
          + \beta_H H_{rt} 1[r \in E] - \beta\, k_3(r, t)\bigr]

With :math:`w_r` of `cures.rollout_weights`, no clipping and no further term this is Eq. 16 with the
ratio taken token by token. :math:`\rho_{rt}` is the new policy over the old one.

:math:`H_{rt}` is the entropy of the policy; it is not in the paper, but without it a model of 0.2
million weights collapses onto one answer per prompt. It is counted over a set of rollouts E, the
informative ones (of advantage other than 0) or all.

The Kullback-Leibler term towards a reference comes in two ways (names as in Schulman's note on
approximating KL divergence, with :math:`q_{rt} = \pi_\mathrm{ref} / \pi` at the token taken):

- ``k3``, as GRPO and the paper have it, is a term of the loss, :math:`k_3 = q - 1 - \log q \ge 0`. Its
  value is an unbiased estimate of KL(pi || ref); on the policy's own samples its gradient is that of
  the *opposite* divergence KL(ref || pi).
- ``k1`` = -log q would have a gradient of mean 0 as a term of the loss. It is therefore a cost: from
  the advantage of a token the sum of beta k1 from that token to the end is taken. For completions of
  one length the gradient is then that of beta KL(pi || ref), in expectation at the first step.

:math:`c_{rt} = \min(\pi_\mathrm{old} / \pi_\mathrm{sampled}, C)` corrects, where it is switched on, for
a sampler whose probabilities are not the trainer's.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from train.policy import TokenTerms


@dataclass(frozen=True, slots=True, eq=False)
class TokenTargets:
    """What the loss is given of every completion token, flat, in the order of ``Sequences.target_F``."""

    advantage_F: Tensor
    weight_F: Tensor  # w_r / T_r
    bonus_weight_F: Tensor  # the same in the rollouts whose entropy counts, 0 elsewhere
    old_log_prob_F: Tensor  # denominator of the ratio
    reference_log_prob_F: Tensor | None = None
    correction_F: Tensor | None = None  # c


@dataclass(frozen=True, slots=True)
class LossTerms:
    """Sums over the tokens given; weights already applied in ``loss`` alone."""

    loss: Tensor  # scalar, to differentiate
    entropy: Tensor  # scalar, sum over tokens of the entropy, detached
    clipped: Tensor  # scalar, number of tokens at which the clip was active, detached
    kl: Tensor  # scalar, sum over tokens of k3, detached; 0 without a reference


def policy_loss(
    terms: TokenTerms,
    targets: TokenTargets,
    *,
    clip_low: float,
    clip_high: float,
    entropy_bonus: float,
    kl_weight: float = 0.0,
) -> LossTerms:
    """Loss of some tokens; the losses of disjoint sets add up.

    Parameters
    ----------
    terms : TokenTerms
        Of the policy being trained, with gradients.
    targets : TokenTargets
    clip_low, clip_high : float
        The ratio is clipped to ``[1 - clip_low, 1 + clip_high]``.
    entropy_bonus, kl_weight : float
        >= 0; the latter is that of k3. With ``targets.reference_log_prob_F`` k3 is measured even where
        it does not count.
    """
    ratio_F = (terms.log_prob_F - targets.old_log_prob_F).exp()
    free_F = ratio_F * targets.advantage_F
    clipped_F = ratio_F.clamp(1.0 - clip_low, 1.0 + clip_high) * targets.advantage_F
    gain_F = free_F.minimum(clipped_F)
    if targets.correction_F is not None:
        gain_F = gain_F * targets.correction_F
    loss = -(targets.weight_F * gain_F).sum()
    if entropy_bonus:
        loss = loss - entropy_bonus * (targets.bonus_weight_F * terms.entropy_F).sum()
    kl = torch.zeros((), device=loss.device)
    if targets.reference_log_prob_F is not None:
        log_ratio_F = targets.reference_log_prob_F - terms.log_prob_F
        k3_F = torch.expm1(log_ratio_F) - log_ratio_F
        if kl_weight:
            loss = loss + kl_weight * (targets.weight_F * k3_F).sum()
        kl = k3_F.sum().detach()
    return LossTerms(
        loss=loss,
        entropy=terms.entropy_F.sum().detach(),
        clipped=(clipped_F < free_F).sum().detach(),
        kl=kl,
    )


def cost_to_go(cost_F: Tensor, row_F: Tensor) -> Tensor:
    """Sum of the costs of a row from each token to the row's end.

    Parameters
    ----------
    cost_F : Tensor, shape (F,)
    row_F : Tensor of int64, shape (F,)
        Row of each token, tokens of a row adjacent and in order.

    Examples
    --------
    >>> cost_to_go(torch.tensor([1.0, 2.0, 4.0, 8.0]), torch.tensor([0, 0, 0, 1])).tolist()
    [7.0, 6.0, 4.0, 8.0]
    """
    if cost_F.numel() == 0:
        return cost_F
    total_F = cost_F.double().flip(0).cumsum(0).flip(0)
    is_first_F = torch.ones_like(row_F, dtype=torch.bool)
    is_first_F[1:] = row_F[1:] != row_F[:-1]
    starts = is_first_F.nonzero().squeeze(1)
    behind = torch.cat([total_F[starts[1:]], total_F.new_zeros(1)])  # what lies behind each row
    return (total_F - behind[is_first_F.cumsum(0) - 1]).to(cost_F.dtype)
