"""When curricula help: predicted and measured ratios of mixed groups, and what they save, by hand."""

from __future__ import annotations

import json
import shutil
from itertools import product

import numpy as np
import pytest

from cures.storage import save_state
from figures import boundary, mixed_groups, page, paper_runs
from figures.sim_folders import read
from sim.optimiser import OptimiserState, ascend
from sim.populations import make_population
from sim.settings import LEARNING_RATES
from sim.watch import COLUMNS

GRID_E = np.linspace(0.0, 100_000.0, 11)
SEEDS, GAIN = 6, 0.32  # of the level above the start: 0.8 of what uniform gains
LAW = {
    "success_rate": [0.2, 0.8], "weight": [0.5, 0.5], "never": 0.2, "always": 0.1, "coin": 0.1,
    "transfer": None,
}  # fmt: skip


def cell(root, name, arms, *, law=LAW):
    """A finished comparison in which ``arms`` rise in a straight line from 0.2 or a little more.

    Parameters
    ----------
    arms : dict of str to (float, float)
        Gain per thousand rollouts (uniform's 0.004 is 0.4 in all), and share of rollouts in mixed
        groups.
    """
    folder = root / name
    folder.mkdir(parents=True)
    settings = {
        "arms": list(arms), "options": {}, "population": "x", "estimator": "grpo",
        "aggregation": "prompt", "optimiser": "sgd", "seeds": SEEDS, "rollouts": 100_000, "pool": 10,
        "batch_size": 4, "group_size": 3, "learning_rate": 2.0, "empirical": law,
    }  # fmt: skip
    (folder / "config.json").write_text(json.dumps(settings))
    rows = {}
    for arm, (rate, share) in arms.items():
        speed = rate / arms["uniform"][0]
        target = {"fraction": 0.8, "gain": GAIN, "ratio": speed, "low": 0.9 * speed, "high": None}
        target["bound"] = "exact" if rate * 100 >= GAIN else "at most"
        rows[arm] = {"targets": [target]}
        for seed in range(SEEDS):
            one = folder / "arms" / f"{arm}-{seed}"
            one.mkdir(parents=True)
            start = 0.2 + 0.01 * seed  # the level is each seed's own
            watch = {f"watch/{column}": np.zeros(GRID_E.size) for column in COLUMNS}
            watch["watch/trained"] = GRID_E
            watch["watch/zero_advantage"] = (1.0 - share) * GRID_E
            curve = {"start": start, "grid_E": GRID_E, "held_out_E": start + rate * GRID_E / 1000}
            save_state(one / "curve.npz", {**curve, **watch})
    (folder / "comparison.json").write_text(json.dumps({"start": 0.2, "arms": rows}))
    return folder


def like(folder, name, **config):
    """The same runs in a folder that says that they had other settings."""
    copy = folder.with_name(name)
    shutil.copytree(folder, copy)
    settings = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps(settings | config))
    return copy


# -- what theory says -------------------------------------------------------------------------------


def test_rates_of_a_pool_are_those_of_the_law():
    # of 10: 2 never, 1 always, 1 coin; the other 6 half and half
    rates = mixed_groups.initial_rates({"empirical": LAW, "pool": 10})
    assert rates.tolist() == [0, 0, 1, 0.5, 0.2, 0.2, 0.2, 0.8, 0.8, 0.8]


def test_rates_are_those_of_a_pool_that_is_built():
    settings = paper_runs.comparisons(paper_runs.FULL)["boundary-adam-coin-1"]()
    rates = mixed_groups.initial_rates(settings.as_json())
    built = make_population(settings.law, num_pool=settings.pool, num_held_out=1, seed=3)
    found = built.success_rate(built.theta_D, np.arange(settings.pool))
    assert rates.size == found.size
    for value in (0.0, 1.0):
        assert (rates == value).sum() == (found == value).sum()
    # coins, exactly 200 of them, are the only ones at 1/2: the law's support is (k + 1/2) / 50
    assert (rates == 0.5).sum() == (found == 0.5).sum() == 200
    # 200 learnable ones, evenly spread: the mean of those drawn has a standard error of 0.29 / sqrt(200)
    is_learnable = ~np.isin(rates, (0.0, 0.5, 1.0))
    assert is_learnable.sum() == built.is_learnable_N.sum() == 200
    assert rates[is_learnable].mean() == pytest.approx(0.5, abs=1e-12)
    assert abs(found[built.is_learnable_N].mean() - 0.5) < 4 * 0.0205


