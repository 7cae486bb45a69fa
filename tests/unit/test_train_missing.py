"""Lost rollouts are no trials and teach nothing, and are counted; truncated ones are wrong answers."""

from __future__ import annotations

from itertools import cycle, islice

import numpy as np
import pytest
import torch

import cures
from cures.records import Selection
from tests.train_cases import plan_of, small_host, small_task
from train.engines.scripted import Line, ScriptedEngine
from train.evaluation import held_out_success, success_rate
from train.oracle import SuccessProbe
from train.seeds import Stream
from train.tasks.characters import EOS
from train.world import World

SAID = ("right", "lost", "wrong", "cut")  # by the rows of a prompt, in turn
TOKENS = {"right": 3, "wrong": 1, "cut": 3}  # two digits and EOS; EOS alone; three digits


def line(what, answer):
    """What the engine says to a problem of this answer."""
    first, second, _ = answer
    return {
        "right": Line(tokens=answer),
        "wrong": Line(tokens=[EOS]),
        "cut": Line(tokens=[first, second, first]),
        "lost": None,
        "late": Line(tokens=answer, takes_s=9.0),
    }[what]


def scripted_host(said=SAID, **sections):
    """A host whose engine says the same to every problem of pool and held-out set."""
    task = small_task(**sections.get("task", {}))
    table = {
        tuple(questions.prompts.row(i).tolist()): [line(what, answer) for what in said]
        for questions in (task.pool, task.held_out)
        for i, answer in enumerate(questions.answer_N_A.tolist())
    }
    return small_host(engine=ScriptedEngine.of_table(table), **sections)


def came_back(quota, said=SAID):
    """What was said in the rows of a prompt that were not lost."""
    return [what for what in islice(cycle(said), quota) if what in TOKENS]


def capture(host):
    """Record what the learner is given instead of training."""
    calls = []

    def update(rollouts, prompts, advantage_R, weight_R, **scalars):
        calls.append((rollouts, advantage_R, weight_R))
        return {}

    host.learner.update = update
    return calls


def test_what_the_engine_lost_is_no_trial():
    host = scripted_host()
    outcome = host.rollout(plan_of([4, 3, 6, 1]))
    rows = [came_back(quota) for quota in (4, 3, 6, 1)]
    assert [len(row) for row in rows] == [3, 2, 4, 1], "otherwise nothing is lost"
    assert outcome.trial_B.tolist() == [len(row) for row in rows]
    assert outcome.success_B.tolist() == [row.count("right") for row in rows]
    assert outcome.token_B.tolist() == [sum(TOKENS[what] for what in row) for row in rows]
    assert host.generated == 14, "paid for all the same"
    stored = host.pending
    flat = [what for row in rows for what in row]
    assert stored.group_R.tolist() == [g for g, row in enumerate(rows) for _ in row]
    assert stored.reward_R.tolist() == [float(what == "right") for what in flat]
    assert stored.is_truncated_R.tolist() == [what == "cut" for what in flat]


def test_what_was_lost_is_not_in_the_loss():
    host = scripted_host()
    calls = capture(host)
    host.rollout(plan_of([4, 3, 6]))
    metrics = host.update(Selection(np.arange(3), np.array([0.5, 0.2, 0.3])))
    ((rollouts, advantage_R, weight_R),) = calls
    # right, wrong, cut | right, wrong | right, wrong, cut, right
    assert rollouts.length_R.tolist() == [3, 1, 3, 3, 1, 3, 1, 3, 3]
    expected = cures.advantages([1, 0, 0, 1, 0, 1, 0, 0, 1], [0, 0, 0, 1, 1, 2, 2, 2, 2])
    assert advantage_R.tolist() == expected.tolist()
    # a prompt's weight is shared by those that came back, Eq. 16 with n_i = 3, 2, 4
    assert weight_R == pytest.approx(np.repeat([0.5 / 3, 0.2 / 2, 0.3 / 4], [3, 2, 4]))
    assert metrics["trained"] == 9
    assert metrics["reward"] == pytest.approx(4 / 9)
    assert metrics["truncated"] == pytest.approx(2 / 9)
    assert len(host.pending) == 0


def test_the_time_limit_of_the_configuration_is_the_engines():
    said = ("right", "late")  # nine seconds, of no clock
    trials = {}
    for limit in (8.0, 10.0, None):
        limits = {} if limit is None else {"rollout": {"time_limit_s": limit}}
        host = scripted_host(said, **limits)
        trials[limit] = host.rollout(plan_of([2, 2])).trial_B.tolist()
    assert trials == {8.0: [1, 1], 10.0: [2, 2], None: [2, 2]}


class Losing:
    """Questions whose verifier gives up on every third completion."""

    def __init__(self, questions):
        self._questions = questions

    def __getattr__(self, name):
        return getattr(self._questions, name)

    def reward(self, index_R, completions, luck_R=None):
        reward_R = self._questions.reward(index_R, completions, luck_R)
        reward_R[::3] = np.nan
        return reward_R


def test_what_the_verifier_lost_is_no_trial():
    host = scripted_host(("right", "wrong"))
    host.task.pool = Losing(host.task.pool)
    outcome = host.rollout(plan_of([4, 3]))
    # right*, wrong, right, wrong* | right, wrong, right*: those with a star are lost
    assert outcome.trial_B.tolist() == [2, 2]
    assert outcome.success_B.tolist() == [1, 1]
    assert host.generated == 7
    assert host.pending.reward_R.tolist() == [0.0, 1.0, 1.0, 0.0]


