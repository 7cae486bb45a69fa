"""The engines `native` and `transformers` under the suite of all engines, and what is theirs alone."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from transformers import GenerationConfig

from tests.engine_conformance import (
    EngineConformance,
    decoding,
    some_prompts,
    tiny_model,
    worst_log_prob_error,
)
from train.engines import transformers_engine
from train.engines.native import NativeEngine
from train.engines.protocol import Finish
from train.engines.transformers_engine import TransformersEngine
from train.errors import TrainingDivergedError


class TestNative(EngineConformance):
    @pytest.fixture
    def engine(self):
        return NativeEngine(tiny_model(2), max_rows=64)


class TestTransformers(EngineConformance):
    @pytest.fixture
    def engine(self):
        return TransformersEngine(tiny_model(2), max_rows=64)


def loaded(model, **options):
    engine = TransformersEngine(model, **options)
    engine.load_weights(model.state_dict().items(), 0)
    return engine


def sample(engine, quota=(3, 1, 4, 0, 2), wanted=None, **options):
    prompts, wanted = some_prompts(), wanted or decoding()
    quota_P = np.array(quota)
    return engine.generate(prompts, quota_P, np.arange(5), wanted, version=0, **options)


def test_both_sample_the_same():
    # the same numbers through the same inverse; the caches differ in roundings alone
    model = tiny_model(0)
    native = NativeEngine(model)
    native.load_weights(model.state_dict().items(), 0)
    quota_P, prompts = np.array([3, 1, 4, 0, 2]), some_prompts()
    expected = native.generate(prompts, quota_P, np.arange(5), decoding(), version=0)
    found = sample(loaded(model))
    assert torch.equal(found.token_R_T, expected.token_R_T)
    torch.testing.assert_close(found.log_prob_R_T, expected.log_prob_R_T, atol=1e-5, rtol=0)
    np.testing.assert_array_equal(found.finish_R, expected.finish_R)


def test_how_rows_are_cut_into_calls_changes_nothing():
    model = tiny_model(0)
    whole, cut = sample(loaded(model)), sample(loaded(model, max_rows=2))
    assert torch.equal(whole.token_R_T, cut.token_R_T)


def test_the_published_defaults_of_a_model_are_ignored():
    # as in generation_config.json of Qwen2.5, only stronger
    model = tiny_model(0)
    expected = sample(loaded(model))
    published = GenerationConfig(
        do_sample=True, top_k=2, top_p=0.3, temperature=0.1, repetition_penalty=3.0,
        min_new_tokens=9, suppress_tokens=[7, 8], eos_token_id=9,
    )  # fmt: skip
    model.generation_config = published
    found = sample(loaded(model))
    assert torch.equal(found.token_R_T, expected.token_R_T)
    assert model.generation_config is published
    # control: transformers itself takes them over
    ids = some_prompts().row(0).unsqueeze(0)
    plain = GenerationConfig(max_new_tokens=9, pad_token_id=0)
    greedy = model.generate(ids, generation_config=plain, do_sample=False)
    model.generation_config = GenerationConfig()
    assert not torch.equal(greedy, model.generate(ids, generation_config=plain, do_sample=False))


def test_a_model_in_training_is_sampled_without_dropout_and_given_back_in_training():
    model = tiny_model(0, attention_dropout=0.5)
    expected = sample(loaded(model))
    model.train()
    engine = loaded(model)
    assert torch.equal(sample(engine).token_R_T, expected.token_R_T)
    assert model.training


def test_the_trainers_own_model_is_used_in_place():
    model = tiny_model(0)
    engine = loaded(model)
    before = model.lm_head.weight.data_ptr()
    with torch.no_grad():
        model.lm_head.weight.mul_(0.5)
    engine.load_weights(model.state_dict().items(), 1)
    quota = [1, 1, 1, 1, 1]
    found = engine.generate(some_prompts(), np.array(quota), np.arange(5), decoding(), version=1)
    assert model.lm_head.weight.data_ptr() == before
    assert worst_log_prob_error(model, some_prompts(), quota, found, decoding()) < 1e-4


def test_rows_that_end_before_the_time_limit_stay(monkeypatch):
    # a clock that goes on by a second per look: one look at the start, one per call, one per token
    model, clock = tiny_model(0), iter(range(10**6))
    expected = sample(loaded(model), quota=(9, 9, 9, 9, 9))
    monkeypatch.setattr(transformers_engine, "monotonic", lambda: float(next(clock)))
    engine = loaded(model)
    found = sample(engine, quota=(9, 9, 9, 9, 9), time_limit_s=6.5)
    # looks 0 and 1, then 2, 3, ...: the first one past 6.5 is 7, after the sixth token
    in_time = (expected.length_R <= 6).numpy()
    assert 0 < in_time.sum() < 45
    np.testing.assert_array_equal(found.finish_R != Finish.MISSING, in_time)
    assert torch.equal(found.token_R_T[in_time], expected.token_R_T[in_time])
    assert engine.lost == {"time limit": int((~in_time).sum())}


def test_probabilities_that_are_not_finite_are_named():
    model = tiny_model(0)
    with torch.no_grad():
        model.lm_head.weight[3] = torch.nan
    with pytest.raises(TrainingDivergedError, match="not finite"):
        sample(loaded(model))


def test_tied_weights_may_come_once_or_twice():
    model = tiny_model(0, tie_word_embeddings=True)
    engine = TransformersEngine(tiny_model(1, tie_word_embeddings=True))
    engine.load_weights(model.named_parameters(), 0)
    once = sample(engine)
    engine.load_weights(model.state_dict().items(), 0)
    assert "lm_head.weight" in model.state_dict(), "the name under which they come twice"
    assert torch.equal(once.token_R_T, sample(engine).token_R_T)
    assert torch.equal(once.token_R_T, sample(loaded(model)).token_R_T)
