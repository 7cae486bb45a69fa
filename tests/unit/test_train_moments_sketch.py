"""Sketched scores: without bias, of the stated error, and used where groups are large."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from tests.moment_cases import (
    GROUP_B,
    expected_moments,
    model_of,
    policy_of,
    random_rollouts,
    scores_by_autograd,
)
from train.gradient_moments import gradient_moments
from train.moments import sketch as module
from train.moments.factors import LayerFactors
from train.moments.group_moments import group_moments
from train.moments.sketch import CountSketch, score_sketch
from train.moments_config import MomentsConfig

DRAWS = 1500


def layers_of(rows=2, tokens=3, widths=((40, 30), (20, 50)), seed=0):
    generator = torch.Generator().manual_seed(seed)
    return [
        LayerFactors(
            torch.randn(rows, tokens, inputs, generator=generator),
            torch.randn(rows, tokens, width, generator=generator),
        )
        for inputs, width in widths
    ]


def scores_of(layers):
    """Matrices (R, b, a), float64."""
    return [(x.errors_R_T_o.mT @ x.inputs_R_T_a).double() for x in layers]


def sketched(layers, size, seed):
    """Sums of independent projections, flat."""
    return sum(
        score_sketch(layer, size, np.random.default_rng([seed, i])).flatten(1).double()
        for i, layer in enumerate(layers)
    )


def standard_error(size, concentration):
    """The bound in the docstring of train/moments/sketch.py, on a sketched squared norm's error."""
    return np.sqrt((4 / size + 2 / size**2) * concentration + 2 / size**2)


def test_the_errors_that_the_documentation_states():
    # sqrt((4/256 + 2/256^2) C + 2/256^2)
    text = (Path(__file__).parents[2] / "docs" / "gradient_moments.md").read_text()
    size = MomentsConfig().sketch_size
    assert size == 256
    assert standard_error(size, 1.0) == pytest.approx(0.1252, abs=5e-5)
    assert standard_error(size, 0.01) == pytest.approx(0.0137, abs=5e-5)
    assert "12.5 % at k = 256 and C = 1, 1.4 % at C = 0.01" in text


def concentration(layers, row):
    """C of train/moments/sketch.py, from the scores themselves."""
    found = [score[row] for score in scores_of(layers)]
    total = sum(float(s.square().sum()) for s in found)
    return sum(float((s @ s.T).square().sum()) for s in found) / total**2


def test_an_entry_per_row_and_equal_columns():
    found = CountSketch.drawn(50, 8, np.random.default_rng(0))
    matrix = found.matrix(0, 50, torch.device("cpu"))
    assert (matrix != 0).sum(dim=1).tolist() == [1] * 50
    assert set(matrix[matrix != 0].tolist()) == {1.0, -1.0}
    assert int((matrix != 0).sum(dim=0).max()) == 7  # ceil(50 / 8)
    torch.testing.assert_close(found.matrix(10, 20, torch.device("cpu")), matrix[10:20])


def test_a_narrow_layer_loses_nothing():
    layers = layers_of(widths=((9, 12),))
    (score,) = scores_of(layers)
    z = sketched(layers, 12, seed=1)
    exact = score.flatten(1) @ score.flatten(1).T
    torch.testing.assert_close(z @ z.T, exact, rtol=1e-5, atol=1e-4)


def test_products_are_unbiased_over_sketches():
    layers = layers_of()
    flat = torch.cat([score.flatten(1) for score in scores_of(layers)], dim=1)
    exact = (flat @ flat.T).numpy()
    found = np.stack([(z @ z.T).numpy() for z in (sketched(layers, 8, s) for s in range(DRAWS))])
    band = 4 * found.std(axis=0) / np.sqrt(DRAWS)
    assert (abs(found.mean(axis=0) - exact) < band).all()


