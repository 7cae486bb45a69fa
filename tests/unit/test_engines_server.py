"""The engine `vllm-server` against a server of ours: the suite, every fault, starts and deaths.

What vLLM itself makes of the same requests is tested in tests/vllm.
"""

from __future__ import annotations

import os
import signal
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from tests.engine_conformance import (
    EngineConformance,
    decoding,
    some_prompts,
    tiny_model,
)
from tests.fake_vllm import FakeVllm
from tests.processes import are_gone, family, named
from train.engines.engine_config import VllmConfig
from train.engines.native import NativeEngine
from train.engines.protocol import Decoding, Finish, StaleEngineError
from train.engines.vllm_client import ServerRefusalError
from train.engines.vllm_server import EngineLostError, VllmServerEngine
from train.errors import TrainingDivergedError
from train.prompts import Prompts
from train.world import World


@pytest.fixture
def serve():
    """Starts fake servers and ends them."""
    servers = []

    def start(**options):
        server = FakeVllm(**options)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        servers.append(server)
        return server

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def options(**changes):
    usual = {"dtype": "float32", "start_limit_s": 60.0, "update_limit_s": 20.0}
    return VllmConfig(**{**usual, **changes})


class Sampler:
    """What vLLM does with a request, by the engine `native`."""

    def __init__(self):
        self.engine = NativeEngine(tiny_model(3))
        self.lock = threading.Lock()  # generation changes nothing, but loading does

    def load(self, path):
        weights = {}
        for file in sorted(Path(path).glob("*.safetensors")):
            weights |= load_file(file)
        with self.lock:
            self.engine.load_weights(weights.items(), 0)

    def sample(self, tokens, fields):
        n, biases = fields["n"], fields["logit_bias"] or {}
        assert all(bias < -1e20 for bias in biases.values())
        assert fields["ignore_eos"]
        wanted = Decoding(
            max_new_tokens=fields["max_tokens"],
            end_tokens=tuple(fields["stop_token_ids"]),
            pad_token=0,
            temperature=fields["temperature"],
            forbidden_tokens=tuple(int(token) for token in biases),
        )
        # row r of a request has the seed of the request plus r
        seeds = fields["seed"] + np.arange(n)
        prompts = Prompts.of([tokens] * n)
        with self.lock:
            found = self.engine.generate(
                prompts, np.ones(n, dtype=np.int64), seeds, wanted, version=0
            )
        lengths = found.length_R.tolist()
        columns = (found.token_R_T.tolist(), found.log_prob_R_T.tolist(), lengths)
        return [(t[:length], p[:length]) for t, p, length in zip(*columns, strict=True)]


class TestVllmServer(EngineConformance):
    @pytest.fixture
    def engine(self, serve, tmp_path):
        sampler = Sampler()
        server = serve(sample=sampler.sample, load=sampler.load)
        engine = VllmServerEngine(tiny_model(2), options(server_url=server.url), tmp_path)
        yield engine
        engine.close()


def attached(server, folder, **changes):
    engine = VllmServerEngine(tiny_model(0), options(server_url=server.url, **changes), folder)
    engine.load_weights(tiny_model(0).state_dict().items(), 0)
    return engine


def sample(engine, quota=(2, 3), wanted=None, **keywords):
    quota_P = np.array(quota)
    prompts = some_prompts((4,) * quota_P.size)
    seeds = np.arange(quota_P.size)
    wanted = wanted or decoding(max_new_tokens=3)
    return engine.generate(prompts, quota_P, seeds, wanted, version=0, **keywords)


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ("status 500", "server error 500"),
        ("status 503", "server error 503"),
        ("event", "server error"),
        ("abort", "aborted by the server"),
    ],
)
def test_a_server_that_fails_costs_rows_and_says_why(serve, tmp_path, fault, reason):
    server = serve()
    engine = attached(server, tmp_path)
    server.fault = fault
    found = sample(engine)
    assert (found.finish_R == Finish.MISSING).all()
    assert found.token_R_T.eq(0).all()
    ((said, count),) = engine.lost.items()
    assert said.startswith(reason)
    assert count == 5
    server.fault = ""
    assert (sample(engine).finish_R == Finish.LENGTH).all()


