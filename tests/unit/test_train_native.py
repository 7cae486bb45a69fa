"""Generation agrees with the model's own forward pass: probabilities, frequencies, shapes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import stats

from cures.schedulers.driver.randomness import derived_generator
from tests.train_cases import small_host
from train.engines import native
from train.engines.native import NativeEngine
from train.engines.protocol import Decoding, Finish, StaleEngineError
from train.policy import FORBIDDEN_LOGIT, Policy, log_policy
from train.prompts import Prompts
from train.seeds import Stream, numpy_generator, prompt_seeds
from train.sequences import Sequences
from train.tasks.characters import BOS, EOS, FORBIDDEN_TOKENS, PAD, VOCABULARY_SIZE

# of three lengths, so that a call has padding
PROMPTS = Prompts.of([[1, 4, 5, 13], [1, 6], [1, 7, 8, 9, 13, 4], [1, 9]])
DECODING = Decoding(
    max_new_tokens=5, end_tokens=(EOS, 7), pad_token=PAD, forbidden_tokens=FORBIDDEN_TOKENS
)


@pytest.fixture(scope="module")
def model():
    host = small_host(
        task={"digits": [3]},
        model={"hidden_size": 32, "layers": 2, "heads": 4, "kv_heads": 2, "initializer_range": 0.3},
    )
    return host.model


def engine_of(model, max_rows=2048):
    engine = NativeEngine(model, max_rows=max_rows)
    engine.load_weights(model.state_dict().items(), 0)
    return engine


def sample(model, quota, *, prompts=None, seed=0, max_rows=2048, time_limit_s=None, **decoding):
    prompts = PROMPTS.take(np.arange(len(quota))) if prompts is None else prompts
    return engine_of(model, max_rows).generate(
        prompts,
        np.array(quota, dtype=np.int64),
        prompt_seeds(seed, Stream.GENERATION, 0, len(quota)),
        replace(DECODING, **decoding),
        version=0,
        time_limit_s=time_limit_s,
    )


def teacher_forced(model, quota, found, **decoding):
    """Log-probabilities by the model's own pass over every row alone, 0 after the end."""
    policy = Policy(model, replace(DECODING, **decoding))
    table = torch.zeros_like(found.log_prob_R_T)
    row = 0
    with torch.no_grad():
        for prompt, count in enumerate(quota):
            for _ in range(count):
                length = found.length_R[row : row + 1]
                alone = Sequences.of(
                    PROMPTS.take(np.array([prompt])), found.token_R_T[row : row + 1], length
                )
                table[row, : int(length)] = policy(alone).log_prob_F
                row += 1
    return table


@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_sampling_log_probs_equal_teacher_forced_ones(model, temperature):
    quota = [20, 1, 0, 15]
    found = sample(model, quota, temperature=temperature)
    expected = teacher_forced(model, quota, found, temperature=temperature)
    # float32 with another batch layout: 2e-5 is some hundred roundings of numbers near 1
    torch.testing.assert_close(found.log_prob_R_T, expected, atol=2e-5, rtol=0)
    assert found.length_R.unique().numel() > 1, "some rows must end early for this to test anything"
    # negative control: another temperature would be seen
    other = teacher_forced(model, quota, found, temperature=1.3 * temperature)
    assert (found.log_prob_R_T - other).abs().max() > 1e-2


def frequencies_p_value(model, token_R, temperature):
    """Chi-square of first tokens against transformers' own logits, called without any cache."""
    with torch.no_grad():
        logits = model(input_ids=PROMPTS.row(0)[None]).logits[0, -1].double()
    logits[[PAD, BOS]] = FORBIDDEN_LOGIT
    prob = (logits / temperature).softmax(-1).numpy()
    count = np.bincount(token_R.numpy(), minlength=VOCABULARY_SIZE)
    assert count[[PAD, BOS]].sum() == 0
    legal = prob > 1e-3
    expected = np.append(prob[legal], prob[~legal].sum()) * count.sum()
    observed = np.append(count[legal], count[~legal].sum())
    keep = expected > 5
    return stats.chisquare(observed[keep], expected[keep] * observed[keep].sum()
                           / expected[keep].sum()).pvalue  # fmt: skip


def test_first_tokens_follow_the_policy(model):
    found = sample(model, [20000], temperature=0.8, max_new_tokens=1)
    token = found.token_R_T[:, 0]
    assert frequencies_p_value(model, token, 0.8) > 1e-4
    assert frequencies_p_value(model, token, 1.0) < 1e-6  # negative control: another temperature


def test_rows_end_at_their_own_end_token(model):
    end = (EOS, 5, 15)
    found = sample(model, [300], end_tokens=end)
    for tokens, log_probs, length, finish in zip(
        found.token_R_T, found.log_prob_R_T, found.length_R, found.finish_R, strict=True
    ):
        before, after = tokens[:length], tokens[length:]
        assert not torch.isin(before[:-1], torch.tensor(end)).any()
        assert (before != PAD).all()
        assert (finish == Finish.STOP) == (int(before[-1]) in end)
        assert finish == Finish.STOP or length == 5
        assert (after == PAD).all()
        assert (log_probs[length:] == 0).all()
    assert set(found.finish_R) == {Finish.STOP, Finish.LENGTH}


