"""Tests on a real TRL: run by ``make test-trl`` alone, in an environment of their own."""

from __future__ import annotations

import os

if "CURES_TEST_TRL" in os.environ:  # before torch and transformers are imported
    os.environ.update(OMP_NUM_THREADS="1", HF_HUB_OFFLINE="1", TRL_EXPERIMENTAL_SILENCE="1")
else:
    collect_ignore_glob = ["*"]