def test_what_had_ended_before_the_connection_broke_is_kept(serve, tmp_path):
    server = serve()
    engine = attached(server, tmp_path)
    server.fault = "cut"  # after the first row of each request
    found = sample(engine, (2, 3))
    np.testing.assert_array_equal(found.length_R, [3, 0, 3, 0, 0])
    assert engine.lost == {"server lost": 3}


def test_a_server_that_is_silent_is_late(serve, tmp_path):
    server = serve()
    engine = attached(server, tmp_path)
    server.fault = "silence"
    assert (sample(engine, time_limit_s=0.3).finish_R == Finish.MISSING).all()
    assert engine.lost == {"time limit": 5}


def test_a_request_at_fault_is_an_error(serve, tmp_path):
    server = serve()
    engine = attached(server, tmp_path)
    server.fault = "status 400"
    with pytest.raises(ServerRefusalError, match="refused with 400.*as told.*enable-scale-out"):
        sample(engine)


def test_numbers_that_are_none_are_named(serve, tmp_path):
    server = serve()
    engine = attached(server, tmp_path)
    server.fault = "null"
    with pytest.raises(TrainingDivergedError):
        sample(engine)


def test_nobody_elses_weights_are_sampled_from(serve, tmp_path, monkeypatch):
    server = serve()
    engine = attached(server, tmp_path)
    before = server.paths.count("/collective_rpc")
    server.label = "default"  # as after a restart
    assert (sample(engine).finish_R == Finish.LENGTH).all()
    assert server.paths.count("/collective_rpc") == before + 1, "they were handed over again"
    # restarted amid the call: every completion says what sampled it
    monkeypatch.setattr(engine, "_serve", lambda held: None)
    server.label = "default"
    with pytest.raises(StaleEngineError, match=r"the server sampled with \['default'\]"):
        sample(engine)


def test_an_update_stops_drops_and_goes_on(serve, tmp_path):
    server = serve()
    attached(server, tmp_path)
    # on its way nothing, label of nothing, weights, cache, label, and on
    assert server.paths[-6:] == [
        "/pause",
        "/update_weight_version",
        "/collective_rpc",
        "/reset_prefix_cache",
        "/update_weight_version",
        "/resume",
    ]


def test_a_cache_that_cannot_be_dropped_is_an_error(serve, tmp_path):
    server = serve()
    engine = attached(server, tmp_path, max_restarts=2)
    server.resets = False
    with pytest.raises(EngineLostError, match="3 failures in a row.*keeps the cache"):
        engine.load_weights(tiny_model(1).state_dict().items(), 1)
    assert engine.version is None
    assert server.label == "none"
    server.resets = True
    engine.load_weights(tiny_model(1).state_dict().items(), 1)
    assert engine.version == 1


def test_a_server_that_cannot_be_trained_is_refused(serve, tmp_path, monkeypatch):
    server = serve()
    engine = VllmServerEngine(tiny_model(0), options(server_url=server.url), tmp_path)
    call = engine._client.call
    # without VLLM_SERVER_DEV_MODE these addresses do not exist
    monkeypatch.setattr(engine._client, "call", lambda m, p, b=None: call(m, p + "/none", b)
                        if p != "/health" else call(m, p, b))  # fmt: skip
    with pytest.raises(ServerRefusalError, match="404.*VLLM_SERVER_DEV_MODE=1"):
        engine.load_weights(tiny_model(0).state_dict().items(), 0)


