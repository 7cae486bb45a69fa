"""The learning rates that the optimisers of the warm start really step with."""

from __future__ import annotations

from collections import defaultdict

import pytest
from torch.optim.optimizer import register_optimizer_step_pre_hook

from tests.train_cases import small_config
from train.building import fix_numerics
from train.tasks.making import make_task
from train.warm_start import warm_start


def test_both_rates_fall_linearly_towards_a_tenth(tmp_path):
    config = small_config(
        warm_start={"steps": 6, "batch_size": 8, "adamw_lr": 1e-3, "muon_lr": 4e-3},
        run={"cache": str(tmp_path)},
    )
    rates = defaultdict(list)

    def record(optimizer, arguments, keywords):
        rates[type(optimizer).__name__] += [g["lr"] for g in optimizer.param_groups]

    fix_numerics(config)
    hook = register_optimizer_step_pre_hook(record)
    try:
        warm_start(config, make_task(config))
    finally:
        hook.remove()
    # 1 - 0.9 k / 6 at k = 0, 1, ... 5 steps done: the tenth itself would be reached at k = 6
    shares = [1.0, 0.85, 0.7, 0.55, 0.4, 0.25]
    assert rates["AdamW"] == pytest.approx([1e-3 * share for share in shares])
    assert rates["Muon"] == pytest.approx([4e-3 * share for share in shares])
    assert set(rates) == {"AdamW", "Muon"}