def test_share_of_mixed_groups_by_enumeration():
    rate_N = np.array([0.0, 0.3, 0.9, 1.0])

    def mixed(p):  # all outcomes of three rollouts
        return sum(
            np.prod([p if right else 1 - p for right in outcome])
            for outcome in product((0, 1), repeat=3)
            if 0 < sum(outcome) < 3
        )

    chance = np.array([mixed(p) for p in rate_N])
    share = chance**3 / (chance**3 + 0.3**3)
    uniform, weighted = mixed_groups.mixed_shares(rate_N, 3, 1)
    assert uniform == pytest.approx(chance.mean(), rel=1e-12)
    assert weighted == pytest.approx((share * chance).sum() / share.sum(), rel=1e-12)
    # R is 1 plus the covariance of chances and shares, in multiples of their means
    covariance = np.cov(share / share.mean(), chance / chance.mean(), ddof=0)[0, 1]
    assert weighted / uniform == pytest.approx(1 + covariance, rel=1e-12)
    # a batch of three: both prompts that can teach are in it, and one that cannot
    assert mixed_groups.mixed_shares(rate_N, 3, 3)[1] == pytest.approx(chance.sum() / 3, rel=1e-12)


@pytest.mark.parametrize(
    ("optimiser", "noise", "power"),
    [("sgd", 30.0, 1.0), ("adam", 30.0, 0.5), ("normalised", 30.0, 0.5), ("adam", 0.01, 0.0)],
)
def test_how_far_more_mixed_groups_go(optimiser, noise, power):
    """R = 4 times the mixed groups: gradient x 4, its noise x 2 (a sum over 4 times the groups)."""
    steps, width, ratio = 400, 400, 4.0
    went = []
    for share in (1.0, ratio):
        generator = np.random.default_rng(5)  # the same noise
        theta, state = np.zeros(width), OptimiserState.zeros(width)
        for _ in range(steps):
            gradient = share + noise * np.sqrt(share) * generator.standard_normal(width)
            theta, state = ascend(optimiser, theta, gradient, state, 1.0)
        went.append(theta.mean())
    # for 30 times the gradient, the mean of 160 000 noises is known to 30 / 400 of it, so its share of
    # the log ratio to 0.075 (1 - 1/2) / ln 4; half of it is the same in both; bound: 4 of that
    found = np.log(went[1] / went[0]) / np.log(ratio)
    assert abs(found - power) < 4 * 0.075 / 2 / np.log(ratio)
    others = {1.0, 0.5, 0.0} - {power}  # negative control: it is none of the other two
    assert all(abs(found - other) > 4 * 0.075 / 2 / np.log(ratio) for other in others)


def test_exponents_leave_out_what_is_not_known():
    ratio = np.log([[2.0] * 6, [4.0] * 6, [3.0] * 6])
    saving = 0.5 * ratio
    saving[2, 3] = np.nan
    saving[2, 4] = 100.0  # of a cell that is not whole: without effect
    assert np.allclose(mixed_groups.exponent(ratio, saving), 0.5, atol=1e-12)
    # seeds differ: slopes 0.5 and 0.7 three times each; mean 0.6, error 0.1 sqrt(6/5) / sqrt(6),
    # Student's t with 5 degrees of freedom 2.5706 (table)
    slopes = np.array([0.5, 0.7] * 3)
    mean, low, high = mixed_groups.exponent(ratio, ratio * slopes)
    half = 2.5706 * 0.1 / np.sqrt(5)
    assert np.allclose([mean, low, high], [0.6, 0.6 - half, 0.6 + half], atol=1e-5)
    assert np.isnan(mixed_groups.exponent(np.zeros((2, 6)), np.ones((2, 6)))).all()
    assert np.isnan(mixed_groups.exponent(np.zeros((0, 6)), np.zeros((0, 6)))).all()