@pytest.mark.parametrize("fault", ["no signs", "one sketch for all layers"])
def test_a_biased_sketch_would_be_seen(fault, monkeypatch):
    # negative controls: entries of a column add up instead of cancelling; layers that share their
    # projection have products with each other. Layers of equal, positive factors show both.
    layers = layers_of(widths=((40, 30), (40, 30)))
    layers = [LayerFactors(x.inputs_R_T_a.abs(), x.errors_R_T_o.abs()) for x in layers]
    flat = torch.cat([score.flatten(1) for score in scores_of(layers)], dim=1)
    exact = (flat @ flat.T).numpy()
    if fault == "no signs":
        plain = CountSketch.drawn

        def unsigned(width, size, generator):
            drawn = plain(width, size, generator)
            return CountSketch(drawn.column_D, torch.ones(width), size)

        monkeypatch.setattr(CountSketch, "drawn", unsigned)
        found = [sketched(layers, 8, s) for s in range(200)]
    else:
        found = [
            sum(score_sketch(x, 8, np.random.default_rng(s)).flatten(1).double() for x in layers)
            for s in range(200)
        ]
    products = np.stack([(z @ z.T).numpy() for z in found])
    band = 4 * products.std(axis=0) / np.sqrt(200)
    assert (abs(products.mean(axis=0) - exact) > band).all()
    # and the right one passes on the same layers
    monkeypatch.undo()
    products = np.stack([(z @ z.T).numpy() for z in (sketched(layers, 8, s) for s in range(200))])
    assert (abs(products.mean(axis=0) - exact) < 4 * products.std(axis=0) / np.sqrt(200)).all()


