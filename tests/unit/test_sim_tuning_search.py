"""The search and what follows it, on a laboratory whose answers are known in closed form."""

from __future__ import annotations

import io
import math
from dataclasses import replace

import numpy as np
import optuna
import pytest
from rich.console import Console

from cures.comparison import paired_difference
from cures.storage import read_jsonl
from sim.settings import REFERENCE, Settings
from sim.tuning.confirmation import choose, confirm
from sim.tuning.objective import FRACTION, Objective
from sim.tuning.protocol import Study
from sim.tuning.report import _point_further
from sim.tuning.runs import Laboratory
from sim.tuning.search import Trial, best_first, importances, propose, quiet_optuna, search
from sim.tuning.sensitivity import profiles
from sim.tuning.setting import Setting

PROTOCOL = Settings(
    arms=("uniform",), population="uniform", policy="item_response", pool=600, held_out=20,
    rollouts=6000, batch_size=16, grid_points=7,
)  # fmt: skip
STUDY = Study(
    protocol=PROTOCOL, scheduler="cures", trials=16, batch=4, trial_seeds=3, select_seeds=4,
    confirm_seeds=8, top=3, fixed={"num_subsets": 4, "pilots": 2, "group_size": 8},
)  # fmt: skip
NOISE = 0.01


class Formula:
    """A laboratory without a simulator: success follows from the setting, plus noise per seed.

    ``gain(setting)`` above the reference at the end; half of it halfway. Noise has two parts: one that
    all settings of a seed share, which pairing removes, and one of the setting alone.
    """

    def __init__(self, gain, protocol=PROTOCOL):
        self.gain, self.protocol, self.asked = gain, protocol, []

    def stream(self, runs):
        for run in runs:
            self.asked.append(run.key)
            yield run

    def run(self, runs):
        list(self.stream(runs))

    def curves(self, setting, indices):
        if setting.scheduler != REFERENCE and self.gain(setting) is None:
            return None
        rise = np.linspace(0.0, 1.0, self.protocol.grid_points)
        rows = []
        for index in indices:
            common = np.random.default_rng([7, index]).normal(0.0, 0.1)
            own = np.random.default_rng([8, index, *setting.key.encode()]).normal(0.0, NOISE)
            gain = 0.0 if setting.scheduler == REFERENCE else self.gain(setting) + own
            rows.append(0.3 + common + (0.2 + gain) * rise)
        return np.array(rows)

    sound_curves = curves


def hill(setting):
    """Best at temperature 0.1, M = 20: a known optimum of 0.1, the rest matters little."""
    options = setting.options
    far = (
        math.log(options["temperature"] / 0.1) ** 2
        + 0.2 * math.log(options["steps_per_subset"] / 20) ** 2
    )
    return 0.1 - 0.03 * far


def nothing(setting):
    return 0.0


def run_search(tmp_path, gain=hill, study=STUDY):
    laboratory = Formula(gain)
    objective = Objective.of(study, laboratory)
    return search(study, tmp_path, objective), objective


@pytest.fixture(autouse=True)
def folders(tmp_path):
    for name in ("whole", "grown"):
        (tmp_path / name).mkdir()


def test_the_search_finds_a_known_optimum(tmp_path):
    trials, _ = run_search(tmp_path, study=replace(STUDY, trials=32))
    best = best_first(trials)[0]
    assert best.mean > 0.08  # of 0.1; the defaults have 0.1 - 0.03 (0.69^2 + 0.2 0.69^2) = 0.083
    assert trials[0].setting.options["temperature"] == 0.05, "trial 0 is the defaults"
    # the first 10 are random: what follows is better on average, or the estimator would be useless
    assert np.mean([t.mean for t in trials[16:]]) > np.mean([t.mean for t in trials[1:10]])
    found = importances(tmp_path)
    assert found["temperature"] == max(found.values())


def test_importance_of_nothing_is_not_made_up(tmp_path):
    class Same(Formula):
        def curves(self, setting, indices):
            return np.full((len(indices), 7), 0.3)

        sound_curves = curves

    search(STUDY, tmp_path, Objective(STUDY, Same(nothing), 0.0))
    assert importances(tmp_path) == {}


def test_values_are_paired_differences(tmp_path):
    trials, objective = run_search(tmp_path)
    for trial in trials[:3]:
        arm = objective.laboratory.curves(trial.setting, STUDY.search_indices)[:, -1]
        reference = objective.laboratory.curves(STUDY.reference, STUDY.search_indices)[:, -1]
        assert trial.value_S == pytest.approx(arm - reference, abs=1e-12)
        # without pairing the seeds' common part (sd 0.1) would drown this (sd 0.01)
        assert trial.value_S.std() < 5 * NOISE


