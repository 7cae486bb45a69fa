"""vLLM in this process, on a CPU, under the suite of all engines; and its traps, one by one."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch

from tests.engine_conformance import (
    POSITIONS,
    VOCABULARY,
    EngineConformance,
    decoding,
    some_prompts,
    tiny_model,
    worst_log_prob_error,
)
from train.engines import vllm_engine
from train.engines.engine_config import VllmConfig
from train.engines.protocol import Finish, StaleEngineError
from train.engines.vllm_engine import VllmEngine
from train.prompts import Prompts


def options(**changes):
    """Blocks of 32 tokens, so that the prompts of 40 and 70 fill some."""
    usual = {
        "dtype": "float32",
        "cache_gib": 2**26 / 2**30,
        "block_size": 32,
        "enforce_eager": True,
    }
    return VllmConfig(**{**usual, **changes})


class TestVllm(EngineConformance):
    @pytest.fixture(scope="class")
    @classmethod
    def engine(cls):
        python, own = random.getstate(), torch.get_rng_state()
        numpy = np.random.get_state()  # noqa: NPY002
        engine = VllmEngine(tiny_model(2), options())
        assert engine.version is None
        # vLLM seeds all of them when it starts
        assert random.getstate() == python
        now = np.random.get_state()  # noqa: NPY002
        assert all(np.array_equal(*both) for both in zip(now, numpy, strict=True))
        assert torch.equal(torch.get_rng_state(), own)
        yield engine
        engine.close()

    def error_after_update(self, engine, model):
        prompts, quota, wanted = some_prompts(), [4, 1, 5, 3, 2], decoding()
        self.sample(engine, prompts, quota, wanted)
        other = tiny_model(1)
        engine.load_weights(other.state_dict().items(), 1)
        found = self.sample(engine, prompts, quota, wanted, version=1)
        return worst_log_prob_error(other, prompts, quota, found, wanted)

    def test_a_cache_that_is_kept_would_be_seen(self, engine, model, monkeypatch):
        monkeypatch.setattr(engine._llm, "reset_prefix_cache", lambda: True)
        assert self.error_after_update(engine, model) > 1e-2
        monkeypatch.undo()
        engine.load_weights(model.state_dict().items(), 0)
        assert self.error_after_update(engine, model) < 1e-4

    def test_weights_that_do_not_arrive_would_be_seen(self, engine, model, monkeypatch):
        monkeypatch.setattr(engine._llm, "collective_rpc", lambda *args, **kwargs: None)
        assert self.error_after_update(engine, model) > 1e-2

    def test_a_cache_that_cannot_be_dropped_is_an_error(self, engine, model, monkeypatch):
        monkeypatch.setattr(engine._llm, "reset_prefix_cache", lambda: False)
        with pytest.raises(StaleEngineError, match="keeps the cache"):
            engine.load_weights(model.state_dict().items(), 1)
        assert engine.version is None

    def test_weights_changed_behind_the_engines_back_are_seen(self, engine):
        engine._llm.update_weight_version("7")  # as anybody who changes them would say
        with pytest.raises(StaleEngineError, match=r"update 0, vLLM sampled with \['7'\]"):
            self.sample(engine, some_prompts(), [1] * 5, decoding())

    def test_rows_that_end_before_the_time_limit_stay(self, engine, monkeypatch):
        expected = self.sample(engine, some_prompts(), [9] * 5, decoding())
        # a clock that goes on by a second per look: at the start, and before every step
        clock = iter(range(10**6))
        monkeypatch.setattr(vllm_engine, "monotonic", lambda: float(next(clock)))
        lost = engine.lost["time limit"]
        found = self.sample(engine, some_prompts(), [9] * 5, decoding(), time_limit_s=6.5)
        # all 45 prompts are read in the first step; the look before the seventh says 7
        in_time = (expected.length_R <= 6).numpy()
        assert 0 < in_time.sum() < 45
        np.testing.assert_array_equal(found.finish_R != Finish.MISSING, in_time)
        assert torch.equal(found.token_R_T[in_time], expected.token_R_T[in_time])
        assert engine.lost["time limit"] - lost == (~in_time).sum()

    def test_a_batch_whose_prompts_are_read_in_several_steps(self, engine, model):
        # 300 prompts of 20 tokens are more than vLLM reads in a step; seeded requests that are read
        # in two parts end its CPU engine ("CPU Generator does not use offset")
        rng = np.random.default_rng(0)
        prompts = Prompts.of(rng.integers(2, VOCABULARY, (300, 20)))
        found = self.sample(engine, prompts, [1] * 300, decoding())
        assert (found.finish_R != Finish.MISSING).all()
        some = prompts.take(np.arange(20))
        error = worst_log_prob_error(model, some, [1] * 20, found.take(np.arange(20)), decoding())
        assert error < 1e-4

    def test_more_rows_than_fit_at_once_are_computed_all_the_same(self, engine, model):
        # 256 rows are computed at once
        prompts, wanted = some_prompts((70, 40)), decoding(end_tokens=(), max_new_tokens=50)
        found = self.sample(engine, prompts, [400, 400], wanted)
        assert found.length_R.eq(50).all()
        some = found.take(np.array([0, 399, 400, 799]))
        assert worst_log_prob_error(model, prompts, [2, 2], some, wanted) < 1e-4

    def test_what_would_end_vllm_is_refused_before(self, engine):
        for rows, name in (([[VOCABULARY]], "tokens in"), ([[3] * (POSITIONS - 11)], "128 long")):
            with pytest.raises(ValueError, match=name):
                self.sample(engine, Prompts.of(rows), [1], decoding())
        for temperature in (0.005, 2.5):
            with pytest.raises(ValueError, match=r"temperature must be 0 or in \[0.01, 2.0\]"):
                self.sample(engine, some_prompts((3,)), [1], decoding(temperature=temperature))

    def test_the_trainer_goes_on_in_the_same_process(self, engine):
        model = tiny_model(3)
        model.train()
        ids = some_prompts().row(0).unsqueeze(0)
        model(input_ids=ids, labels=ids).loss.backward()
        torch.optim.SGD(model.parameters(), lr=1.0).step()
        torch.use_deterministic_algorithms(True)  # as the trainer does on CPUs
        try:
            engine.load_weights(model.state_dict().items(), 5)
            prompts, quota = some_prompts(), [2, 2, 2, 2, 2]
            found = self.sample(engine, prompts, quota, decoding(), version=5)
        finally:
            torch.use_deterministic_algorithms(False)
        assert worst_log_prob_error(model.eval(), prompts, quota, found, decoding()) < 1e-4


def test_an_engine_may_follow_another():
    for seed in (0, 1):
        model = tiny_model(seed, tie_word_embeddings=True)
        engine = VllmEngine(model, options())
        engine.load_weights(model.named_parameters(), 0)
        prompts, quota = some_prompts(), np.array([1, 2, 1, 1, 1])
        found = engine.generate(prompts, quota, np.arange(5), decoding(), version=0)
        assert worst_log_prob_error(model, prompts, quota.tolist(), found, decoding()) < 1e-4
        engine.close()
        with pytest.raises(StaleEngineError):
            engine.generate(prompts, quota, np.arange(5), decoding(), version=0)
