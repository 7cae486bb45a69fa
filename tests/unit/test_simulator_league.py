"""The simulator's half of the league: what is run, what is kept of it, and the page made of that."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

import cures
from cures.comparison import harm_verdict, paired_difference, rollouts_to_target
from cures.storage import load_state, read_json, read_jsonl, write_json
from figures import __main__ as command_line
from figures import league, simulator_league, simulator_league_rows
from figures.holm import holm, paired_p_value
from figures.league_heat_map import draw
from figures.league_ranking import ranking
from figures.league_record import Level, best_oracle, level_of, reached_at, record
from figures.oracle_share import oracle_share
from figures.simulator_league import (
    ARMS,
    BEST,
    EXCEPTIONS,
    FULL,
    POPULATIONS,
    Book,
    Cell,
    Size,
    oracles,
    wanted,
)
from figures.simulator_league_rows import numbers_of, rows, shares_of, survivors
from figures.simulator_league_table import (
    corrected,
    oracle_table,
    population_section,
    rank_table,
    section,
)
from sim.analysis import compare_arms
from sim.arm import Clock, StoppedError, run_arm
from sim.settings import Seeds, Settings, is_told_true_rates, split_arm
from sim.task import ArmTask, build

# -- what is run ------------------------------------------------------------------------------------


def test_no_scheduler_is_forgotten_and_each_has_its_own_defaults():
    assert {split_arm(arm)[0] for arm in ARMS} == set(cures.list_schedulers())
    assert all(ARMS[name] == {} for name in cures.list_schedulers())
    further = {arm: options for arm, options in ARMS.items() if options}
    assert further == {
        "adaptive@moments": {"use_moments": True},
        "vip@skills": {"features_N_D": "host"},
    }
    told = {arm for arm in (*ARMS, BEST) if is_told_true_rates(arm)}
    assert told == {"oracle", "staged", BEST}


def test_sixteen_cells_of_sixteen_seeds():
    names = {cell.name for cell in wanted()}
    assert names == {
        f"{population}-{estimator}"
        for population in ("natural", "dead", "coins", "small")
        for estimator in ("grpo", "rloo", "dr_grpo", "reinforce++")
    }
    assert Size(60_000, 16, 8) == FULL
    for cell in wanted():
        settings = cell.settings(FULL)
        assert (settings.batch_size, settings.group_size, settings.optimiser) == (64, 8, "adam")
        assert settings.learning_rate == 0.02  # sim.settings.LEARNING_RATES, Adam on skills
        assert set(settings.arms) == {*ARMS, *oracles(cell.population)}
        assert settings.margin == 0.005  # DESIGN.md section 5


def test_development_seeds_are_others():
    roots = [
        Seeds.of(root, "uniform", s, is_development=dev).population
        for root in (simulator_league.ROOT_SEED, 0)  # 0: what other comparisons begin with
        for dev, size in ((True, FULL.dev_seeds), (False, simulator_league.MOST_SEEDS))
        for s in range(size)
    ]
    assert len(set(roots)) == 2 * (FULL.dev_seeds + simulator_league.MOST_SEEDS)
    assert {cell.settings(FULL).root_seed for cell in wanted()} == {simulator_league.ROOT_SEED}


@pytest.mark.parametrize(("population", "count"), [("natural", 6), ("dead", 6), ("coins", 12)])
def test_oracles_are_a_full_grid_where_it_makes_a_difference(population, count):
    # 3 temperatures x quota on or off, x learnable with coins
    found = oracles(population)
    assert len(found) == len({str(options) for options in found.values()}) == count
    # what is left out: told what is learnable, an oracle draws the same; with coins it does not
    cell = Cell(population, "grpo")
    name = "oracle@t05"
    settings = cell.settings(FULL)
    options = {name: {**settings.options[name], "learnable": True}}
    told_settings = replace(settings, options={**settings.options, **options})
    plain, _ = build(settings, ArmTask(name, 0, True))
    told, _ = build(told_settings, ArmTask(name, 0, True))
    distributions, quotas = [], []
    for scheduler in (plain, told):
        scheduler.propose()
        distributions.append(scheduler.sampling_distribution())
        quotas.append(scheduler.gradient_std(np.arange(settings.pool))[0])
    is_alike = np.array_equal(*distributions) and np.array_equal(*quotas)
    assert is_alike == (population != "coins")


def test_every_arm_can_start_on_the_small_pool_with_one_exception():
    cell = Cell("small", "dr_grpo")
    settings = cell.settings(FULL)
    for arm in settings.arms:
        build(settings, ArmTask(arm, 0, False))
    defaults = {a: o for a, o in settings.options.items() if a != "cures-released"}
    assert set(EXCEPTIONS) == {"small"}
    with pytest.raises(
        ValueError, match="cures-released: batch_size must be an int in \\[1, 17\\]"
    ):
        build(replace(settings, options=defaults), ArmTask("cures-released", 0, False))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--populations", "moon"], "--populations must be one of"),
        (["--estimators", "ppo"], "--estimators must be one of"),
        (["--arms", "best"], "--arms must be one of"),
        (["--only", "model", "--arms", "vip"], "--arms must be one of"),
        (["--only", "simulator", "--simulator-seeds", "33"], "seeds must be an int in [1, 32]"),
        (["--only", "simulator", "--jobs", "0"], "--jobs must be an int"),
    ],
)
def test_what_is_not_in_the_league_is_refused(options, message, tmp_path, capsys):
    places = ["--entries", tmp_path, "--simulator-runs", tmp_path / "runs", "--runs", tmp_path]
    assert command_line.main(["league", *map(str, places), *options]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "runs").exists()


# -- features and clocks of the simulator -----------------------------------------------------------


def test_a_host_tells_which_skills_a_prompt_needs_and_nothing_else():
    settings = Settings(
        arms=("vip",), options={"vip": {"features_N_D": "host"}}, population="coins", pool=200
    )
    scheduler, host = build(settings, ArmTask("vip", 0, False))
    policy = host.population.policy
    expected = np.zeros((200, policy.num_skills))  # by the definition of a chain, step by step
    for prompt in range(200):
        for step in range(policy.length_N[prompt]):
            expected[prompt, policy.chain_N_L[prompt, step]] += 1
    given = scheduler._process._features_N_D
    assert np.array_equal(given, expected)
    # negative control: without, prompts share nothing
    plain, _ = build(replace(settings, options={}), ArmTask("vip", 0, False))
    assert plain._process._features_N_D is None
    other = replace(settings, policy="item_response", learning_rate=None)
    with pytest.raises(ValueError, match="set vip.features_N_D must be left out"):
        build(other, ArmTask("vip", 0, False))


def test_a_clock_adds_sittings_up(tmp_path, monkeypatch):
    ticks = iter([10.0, 12.0, 13.0, 100.0, 102.0, 7.0, 8.0])
    monkeypatch.setattr("sim.arm.time.process_time", lambda: next(ticks))
    path = tmp_path / "timing.json"
    first = Clock(path, is_resumed=False)
    first.write()
    assert read_json(path) == {"cpu_s": 2.0}
    first.write()
    second = Clock(path, is_resumed=True)
    second.write()
    assert read_json(path) == {"cpu_s": 5.0}  # (13 - 10) + (102 - 100)
    Clock(path, is_resumed=False).write()
    assert read_json(path) == {"cpu_s": 1.0}  # without a checkpoint all is made anew


def test_tokens_are_logged_update_by_update(tmp_path):
    settings = Settings(
        arms=("speed",), pool=100, held_out=20, rollouts=1500, batch_size=8, seeds=1, dev_seeds=1
    )
    task, left = ArmTask("speed", 0, False), iter(range(2))
    with pytest.raises(StoppedError):
        run_arm(settings, task, tmp_path, is_stopping=lambda: next(left, None) is None)
    run_arm(settings, task, tmp_path)
    folder = tmp_path / task.folder
    tokens = [row["tokens"] for row in read_jsonl(folder / "metrics.jsonl")]
    assert (np.diff(tokens) >= 0).all()  # some updates are made of rollouts that waited
    assert len(set(tokens)) > 3
    assert tokens[0] > 8 * 8  # a rollout has one token at least, and most have more
    assert tokens[-1] <= read_json(folder / "summary.json")["ledger"]["tokens"]
    assert read_json(folder / "timing.json")["cpu_s"] > 0.0


# -- when a level is reached ------------------------------------------------------------------------


def test_reached_at_is_the_common_grid_for_rollouts():
    generator = np.random.default_rng(0)
    settings = Cell("natural", "grpo").settings(Size(3000, 1, 1))
    at_U = np.sort(generator.integers(1, 3000, 40)).astype(float)
    curve_U = np.cumsum(generator.normal(0.02, 0.05, 40))
    curve_E = cures.comparison.on_grid(at_U, curve_U, settings.grid_E, start=0.0)
    expected, is_censored = rollouts_to_target(settings.grid_E, curve_E[None], 0.4)
    assert not is_censored[0]
    found = reached_at(at_U, curve_U, start=0.0, end=3000.0, spacing=3000 / 50, gain=0.4)
    assert found == pytest.approx(expected[0], abs=1e-3)


@pytest.mark.parametrize(
    ("spacing", "end", "gain", "expected"),
    [
        (1.0, 4.0, 0.6, 3.0),  # exactly after the third update
        (1.0, 4.0, 0.7, 3.5),  # halfway from 0.6 to 0.8
        (2.0, 4.0, 0.7, 2.0 + 2.0 * 0.5 / 0.6),  # grid 0, 2, 4: from 0.2 at 2 to 0.8 at 4
        (3.0, 4.0, 0.7, 3.5),  # grid 0, 3, 4: the end is a point of every grid
        (1.0, 4.0, 0.9, None),
        (1.0, 0.0, 0.1, None),  # no update at all
    ],
)
def test_reached_at_by_hand(spacing, end, gain, expected):
    size = int(end)
    at_U, curve_U = np.arange(1.0, 5.0)[:size], np.array([0.1, 0.2, 0.6, 0.8])[:size]
    found = reached_at(at_U, curve_U, start=0.0, end=end, spacing=spacing, gain=gain)
    assert found == (None if expected is None else pytest.approx(expected, abs=1e-3))


def test_the_best_oracle_is_the_first_at_the_level_then_the_higher():
    variants = {
        "a": {"rollouts_at_S": [100, 300, None], "final_S": [0.9, 0.9, 0.9]},
        "b": {"rollouts_at_S": [100, 200, None], "final_S": [0.1, 0.1, 0.1]},
        "c": {"rollouts_at_S": [200, 200, 200], "final_S": [0.2, 0.2, 0.2]},
    }
    assert best_oracle(variants, 1000) == "c"  # medians 300, 200, 200
    nobody = {k: {**v, "rollouts_at_S": [None] * 3} for k, v in variants.items()}
    assert best_oracle(nobody, 1000) == "a"


# -- statistics ----------------------------------------------------------------------------------------


def test_holm_by_hand():
    # sorted .005 .01 .03 .04, times 4 3 2 1: .02 .03 .06 .04, made monotone: .02 .03 .06 .06
    p = [0.01, 0.04, 0.03, 0.005]
    assert holm(p) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    # negative control: Bonferroni would take one more back
    assert (holm(p) <= 0.03).sum() == 2
    assert (4 * np.array(p) <= 0.03).sum() == 1
    assert holm([0.5, 0.9]).tolist() == [1.0, 1.0]
    assert holm([]).size == 0
    with pytest.raises(ValueError, match="holm: p_value_K must be"):
        holm([1.5])


def test_holm_rejects_as_the_step_down_procedure_does():
    """The procedure itself: reject the smallest while p_(k) <= alpha / (K - k + 1), then stop."""
    generator = np.random.default_rng(1)
    for _ in range(200):
        p, alpha = generator.random(6) ** 3, 0.2
        order, rejected = np.argsort(p), set()
        for k, i in enumerate(order):
            if p[i] > alpha / (6 - k):
                break
            rejected.add(int(i))
        assert set(np.flatnonzero(holm(p) <= alpha).tolist()) == rejected


def test_paired_p_values_are_scipy_s_and_belong_to_interval_and_verdict():
    generator = np.random.default_rng(2)
    seen = set()
    for _ in range(200):
        arm, reference = generator.normal(generator.normal(0, 0.006), 0.01, 16), np.zeros(16)
        gap = arm - reference
        difference = paired_difference(arm, reference)
        p = paired_p_value(gap)
        assert p == pytest.approx(stats.ttest_rel(arm, reference).pvalue)
        assert (p < 0.05) == (difference.low > 0.0 or difference.high < 0.0)
        verdict = harm_verdict(difference, 0.005)
        seen.add(verdict)
        no_harm = paired_p_value(gap, at=-0.005, alternative="greater")
        harm = paired_p_value(gap, at=-0.005, alternative="less")
        assert (no_harm < 0.025, harm < 0.025) == (verdict == "no harm", verdict == "harm")
    assert seen == {"no harm", "harm", "undecided"}


def test_paired_p_values_without_scatter():
    assert paired_p_value([0.0] * 6) == 1.0  # an arm that acts as uniform does
    assert paired_p_value([0.0] * 6, at=-0.005, alternative="greater") == 0.0
    assert paired_p_value([0.0] * 6, at=-0.005, alternative="less") == 1.0
    with pytest.raises(ValueError, match="difference_S must be of shape"):
        paired_p_value([0.1])


def test_ranks_by_hand():
    # cell 1: b, c tie below a -> 1, 2.5, 2.5; cell 2: c, b, a -> 3, 2, 1
    final = [[[0.9, 0.9], [0.5, 0.5], [0.4, 0.6]], [[0.1, 0.1], [0.2, 0.2], [0.3, 0.3]]]
    result = ranking(final, generator=np.random.default_rng(0))
    assert result.mean_A.tolist() == [2.0, 2.25, 1.75]
    assert result.behind_A.tolist() == [0.25, 0.5, 0.0]
    # redrawn, c has mean 0.4, 0.5 or 0.6 in cell 1: rank 3, 2.5 or 2; a does not move
    assert (result.low_A[2], result.high_A[2]) == (1.5, 2.0)
    assert (result.low_A[0], result.high_A[0]) == (2.0, 2.0)
    assert result.behind_low_A[2] == result.behind_high_A[2] == 0.0


def test_ranks_redraw_a_seed_in_all_cells_at_once():
    # b wins on seed 0 in one cell and on seed 1 in the other: together the ranks hardly move
    final = [[[0.5, 0.5], [0.6, 0.3]], [[0.5, 0.5], [0.3, 0.6]]]
    result = ranking(final, generator=np.random.default_rng(0))
    # (0, 0): b first and second; (1, 1): second and first; (0, 1): mean 0.45, second twice
    assert (result.low_A[1], result.high_A[1]) == (1.5, 2.0)
    with pytest.raises(ValueError, match="final_C_A_S must be finite"):
        ranking([[[np.nan]]], generator=np.random.default_rng(0))


def test_oracle_share_by_hand():
    def share(uniform, arm, oracle):
        return oracle_share(uniform, arm, oracle, generator=np.random.default_rng(0))

    found = share([100.0, 120.0, 140.0], [90.0, 80.0, 130.0], [60.0, 70.0, 100.0])
    # medians: (120 - 90) / (120 - 70); a draw mostly of seed 0 or 2: 10 / 40, mostly of seed 1: 40 / 50
    assert (found.value, found.low, found.high) == (0.6, 0.25, 0.8)
    never = share([100.0] * 3, [np.inf] * 3, [50.0] * 3)
    assert (never.value, never.low, never.high) == (None, -np.inf, 0.0)
    useless = share([100.0] * 3, [90.0] * 3, [100.0] * 3)  # an oracle that saves nothing
    assert (useless.value, useless.low, useless.high) == (None, -np.inf, np.inf)
    unknown = share([np.inf] * 3, [90.0] * 3, [50.0] * 3)
    assert unknown.value is None
    with pytest.raises(ValueError, match="oracle_S must be numbers of shape"):
        share([1.0, 2.0], [1.0, 2.0], [1.0])


# -- from runs to entries ------------------------------------------------------------------------------

TINY = Size(rollouts=2048, seeds=2, dev_seeds=2)  # four updates of 512
TINY_ARMS = ("adaptive", BEST)


@pytest.fixture
def small_league(monkeypatch):
    """One small population, two variants of the oracle; told which tasks are run."""
    monkeypatch.setitem(POPULATIONS, "small", {"population": "coins", "pool": 256, "held_out": 30})
    monkeypatch.setattr(simulator_league, "TEMPERATURES", (0.5,))
    ran = []

    def run_arms(settings, tasks, root, **how):
        ran.extend((task.arm, task.index, task.is_development) for task in tasks)
        real(settings, tasks, root, **how)

    real = simulator_league.run_arms
    monkeypatch.setattr(simulator_league, "run_arms", run_arms)
    return ran


CELL = Cell("small", "rloo")


def without_time(entry):
    arms = {
        arm: {key: value for key, value in row.items() if key != "cpu_s_S"}
        for arm, row in entry["arms"].items()
    }
    return {**entry, "arms": arms}


def test_a_cell_from_nothing_to_its_entry(small_league, tmp_path):
    book, told = Book(tmp_path / "book"), []
    assert "simulator: 12 runs are missing in 1 cells, about " in simulator_league.estimate(
        [CELL], book, TINY_ARMS, TINY, jobs=2
    )
    simulator_league.make(
        tmp_path, book, [CELL], TINY_ARMS, TINY, on_progress=lambda text, n: told.append((text, n))
    )
    variants = list(oracles("small"))
    development = [(a, s, True) for s in (0, 1) for a in ("uniform", *variants)]
    entry = book.entry(CELL)
    chosen = entry["oracles"]["chosen"]
    compared = [(a, s, False) for s in (0, 1) for a in ("uniform", "adaptive", chosen)]
    # the other variants never see a compared seed
    assert small_league == development + compared
    assert told[-1] == ("small-rloo (1 of 1), 6/6 runs", 12 * 2048)
    assert [n for _, n in told] == sorted(n for _, n in told)
    folder = tmp_path / "small-rloo"
    assert entry["commits"] == read_json(folder / "made_by.json")["commits"]
    assert entry["settings"]["rollouts"] == 2048
    assert list(entry["arms"]) == ["uniform", "adaptive", BEST]
    for name in variants:
        assert len(entry["oracles"]["variants"][name]["rollouts_at_S"]) == 2
    # of one run, from its files
    curve = load_state(folder / "arms" / "adaptive-1" / "curve.npz")
    summary = read_json(folder / "arms" / "adaptive-1" / "summary.json")
    row = {key: value[1] for key, value in entry["arms"]["adaptive"].items() if key.endswith("_S")}
    assert row["final_S"] == pytest.approx(curve["held_out_E"][-1], abs=1e-6)
    assert row["updates_S"] == 4
    assert row["tokens_S"] == summary["ledger"]["tokens"]
    assert row["wasted_S"] == pytest.approx(summary["zero_advantage"] / 2048, abs=1e-6)
    assert (row["pilot_S"], row["trained_S"]) == (0.0, 1.0)
    # a finished cell is not made again, even where its run folder is gone
    before = len(small_league)
    simulator_league.make(tmp_path / "elsewhere", book, [CELL], TINY_ARMS, TINY)
    assert len(small_league) == before
    assert not (tmp_path / "elsewhere").exists()


def test_an_interrupted_cell_goes_on_to_the_same_entry(small_league, tmp_path):
    whole, parts = Book(tmp_path / "a"), Book(tmp_path / "b")
    simulator_league.make(tmp_path / "whole", whole, [CELL], TINY_ARMS, TINY)

    def interrupt_after(rollouts):
        def on_progress(text, generated):
            if generated > rollouts:
                raise KeyboardInterrupt

        return on_progress

    for rollouts in (3000, 9 * 2048):  # within the development runs, and within the compared ones
        with pytest.raises(KeyboardInterrupt):
            simulator_league.make(
                tmp_path / "parts",
                parts,
                [CELL],
                TINY_ARMS,
                TINY,
                on_progress=interrupt_after(rollouts),
            )
    assert "arms" not in parts.entry(CELL)
    simulator_league.make(tmp_path / "parts", parts, [CELL], TINY_ARMS, TINY)
    assert without_time(parts.entry(CELL)) == without_time(whole.entry(CELL))


def test_arms_and_seeds_are_added_to_what_is_there(small_league, tmp_path):
    book = Book(tmp_path / "book")
    simulator_league.make(tmp_path, book, [CELL], ("adaptive",), TINY)
    assert {arm for arm, _, _ in small_league} == {"uniform", "adaptive"}  # no oracle was asked for
    small_league.clear()
    more = replace(TINY, seeds=3)
    simulator_league.make(tmp_path, book, [CELL], (*TINY_ARMS, "cures"), more)
    chosen = book.entry(CELL)["oracles"]["chosen"]
    development = [(a, s, True) for s in (0, 1) for a in oracles("small")]
    compared = [(a, s, False) for s in (0, 1) for a in (chosen, "cures")]
    compared += [(a, 2, False) for a in ("uniform", "adaptive", chosen, "cures")]
    assert sorted(small_league) == sorted(development + compared)
    grown = book.entry(CELL)
    assert list(grown["arms"]) == ["uniform", "adaptive", "cures", BEST]
    assert {len(row["final_S"]) for row in grown["arms"].values()} == {3}
    fresh = Book(tmp_path / "fresh")
    simulator_league.make(tmp_path / "runs", fresh, [CELL], (*TINY_ARMS, "cures"), more)
    assert without_time(fresh.entry(CELL)) == without_time(grown)
    # another length is another league
    with pytest.raises(ValueError, match="settings in .*small-rloo.json must be"):
        simulator_league.make(tmp_path, book, [CELL], TINY_ARMS, replace(TINY, rollouts=4096))
    entry = book.entry(CELL)
    entry["arms"]["adaptive"]["options"] = {"memory_passes": 2.0}
    book.write(CELL, entry)
    with pytest.raises(ValueError, match="options of adaptive in .* must be {}"):
        simulator_league.make(tmp_path, book, [CELL], TINY_ARMS, more)


def test_speed_ups_are_those_of_the_simulator_s_own_analysis(small_league, tmp_path):
    book, size = Book(tmp_path / "book"), Size(2048, 6, 2)
    simulator_league.make(tmp_path, book, [CELL], ("adaptive", "cures"), size)
    entry = book.entry(CELL)
    settings = CELL.settings(size)
    own = rows(entry)
    plain = replace(settings, arms=("uniform", "adaptive", "cures"), options={})
    expected = compare_arms(plain, tmp_path / CELL.name)
    assert level_of(entry).gain == pytest.approx(
        expected["arms"]["adaptive"]["targets"][1]["gain"], abs=1e-6
    )
    for arm in ("adaptive", "cures"):
        theirs = expected["arms"][arm]
        target = next(t for t in theirs["targets"] if t["fraction"] == 0.8)
        found = own[arm]["speed_up"]["rollouts"]
        assert found.arm_median == pytest.approx(target["arm_median"], rel=1e-4)
        assert found.reference_median == pytest.approx(target["reference_median"], rel=1e-4)
        assert found.arm_censored == target["arm_censored"]
        assert own[arm]["difference"].mean == pytest.approx(theirs["difference"]["mean"], abs=2e-6)
        assert own[arm]["difference"].low == pytest.approx(theirs["difference"]["low"], abs=5e-6)
        assert own[arm]["verdict"] == theirs["difference"]["verdict"]
        assert own[arm]["wasted"] == pytest.approx(theirs["wasted"], abs=1e-6)
        assert own[arm]["pilot"] == pytest.approx(theirs["shares"]["pilot"], abs=1e-6)
        assert own[arm]["updates"] == theirs["steps"]
    assert own["cures"]["pilot"] > 0.0  # or the shares would agree by being nothing


def test_without_a_level_there_is_no_time_to_it(small_league, tmp_path):
    book = Book(tmp_path / "book")
    simulator_league.make(tmp_path, book, [CELL], ("adaptive",), TINY)
    entry = book.entry(CELL)
    entry["development"]["final_S"] = entry["development"]["start_S"]  # uniform learned nothing
    assert level_of(entry).gain is None
    assert rows(entry)["adaptive"]["speed_up"] == {}
    folder = tmp_path / CELL.name / "arms" / "adaptive-0"
    kept = record(CELL.settings(TINY), folder, Level(None, {}))
    assert {kept[f"{axis}_at_S"] for axis in ("rollouts", "updates", "tokens")} == {None}


# -- from entries to the page --------------------------------------------------------------------------

SEEDS = 6  # fewer give no interval
START = [0.10, 0.11, 0.12, 0.10, 0.11, 0.12]
NOISE = np.array([0.0, 0.01, -0.01, 0.02, -0.02, 0.0])


def arm_row(final, at, cpu=1.0, options=None, **values):
    row = {
        "options": options or {},
        "start_S": START,
        "final_S": [round(float(x), 6) for x in final + NOISE],
        "wasted_S": [0.25] * SEEDS,
        "pilot_S": [0.0] * SEEDS,
        "trained_S": [1.0] * SEEDS,
        "updates_S": [100] * SEEDS,
        "tokens_S": [4000] * SEEDS,
        "cpu_s_S": [cpu] * SEEDS,
        "rollouts_at_S": [at] * SEEDS,
        "updates_at_S": [None if at is None else at / 10] * SEEDS,
        "tokens_at_S": [None if at is None else at * 4] * SEEDS,
    }
    return {**row, **values}


# minus uniform: 0.015 -0.015 0.01 -0.014 0.006 -0.014, on average -0.002, half an interval of 0.014
SHAKY = arm_row(0.0, 790.0, final_S=[0.315, 0.295, 0.30, 0.306, 0.286, 0.286])


def entry_of(cell=CELL, **arms):
    settings = cell.settings(Size(1000, SEEDS, 2))
    named = {
        "uniform": arm_row(0.30, 800.0),
        **{k.replace("_at_", "@"): v for k, v in arms.items()},
    }
    return {
        "settings": simulator_league._common(settings),
        "commits": ["abc"],
        "development": {
            "start_S": [0.1, 0.1],
            "final_S": [0.3, 0.3],
            "updates_S": [100, 100],
            "tokens_S": [4000, 4000],
        },
        "oracles": {"chosen": "oracle@t15", "variants": {}},
        "arms": deepcopy(named),
    }


def test_rows_by_hand():
    steady = arm_row(0.34, 400.0, cpu=3.0, final_S=[0.35, 0.35, 0.32, 0.37, 0.32, 0.35])
    few = arm_row(0.2, None, updates_S=[20] * SEEDS, tokens_S=[3000] * SEEDS)
    unfinished = {k: v[:3] if k.endswith("_S") else v for k, v in arm_row(0.5, 100.0).items()}
    found = rows(
        entry_of(adaptive=steady, dapo=few, mopps=unfinished, oracle_at_best=arm_row(0.4, 200.0))
    )
    assert list(found) == ["uniform", "adaptive", "dapo", BEST]  # mopps has three seeds of six
    row = found["adaptive"]
    # minus uniform: 0.30 + NOISE = 0.30 0.31 0.29 0.32 0.28 0.30
    gap = np.array([0.05, 0.04, 0.03, 0.05, 0.04, 0.05])
    interval = stats.t.interval(0.95, 5, gap.mean(), stats.sem(gap))
    assert (row["difference"].low, row["difference"].high) == pytest.approx(interval)
    assert row["p_value"] == pytest.approx(stats.ttest_1samp(gap, 0.0).pvalue)
    assert (row["verdict"], found["dapo"]["verdict"]) == ("no harm", "harm")
    assert (found[BEST]["verdict"], found["uniform"]["verdict"]) == ("told", "reference")
    assert row["cpu"] == 3.0
    # 800 / 400 on every axis; dapo never arrives: its ends are 1000 rollouts, 20 updates, 3000 tokens
    for axis in ("rollouts", "updates", "tokens"):
        assert (row["speed_up"][axis].ratio, row["speed_up"][axis].bound) == (2.0, "exact")
    ends = {axis: up.arm_median for axis, up in found["dapo"]["speed_up"].items()}
    assert ends == {"rollouts": 1000.0, "updates": 20.0, "tokens": 3000.0}
    bounds = {(up.bound, up.arm_censored) for up in found["dapo"]["speed_up"].values()}
    assert bounds == {("at most", SEEDS)}
    assert found["dapo"]["speed_up"]["updates"].ratio == pytest.approx(80 / 20)
    assert rows({**entry_of(), "arms": {}}) == {}


def test_other_starts_cannot_be_compared():
    with pytest.raises(ValueError, match="starts of adaptive must be"):
        rows(entry_of(adaptive=arm_row(0.3, 400.0, start_S=[0.2] * SEEDS)))


def test_below_six_seeds_nothing_is_decided():
    entry = entry_of(adaptive=arm_row(0.4, 400.0))
    for row in entry["arms"].values():
        row.update({k: v[:5] for k, v in row.items() if k.endswith("_S")})
    found = rows(entry)
    assert (found["adaptive"]["verdict"], found["adaptive"]["p_value"]) == ("undecided", None)
    cells = {CELL: entry}
    assert corrected(cells, numbers_of(cells)) == ""
    assert "| adaptive | +0.1000, undecided |" in section(cells, numbers_of(cells))


def league_of(**arms):
    return {Cell("small", e): entry_of(Cell("small", e), **arms) for e in ("grpo", "rloo")}


def test_ranks_and_verdicts_are_counted_over_contenders():
    cells = league_of(
        adaptive=arm_row(0.36, 400.0),
        mopps=SHAKY,
        dapo=arm_row(0.2, None),
        oracle=arm_row(0.5, 300.0),
    )
    text = rank_table(numbers_of(cells))
    assert "| adaptive | 1.0 [1.0, 1.0] |  | 2 | 0 | 0 |" in text
    assert "| dapo | 4.0 [4.0, 4.0] | 3.0 [3.0, 3.0] | 0 | 0 | 2 |" in text
    assert "| mopps | 3.0 [" in text  # 0.002 below uniform
    assert text.splitlines()[-3].startswith("| uniform | 2.0 [")
    assert "oracle" not in text  # it is told
    # an arm that one cell lacks is in no rank
    del cells[Cell("small", "rloo")]["arms"]["mopps"]
    assert "mopps" not in rank_table(numbers_of(cells))


def test_survivors_by_hand():
    cells = league_of(adaptive=arm_row(0.36, 400.0), mopps=SHAKY, dapo=arm_row(0.2, None))
    # adaptive is 0.06 above and dapo 0.1 below on every seed: p = 0, whatever the correction;
    # mopps says nothing
    assert survivors(cells, numbers_of(cells)) == {
        "no harm": [6, 2, 2],
        "harm": [6, 2, 2],
        "different": [6, 4, 4],
    }
    # two in a hundred of one arm alone: 0.01 < p < 0.025 is lost among six tests
    gap = np.array([0.010, 0.016, 0.002, -0.004, 0.020, 0.014])
    one = {**cells}
    for entry in one.values():
        entry["arms"]["mopps"]["final_S"] = [
            round(float(x), 6) for x in np.array(entry["arms"]["uniform"]["final_S"]) + gap
        ]
    p = stats.ttest_1samp(gap, 0.0).pvalue
    assert 0.05 / 2 < p < 0.05  # the last two of Holm's six: 2 p is above 0.05
    assert survivors(one, numbers_of(one))["different"] == [6, 6, 4]
    assert "leaves 4 of 4 verdicts of no harm" in corrected(one, numbers_of(one))
    assert "2 of 2 of harm, and 4 of 6 differences" in corrected(one, numbers_of(one))


def test_share_of_the_best_oracle():
    cells = league_of(adaptive=arm_row(0.32, 500.0), oracle_at_best=arm_row(0.4, 400.0))
    numbers = numbers_of(cells)
    share = shares_of(cells[Cell("small", "grpo")], numbers[Cell("small", "grpo")])
    assert list(share) == ["adaptive"]
    assert share["adaptive"].value == 0.75  # (800 - 500) / (800 - 400)
    text = oracle_table(cells, numbers)
    expected = (
        "| small-grpo | `oracle@t15` | 2.00 [2.00, 2.00] | 1.60 [1.60, 1.60] | 0.75 [0.75, 0.75]"
    )
    assert expected in text
    # where the oracle saves nothing for certain, a share means nothing
    idle = league_of(adaptive=arm_row(0.32, 500.0), oracle_at_best=arm_row(0.4, 800.0))
    numbers = numbers_of(idle)
    assert shares_of(idle[Cell("small", "grpo")], numbers[Cell("small", "grpo")]) == {}
    assert oracle_table(league_of(), numbers_of(league_of())) == ""


def test_a_population_on_the_page():
    cells = league_of(
        adaptive=arm_row(0.36, 400.0), dapo=arm_row(0.2, None, updates_S=[20] * SEEDS, cpu=0.4)
    )
    cells[Cell("small", "rloo")]["arms"]["adaptive"]["cpu_s_S"] = [2.0] * SEEDS
    text = population_section("small", numbers_of(cells))
    assert "### small pool, simulated" in text
    assert "0.300 (GRPO), 0.300 (RLOO)" in text
    gained = "+0.0600 [+0.0600, +0.0600], p<0.001, no harm"
    assert f"| adaptive | {gained} | {gained} |" in text
    assert "| dapo | ≤ 4.00 [0.00, 4.00] (0, 6 out) |" in text  # updates: 80 against 20
    assert "| adaptive | 25% | 25% | 0% | 100 | 1.0 to 2.0 |" in text
    assert "| dapo | 25% | 25% | 0% | 20 | 0.4 |" in text
    assert population_section("coins", numbers_of(cells)) == ""


def test_cells_of_different_sizes_are_not_mixed():
    cells = league_of(adaptive=arm_row(0.36, 400.0))
    cells[Cell("small", "rloo")]["settings"]["rollouts"] = 2000
    with pytest.raises(ValueError, match="rollouts must be the same in all cells"):
        section(cells, numbers_of(cells))
    assert section({}, {}) == ""


def test_the_picture_marks_what_is_undecided():
    cells = league_of(
        adaptive=arm_row(0.36, 400.0), mopps=SHAKY, oracle_at_best=arm_row(0.4, 200.0)
    )
    figure = draw(numbers_of(cells))
    axes = figure.axes[0]
    assert [t.get_text() for t in axes.get_yticklabels()] == ["adaptive", "mopps", f"{BEST} (told)"]
    assert [t.get_text() for t in axes.get_xticklabels()] == ["GRPO", "RLOO"]
    hatched = {(p.get_x() + 0.5, p.get_y() + 0.5) for p in axes.patches if p.get_hatch()}
    assert hatched == {(0.0, 1.0), (1.0, 1.0)}  # mopps in both cells
    shown = {t.get_position(): t.get_text() for t in axes.texts}
    assert shown[0, 0] == "+60"  # thousandths
    assert shown[1, 1] == "\N{MINUS SIGN}2"
    low, high = axes.images[0].get_clim()
    assert low == -high  # white is no difference
    with pytest.raises(ValueError, match="entries must be of one arm beside the reference"):
        draw(numbers_of(league_of()))


def write_league(folder, cells):
    for cell, entry in cells.items():
        Book(folder / "simulator").write(cell, entry)


def test_page_and_picture_from_the_entries_alone(tmp_path, capsys):
    cells = league_of(adaptive=arm_row(0.36, 400.0), oracle_at_best=arm_row(0.4, 200.0))
    write_league(tmp_path / "entries", cells)
    options = ["--entries", "entries", "--page", "league.md", "--picture", "league.png"]
    options += ["--simulator-picture", "simulator.png"]
    options = [str(tmp_path / o) if not o.startswith("--") else o for o in options]
    assert command_line.main(["league", *options, "--page-only"]) == 0
    text = (tmp_path / "league.md").read_text()
    assert text.startswith("# League of schedulers")  # no run of the language model is there
    for heading in ("## In the simulator", "### Ranks over 2 cells", "### The best oracle"):
        assert heading in text
    assert "Commits of the runs: `abc`." in text
    assert (tmp_path / "simulator.png").stat().st_size > 10_000
    assert not (tmp_path / "league.png").exists()
    # one cell that was only begun is no part of it
    begun = {k: v for k, v in cells[Cell("small", "grpo")].items() if k != "arms"}
    write_json(tmp_path / "entries" / "simulator" / "coins-grpo.json", begun)
    assert command_line.main(["league", *options, "--page-only"]) == 0
    assert (tmp_path / "league.md").read_text() == text
    capsys.readouterr()


@pytest.fixture
def halves(monkeypatch, tmp_path):
    """Both halves as a list of calls, in order."""
    calls = []

    def simulator(root, book, cells, arms, size, *, jobs):
        calls.append(("simulator", [cell.name for cell in cells], arms, size.seeds, jobs))

    def model(root, book, runs, *, jobs):
        calls.append(("model", {run.arm for run in runs}, jobs))

    monkeypatch.setattr(simulator_league, "make_with_progress", simulator)
    monkeypatch.setattr(league, "make", model)
    write_league(tmp_path / "entries", league_of(adaptive=arm_row(0.36, 400.0)))
    options = ["--entries", "entries", "--page", "league.md", "--picture", "league.png"]
    options += ["--simulator-picture", "simulator.png", "--simulator-runs", "s", "--runs", "r"]
    options = [str(tmp_path / o) if not o.startswith("--") else o for o in options]
    options += ["--simulator-entries", str(tmp_path / "fresh")]

    def run(*more):
        calls.clear()
        # the page needs something to be there, but nothing is missing from an empty book
        monkeypatch.setattr(
            Book, "everything", lambda book: league_of(adaptive=arm_row(0.36, 400.0))
        )
        assert command_line.main(["league", *options, *more]) == 0
        return list(calls)

    return run


def test_both_halves_tell_first_and_the_simulator_starts(halves, capsys):
    calls = halves("--jobs", "3")
    assert [call[0] for call in calls] == ["simulator", "model"]
    names = [cell.name for cell in wanted()]
    assert calls[0] == ("simulator", names, (*ARMS, BEST), 16, 3)
    lines = capsys.readouterr().out.splitlines()
    # 16 cells x 19 arms x 16 seeds; development: uniform and 6 oracles (12 with coins) x 8
    compared, development = 16 * 19 * 16, 8 * (12 * 7 + 4 * 13)
    assert lines[0].startswith(f"simulator: {compared + development} runs are missing in 16 cells")
    # four pools, but for one arm; development on two seeds: uniform and 6 oracles (12 with coins)
    count = 4 * (2 + 8 * (len(league.ARMS) - 1)) + 8 + 2 * (6 + 6 + 6 + 12)
    assert lines[1].startswith(f"language model: {count} of {count} runs are missing, about ")
    assert halves("--only", "simulator")[0][0] == "simulator"
    assert [call[0] for call in halves("--only", "model")] == ["model"]


def test_a_half_gets_the_arms_that_it_has(halves, capsys):
    calls = halves("--arms", "adaptive", "vip", "--populations", "dead", "--estimators", "rloo")
    assert calls[0][1:3] == (["dead-rloo"], ("adaptive", "vip"))
    assert calls[1][1] == {"adaptive", "uniform"}  # uniform: development seeds
    # nothing for the language model to do: not even its development runs
    assert [call[0] for call in halves("--arms", "vip", "band")] == ["simulator"]
    capsys.readouterr()


def test_the_bar_counts_what_is_missing(small_league, tmp_path):
    from rich.console import Console

    with open(tmp_path / "shown.txt", "w") as file:
        console = Console(file=file, force_terminal=True, width=120)
        simulator_league.make_with_progress(
            tmp_path, Book(tmp_path / "book"), [CELL], ("adaptive",), TINY, jobs=1, console=console
        )
    text = (tmp_path / "shown.txt").read_text()
    assert "small-rloo (1 of 1), 4/4 runs" in text
    assert "100 %, left" in text  # of 2 development runs, and 2 arms x 2 seeds


def test_our_arms_are_in_the_league():
    assert set(simulator_league_rows.OURS) <= set(ARMS)
