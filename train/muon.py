"""Muon, with its matrix products in the precision of the weights.

``torch.optim.Muon`` orthogonalises in bfloat16. A processor without such instructions takes many times
as long for that.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import Tensor

COEFFICIENTS = (3.4445, -4.7750, 2.0315)  # of Jordan's quintic, steepest at 0
STEPS = 5
MOMENTUM = 0.95
EPS = 1e-7


class Muon(torch.optim.Optimizer):
    r"""Nesterov momentum, orthogonalised; steps as large for tall matrices as in Jordan's code.

    .. math:: W \leftarrow W - \eta \sqrt{\max(1, m / n)} \; \mathrm{orthogonalised}(g + \mu (b - g))

    with :math:`b \leftarrow \mu b + (1 - \mu) g`; the update of ``torch.optim.Muon`` without weight
    decay.

    Parameters
    ----------
    parameters : iterable of Tensor, shape (m, n) each
    lr : float
        Before that factor.

    Raises
    ------
    ValueError
        If a parameter is no matrix.
    """

    def __init__(self, parameters: Iterable[Tensor], lr: float) -> None:
        super().__init__(parameters, {"lr": lr})
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.ndim != 2:
                    shape = tuple(parameter.shape)
                    raise ValueError(f"Muon: parameters must be matrices, got shape {shape}")

    @torch.no_grad()
    def step(self) -> None:  # type: ignore[override]
        """One update; matrices without a gradient stay."""
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is None:
                    continue
                state = self.state[parameter]
                if not state:
                    state["momentum"] = torch.zeros_like(parameter)
                momentum = state["momentum"].lerp_(parameter.grad, 1.0 - MOMENTUM)
                direction = orthogonalised(parameter.grad.lerp(momentum, MOMENTUM))
                rows, columns = parameter.shape
                scale = math.sqrt(max(1.0, rows / columns))
                parameter.add_(direction, alpha=-group["lr"] * scale)


def orthogonalised(matrix: Tensor) -> Tensor:
    """Nearly ``U V^T`` of a matrix ``U S V^T``: singular values between about 0.7 and 1.2.

    Five Newton-Schulz steps; singular values below a hundredth of the Frobenius norm come out smaller.

    Examples
    --------
    >>> torch.linalg.svdvals(orthogonalised(torch.diag(torch.tensor([3.0, 2.0, 1.0])))).round(decimals=1)
    tensor([1.1000, 0.7000, 0.7000])
    """
    a, b, c = COEFFICIENTS
    is_tall = matrix.shape[0] > matrix.shape[1]
    x = matrix.T if is_tall else matrix
    x = x / x.norm().clamp(min=EPS)  # Frobenius: no singular value above 1
    for _ in range(STEPS):
        gram = x @ x.T
        x = torch.addmm(x, torch.addmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x.T if is_tall else x
