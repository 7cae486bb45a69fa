"""What of verl's configuration works with a scheduler, and the scheduler that it asks for."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from cures.advantage import ESTIMATORS
from cures.checks import as_bool, as_choice, as_float, fail
from cures.integrations.generation_batch import ROW_AGGREGATIONS, single_precision
from cures.schedulers import SCHEDULERS, Scheduler, make_scheduler

WHERE = "cures.integrations.verl"
OPTIONS = "trainer.v1.sampler.sampler_kwargs"  # where ours are: verl passes them on unread
UNNAMED = ("oracle",)  # asks for a function, which no configuration can hold
OWN = "cures"  # our entry in verl's registry of advantage estimators
DATA_SET = f"CuresDataset of pkg://{WHERE}"


@dataclass(frozen=True, slots=True)
class Options:
    """The entries of ``trainer.v1.sampler.sampler_kwargs``.

    Attributes
    ----------
    scheduler : str
        Name; see :func:`cures.list_schedulers`.
    settings : mapping
        More keywords of it.
    columns : mapping of str to str
        Keywords whose values are columns of the data set, a row per prompt
        (``{prior_success_rate_N: pass_rate}``).
    shadow : bool
        True: verl trains as ever, and the scheduler only watches.
    threshold : float, optional
        Right iff a rollout's reward is at least this. Without it rewards must be 0 or 1.
    aggregation : str
        Under ``algorithm.adv_estimator=cures``: ``prompt``, every draw of a prompt counts alike,
        whatever its quota (Eq. 16); ``rollout``, every rollout alike.
    """

    scheduler: str = "adaptive"
    settings: Mapping[str, Any] = field(default_factory=dict)
    columns: Mapping[str, str] = field(default_factory=dict)
    shadow: bool = False
    threshold: float | None = None
    aggregation: str = "prompt"

    @classmethod
    def of(cls, given: Mapping[str, Any]) -> Options:
        """Checked, from plain mappings.

        Raises
        ------
        ValueError
            On an unknown entry or value.
        """
        for name in given:
            if name not in cls.__dataclass_fields__:
                fail(
                    WHERE,
                    f"an entry of {OPTIONS}",
                    f"one of {list(cls.__dataclass_fields__)}",
                    name,
                )
        options = cls(**given)
        for name in ("settings", "columns"):
            if not isinstance(getattr(options, name), Mapping):
                fail(WHERE, f"{OPTIONS}.{name}", "a mapping", getattr(options, name))
        as_bool(WHERE, f"{OPTIONS}.shadow", options.shadow)
        as_choice(WHERE, f"{OPTIONS}.aggregation", options.aggregation, ROW_AGGREGATIONS)
        if options.threshold is not None:
            cut = as_float(WHERE, f"{OPTIONS}.threshold", options.threshold)
            options = replace(options, threshold=single_precision(cut))
        as_choice(WHERE, f"{OPTIONS}.scheduler", options.scheduler, tuple(SCHEDULERS))
        works = [
            name
            for name, kind in SCHEDULERS.items()
            if (kind.is_single_plan or kind.is_piloted) and name not in UNNAMED
        ]
        if not options.shadow and options.scheduler not in works:
            legal = f"one of {works}, or any but {list(UNNAMED)} with shadow=True"
            fail(WHERE, f"{OPTIONS}.scheduler", legal, options.scheduler)
        if options.scheduler in UNNAMED:
            legal = f"none of {list(UNNAMED)}, which need a function"
            fail(WHERE, f"{OPTIONS}.scheduler", legal, options.scheduler)
        return options


def check_configuration(config: Any, options: Options) -> None:
    """Refuse what cannot work, naming what would.

    Parameters
    ----------
    config : DictConfig
        All of verl's.
    options : Options

    Raises
    ------
    ValueError
    """
    trainer, data, algorithm = config.trainer, config.data, config.algorithm

    def must(parameter: str, value: Any, legal: Any, why: str) -> None:
        if value != legal:
            fail(WHERE, parameter, f"{legal!r}: {why}", value)

    must("trainer.use_v1", trainer.use_v1, True, "verl's older trainer has none of these hooks")
    must(
        "trainer.v1.trainer_mode", trainer.v1.trainer_mode, "sync",
        "asynchronous modes fetch prompts one by one, before the last outcomes are known",
    )  # fmt: skip
    if not _at(config, "data.custom_cls.path"):
        fail(WHERE, "data.custom_cls", DATA_SET, None)
    must(
        "data.dataloader_num_workers", data.dataloader_num_workers, 0,
        "workers fetch prompts ahead, in processes that never hear of an outcome",
    )  # fmt: skip
    must(
        "trainer.v1.sync.parameter_sync_step", _at(config, "trainer.v1.sync.parameter_sync_step") or 1,
        1, "a plan is trained on whole",
    )  # fmt: skip
    for name in ("algorithm.filter_groups.enable", "trainer.v1.sampler.sync_refill_failed_groups"):
        must(
            name, bool(_at(config, name)), False,
            "verl does neither filter nor refill what comes out of a replay buffer of one's own",
        )  # fmt: skip
    must(
        "skip.rollout_tq.enable", bool(_at(config, "skip.rollout_tq.enable")), False,
        "rollouts of another run belong to other plans",
    )  # fmt: skip
    if _at(config, "reward.reward_model.enable"):
        must(
            "reward.reward_model.enable_resource_pool",
            bool(_at(config, "reward.reward_model.enable_resource_pool")), True,
            "a reward model that shares the policy's devices answers too late",
        )  # fmt: skip
    if options.shadow:
        if algorithm.adv_estimator == OWN:
            fail(WHERE, "algorithm.adv_estimator", "one of verl's own with shadow=True", OWN)
        return
    if algorithm.adv_estimator == OWN:
        must(
            "algorithm.use_kl_in_reward", bool(algorithm.use_kl_in_reward), False,
            "rewards must stay right or wrong",
        )  # fmt: skip


def estimators_of(config: Any) -> tuple[str, ...]:
    """Estimators of :mod:`cures` that are verl's ``algorithm.adv_estimator``, its default first."""
    algorithm = config.algorithm
    known = {
        OWN: ESTIMATORS,
        "grpo": ("grpo",) if algorithm.norm_adv_by_std_in_grpo else ("dr_grpo",),
        "rloo": ("rloo",),
    }
    name = as_choice(WHERE, "algorithm.adv_estimator", algorithm.adv_estimator, tuple(known))
    return known[name]


