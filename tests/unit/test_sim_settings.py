"""Settings of a comparison: parsing, refusals, seeds."""

from __future__ import annotations

import numpy as np
import pytest

from cures import list_schedulers
from cures.schedulers import SCHEDULERS
from cures.schedulers.uniform import Uniform
from cures.storage import read_json
from sim.cli import main, parser
from sim.commands.compare import settings_of
from sim.grid import cells_of, prepare_grid
from sim.population_file import EmpiricalLaw, write_population
from sim.populations import LAWS, POLICIES, POPULATIONS, make_population
from sim.settings import LEARNING_RATES, Seeds, Settings, check_same, parse_options
from sim.task import ArmTask, build


def test_the_reference_is_always_among_the_arms():
    assert Settings(arms=("cures",)).arms == ("uniform", "cures")
    assert Settings(arms=("cures", "uniform")).arms == ("cures", "uniform")


def test_command_line_and_settings_have_the_same_defaults():
    arguments = parser().parse_args(["compare", "--schedulers", "cures"])
    assert settings_of(arguments) == Settings(arms=("cures",))


def test_options_are_json_or_strings():
    options = parse_options(["cures.temperature=0.05", "a.b=[1, 2]", "a.c=linear", "a.d=null"])
    assert options == {"cures": {"temperature": 0.05}, "a": {"b": [1, 2], "c": "linear", "d": None}}


@pytest.mark.parametrize("entry", ["cures", "cures=1", "cures.temperature", ".a=1", "a.=1"])
def test_malformed_options_are_refused(entry):
    with pytest.raises(ValueError, match=r"compare: set must be ARM\.KEY=VALUE"):
        parse_options([entry])


def test_an_option_given_twice_is_refused():
    with pytest.raises(ValueError, match="compare: set must be given once per key"):
        parse_options(["a.b=1", "a.b=2"])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"arms": ("cures", "cures")}, "compare: schedulers must be named once each"),
        ({"arms": ("cures@",)}, "compare: schedulers must be NAME or NAME@LABEL"),
        ({"arms": ("../x",)}, "compare: schedulers must be NAME or NAME@LABEL"),
        ({"options": {"speed": {}}}, r"compare: set must be one of \['uniform', 'cures'\]"),
        ({"population": "easy"}, r"compare: population must be one of \['skills'"),
        ({"policy": "tabular"}, "compare: policy must be 'skills' for population 'skills'"),
        ({"seeds": 0}, r"compare: seeds must be an int in \[1, inf"),
        ({"dev_seeds": 0}, r"compare: dev_seeds must be an int in \[1, inf"),
        ({"group_size": 1}, r"compare: group_size must be an int in \[2, inf"),
        ({"rollouts": 511}, r"compare: rollouts must be an int in \[512, inf"),
        ({"estimator": "ppo"}, "compare: estimator must be one of"),
        ({"optimiser": "lion"}, "compare: optimiser must be one of"),
        ({"learning_rate": -1.0}, "compare: learning_rate must be"),
        ({"missing_rate": 1.0}, "compare: missing_rate must be"),
        ({"grid_points": 1}, "compare: grid_points must be"),
        ({"margin": 0.0}, "compare: margin must be"),
    ],
)
def test_bad_settings_are_named(change, message):
    with pytest.raises(ValueError, match=message):
        Settings(**{"arms": ("cures",), **change})


def test_arms_of_a_seed_share_all_but_a_label():
    one = Seeds.of(0, "uniform", 3, is_development=False)
    assert one == Seeds.of(0, "cures", 3, is_development=False)
    labelled = Seeds.of(0, "uniform@again", 3, is_development=False)
    assert (labelled.population, labelled.host) == (one.population, one.host)
    assert labelled.scheduler != one.scheduler
    # development seeds, other indices and other roots share nothing; nor do the roots of one run
    others = [
        Seeds.of(0, "uniform", 3, is_development=True),
        Seeds.of(0, "uniform", 4, is_development=False),
        Seeds.of(1, "uniform", 3, is_development=False),
    ]
    words = [w for s in [one, *others] for w in (s.population, s.host, s.scheduler)]
    assert len(set(words)) == 12


def test_another_configuration_is_refused_by_name():
    stored = Settings(arms=("cures",), seeds=4).as_json()
    check_same(Settings(arms=("cures",), seeds=4), stored, "runs/x")
    with pytest.raises(
        ValueError, match=r"compare: seeds must be 4 or more as in runs/x/config\.json"
    ):
        check_same(Settings(arms=("cures",), seeds=3), stored, "runs/x")
    check_same(Settings(arms=("cures",), seeds=5), stored, "runs/x")  # a comparison may grow
    with pytest.raises(ValueError, match="dev_seeds must be"):
        check_same(Settings(arms=("cures",), seeds=5, dev_seeds=9), stored, "runs/x")


