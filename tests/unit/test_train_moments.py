"""Moments of scores against one backward pass per rollout, for several models and parameter sets."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from tests.moment_cases import (
    DECODING,
    GROUP_B,
    expected_moments,
    model_of,
    policy_of,
    random_rollouts,
    scores_by_autograd,
    with_head_bias,
)
from tests.train_cases import plan_of, small_host
from train.gradient_moments import gradient_moments
from train.moments import factors
from train.moments.parameters import parameter_set
from train.moments_config import MomentsConfig
from train.sequences import Sequences

COLUMNS = ("sq_norm_correct", "sq_norm_wrong", "norm_correct", "norm_wrong")
QWEN2_BLOCK = [
    f"model.layers.1.{layer}.{kind}"
    for layer in ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj",
                  "mlp.gate_proj", "mlp.up_proj", "mlp.down_proj")
    for kind in ("weight", "bias")
    if kind == "weight" or layer[-6:] in ("q_proj", "k_proj", "v_proj")
]  # fmt: skip
LLAMA_BLOCK = [
    *(f"model.layers.1.self_attn.{q}_proj.weight" for q in "qkvo"),
    *(f"model.layers.1.mlp.{g}_proj.weight" for g in ("gate", "up", "down")),
    *(f"model.layers.1.mlp.{g}_proj.bias" for g in ("gate", "up", "down")),
]
GPT2_BLOCK = [
    f"transformer.h.1.{layer}.{kind}"
    for layer in ("attn.c_attn", "attn.c_proj", "mlp.c_fc", "mlp.c_proj")
    for kind in ("weight", "bias")
]


def all_linear(block, head):
    """Parameters of both blocks and of the head."""
    return [n.replace(".1.", f".{layer}.") for layer in (0, 1) for n in block] + [head]


# parameter set -> names of the same parameters in the model, written out by hand
CASES = {
    "head": ("qwen2", "head", ["lm_head.weight"]),
    "head by name": ("llama", "lm_head", ["lm_head.weight"]),
    "last block": ("qwen2", "last-block", QWEN2_BLOCK),
    "last block, llama": ("llama", "last-block", LLAMA_BLOCK),
    "last block, gpt2": ("gpt2", "last-block", GPT2_BLOCK),
    "all": ("qwen2", "linear", all_linear(QWEN2_BLOCK, "lm_head.weight")),
    "all, tied": ("qwen2-tied", "linear", all_linear(QWEN2_BLOCK, "model.embed_tokens.weight")),
    "tied head": ("qwen2-tied", "head", ["model.embed_tokens.weight"]),
    "tied head, gpt2": ("gpt2", "head", ["transformer.wte.weight"]),
    "one layer": ("qwen2", "model.layers.0.mlp.up_proj", ["model.layers.0.mlp.up_proj.weight"]),
    "weight and bias": (
        "qwen2",
        "model.layers.1.self_attn.q_proj",
        ["model.layers.1.self_attn.q_proj.weight", "model.layers.1.self_attn.q_proj.bias"],
    ),
    "weight alone": (
        "qwen2",
        "model.layers.1.self_attn.q_proj.weight",
        ["model.layers.1.self_attn.q_proj.weight"],
    ),
    "several": (
        "qwen2",
        "model.layers.0.self_attn.k_proj.bias, lm_head, model.layers.0.self_attn.v_proj.bias",
        [
            "model.layers.0.self_attn.k_proj.bias",
            "lm_head.weight",
            "model.layers.0.self_attn.v_proj.bias",
        ],
    ),
}


def measured(policy, prompts, rollouts, *, pass_tokens=60, seed=0, hidden_R_T_h=None, **config):
    return gradient_moments(
        policy,
        prompts,
        rollouts,
        GROUP_B,
        MomentsConfig(**config),
        pass_tokens=pass_tokens,
        seed=seed,
        hidden_R_T_h=hidden_R_T_h,
    )


def assert_expected(policy, chosen, names, prompts, rollouts, decoding=DECODING):
    scores = scores_by_autograd(policy.model, prompts, rollouts, decoding, names)
    unbiased = measured(policy, prompts, rollouts, parameters=chosen)
    plug_in = measured(policy, prompts, rollouts, parameters=chosen, difference="plug-in")
    for b, group in enumerate(GROUP_B):
        expected = expected_moments(scores, rollouts, group)
        found = {name: getattr(unbiased, name)[b] for name in COLUMNS}
        found["unbiased"] = unbiased.sq_norm_difference[b]
        found["plug_in"] = plug_in.sq_norm_difference[b]
        for name, value in found.items():
            wanted = getattr(expected, name)
            assert value == pytest.approx(wanted, rel=1e-4, nan_ok=True), (group, name)


@pytest.mark.parametrize("case", CASES)
def test_agree_with_one_backward_pass_per_rollout(case):
    kind, chosen, names = CASES[case]
    assert_expected(policy_of(model_of(kind)), chosen, names, *random_rollouts())


@pytest.mark.parametrize("kind", ["qwen2", "qwen2-tied"])
@pytest.mark.parametrize("part", ["", ".weight", ".bias"])
def test_head_with_a_bias(kind, part):
    policy = policy_of(with_head_bias(model_of(kind)))
    weight = "model.embed_tokens.weight" if kind == "qwen2-tied" else "lm_head.weight"
    names = {".weight": [weight], ".bias": ["lm_head.bias"], "": [weight, "lm_head.bias"]}
    assert_expected(policy, f"lm_head{part}", names[part], *random_rollouts())


def test_a_tied_head_has_a_second_term():
    # negative control: the closed form of the head alone is off by a good tenth
    model = model_of("qwen2-tied")
    prompts, rollouts = random_rollouts()
    found = measured(policy_of(model), prompts, rollouts).sq_norm_correct[0]
    embedding = model.get_input_embeddings()
    embedding.weight = nn.Parameter(embedding.weight.detach().clone())
    without = measured(policy_of(model), prompts, rollouts).sq_norm_correct[0]
    assert abs(without / found - 1) > 0.1


@pytest.mark.parametrize("temperature", [0.05, 1.0, 5.0])
@pytest.mark.parametrize("forbidden", [(), (0, 1, 22)])
def test_are_those_of_the_decoding(temperature, forbidden):
    decoding = replace(DECODING, temperature=temperature, forbidden_tokens=forbidden)
    prompts, rollouts = random_rollouts()
    tokens = rollouts.token_R_T
    tokens[tokens == 22] = 21  # a forbidden one cannot have been sampled
    policy = policy_of(model_of("qwen2"), decoding)
    assert_expected(policy, "head", ["lm_head.weight"], prompts, rollouts, decoding)


def test_temperature_scales_scores_of_a_flat_policy():
    # with all logits 0, probabilities are the same at any temperature, so s is proportional to 1/tau
    model = model_of("qwen2")
    nn.init.zeros_(model.lm_head.weight)
    prompts, rollouts = random_rollouts()
    found = [
        measured(policy_of(model, replace(DECODING, temperature=t)), prompts, rollouts)
        for t in (0.5, 2.0)
    ]
    for name in ("sq_norm_correct", "sq_norm_wrong", "sq_norm_difference"):
        cold, warm = getattr(found[0], name), getattr(found[1], name)
        np.testing.assert_allclose(cold, 16.0 * warm, rtol=1e-4)


def test_one_token_by_hand():
    # all logits 0 and 21 legal tokens: |e_y - pi|^2 = 1 - 1/21, so |s|^2 = |h|^2 (1 - 1/21) / tau^2
    model = model_of("qwen2")
    nn.init.zeros_(model.lm_head.weight)
    prompts, rollouts = random_rollouts()
    rollouts.length_R.fill_(1)
    policy = policy_of(model)
    found = measured(policy, prompts, rollouts)
    with torch.no_grad():
        hidden = policy.hidden(Sequences.of(prompts, rollouts.token_R_T, rollouts.length_R))
    square_R = hidden.double().square().sum(dim=1).numpy() * (1 - 1 / 21) / 0.7**2
    mine = (rollouts.group_R.numpy() == GROUP_B[0]) & (rollouts.reward_R.numpy() == 1)
    assert found.sq_norm_correct[0] == pytest.approx(square_R[mine].mean(), rel=1e-5)


@pytest.mark.parametrize("chosen", ["head", "last-block"])
def test_order_of_rollouts_and_cut_into_passes_do_not_matter(chosen):
    policy = policy_of(model_of("qwen2"))
    prompts, rollouts = random_rollouts()
    expected = measured(policy, prompts, rollouts, parameters=chosen, pass_tokens=10**6)
    order = np.random.default_rng(1).permutation(len(rollouts))
    for pass_tokens in (1, 13, 40):
        found = measured(
            policy,
            prompts.take(order),
            rollouts.take(torch.from_numpy(order)),
            parameters=chosen,
            pass_tokens=pass_tokens,
        )
        for name in (*COLUMNS, "sq_norm_difference"):
            np.testing.assert_allclose(
                getattr(found, name), getattr(expected, name), rtol=1e-4, err_msg=name
            )


def test_nan_exactly_where_rollouts_are_too_few():
    policy = policy_of(model_of("qwen2"))
    prompts, rollouts = random_rollouts()
    found = measured(policy, prompts, rollouts)
    # right and wrong: 2 and 3, 1 and 0, 1 and 1, 2 and 2, 4 and 1, 0 and 0
    nan = [b == "x" for b in "-----x"], [b == "x" for b in "-x---x"]
    assert np.isnan(found.sq_norm_correct).tolist() == nan[0]
    assert np.isnan(found.norm_correct).tolist() == nan[0]
    assert np.isnan(found.sq_norm_wrong).tolist() == nan[1]
    assert np.isnan(found.sq_norm_difference).tolist() == [b == "x" for b in "-xx-xx"]
    plug_in = measured(policy, prompts, rollouts, difference="plug-in").sq_norm_difference
    assert np.isnan(plug_in).tolist() == nan[1]


def test_no_rollouts():
    prompts, rollouts = random_rollouts()
    none = np.array([], dtype=np.int64)
    found = measured(
        policy_of(model_of("qwen2")), prompts.take(none), rollouts.take(torch.from_numpy(none))
    )
    assert len(found) == len(GROUP_B)
    assert np.isnan(found.sq_norm_correct).all()


def test_hidden_states_of_generation_replace_the_pass(monkeypatch):
    policy = policy_of(model_of("qwen2"))
    prompts, rollouts = random_rollouts()
    hidden_R_T_h = torch.full((*rollouts.token_R_T.shape, 16), torch.nan)  # nothing after the end
    real = torch.arange(rollouts.token_R_T.shape[1]) < rollouts.length_R[:, None]
    with torch.no_grad():
        hidden_R_T_h[real] = policy.hidden(
            Sequences.of(prompts, rollouts.token_R_T, rollouts.length_R)
        )
    expected = measured(policy, prompts, rollouts)
    tied = policy_of(model_of("qwen2-tied"))
    with_pass = measured(tied, prompts, rollouts)
    # a tied head needs its pass, and takes no hidden states
    found = measured(tied, prompts, rollouts, hidden_R_T_h=hidden_R_T_h)
    np.testing.assert_array_equal(found.sq_norm_correct, with_pass.sq_norm_correct)
    monkeypatch.setattr(policy, "hidden", None)
    found = measured(policy, prompts, rollouts, hidden_R_T_h=hidden_R_T_h)
    for name in (*COLUMNS, "sq_norm_difference"):
        np.testing.assert_allclose(getattr(found, name), getattr(expected, name), rtol=1e-5)


@pytest.mark.parametrize(
    "options",
    [
        {"recomputes_activations": True},
        pytest.param({"is_compiled": True}, marks=pytest.mark.slow),
        {"autocast": torch.bfloat16},
    ],
    ids=str,
)
@pytest.mark.parametrize("chosen", ["head", "linear"])
def test_options_of_the_policy(chosen, options, monkeypatch):
    prompts, rollouts = random_rollouts()
    expected = measured(policy_of(model_of("qwen2")), prompts, rollouts, parameters=chosen)
    if "is_compiled" in options:  # a compiled function, without the minute of a real compiler
        compiler = torch.compile
        monkeypatch.setattr(
            torch, "compile", lambda body, **_: compiler(body, backend="eager", dynamic=True)
        )
    policy = policy_of(model_of("qwen2"), **options)
    with torch.no_grad():  # compiled before any hook exists
        policy(Sequences.of(prompts, rollouts.token_R_T, rollouts.length_R))
    found = measured(policy, prompts, rollouts, parameters=chosen)
    # bfloat16 has 8 bits: products are off by some percent
    tolerance = 0.1 if "autocast" in options else 1e-4
    for name in COLUMNS:
        wanted = getattr(expected, name)
        np.testing.assert_allclose(getattr(found, name), wanted, rtol=tolerance, err_msg=name)


def test_frozen_weights_have_scores():
    # adapters leave the model itself untrained: nothing before the chosen layer asks for gradients
    model = model_of("qwen2")
    prompts, rollouts = random_rollouts()
    expected = measured(policy_of(model), prompts, rollouts, parameters="last-block")
    model.requires_grad_(False)
    found = measured(policy_of(model), prompts, rollouts, parameters="last-block")
    np.testing.assert_array_equal(found.sq_norm_correct, expected.sq_norm_correct)


def test_leaves_no_trace_in_the_model():
    model = model_of("qwen2")
    prompts, rollouts = random_rollouts()
    measured(policy_of(model), prompts, rollouts, parameters="linear")
    assert all(parameter.grad is None for parameter in model.parameters())
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())


def test_small_blocks_give_the_same_moments(monkeypatch):
    # blocks of one column, of a few, of all: groups have up to 35 tokens, the vocabulary 23
    prompts, rollouts = random_rollouts()
    for kind, chosen in (("qwen2", "head"), ("qwen2-tied", "linear")):
        policy = policy_of(model_of(kind))
        expected = measured(policy, prompts, rollouts, parameters=chosen)
        for entries in (1, 300, 2000):
            with monkeypatch.context() as patch:
                patch.setattr(factors, "MAX_ENTRIES", entries)
                found = measured(policy, prompts, rollouts, parameters=chosen)
            for name in COLUMNS:
                wanted = getattr(expected, name)
                np.testing.assert_allclose(getattr(found, name), wanted, rtol=1e-5)
            # a difference of products: float32 roundings of them, not of it
            np.testing.assert_allclose(
                found.sq_norm_difference,
                expected.sq_norm_difference,
                atol=1e-5 * np.nanmax(expected.sq_norm_correct),
            )


@pytest.mark.parametrize(
    ("kind", "chosen", "message"),
    [
        ("qwen2", "tail", "parameters must be head, last-block, linear, or linear layers such as "
                          "'model.layers.0.self_attn.q_proj', got 'tail'"),
        ("qwen2", "head,", "got ''"),
        ("qwen2", "model.norm", "got 'model.norm'"),
        ("qwen2", "model.embed_tokens", "got 'model.embed_tokens'"),
        ("qwen2", "lm_head.bias", "got 'lm_head.bias'"),
    ],
)  # fmt: skip
def test_unknown_parameters_are_refused(kind, chosen, message):
    with pytest.raises(ValueError, match=message):
        parameter_set(policy_of(model_of(kind)), chosen)


def test_weights_in_two_places_are_refused():
    model = model_of("qwen2")
    first, last = (model.model.layers[i].mlp.up_proj for i in (0, 1))
    last.weight = first.weight
    with pytest.raises(ValueError, match=r"shared with model.layers.0.mlp.up_proj"):
        parameter_set(policy_of(model), "last-block")
    # their biases and other layers are their own
    parameter_set(policy_of(model), "model.layers.1.mlp.down_proj")


def test_a_special_embedding_is_refused():
    class Scaled(nn.Embedding):
        def forward(self, ids):
            return 4.0 * super().forward(ids)

    model = model_of("qwen2-tied")
    scaled = Scaled(23, 16, padding_idx=0)
    scaled.weight = model.get_input_embeddings().weight
    model.set_input_embeddings(scaled)
    with pytest.raises(ValueError, match="another set, such as last-block.* with a Scaled"):
        parameter_set(policy_of(model), "head")
    parameter_set(policy_of(model), "last-block")


def test_a_layer_that_is_called_twice_is_refused():
    model = model_of("qwen2")
    layer = model.model.layers[1].mlp
    plain = layer.forward
    layer.forward = lambda x: 0.5 * (plain(x) + plain(x))
    prompts, rollouts = random_rollouts()
    with pytest.raises(ValueError, match="layers that see every token of a row, once"):
        measured(policy_of(model), prompts, rollouts, parameters="last-block")


def test_a_group_that_is_not_in_the_plan_is_refused():
    prompts, rollouts = random_rollouts()
    with pytest.raises(ValueError, match="group_B must be all groups of the rollouts"):
        gradient_moments(
            policy_of(model_of("qwen2")), prompts, rollouts, GROUP_B[1:], pass_tokens=60
        )


def test_host_takes_hidden_states_of_its_engine(monkeypatch):
    """The same moments as by a pass of their own, which the engine's states make needless."""
    plan = plan_of([4, 4, 3], wants_moments=True)
    options = {"rollout": {"gradient_moments": True}}
    expected = small_host(**options, moments={"exact_entries": 0}).rollout(plan).moments_B
    host = small_host(**options)
    monkeypatch.setattr(host.policy, "hidden", None)
    found = host.rollout(plan).moments_B
    assert np.isfinite(expected.sq_norm_wrong).any()
    for name in ("sq_norm_correct", "sq_norm_wrong", "norm_correct", "norm_wrong"):
        # exact_entries = 0: by sketches of a head narrower than they are, which lose nothing
        np.testing.assert_allclose(getattr(found, name), getattr(expected, name), rtol=1e-4)


