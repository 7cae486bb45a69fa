"""The probe that measures true success rates for the reference arm."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import cures
from tests.train_cases import small_host
from train.oracle import SuccessProbe
from train.tasks.arithmetic import ALWAYS, COIN, NATURAL, NEVER


@pytest.fixture
def attached():
    host = small_host(
        task={"dead_never": 0.25, "dead_always": 0.25, "coins": 0.25},
        evaluation={"oracle_rollouts": 8, "oracle_every": 3},
    )
    probe = SuccessProbe(host.config, host.task)
    scheduler = cures.make_scheduler(
        "oracle", num_prompts=20, batch_size=4, budget=16, true_success_rate=probe
    )
    probe.attach(host, scheduler)
    return host, probe, scheduler


def test_spoiled_prompts_are_known_exactly_and_not_paid_for(attached):
    host, probe, scheduler = attached
    rate = probe()
    kind = host.task.pool.kind_N
    for spoiled, expected in ((NEVER, 0.0), (ALWAYS, 1.0), (COIN, 0.5)):
        assert (rate[kind == spoiled] == expected).all()
    assert scheduler.ledger.counts["oracle"]["generated"] == 5 * 8  # 5 natural prompts of 20
    assert scheduler.ledger.generated == 0, "outside the budget"
    assert probe.learnable_N.tolist() == (kind == NATURAL).tolist()


def test_measured_again_when_old(attached):
    host, probe, scheduler = attached
    for updates, measurements in ((0, 1), (2, 1), (3, 2), (5, 2), (6, 3)):
        host.at(updates=updates, generated=0)
        probe()
        assert scheduler.ledger.counts["oracle"]["generated"] == measurements * 40


def test_sees_the_current_policy(attached):
    host, probe, _ = attached
    natural = host.task.pool.kind_N == NATURAL
    probe()
    with torch.no_grad():  # a head without preferences: every legal token alike
        host.model.lm_head.weight.zero_()
    host.at(updates=3, generated=0)
    # the chance of three given tokens is 1/16^3: forty rollouts are all wrong but once in 100 times
    assert not probe()[natural].any()


def test_state_round_trip(attached):
    host, probe, scheduler = attached
    host.at(updates=4, generated=0)
    rate = probe()
    other = SuccessProbe(host.config, host.task)
    other.attach(host, scheduler)
    other.load_state_tensors(probe.state_tensors())
    host.at(updates=6, generated=0)
    assert np.array_equal(other(), rate)
    assert scheduler.ledger.counts["oracle"]["generated"] == 40, "not measured again"
    other.load_state_tensors({})
    assert not other.state_tensors()


def test_called_too_early():
    host = small_host()
    with pytest.raises(RuntimeError, match="before attach"):
        SuccessProbe(host.config, host.task)()
