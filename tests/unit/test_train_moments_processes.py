"""Two processes measure the moments of one, with whole weights and with sharded ones."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.moment_processes import measured
from train.world import World

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("moments")
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    command += ["--nproc-per-node", "2", "-m", "tests.moment_processes", str(folder)]
    done = subprocess.run(
        command,
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


@pytest.mark.parametrize("is_sharded", [False, True])
@pytest.mark.parametrize("rank", [0, 1])
def test_two_processes_measure_what_one_does(folder, rank, is_sharded):
    alone = measured(World(), is_sharded=False)
    with np.load(folder / f"{rank}-{is_sharded}.npz") as found:
        assert sorted(found) == sorted(alone)
        for key, expected in alone.items():
            if "/gradient/" in key or is_sharded:
                # both ranks have all rollouts: a mean over them is the gradient, summed otherwise
                np.testing.assert_allclose(found[key], expected, rtol=1e-4, atol=1e-5, err_msg=key)
            else:
                # the same passes on the same weights: the same bits
                np.testing.assert_array_equal(found[key], expected, err_msg=key)
