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
    # float32 with another batch layout: 1e-5 is some hundred roundings of numbers near 1
    torch.testing.assert_close(found.log_prob_R_T, expected, atol=1e-5, rtol=0)
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


def exact_pairs(model, prompt, temperature):
    """Probability of each first and second token, the second after any first, shape (V, V)."""

    def policy(ids):
        with torch.no_grad():
            logits = model(input_ids=ids).logits[:, -1].double()
        logits[:, list(FORBIDDEN_TOKENS)] = -torch.inf
        return (logits / temperature).softmax(-1)

    first = policy(prompt[None])[0]
    texts = torch.cat([prompt.expand(len(first), -1), torch.arange(len(first))[:, None]], dim=1)
    return (first[:, None] * policy(texts)).numpy()


def pairs_p_value(model, token_R_T, temperature):
    """Chi-square of pairs of tokens, the rare ones taken together."""
    prob = exact_pairs(model, PROMPTS.row(1), temperature).ravel()
    count = np.bincount(VOCABULARY_SIZE * token_R_T[:, 0] + token_R_T[:, 1], minlength=prob.size)
    expected = prob * count.sum()
    is_rare = expected < 5
    observed = np.append(count[~is_rare], count[is_rare].sum())
    return stats.chisquare(observed, np.append(expected[~is_rare], expected[is_rare].sum())).pvalue


def test_second_tokens_follow_the_first_ones(model):
    # a short prompt beside a longer one: what it attends to is not its padding
    found = sample(model, [1, 20000, 1], temperature=0.8, max_new_tokens=2, end_tokens=())
    token_R_T = found.token_R_T[1:-1].numpy()
    assert pairs_p_value(model, token_R_T, 0.8) > 1e-4
    # negative controls: second tokens of other rows; another temperature
    torn = np.column_stack([token_R_T[:, 0], np.roll(token_R_T[:, 1], 1)])
    assert pairs_p_value(model, torn, 0.8) < 1e-6
    assert pairs_p_value(model, token_R_T, 0.85) < 1e-6


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


def test_the_order_of_prompts_does_not_matter(model):
    quota, order = np.array([6, 3, 5, 4]), np.array([2, 0, 3, 1])
    seeds = prompt_seeds(0, Stream.GENERATION, 0, 4)
    calls = [
        engine_of(model).generate(
            PROMPTS.take(index), quota[index], seeds[index], DECODING, version=0
        )
        for index in (np.arange(4), order)
    ]
    start = np.cumsum(quota) - quota
    rows = np.concatenate([np.arange(start[p], start[p] + quota[p]) for p in order])
    assert torch.equal(calls[1].token_R_T, calls[0].token_R_T[rows])
    # another batch layout: rounding
    torch.testing.assert_close(
        calls[1].log_prob_R_T, calls[0].log_prob_R_T[rows], atol=1e-5, rtol=0
    )


def test_no_global_randomness(model):
    before = torch.random.get_rng_state()
    sample(model, [9, 9])
    assert torch.equal(before, torch.random.get_rng_state())


@pytest.mark.parametrize("forbidden", [(), FORBIDDEN_TOKENS, (*FORBIDDEN_TOKENS, 7, 15)])
def test_greedy_takes_the_likeliest_legal_token(model, forbidden):
    found = sample(model, [2, 1], temperature=0.0, forbidden_tokens=forbidden, end_tokens=(EOS,))
    assert torch.equal(found.token_R_T[0], found.token_R_T[1])
    assert (found.log_prob_R_T == 0).all()
    ids = PROMPTS.row(1)
    for t in range(int(found.length_R[2])):
        with torch.no_grad():
            logits = model(input_ids=ids[None]).logits[0, -1]
        logits[list(forbidden)] = -torch.inf
        assert found.token_R_T[2, t] == logits.argmax()
        ids = torch.cat([ids, found.token_R_T[2, t : t + 1]])


def test_nothing_to_generate(model):
    assert sample(model, [0]).token_R_T.shape == (0, 5)
    nothing = sample(model, [], prompts=PROMPTS.take(np.zeros(0, dtype=np.int64)))
    assert nothing.token_R_T.shape == (0, 5)


def slow_clock(monkeypatch):
    """Every look at the clock comes a second after the one before; the first one at 0."""
    seconds = iter(range(10**6))
    monkeypatch.setattr(native.time, "monotonic", lambda: float(next(seconds)))


def test_what_is_late_is_missing(model, monkeypatch):
    expected = sample(model, [40, 9])
    slow_clock(monkeypatch)
    # looks at 0 (asked), 1 (begun), 2 and 3 (after the first two tokens): late from the third on
    found = sample(model, [40, 9], time_limit_s=2.5)
    in_time = (expected.length_R <= 2).numpy()
    assert 0 < in_time.sum() < 49
    assert ((found.finish_R != Finish.MISSING) == in_time).all()
    assert torch.equal(found.token_R_T[in_time], expected.token_R_T[in_time])
    assert (found.finish_R[in_time] == Finish.STOP).all()
    assert (found.length_R[~in_time] == 0).all()
    assert (found.token_R_T[~in_time] == PAD).all()
    assert (found.log_prob_R_T[~in_time] == 0).all()


def test_late_rows_that_have_not_begun_cost_nothing(model, monkeypatch):
    calls = []
    hook = model.register_forward_hook(lambda *call: calls.append(None))
    slow_clock(monkeypatch)
    # looks at 0 (asked), 1 (the first ten begin), 2, ...; nobody begins after 3
    found = sample(model, [40], max_rows=10, time_limit_s=2.5)
    hook.remove()
    assert len(calls) <= 3, "one prefill and two steps of the first ten rows"
    assert (found.finish_R[10:] == Finish.MISSING).all()


def test_without_a_limit_nothing_is_late(model, monkeypatch):
    # negative control of the clock
    slow_clock(monkeypatch)
    for limit in (None, 1e6):
        found = sample(model, [40], time_limit_s=limit)
        assert (found.finish_R != Finish.MISSING).all()


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
    with pytest.raises(ValueError, match=f"none called .*{removed}"):
        engine.load_weights(named.items(), 1)
    with pytest.raises(
        ValueError, match="name must be one of the model's 27 weights, got 'critic'"
    ):
        engine.load_weights([("critic", torch.zeros(1))], 1)
    with pytest.raises(
        ValueError, match=r"lm_head.weight must be of shape \(18, 32\), got \(18, 31\)"
    ):
        engine.load_weights([("lm_head.weight", torch.zeros(18, 31))], 1)
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
