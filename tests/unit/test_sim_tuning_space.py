"""What may vary: the table, its conditions, the user's restrictions."""

from __future__ import annotations

import pytest

import cures
from cures.schedulers import scheduler_settings
from sim.settings import Settings
from sim.task import ArmTask, build
from sim.tuning.knobs import TABLE
from sim.tuning.protocol import Study
from sim.tuning.restriction import make_space
from sim.tuning.setting import Setting

SMALL = Settings(
    arms=("uniform",), population="uniform", policy="item_response", pool=600, held_out=20,
    rollouts=6000, batch_size=16,
)  # fmt: skip


def space(scheduler="cures", fixed=None, ranges=None, **change):
    size = {"budget": 128, "group_size": 8, "pool": 300} | change
    return make_space(scheduler, fixed=fixed or {}, ranges=ranges or {}, **size)


def test_every_knob_belongs_to_a_scheduler():
    known = {key for name in cures.list_schedulers() for key in scheduler_settings(name)}
    assert {knob.key for knob in TABLE} <= known


@pytest.mark.parametrize("name", cures.list_schedulers())
def test_every_scheduler_can_be_studied_and_starts_from_its_own_defaults(name):
    study = Study(protocol=SMALL, scheduler=name)  # builds it at the ends of every range
    assert study.space.default_point(8) is not None
    task = ArmTask(name, 0, True)
    at_point, _ = build(study.defaults.under(SMALL), task)
    untouched, _ = build(Setting(name, 8, {}).under(SMALL), task)
    assert at_point._config() == untouched._config()


def test_knobs_are_those_of_the_scheduler():
    assert space("uniform").axes == ["group_size"]
    names = ["temperature", "num_subsets", "pilots", "steps_per_subset", "forgetting"]
    assert set(space("cures").axes) == {"group_size", *names}
    assert set(space("speed").axes) == {
        "group_size", "screening_size/group_size", "screening_batch/batch_size",
    }  # fmt: skip


def test_the_threshold_of_adaptive_is_searched_and_what_the_host_describes_is_not_fixed():
    knob = next(knob for knob in space("adaptive").knobs if knob.key == "threshold")
    assert knob.low < scheduler_settings("adaptive")["threshold"] < knob.high
    with pytest.raises(ValueError, match="keyword must be one of") as error:
        space("adaptive", fixed={"category_N": [0]})
    assert "category_N" not in str(error.value).partition(", got ")[0]


def test_group_size_keeps_the_rollouts_of_an_update():
    for n in space().group_sizes:
        setting = Setting("cures", n, {}).under(SMALL)
        assert (setting.group_size, setting.budget) == (n, 128)
    assert space().group_sizes == (4, 8, 16, 32)  # divisors of 128 in [4, 32]
    assert space(budget=120, group_size=20).group_sizes == (4, 5, 6, 8, 10, 12, 15, 20, 24, 30)


def test_temperature_goes_with_sampling():
    assert "temperature" not in space(fixed={"sampling": False}).axes


def test_forgetting_is_off_or_in_its_range():
    s = space(fixed={"group_size": 8})
    point = s.default_point(8)
    assert point["forgetting>0"] is False
    assert "forgetting" not in point
    assert s.setting(point).options["forgetting"] == 0.0
    on = s.moved(point, "forgetting", 0.1)
    assert s.setting(on).options["forgetting"] == 0.1
    assert s.moved(on, "forgetting", 0.0) == point
    for points in (2, 3):  # both ends of the range, however few points
        assert s.grid("forgetting", points) == [0.0, 0.003, 0.5]


@pytest.mark.parametrize(
    ("name", "pool", "most"),
    [
        ("cures", 300, 64),
        ("cures", 40, 40),  # one prompt each
        # 128 rollouts in groups of 4 are 32 draws without replacement: 300 prompts hold 9 such parts
        ("cures-released", 300, 9),
    ],
)
def test_subsets_stay_legal(name, pool, most):
    knob = next(k for k in space(name, pool=pool).knobs if k.key == "num_subsets")
    assert (knob.low, knob.high) == (1, most)


def test_factors_become_whole_numbers():
    s = space("speed", fixed={"group_size": 8})
    point = {"screening_size/group_size": 0.2, "screening_batch/batch_size": 2.0}
    assert s.setting(point).options == {"screening_size": 2, "screening_batch": 32}


