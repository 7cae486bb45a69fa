"""Parts that engines share: draws, weights and their hand-over, what vLLM is asked for, options."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoConfig, AutoModelForCausalLM

from tests.engine_conformance import (
    POSITIONS,
    VOCABULARY,
    decoding,
    frequency_p_value,
    some_prompts,
    tiny_model,
)
from train.engines.drawing import draw, uniforms
from train.engines.engine_config import VllmConfig
from train.engines.native import NativeEngine
from train.engines.published import publish
from train.engines.server_process import _flags
from train.engines.vllm_sampling import (
    FORBIDDEN_BIAS,
    architecture,
    check_request,
    engine_options,
    model_length,
    request_seed,
    sampling_fields,
)
from train.engines.weights import WeightNames
from train.prompts import Prompts


def test_a_draw_is_the_inverse_of_the_distribution():
    # probabilities 0.2, 0.5, 0.3 after the forbidden token: token = first whose cumulative sum is > u
    logits = torch.tensor([0.2, 0.9, 0.5, 0.3]).log().expand(8, 4)
    uniform = torch.tensor([0.0, 0.199, 0.2, 0.699, 0.701, 1 - 2**-53, 0.5, 0.1]).double()
    wanted = decoding(forbidden_tokens=(1,), end_tokens=(), temperature=1.0)
    token, log_prob = draw(logits, uniform, wanted)
    assert token.tolist() == [0, 0, 2, 2, 3, 3, 2, 0]
    expected = torch.tensor([0.2, 0.2, 0.5, 0.5, 0.3, 0.3, 0.5, 0.2]).log()
    torch.testing.assert_close(log_prob, expected, atol=1e-6, rtol=0)
    sharp, _ = draw(
        logits, uniform, decoding(forbidden_tokens=(1,), end_tokens=(), temperature=0.0)
    )
    assert sharp.tolist() == [2] * 8
    assert logits[0, 1] > -1.0, "the caller's logits are left as they are"


def test_no_number_reaches_a_token_of_probability_zero():
    # forbidden tokens at both ends and in the middle, at the numbers where rounding could go wrong
    edges = torch.tensor([0.0, 5e-324, 2**-53, 0.5 - 2**-54, 0.5, 1 - 2**-53], dtype=torch.float64)
    for seed in range(50):
        logits = torch.randn(
            1, 64, generator=torch.Generator().manual_seed(seed)
        ).expand(len(edges), 64) * 30.0  # fmt: skip
        forbidden = (0, 1, 20, 21, 22, 62, 63)
        token, log_prob = draw(logits, edges, decoding(forbidden_tokens=forbidden, end_tokens=()))
        assert not set(token.tolist()) & set(forbidden)
        assert log_prob.double().exp().gt(0.0).all()


@pytest.mark.parametrize("engine", ["drawing", "native"])
def test_sums_that_go_astray_give_no_forbidden_token(engine, monkeypatch):
    # as on a GPU, which adds in another order at each place: forbidden token 0 seems to have a half
    def astray(values, dim):
        return cumsum(values, dim) + 0.5

    cumsum = torch.Tensor.cumsum
    wanted = decoding(forbidden_tokens=(0,), end_tokens=(), max_new_tokens=1, temperature=1.0)
    monkeypatch.setattr(torch.Tensor, "cumsum", astray)
    if engine == "drawing":
        logits = torch.tensor([[3.0, 0.0, 2.0, 1.0]]).expand(64, 4)
        numbers = torch.from_numpy(uniforms(np.array([0]), np.array([64]), 1)[:, 0])
        token, log_prob = draw(logits, numbers, wanted)
    else:
        model = tiny_model(0)
        native = NativeEngine(model)
        native.load_weights(model.state_dict().items(), 0)
        one = some_prompts().take(np.array([0]))
        found = native.generate(one, np.array([64]), np.array([0]), wanted, version=0)
        token, log_prob = found.token_R_T[:, 0], found.log_prob_R_T[:, 0]
        with torch.no_grad():
            logits = model(some_prompts().row(0)[None]).logits[:, -1]
    likeliest = int(logits[0, 1:].argmax()) + 1
    assert (token != 0).all()
    # a third of the numbers point below a half of 1.5: the likeliest legal token stands in
    assert (token == likeliest).float().mean() > 0.3
    expected = logits[0, 1:].log_softmax(-1)[likeliest - 1]
    assert (log_prob[token == likeliest] - expected).abs().max() < 1e-5


def test_draws_are_as_often_as_they_should():
    logits = torch.randn(VOCABULARY, generator=torch.Generator().manual_seed(0))
    uniform = uniforms(np.array([3]), np.array([20000]), 1)[:, 0]
    wanted = decoding(forbidden_tokens=(), end_tokens=(), temperature=0.7)
    token, _ = draw(logits.expand(20000, -1), torch.from_numpy(uniform), wanted)
    exact = (logits.double() / 0.7).log_softmax(dim=-1).numpy()
    assert frequency_p_value(token, exact) > 1e-4
    control = (logits.double() / 0.8).log_softmax(dim=-1).numpy()
    assert frequency_p_value(token, control) < 1e-6


def test_numbers_of_a_row_are_its_prompts_and_its_own():
    numbers = uniforms(np.array([5, 6]), np.array([2, 3]), 4)
    assert numbers.shape == (5, 4)
    np.testing.assert_array_equal(numbers[2:], uniforms(np.array([6]), np.array([3]), 4))
    np.testing.assert_array_equal(numbers[:2], uniforms(np.array([5]), np.array([9]), 4)[:2])
    assert uniforms(np.array([], dtype=int), np.array([], dtype=int), 4).shape == (0, 4)


def test_weights_come_once_or_under_all_their_names():
    model = tiny_model(0, tie_word_embeddings=True)
    names, named = WeightNames(model), dict(model.named_parameters())
    assert "lm_head.weight" not in named
    assert [name for name, _ in names.checked(model.state_dict().items())] == list(named)
    untied = dict(names.untied(named.items()))
    assert set(untied) == set(model.state_dict())
    assert untied["lm_head.weight"] is untied["model.embed_tokens.weight"]
    with torch.device("meta"):
        empty = type(model)(model.config)
    assert WeightNames(empty).shape == names.shape


def read(folder):
    """All tensors of a folder."""
    files = sorted(folder.glob("*.safetensors"))
    return {name: value for file in files for name, value in load_file(file).items()}


def test_published_weights_are_the_models(tmp_path):
    model = tiny_model(0)
    named = WeightNames(model).untied(model.state_dict().items())
    publish(tmp_path / "weights", model.config, named, torch.float32, shard_bytes=40_000)
    files = sorted(path.name for path in (tmp_path / "weights").iterdir())
    assert files[0] == "config.json"
    assert len(files) > 3, "several files"
    back = read(tmp_path / "weights")
    assert set(back) == set(model.state_dict())
    assert all(torch.equal(back[name], value) for name, value in model.state_dict().items())


def test_tied_weights_are_published_untied(tmp_path):
    model = tiny_model(0, tie_word_embeddings=True)
    named = WeightNames(model).untied(model.state_dict().items())
    publish(tmp_path / "weights", architecture(model), named, torch.float32)
    config = AutoConfig.from_pretrained(tmp_path / "weights")
    assert config.architectures == ["Qwen2ForCausalLM"]
    again = AutoModelForCausalLM.from_config(config)
    again.load_state_dict(read(tmp_path / "weights"))
    assert again.lm_head.weight is not again.model.embed_tokens.weight
    ids = some_prompts().row(0).unsqueeze(0)
    with torch.no_grad():
        torch.testing.assert_close(again(ids).logits, model(ids).logits)
    assert model.config.tie_word_embeddings, "the trainer's own configuration is left as it is"


def test_weights_are_published_whole_or_not_at_all(tmp_path):
    model = tiny_model(0)

    def broken():
        yield from list(model.state_dict().items())[:5]
        raise OSError("the disk is full")

    with pytest.raises(OSError, match="full"):
        publish(tmp_path / "weights", model.config, broken(), torch.bfloat16, shard_bytes=1)
    assert list(tmp_path.iterdir()) == []


def test_seeds_of_requests_are_scattered_and_within_vllms_range():
    # row r has the seed of the request plus r: no two of 200 neighbouring prompts with 1000 rows meet
    seeds = sorted(request_seed(seed) for seed in [*range(200), 2**63 - 1])
    assert min(np.diff(np.array(seeds, dtype=object))) > 1000
    assert seeds[0] >= 0
    assert seeds[-1] + 10**6 < 2**63
    assert request_seed(7) == request_seed(7)
    with pytest.raises(ValueError, match="non-negative"):
        request_seed(-1)


def test_what_vllm_is_asked_for():
    fields = sampling_fields(decoding())
    assert fields["stop_token_ids"] == [2, 5]
    assert fields["ignore_eos"] is True
    assert fields["logit_bias"] == {0: FORBIDDEN_BIAS, 1: FORBIDDEN_BIAS}
    # float32 at the lowest temperature, with any logit: still nothing, and no NaN
    biased = torch.tensor([3e4, FORBIDDEN_BIAS + 3e4]) / 0.01
    assert biased.log_softmax(0).exp().tolist() == [1.0, 0.0]
    assert sampling_fields(decoding(forbidden_tokens=()))["logit_bias"] is None


def test_what_vllm_would_change_or_die_of_is_refused():
    good = some_prompts()
    check_request(good, decoding(), VOCABULARY, POSITIONS)
    check_request(good, decoding(temperature=0.0), VOCABULARY, POSITIONS)
    check_request(Prompts.of([]), decoding(), VOCABULARY, POSITIONS)
    for temperature in (1e-3, 2.01):
        with pytest.raises(ValueError, match=r"temperature must be 0 or in \[0.01, 2.0\]"):
            check_request(good, decoding(temperature=temperature), VOCABULARY, POSITIONS)
    for token in (-1, VOCABULARY):
        with pytest.raises(ValueError, match=rf"tokens in \[0, {VOCABULARY}\), got {token}"):
            check_request(Prompts.of([[3, token]]), decoding(), VOCABULARY, POSITIONS)
    with pytest.raises(ValueError, match="at most 81 long, got 82"):
        check_request(good, decoding(), VOCABULARY, 81)


def test_options_of_vllm():
    options = VllmConfig(cache_gib=0.5, block_size=32, max_rows=64)
    keywords = engine_options(options, 100)
    assert keywords["kv_cache_memory_bytes"] == 2**29
    assert keywords["logprobs_mode"] == "processed_logprobs", "of the policy that sampled"
    assert keywords["generation_config"] == "vllm", "not what a model's files say"
    assert keywords["distributed_executor_backend"] == "uni"
    if not torch.cuda.is_available():
        assert keywords["enable_chunked_prefill"] is False
    assert "block_size" not in engine_options(VllmConfig(), 100)
    assert engine_options(VllmConfig(tensor_parallel=2), 9)["distributed_executor_backend"] == "mp"
    flags = _flags(options, 100)
    assert flags[flags.index("--max-num-seqs") + 1] == "64"
    assert "--skip-tokenizer-init" in flags
    assert "--no-enforce-eager" in flags


def test_the_longest_text_is_the_models_or_less():
    model = tiny_model(0)
    assert model_length(model, VllmConfig()) == POSITIONS
    assert model_length(model, VllmConfig(max_model_len=50)) == 50
    with pytest.raises(ValueError, match=f"max_model_len must be at most {POSITIONS}"):
        model_length(model, VllmConfig(max_model_len=POSITIONS + 1))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"dtype": "int8"}, "dtype must be one of"),
        ({"gpu_memory_share": 0.0}, r"gpu_memory_share must be a float in \(0.0, 1.0\]"),
        ({"server_url": "localhost:8000"}, "server_url must be of the form http://HOST:PORT"),
        ({"server_url": "http://a:1;ftp://b:2"}, "server_url must be of the form"),
        ({"server_url": "http://a:1", "server_devices": "1"}, "server_devices must be left out"),
        ({"server_port": 70000}, r"server_port must be an int in \[0, 65535\]"),
    ],
)
def test_options_are_checked(values, message):
    with pytest.raises(ValueError, match=rf"\[vllm\]: {message}"):
        VllmConfig(**values)


def test_vllm_in_this_process_says_what_it_is_not_for():
    from train.engines.vllm_engine import VllmEngine

    with pytest.raises(ValueError, match="tensor_parallel must be 1 with engine vllm"):
        VllmEngine(tiny_model(0), VllmConfig(tensor_parallel=2))
    if not torch.cuda.is_available():
        with pytest.raises(ValueError, match="sleep must be false without a GPU"):
            VllmEngine(tiny_model(0), VllmConfig(sleep=True))