def test_host_refuses_what_cannot_be_measured_before_anything_is_generated():
    options = {"rollout": {"gradient_moments": True}, "moments": {"parameters": "no.such.layer"}}
    with pytest.raises(ValueError, match="parameters must be"):
        small_host(**options)
    with pytest.raises(ValueError, match="gradient_moments must be true, because .moments. says"):
        small_host(moments={"parameters": "linear"})


@pytest.mark.parametrize("chosen", ["head", "linear"])
def test_host_measures_what_it_is_told(chosen):
    options = {"rollout": {"gradient_moments": True}, "moments": {"parameters": chosen}}
    host = small_host(**options)
    found = host.rollout(plan_of([4, 4], wants_moments=True)).moments_B
    prompts = host.task.pool.prompts.take(host.pending.prompt_R.numpy())
    config = MomentsConfig(parameters=chosen)
    expected = gradient_moments(
        host.policy, prompts, host.pending, np.arange(2), config, pass_tokens=100
    )
    np.testing.assert_allclose(found.norm_wrong, expected.norm_wrong, rtol=1e-4)


def test_host_reports_moments_only_when_asked():
    asked = small_host(rollout={"gradient_moments": True})
    assert asked.rollout(plan_of([4, 4], wants_moments=True)).moments_B is not None
    assert asked.rollout(plan_of([4, 4], plan_id=1, first_group=2)).moments_B is None
    assert small_host().rollout(plan_of([4, 4], wants_moments=True)).moments_B is None