def exact_variance(score, size):
    """Relative variance of |X^T S Y|^2, by the moments of a balanced CountSketch.

    E[(XX^T)_pq (XX^T)_rs] is [p=q][r=s] + c ([p=r][q=s] + [p=s][q=r]) for p != q, where c is the chance
    of two rows to share a column; expanding the square gives four sums over the entries of S.
    """
    width, inputs = score.shape

    def chance(rows):
        per_column = -(-rows // size)
        return (per_column - 1) / (per_column * size - 1)

    c_u, c_v = chance(width), chance(inputs)
    total = float(score.square().sum())
    in_gram, out_gram = score.T @ score, score @ score.T

    def off(gram):
        return float(gram.square().sum() - gram.diagonal().square().sum())

    square = score.square()
    pairs = float(
        square.sum() ** 2
        - square.sum(0).square().sum()
        - square.sum(1).square().sum()
        + square.square().sum()
    )  # sum over p != q, i != j of S_pi^2 S_qj^2
    crossed = float(
        out_gram.square().sum()
        - (square @ square.T).sum()
        - (square.T @ square).sum()
        + square.square().sum()
    )  # of S_pi S_qj S_pj S_qi
    variance = 2 * c_v * off(in_gram) + 2 * c_u * off(out_gram) + 2 * c_u * c_v * (pairs + crossed)
    return variance / total**2


@pytest.mark.parametrize("tokens", [1, 12])
def test_variance_is_the_stated_one(tokens):
    layers = layers_of(tokens=tokens, widths=((64, 48),))
    (score,) = scores_of(layers)
    size = 8
    for row in range(2):
        total = float(score[row].square().sum())
        found = [
            float(z[row].square().sum()) / total
            for z in (sketched(layers, size, s) for s in range(DRAWS))
        ]
        expected = exact_variance(score[row], size)
        # a sample variance has relative error sqrt((kurtosis - 1) / n), about 0.06 here
        kurtosis = np.mean((np.array(found) - 1) ** 4) / np.var(found) ** 2
        band = 4 * np.sqrt((kurtosis - 1) / DRAWS)
        assert np.var(found) == pytest.approx(expected, rel=band)
        bound = standard_error(size, concentration(layers, row)) ** 2
        assert expected <= bound
        assert expected > 0.7 * bound, "the bound is no loose one"


def test_variance_of_several_layers_stays_below_the_bound():
    layers = layers_of(widths=((40, 30), (20, 50), (64, 16), (33, 33)))
    flat = torch.cat([score.flatten(1) for score in scores_of(layers)], dim=1)
    total = float(flat[0].square().sum())
    found = [
        float(z[0].square().sum()) / total for z in (sketched(layers, 6, s) for s in range(DRAWS))
    ]
    bound = standard_error(6, concentration(layers, 0)) ** 2
    band = 4 * np.sqrt((np.mean((np.array(found) - 1) ** 4) / np.var(found) ** 2 - 1) / DRAWS)
    assert np.var(found) < bound * (1 + band)
    assert np.var(found) > 0.5 * bound


def test_moments_are_unbiased_over_sketches_but_for_the_norms():
    layers = layers_of(rows=6, tokens=2)
    flat = torch.cat([score.flatten(1) for score in scores_of(layers)], dim=1)
    is_right = np.array([[True, True, False, False, True, False]])
    exact = group_moments((flat @ flat.T).numpy()[None], is_right)
    found = []
    for seed in range(DRAWS):
        z = sketched(layers, 10, seed)
        found.append(group_moments((z @ z.T).numpy()[None], is_right))

    def mean_and_error(name):
        values = np.array([getattr(moments, name)[0] for moments in found])
        return values.mean(), values.std() / np.sqrt(DRAWS)

    for name in ("sq_norm_correct", "sq_norm_wrong", "unbiased", "plug_in"):
        mean, error = mean_and_error(name)
        assert abs(mean - getattr(exact, name)[0]) < 4 * error, name
    # a mean of roots is too small, by about an eighth of the relative variance, whose bound is known
    for name, kind in (("norm_correct", [0, 1, 4]), ("norm_wrong", [2, 3, 5])):
        mean, error = mean_and_error(name)
        wanted = getattr(exact, name)[0]
        largest = max(standard_error(10, concentration(layers, row)) ** 2 for row in kind)
        assert mean < wanted - 4 * error / 2, "else the bias could not be seen"
        assert mean > wanted * (1 - 1.5 * largest / 8) - 4 * error


@pytest.mark.parametrize(
    ("kind", "chosen", "names"),
    [
        ("qwen2", "head", ["lm_head.weight"]),
        ("qwen2-tied", "head", ["model.embed_tokens.weight"]),
        ("gpt2", "last-block", None),
    ],
)
def test_groups_that_are_too_large_are_sketched(kind, chosen, names):
    # k = 64 is as wide as every layer of these models: nothing is lost, except between layers
    model = model_of(kind)
    prompts, rollouts = random_rollouts()
    names = names or [n for n, _ in model.named_parameters() if ".h.1." in n and ".ln_" not in n]
    scores = scores_by_autograd(model, prompts, rollouts, policy_of(model).decoding, names)
    found = [
        gradient_moments(
            policy_of(model),
            prompts,
            rollouts,
            GROUP_B,
            MomentsConfig(parameters=chosen, exact_entries=0, sketch_size=64),
            pass_tokens=30,
            seed=seed,
        )
        for seed in range(1 if len(names) == 1 else 100)
    ]
    for b, group in enumerate(GROUP_B):
        expected = expected_moments(scores, rollouts, group)
        for name, wanted in (
            ("sq_norm_correct", expected.sq_norm_correct),
            ("sq_norm_wrong", expected.sq_norm_wrong),
            ("sq_norm_difference", expected.unbiased),
        ):
            values = np.array([getattr(moments, name)[b] for moments in found])
            if len(names) == 1:
                assert values[0] == pytest.approx(wanted, rel=1e-4, nan_ok=True), (group, name)
            elif not np.isnan(wanted):
                band = 4 * values.std() / np.sqrt(len(values))
                assert 0 < band < 0.05 * abs(wanted) + 0.05 * expected.sq_norm_correct
                assert abs(values.mean() - wanted) < band, (group, name)
            else:
                assert np.isnan(values).all()


def test_only_what_exceeds_the_budget_is_sketched(monkeypatch):
    sketches = []
    plain = module.score_sketch

    def counted(factors, size, generator):
        sketches.append(len(factors.inputs_R_T_a))
        return plain(factors, size, generator)

    monkeypatch.setattr("train.gradient_moments.score_sketch", counted)
    prompts, rollouts = random_rollouts()
    group_R, length_R = rollouts.group_R.numpy(), rollouts.length_R.numpy()
    # a group keeps a hidden state of 16 numbers per rollout and token of its longest completion
    kept = {g: (group_R == g).sum() * length_R[group_R == g].max() * 16 for g in set(group_R)}
    assert len(set(kept.values())) > 2, "else there was nothing to tell apart"
    for entries in (0, *kept.values(), *(k - 1 for k in kept.values())):
        sketches.clear()
        gradient_moments(
            policy_of(model_of("qwen2")),
            prompts,
            rollouts,
            GROUP_B,
            MomentsConfig(exact_entries=int(entries), sketch_size=8),
            pass_tokens=10**6,
        )
        assert sum(sketches) == sum((group_R == g).sum() for g in kept if kept[g] > entries)


def test_sketches_depend_on_the_seed_alone():
    prompts, rollouts = random_rollouts()
    policy = policy_of(model_of("qwen2"))
    config = MomentsConfig(parameters="last-block", exact_entries=0, sketch_size=8)

    def found(seed, pass_tokens):
        return gradient_moments(
            policy, prompts, rollouts, GROUP_B, config, pass_tokens=pass_tokens, seed=seed
        ).sq_norm_correct

    np.testing.assert_allclose(found(1, 30), found(1, 10**6), rtol=1e-4)
    assert not np.allclose(found(1, 30), found(2, 30), rtol=1e-2)
