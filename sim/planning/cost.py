"""Counts of a run -> device-hours, term by term."""

from __future__ import annotations

from dataclasses import dataclass

from sim.planning.generation import Engine
from sim.planning.hardware import Accelerator, Efficiency
from sim.planning.models import ModelShape
from sim.planning.schedule import Run
from sim.planning.training import Trainer
from sim.planning.workload import Workload

# Term -> what it is, in the order of a step.
TERMS = {
    "prefill": "prompts through the engine, once per group and plan",
    "decode": "answers, token by token",
    "wait": "for the longest answer of every round",
    "norms": "gradient norms of single rollouts, where the method uses them (sigma of Eq. 21)",
    "verify": "waiting for the verifier",
    "logprobs": "old and reference policy on trained rollouts",
    "train": "forward and backward passes, recomputed activations included",
    "optimiser": "reading and writing parameters and Adam's moments",
}


@dataclass(frozen=True, slots=True)
class Site:
    """Model, machine and habits: everything but the schedule."""

    shape: ModelShape
    accelerator: Accelerator
    devices: int
    workload: Workload
    batch_size: int

    def engine(self, efficiency: Efficiency, per_replica: int) -> Engine:
        """The inference engine."""
        return Engine(
            self.shape, self.accelerator, efficiency, self.workload, self.devices, per_replica
        )

    def trainer(self, efficiency: Efficiency) -> Trainer:
        """The trainer on the same devices."""
        return Trainer(self.shape, self.accelerator, efficiency, self.workload, self.devices)


def device_hours(
    run: Run, site: Site, efficiency: Efficiency, per_replica: int
) -> dict[str, float]:
    """Device-hours of each of :data:`TERMS`; phases follow each other on the same devices.

    Pilots and updates are priced apart, because their rounds differ in size.
    """
    engine, trainer = site.engine(efficiency, per_replica), site.trainer(efficiency)
    total = dict.fromkeys(TERMS, 0.0)
    for tally in (run.pilots, run.updates):
        wall_s = {
            "prefill": engine.prefill_s(tally),
            "decode": engine.decode_s(tally),
            "wait": engine.tail_s(tally),
            "norms": trainer.norms_s(tally),
            "verify": trainer.verify_s(tally),
            "logprobs": trainer.logprob_s(tally),
            "train": trainer.train_s(tally),
            "optimiser": trainer.optimiser_s(tally, site.batch_size),
        }
        for term, seconds in wall_s.items():
            total[term] += site.devices * seconds / 3600.0
    return total
