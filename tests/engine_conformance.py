"""What every rollout engine must do: a suite that its test classes inherit.

A class gives a fixture ``engine``. Expected probabilities come from one unpadded forward pass of
transformers per row, in float64 after the logits, without any cache and without the trainer's code.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats
from transformers import PreTrainedModel, Qwen2Config, Qwen2ForCausalLM

from train.engines.protocol import Completions, Decoding, Engine, Finish, StaleEngineError
from train.prompts import Prompts

VOCABULARY = 41
PAD, BOS, ENDS = 0, 1, (2, 5)
POSITIONS = 128
# 40 and 70 tokens are more than one and two cache blocks of 32
LENGTHS = (40, 3, 70, 1, 17)


def tiny_model(seed: int, **changes: Any) -> Qwen2ForCausalLM:
    """A model of 87 thousand weights with strong opinions; 32 numbers per head, as vLLM needs."""
    options = {
        "vocab_size": VOCABULARY,
        "hidden_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "intermediate_size": 96,
        "max_position_embeddings": POSITIONS,
        "initializer_range": 0.2,
        "rope_parameters": {"rope_type": "default", "rope_theta": 1e4},
        "tie_word_embeddings": False,
        "pad_token_id": PAD,
        "bos_token_id": BOS,
        "eos_token_id": ENDS[0],
    }
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = Qwen2ForCausalLM(Qwen2Config(**{**options, **changes}))
    model.train(False)
    return model


def some_prompts(lengths: tuple[int, ...] = LENGTHS, seed: int = 0) -> Prompts:
    """Random tokens other than padding and the beginning's."""
    rng = np.random.default_rng(seed)
    return Prompts.of([rng.integers(2, VOCABULARY, length) for length in lengths])


def decoding(**changes: Any) -> Decoding:
    """12 tokens at temperature 0.8."""
    options: dict[str, Any] = {
        "max_new_tokens": 12,
        "end_tokens": ENDS,
        "pad_token": PAD,
        "temperature": 0.8,
        "forbidden_tokens": (PAD, BOS),
    }
    return Decoding(**{**options, **changes})


@torch.no_grad()
def exact_log_policy(
    model: PreTrainedModel, tokens: list[int], wanted: Decoding
) -> np.ndarray[Any, Any]:
    """Log-probabilities of what follows each token, shape (L, V), by the definition."""
    logits = model(input_ids=torch.tensor([tokens]), use_cache=False).logits[0].double()
    logits[:, list(wanted.forbidden_tokens)] = -torch.inf
    policy: np.ndarray[Any, Any] = (logits / wanted.temperature).log_softmax(dim=-1).numpy()
    return policy


def worst_log_prob_error(
    model: PreTrainedModel,
    prompts: Prompts,
    quota: list[int],
    found: Completions,
    wanted: Decoding,
) -> float:
    """Largest difference between the engine's and the exact log-probabilities."""
    worst = 0.0
    for row, i in enumerate(np.repeat(np.arange(len(quota)), quota)):
        tokens = found.token_R_T[row, : found.length_R[row]].tolist()
        prompt = prompts.row(int(i)).tolist()
        policy = exact_log_policy(model, prompt + tokens[:-1], wanted)[len(prompt) - 1 :]
        exact = policy[np.arange(len(tokens)), tokens]
        said = found.log_prob_R_T[row, : len(tokens)].numpy()
        worst = max(worst, float(np.abs(exact - said).max()))
    return worst


def frequency_p_value(token_R: torch.Tensor, log_prob_V: np.ndarray[Any, Any]) -> float:
    """Chi-square of tokens against probabilities; cells of fewer than 5 expected are put together."""
    expected = np.exp(log_prob_V) * token_R.numel()
    count = np.bincount(token_R.numpy(), minlength=expected.size)
    is_rare = expected < 5.0
    assert count[expected == 0.0].sum() == 0
    observed, rest = count[~is_rare], count[is_rare].sum()
    expected, rest_expected = expected[~is_rare], expected[is_rare].sum()
    if rest_expected > 0.0:
        observed, expected = np.append(observed, rest), np.append(expected, rest_expected)
    return float(stats.chisquare(observed, expected * observed.sum() / expected.sum()).pvalue)


