"""vLLM and the processes around it: a trainer that is killed, trainers of several ranks."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap

from tests.processes import are_gone, family, living


def test_a_killed_trainer_leaves_nothing_behind(tmp_path):
    program = f"""
        from pathlib import Path
        import time
        from tests.engine_conformance import tiny_model
        from tests.vllm.test_vllm_engine import options
        from train.engines.vllm_server import VllmServerEngine
        engine = VllmServerEngine(tiny_model(0), options(), Path({str(tmp_path)!r}))
        engine.load_weights(tiny_model(0).state_dict().items(), 0)
        print(engine._own._guard.pid, flush=True)
        time.sleep(600)
    """
    command = [sys.executable, "-c", textwrap.dedent(program)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as trainer:
        assert trainer.stdout is not None
        pids = family(int(trainer.stdout.readline()))
        assert len(living(pids)) >= 3
        trainer.kill()
    assert are_gone(pids, within_s=30.0)


def test_ranks_have_engines_of_their_own_and_keep_their_group(tmp_path):
    # every rank has other weights, another number of prompts, and its collectives work afterwards
    program = """
        import numpy as np
        import torch
        from torch import distributed
        from tests.engine_conformance import decoding, some_prompts, tiny_model, worst_log_prob_error
        from tests.vllm.test_vllm_engine import options
        from train.engines.vllm_engine import VllmEngine
        from train.world import joined_world

        with joined_world() as world:
            model = tiny_model(world.rank)
            engine = VllmEngine(model, options())
            for version in range(2):
                engine.load_weights(model.state_dict().items(), version)
                prompts, quota = some_prompts((40, 3 + world.rank)), [2, 1 + 3 * world.rank]
                found = engine.generate(
                    prompts, np.array(quota), np.arange(2), decoding(), version=version
                )
                assert worst_log_prob_error(model, prompts, quota, found, decoding()) < 1e-4
            engine.close()
            assert [len(rows) for rows in world.gather_rows(found.token_R_T)] == [3, 6]
            assert distributed.is_initialized()
    """
    script = tmp_path / "ranks.py"
    script.write_text(textwrap.dedent(program))
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    environment = {**os.environ, "PYTHONPATH": os.getcwd()}
    done = subprocess.run(
        [*launcher, str(script)], env=environment, capture_output=True, text=True, timeout=200
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert "Traceback" not in done.stderr, done.stderr[-3000:]