def test_no_server_at_all_is_an_error_in_time(tmp_path):
    quick = options(server_url="http://127.0.0.1:9", start_limit_s=0.5, max_restarts=0)
    engine = VllmServerEngine(tiny_model(0), quick, tmp_path)
    with pytest.raises(EngineLostError, match="GET /health.*refused"):
        engine.load_weights(tiny_model(0).state_dict().items(), 0)


def test_quotas_above_what_the_server_takes_are_cut(serve, tmp_path):
    asked = []

    def remember(tokens, fields):
        asked.append((fields["n"], fields["seed"]))
        return [([7] * 3, [-1.0] * 3)] * fields["n"]

    engine = attached(serve(sample=remember), tmp_path, max_rows=4)
    found = sample(engine, (10,))
    assert found.length_R.eq(3).all()
    asked.sort(key=lambda each: each[1])
    # rows 0-3, 4-7, 8-9 with seeds as if they were one request
    assert [n for n, _ in asked] == [4, 4, 2]
    assert np.diff([seed for _, seed in asked]).tolist() == [4, 4]
    # at temperature 0 one completion stands for all
    asked.clear()
    found = sample(engine, (3, 2), decoding(max_new_tokens=3, temperature=0.0))
    assert found.length_R.eq(3).all()
    assert [n for n, _ in asked] == [1, 1]


@pytest.fixture
def own(tmp_path, monkeypatch):
    """Engines that start the fake server in the place of vLLM's."""
    package = tmp_path / "packages" / "vllm" / "entrypoints" / "openai"
    package.mkdir(parents=True)
    program = "import runpy, sys\nrunpy.run_module('tests.fake_vllm', run_name='__main__')\n"
    (package / "api_server.py").write_text(program)
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path / 'packages'}{os.pathsep}{os.getcwd()}")
    engines = []

    def make(**changes):
        engine = VllmServerEngine(tiny_model(0), options(**changes), tmp_path / "run")
        engines.append(engine)
        return engine

    yield make
    for engine in engines:
        engine.close()


def test_a_server_of_its_own_is_started_with_the_weights_and_ended(own, tmp_path):
    engine = own()
    assert not (tmp_path / "run").exists(), "nothing happens before there are weights"
    engine.load_weights(tiny_model(0).state_dict().items(), 0)
    assert sample(engine).token_R_T.eq(7).all()
    pids = family(engine._own._guard.pid)
    command = Path(f"/proc/{named('api_server', pids - {engine._own._guard.pid})}/cmdline")
    words = command.read_text().split("\0")
    for flag in ("--enable-scale-out", "--skip-tokenizer-init", "--no-enforce-eager"):
        assert flag in words
    assert words[words.index("--logprobs-mode") + 1] == "processed_logprobs"
    assert words[words.index("--model") + 1] == str(engine._held)
    variables = command.with_name("environ").read_text()
    assert "VLLM_SERVER_DEV_MODE=1" in variables
    for version in range(1, 4):
        engine.load_weights(tiny_model(version).state_dict().items(), version)
        assert [path.name for path in engine._folder.iterdir()] == [engine._held.name]
    assert sorted(path.name for path in engine._held.iterdir()) == [
        "config.json",
        "model-00000.safetensors",
    ]
    engine.close()
    assert are_gone(pids, within_s=0.0)
    assert not engine._folder.exists()
    engine.close()  # once more does no harm


def test_a_server_that_died_is_started_again_with_the_same_weights(own):
    engine = own()
    engine.load_weights(tiny_model(0).state_dict().items(), 0)
    pids = family(engine._own._guard.pid)
    os.kill(named("api_server", pids - {engine._own._guard.pid}), signal.SIGKILL)
    assert are_gone(pids, within_s=10.0)
    held = engine._held
    assert sample(engine).token_R_T.eq(7).all()
    log = engine._own._log.read_text().split("\n")
    assert log.count(f"serving {held}") == 2
    # and an update finds one that has just died
    pids = family(engine._own._guard.pid)
    os.kill(named("api_server", pids - {engine._own._guard.pid}), signal.SIGKILL)
    assert are_gone(pids, within_s=10.0)
    engine.load_weights(tiny_model(1).state_dict().items(), 1)
    assert engine._own._log.read_text().split("\n").count(f"serving {engine._held}") == 1


