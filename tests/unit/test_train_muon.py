"""Muon against torch's own, whose cast to bfloat16 is undone, and against singular values."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from train.muon import COEFFICIENTS, Muon, orthogonalised

SHAPES = ((6, 4), (4, 9), (5, 5))


def updated(optimizer_of, steps=5):
    """Matrices after some updates by the same gradients."""
    generator = torch.Generator().manual_seed(0)

    def drawn(shape):
        return torch.randn(shape, generator=generator)

    weights = [drawn(shape).requires_grad_() for shape in SHAPES]
    optimizer = optimizer_of(weights)
    for _ in range(steps):
        for weight in weights:
            weight.grad = drawn(weight.shape)
        optimizer.step()
    return weights


def largest_difference(one, other):
    return max((a - b).abs().max().item() for a, b in zip(one, other, strict=True))


def torchs(weights):
    return torch.optim.Muon(weights, lr=0.02, weight_decay=0.0)


def ours(weights):
    return Muon(weights, lr=0.02)


def test_updates_are_those_of_torch_without_its_cast_to_bfloat16(monkeypatch):
    assert largest_difference(updated(ours), updated(ours, steps=4)) > 0.01
    # the control: with the cast it shows. Above, a round number: in each of five updates of 0.02 ten
    # roundings of bfloat16, 2^-9 each
    rounded = largest_difference(updated(ours), updated(torchs))
    assert 1e-5 < rounded < 5 * 0.02 * 2.0**-9 * 10
    monkeypatch.setattr(torch.Tensor, "bfloat16", lambda self: self.float())
    assert largest_difference(updated(ours), updated(torchs)) <= 1e-7


def _reached_from(x):
    a, b, c = COEFFICIENTS
    for _ in range(5):
        x = a * x + b * x**3 + c * x**5
    return x.min(), x.max()


@pytest.mark.parametrize("shape", SHAPES)
def test_singular_vectors_stay_and_singular_values_come_near_one(shape):
    matrix = torch.randn(shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    left, _, right = torch.linalg.svd(matrix, full_matrices=False)
    inside = left.T @ orthogonalised(matrix) @ right.T
    value = inside.diagonal()
    assert (inside - torch.diag(value)).abs().max() < 1e-12
    # the iteration on one number: five times a x + b x^3 + c x^5, from what is not tiny
    low, high = _reached_from(np.linspace(0.01, 1.0, 10_000))
    assert 0.6 < low < high < 1.3
    assert low <= value.min() <= value.max() <= high
    assert (left.T @ matrix @ right.T).diagonal().max() > 2.0  # they were not so before


def test_a_zero_gradient_moves_nothing_and_vectors_are_refused():
    weight = torch.ones(3, 2, requires_grad=True)
    optimizer = Muon([weight], lr=0.1)
    optimizer.step()  # without a gradient
    weight.grad = torch.zeros(3, 2)
    optimizer.step()
    assert torch.equal(weight, torch.ones(3, 2))
    with pytest.raises(ValueError, match=r"must be matrices, got shape \(3,\)"):
        Muon([torch.ones(3)], lr=0.1)
