"""verl's extension points, in the order in which it makes them: callback, replay buffer, data set.

Facts about verl 0.9.1 that this rests on: all three live in the process of the trainer; a replay
buffer is given ``refill_fn``, which fetches so many rows and sends them to be rolled out; the number of
rollouts of a row is its ``__rollout_n__``, 0 included; further columns of a row come back with each of
its rollouts; a rollout's key is ``{uid of the row}_{session}_{output}``.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transfer_queue
from omegaconf import OmegaConf
from verl.trainer.ppo.checkpoint_callback import CheckpointCallback
from verl.trainer.ppo.core_algos import register_adv_est
from verl.trainer.ppo.v1.replay_buffer import ReplayBuffer
from verl.utils.checkpoint.checkpoint_manager import find_latest_ckpt_path
from verl.utils.dataset.rl_dataset import RLHFDataset

from cures.checks import FloatArray, fail
from cures.integrations.verl.agreement import OWN, WHERE, Options
from cures.integrations.verl.session import Row, Session, begin, current, resume_folder

QUOTA = "__rollout_n__"  # verl's name
GROUP = "cures_group"
PROMPT = "cures_prompt"


class CuresCheckpoint(CheckpointCallback):  # type: ignore[misc]
    """``trainer.checkpoint_callback_class``: begins the session, and saves it with every checkpoint.

    Parameters
    ----------
    config : DictConfig
        All of verl's.

    Raises
    ------
    ValueError
        If it does not work with a scheduler, naming what would.
    """

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        given = config.trainer.v1.sampler.get("sampler_kwargs") or {}
        if OmegaConf.is_config(given):
            given = OmegaConf.to_container(given, resolve=True)
        folder = resume_folder(config, find_latest_ckpt_path)
        self.session = Session(config, Options.of(given), folder)
        begin(self.session)

    def on_save(
        self, trainer: Any, global_step: int, checkpoint_dir: str, *args: Any, **kwargs: Any
    ) -> None:
        """verl has written a checkpoint."""
        self.session.save(Path(checkpoint_dir))


class CuresDataset(RLHFDataset):  # type: ignore[misc]
    """``data.custom_cls``: verl's own data set, whose rows are the scheduler's and not the sampler's.

    The first one that is made is the training set; the other one is verl's own, for validation.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        session = current()
        self.session: Session | None = None
        if not session.is_started:
            session.start(len(self), lambda name: self.dataframe[name])
            self.session = session

    def __getitems__(self, index: Sequence[int]) -> list[dict[str, Any]]:
        """Rows of a batch: what the loader asks for, whatever indices it has drawn."""
        session = self.session
        if session is None:
            return [self[i] for i in index]
        if session.shadow is not None:
            return [{**self[i], PROMPT: int(i)} for i in index]
        return [self._planned(row) for row in session.fetch(len(index))]

    def _planned(self, row: Row) -> dict[str, Any]:
        return {**self[row.prompt], QUOTA: row.rollouts, GROUP: row.group}


class CuresReplayBuffer(ReplayBuffer):  # type: ignore[misc]
    """``trainer.v1.sampler.custom_sampler``: tells the scheduler what came back, and goes on until
    something is to be trained on."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._session = current()
        self._session.has_replay_buffer = True

    def sample(
        self, global_steps: int, partition_id: str, batch_size: int
    ) -> tuple[Any, dict[str, Any]]:
        """Rollouts of the update, as keys, and metrics; see verl."""
        session = self._session
        if partition_id == "val":
            found: tuple[Any, dict[str, Any]] = super().sample(
                global_steps, partition_id, batch_size
            )
            return found
        session.require_data_set()
        step = global_steps - 1  # verl counts the update that is being made
        if session.shadow is not None:
            batch, metrics = super().sample(global_steps, partition_id, batch_size)
            _, prompt_R, reward_R = _returned(batch, PROMPT)
            session.watch(prompt_R, reward_R, step=step)
            return batch, {**metrics, **session.metrics()}
        while True:
            if session.rows_to_fetch:
                self.refill_fn(session.rows_to_fetch)
            batch, metrics = super().sample(global_steps, partition_id, session.rolled_out())
            uid_R, group_R, reward_R = _returned(batch, GROUP)
            if session.observe(uid_R, group_R, reward_R, step=step):
                self._require_one_row_per_rollout(batch, len(uid_R))
                return batch, {**metrics, **session.metrics()}
            transfer_queue.kv_clear(keys=batch.keys, partition_id=partition_id)
            self.refill_fn(batch_size)

    def _require_one_row_per_rollout(self, batch: Any, rollouts: int) -> None:
        if self._session.trains_per_prompt and len(batch.keys) != rollouts:
            legal = f"'grpo' for agents of several outputs: {OWN!r} takes one output per rollout"
            fail(WHERE, "algorithm.adv_estimator", legal, OWN)


def _returned(batch: Any, column: str) -> tuple[list[str], list[int], FloatArray]:
    """Row, column and reward of every rollout; an agent's last output is the rollout's."""
    last: dict[tuple[str, str], tuple[int, str]] = {}
    for key in batch.keys:
        uid, rollout, output = key.rsplit("_", 2)
        last[uid, rollout] = max(last.get((uid, rollout), (-1, "")), (int(output), key))
    data = transfer_queue.kv_batch_get(
        keys=[key for _, key in last.values()],
        partition_id=batch.partition_id,
        select_fields=["rm_scores", column],
    )
    reward_R = np.array([float(score.sum()) for score in data["rm_scores"]])
    return [uid for uid, _ in last], [int(value) for value in data[column]], reward_R


@register_adv_est(OWN)  # type: ignore[untyped-decorator]
def weighted_advantages(
    token_level_rewards: torch.Tensor,
    response_mask: torch.Tensor,
    index: Any = None,
    config: Any = None,
    **_: Any,
) -> tuple[torch.Tensor, torch.Tensor]:
    """``algorithm.adv_estimator=cures``: the scheduler's estimator, times the weights of the rows.

    Weights are relative to a loss that takes the mean over rollouts
    (``actor_rollout_ref.actor.loss_agg_mode=seq-mean-token-mean``): see
    :class:`cures.integrations.generation_batch.Lesson`.

    Parameters
    ----------
    token_level_rewards, response_mask : Tensor, shape (R, T)
    index : ndarray of str, shape (R,)
        Row of each rollout.

    Returns
    -------
    advantages, returns : Tensor, shape (R, T)
        The same.
    """
    reward_R = token_level_rewards.sum(dim=-1).double().cpu().numpy()
    lesson = current().lesson(list(index), reward_R)
    trained_R = torch.from_numpy(lesson.advantage_R * lesson.weight_R).to(token_level_rewards)
    advantages_RT = trained_R.unsqueeze(-1) * response_mask
    return advantages_RT, advantages_RT
