"""Which success rates a setting meets, and how far runs of one population are from each other."""

from __future__ import annotations

import numpy as np
import pytest

from sim.settings import Settings
from sim.tuning.exposure import EDGES, LEAST_LIMIT, PHASE_END, RunExposure, exposure, kept_exposure
from sim.tuning.setting import Setting

DEAD = Settings(
    arms=("uniform",), population="dead", policy="item_response", pool=400, held_out=20,
    rollouts=8000, batch_size=25,
)  # fmt: skip


def test_uniform_meets_the_law_of_the_population():
    found = exposure(DEAD, Setting("uniform", 8, {}), range(4))
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


def test_learning_moves_the_success_rates_that_are_met():
    # what is learnable is learned: in the last phase fewer groups lie in the middle than in the first
    law = Settings(**{**{f: getattr(DEAD, f) for f in ("arms", "pool", "held_out", "batch_size")},
                      "population": "uniform", "policy": "item_response", "rollouts": 24_000,
                      "learning_rate": 0.02})  # fmt: skip
    found = exposure(law, Setting("uniform", 8, {}), range(2))
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


def test_a_second_start_reads_what_the_first_one_found(tmp_path):
    setting, path = Setting("uniform", 8, {}), tmp_path / "exposure.json"
    first = kept_exposure(path, DEAD, setting, range(2), jobs=1)
    assert kept_exposure(path, None, setting, range(2), jobs=1) == first  # no protocol, no run
    other = kept_exposure(path, DEAD, Setting("uniform", 4, {}), range(2), jobs=1)
    assert other != first
