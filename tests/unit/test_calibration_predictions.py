"""How predictions are held against real runs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy.special import betaln
from scipy.special import comb as choose
from scipy.stats import kendalltau

from figures import calibration_predictions as module
from figures.calibration_predictions import (
    COVER,
    MEASURES,
    Prediction,
    _kendall,
    ranking,
    replay,
)
from figures.calibration_runs import Size
from figures.calibration_study import draw, write_page


def row(prompt, success, trial):
    return {"prompt": prompt, "step": 0, "success": success, "trial": trial, "is_pilot": False}


def test_replay_by_hand():
    # prompt 1: 3 of 4, then 1 of 2: counts Beta(4, 2), mean 2/3; prompt 2 is seen once: left out
    result = replay([row(1, 3, 4), row(2, 1, 1), row(1, 1, 2)])
    assert result["log_loss"] == pytest.approx(-(np.log(2 / 3) + np.log(1 / 3)) / 2)
    # beta-binomial chances of 0, 1, 2 by its definition
    chance = [choose(2, s) * np.exp(betaln(4 + s, 4 - s) - betaln(4, 2)) for s in range(3)]
    below, tail = chance[0], (1 - COVER) / 2
    inside = min(below + chance[1], 1 - tail) - max(below, tail)
    assert result["coverage"] == pytest.approx(inside / chance[1])


def test_coverage_is_nominal_for_a_posterior_that_is_right_and_not_for_a_moving_policy():
    generator = np.random.default_rng(0)
    size, still, moved = 4000, [], []
    rate = generator.random(size)  # the prior of the replay
    other = generator.random(size)
    for i in range(size):
        first = row(i, int(generator.binomial(8, rate[i])), 8)
        still += [first, row(i, int(generator.binomial(8, rate[i])), 8)]
        moved += [first, row(i, int(generator.binomial(8, other[i])), 8)]
    band = 4.0 * np.sqrt(COVER * (1.0 - COVER) / size)
    assert abs(replay(still)["coverage"] - COVER) < band
    assert replay(moved)["coverage"] < COVER - band  # the control
    assert replay(moved)["log_loss"] > replay(still)["log_loss"]


def test_waste_of_real_and_simulated_runs_is_counted_alike(monkeypatch):
    # 100 generated: 20 dropped or pilots, 80 trained in two updates, 30 of these with advantage 0
    updates = [{"trained": 60, "wasted": 0.25, "informative": 45},
               {"trained": 20, "wasted": 0.75, "informative": 5},
               {"trained": 0, "wasted": None, "informative": 0}]  # fmt: skip
    real = {
        "metrics": updates, "outcomes": [], "summary": {"generated": 100},
        "evaluation": [{"generated": g, "held_out": h} for g, h in ((0, 0.2), (100, 0.4))],
    }  # fmt: skip
    simulated = {"trained": 80, "zero_advantage": 30, "generated": 100}
    curve = {"grid_E": np.array([0.0, 100.0]), "held_out_E": np.array([0.2, 0.4])}
    for name, content in (("read_run", real), ("read_json", simulated), ("load_state", curve),
                          ("read_jsonl", [])):  # fmt: skip
        monkeypatch.setattr(module, name, lambda path, content=content: content)
    for row in (module._real(Path("x")), module._simulated(Path("x"))):
        assert row["wasted"] == pytest.approx(30 / 80)
        assert row["unused"] == pytest.approx(0.5)
        assert (row["half"], row["final"], row["early"]) == pytest.approx((0.3, 0.4, 0.5))


def test_no_prompt_met_twice_is_not_a_number():
    assert np.isnan(replay([row(1, 1, 2), row(2, 1, 2)])["log_loss"])


def test_ranking_counts_pairs_and_its_interval_follows_the_noise():
    # order 1 2 3 4 against 1 2 4 3: five pairs agree, one does not: tau = 4/6
    simulated = np.array([[1.0], [2.0], [3.0], [4.0]]) + np.array([[-0.001, 0.001]])
    real = np.array([[1.0], [2.0], [4.0], [3.0]]) + np.array([[-0.001, 0.001]])
    assert ranking(simulated, real) == pytest.approx((4 / 6, 4 / 6, 4 / 6))
    noisy = real + 5.0 * np.array([[-1.0, 1.0]])
    tau, low, high = ranking(simulated, noisy)
    assert tau == pytest.approx(4 / 6)
    assert low < 0.0 < high  # the noise could have reversed anything


def test_ties_by_rule_stay_ties():
    simulated = np.array([[0.0, 0.0], [0.0, 0.0], [0.3, 0.32], [0.5, 0.52]])
    assert ranking(simulated, simulated) == pytest.approx((1.0, 1.0, 1.0))


def test_tau_is_scipys():
    generator = np.random.default_rng(0)
    first = generator.integers(0, 4, (20, 6)).astype(float)  # with ties
    second = generator.integers(0, 4, (20, 6)).astype(float)
    expected = [kendalltau(a, b).statistic for a, b in zip(first, second, strict=True)]
    assert _kendall(first, second) == pytest.approx(expected)


def test_the_page_shows_what_was_read_and_the_picture_every_arm():
    size = Size(("uniform", "cures", "dapo"), seeds=2, simulated_seeds=2, rollouts=1000)
    real = np.array([[0.50, 0.52], [0.40, 0.42], [0.30, 0.32]])
    predictions = {key: Prediction(real + 0.1, real[::-1], real) for key in MEASURES}
    predictions["coverage"] = Prediction(*(np.full((3, 2), np.nan) for _ in range(3)))
    predictions["coverage"].real_A_S[1] = predictions["coverage"].simulated_A_S[1] = 0.9
    predictions["coverage"].control_A_S[1] = 0.7
    estimate = {"value": 0.5, "low": 0.4, "high": 0.6}
    calibration = {
        "pilots": {"prompts": 100, "rollouts": 400},
        "quantities": {
            "mean": {
                "meaning": "mean success rate", "simulated": 0.3,
                "compatible": [0.2, 0.4], "bootstrap": [0.25, 0.35],
            }
        },
        "dynamics": {"drift_sd": estimate, "transfer": None, "reach": None},
        "population": {"drift_sd": 0.5, "transfer": None, "learning_rate": 0.01},
    }  # fmt: skip
    page = write_page(size, predictions, calibration, "Command: x.", Path("runs/x"))
    assert "| mean success rate | 0.300 | [0.200, 0.400] | [0.250, 0.350] |" in page
    assert "| cures | 0.510 / 0.410 |" in page
    assert "0.900 / 0.900 |" in page
    assert "– / – |" in page
    assert "| mean absolute error, calibrated | 0.100 |" in page
    # the same order, and the reversed one, with gaps of 0.1 far above the noise
    assert "| held-out success at the end | +1.00 [+1.00, +1.00] | -1.00 [-1.00, -1.00] |" in page
    figure = draw(size.labels, predictions)
    assert [text.get_text() for text in figure.legends[0].get_texts()] == list(size.labels)
