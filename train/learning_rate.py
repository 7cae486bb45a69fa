"""Share of the run that is done -> learning rate."""

from __future__ import annotations

import math

from train.config import LearnerConfig


def learning_rate(config: LearnerConfig, progress: float) -> float:
    """Learning rate when ``progress`` of the rollouts are generated.

    It rises linearly from 0 over the first ``warmup_share``, then follows ``schedule`` down to
    ``final_lr_share`` of ``learning_rate``.

    Parameters
    ----------
    config : LearnerConfig
    progress : float
        Rollouts generated over rollouts of the run; what is beyond 1 counts as 1.
    """
    progress = min(progress, 1.0)
    warmup, low = config.warmup_share, config.final_lr_share
    rise = 1.0 if warmup == 0.0 else min(progress / warmup, 1.0)
    after = 0.0 if warmup == 1.0 else max(progress - warmup, 0.0) / (1.0 - warmup)
    shares = {
        "constant": 1.0,
        "linear": 1.0 - (1.0 - low) * after,
        "cosine": low + (1.0 - low) * 0.5 * (1.0 + math.cos(math.pi * after)),
    }
    return config.learning_rate * rise * shares[config.schedule]
