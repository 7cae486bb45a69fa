"""What a host keeps of each rollout between the plan that made it and the update that uses it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields

import numpy as np
import torch
from torch import Tensor

from cures.checks import FloatArray, IntArray, fail
from train.engines.protocol import Completions, Finish


@dataclass(frozen=True, slots=True)
class Rollouts:
    """Rollouts, flat, one row each, in the order in which they were generated.

    ``token_R_T`` is padded on the right; ``log_prob_R_T`` belongs to the policy that generated the
    rollout, which need not be the one that is updated.
    """

    group_R: Tensor  # int64
    prompt_R: Tensor  # int64, index into the pool
    token_R_T: Tensor  # int64
    log_prob_R_T: Tensor  # float32
    length_R: Tensor  # int64, tokens generated
    reward_R: Tensor  # float64, 0 or 1
    is_truncated_R: Tensor  # bool

    def __len__(self) -> int:
        return int(self.group_R.numel())

    @classmethod
    def of(
        cls, found: Completions, group_R: IntArray, prompt_R: IntArray, reward_R: FloatArray
    ) -> Rollouts:
        """Completions with the group, the prompt and the reward of each."""
        return cls(
            group_R=torch.from_numpy(group_R),
            prompt_R=torch.from_numpy(prompt_R),
            token_R_T=found.token_R_T,
            log_prob_R_T=found.log_prob_R_T,
            length_R=found.length_R,
            reward_R=torch.from_numpy(reward_R),
            is_truncated_R=torch.from_numpy(found.finish_R == Finish.LENGTH),
        )

    def take(self, index_R: Tensor) -> Rollouts:
        """Rows at ``index_R``, or where a mask is true."""
        return Rollouts(**{f.name: getattr(self, f.name)[index_R] for f in fields(self)})

    def as_dict(self) -> dict[str, Tensor]:
        """One tensor per field."""
        return {f.name: getattr(self, f.name) for f in fields(self)}

    @classmethod
    def from_dict(cls, tensors: Mapping[str, Tensor], max_new_tokens: int) -> Rollouts:
        """Inverse of :meth:`as_dict`; anything but rows of these fields is refused."""
        rows = len(tensors["group_R"]) if "group_R" in tensors else 0
        template = cls.empty(max_new_tokens).as_dict()
        legal = {key: (t.dtype, (rows, *t.shape[1:])) for key, t in template.items()}
        found = {key: (t.dtype, tuple(t.shape)) for key, t in tensors.items()}
        if found != legal:
            fail("Rollouts.from_dict", "tensors", f"of types and shapes {legal}", found)
        return cls(**tensors)

    @classmethod
    def empty(cls, max_new_tokens: int) -> Rollouts:
        """No rollouts yet."""
        return cls(
            group_R=torch.zeros(0, dtype=torch.int64),
            prompt_R=torch.zeros(0, dtype=torch.int64),
            token_R_T=torch.zeros(0, max_new_tokens, dtype=torch.int64),
            log_prob_R_T=torch.zeros(0, max_new_tokens),
            length_R=torch.zeros(0, dtype=torch.int64),
            reward_R=torch.zeros(0, dtype=torch.float64),
            is_truncated_R=torch.zeros(0, dtype=torch.bool),
        )

    @classmethod
    def concatenate(cls, parts: Sequence[Rollouts]) -> Rollouts:
        """All rows of ``parts``, in order."""
        return cls(
            **{f.name: torch.cat([getattr(part, f.name) for part in parts]) for f in fields(cls)}
        )

    def without(self, group_G: IntArray) -> Rollouts:
        """Rows of all other groups."""
        return self.take(torch.from_numpy(~np.isin(self.group_R.numpy(), group_G)))

    def of_groups(self, group_G: IntArray, keep_G2: IntArray | None = None) -> Rollouts:
        """Rows of the groups, in the order of ``group_G``, within a group first generated first.

        Parameters
        ----------
        group_G : ndarray of int64
        keep_G2 : ndarray of int64, shape (G, 2), optional
            At most so many right and wrong rollouts of each group.
        """
        rows = np.flatnonzero(np.isin(self.group_R.numpy(), group_G))
        slot_R = slots(self.group_R.numpy()[rows], group_G)
        rows = rows[np.argsort(slot_R, kind="stable")]
        slot_R = np.sort(slot_R, kind="stable")
        if keep_G2 is not None:
            is_wrong_R = (self.reward_R.numpy()[rows] == 0.0).astype(np.int64)
            kind_R = 2 * slot_R + is_wrong_R  # column 0 of keep_G2 is right, column 1 wrong
            rows = rows[_rank_within(kind_R) < np.ravel(keep_G2)[kind_R]]
        return self.take(torch.from_numpy(rows))


def slots(group_R: IntArray, group_G: IntArray) -> IntArray:
    """Where each rollout's group stands in ``group_G``, which must hold it, shape (R,).

    Examples
    --------
    >>> slots(np.array([7, 7, 2]), np.array([9, 2, 7]))
    array([2, 2, 1])
    """
    order = np.argsort(group_G, kind="stable")
    return np.asarray(order[np.searchsorted(group_G[order], group_R)], dtype=np.int64)


def _rank_within(kind_R: IntArray) -> IntArray:
    """How many earlier entries are equal to each entry, shape (R,)."""
    order = np.argsort(kind_R, kind="stable")
    ordered = kind_R[order]
    start = np.searchsorted(ordered, ordered, side="left")
    rank_R = np.empty(kind_R.size, dtype=np.int64)
    rank_R[order] = np.arange(kind_R.size) - start
    return rank_R
