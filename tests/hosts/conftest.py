"""verl's Ray and its workers, where the tests run in the environment of ``make test-verl``."""

from __future__ import annotations

import os

if "CURES_TEST_VERL" in os.environ:
    from tests.verl.conftest import pytest_plugins  # noqa: F401
