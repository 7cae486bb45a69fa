"""The cost model of ``sim plan``: published numbers, hand computations, an independent FLOP counter."""

from __future__ import annotations

from dataclasses import astuple, replace

import pytest

from sim.planning.cost import TERMS, Site, device_hours
from sim.planning.generation import Engine, devices_per_replica
from sim.planning.hardware import (
    ACCELERATORS,
    EFFICIENCIES,
    LEVELS,
    Efficiency,
    efficiencies_with,
)
from sim.planning.models import MODELS, ModelShape, dense_parameters, shape_of
from sim.planning.schedule import Run
from sim.planning.tally import Tally
from sim.planning.training import Trainer
from sim.planning.workload import Workload

PERFECT = Efficiency(prefill=1.0, decode=1.0, train=1.0, memory=1.0, overlap=0.0)
A100 = ACCELERATORS["A100-80GB"]
BILLION_175 = ModelShape("175B", 175e9, 1, 1, 1)  # one tiny layer: attention costs nothing


# -- models --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "billions"),
    # "Number of Parameters" on the model cards, as rounded there (32.5B and 14.7B are coarse)
    [("Qwen2.5-0.5B", 0.49), ("Qwen2.5-Math-1.5B", 1.54), ("Qwen2.5-3B", 3.09),
     ("Qwen2.5-Math-7B", 7.61), ("Qwen2.5-14B", 14.7), ("Qwen2.5-32B", 32.5)],
)  # fmt: skip
def test_parameters_of_the_model_cards(name, billions):
    assert MODELS[name].parameters == pytest.approx(billions * 1e9, rel=0.01)


@pytest.fixture(scope="module", params=[True, False], ids=["tied", "untied"])
def small_qwen(request):
    """A small Qwen2 of another library, and our description of it."""
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    numbers = {"layers": 3, "width": 256, "heads": 8, "kv_heads": 2, "feed_forward": 768,
               "vocab": 1000, "tied": request.param}  # fmt: skip
    config = transformers.Qwen2Config(
        num_hidden_layers=3, hidden_size=256, num_attention_heads=8, num_key_value_heads=2,
        intermediate_size=768, vocab_size=1000, tie_word_embeddings=request.param,
        attn_implementation="eager",
    )  # fmt: skip
    torch.manual_seed(0)
    model = transformers.AutoModelForCausalLM.from_config(config).eval()
    count = dense_parameters(**numbers)
    looked_up = 0.0 if request.param else 1000.0 * 256.0
    return model, count, ModelShape("small", float(count), 3, 256, 64, looked_up)


def test_parameters_of_another_library(small_qwen):
    model, count, _ = small_qwen
    assert count == sum(p.numel() for p in model.parameters())


@pytest.mark.parametrize("length", [64, 512])
def test_forward_flops_of_another_counter(small_qwen, length):
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    model, _, shape = small_qwen
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model(torch.zeros((1, length), dtype=torch.long))
    counted = counter.get_total_flops()
    # torch counts attention over the whole square, so the mean context is the length; it leaves out
    # biases and norms, which are 0.2 % of these parameters
    assert shape.forward_flops(length, length) == pytest.approx(counted, rel=0.01)
    # negative controls: no attention, and a lookup counted as a product
    assert shape.forward_flops(length, 0.0) != pytest.approx(counted, rel=0.02)
    if shape.looked_up:
        multiplied = replace(shape, looked_up=0.0).forward_flops(length, length)
        assert multiplied != pytest.approx(counted, rel=0.05)


def test_embeddings_that_are_looked_up():
    # Qwen2.5-7B: 152064 tokens x 3584 numbers; the 1.5B shares them with its output
    shape = MODELS["Qwen2.5-Math-7B"]
    assert shape.looked_up == 152_064 * 3584 == 544_997_376
    assert shape.weight_bytes - shape.read_bytes == 2 * 544_997_376
    assert MODELS["Qwen2.5-Math-1.5B"].looked_up == 0.0
    with pytest.raises(ValueError, match="looked_up must be a float in"):
        replace(shape, looked_up=1e10)