def test_a_prompts_rows_depend_on_its_seed_alone(model):
    quota = [6, 3, 5, 4]
    together = sample(model, quota)
    assert torch.equal(sample(model, quota, max_rows=4).token_R_T, together.token_R_T)
    seeds = prompt_seeds(0, Stream.GENERATION, 0, 4)
    start = 0
    for prompt, count in enumerate(quota):
        alone = engine_of(
            model
        ).generate(
            PROMPTS.take(np.array([prompt])),
            np.array([count + 2]),  # more of them do not change the first
            seeds[prompt : prompt + 1],
            DECODING,
            version=0,
        )
        mine = slice(start, start + count)
        assert torch.equal(alone.token_R_T[:count], together.token_R_T[mine])
        start += count
    other = sample(model, quota, seed=1)
    assert not torch.equal(other.token_R_T, together.token_R_T)


def test_no_global_randomness(model):
    before = torch.random.get_rng_state()
    sample(model, [9, 9])
    assert torch.equal(before, torch.random.get_rng_state())


def test_greedy_takes_the_likeliest_legal_token(model):
    found = sample(model, [2, 1], temperature=0.0)
    assert torch.equal(found.token_R_T[0], found.token_R_T[1])
    assert (found.log_prob_R_T == 0).all()
    ids = PROMPTS.row(1)
    for t in range(int(found.length_R[2])):
        with torch.no_grad():
            logits = model(input_ids=ids[None]).logits[0, -1]
        logits[list(FORBIDDEN_TOKENS)] = -torch.inf
        assert found.token_R_T[2, t] == logits.argmax()
        ids = torch.cat([ids, found.token_R_T[2, t : t + 1]])


def test_nothing_to_generate(model):
    assert sample(model, [0]).token_R_T.shape == (0, 5)
    nothing = sample(model, [], prompts=PROMPTS.take(np.zeros(0, dtype=np.int64)))
    assert nothing.token_R_T.shape == (0, 5)


def test_what_is_late_is_missing(model, monkeypatch):
    clock = iter(np.arange(0.0, 100.0, 10.0))
    monkeypatch.setattr(native.time, "monotonic", lambda: next(clock))
    found = sample(model, [40], time_limit_s=15.0)  # asked at 0; looked at 10 and 20: two tokens
    is_late = found.finish_R == Finish.MISSING
    assert 0 < is_late.sum() < 40
    assert (found.length_R.numpy()[is_late] == 0).all()
    assert (found.token_R_T[torch.from_numpy(is_late)] == PAD).all()
    assert (found.length_R.numpy()[~is_late] <= 2).all()


def test_wrong_calls_are_refused(model):
    engine = engine_of(model)
    seeds = np.zeros(1, dtype=np.int64)
    two = PROMPTS.take(np.arange(2))
    with pytest.raises(ValueError, match=r"quota_P must be of shape \(2,\), got \(1,\)"):
        engine.generate(two, np.array([1]), seeds, DECODING, version=0)
    with pytest.raises(ValueError, match="quota_P must be >= 0, got -1"):
        engine.generate(PROMPTS.take(seeds), np.array([-1]), seeds, DECODING, version=0)
    with pytest.raises(
        StaleEngineError, match="holds the weights of update 0, asked for those of 3"
    ):
        engine.generate(PROMPTS.take(seeds), np.array([1]), seeds, DECODING, version=3)


def test_half_loaded_weights_cannot_be_sampled(model):
    engine = engine_of(model)

    def half():
        yield next(iter(model.state_dict().items()))
        raise ConnectionError("lost")

    with pytest.raises(ConnectionError):
        engine.load_weights(half(), 1)
    assert engine.version is None
    with pytest.raises(StaleEngineError):
        engine.generate(PROMPTS, np.ones(4, int), np.zeros(4, int), DECODING, version=1)
    named = dict(model.state_dict())
    removed = named.popitem()[0]
    with pytest.raises(ValueError, match=f"none of .*{removed}"):
        engine.load_weights(named.items(), 1)
    with pytest.raises(ValueError, match="critic must be a weight of the model"):
        engine.load_weights([("critic", torch.zeros(1))], 1)
    assert engine.version is None


def test_a_copy_follows_the_weights_it_is_given(model):
    host = small_host(model={"hidden_size": 32, "layers": 2, "heads": 4, "kv_heads": 2})
    engine = engine_of(host.model)
    named = [(name, 0.5 * value) for name, value in host.model.state_dict().items()]
    engine.load_weights(named, 7)
    assert engine.version == 7
    for name, value in named:
        assert torch.equal(host.model.state_dict()[name], value)


def test_trainer_and_scheduler_never_share_random_numbers():
    # both are rooted in run.seed; compare the first numbers over a grid of uses
    trainer = {
        numpy_generator(0, stream, index).random() for stream in Stream for index in range(40)
    }
    scheduler = {
        derived_generator(0, key, stream).random() for key in range(40) for stream in range(12)
    }
    assert len(trainer) == 40 * len(Stream)
    assert not trainer & scheduler


@pytest.mark.parametrize("temperature", [1e-4, 1.0, 10.0])
def test_forbidden_tokens_have_no_probability_at_any_temperature(temperature):
    logits = torch.full((2, VOCABULARY_SIZE), -2.0)
    logits[:, list(FORBIDDEN_TOKENS)] = 50.0
    policy = log_policy(logits, replace(DECODING, temperature=temperature)).exp()
    assert (policy[:, list(FORBIDDEN_TOKENS)] == 0).all()
    assert torch.allclose(policy.sum(dim=1), torch.ones(2))


def test_an_end_token_must_be_allowed():
    with pytest.raises(ValueError, match="end_tokens must be allowed tokens"):
        Decoding(max_new_tokens=2, end_tokens=(1,), pad_token=0, forbidden_tokens=(1,))
