"""Questions -> judged completions: every rank generates and judges its share, all see everything."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from cures.checks import FloatArray, IntArray
from train.engines.protocol import Completions, Decoding, Engine
from train.tasks.protocol import Questions
from train.world import World


@dataclass(frozen=True, slots=True, eq=False)
class Answers:
    """Completions with their rewards, question by question."""

    completions: Completions
    reward_R: FloatArray  # 0, 1, NaN where there is none


def answers(
    engine: Engine,
    questions: Questions,
    index_P: IntArray,
    quota_P: IntArray,
    seed_P: IntArray,
    decoding: Decoding,
    *,
    version: int,
    world: World,
    luck_R: FloatArray | None = None,
    time_limit_s: float | None = None,
    keeps_hidden: bool = False,
) -> Answers:
    """Generate ``quota_P[i]`` completions of question ``index_P[i]`` and judge them.

    Parameters
    ----------
    engine : Engine
        Of this rank.
    questions : Questions
    index_P, quota_P, seed_P : ndarray of int64, shape (P,)
    decoding : Decoding
    version : int
        Of the weights.
    world : World
        Ranks take adjacent questions, of about as many rollouts each.
    luck_R : ndarray of float64, shape (R,), optional
        Uniform numbers, for tasks whose verdicts are random.
    time_limit_s : float, optional
        For generation.
    keeps_hidden : bool
        See :meth:`train.engines.protocol.Engine.generate`; of one process alone.
    """
    first, last = _share(quota_P, world)
    quota = quota_P[first:last]
    skipped, rows = int(quota_P[:first].sum()), int(quota.sum())
    index = index_P[first:last]
    mine = engine.generate(
        questions.prompts.take(index),
        quota,
        seed_P[first:last],
        decoding,
        version=version,
        time_limit_s=time_limit_s,
        keeps_hidden=keeps_hidden and world.size == 1,
    )
    luck = None if luck_R is None else luck_R[skipped : skipped + rows]
    reward = questions.reward(np.repeat(index, quota), mine, luck)
    columns = (
        mine.token_R_T,
        mine.log_prob_R_T,
        mine.length_R,
        torch.from_numpy(mine.finish_R),
        torch.from_numpy(reward),
    )
    token, log_prob, length, finish, all_rewards = (
        torch.cat(world.gather_rows(column)) for column in columns
    )
    completions = Completions(token, log_prob, length, finish.numpy(), mine.hidden_R_T_h)
    return Answers(completions, all_rewards.numpy())


def _share(quota_P: IntArray, world: World) -> tuple[int, int]:
    """First and last question of this rank: cuts lie nearest to equal shares of the rollouts."""
    done_P = np.concatenate([[0], np.cumsum(quota_P)])
    cuts = [
        int(np.abs(done_P - share * done_P[-1]).argmin())
        for share in np.linspace(0.0, 1.0, world.size + 1)[1:-1]
    ]
    bounds = [0, *np.maximum.accumulate(np.array(cuts, dtype=np.int64)).tolist(), quota_P.size]
    return bounds[world.rank], bounds[world.rank + 1]