def test_cache_bytes_by_hand():
    # 28 layers x (key + value) x 2 heads of 128 x 2 bytes
    assert MODELS["Qwen2.5-Math-1.5B"].cache_bytes == 28 * 2 * 256 * 2 == 28672


def test_a_size_borrows_the_shape_of_its_neighbour_and_says_so():
    shape = shape_of(parameters=2e9)
    assert (shape.layers, shape.parameters) == (28, 2e9)
    assert "Qwen2.5-Math-1.5B" in shape.name
    own = shape_of(parameters=2e9, layers=10, attention_width=64, kv_width=16)
    assert own == ModelShape("2B", 2e9, 10, 64, 16)


@pytest.mark.parametrize(
    "arguments",
    [{"model": "GPT-9"}, {}, {"model": "Qwen2.5-3B", "parameters": 1e9}, {"parameters": float("nan")},
     {"parameters": 1e9, "layers": 0}],
)  # fmt: skip
def test_illegal_models(arguments):
    with pytest.raises(ValueError, match="must be"):
        shape_of(**arguments)


# -- training ------------------------------------------------------------------------------------


def trainer(shape, *, devices=1, accelerator=A100, efficiency=PERFECT, **workload):
    return Trainer(shape, accelerator, efficiency, Workload(**workload), devices)


def test_training_flops_of_gpt3():
    # Brown et al. 2020, Table D.1: 175 billion parameters, 300 billion tokens, 3.14e23 FLOPs
    one = trainer(BILLION_175, prompt_tokens=100, response_tokens=900, recompute=False)
    seconds = one.train_s(Tally(trained=300e9 / 1000))
    assert seconds * A100.peak_flops == pytest.approx(3.14e23, rel=0.01)


def test_training_time_with_recomputation_of_megatron():
    # Narayanan et al. 2021, Eq. 4 and section 5.1: 175 billion parameters, 300 billion tokens on
    # 1024 A100 at 140 TFLOP/s take 34 days, activations recomputed
    efficiency = replace(PERFECT, train=140.0 / 312.0)
    many = trainer(
        BILLION_175, devices=1024, efficiency=efficiency, prompt_tokens=100, response_tokens=900
    )
    days = many.train_s(Tally(trained=300e9 / 1000)) / 86400
    assert days == pytest.approx(34.0, rel=0.01)
    kept = replace(many, workload=replace(many.workload, recompute=False))
    assert kept.train_s(Tally(trained=300e9 / 1000)) / 86400 == pytest.approx(days * 6 / 8)


def test_other_terms_of_training_by_hand():
    shape = ModelShape("1B", 1e9, 1, 1, 1)
    one = trainer(shape, devices=2, prompt_tokens=200, response_tokens=800, logprob_passes=2,
                  mini_batch=256, epochs=2, verify_s=0.5, verify_workers=4)  # fmt: skip
    # 2 passes x 2 x 1e9 x 1000 tokens x 50 rollouts over 2 x 312e12 FLOP/s
    assert one.logprob_s(Tally(trained=50)) == pytest.approx(2e14 / 624e12, rel=1e-5)
    # 3 updates x ceil(1000 / 256) = 4 mini-batches x 2 epochs x 30e9 bytes over 2 x 2.039e12 bytes/s
    assert one.optimiser_s(Tally(updates=3), 1000) == pytest.approx(24 * 30e9 / 4.078e12)
    # 10 rollouts x 3 x 2e9 x 1000 FLOPs, and 10 x 8e9 bytes
    expected = 6e13 / 624e12 + 8e10 / 4.078e12
    assert one.norms_s(Tally(measured=10, trained=99)) == pytest.approx(expected, rel=1e-5)
    # 100 rollouts x 0.5 s on 4 cores, a quarter of it hidden
    hidden = replace(one, efficiency=replace(PERFECT, overlap=0.25))
    assert hidden.verify_s(Tally(generated=100)) == pytest.approx(12.5 * 0.75)
    assert hidden.verify_cpu_s(Tally(generated=100)) == 50.0


