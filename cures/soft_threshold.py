r"""What cannot teach is avoided, what may teach is visited alike: a threshold with soft edges.

.. math:: h(m) = \frac{m^k}{m^k + c^k}

of the chance m that a visit teaches. In proportion to m itself, prompts that nearly always teach would
be preferred to those that often do, and those that hardly ever do be visited far too often.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from cures.checks import FloatArray, as_float, as_float_array

STEEPNESS = 3.0  # k: below the threshold shares fall with the cube of the chance


def soft_threshold(chance: ArrayLike, half: float) -> FloatArray:
    """Share of a visit by the chance that it teaches.

    Parameters
    ----------
    chance : array_like of float, shape (N,)
        In [0, 1].
    half : float
        Chance c at which a prompt has half of the largest share, > 0.

    Returns
    -------
    ndarray of float64, shape (N,)
        In [0, 1], growing with the chance.

    Raises
    ------
    ValueError
        If a parameter lies outside its range.

    Examples
    --------
    >>> soft_threshold([0.03, 0.3, 0.57, 0.99], 0.3).round(3).tolist()
    [0.001, 0.5, 0.873, 0.973]
    """
    where = "soft_threshold"
    chance_N = as_float_array(where, "chance", chance, low=0.0, high=1.0)
    half = as_float(where, "half", half, 0.0, open_low=True)
    with np.errstate(over="ignore", invalid="ignore"):
        risen = (chance_N / half) ** STEEPNESS
        return np.where(np.isinf(risen), 1.0, risen / (1.0 + risen))
