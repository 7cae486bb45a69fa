"""What an arm samples and how well its posterior knows the truth, recorded while it runs.

A :class:`Watch` stands between the loop and the host. It changes nothing: it reads the scheduler's
posterior before each outcome is observed, and the exact success rates that only a simulator has.
Counts are booked with every plan; the costly readings are taken once per point of the common grid of
generated rollouts, at the first update that reaches it.

Columns, all cumulative since the start unless said otherwise:

``trained``, ``zero_advantage``
    Rollouts trained on, and those among them that had no part in the update.
``effective_prompts``
    Effective sample size of the visits: how many prompts, visited equally often, would be as spread
    out. A visit is a draw of a training plan; pilots are none.
``never_visited``
    Share of the pool without a single rollout, pilots included.
``known``
    Prompts on which the posterior holds evidence now; 0 for schedulers without a posterior.
``coverage_50``, ``coverage_80``, ``coverage_95``
    Share of the known prompts whose true success rate lies in the central credible interval, now.
    Prompts that are never or always rewarded lie in none: no Beta law holds certainty.
``scored``, ``log_loss``, ``log_loss_truth``, ``brier``, ``brier_truth``
    Rollouts of prompts that were known when their plan went out, and the summed scores of two
    forecasts of their rewards: the posterior mean and the true success rate.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from cures.checks import BoolArray, FloatArray
from cures.forecast import LEVELS, central_coverage, forecast_scores
from cures.records import Outcome, Plan, Selection
from cures.sampling import effective_sample_size
from cures.schedulers.driver import Scheduler
from cures.storage import State, refuse_further
from sim.host import SimHost

COVERAGE = {level: f"coverage_{level * 100:.0f}" for level in LEVELS}
SCORES = ("scored", "log_loss", "log_loss_truth", "brier", "brier_truth")
COLUMNS = (
    "trained",
    "zero_advantage",
    "effective_prompts",
    "never_visited",
    "known",
    *COVERAGE.values(),
    *SCORES,
)


class Watch:
    """A host that keeps record; to the loop it looks like the host it wraps.

    Parameters
    ----------
    scheduler : Scheduler
    host : SimHost
    grid_E : ndarray of float64, shape (E,)
        Points of generated rollouts, ascending.
    """

    def __init__(self, scheduler: Scheduler, host: SimHost, grid_E: FloatArray) -> None:
        self._scheduler, self._host, self._grid_E = scheduler, host, grid_E
        size = host.population.num_pool
        self._visit_N = np.zeros(size, dtype=np.int64)
        self._is_seen_N = np.zeros(size, dtype=bool)
        self._total = dict.fromkeys(("trained", "zero_advantage", *SCORES), 0.0)
        self._reached = 0
        self._column_E = {name: np.full(grid_E.size, np.nan) for name in COLUMNS}

    @property
    def estimator(self) -> str:
        """That of the host."""
        return self._host.estimator

    def rollout(self, plan: Plan) -> Outcome:
        """The host's outcome, after the posterior's forecast of it was taken down."""
        known_B, forecast_B, truth_B = self._forecast(plan)
        outcome = self._host.rollout(plan)
        self._is_seen_N[plan.prompt_B] = True
        is_training_B = ~plan.is_pilot_B
        np.add.at(self._visit_N, plan.prompt_B[is_training_B], plan.draw_B[is_training_B])
        if known_B.any():
            success_B, trial_B = outcome.success_B[known_B], outcome.trial_B[known_B]
            told = forecast_scores(success_B, trial_B, forecast_B)
            truth = forecast_scores(success_B, trial_B, truth_B)
            row = (float(trial_B.sum()), told[0], truth[0], told[1], truth[1])
            for name, value in zip(SCORES, row, strict=True):
                self._total[name] += value
        return outcome

    def update(self, selection: Selection) -> Mapping[str, float]:
        """The host's update."""
        metrics = self._host.update(selection)
        for name in ("trained", "zero_advantage"):
            self._total[name] += metrics[name]
        return metrics

    def discard(self, selection: Selection) -> None:
        """The host's."""
        self._host.discard(selection)

    def mark(self, generated: int) -> None:
        """Fill the points of the grid that ``generated`` rollouts have reached."""
        reached = int(np.searchsorted(self._grid_E, generated, side="right"))
        if reached > self._reached:
            self._fill(reached)

    def columns(self) -> dict[str, FloatArray]:
        """Every column on the grid, shape (E,) each; points past the last update hold its values."""
        if self._reached < self._grid_E.size:
            self._fill(self._grid_E.size)
        return self._column_E

    def state_dict(self) -> State:
        """Flat arrays, ints and floats."""
        total: State = {f"total/{name}": value for name, value in self._total.items()}
        column: State = {f"column/{name}": array for name, array in self._column_E.items()}
        own: State = {
            "visit_N": self._visit_N,
            "is_seen_N": self._is_seen_N,
            "reached": self._reached,
        }
        return {**own, **total, **column}

    def load_state_dict(self, state: State) -> None:
        """Inverse of :meth:`state_dict`; further entries are refused."""
        refuse_further("Watch.load_state_dict", state, self.state_dict())
        self._visit_N = np.array(state["visit_N"])
        self._is_seen_N = np.array(state["is_seen_N"])
        self._reached = int(np.asarray(state["reached"]))
        self._total = {name: float(np.asarray(state[f"total/{name}"])) for name in self._total}
        self._column_E = {name: np.array(state[f"column/{name}"]) for name in COLUMNS}

    def _forecast(self, plan: Plan) -> tuple[BoolArray, FloatArray, FloatArray]:
        """Which groups' prompts are known, and for those: posterior mean, true success rate."""
        posterior = self._scheduler.posterior
        if posterior is None:
            nothing = np.zeros(0)
            return np.zeros(len(plan), dtype=bool), nothing, nothing
        success_B, failure_B = posterior.evidence(plan.prompt_B)
        known_B = success_B + failure_B > 0.0
        prompt = plan.prompt_B[known_B]
        if not prompt.size:
            return known_B, np.zeros(0), np.zeros(0)
        truth = self._host.population.success_rate(self._host.theta_D, prompt)
        return known_B, posterior.mean(prompt), truth

    def _fill(self, reached: int) -> None:
        visits, posterior = self._visit_N.sum(), self._scheduler.posterior
        row = dict(self._total)
        if visits:
            row["effective_prompts"] = effective_sample_size(self._visit_N / visits)
        row["never_visited"] = float(1.0 - self._is_seen_N.mean())
        row["known"] = 0.0
        if posterior is not None:
            success_N, failure_N = posterior.evidence()
            known = np.flatnonzero(success_N + failure_N > 0.0)
            row["known"] = float(known.size)
            if known.size:
                truth = self._host.true_success_rate()[known]
                covered = central_coverage(*posterior.alpha_beta(known), truth)
                row.update(zip(COVERAGE.values(), covered.tolist(), strict=True))
        for name, value in row.items():
            self._column_E[name][self._reached : reached] = value
        self._reached = reached
