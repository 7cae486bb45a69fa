"""A vLLM server in processes of its own, under the suite of all engines; and how it dies."""

from __future__ import annotations

import os
import signal
import threading

import pytest

from tests.engine_conformance import (
    EngineConformance,
    decoding,
    some_prompts,
    tiny_model,
    worst_log_prob_error,
)
from tests.processes import are_gone, family, living, named
from tests.vllm.test_vllm_engine import options
from train.engines.protocol import Finish, StaleEngineError
from train.engines.vllm_server import VllmServerEngine


class TestVllmServer(EngineConformance):
    @pytest.fixture(scope="class")
    @classmethod
    def engine(cls, tmp_path_factory):
        engine = VllmServerEngine(tiny_model(2), options(), tmp_path_factory.mktemp("server"))
        assert engine.version is None
        yield engine
        pids = family(engine._own._guard.pid)
        engine.close()
        assert not living(pids)
        assert not engine._folder.exists()

    def test_a_cache_that_is_kept_would_be_seen(self, engine, model, monkeypatch):
        prompts, quota, wanted = some_prompts(), [4, 1, 5, 3, 2], decoding()
        self.sample(engine, prompts, quota, wanted)
        call, other = engine._client.call, tiny_model(1)

        def keeping(method, path, body=None):
            if path.startswith("/pause"):
                path += "&clear_cache=false"  # which would drop it as well
            return {"success": True} if "prefix" in path else call(method, path, body)

        monkeypatch.setattr(engine._client, "call", keeping)
        engine.load_weights(other.state_dict().items(), 1)
        found = self.sample(engine, prompts, quota, wanted, version=1)
        assert worst_log_prob_error(other, prompts, quota, found, wanted) > 1e-2

    def test_weights_changed_behind_the_engines_back_are_seen(self, engine, monkeypatch):
        monkeypatch.setattr(engine, "_serve", lambda held: None)
        engine._client.call("POST", "/update_weight_version", {"new_version": "7"})
        with pytest.raises(StaleEngineError, match=r"the server sampled with \['7'\]"):
            self.sample(engine, some_prompts(), [1] * 5, decoding())

    def test_several_engines_on_one_server_do_not_get_each_others_weights(
        self, engine, model, tmp_path
    ):
        other = tiny_model(1)
        attached = VllmServerEngine(other, options(server_url=engine._client.url), tmp_path)
        attached.load_weights(other.state_dict().items(), 4)
        prompts, quota = some_prompts(), [2, 1, 1, 3, 1]
        for turn in range(2):  # each puts its own weights back
            found = self.sample(attached, prompts, quota, decoding(), version=4)
            assert worst_log_prob_error(other, prompts, quota, found, decoding()) < 1e-4, turn
            found = self.sample(engine, prompts, quota, decoding())
            assert worst_log_prob_error(model, prompts, quota, found, decoding()) < 1e-4, turn
        attached.close()
        assert engine._own.is_running, "it belongs to somebody else"

    def test_one_set_of_weights_is_on_disk(self, engine):
        assert [path.name for path in engine._folder.iterdir()] == [engine._held.name]

    def test_what_is_late_is_not_computed_any_further(self, engine):
        long = decoding(end_tokens=(), max_new_tokens=50)
        lost = engine.lost["time limit"]
        found = self.sample(engine, some_prompts(), [100] * 5, long, time_limit_s=0.2)
        late = int((found.finish_R == Finish.MISSING).sum())
        assert late > 0
        assert engine.lost["time limit"] - lost == late
        # requests that go on hold their blocks, and the cache could not be dropped
        for _ in range(50):
            if engine._client.call("POST", "/reset_prefix_cache")["success"]:
                break
            threading.Event().wait(0.1)
        else:
            pytest.fail("the server computes what nobody waits for")

    def test_a_server_that_dies_amid_a_call_costs_its_rows(self, engine):
        # the last of this class: starting another is tested without vLLM (tests/unit)
        wanted = decoding(end_tokens=(), max_new_tokens=50)
        pids = family(engine._own._guard.pid)
        assert len(pids) >= 3, "guard, server, engine"
        threading.Timer(0.3, os.kill, (named("EngineCore", pids), signal.SIGKILL)).start()
        found = self.sample(engine, some_prompts(), [300] * 5, wanted)
        lost = int((found.finish_R == Finish.MISSING).sum())
        assert lost > 0
        assert sum(n for why, n in engine.lost.items() if why.startswith("server")) >= lost
        assert are_gone(pids, within_s=30.0), "nothing is left of it"
