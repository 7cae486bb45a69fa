"""Held-out success: right on average, and the same random numbers for every policy."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from rich.console import Console

import cures
from tests.reference_update import log_prob
from tests.train_cases import often_right_host
from train.__main__ import _show
from train.errors import NothingJudgedError
from train.evaluation import held_out_success, mean_and_error
from train.oracle import SuccessProbe
from train.tasks.characters import EOS, PAD
from train.world import World

SAMPLES = 5  # answers per problem


@pytest.fixture
def host():
    return often_right_host(
        task={"held_out_size": 10},
        rollout={"decode_temperature": 0.7},
        evaluation={"samples": SAMPLES, "seed": 3, "oracle_every": 3},
    )


def success(host, *, seed=3, samples=None):
    evaluation = replace(host.config.evaluation, seed=seed)
    return held_out_success(
        host.engine, host.task, evaluation, version=host.updates, world=World(), samples=samples
    )


def chance_of_the_answer(host, decode_temperature):
    """Probability of each held-out answer, by the model's own logits and without sampling."""
    held_out = host.task.held_out
    answers = torch.from_numpy(held_out.answer_N_A)
    with torch.no_grad():
        return np.array(
            [
                log_prob(host.model, held_out.prompts.row(i), a[a != PAD], decode_temperature)
                .exp()
                .item()
                for i, a in enumerate(answers)
            ]
        )


def test_success_is_the_probability_of_the_answer(host):
    found = success(host, samples=400).sum()

    def z(decode_temperature):  # binomials: variance p (1 - p) / 400 for each of ten problems
        p = chance_of_the_answer(host, decode_temperature)
        return (found - p.sum()) / np.sqrt((p * (1 - p)).sum() / 400)

    assert abs(z(0.7)) < 4
    # negative controls: other temperatures than the configured one
    assert z(0.5) < -8
    assert z(1.0) > 8


@pytest.mark.parametrize(("samples", "expected"), [(None, SAMPLES), (3, 3)])
def test_as_many_answers_as_asked_for(host, samples, expected):
    right = success(host, samples=samples) * expected
    assert right == pytest.approx(right.round(), abs=1e-9)
    # shares strictly inside (0, 1) have one prime denominator only, so 3 and 5 tell each other apart
    assert ((right > 0.5) & (right < expected - 0.5)).any()


def test_numbers_depend_on_the_evaluation_seed_alone(host):
    first = success(host)
    host.at(updates=7, generated=99)
    again = success(host)
    other_run = often_right_host(
        task={"held_out_size": 10}, rollout={"decode_temperature": 0.7}, run={"seed": 8}
    )
    assert first.tolist() == again.tolist()
    assert success(other_run, samples=SAMPLES).tolist() == first.tolist()
    # fifty answers, each right with a chance near a third: ten equal counts are no accident
    assert success(host, seed=4).tolist() != first.tolist()


def test_mean_and_error_are_of_the_questions_that_were_judged():
    # of 0, 1/2, 1: mean 1/2, sample variance 1/4, so that the error is 1/2 / sqrt(3)
    rate_N = np.array([0.0, np.nan, 0.5, 1.0, np.nan])
    assert mean_and_error(rate_N) == pytest.approx((0.5, 0.5 / 3**0.5))


@pytest.mark.parametrize("judged", [[], [0.5]])
def test_an_evaluation_of_which_nearly_nothing_came_back_is_refused(judged):
    rate_N = np.array([*judged, *[np.nan] * (5 - len(judged))])
    with pytest.raises(
        NothingJudgedError, match=f"all answers to {5 - len(judged)} of 5 questions"
    ):
        mean_and_error(rate_N)


def shown(host, kind, problems, capsys):
    config = SimpleNamespace(task=SimpleNamespace(kind=kind), evaluation=host.config.evaluation)
    _show(config, host.task, host, problems, Console(width=200))
    return capsys.readouterr().out.splitlines()


def test_sampled_answers_say_what_was_lost(host, capsys):
    rewards = iter([np.array([1.0, 0.0, np.nan])])
    host.task.held_out = replace(host.task.held_out)
    object.__setattr__(host.task.held_out, "reward", lambda *_: next(rewards))
    title, right, wrong, lost = shown(host, "arithmetic", 3, capsys)
    assert title.endswith("least significant digit first:")
    assert right.endswith("reward 1  (right)")
    assert wrong.endswith(f"reward 0  (wrong, {host.task.held_out.answer(1)} is right)")
    assert lost.endswith("no reward  (lost by engine or verifier)")


def test_the_order_of_digits_is_said_of_arithmetic_alone(host, capsys):
    assert shown(host, "dataset", 1, capsys)[0] == "one sampled answer each:"


def recorded(host, monkeypatch, **options):
    """Tokens that an evaluation samples, shape (problems, samples, T)."""
    taken = []
    generate = host.engine.generate

    def generate_and_keep(*arguments, **keywords):
        taken.append(generate(*arguments, **keywords))
        return taken[-1]

    with monkeypatch.context() as patch:
        patch.setattr(host.engine, "generate", generate_and_keep)
        success(host, **options)
    return taken[0].token_R_T.reshape(10, SAMPLES, -1)


def end_at_once(host, problem):
    """Change the policy at one held-out problem: its first token is EOS."""
    prompt = host.task.held_out.prompts.row(problem)

    def shift(module, arguments, keywords, output):
        ids = keywords["input_ids"]
        if ids.shape[1] == prompt.numel():  # the prompts, not a single token after them
            output.logits[(ids == prompt).all(dim=1), -1, EOS] += 1e3
        return output

    return host.model.register_forward_hook(shift, with_kwargs=True)


def test_a_policy_that_differs_at_one_problem_is_sampled_alike_at_all_others(host, monkeypatch):
    before = recorded(host, monkeypatch)
    with end_at_once(host, problem=2):
        after = recorded(host, monkeypatch)
    assert (after[2, :, 0] == EOS).all()
    assert (before[2, :, 0] != EOS).any()
    others = [0, 1, *range(3, 10)]
    assert torch.equal(after[others], before[others])
    # negative control: with other random numbers most answers differ
    fresh = recorded(host, monkeypatch, seed=4)
    assert (fresh[others] != before[others]).any(dim=-1).float().mean() > 0.5


def oracle(host, updates):
    """A measurement by a new probe after so many updates."""
    probe = SuccessProbe(host.config, host.task)
    scheduler = cures.make_scheduler(
        "oracle", num_prompts=20, batch_size=4, budget=16, true_success_rate=probe
    )
    probe.attach(host, scheduler)
    host.at(updates=updates, generated=0)
    return probe().tolist()


def test_the_oracle_draws_anew_each_time_and_the_same_after_a_resume(host):
    # one policy throughout, so that only the random numbers can differ
    first, later = oracle(host, 0), oracle(host, 3)
    assert first != later
    assert oracle(host, 3) == later