def scheduler_of(
    config: Any, options: Options, *, num_prompts: int, column: Callable[[str], ArrayLike]
) -> Scheduler:
    """The scheduler of a configuration.

    Parameters
    ----------
    config : DictConfig
        All of verl's: ``data.train_batch_size`` prompts and ``actor_rollout_ref.rollout.n`` times as
        many rollouts are an update.
    options : Options
    num_prompts : int
        Rows of the training set.
    column : callable
        Name -> values of a column of it.

    Raises
    ------
    ValueError
        If a keyword is unknown, or the scheduler does not fit the configuration.
    """
    prompts = int(config.data.train_batch_size)
    sizes = {
        "num_prompts": num_prompts,
        "batch_size": prompts,
        "budget": prompts * int(config.actor_rollout_ref.rollout.n),
    }
    for name in sorted(sizes.keys() & {*options.settings, *options.columns}):
        legal = f"none of {list(sizes)}, which are verl's rows, train_batch_size, and that times n"
        fail(WHERE, f"{OPTIONS}.settings", legal, name)
    fitting = ESTIMATORS if options.shadow else estimators_of(config)
    settings: dict[str, Any] = {
        "seed": int(config.data.get("seed") or 0),
        "estimator": fitting[0],
        **options.settings,
        **{key: np.asarray(column(name)) for key, name in options.columns.items()},
    }
    scheduler = make_scheduler(options.scheduler, **sizes, **settings)
    if options.shadow:
        return scheduler
    if scheduler.estimator not in fitting:
        legal = f"one of {list(fitting)} with algorithm.adv_estimator={config.algorithm.adv_estimator!r}"
        fail(WHERE, f"{OPTIONS}.settings.estimator", legal, scheduler.estimator)
    if getattr(scheduler, "use_moments", False):
        legal = "False: verl measures no gradient moments"
        fail(WHERE, f"{OPTIONS}.settings.use_moments", legal, True)
    if getattr(scheduler, "step_scaling", False):
        legal = "False: the learning rate is verl's business"
        fail(WHERE, f"{OPTIONS}.settings.step_scaling", legal, True)
    if getattr(scheduler, "baseline", "group") != "group" and config.algorithm.adv_estimator != OWN:
        legal = f"'group' without algorithm.adv_estimator={OWN!r}"
        fail(WHERE, f"{OPTIONS}.settings.baseline", legal, scheduler.baseline)  # type: ignore[attr-defined]
    return scheduler


def _at(config: Any, path: str) -> Any:
    """An entry that may not be there."""
    for name in path.split("."):
        config = config.get(name) if config is not None else None
    return config
