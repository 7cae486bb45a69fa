"""Memory and schedule of a run as tables on the screen."""

from __future__ import annotations

import torch
from rich.console import Console
from rich.table import Table

from train.config import Config
from train.dry_run.memory import Memory, memory, meta_model
from train.dry_run.schedule import Schedule, schedule, stand_in_scheduler
from train.engines.protocol import Decoding
from train.model import new_model_of
from train.model_config import PretrainedConfig
from train.tasks.arithmetic_config import ArithmeticConfig
from train.tasks.making import make_task


def show(config: Config, *, prompts: int, processes: int, console: Console) -> None:
    """Print what a run of ``config`` would need.

    Parameters
    ----------
    config : Config
    prompts : int
        Of the pool.
    processes : int
        Of ``torchrun``.
    console : Console
    """
    decoding = Decoding(
        max_new_tokens=_new_tokens(config),
        end_tokens=(0,),
        pad_token=1,
        temperature=config.rollout.decode_temperature,
    )
    if isinstance(config.model, PretrainedConfig):
        model = meta_model(config.model)
    else:
        with torch.device("meta"):
            model = new_model_of(config, make_task(config))
    console.print(_memory_table(memory(config, model, decoding, processes), config, processes))
    scheduler = stand_in_scheduler(config, prompts)
    plan = schedule(scheduler, prompts, config.run.rollouts, config.run.seed)
    console.print(_schedule_table(plan, decoding, prompts))
    console.print(
        "Success rates are taken as uniform over (0, 1) and fixed. For hours on given hardware and "
        "success rates of a real model: python -m sim plan --help",
        highlight=False,
    )


def _new_tokens(config: Config) -> int:
    if isinstance(config.task, ArithmeticConfig):
        return make_task(config).decoding.max_new_tokens
    return int(config.task.max_new_tokens)


def _memory_table(found: Memory, config: Config, processes: int) -> Table:
    learner = config.learner
    table = Table(title=f"memory of one of {processes} process(es)")
    table.add_column("what")
    table.add_column("size", justify="right")
    recomputed = "recomputed" if learner.activation_checkpointing else "all kept"
    rows = {
        f"weights ({found.parameters:,} parameters)": found.weights,
        "gradients": found.gradients,
        "AdamW": found.optimizer,
        "reference model (KL)": found.reference,
        f"weights of engine {config.rollout.engine}": found.engine,
        f"activations of a pass of {learner.pass_tokens:,} tokens ({recomputed})": found.activations,
        "logits": found.logits,
        "sum while training": found.training,
        "in main memory meanwhile: weights of engine vllm": found.engine_asleep,
    }
    for name, held in rows.items():
        if held:
            table.add_row(name, size_text(held))
    if config.rollout.engine == "vllm":
        when = "while it generates" if config.vllm.sleep else "at all times"
        table.add_row(f"engine vllm {when}, weights and cache", _vllm_share(config))
    table.add_row(
        "keys and values, per token and rollout generated", size_text(found.kv_cache_token)
    )
    return table


def _vllm_share(config: Config) -> str:
    options = config.vllm
    if options.cache_gib is not None:
        return f"weights + {options.cache_gib:g} GiB"
    return f"{options.gpu_memory_share:.0%} of the GPU"


def _schedule_table(plan: Schedule, decoding: Decoding, prompts: int) -> Table:
    table = Table(title=f"rollouts over {prompts:,} prompts")
    table.add_column("what")
    table.add_column("rollouts", justify="right")
    about = "about " if plan.is_extrapolated else ""
    table.add_row("generated in all", f"{about}{plan.generated:,}")
    table.add_row("  of these pilots", f"{about}{plan.pilots:,}")
    table.add_row("  trained on", f"{about}{plan.trained:,}")
    table.add_row("updates", f"{about}{plan.updates:,}")
    tokens = plan.generated * decoding.max_new_tokens
    table.add_row("new tokens at most", f"{about}{tokens:,}")
    return table


def size_text(count: float) -> str:
    """Bytes in the unit that suits them.

    Examples
    --------
    >>> size_text(1536.0), size_text(3 * 2.0**30)
    ('1.5 KiB', '3.0 GiB')
    """
    units = ("B", "KiB", "MiB", "GiB", "TiB")
    power = 0
    while count >= 1024.0 and power + 1 < len(units):
        count, power = count / 1024.0, power + 1
    return f"{count:.1f} {units[power]}"