class Counting(Losing):
    """The same, and it counts like a pool of verifiers; some verdicts were reached before."""

    def __init__(self, questions):
        super().__init__(questions)
        self.verifier_counters = {"judged": 5, "timeout": 2}

    def reward(self, index_R, completions, luck_R=None):
        reward_R = super().reward(index_R, completions, luck_R)
        lost = int(np.isnan(reward_R).sum())
        self.verifier_counters["judged"] += reward_R.size - lost
        self.verifier_counters["timeout"] += lost
        return reward_R


def test_verdicts_on_rollouts_are_counted_from_update_to_update():
    host = scripted_host(("right", "wrong"))
    host.task.held_out = host.task.pool = Counting(host.task.pool)
    host.rollout(plan_of([4, 3]))
    # of 7 rows every third is lost: 3; of 4 rows 2. What an evaluation asks is not counted
    held_out_success(host.engine, host.task, host.config.evaluation, version=0, world=World())
    host.rollout(plan_of([4], plan_id=1, first_group=2))
    assert host.take_verdicts() == {"judged": 4 + 2, "timeout": 3 + 2}
    assert host.take_verdicts() == {"judged": 0, "timeout": 0}
    # answers that no verifier judges
    assert scripted_host().take_verdicts() is None


@pytest.mark.parametrize("name", ["uniform", "cures", "dapo", "speed"])
def test_the_ledger_has_every_rollout_that_was_lost(name):
    settings = {
        "cures": {"num_subsets": 2, "pilots": 3, "steps_per_subset": 3},
        "speed": {"screening_size": 3},
    }.get(name, {})
    scheduler = cures.make_scheduler(name, num_prompts=20, batch_size=4, budget=16, **settings)
    host = scripted_host()
    trials = []
    records = list(
        cures.loop.run(
            scheduler, host, rollouts=200,
            on_outcome=lambda plan, outcome: trials.append(int(outcome.trial_B.sum())),
        )
    )  # fmt: skip
    ledger = scheduler.ledger
    assert records
    assert ledger.generated == host.generated
    assert ledger.missing == ledger.generated - sum(trials) > 0
    assert ledger.trained == sum(record.metrics["trained"] for record in records)
    assert ledger.pending == len(host.pending)
    assert ledger.missing + ledger.trained + ledger.discarded + ledger.pending == ledger.generated


def test_nothing_came_back():
    host = scripted_host(("lost",))
    before = [p.clone() for p in host.model.parameters()]
    scheduler = cures.make_scheduler("uniform", num_prompts=20, batch_size=4, budget=16)
    records = list(cures.loop.run(scheduler, host, rollouts=64))
    assert scheduler.ledger.missing == host.generated == 64
    for record in records:
        assert record.metrics["trained"] == record.metrics["learned_from"] == 0
        assert record.metrics["groups"] == record.metrics["empty_groups"] == 4
        assert not {"reward", "loss", "truncated"} & set(record.metrics)
    after = host.model.parameters()
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))


@pytest.mark.parametrize("said", [SAID, ("lost",)], ids=["some lost", "all lost"])
def test_moments_are_of_those_that_came_back(said):
    host = scripted_host(said, rollout={"gradient_moments": True})
    found = host.rollout(plan_of([8, 1], wants_moments=True)).moments_B
    has_any = said == SAID
    # of eight rows two are right, two wrong and two cut; the other group has a right one alone
    assert np.isfinite(found.sq_norm_correct).tolist() == [has_any, has_any]
    assert np.isfinite(found.sq_norm_wrong).tolist() == [has_any, False]


def test_success_is_of_the_answers_that_were_judged():
    host = scripted_host(("right", "lost", "cut", "lost"))
    arguments = {"seed": 0, "stream": Stream.EVALUATION, "version": 0, "world": World()}
    held_out, decoding = host.task.held_out, host.task.decoding
    rate_N = success_rate(host.engine, held_out, decoding, samples=4, **arguments)
    assert rate_N.tolist() == [0.5] * 4
    held_out = Losing(
        held_out
    )  # rows 0, 3, 6, ...: of (right, cut) per problem one or none is judged
    found = success_rate(host.engine, held_out, decoding, samples=4, **arguments)
    # lost by the verifier: row 0 of problem 0, row 2 of 1, none of 2, row 0 of 3
    assert found.tolist() == [0.0, 1.0, 0.5, 0.0]
    lost = scripted_host(("lost",))
    rate_N = success_rate(lost.engine, lost.task.held_out, decoding, samples=2, **arguments)
    assert np.isnan(rate_N).all()


def test_an_oracle_that_loses_all_answers_says_what_it_said_before():
    said, dead = ("right", "right", "cut", "right"), ScriptedEngine(lambda rollout: None)
    host = scripted_host(said, evaluation={"oracle_rollouts": 4, "oracle_every": 1})
    probe = SuccessProbe(host.config, host.task)
    scheduler = cures.make_scheduler(
        "oracle", num_prompts=20, batch_size=4, budget=16, true_success_rate=probe
    )
    probe.attach(host, scheduler)
    living = host.engine
    # one half as long as nothing is known
    for updates, (engine, rate) in enumerate([(dead, 0.5), (living, 0.75), (dead, 0.75)]):
        host.engine = engine
        host.at(updates=updates, generated=0)
        assert probe().tolist() == [rate] * 20
