"""A tiny Qwen2 under TRL's trainer and ours: prompts of two digits, rewards told or earned."""

from __future__ import annotations

import functools
import os
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from transformers import AutoTokenizer, Qwen2Config, Qwen2ForCausalLM
from transformers.trainer_callback import PrinterCallback
from trl import GRPOConfig, GRPOTrainer

from cures.integrations.trl import CuresGRPOTrainer
from cures.schedulers.uniform import Uniform
from train.tasks.characters import BOS, EOS, PAD, VOCABULARY_SIZE, save_tokenizer

POOL = 40
ROWS = 32  # of a generation batch
GROUP = 4  # rollouts per prompt, on the mean
RATE_N = np.random.default_rng(0).beta(0.7, 0.7, POOL)  # success rates that are told


@functools.cache
def tokenizer():
    with tempfile.TemporaryDirectory() as folder:
        save_tokenizer(Path(folder))
        names = ["input_ids", "attention_mask"]  # transformers 4 takes token_type_ids for granted
        return AutoTokenizer.from_pretrained(folder, model_input_names=names)


def model(seed: int = 0) -> Qwen2ForCausalLM:
    torch.manual_seed(seed)
    config = Qwen2Config(
        vocab_size=VOCABULARY_SIZE, hidden_size=16, intermediate_size=32, num_hidden_layers=1,
        num_attention_heads=2, num_key_value_heads=1, max_position_embeddings=64,
        tie_word_embeddings=True, pad_token_id=PAD, bos_token_id=BOS, eos_token_id=EOS,
    )  # fmt: skip
    return Qwen2ForCausalLM(config)


def prompt_text(number: int) -> str:
    """All of one length, so that nothing hangs on padding."""
    return f"{number:02d}="


def number_of(text: str) -> int:
    """Inverse of :func:`prompt_text`."""
    return int(text.rstrip("="))


def dataset(size: int = POOL) -> Dataset:
    return Dataset.from_dict(
        {"prompt": [prompt_text(i) for i in range(size)], "number": list(range(size))}
    )


class Told:
    """Rewards by the success rate of the prompt and the row's place in the whole batch.

    A pure function of (batch, place), whatever was generated and by how many processes; the batch is
    counted from ``first``.
    """

    __name__ = "told"

    def __init__(self, rate_N=RATE_N, first: int = 0) -> None:
        self.rate_N, self.batch = np.asarray(rate_N), first
        self.numbers: list[list[int]] = []
        self.rewards: list[np.ndarray] = []

    def __call__(self, prompts, completions, number, **_: Any) -> list[float]:
        assert [number_of(prompt) for prompt in prompts] == number
        assert len(completions) == len(number)
        rank = int(os.environ.get("RANK", "0"))
        place = np.arange(len(number)) + rank * len(number)
        luck = np.random.default_rng([7, self.batch]).random(4 * ROWS)[place]
        found = (luck < self.rate_N[number]).astype(float)
        self.batch += 1
        self.numbers.append(list(number))
        self.rewards.append(found)
        return found.tolist()


def arguments(folder, **options: Any) -> GRPOConfig:
    settings = {
        "output_dir": str(folder), "per_device_train_batch_size": ROWS, "num_generations": GROUP,
        "max_steps": 4, "max_completion_length": 3, "learning_rate": 1e-2, "beta": 0.0,
        "lr_scheduler_type": "constant", "gradient_checkpointing": False, "bf16": False,
        "use_cpu": True, "logging_steps": 1, "save_strategy": "no", "report_to": "none",
        "disable_tqdm": True, "seed": 3,
    }  # fmt: skip
    return GRPOConfig(**{**settings, **options})


def trainer_of(kind: type[GRPOTrainer], folder, reward: Any, **options: Any) -> Any:
    """A trainer of this class; ``options`` of ours, ``args`` of TRL's configuration."""
    made = kind(
        model=options.pop("model", None) or model(),
        reward_funcs=reward,
        args=arguments(folder, **options.pop("args", {})),
        train_dataset=options.pop("train_dataset", None) or dataset(),
        processing_class=tokenizer(),
        **options,
    )
    made.remove_callback(PrinterCallback)
    return made


class Recording(CuresGRPOTrainer):
    """Ours, with every plan, batch and weight kept."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.plans: list[Any] = []
        self.outputs: list[dict[str, Any]] = []  # of generation batches, before TRL shuffles them
        propose = self.scheduler.propose

        def keeping(limit: int | None = None) -> Any:
            self.plans.append(propose(limit))
            return self.plans[-1]

        self.scheduler.propose = keeping

    def _generate_and_score_completions(self, inputs):
        output = super()._generate_and_score_completions(inputs)
        self.outputs.append(dict(output.items()))
        return output


class Uneven(Uniform):
    """Uniform prompts with unequal quotas, from the first plan on."""

    def _quotas(self, prompt_B):
        return np.resize([2, 2, 3, 5, 7, 4, 6, 3], prompt_B.size)  # sum 32


class Small(Uneven):
    """The same with three quarters of the budget."""

    has_exact_budget = False

    def _quotas(self, prompt_B):
        return np.resize([2, 2, 3, 5], prompt_B.size)  # sum 24


def small() -> Small:
    return Small(POOL, ROWS // GROUP, ROWS, 3)


def uneven(**settings: Any) -> Uneven:
    return Uneven(POOL, ROWS // GROUP, ROWS, 3, **settings)


def numbers_of(output: dict[str, Any]) -> np.ndarray:
    """Prompt of every row, read back from the tokens that the model was given."""
    texts = tokenizer().batch_decode(output["prompt_ids"], skip_special_tokens=True)
    return np.array([number_of(text) for text in texts])


def weights_of(trainer: Any) -> dict[str, torch.Tensor]:
    """A copy, by name."""
    unwrapped = trainer.accelerator.unwrap_model(trainer.model)
    return {name: value.detach().clone() for name, value in unwrapped.named_parameters()}


def largest_difference(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> float:
    assert a.keys() == b.keys()
    return max(float((a[name] - b[name]).abs().max()) for name in a)