def test_stopped_and_grown_searches_try_the_same_settings(tmp_path):
    whole, _ = run_search(tmp_path / "whole")
    for trials in (6, 16):  # stops within batches; a folder grows
        grown, _ = run_search(tmp_path / "grown", study=replace(STUDY, trials=trials))
    assert [t.as_json() for t in grown] == [t.as_json() for t in whole]
    rows = [(tmp_path / name / "trials.jsonl").read_bytes() for name in ("whole", "grown")]
    assert rows[0] == rows[1]
    assert len(read_jsonl(tmp_path / "whole" / "trials.jsonl")) == 16


def test_a_batch_rests_on_earlier_batches_alone(tmp_path):
    run_search(tmp_path)
    with quiet_optuna():  # batch 3 begins after the ten random trials
        stored = optuna.load_study(storage=f"sqlite:///{tmp_path / 'study.db'}", study_name="tune")
        known = stored.get_trials()
        first = propose(STUDY, STUDY.space, known[:12], 3)
        again = propose(STUDY, STUDY.space, known[:12], 3)
        other_history = propose(STUDY, STUDY.space, known[4:16], 3)
        other_seed = replace(STUDY, protocol=replace(PROTOCOL, root_seed=1))
        other = propose(other_seed, STUDY.space, known[:12], 3)
    assert first == again == [t.params for t in known[12:16]]
    assert first not in (other_history, other)


def test_the_database_lies_in_its_folder_whatever_the_name(tmp_path):
    # in a URL "?" begins a query, "%41" is an A and Optuna fills in what stands in braces
    place = tmp_path / "is it? {50%41} #2"
    place.mkdir()
    first, _ = run_search(place)
    assert (place / "study.db").stat().st_size > 0
    assert {path.name for path in tmp_path.iterdir()} == {"whole", "grown", place.name}
    again, _ = run_search(place)
    assert [t.as_json() for t in again] == [t.as_json() for t in first]


def test_a_study_of_another_version_is_refused(tmp_path):
    run_search(tmp_path)
    with pytest.raises(ValueError, match=r"trial 0 of study\.db must be .*choose another --folder"):
        run_search(tmp_path, study=replace(STUDY, fixed={"num_subsets": 4, "pilots": 2}))


def test_diverged_trials_are_kept_and_never_recommended(tmp_path):
    def gain(setting):
        return None if setting.options["temperature"] > 0.06 else 0.0

    trials, objective = run_search(tmp_path, gain)
    diverged = [t for t in trials if t.value_S is None]
    assert diverged
    assert all(t.setting.options["temperature"] > 0.06 for t in diverged)
    assert all(row["value"] is None for row in read_jsonl(tmp_path / "trials.jsonl")
               if row["options"]["temperature"] > 0.06)  # fmt: skip
    assert choose(STUDY, objective, trials).chosen.setting.options["temperature"] <= 0.06


def test_the_selecting_seeds_choose(tmp_path):
    objective = Objective(STUDY, Formula(nothing), 0.0)
    settings = [Setting("cures", 8, {"temperature": 0.01 * (k + 1)}) for k in range(6)]
    trials = [_trial(n, s, objective, STUDY) for n, s in enumerate(settings)]
    choice = choose(STUDY, objective, trials)
    looked_at = [*(t.setting for t in best_first(trials)[: STUDY.top]), STUDY.defaults]
    assert [c.setting for c in choice.candidates] == looked_at
    select = [objective.value_S(s, STUDY.select_indices).mean() for s in looked_at]
    assert choice.chosen.setting == looked_at[int(np.argmax(select))]
    assert int(np.argmax(select)) != 0, "the trial seeds would have chosen another"


def test_a_run_that_diverges_is_an_answer(tmp_path):
    # Adam's momentum adds to a first step of 1e308: beyond the largest float, 1.8e308, at the third
    wild = replace(PROTOCOL, learning_rate=1e308, rollouts=1280)
    laboratory = Laboratory(wild, tmp_path)
    assert laboratory.curves(Setting("uniform", 8, {}), range(1)) is None
    with pytest.raises(FloatingPointError, match="uniform with {} diverged on a seed of .*smaller"):
        laboratory.sound_curves(Setting("uniform", 8, {}), range(1))