def test_a_range_takes_the_place_of_a_factor():
    # speed's default is 4 batches, not a number: the defaults are no point of such a space
    s = space("speed", ranges={"screening_batch": (16.0, 32.0, None)})
    assert "screening_batch" in s.axes
    assert s.default_point(8) is None
    point = {"group_size": 8, "screening_size/group_size": 0.5, "screening_batch": 20}
    assert s.setting(point).options == {"screening_size": 4, "screening_batch": 20}


def test_the_user_restricts():
    s = space(fixed={"pilots": 2, "group_size": 16}, ranges={"temperature": (0.1, 0.2, False)})
    assert "pilots" not in s.axes
    assert "group_size" not in s.axes
    knob = next(k for k in s.knobs if k.key == "temperature")
    assert (knob.low, knob.high, knob.is_log) == (0.1, 0.2, False)
    assert s.setting(s.default_point(16) or {
        "temperature": 0.15, "num_subsets": 3, "steps_per_subset": 4, "forgetting>0": False,
    }).options == {
        "pilots": 2, "temperature": 0.15, "num_subsets": 3, "steps_per_subset": 4, "forgetting": 0.0,
    }  # fmt: skip
    # a keyword that the table does not know, by its numeric default
    extra = space("dapo", ranges={"max_plans_per_update": (2.0, 20.0, None)})
    assert "max_plans_per_update" in extra.axes
    assert space(ranges={"group_size": (8.0, 16.0, None)}).group_sizes == (8, 16)


@pytest.mark.parametrize(
    ("fixed", "ranges", "sentence"),
    [
        ({"temprature": 1}, {}, r"keyword must be one of \['draws', 'forgetting', 'group_size'"),
        ({"budget": 1}, {}, "keyword must be one of"),
        ({"pilots": 1}, {"pilots": (1.0, 2.0, None)}, "pilots must be fixed or given a range"),
        ({"subset_N": "category"}, {}, "keyword must be one of"),
        ({"prior": None}, {}, "prior must be a finite number, a string, a boolean or a list"),
        ({"prior": [1.0, float("nan")]}, {}, "prior must be a finite number"),
        ({"group_size": 7}, {}, "group_size must be a divisor of 128, at least 2, got 7"),
        ({}, {"pilots": (1.5, 2.5, None)}, "range of pilots must be between whole numbers"),
        (
            {},
            {"sampling": (0.0, 1.0, None)},
            "keyword sampling with a range must be one with a num",
        ),
        ({}, {"group_size": (9.0, 10.0, None)}, "group_size must be a range with a divisor of 128"),
    ],
)
def test_bad_restrictions_are_named(fixed, ranges, sentence):
    with pytest.raises(ValueError, match=f"tune cures: {sentence}"):
        space(fixed=fixed, ranges=ranges)


def test_nothing_to_search_is_an_error():
    with pytest.raises(ValueError, match="fix must be such that something is left to search"):
        space("uniform", fixed={"group_size": 8})


def test_a_band_upside_down_is_refused():
    with pytest.raises(ValueError, match="range of low must be below that of high"):
        space("band", ranges={"low": (0.1, 0.7, None)})


def test_a_value_that_the_scheduler_refuses_is_refused_before_the_search():
    with pytest.raises(ValueError, match="cures: temperature must be a float in"):
        Study(protocol=SMALL, scheduler="cures", ranges={"temperature": (-1.0, 1.0, None)})
    with pytest.raises(ValueError, match="cures: num_subsets must be an int in"):
        Study(protocol=SMALL, scheduler="cures", ranges={"num_subsets": (1.0, 601.0, None)})


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"scheduler": "best"}, "scheduler must be one of"),
        ({"objective": "speed"}, "objective must be one of"),
        ({"trials": 0}, r"trials must be an int in \[1, inf\)"),
        ({"confirm_seeds": 5}, r"confirm_seeds must be an int in \[6, inf\)"),
        ({"profile_points": 1}, "profile_points must be 0 or at least 2"),
    ],
)
def test_bad_studies_are_named(change, sentence):
    with pytest.raises(ValueError, match=f"tune: {sentence}"):
        Study(**({"protocol": SMALL, "scheduler": "cures"} | change))


def test_seeds_of_search_selection_and_confirmation_are_apart():
    study = Study(protocol=SMALL, scheduler="cures")
    ranges = (study.search_indices, study.select_indices, study.confirm_indices)
    assert [len(r) for r in ranges] == [4, 8, 16]
    assert len(set().union(*ranges)) == 28
