"""Device time of everything but generation: gradients, log-probabilities, optimiser, verification."""

from __future__ import annotations

import math
from dataclasses import dataclass

from sim.planning.hardware import Accelerator, Efficiency
from sim.planning.models import ModelShape
from sim.planning.tally import Tally
from sim.planning.workload import Workload

FORWARD_BACKWARD = 3.0  # in forward passes: the backward pass costs two (6 x parameters x tokens)
STATE_BYTES = 18  # per parameter: weights in bf16; gradient, master copy, two Adam moments in fp32
# per parameter and optimiser step: fp32 master copy and both moments read and written, fp32 gradient
# read, bf16 weight written
STEP_BYTES = 30
NORM_BYTES = 8  # per parameter and measured rollout: its fp32 gradient is written and read once


@dataclass(frozen=True, slots=True)
class Trainer:
    """All devices as one sharded trainer at one level of efficiency; communication is free."""

    shape: ModelShape
    accelerator: Accelerator
    efficiency: Efficiency
    workload: Workload
    devices: int

    def forward_flops(self, rollouts: float) -> float:
        """FLOPs of a forward pass over whole rollouts."""
        tokens = self.workload.sequence_tokens
        return self.shape.forward_flops(rollouts * tokens, tokens / 2.0)

    @property
    def has_room(self) -> bool:
        """Whether the sharded training state fits without offloading; activations not counted."""
        return STATE_BYTES * self.shape.parameters <= self.devices * self.accelerator.memory

    def _compute_s(self, flops: float, share: float) -> float:
        return flops / (self.devices * self.accelerator.peak_flops * share)

    def _traffic_s(self, size: float) -> float:
        return size / (self.devices * self.accelerator.bandwidth * self.efficiency.decode)

    def train_s(self, tally: Tally) -> float:
        """Wall seconds of forward and backward passes over the trained rollouts."""
        passes = FORWARD_BACKWARD + (1.0 if self.workload.recompute else 0.0)
        flops = passes * self.workload.epochs * self.forward_flops(tally.trained)
        return self._compute_s(flops, self.efficiency.train)

    def logprob_s(self, tally: Tally) -> float:
        """Wall seconds of the log-probabilities under old and reference policy."""
        flops = self.workload.logprob_passes * self.forward_flops(tally.trained)
        return self._compute_s(flops, self.efficiency.prefill)

    def optimiser_s(self, tally: Tally, batch_size: int) -> float:
        """Wall seconds of reading and writing parameters and Adam's moments, every mini-batch."""
        steps = math.ceil(batch_size / self.workload.mini_batch) * self.workload.epochs
        return self._traffic_s(tally.updates * steps * STEP_BYTES * self.shape.parameters)

    def norms_s(self, tally: Tally) -> float:
        """Wall seconds of one backward pass per measured rollout, and of reading its gradient."""
        flops = FORWARD_BACKWARD * self.forward_flops(tally.measured)
        traffic = tally.measured * NORM_BYTES * self.shape.parameters
        return self._compute_s(flops, self.efficiency.train) + self._traffic_s(traffic)

    def verify_cpu_s(self, tally: Tally) -> float:
        """CPU seconds of verifying every rollout."""
        return tally.generated * self.workload.verify_s

    def verify_s(self, tally: Tally) -> float:
        """Wall seconds that the devices wait for the verifier."""
        wall_s = self.verify_cpu_s(tally) / self.workload.verify_workers
        return wall_s * (1.0 - self.efficiency.overlap)
