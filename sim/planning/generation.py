r"""Device time of generation: prefill is bound by FLOP/s, decoding by memory traffic.

A replica of the engine lives on g devices, whose FLOP/s, bandwidth and memory add up. A prompt is
prefilled once per visit (rollouts of a group share its cache). Decoding one token for each of b
sequences reads the weights once and every sequence's cache, so it takes

.. math:: t(b) = \max\left( \frac{W + b\,k\,\bar c}{\text{bandwidth}},
                            \frac{b\, F(\bar c)}{\text{FLOP/s}} \right)

with W the bytes of the weights read, k those of the cache per token, :math:`\bar c` the mean context
and F the FLOPs per token. Finished sequences are replaced at once (continuous batching).
"""

from __future__ import annotations

from dataclasses import dataclass

from cures.checks import InWords, as_int, fail
from sim.planning.hardware import Accelerator, Efficiency
from sim.planning.models import ModelShape
from sim.planning.tally import Tally
from sim.planning.workload import Workload


@dataclass(frozen=True, slots=True)
class Engine:
    """Replicas of the inference engine at one level of efficiency.

    Attributes
    ----------
    devices, per_replica : int
        In all, and for each replica; what is left over idles.
    """

    shape: ModelShape
    accelerator: Accelerator
    efficiency: Efficiency
    workload: Workload
    devices: int
    per_replica: int

    @property
    def replicas(self) -> int:
        """Copies of the engine."""
        return self.devices // self.per_replica

    @property
    def room(self) -> int:
        """Sequences of full mean length whose cache fits beside the weights; 0 if none does."""
        usable = self.per_replica * self.accelerator.memory * self.efficiency.memory
        free = usable - self.shape.weight_bytes
        return max(int(free // (self.shape.cache_bytes * self.workload.sequence_tokens)), 0)

    @property
    def flops(self) -> float:
        """FLOP/s of a replica that forward passes reach."""
        return self.per_replica * self.accelerator.peak_flops * self.efficiency.prefill

    @property
    def bandwidth(self) -> float:
        """Bytes/s of a replica that decoding reaches."""
        return self.per_replica * self.accelerator.bandwidth * self.efficiency.decode

    def step_s(self, batch: float, context: float) -> float:
        """Seconds to decode one token for each of ``batch`` sequences."""
        traffic = self.shape.read_bytes + batch * self.shape.cache_bytes * context
        return max(traffic / self.bandwidth, self.shape.forward_flops(batch, context) / self.flops)

    def batch(self, rollouts: float) -> float:
        """Sequences that a replica decodes at once in a round of ``rollouts``."""
        return max(1.0, min(self.workload.max_concurrent, self.room, rollouts / self.replicas))

    def prefill_s(self, tally: Tally) -> float:
        """Wall seconds: every visited prompt once, attention over half of it on average."""
        tokens = self.workload.prompt_tokens
        flops = self.shape.forward_flops(tally.visits * tokens, tokens / 2.0)
        return flops / (self.replicas * self.flops)

    def decode_s(self, tally: Tally) -> float:
        """Wall seconds of decoding with full batches.

        A round of R rollouts takes R / (replicas b) times the mean length, at least once.
        """
        if not tally.rounds:
            return 0.0
        rollouts = tally.generated / tally.rounds
        batch = self.batch(rollouts)
        times = max(rollouts / (self.replicas * batch), 1.0)
        length = self.workload.response_tokens
        step_s = self.step_s(batch, self.workload.prompt_tokens + length / 2.0)
        return tally.rounds * times * length * step_s

    def tail_s(self, tally: Tally) -> float:
        """Wall seconds of waiting for the longest answer of each round, decoded nearly alone."""
        limit = self.workload.response_limit
        if limit is None:
            return 0.0
        length = self.workload.response_tokens
        context = self.workload.prompt_tokens + (length + limit) / 2.0
        return tally.rounds * (limit - length) * self.step_s(1.0, context)


def devices_per_replica(
    shape: ModelShape,
    accelerator: Accelerator,
    efficiency: Efficiency,
    workload: Workload,
    devices: int,
) -> int:
    """The fewest devices (1, 2, 4, ...) that hold ``max_concurrent`` sequences beside the weights.

    The largest such number if none does, as long as one sequence fits; ``tensor_parallel`` if given.

    Raises
    ------
    ValueError
        If weights and one sequence do not fit.
    """
    devices = as_int("plan", "devices", devices, 1, 10**7)
    size = 1
    if workload.tensor_parallel is not None:
        size = as_int("plan", "tensor_parallel", workload.tensor_parallel, 1, devices)
    while True:
        engine = Engine(shape, accelerator, efficiency, workload, devices, size)
        is_last = workload.tensor_parallel is not None or 2 * size > devices
        if engine.room >= workload.max_concurrent or (is_last and engine.room >= 1):
            return size
        if is_last:
            needed = shape.weight_bytes + shape.cache_bytes * workload.sequence_tokens
            legal = f"at least {needed / 1e9:.1f} GB, for the weights and one sequence"
            have = size * accelerator.memory * efficiency.memory / 1e9
            what = f"engine's memory on {size} device(s) (share {efficiency.memory:g})"
            fail("plan", what, legal, InWords(f"{have:.1f} GB"))
        size *= 2
