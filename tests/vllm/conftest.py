"""Tests against a real vLLM: run by ``make test-vllm`` alone, in an environment of their own."""

from __future__ import annotations

import os

if "CURES_TEST_VLLM" in os.environ:  # before torch and vLLM are imported
    os.environ.update(
        OMP_NUM_THREADS="1",  # vLLM binds its threads to cores, which two test runs would fight for
        TORCHDYNAMO_DISABLE="1",  # the first log-probability would be compiled, by a C++ compiler
        HF_HUB_OFFLINE="1",
        VLLM_LOGGING_LEVEL="ERROR",
    )
else:
    collect_ignore_glob = ["*"]
