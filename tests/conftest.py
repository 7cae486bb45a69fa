"""Threads and hypothesis profiles; nothing here seeds anything."""

from __future__ import annotations

import os

# Before torch is imported anywhere: two test workers on two cores, one thread each.
os.environ.setdefault("OMP_NUM_THREADS", "1")

from hypothesis import HealthCheck, settings

# Machines are noisy and shared, so no example has a deadline; examples are the same in every run.
settings.register_profile(
    "default", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.register_profile("search", deadline=None, max_examples=2000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "default"))
