r"""The policy-gradient loss: importance ratio, clipped, with an entropy bonus.

.. math:: L = -\sum_r w_r \frac{1}{T_r} \sum_t
          \bigl[\min(\rho_{rt} A_r,\ \mathrm{clip}(\rho_{rt}, 1-\epsilon_l, 1+\epsilon_h) A_r)
          + \beta H_{rt}\bigr]

With :math:`w_r` of `cures.rollout_weights` and no clipping this is Eq. 16 with the ratio taken token by
token. The bonus :math:`\beta H` is not in the paper: without it a model of this size collapses onto one
answer per prompt.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from train.policy import token_log_prob, token_mask


@dataclass(frozen=True, slots=True)
class LossTerms:
    """Sums over the rollouts given; weights already applied."""

    loss: Tensor  # scalar, to differentiate
    entropy: Tensor  # scalar, sum over tokens of the entropy, detached
    clipped: Tensor  # scalar, number of tokens at which the clip was active, detached


def policy_loss(
    log_policy_R_T_V: Tensor,
    token_R_T: Tensor,
    old_log_prob_R_T: Tensor,
    length_R: Tensor,
    advantage_R: Tensor,
    weight_R: Tensor,
    *,
    clip_low: float,
    clip_high: float,
    entropy_bonus: float,
) -> LossTerms:
    """Loss of some rollouts; the losses of disjoint sets add up.

    Parameters
    ----------
    log_policy_R_T_V : Tensor of float32, shape (R, T, V)
        Log-probabilities of the policy being trained.
    token_R_T, old_log_prob_R_T : Tensor, shape (R, T)
        Tokens taken and their log-probabilities when sampled.
    length_R : Tensor of int64, shape (R,)
        Generated tokens, EOS included.
    advantage_R, weight_R : Tensor of float32, shape (R,)
        From `cures.advantages` and `cures.rollout_weights`.
    clip_low, clip_high : float
        The ratio is clipped to ``[1 - clip_low, 1 + clip_high]``.
    entropy_bonus : float
    """
    mask = token_mask(length_R, token_R_T.shape[1])
    ratio = (token_log_prob(log_policy_R_T_V, token_R_T) - old_log_prob_R_T).exp()
    advantage = advantage_R.unsqueeze(1)
    free = ratio * advantage
    clipped = ratio.clamp(1.0 - clip_low, 1.0 + clip_high) * advantage
    entropy = -(log_policy_R_T_V.exp() * log_policy_R_T_V).sum(dim=-1)
    per_token = free.minimum(clipped) + entropy_bonus * entropy
    # ratio_r of Eq. (16) is the mean over the tokens of rollout r
    weight_R_T = (weight_R / length_R).unsqueeze(1) * mask
    return LossTerms(
        loss=-(weight_R_T * per_token).sum(),
        entropy=(entropy * mask).sum().detach(),
        clipped=((clipped < free) & mask).sum().detach(),
    )