def test_a_better_setting_is_recommended_with_its_interval(tmp_path):
    def gain(setting):
        return 0.1 if setting.options["temperature"] > 0.06 else 0.0

    trials, objective = run_search(tmp_path, gain)
    choice = choose(STUDY, objective, trials)
    report = confirm(STUDY, objective, choice)
    assert report["verdict"] == "better than the defaults"
    assert not report["is_default"]
    assert report["recommended"]["options"]["temperature"] > 0.06
    arm = objective.laboratory.curves(choice.chosen.setting, STUDY.confirm_indices)[:, -1]
    reference = objective.laboratory.curves(STUDY.reference, STUDY.confirm_indices)[:, -1]
    expected = paired_difference(arm, reference)
    assert report["minus_uniform"]["low"] == expected.low
    assert report["minus_uniform"]["low"] < 0.1 < report["minus_uniform"]["high"]
    assert [row["fraction"] for row in report["speed_up"]] == [0.5, 0.8, 0.95]
    # rises are straight lines: 0.2 and 0.3 over the budget, so the ratio is 0.3 / 0.2 up to the noise
    assert report["speed_up"][1]["ratio"] == pytest.approx(1.5, rel=0.1)


def test_where_nothing_helps_the_defaults_stay(tmp_path):
    trials, objective = run_search(tmp_path, nothing)
    report = confirm(STUDY, objective, choose(STUDY, objective, trials))
    assert report["is_default"]
    assert report["verdict"].startswith("nothing is")
    assert report["recommended"] == STUDY.defaults.as_json()


def test_the_winner_of_many_noisy_trials_is_cursed_and_fresh_seeds_are_not():
    """60 searches among 30 settings that are all alike, without Optuna."""
    study = replace(STUDY, top=3)
    search_mean, confirm_mean = [], []
    for repeat in range(60):
        settings = [
            Setting("cures", 8, {"temperature": 0.01 * (k + 1), "steps_per_subset": 10 + repeat})
            for k in range(30)
        ]
        objective = Objective(study, Formula(nothing), 0.0)
        trials = [_trial(n, s, objective, study) for n, s in enumerate(settings)]
        chosen = choose(study, objective, trials).chosen
        search_mean.append(best_first(trials)[0].mean)
        confirm_mean.append(objective.value_S(chosen.setting, study.confirm_indices).mean())
    error = NOISE / np.sqrt(study.confirm_seeds * 60)
    assert abs(np.mean(confirm_mean)) < 4 * error
    # the largest of 30 normals is 2.04 standard deviations above zero on average
    expected = 2.0428 * NOISE / np.sqrt(study.trial_seeds)
    assert np.mean(search_mean) == pytest.approx(expected, rel=0.15)


def test_a_search_in_which_every_trial_diverged_says_so():
    # the defaults lie outside the space, so no trial is theirs; they are sound, and nothing was found
    objective = Objective(STUDY, Formula(lambda s: None if s.options["pilots"] > 8 else 0.0), 0.0)
    settings = [Setting("cures", 8, {"pilots": 9 + k}) for k in range(3)]
    trials = [_trial(n, s, objective, STUDY) for n, s in enumerate(settings)]
    assert [trial.value_S for trial in trials] == [None] * 3
    with pytest.raises(FloatingPointError, match="tune: training diverged in every trial; give"):
        choose(STUDY, objective, trials)
    sound = Setting("cures", 8, {"pilots": 8})
    chosen = choose(STUDY, objective, [*trials, _trial(3, sound, objective, STUDY)]).chosen
    assert chosen.setting.options["pilots"] <= 8


def _trial(number, setting, objective, study):
    return Trial(number, {}, setting, objective.value_S(setting, study.search_indices))


def test_rollouts_objective_by_hand():
    study = replace(STUDY, objective="rollouts")
    laboratory = Formula(lambda setting: 0.2)
    objective = Objective.of(study, laboratory)
    assert objective.gain == pytest.approx(FRACTION * 0.2)
    slow = Setting("cures", 8, {})
    value_S = objective.value_S(slow, study.search_indices)
    # straight lines: 0.16 of 0.2 takes 0.8 of the budget, 0.16 of 0.4 + noise about 0.4 of it;
    # the derivative 0.16 / 0.4^2 = 1 turns the noise's standard deviation into that of the crossing
    assert np.abs(value_S - 0.4).max() < 4 * NOISE