class EngineConformance:
    """Inherit, and give a fixture ``engine`` of any scope."""

    SAMPLES = 4000  # of the chi-square

    @pytest.fixture
    def model(self) -> PreTrainedModel:
        """Whose weights the engine holds as version 0 when a test begins."""
        return tiny_model(0)

    @pytest.fixture(autouse=True)
    def _loaded(self, engine: Engine, model: PreTrainedModel) -> None:
        engine.load_weights(model.state_dict().items(), 0)

    def sample(
        self,
        engine: Engine,
        prompts: Prompts,
        quota: list[int],
        wanted: Decoding,
        *,
        seeds: list[int] | None = None,
        version: int = 0,
        time_limit_s: float | None = None,
    ) -> Completions:
        """One call, with seeds 100, 101, ... if none are given."""
        seed_P = np.arange(len(quota)) + 100 if seeds is None else np.array(seeds, dtype=np.int64)
        return engine.generate(
            prompts,
            np.array(quota, dtype=np.int64),
            seed_P,
            wanted,
            version=version,
            time_limit_s=time_limit_s,
        )

    def test_hidden_states_are_the_heads_inputs_or_none(self, engine, model):
        prompts, quota, wanted = some_prompts(), np.array([2, 0, 1, 3, 2]), decoding()
        call = (prompts, quota, np.arange(5), wanted)
        plain = engine.generate(*call, version=0)
        found = engine.generate(*call, version=0, keeps_hidden=True)
        assert plain.hidden_R_T_h is None
        assert torch.equal(found.token_R_T, plain.token_R_T)
        if found.hidden_R_T_h is None:
            return
        for row, i in enumerate(np.repeat(np.arange(5), quota)):
            length = int(found.length_R[row])
            prompt = prompts.row(int(i)).tolist()
            tokens = torch.tensor([prompt + found.token_R_T[row, : length - 1].tolist()])
            with torch.no_grad():
                states = model.model(input_ids=tokens, use_cache=False).last_hidden_state[0]
            hidden = found.hidden_R_T_h[row]
            assert torch.allclose(hidden[:length], states[len(prompt) - 1 :], atol=1e-4)
            assert not hidden[length:].any()

    @pytest.mark.parametrize("temperature", [0.8, 1.0])
    def test_log_probs_are_those_of_the_policy_that_sampled(self, engine, model, temperature):
        prompts, quota, wanted = some_prompts(), [4, 0, 5, 3, 6], decoding(temperature=temperature)
        found = self.sample(engine, prompts, quota, wanted)
        # float32 in another order of summation: 1e-4 is 800 roundings of a number near 1
        assert worst_log_prob_error(model, prompts, quota, found, wanted) < 1e-4
        # controls: rows of another prompt, another temperature
        assert worst_log_prob_error(model, prompts, [0, 4, 3, 5, 6], found, wanted) > 1e-2
        other = decoding(temperature=temperature * 1.05)
        assert worst_log_prob_error(model, prompts, quota, found, other) > 1e-2

    def test_rows_end_at_their_own_end_token(self, engine):
        prompts, quota = some_prompts(), [30, 0, 40, 1, 50]
        found = self.sample(engine, prompts, quota, decoding())
        assert found.token_R_T.shape == found.log_prob_R_T.shape == (121, 12)
        assert found.token_R_T.dtype == found.length_R.dtype == torch.int64
        assert found.log_prob_R_T.dtype == torch.float32
        assert found.finish_R.dtype == np.int64
        for row, length in enumerate(found.length_R.tolist()):
            tokens = found.token_R_T[row].tolist()
            assert not set(tokens[: length - 1]) & set(ENDS)
            assert tokens[length:] == [PAD] * (12 - length)
            assert found.log_prob_R_T[row, length:].eq(0.0).all()
            has_ended = tokens[length - 1] in ENDS
            assert found.finish_R[row] == (Finish.STOP if has_ended else Finish.LENGTH)
            assert has_ended or length == 12
        # otherwise this tests nothing: both end tokens, truncation, and an end at the last place
        last = found.token_R_T[torch.arange(121), found.length_R - 1]
        assert set(ENDS) <= set(last.tolist())
        assert {Finish.STOP, Finish.LENGTH} == set(found.finish_R.tolist())

    def test_an_end_at_the_last_place_is_no_truncation(self, engine):
        wanted = decoding(max_new_tokens=1, temperature=2.0)
        found = self.sample(engine, some_prompts(), [40] * 5, wanted)
        is_end = np.isin(found.token_R_T[:, 0].numpy(), ENDS)
        assert 0 < is_end.sum() < 200
        np.testing.assert_array_equal(found.finish_R == Finish.STOP, is_end)

    def test_no_end_tokens(self, engine):
        found = self.sample(engine, some_prompts(), [5] * 5, decoding(end_tokens=()))
        assert found.length_R.eq(12).all()
        assert (found.finish_R == Finish.LENGTH).all()
        assert set(ENDS) & set(found.token_R_T.flatten().tolist()), "they are ordinary tokens then"

    def test_forbidden_tokens_are_never_sampled(self, engine, model):
        prompts = some_prompts((40, 3))
        open_to_all = decoding(forbidden_tokens=(), end_tokens=(), temperature=2.0)
        usual = self.sample(engine, prompts, [60, 60], open_to_all)
        likely = tuple(np.bincount(usual.token_R_T.flatten().numpy()).argsort()[::-1][:20].tolist())
        wanted = decoding(forbidden_tokens=likely, end_tokens=(), temperature=2.0)
        found = self.sample(engine, prompts, [60, 60], wanted)
        assert not set(found.token_R_T.flatten().tolist()) & set(likely)
        assert worst_log_prob_error(model, prompts, [60, 60], found, wanted) < 1e-4
        # control: without the rule more than half of all tokens are of these
        assert np.isin(usual.token_R_T.numpy(), likely).mean() > 0.5

    def test_temperature_zero_takes_the_likeliest(self, engine, model):
        prompts, quota = some_prompts(), [2, 1, 0, 1, 3]
        greedy = decoding(temperature=0.0)
        found = self.sample(engine, prompts, quota, greedy)
        for row, i in enumerate(np.repeat(np.arange(5), quota)):
            tokens = found.token_R_T[row, : found.length_R[row]].tolist()
            prompt = prompts.row(int(i)).tolist()
            policy = exact_log_policy(model, prompt + tokens[:-1], decoding(temperature=1.0))
            assert policy[len(prompt) - 1 :].argmax(axis=1).tolist() == tokens
        assert found.log_prob_R_T.eq(0.0).all()

    def test_an_update_is_an_update(self, engine, model):
        # the same prompts before and after: what was cached for them must not be used again
        prompts, quota, wanted = some_prompts(), [4, 1, 5, 3, 2], decoding()
        self.sample(engine, prompts, quota, wanted)
        other = tiny_model(1)
        engine.load_weights(other.state_dict().items(), 1)
        assert engine.version == 1
        found = self.sample(engine, prompts, quota, wanted, version=1)
        assert worst_log_prob_error(other, prompts, quota, found, wanted) < 1e-4
        # control: under the weights before, the same tokens are something else
        assert worst_log_prob_error(model, prompts, quota, found, wanted) > 1e-2

    def test_a_small_update_is_an_update(self, engine, model):
        prompts, quota, wanted = some_prompts(), [4, 1, 5, 3, 2], decoding()
        self.sample(engine, prompts, quota, wanted)
        other = tiny_model(0)
        with torch.no_grad():
            for weight in other.parameters():
                weight.mul_(1.01)
        engine.load_weights(other.state_dict().items(), 1)
        found = self.sample(engine, prompts, quota, wanted, version=1)
        assert worst_log_prob_error(other, prompts, quota, found, wanted) < 1e-4
        assert worst_log_prob_error(model, prompts, quota, found, wanted) > 1e-3

    def test_seeds_decide(self, engine):
        prompts, quota = some_prompts(), [3, 2, 4, 1, 2]
        wanted = decoding(temperature=1.0)
        first = self.sample(engine, prompts, quota, wanted)
        again = self.sample(engine, prompts, quota, wanted)
        other = self.sample(engine, prompts, quota, wanted, seeds=[7, 8, 9, 10, 11])
        assert torch.equal(first.token_R_T, again.token_R_T)
        assert torch.equal(first.log_prob_R_T, again.log_prob_R_T)
        assert not torch.equal(first.token_R_T, other.token_R_T)

    def test_neighbouring_seeds_have_nothing_in_common(self, engine):
        # seeds s and s + 1 of one prompt: row r + 1 of the one must not be row r of the other
        prompts = Prompts.of([some_prompts().row(0).tolist()] * 2)
        wanted = decoding(temperature=2.0, end_tokens=())
        found = self.sample(engine, prompts, [8, 8], wanted, seeds=[40, 41])
        rows = {tuple(row) for row in found.token_R_T.tolist()}
        # 12 tokens at temperature 2: that two of 16 rows agree has probability below 1e-6
        assert len(rows) == 16

    def test_a_prompt_does_not_feel_the_others(self, engine):
        prompts, wanted = some_prompts(), decoding(temperature=1.0)
        together = self.sample(engine, prompts, [3, 2, 4, 1, 2], wanted, seeds=[1, 2, 3, 4, 5])
        alone = self.sample(engine, prompts.take(np.array([2])), [4], wanted, seeds=[3])
        assert torch.equal(together.token_R_T[5:9], alone.token_R_T)
        more = self.sample(engine, prompts.take(np.array([2])), [6], wanted, seeds=[3])
        assert torch.equal(more.token_R_T[:4], alone.token_R_T), "nor its own further rows"

    def test_tokens_come_as_often_as_they_should(self, engine, model):
        prompts = some_prompts((40, 3))
        wanted = decoding(max_new_tokens=1, temperature=1.0)
        found = self.sample(engine, prompts, [self.SAMPLES, self.SAMPLES], wanted)
        for i, token in enumerate(found.token_R_T[:, 0].split(self.SAMPLES)):
            prompt = prompts.row(i).tolist()
            assert frequency_p_value(token, exact_log_policy(model, prompt, wanted)[-1]) > 1e-4
            other = decoding(temperature=1.3)  # control
            assert frequency_p_value(token, exact_log_policy(model, prompt, other)[-1]) < 1e-6

    def test_torch_draws_what_it_would_have_drawn(self, engine):
        before = torch.random.get_rng_state()
        self.sample(engine, some_prompts(), [2] * 5, decoding())
        assert torch.equal(before, torch.random.get_rng_state())

    def test_nothing_to_do(self, engine):
        assert len(self.sample(engine, some_prompts(), [0] * 5, decoding())) == 0
        assert len(self.sample(engine, Prompts.of([]), [], decoding())) == 0

    def test_other_weights_than_asked_for_are_refused(self, engine):
        for version in (1, -1):
            with pytest.raises(StaleEngineError, match="update 0"):
                self.sample(engine, some_prompts(), [1] * 5, decoding(), version=version)

    @pytest.mark.parametrize("fault", ["missing", "unknown", "shape", "iterator"])
    def test_half_an_update_is_none(self, engine, model, fault):
        named = list(tiny_model(1).state_dict().items())

        def broken():
            yield from named[:5]
            raise OSError("the disk is full")

        faulty = {
            "missing": named[:-1],
            "unknown": [*named, ("model.layers.9.bias", torch.zeros(3))],
            "shape": [*named[:-1], (named[-1][0], torch.zeros(3, 3))],
            "iterator": broken(),
        }[fault]
        with pytest.raises((ValueError, OSError), match="weight|lm_head|disk is full"):
            engine.load_weights(faulty, 1)
        assert engine.version is None
        for version in (0, 1):
            with pytest.raises(StaleEngineError):
                self.sample(engine, some_prompts(), [1] * 5, decoding(), version=version)
        engine.load_weights(model.state_dict().items(), 2)
        prompts, quota = some_prompts(), [1, 2, 1, 1, 1]
        found = self.sample(engine, prompts, quota, decoding(), version=2)
        assert worst_log_prob_error(model, prompts, quota, found, decoding()) < 1e-4

    def test_what_is_late_is_missing(self, engine, model):
        prompts, quota, wanted = some_prompts(), [2, 0, 1, 3, 1], decoding(max_new_tokens=50)
        late = self.sample(engine, prompts, quota, wanted, time_limit_s=1e-9)
        # one token may have come in time
        is_missing = late.finish_R == Finish.MISSING
        assert is_missing.sum() >= 4
        assert late.token_R_T[is_missing].eq(PAD).all()
        assert late.log_prob_R_T[is_missing].eq(0.0).all()
        assert late.length_R[is_missing].eq(0).all()
        assert late.token_R_T.shape == (7, 50)
        # nothing of the late call is left in the next one, and an update goes through
        engine.load_weights(model.state_dict().items(), 1)
        found = self.sample(engine, prompts, quota, wanted, version=1, time_limit_s=600.0)
        assert (found.finish_R != Finish.MISSING).all()
        assert worst_log_prob_error(model, prompts, quota, found, wanted) < 1e-4

    def test_shapes_and_counts_are_checked(self, engine):
        prompts = some_prompts((3, 4))
        with pytest.raises(ValueError, match=r"quota_P must be of shape \(2,\)"):
            self.sample(engine, prompts, [1], decoding())
        with pytest.raises(ValueError, match="quota_P must be >= 0"):
            self.sample(engine, prompts, [1, -1], decoding())
        with pytest.raises(ValueError, match=r"seed_P must be of shape \(2,\)"):
            self.sample(engine, prompts, [1, 1], decoding(), seeds=[1])
