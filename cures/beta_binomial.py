"""What a Beta law predicts of a group: the beta-binomial law of right and wrong answers in order."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.special import betaln

from cures.checks import FloatArray, IntArray


def log_beta_binomial(
    success_B: IntArray, trial_B: IntArray, alpha_B: Any, beta_B: Any
) -> FloatArray:
    """Logarithm of the chance of a sequence with so many right answers, rate ~ Beta(alpha, beta)."""
    return np.asarray(
        betaln(alpha_B + success_B, beta_B + (trial_B - success_B)) - betaln(alpha_B, beta_B)
    )