def test_who_never_arrives_counts_by_what_is_lacking():
    class Slow(Formula):
        def curves(self, setting, indices):
            gain = {"uniform": 0.2, "cures": 0.05, "speed": 0.1}[setting.scheduler]
            return np.array([0.3 + gain * np.linspace(0.0, 1.0, 7) for _ in indices])

        sound_curves = curves

    objective = Objective.of(replace(STUDY, objective="rollouts"), Slow(nothing))
    value = [
        objective.value_S(Setting(name, 8, {}), STUDY.search_indices)[0]
        for name in ("uniform", "cures", "speed")
    ]
    # level 0.3 + 0.16, reached by uniform after 0.8 of the budget; the others lack 0.11 and 0.06 of 0.16
    assert value[0] == 0.0
    assert value[1] == pytest.approx(0.8 - (1 + 0.11 / 0.16))
    assert value[2] == pytest.approx(0.8 - (1 + 0.06 / 0.16))


def test_rollouts_need_a_reference_that_improves():
    class Flat(Formula):
        def curves(self, setting, indices):
            return np.full((len(indices), 7), 0.3)

        sound_curves = curves

    with pytest.raises(ValueError, match="above the start on average"):
        Objective.of(replace(STUDY, objective="rollouts"), Flat(nothing))


def test_profiles_go_through_the_chosen_point_and_measure_the_loss(tmp_path):
    study = replace(STUDY, profile_points=4)
    objective = Objective.of(
        study, Formula(lambda s: 0.1 - 0.05 * (s.options["temperature"] > 0.2))
    )
    point = study.space.default_point(8)
    found = {p.name: p for p in profiles(study, study.space, objective, point)}
    assert set(found) == {"temperature", "steps_per_subset", "forgetting"}
    row = found["temperature"].as_json(margin=0.03)
    assert row["centre"] == 0.05
    assert row["value"] == sorted({0.005, 0.0292402, 0.05, 0.170998, 1.0})  # geometric, 4 points
    assert row["loss"][row["value"].index(0.05)] == 0.0
    error = NOISE * np.sqrt(2 / len(study.profile_indices))  # two settings' own noise
    assert abs(row["loss"][-1] - 0.05) < 4 * error
    assert row["worst"]["value"] == 1.0
    assert row["tolerated"] == [0.005, 0.170998]
    assert found["forgetting"].value_V[0] == 0.0


@pytest.mark.parametrize(
    ("loss", "error", "is_said"),
    [
        # two values beside the centre, three seeds: t(2) at 1 - 0.0125 is 6.205 (scipy.stats.t.ppf)
        (-0.063, 0.01, True),
        (-0.061, 0.01, False),  # 6.1 standard errors of three seeds are no discovery
        (+0.063, 0.01, False),
        (-0.063, None, False),  # one seed
    ],
)
def test_a_profile_points_further_only_beyond_its_noise(loss, error, is_said):
    errors = None if error is None else [error, 0.0, error]
    row = {"name": "temperature", "value": [0.1, 0.2, 0.3], "loss": [0.0, 0.0, loss],
           "loss_standard_error": errors, "objective_S": [[0.0] * 3] * 3}  # fmt: skip
    console = Console(file=io.StringIO(), width=200)
    _point_further({"profiles": [row]}, console)
    assert ("± 0.0100 higher at 0.3" in console.file.getvalue()) == is_said


def test_profiles_are_free_of_the_winners_curse(tmp_path):
    """60 profiles through the best of 30 settings that are all alike: leaving it costs nothing."""
    study = replace(STUDY, profile_points=2)
    loss, on_trial_seeds = [], []
    for repeat in range(60):
        objective = Objective(study, Formula(nothing), 0.0)
        points = [
            {"temperature": 0.01 * (k + 1), "steps_per_subset": 10 + repeat, "forgetting>0": False}
            for k in range(30)
        ]
        best = max(points, key=lambda p: _mean_value(objective, study, p))
        row = next(
            p for p in profiles(study, study.space, objective, best) if p.name == "temperature"
        )
        loss.append(row.loss_V_S[-1].mean())  # at temperature 1, which was no trial
        other = study.space.moved(best, "temperature", 1.0)
        on_trial_seeds.append(
            _mean_value(objective, study, best) - _mean_value(objective, study, other)
        )
    error = NOISE * np.sqrt(2 / (len(study.profile_indices) * 60))  # two settings' own noise
    assert abs(np.mean(loss)) < 4 * error
    # control: on the seeds that chose it, leaving the largest of 30 normals costs 2.04 deviations
    expected = 2.0428 * NOISE / np.sqrt(study.trial_seeds)
    assert np.mean(on_trial_seeds) == pytest.approx(expected, abs=4 * error)
    assert expected > 8 * error


def _mean_value(objective, study, point):
    return objective.value_S(study.space.setting(point), study.search_indices).mean()