def test_training_state_of_18_bytes_per_parameter():
    # as Megatron-LM counts bf16 weights with fp32 gradients, master copy and Adam moments: 2 + 4 x 4
    shape = ModelShape("17.7B", 17.7e9, 1, 1, 1)  # 318.6 GB: four devices of 80 GB
    assert trainer(shape, devices=4).has_room
    assert not trainer(shape, devices=3).has_room


# -- generation ----------------------------------------------------------------------------------


def engine(devices=1, per_replica=1, efficiency=PERFECT, **workload):
    shape = ModelShape("7B", 7.5e9, 28, 3584, 512)
    return Engine(shape, A100, efficiency, Workload(**workload), devices, per_replica)


def test_a_decoding_step_by_hand():
    one = engine()
    # weights 15e9 bytes over 2.039e12 bytes/s; then 100 caches of 1000 tokens x 57344 bytes
    assert one.step_s(1, 0) == pytest.approx(15e9 / 2.039e12)
    assert one.step_s(100, 1000) == pytest.approx((15e9 + 100 * 57344e3) / 2.039e12)
    # without a cache a batch of 2000 is bound by 2 x 7.5e9 FLOPs per token
    assert one.step_s(2000, 0) == pytest.approx(2000 * 15e9 / 312e12)
    # two devices per replica read twice as fast
    assert engine(2, 2).step_s(1, 0) == pytest.approx(15e9 / 2.039e12 / 2)


def test_room_and_batch_by_hand():
    one = engine(max_concurrent=2000)
    assert one.room == int((80e9 - 15e9) / 57344e3) == 1133  # 1000 tokens per sequence
    assert one.batch(10_000) == 1133
    assert one.batch(50) == 50
    assert engine().batch(10_000) == 256
    assert engine(devices=100).batch(50) == 1.0
    assert engine(efficiency=replace(PERFECT, memory=0.1)).room == 0


def test_generation_times_by_hand():
    two = engine(devices=5, per_replica=2)  # two replicas, one device idles
    tally = Tally(rounds=3, visits=30, generated=3 * 1024)
    flops = 30 * (
        2 * 7.5e9 * 200 + 4 * 28 * 3584 * 200 * 100
    )  # a prompt of 200 sees 100 on average
    assert two.prefill_s(tally) == pytest.approx(flops / (4 * 312e12))
    # 512 rollouts per replica, 256 at once: two times 800 tokens, at a mean context of 200 + 400
    # memory: (15e9 + 256 x 57344 x 600) / 4.078e12 = 5.8 ms; the FLOPs take longer
    step_s = 256 * (15e9 + 4 * 28 * 3584 * 600) / (2 * 312e12)
    assert two.decode_s(tally) == pytest.approx(3 * 2 * 800 * step_s)
    # few rollouts: one time, with what there is
    step_s = (15e9 + 5 * 57344 * 600) / (2 * 2.039e12)
    assert two.decode_s(Tally(rounds=1, generated=10)) == pytest.approx(800 * step_s)
    # one rollout on two replicas still takes its whole length
    step_s = (15e9 + 57344 * 600) / (2 * 2.039e12)
    assert two.decode_s(Tally(rounds=1, generated=1)) == pytest.approx(800 * step_s)
    # from 800 to 3072 tokens alone, at a mean context of 200 + 1936
    step_s = (15e9 + 57344 * 2136) / (2 * 2.039e12)
    assert two.tail_s(tally) == pytest.approx(3 * 2272 * step_s)
    assert engine(response_limit=None).tail_s(tally) == 0.0
    assert two.decode_s(Tally()) == 0.0


