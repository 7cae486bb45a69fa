"""Which success rates a setting meets, and how far runs of one population are from each other."""

from __future__ import annotations

import numpy as np
import pytest

from sim.settings import Settings
from sim.tuning import exposure as module
from sim.tuning.exposure import EDGES, LEAST_LIMIT, PHASE_END, RunExposure, exposure
from sim.tuning.setting import Setting

DEAD = Settings(
    arms=("uniform",), population="dead", policy="item_response", pool=400, held_out=20,
    rollouts=8000, batch_size=25,
)  # fmt: skip


def test_uniform_meets_the_law_of_the_population(tmp_path):
    found = exposure(DEAD, Setting("uniform", 8, {}), range(4), tmp_path)
    assert found["phase_end"] == list(PHASE_END)
    assert found["success_rate"][0] == 0.0
    assert found["success_rate"][-1] == 1.0
    fresh = [m for m in found["met"] if m["is_fresh"]]
    # 400 prompts x 8 rollouts: first visits fill the phases up to 3200 of 8000 rollouts; 0.35 of
    # them end at 2800, so the fourth phase has the last 50 prompts of each seed
    assert [(m["phase"], m["octave"], m["groups"]) for m in fresh] == [
        (0, 3, 200), (1, 3, 400), (2, 3, 800), (3, 3, 200),
    ]  # fmt: skip
    # the law: 60 % never, 25 % always. All 400 prompts of a seed are visited once, hence exactly
    groups = np.array([m["groups"] for m in fresh])
    for point, share in ((0, 0.60), (-1, 0.25)):
        assert groups @ [m["weight"][point] for m in fresh] / 1600 == pytest.approx(share, abs=1e-6)
    for m in found["met"]:
        assert sum(m["weight"]) == pytest.approx(1.0, abs=1e-6)
    assert all(limit >= LEAST_LIMIT for limit in found["limit"])


def test_learning_moves_the_success_rates_that_are_met(tmp_path):
    # what is learnable is learned: in the last phase fewer groups lie in the middle than in the first
    law = Settings(**{**{f: getattr(DEAD, f) for f in ("arms", "pool", "held_out", "batch_size")},
                      "population": "uniform", "policy": "item_response", "rollouts": 24_000,
                      "learning_rate": 0.02})  # fmt: skip
    found = exposure(law, Setting("uniform", 8, {}), range(2), tmp_path)
    support = np.array(found["success_rate"])
    mean = {(m["phase"], m["is_fresh"]): float(support @ m["weight"]) for m in found["met"]}
    assert mean[4, False] > mean[0, True] + 0.1


def test_bins_have_atoms_at_the_ends():
    run = RunExposure()
    row = {"prompt": 0, "success": 0, "trial": 4}
    for rate in (0.0, 1e-9, 0.5, 1.0 - 1e-9, 1.0):
        run.add((0, True, 2), row, rate)
    groups_K, rate_K = run.totals[0, True, 2]
    middle = int(np.searchsorted(EDGES, 0.5, side="right")) + 1
    assert np.flatnonzero(groups_K).tolist() == [0, 1, middle, EDGES.size + 1, EDGES.size + 2]
    assert rate_K.sum() == pytest.approx(2.5)


def test_a_second_start_does_only_the_runs_that_are_missing(tmp_path, monkeypatch):
    setting, told, asked, run = Setting("uniform", 8, {}), [], [], module.run_exposure
    monkeypatch.setattr(
        module, "run_exposure", lambda s, arm, index: asked.append(index) or run(s, arm, index)
    )
    exposure(DEAD, setting, range(2), tmp_path)  # as if killed after two of three
    resumed = exposure(DEAD, setting, range(3), tmp_path, on_run=lambda: told.append(1))
    assert asked == [0, 1, 2]
    assert len(told) == 3
    assert resumed == exposure(DEAD, setting, range(3), tmp_path / "other")  # in one go
    assert exposure(DEAD, Setting("uniform", 4, {}), range(3), tmp_path) != resumed


def test_every_run_is_held_against_the_others_alone():
    always, never = RunExposure(), RunExposure()
    for run, rate in ((always, 1.0), (never, 0.0)):
        for prompt in range(100):
            run.add((0, True, 2), {"prompt": prompt, "success": int(4 * rate), "trial": 4}, rate)
    limit = module._limits([always, never], 0)
    # either is impossible under the other but for the uniform share of 1e-3, a fifth of it each:
    # -log 0.0002 = 8.52 nats; held against both together, either costs log 2 = 0.69
    assert limit[0] > 8.5
    assert limit[1:] == [None] * 4


def test_limits_are_ends_of_students_prediction_interval(monkeypatch):
    column = iter([0.1, 0.2, 0.3, 0.4])
    monkeypatch.setattr(
        module, "_excesses", lambda run, others, seed: [next(column), -0.01, np.nan]
    )
    limits = module._limits([RunExposure() for _ in range(4)], 0)
    # mean 0.25, variance 1/60; t(3) at 0.999 is 10.2145 (scipy.stats.t.ppf), times sqrt(1 + 1/4)
    assert limits[0] == pytest.approx(0.25 + 10.2145 * np.sqrt(1.25 / 60), rel=1e-4)
    assert limits[1:] == [LEAST_LIMIT, None]  # below zero everywhere; nowhere
