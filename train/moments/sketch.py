r"""Inner products of scores from small random projections of them.

A layer's score :math:`S = \sum_t u_t v_t^\top` is projected on both sides,
:math:`Z = X^\top S Y = \sum_t (X^\top u_t)(Y^\top v_t)^\top`, a k x k matrix, without S ever being made;
projections of several layers are independent and added up. X and Y have one entry :math:`\pm1` in each
row (CountSketch, :cite: Charikar, Chen and Farach-Colton 2002), with as many rows for each of the k
columns as possible. Signs are independent, so :math:`E[X X^\top] = I`, and for any two scores

.. math:: E\langle Z, Z' \rangle = \langle s, s' \rangle :

whatever is linear in inner products (squared norms, the unbiased squared difference of means) stays
unbiased. The relative variance of a squared norm is at most

.. math:: \Bigl(\frac4k + \frac2{k^2}\Bigr) C + \frac2{k^2}, \qquad
          C = \frac{\sum_l \|S_l S_l^\top\|_F^2}{|s|^4} \le 1 ,

where C, the concentration, is 1 for a single token and a single layer, and about 1/T for T tokens
whose inputs and errors have nothing in common. A layer that is no wider than k is projected without
loss on that side. A *norm* is a root and comes out too small, to first order by an eighth of that
relative variance: 0.2 % at k = 256 and C = 1.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from train.moments import factors as bounds
from train.moments.factors import Factors


@dataclass(frozen=True, slots=True, eq=False)
class CountSketch:
    """A matrix with one entry +1 or -1 in each row.

    Attributes
    ----------
    column_D : Tensor of int64
        In [0, size); columns of equal numbers of rows, or one fewer.
    sign_D : Tensor of float32
    size : int
        Number of columns k.
    """

    column_D: Tensor
    sign_D: Tensor
    size: int

    @classmethod
    def drawn(cls, width: int, size: int, generator: np.random.Generator) -> CountSketch:
        """A random one for vectors of ``width`` entries."""
        rows = -(-width // size)
        place_D = generator.permutation(rows * size)[:width]
        sign_D = generator.choice(np.array([-1.0, 1.0], dtype=np.float32), size=width)
        return cls(torch.from_numpy(place_D % size), torch.from_numpy(sign_D), size)

    def matrix(self, first: int, last: int, device: torch.device) -> Tensor:
        """Its rows ``first`` to ``last``, dense, shape (last - first, size)."""
        dense = torch.zeros(last - first, self.size)
        dense[torch.arange(last - first), self.column_D[first:last]] = self.sign_D[first:last]
        return dense.to(device)


def score_sketch(factors: Factors, size: int, generator: np.random.Generator) -> Tensor:
    """Projected scores of one layer.

    Parameters
    ----------
    factors : Factors
    size : int
        k >= 1.
    generator : numpy.random.Generator
        Equal for all rollouts whose products are wanted, independent for other layers.

    Returns
    -------
    Tensor of float32, shape (R, k, k)
        On the CPU.
    """
    inputs = factors.inputs_R_T_a
    rows, length, width = inputs.shape
    of_errors = CountSketch.drawn(factors.error_width, size, generator)
    of_inputs = CountSketch.drawn(width, size, generator)
    columns = max(1, bounds.MAX_ENTRIES // max(rows * length, size))
    errors = torch.zeros(rows, length, size, device=inputs.device)
    first = 0
    for block in factors.errors(columns):
        last = first + block.shape[2]
        errors += block @ of_errors.matrix(first, last, inputs.device)
        first = last
    return (errors.mT @ (inputs @ of_inputs.matrix(0, width, inputs.device))).cpu()
