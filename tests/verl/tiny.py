"""verl's synchronous trainer without a GPU.

Its own: loop, loader, TransferQueue, agent loop worker, replay buffer, balancing, advantages, metrics,
checkpoints. Not there: the language model (``told.py``), its weights and the optimiser.
"""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import transfer_queue
from hydra import compose, initialize_config_dir
from tensordict import TensorDict
from verl.trainer.ppo.v1.trainer_sync import PPOTrainerSync

from tests.told_rewards import GROUP, POOL, PROMPTS, RATE_N

CONFIGS = Path(__file__).parents[2] / "configs"
POLL_S = 0.02  # how often the replay buffer looks; verl's own 2 s are for a language model


def write_prompts(path: Path, *, failing: int = 0, outputs: int = 1) -> None:
    """A data set as verl wants it; of a multiple of 5 the first ``failing`` rollouts fail."""
    pd.DataFrame(
        {
            "prompt": [[{"role": "user", "content": f"{i:02d}="}] for i in range(POOL)],
            "data_source": "told",
            "reward_model": [{"ground_truth": "1"} for _ in range(POOL)],
            "pass_rate": RATE_N,
            "extra_info": [
                {
                    "index": i,
                    "failing": failing if i % 5 == 0 else 0,
                    "outputs": outputs,
                }
                for i in range(POOL)
            ],
        }
    ).to_parquet(path)


def configuration(model: Path, folder: Path, *overrides: str, name: str = "verl-example") -> Any:
    """The example of this repository, made small."""
    here = [
        "hydra.searchpath=[pkg://verl.trainer.config]",
        f"data.train_files={folder}/train.parquet",
        f"data.val_files={folder}/val.parquet",
        f"data.train_batch_size={PROMPTS}",
        f"actor_rollout_ref.rollout.n={GROUP}",
        f"actor_rollout_ref.actor.ppo_mini_batch_size={PROMPTS}",
        f"actor_rollout_ref.model.path={model}",
        "actor_rollout_ref.rollout.agent.default_agent_loop=told",
        f"actor_rollout_ref.rollout.agent.agent_loop_config_path={model}/loops.yaml",
        "algorithm.rollout_correction.bypass_mode=True",  # log-probabilities are the generator's
        "transfer_queue.enable=True",
        "transfer_queue.backend.SimpleStorage.num_data_storage_units=1",
        "transfer_queue.backend.SimpleStorage.total_storage_size=5000",
        f"trainer.default_local_dir={folder}/run",
        "trainer.logger=[]",
        "trainer.val_before_train=False",
        "trainer.test_freq=-1",
        "trainer.save_freq=-1",
        "data.seed=3",
    ]
    with initialize_config_dir(str(CONFIGS), version_base=None):
        return compose(name, [*here, *overrides])


class Weights:
    """In place of the workers that hold the policy: keeps what it would have been trained on."""

    _dispatch_info = {"actor": [0]}  # noqa: RUF012  (verl's name and shape)

    def __init__(self, trainer: Tiny) -> None:
        self.trainer = trainer

    def update_actor(self, batch: Any) -> TensorDict:
        fields = ["uid", "advantages", "response_mask", "extra_info", "rm_scores"]
        data = transfer_queue.kv_batch_get(
            keys=batch.keys, partition_id=batch.partition_id, select_fields=fields
        )
        self.trainer.batches.append(
            SimpleNamespace(
                uid_R=[str(value) for value in data["uid"]],
                rollout_R=np.array([int(key.rsplit("_", 2)[1]) for key in batch.keys]),
                prompt_R=np.array([value["index"] for value in _plain(data["extra_info"])]),
                advantages_R=[value.double().numpy() for value in data["advantages"]],
                reward_R=np.array([float(value.sum()) for value in data["rm_scores"]]),
                is_padding_R=np.array([tag.get("is_padding", False) for tag in batch.tags]),
                step=self.trainer.global_steps,
            )
        )
        return {"metrics": {"mfu": [0.0], "loss": [0.0]}}

    def save_checkpoint(self, path: str, *args: Any, **kwargs: Any) -> None:
        Path(path).mkdir(parents=True, exist_ok=True)

    def load_checkpoint(self, *args: Any, **kwargs: Any) -> None:
        pass


def _plain(values: Any) -> list[Any]:
    return [getattr(value, "data", value) for value in values]


class Tiny(PPOTrainerSync):
    """verl's trainer; workers on devices, and what talks to them, are stand-ins."""

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        self.replay_buffer.poll_interval = POLL_S
        self.batches: list[Any] = []  # what the optimiser was given
        self.logged: list[dict[str, Any]] = []
        self.submitted: list[int] = []  # rows that were sent to be rolled out at a time

    def _setup(self) -> None:
        self._init_tokenizer()
        self._init_dataloader()
        self._init_dump_executor()
        self.actor_rollout_wg = Weights(self)
        self.reward_loop_manager = SimpleNamespace(reward_loop_worker_handles=[])
        self.checkpoint_manager = SimpleNamespace(
            update_weights=lambda step: None, sleep_replicas=lambda: None
        )
        self._load_checkpoint()

    def _submit_batch_to_rollout(self, batch: Any) -> int:
        self.submitted.append(super()._submit_batch_to_rollout(batch))
        return self.submitted[-1]

    def _compute_metrics(self, batch: Any, metrics: dict[str, Any], *args: Any, **kw: Any) -> None:
        self.logged.append(dict(metrics))  # the rest is about lengths, speed and devices

    def _start_profiling(self) -> None:
        pass

    def _stop_profiling(self) -> None:
        pass


def train(manager: Any, config: Any, steps: int) -> Tiny:
    """Run verl's own ``fit`` up to a step."""
    for partition, keys in (transfer_queue.kv_list() or {}).items():  # left by a run that raised
        if keys:
            transfer_queue.kv_clear(keys=list(keys), partition_id=partition)
    config.trainer.total_training_steps = steps
    config.trainer.total_epochs = 10_000
    trainer = Tiny(config)
    trainer.init()
    trainer.curr_step_profile = False
    trainer.fit(manager)
    return trainer