def test_devices_per_replica():
    def size(model, memory, devices, **workload):
        efficiency = replace(PERFECT, memory=memory)
        return devices_per_replica(MODELS[model], A100, efficiency, Workload(**workload), devices)

    assert size("Qwen2.5-Math-7B", 0.9, 8) == 1
    # 65.5 GB of weights leave 9 sequences of 0.26 GB on a device at 85 %, 268 on two
    assert size("Qwen2.5-32B", 0.85, 8) == 2
    assert size("Qwen2.5-32B", 0.85, 8, max_concurrent=8) == 1
    assert size("Qwen2.5-32B", 0.85, 1) == 1  # nothing better to have
    assert size("Qwen2.5-32B", 0.85, 8, tensor_parallel=4) == 4
    with pytest.raises(ValueError, match="at least 65.8 GB, for .* one sequence, got 40.0 GB$"):
        size("Qwen2.5-32B", 0.5, 1)
    with pytest.raises(ValueError, match="tensor_parallel must be an int in \\[1, 8\\]"):
        size("Qwen2.5-32B", 0.5, 8, tensor_parallel=16)


# -- all together --------------------------------------------------------------------------------


@pytest.mark.parametrize("name", MODELS)
def test_better_efficiencies_never_cost_more(name):
    site = Site(MODELS[name], ACCELERATORS["H100-SXM"], 16, Workload(), 1024)
    tally = Tally(150, 150, 150 * 1024, 1228800, 1228800, 800000, 0)
    run = Run(Tally(rounds=15, visits=150_000, generated=600_000, measured=600_000), tally)
    worst = EFFICIENCIES["pessimistic"]
    size = devices_per_replica(site.shape, site.accelerator, worst, site.workload, 16)
    hours = [device_hours(run, site, EFFICIENCIES[level], size) for level in LEVELS]
    for term in TERMS:
        assert hours[0][term] >= hours[1][term] >= hours[2][term] >= 0.0
    assert sum(hours[0].values()) > sum(hours[2].values())


def test_device_hours_are_devices_times_wall_time():
    site = Site(MODELS["Qwen2.5-Math-7B"], A100, 4, Workload(), 1024)
    # pilots fill the engine many times over: priced together with the update they would cost otherwise
    run = Run(Tally(rounds=1, generated=9000), Tally(updates=1, rounds=1, generated=50, trained=50))
    hours = device_hours(run, site, PERFECT, 1)
    four = site.engine(PERFECT, 1)
    assert hours["decode"] == pytest.approx(
        4 * (four.decode_s(run.pilots) + four.decode_s(run.updates)) / 3600
    )
    assert hours["train"] == pytest.approx(4 * site.trainer(PERFECT).train_s(run.updates) / 3600)
    assert tuple(hours) == tuple(TERMS)


@pytest.mark.parametrize(
    "changes",
    [{"speed": (1.0,)}, {"train": (0.3, 0.4)}, {"train": (0.5, 0.4, 0.3)}, {"train": (1.5,)},
     {"decode": (0.0,)}],
)  # fmt: skip
def test_illegal_efficiencies(changes):
    with pytest.raises(ValueError, match="must be"):
        efficiencies_with(changes)


@pytest.mark.parametrize(
    "changes",
    [{"response_tokens": 4000}, {"prompt_tokens": 0.0}, {"mini_batch": 0}, {"verify_s": -1.0},
     {"epochs": 1.5}, {"response_tokens": float("nan")}],
)  # fmt: skip
def test_illegal_workloads(changes):
    with pytest.raises(ValueError, match="must be"):
        Workload(**changes)


def test_tallies_are_vectors():
    tally = Tally(1, 2, 3, 4, 5, 6, 7)
    assert astuple(2 * tally + tally) == (3, 6, 9, 12, 15, 18, 21)
    assert (3 * tally) / 3 == tally