@pytest.mark.parametrize("optimiser", sorted(LEARNING_RATES))
@pytest.mark.parametrize("policy", ["skills", "item_response", "tabular"])
def test_the_learning_rate_follows_optimiser_and_policy(optimiser, policy):
    settings = Settings(arms=("cures",), optimiser=optimiser, policy=policy, population="uniform")
    assert settings.learning_rate == LEARNING_RATES[optimiser][policy]


@pytest.mark.parametrize(
    "key", ["num_prompts", "batch_size", "budget", "seed", "estimator", "true_success_rate",
            "prior_success_rate_N", "total_rollouts", "category_N"],
)  # fmt: skip
def test_an_arm_cannot_have_a_protocol_of_its_own(key):
    with pytest.raises(ValueError, match=key):
        Settings(arms=("cures",), options={"cures": {key: 4}})


@pytest.mark.parametrize("is_development", [False, True])
@pytest.mark.parametrize("index", [0, 3])
def test_every_root_of_randomness_is_its_own(index, is_development):
    settings = Settings(arms=("cures",), rollouts=1000, pool=64, held_out=8, batch_size=8)
    scheduler, host = build(settings, ArmTask("cures", index, is_development))
    seeds = Seeds.of(0, "cures", index, is_development=is_development)
    assert scheduler.seed == seeds.scheduler
    assert host.seed == seeds.host
    expected = make_population(
        "skills", "skills", num_pool=64, num_held_out=8, seed=seeds.population
    )
    assert np.array_equal(host.theta_D, expected.theta_D)
    others = [Seeds.of(0, "cures", i, is_development=d) for i in range(5) for d in (False, True)]
    roots = [root for s in others for root in (s.scheduler, s.host, s.population)]
    assert len(set(roots)) == len(roots)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--schedulers", "magic"], "schedulers must be among ['cures'"),
        (["--schedulers", "cures", "--set", "cures.heat=1"], "must be one of ['batch_size'"),
        (["--schedulers", "cures", "--set", "cures.temperature=-1"], "temperature must be"),
        (["--schedulers", "cures", "--seeds", "0"], "seeds must be an int in [1, inf), got 0"),
        (["--schedulers", "cures", "--jobs", "0"], "jobs must be an int in [1, inf), got 0"),
        (["--schedulers", "cures", "--checkpoint-every", "-1"], "checkpoint_every must be"),
        (
            ["--schedulers", "oracle", "--until-decided"],
            "schedulers must be a list with an arm other",
        ),
        (
            ["--schedulers", "cures", "--until-decided", "--seeds", "33"],
            "seeds must be an int in [1, 32], got 33",
        ),
    ],
)
def test_bad_commands_end_with_one_sentence(arguments, message, tmp_path, capsys):
    status = main(["compare", *arguments, "--out", str(tmp_path / "run")])
    assert status == 2
    error = capsys.readouterr().err
    assert message in error
    assert "Traceback" not in error
    assert not (tmp_path / "run").exists()  # nothing was claimed


@pytest.mark.parametrize("inside", ["", "/run"])
def test_a_file_in_place_of_the_run_folder_is_refused_by_name(inside, tmp_path, capsys):
    file = tmp_path / "thesis.tex"
    file.write_text("do not touch")
    status = main(["compare", "--schedulers", "cures", "--out", f"{file}{inside}"])
    assert status == 2
    error = capsys.readouterr().err
    assert f"out must be a folder, got {file}{inside}, where {file} is a file" in error
    assert "Traceback" not in error
    assert file.read_text() == "do not touch"


def test_help_names_every_scheduler_population_and_policy(capsys):
    with pytest.raises(SystemExit) as exit_:
        main(["compare", "--help"])
    assert exit_.value.code == 0
    text = capsys.readouterr().out
    below = text[text.index("schedulers (--schedulers):") :]
    for name in (*list_schedulers(), *POPULATIONS, *POLICIES):
        line = next(x for x in below.splitlines() if name in x.split())
        assert len(line.split()) > 3, name  # and says what it is
    assert "%%" not in text
    # shares of the populations are those of the code
    assert f"{LAWS['dead'][1][0]:.0%}".replace("%", " %") + " never" in below
    assert f"{LAWS['dead'][1][1]:.0%}".replace("%", " %") + " always" in below
    assert f"{LAWS['coins'][1][2]:.0%}".replace("%", " %") + " rewarded by coin" in below


# -- population files --------------------------------------------------------------------------------


def law_of(**changes):
    given = {"name": "mine", "success_rate_K": [0.1, 0.6], "weight_K": [0.5, 0.5]}
    return EmpiricalLaw(**(given | changes))


