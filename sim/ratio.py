"""A quotient that may have nothing below: NaN then, which means "not measured"."""

from __future__ import annotations

import numpy as np

from cures.checks import FloatArray, IntArray


def ratio(above: FloatArray | IntArray, below: FloatArray | IntArray) -> FloatArray:
    """``above / below``, NaN where ``below`` is not above 0; both of one shape.

    Examples
    --------
    >>> ratio(np.array([1.0, 0.0]), np.array([4, 0]))
    array([0.25,  nan])
    """
    result = np.full(above.shape, np.nan)
    np.divide(above, below, out=result, where=below > 0)
    return result