def test_a_server_that_dies_at_every_call_ends_the_run_at_last(own, monkeypatch):
    engine = own(max_restarts=1)
    program = (
        "from tests import fake_vllm\nimport sys\nserver = fake_vllm.FakeVllm("
        "int(sys.argv[sys.argv.index('--port') + 1]))\nserver.fault = 'death'\n"
        "server.serve_forever()\n"
    )
    package = Path(os.environ["PYTHONPATH"].split(os.pathsep)[0]) / "vllm/entrypoints/openai"
    (package / "api_server.py").write_text(program)
    engine.load_weights(tiny_model(0).state_dict().items(), 0)
    assert (sample(engine).finish_R == Finish.MISSING).all()
    assert engine.lost == {"server lost": 5}
    with pytest.raises(EngineLostError, match="2 failures in a row.*nothing finished.*server lost"):
        sample(engine)


def test_a_server_that_cannot_start_says_its_last_words(own):
    engine = own(max_restarts=1)
    package = Path(os.environ["PYTHONPATH"].split(os.pathsep)[0]) / "vllm/entrypoints/openai"
    (package / "api_server.py").write_text("raise SystemExit('out of memory, sadly')\n")
    with pytest.raises(EngineLostError, match=r"(?s)2 failures in a row.*out of memory, sadly"):
        engine.load_weights(tiny_model(0).state_dict().items(), 0)
    assert engine.version is None


def test_weights_of_a_killed_run_are_removed(tmp_path):
    left = tmp_path / "weights-0" / "of-a-killed-run"
    left.mkdir(parents=True)
    VllmServerEngine(tiny_model(0), options(), tmp_path)
    assert not left.exists()


def test_every_rank_has_its_own_part(tmp_path, serve):
    urls = "http://127.0.0.1:1; http://127.0.0.1:2"
    engine = VllmServerEngine(tiny_model(0), options(server_url=urls), tmp_path, World(1, 2, 1))
    assert engine._client.url == "http://127.0.0.1:2"
    with pytest.raises(ValueError, match="server_url must be of 3 parts separated by ;"):
        VllmServerEngine(tiny_model(0), options(server_url=urls), tmp_path, World(1, 3, 1))
    devices = options(server_devices="4,5;6,7")
    engine = VllmServerEngine(tiny_model(0), devices, tmp_path, World(0, 2, 0))
    assert engine._own._devices == "4,5"


def test_launchers_variables_do_not_reach_the_server(own, monkeypatch):
    for name in ("RANK", "WORLD_SIZE", "MASTER_ADDR", "TORCHELASTIC_RUN_ID"):
        monkeypatch.setenv(name, "1")
    engine = own(server_devices="3")
    engine.load_weights(tiny_model(0).state_dict().items(), 0)
    server = named("api_server", family(engine._own._guard.pid) - {engine._own._guard.pid})
    variables = Path(f"/proc/{server}/environ").read_text().split("\0")
    names = {line.partition("=")[0] for line in variables}
    assert not names & {"RANK", "WORLD_SIZE", "MASTER_ADDR", "TORCHELASTIC_RUN_ID"}
    assert "CUDA_VISIBLE_DEVICES=3" in variables


def test_an_interrupted_call_does_not_wait_for_the_server(serve, tmp_path):
    server = serve()
    engine = attached(server, tmp_path)
    server.fault = "silence"  # 30 s, which no test waits for
    timer = threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGINT))
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        sample(engine)
    timer.join()
    assert not engine._client._open
    assert torch.equal(sample_after(server, engine), torch.full((5, 3), 7))


def sample_after(server, engine):
    server.fault = ""
    return sample(engine).token_R_T