@pytest.fixture
def path(tmp_path):
    write_population(
        tmp_path / "p.json", law_of(policy="tabular", learning_rate=0.123, drift_sd=0.1)
    )
    return str(tmp_path / "p.json")


def test_a_population_file_gives_name_policy_and_learning_rate(path):
    settings = Settings(arms=("cures",), population=path)
    assert (settings.population, settings.policy) == ("mine", "tabular")
    assert settings.learning_rate == 0.123
    # what the caller says goes before; the suggestion is one for its own policy and Adam
    assert Settings(arms=(), population=path, learning_rate=0.5).learning_rate == 0.5
    other = Settings(arms=(), population=path, policy="skills")
    assert other.learning_rate == LEARNING_RATES["adam"]["skills"]
    plain = Settings(arms=(), population=path, optimiser="sgd")
    assert plain.learning_rate == LEARNING_RATES["sgd"]["tabular"]


def test_a_run_folder_needs_no_population_file(path, tmp_path):
    settings = Settings(arms=("cures",), population=path, pool=20, batch_size=2, held_out=4)
    stored = settings.as_json()
    (tmp_path / "p.json").unlink()
    again = Settings(**stored | {"arms": tuple(stored["arms"])})
    assert again == settings
    population = build(again, ArmTask("cures", 0, False))[1].population
    assert (population.name, population.drift_sd) == ("mine", 0.1)


def test_another_file_of_the_same_name_is_another_comparison(path, tmp_path):
    stored = Settings(arms=("cures",), population=path).as_json()
    check_same(Settings(arms=("cures",), population=path), stored, "runs/x")
    write_population(
        tmp_path / "p.json", law_of(policy="tabular", learning_rate=0.123, drift_sd=0.2)
    )
    with pytest.raises(ValueError, match=r"empirical\.drift_sd must be 0\.1 as in runs/x/config"):
        check_same(Settings(arms=("cures",), population=path), stored, "runs/x")


@pytest.mark.parametrize(
    ("changes", "policy", "message"),
    [
        ({"name": "uniform"}, None, r"compare: name in .*p\.json must be none of \['skills'"),
        ({"transfer": 0.5}, "skills", "compare: policy must be 'item_response' for a population"),
    ],
)
def test_a_file_that_cannot_be_used_is_refused(changes, policy, message, tmp_path):
    write_population(tmp_path / "p.json", law_of(**changes))
    with pytest.raises(ValueError, match=message):
        Settings(arms=("cures",), population=str(tmp_path / "p.json"), policy=policy)


def test_a_config_from_before_population_files_is_still_the_same_comparison():
    stored = Settings(arms=("cures",)).as_json()
    del stored["empirical"]
    check_same(Settings(arms=("cures",)), stored, "runs/x")


def test_categories_are_told_to_schedulers_that_ask(monkeypatch):
    class Asks(Uniform):
        name = "uniform"

        def __init__(self, num_prompts, batch_size, budget, seed=0, *, category_N, **options):
            self.category_N = category_N
            super().__init__(num_prompts, batch_size, budget, seed, **options)

    monkeypatch.setitem(SCHEDULERS, "uniform", Asks)
    small = {"pool": 30, "batch_size": 2, "held_out": 4}
    settings = Settings(arms=(), population="categories", **small)
    scheduler, host = build(settings, ArmTask("uniform", 0, False))
    np.testing.assert_array_equal(scheduler.category_N, host.population.category_N[:30])
    # a population without categories has nothing to tell: the scheduler says what it misses
    with pytest.raises(ValueError, match="make_scheduler: keyword 'category_N' of 'uniform' must"):
        build(Settings(arms=(), population="uniform", **small), ArmTask("uniform", 0, False))


def test_every_cell_of_a_grid_is_built_before_the_first_runs(tmp_path):
    # what adaptive refuses under grpo it takes under rloo, the first estimator of the population
    cells = cells_of(
        [
            Settings(
                arms=("adaptive",),
                options={"adaptive": {"baseline": "posterior"}},
                population="uniform",
                policy="item_response",
                pool=20,
                held_out=4,
                rollouts=64,
                batch_size=4,
                estimator=estimator,
            )
            for estimator in ("rloo", "grpo")
        ]
    )
    with pytest.raises(ValueError, match="baseline must be 'group' under estimator 'grpo'"):
        prepare_grid(cells, tmp_path / "grid")
    assert not (tmp_path / "grid").exists()
    del cells["uniform-grpo"]
    prepare_grid(cells, tmp_path / "grid")
    assert read_json(tmp_path / "grid" / "grid.json") == {"cells": ["uniform-rloo"]}