# -- what runs had ----------------------------------------------------------------------------------

PLAIN = LAW | {"coin": 0.0}


def test_cells_by_hand(tmp_path):
    # twice and half the mixed groups, twice the speed, and half of it (not there within the budget)
    arms = {"uniform": (0.004, 0.3), "fast": (0.008, 0.6), "slow": (0.002, 0.15)}
    default = cell(tmp_path, "boundary-sgd-default", arms, law=PLAIN)
    folders = [
        default,
        cell(tmp_path, "boundary-sgd-coin-0", arms | {"fast": (0.016, 0.6)}),
        like(default, "boundary-sgd-estimator-0", estimator="reinforce++"),
    ]
    found = mixed_groups.cells_of([read(folder) for folder in folders])
    assert found["name_C"] == ["boundary-sgd-default", "boundary-sgd-coin-0"]
    assert found["coins_C"].tolist() == [False, True]
    # n = 3: P = 3 p (1-p), 0.48 at 0.2 and at 0.8, 0.75 for the coin; 7 of 10 learnable, all alike:
    # uniform 0.7 x 0.48, the other 0.48; with the coin (0.75 + 6 x 0.48) / 10 and by its shares
    coin, learnable = (p**3 / (p**3 + 0.3**3) for p in (0.75, 0.48))
    weighted = (coin * 0.75 + 6 * learnable * 0.48) / (coin + 6 * learnable)
    with_coin = weighted / ((0.75 + 6 * 0.48) / 10)
    assert found["predicted_C"] == pytest.approx([1 / 0.7, with_coin], rel=1e-12)
    assert np.allclose(found["fast"]["measured_C"], 2.0)
    assert np.allclose(found["fast"]["speed_up_C"], [2.0, 4.0])
    assert np.allclose(found["fast"]["low_C"], [1.8, 3.6])
    assert np.isnan(found["fast"]["high_C"]).all()  # open
    # the coin's cell has no part in it: saving 2 from a ratio of 2
    assert np.allclose(found["fast"]["saved"], 1.0)
    assert np.allclose(found["fast"]["had"], np.log(2.0) / np.log(1 / 0.7))
    assert np.isnan(found["slow"]["speed_up_C"]).all()
    assert np.isnan(found["slow"]["saved"]).all()
    # where uniform did not improve on the development seeds there is no level to reach
    path = default / "comparison.json"
    without = json.loads(path.read_text())
    for row in without["arms"].values():
        row["targets"] = []
    path.write_text(json.dumps(without))
    assert mixed_groups.cells_of([read(folder) for folder in folders])["coins_C"].tolist() == [True]


def test_a_run_without_a_record_of_its_groups_is_refused(tmp_path):
    folder = cell(tmp_path, "boundary-sgd-default", {"uniform": (0.004, 0.3), "a": (0.01, 0.3)})
    for path in folder.glob("arms/*/curve.npz"):
        rising = 0.2 + 0.004 * GRID_E / 1000
        save_state(path, {"start": 0.2, "grid_E": GRID_E, "held_out_E": rising})
    with pytest.raises(ValueError, match=r"with the columns of sim.watch in curve.npz"):
        mixed_groups.cells_of([read(folder)])


ARMS = {
    "uniform": (0.004, 0.3),
    "adaptive": (0.005, 0.5),
    "cures": (0.003, 0.4),
    "oracle": (0.006, 0.6),
}


