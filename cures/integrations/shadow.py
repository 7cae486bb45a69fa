"""A scheduler beside a training that it does not touch: what it would have chosen, and what that saves.

The training goes on as it would; every group that it rolls out is evidence about the pool. From it
follows a Beta law per prompt (:mod:`cures.pool_posterior`), and from these laws one imagined pool: each
prompt has a fixed quantile, drawn once, at which its law is read. The scheduler runs the usual loop on
the imagined pool, up to as many rollouts as the training has generated. Compared is the share of
rollouts, pilots and everything thrown away included, that are trained on in *mixed* groups, those with
right and wrong answers: only they teach an estimator with a group baseline anything. The training,
which is taken to visit all prompts alike, is imagined as well: groups of its sizes on any prompts of
that pool. So what is wrong with the pool is wrong on both sides; the measured share, beside it, tells
how wrong.

What this cannot show: the policy is the one that the training makes, not the one that the scheduler
would have made; and one mixed group may teach more than another.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import betaincinv

from cures import loop
from cures.checks import FloatArray, IntArray, as_float, as_int, as_int_array, fail, is_distinct
from cures.pool_posterior import PoolPosterior
from cures.potential import prob_mixed
from cures.records import Outcome, Plan, Selection
from cures.schedulers.driver import Scheduler
from cures.schedulers.driver.randomness import Stream, derived_generator
from cures.storage import State, StateValue, refuse_further

MOST_FORGOTTEN = 0.1  # of the evidence per batch, where a pool is a few batches
ENDLESS = 2**60  # rollouts of the loop: it is stopped from outside


class Shadow:
    """Runs a scheduler on what a training shows of its prompts.

    Parameters
    ----------
    scheduler : Scheduler
        Any; it belongs to this object from now on.
    groups_per_batch : int
        Prompts that the training rolls out at a time, >= 1. Evidence fades to 1/e in one pass over the
        pool at this pace.

    Attributes
    ----------
    plans : list of Plan
        What the scheduler has chosen at the latest batch.

    Examples
    --------
    >>> import cures
    >>> scheduler = cures.make_scheduler("uniform", num_prompts=8, batch_size=2, budget=8)
    >>> shadow = Shadow(scheduler, groups_per_batch=2)
    >>> shadow.observe([0, 5], success_B=[4, 1], trial_B=[4, 4], rollouts=8)
    >>> shadow.metrics()["measured_mixed"]
    0.5
    """

    def __init__(self, scheduler: Scheduler, *, groups_per_batch: int) -> None:
        groups = as_int("Shadow", "groups_per_batch", groups_per_batch, 1)
        self.scheduler = scheduler
        self.plans: list[Plan] = []
        self._groups_per_batch = groups
        self._posterior = self._new_posterior()
        self._pool = _ImaginedPool(scheduler, self._posterior)
        self._updates = self._loop()
        self._generated = 0  # by the training
        self._measured_mixed = 0
        self._expected_mixed = 0.0  # on the imagined pool
        self._seen = np.zeros(0, dtype=np.int64)

    def _new_posterior(self) -> PoolPosterior:
        size, groups = self.scheduler.num_prompts, self._groups_per_batch
        forgetting = min(MOST_FORGOTTEN, groups / size)
        return PoolPosterior(size, visits_per_step=groups, forgetting=forgetting)

    def _loop(self) -> Iterator[loop.UpdateRecord]:
        return loop.run(self.scheduler, self._pool, rollouts=ENDLESS, on_outcome=self._note)

    def _note(self, plan: Plan, outcome: Outcome) -> None:
        self.plans.append(plan)

    def observe(
        self, prompt_B: ArrayLike, success_B: ArrayLike, trial_B: ArrayLike, *, rollouts: int
    ) -> None:
        """Learn from a batch of the training and catch up with it.

        Parameters
        ----------
        prompt_B : array_like of int, shape (B,)
            Distinct prompts that the training rolled out.
        success_B, trial_B : array_like of int, shape (B,)
            Right answers and answers of each.
        rollouts : int
            What the batch cost, at least all the answers.

        Raises
        ------
        ValueError
            If a prompt is there twice or not in the pool, or a count is out of its range.
        """
        where = "Shadow.observe"
        high = self.scheduler.num_prompts - 1
        prompt = as_int_array(where, "prompt_B", prompt_B, low=0, high=high)
        if not is_distinct(prompt):
            fail(where, "prompt_B", "distinct prompts", prompt.tolist())
        trial = as_int_array(where, "trial_B", trial_B, length=prompt.size, low=0)
        cost = as_int(where, "rollouts", rollouts, int(trial.sum()))
        self._posterior.update(prompt, success_B, trial)
        success = np.asarray(success_B)
        self._generated += cost
        self._measured_mixed += int(trial[(success > 0) & (success < trial)].sum())
        # not on the prompts just visited, which are known better than those that a scheduler takes
        generator = derived_generator(
            self.scheduler.seed, self._posterior.step, Stream.SHADOW_TRAINING
        )
        anybody_B = generator.integers(self.scheduler.num_prompts, size=prompt.size)
        chance_B = prob_mixed(self._pool.rate(anybody_B), trial)
        self._expected_mixed += float((trial * chance_B).sum())
        self._posterior.advance()
        self._seen = prompt
        self.plans = []
        while self.scheduler.ledger.generated < self._generated:
            next(self._updates)

    def metrics(self) -> dict[str, float]:
        """Shares of everything generated so far, and of the latest batch.

        ``shadow_mixed`` and ``training_mixed``: rollouts trained on in mixed groups, of all generated,
        by the scheduler and by the training, both on the imagined pool. ``measured_mixed``: the
        training's, as it was. ``saving``: share of the training's rollouts that the scheduler would not
        have needed for as many of them, 1 - training_mixed / shadow_mixed; negative if it needs more;
        absent while ``shadow_mixed`` is 0. ``shared_prompts``: of the prompts just planned, those that
        the training has just rolled out; absent if nothing was planned.
        """
        shadow_mixed = self._pool.mixed / max(self.scheduler.ledger.generated, 1)
        training_mixed = self._expected_mixed / max(self._generated, 1)
        found = {
            "shadow_mixed": shadow_mixed,
            "training_mixed": training_mixed,
            "measured_mixed": self._measured_mixed / max(self._generated, 1),
        }
        if shadow_mixed > 0.0:
            found["saving"] = 1.0 - training_mixed / shadow_mixed
        chosen = [plan.prompt_B for plan in self.plans if len(plan)]
        if chosen:
            found["shared_prompts"] = float(np.isin(np.concatenate(chosen), self._seen).mean())
        return found

    def state_dict(self) -> State:
        """Everything needed to go on: plain arrays, ints, floats and strings."""
        state: dict[str, StateValue] = {
            "generated": self._generated,
            "measured_mixed": self._measured_mixed,
            "expected_mixed": self._expected_mixed,
            **{f"pool/{key}": value for key, value in self._pool.state_dict().items()},
            **{f"posterior/{key}": value for key, value in self._posterior.state_dict().items()},
            **{f"scheduler/{key}": value for key, value in self.scheduler.state_dict().items()},
        }
        return state

    def load_state_dict(self, state: State) -> None:
        """Go on from a saved state of the same scheduler and pool.

        Raises
        ------
        ValueError
            If it is of another scheduler, or damaged; nothing has changed then.
        """
        parts: dict[str, State] = {"pool": {}, "posterior": {}, "scheduler": {}}
        own: State = {}
        for key, value in state.items():
            section, _, name = key.partition("/")
            if name and section in parts:
                parts[section][name] = value
            else:
                own[key] = value
        where = "Shadow.load_state_dict"
        refuse_further(where, own, ("generated", "measured_mixed", "expected_mixed"))
        generated = as_int(where, "generated", own.get("generated"), 0)
        measured = as_int(where, "measured_mixed", own.get("measured_mixed"), 0)
        expected = as_float(where, "expected_mixed", own.get("expected_mixed"), 0.0)
        posterior = self._new_posterior()
        posterior.load_state_dict(parts["posterior"])
        pool = _ImaginedPool(self.scheduler, posterior)
        pool.load_state_dict(parts["pool"])
        self.scheduler.load_state_dict(parts["scheduler"])  # last: it may be refused
        self._posterior, self._pool = posterior, pool
        self._generated, self._measured_mixed, self._expected_mixed = generated, measured, expected
        self._updates = self._loop()


class _ImaginedPool:
    """A :class:`cures.loop.Host` whose rollouts are drawn from what is believed of each prompt."""

    def __init__(self, scheduler: Scheduler, posterior: PoolPosterior) -> None:
        self.mixed = 0  # rollouts trained on in mixed groups
        self._scheduler = scheduler
        self._posterior = posterior
        generator = derived_generator(scheduler.seed, 0, Stream.SHADOW_POOL)
        self._quantile_N = generator.random(scheduler.num_prompts)
        self._groups: dict[int, IntArray] = {}  # right and wrong rollouts of each

    @property
    def estimator(self) -> str:
        return self._scheduler.estimator

    def rate(self, prompt_B: IntArray) -> FloatArray:
        """Success rates: quantiles of what is believed now."""
        alpha_B, beta_B = self._posterior.alpha_beta(prompt_B)
        return np.asarray(betaincinv(alpha_B, beta_B, self._quantile_N[prompt_B]))

    def rollout(self, plan: Plan) -> Outcome:
        generator = derived_generator(self._scheduler.seed, plan.plan_id, Stream.SHADOW_ROLLOUT)
        success_B = generator.binomial(plan.quota_B, self.rate(plan.prompt_B))
        new_B_2 = np.stack([success_B, plan.quota_B - success_B], axis=1)
        for group, new in zip(plan.group_B.tolist(), new_B_2, strict=True):
            self._groups[group] = self._groups.get(group, 0) + new
        return Outcome.of(plan, success_B)

    def update(self, selection: Selection) -> Mapping[str, float]:
        have_G2 = np.array([self._groups[group] for group in selection.group_G.tolist()])
        if selection.keep_G2 is not None:
            have_G2 = np.minimum(have_G2, selection.keep_G2)
        self.mixed += int(have_G2[(have_G2 > 0).all(axis=1)].sum())
        self.discard(selection)
        return {}

    def discard(self, selection: Selection) -> None:
        for group in [*selection.group_G.tolist(), *selection.discard_G.tolist()]:
            del self._groups[group]

    def state_dict(self) -> State:
        counts = np.array(list(self._groups.values()), dtype=np.int64).reshape(-1, 2)
        return {
            "mixed": self.mixed,
            "group": np.array(list(self._groups), dtype=np.int64),
            "right": counts[:, 0],
            "wrong": counts[:, 1],
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        where = "Shadow.load_state_dict"
        if state.keys() != {"mixed", "group", "right", "wrong"}:
            fail(where, "state", "with the entries of pool/, and no others", sorted(state))
        group = as_int_array(where, "pool/group", state["group"], low=0)
        right, wrong = (
            as_int_array(where, f"pool/{key}", state[key], length=group.size, low=0)
            for key in ("right", "wrong")
        )
        self.mixed = as_int(where, "pool/mixed", state["mixed"], 0)
        self._groups = dict(zip(group.tolist(), np.stack([right, wrong], axis=1), strict=True))
