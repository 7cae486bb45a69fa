"""The one loop that every host runs: propose -> rollout -> observe -> update.

The simulator, the trainer and any test double implement :class:`Host`; none of them has a loop of its
own. What a run costs is read from the scheduler's ledger, never from a step count.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from cures.checks import InWords, as_int, fail
from cures.records import Outcome, Plan, Selection

if TYPE_CHECKING:
    from cures.schedulers.driver import Scheduler


class Host(Protocol):
    """What a trainer or simulator provides.

    A host keeps a group's rollouts from the plan that created it until the group's id appears in a
    selection's ``group_G`` (train, then drop) or ``discard_G`` (drop).
    """

    @property
    def estimator(self) -> str:
        """Advantage estimator the host trains with; must equal the scheduler's."""
        ...

    def rollout(self, plan: Plan) -> Outcome:
        """Generate ``plan.quota_B`` new rollouts per group, store them, report their rewards."""
        ...

    def update(self, selection: Selection) -> Mapping[str, float]:
        """One policy update on ``selection.group_G``; drops these and ``discard_G``."""
        ...

    def discard(self, selection: Selection) -> None:
        """Drop ``selection.discard_G``; called when there is no update."""
        ...


@dataclass(frozen=True, slots=True)
class UpdateRecord:
    """One policy update and everything that led to it.

    Attributes
    ----------
    step : int
        Number of updates so far, this one included (1 for the first).
    generated : int
        Rollouts generated since the start of the run, for any purpose.
    plans, outcomes : tuple
        Every plan since the previous update, with its outcome, in order.
    selection : Selection
        What was trained on.
    metrics : Mapping[str, float]
        Whatever the host measured during the update.
    """

    step: int
    generated: int
    plans: tuple[Plan, ...]
    outcomes: tuple[Outcome, ...]
    selection: Selection
    metrics: Mapping[str, float]


def run(
    scheduler: Scheduler,
    host: Host,
    *,
    rollouts: int,
    on_outcome: Callable[[Plan, Outcome], None] | None = None,
) -> Iterator[UpdateRecord]:
    """Train until ``rollouts`` rollouts were generated in all; yield a record per update.

    Parameters
    ----------
    scheduler : Scheduler
        Possibly resumed: rollouts already in its ledger count. Plans that are open when the run
        starts (a killed process, a host that raised) are proposed again first; a host must have
        dropped whatever it had of them.
    host : Host
    rollouts : int
        Total budget R, pilots and every discarded rollout included. The number generated ends in
        ``(R - min_quota, R]``.
    on_outcome : callable, optional
        Called with every plan and its outcome once they are observed, those after the last update
        included: the place to write ``outcomes.jsonl``.

    Yields
    ------
    UpdateRecord
        State of scheduler and host is consistent here: save a checkpoint before asking for the next.

    Raises
    ------
    ValueError
        At once if the host trains with another estimator than the scheduler plans for, or if
        ``rollouts`` is less than what is generated or planned already; later if an outcome is not the
        final one of the plan just handed out.
    RuntimeError
        If the scheduler says twice in a row that an update is ready and then selects nothing.
    """
    total = as_int("loop.run", "rollouts", rollouts, 0)
    if host.estimator != scheduler.estimator:
        fail(
            "loop.run",
            "host.estimator",
            f"the scheduler's, {scheduler.estimator!r}",
            host.estimator,
        )
    spent = scheduler.ledger.generated + scheduler.open_rollouts
    if spent > total:
        legal = f"at least {spent}, what is generated or planned already"
        fail("loop.run", "rollouts", legal, total)
    return _updates(scheduler, host, total, on_outcome)


def _updates(
    scheduler: Scheduler,
    host: Host,
    total: int,
    on_outcome: Callable[[Plan, Outcome], None] | None,
) -> Iterator[UpdateRecord]:
    """The loop itself, apart so that :func:`run` refuses a bad call when it is called."""
    scheduler.reissue_open_plans()
    plans: list[Plan] = []
    outcomes: list[Outcome] = []
    empty_in_a_row = 0
    while True:
        left = total - scheduler.ledger.generated
        if scheduler.has_plan_to_reissue:
            plan = scheduler.propose()  # its size was held against ``rollouts`` at the start
        elif scheduler.has_update_ready or left >= scheduler.min_quota:
            plan = scheduler.propose(limit=max(left, scheduler.min_quota))
        else:
            return
        outcome = host.rollout(plan) if len(plan) else Outcome.of(plan, [])
        if outcome.plan_id != plan.plan_id or not outcome.is_final:
            fail(
                "loop.run",
                "host.rollout(plan)",
                f"the final outcome of plan {plan.plan_id}",
                InWords(f"plan {outcome.plan_id}, is_final={outcome.is_final}"),
            )
        selection = scheduler.observe(outcome)
        if on_outcome is not None:
            on_outcome(plan, outcome)
        plans.append(plan)
        outcomes.append(outcome)
        if selection.is_update:
            metrics = host.update(selection)
            yield UpdateRecord(
                step=scheduler.update_step,
                generated=scheduler.ledger.generated,
                plans=tuple(plans),
                outcomes=tuple(outcomes),
                selection=selection,
                metrics=metrics,
            )
            plans, outcomes = [], []
        else:
            host.discard(selection)
        empty_in_a_row = empty_in_a_row + 1 if len(plan) == 0 and not selection.is_update else 0
        if empty_in_a_row == 2:
            raise RuntimeError(
                f"loop.run: scheduler {scheduler.name!r} proposed two empty plans in a row "
                "without selecting anything: this is an error of the scheduler"
            )