def test_panels_by_hand(tmp_path):
    default = cell(tmp_path, "boundary-sgd-default", ARMS, law=PLAIN)
    others = {
        "dead-0": {"empirical": PLAIN | {"never": 0.0, "always": 0.0}},
        "coin-0": {"empirical": PLAIN | {"coin": 0.35}},
        "rate-0": {"learning_rate": 8.0},
        "estimator-0": {"estimator": "dr_grpo"},
        "transfer-0": {"empirical": PLAIN | {"transfer": 0.2}},
        "budget": {},
    }
    copies = [like(default, f"boundary-sgd-{name}", **config) for name, config in others.items()]
    folders = [default, *copies]
    arrays = boundary.compute(folders)
    panels = arrays["sgd"]
    labels = {
        name: (panels[name]["label_C"], panels[name]["default"])
        for name in panels
        if name != "cells"
    }
    assert labels == {
        "dead": (["0", "0.3"], 1),  # in ascending order; the default has 0.2 + 0.1
        "coin": (["0", "0.5"], 0),  # 0.35 of the 0.7 that are not dead
        "transfer": (["0.2"], -1),
        "rate": (["1", "4"], 0),  # times the default's
        "budget": (["25", "50", "100"], 2),
        "estimator": (["GRPO", "Dr.GRPO"], 0),
    }
    # at the end: 100 x (0.005 - 0.004), the same on all seeds
    assert np.allclose(panels["rate"]["adaptive"], 0.1)
    # the grid has a point every 10 thousand: 25 thousand rollouts are read at 20
    assert np.allclose(panels["budget"]["oracle"][:, 0], 0.002 * np.array([20, 50, 100]))
    text = boundary.finding(arrays)
    # 1.25 times as fast with 5/3 of the mixed groups in all cells: ln 1.25 / ln (5/3) = 0.437
    assert "adaptive 0.44 [0.44, 0.44] (below)" in text
    assert "CurES ends above uniform (interval above 0) in 0 of 8 settings, below in 8" in text
    assert "30% dead prompts" in boundary.caption(arrays)


def test_a_sweep_without_its_default_is_refused(tmp_path):
    folder = cell(tmp_path, "boundary-sgd-rate-0", ARMS)
    with pytest.raises(ValueError, match=r"boundary: folders must be with boundary-sgd-default"):
        boundary.compute([folder])


# -- the runs ---------------------------------------------------------------------------------------


def test_every_sweep_changes_its_factor_alone():
    known = paper_runs.comparisons(paper_runs.FULL)
    for optimiser in ("adam", "sgd"):
        default = known[f"boundary-{optimiser}-default"]().as_json()
        assert default["learning_rate"] == 2 * LEARNING_RATES[optimiser]["skills"]
        may_change = {
            "dead": {"population", "empirical"},
            "coin": {"population", "empirical"},
            "transfer": {"population", "empirical", "policy", "learning_rate"},
            "rate": {"learning_rate"},
            "budget": {"rollouts", "grid_points"},
        }
        names = [n for n in known if n.startswith(f"boundary-{optimiser}-")]
        assert len(names) == 1 + sum(map(len, paper_runs.SWEEPS.values())) + 1
        for name in names:
            settings = known[name]().as_json()
            factor = name.split("-")[2]
            changed = {key for key in default if settings[key] != default[key]}
            if factor != "default":
                assert changed, name
                assert changed <= may_change.get(factor, {factor}), name
            law = settings["empirical"]
            assert law["never"] + law["always"] + law["coin"] < 1.0  # something can be learned


def test_long_runs_are_read_at_whole_updates():
    size = paper_runs.FULL.fraction(6)
    assert size.rollouts % (4 * size.batch * 8) == 0
    long = paper_runs.comparisons(paper_runs.FULL)["boundary-sgd-budget"]()
    for total in size.rollouts * np.array([0.25, 0.5, 1.0, 2.0, 4.0]):
        assert total in long.grid_E


def test_a_page_names_families_of_many_folders():
    few = [{"folder": f"runs/paper/ablation-{k}"} for k in range(page.MANY - 1)]
    many = [{"folder": f"runs/paper/boundary-{k}"} for k in range(page.MANY)]
    shown = page._short([*few, *many])
    assert shown == [*(run["folder"] for run in few), "runs/paper/boundary-*"]
