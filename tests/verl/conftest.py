"""Tests on a real verl: run by ``make test-verl`` alone, in an environment of their own."""

from __future__ import annotations

import os
import sys
from pathlib import Path

if "CURES_TEST_VERL" in os.environ:  # before torch, transformers and ray are imported
    # Ray starts half a dozen processes; each would compile verl and torch anew, for minutes
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    sys.dont_write_bytecode = False
    os.environ.update(
        OMP_NUM_THREADS="1", HF_HUB_OFFLINE="1", HF_DATASETS_OFFLINE="1", RAY_AUTH_MODE="disabled",
        RAY_USAGE_STATS_ENABLED="0", RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO="0",
        TOKENIZERS_PARALLELISM="false",
        PYTHONPATH=str(Path(__file__).parents[2]),  # of Ray's workers, which import tests.verl.told
    )  # fmt: skip
    pytest_plugins = ["tests.verl.cluster"]
else:
    collect_ignore_glob = ["*"]
