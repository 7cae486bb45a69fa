"""The engine that says what it is told, and the rows that engines fill."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tests.engine_conformance import decoding, tiny_model
from train.engines.protocol import Finish, StaleEngineError
from train.engines.rows import Rows
from train.engines.scripted import Line, Rollout, ScriptedEngine
from train.errors import TrainingDivergedError
from train.prompts import Prompts

WANTED = decoding(max_new_tokens=4)
PROMPTS = Prompts.of([[8, 9], [10]])


def loaded(engine, version=0):
    engine.load_weights(tiny_model(0).state_dict().items(), version)
    return engine


def sample(engine, quota=(2, 3), version=0, **keywords):
    quota_P, seed_P = np.array(quota), np.array([70, 80])
    return engine.generate(PROMPTS, quota_P, seed_P, WANTED, version=version, **keywords)


def test_a_script_is_asked_row_by_row():
    asked = []

    def script(rollout):
        asked.append(rollout)
        return [11, 12, 2]

    engine = loaded(ScriptedEngine(script), 6)
    found = sample(engine, version=6)
    assert asked == [
        Rollout((8, 9), 0, 70, 6),
        Rollout((8, 9), 1, 70, 6),
        Rollout((10,), 0, 80, 6),
        Rollout((10,), 1, 80, 6),
        Rollout((10,), 2, 80, 6),
    ]
    assert found.token_R_T.tolist() == [[11, 12, 2, 0]] * 5
    assert found.length_R.tolist() == [3] * 5
    assert found.log_prob_R_T.eq(0.0).all()
    ((prompts, quota_P, seed_P, version),) = engine.calls
    assert prompts is PROMPTS
    assert (quota_P.tolist(), seed_P.tolist(), version) == ([2, 3], [70, 80], 6)


def test_a_table_is_gone_through_in_turn():
    slow = Line(tokens=[5], takes_s=2.0)
    long = Line(tokens=[11] * 9, log_probs=[-0.5] * 9)
    engine = loaded(ScriptedEngine.of_table({(8, 9): [[11, 2], None], (10,): [long, slow]}))
    found = sample(engine, time_limit_s=1.5)
    assert found.finish_R.tolist() == [
        Finish.STOP, Finish.MISSING, Finish.LENGTH, Finish.MISSING, Finish.LENGTH
    ]  # fmt: skip
    assert found.token_R_T[2].tolist() == [11] * 4, "cut where the decoding ends"
    assert found.log_prob_R_T[2].tolist() == [-0.5] * 4
    assert engine.lost == {"script": 1, "time limit": 1}
    assert sample(engine, time_limit_s=2.0).finish_R[3] == Finish.STOP
    assert sample(engine).finish_R[3] == Finish.STOP


def test_versions_are_kept_and_may_be_wrong():
    engine = ScriptedEngine.of_table({(8, 9): [[2]], (10,): [[2]]})
    with pytest.raises(StaleEngineError, match="update None"):
        sample(engine)
    loaded(engine, 3)
    assert set(engine.weights) == set(tiny_model(0).state_dict())
    with pytest.raises(StaleEngineError, match="update 3, asked for those of 0"):
        sample(engine)
    engine.version = 0
    assert len(sample(engine)) == 5

    def broken():
        raise OSError("the disk is full")
        yield

    with pytest.raises(OSError, match="disk"):
        engine.load_weights(broken(), 1)
    assert engine.version is None
    engine.close()


def test_a_script_may_fail():
    def script(rollout):
        raise RuntimeError("the machine is on fire")

    with pytest.raises(RuntimeError, match="fire"):
        sample(loaded(ScriptedEngine(script)))


@pytest.mark.parametrize(
    ("tokens", "log_probs"),
    [
        ([11, 12], [-1.0, -1.0]),  # neither ended nor long enough
        ([2, 11, 12, 13], [-1.0] * 4),  # goes on after its end
        ([11, 2, 12, 5], [-1.0] * 4),  # ends twice
        ([11, 0, 2], [-1.0] * 3),  # padding is forbidden
        ([11, 12, 2], [-1.0] * 2),  # a log-probability is missing
        ([11, 12, 13, 14, 2], [-1.0] * 5),  # too long
        ([], []),
    ],
)
def test_what_cannot_have_been_sampled_is_refused(tokens, log_probs):
    rows = Rows(2, WANTED)
    with pytest.raises(ValueError, match="tokens must be up to an end token or 4 long"):
        rows.fill(0, tokens, log_probs)
    assert rows.missing == 2


def test_rows_fill_in_any_order():
    rows = Rows(3, WANTED)
    rows.fill(2, [11, 12, 13, 5], [-1.0, -2.0, -3.0, -4.0])
    rows.fill(0, [11, 12, 13, 14], [-1.0, -2.0, -3.0, -4.0])
    assert rows.missing == 1
    found = rows.completions
    assert found.finish_R.tolist() == [Finish.LENGTH, Finish.MISSING, Finish.STOP]
    assert found.length_R.tolist() == [4, 0, 4]
    assert found.log_prob_R_T.sum(dim=1).tolist() == [-10.0, 0.0, -10.0]
    with pytest.raises(TrainingDivergedError):
        rows.fill(1, [11, 2], [-1.0, float("nan")])


def test_greedy_log_probs_are_zero_whatever_is_said():
    rows = Rows(1, decoding(max_new_tokens=2, temperature=0.0))
    rows.fill(0, [11, 2], [-1.0, -2.0])
    assert torch.equal(rows.completions.log_prob_R_T, torch.zeros(1, 2))
