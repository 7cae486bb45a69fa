"""Who computes what: every item once; and two real processes that add up and gather."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file

from tests.train_cases import small_host
from train.answers import _share, answers
from train.seeds import Stream, prompt_seeds
from train.world import World, joined_world

ROOT = Path(__file__).parents[2]
SIZES = st.integers(1, 6)


@given(st.lists(st.integers(), max_size=20), SIZES)
def test_every_item_counts_once_and_all_ranks_have_as_many_rounds(items, size):
    dealt = [World(rank, size).deal(items) for rank in range(size)]
    assert len({len(mine) for mine in dealt}) == 1
    assert len(dealt[0]) == -(-len(items) // size), "no round more than needed"
    by_round = [turn for rounds in zip(*dealt, strict=True) for turn in rounds]
    assert [item for item, is_real in by_round if is_real] == items
    assert all(item in items for item, _ in by_round), "what stands in is something to compute"


@given(st.lists(st.integers(0, 9), max_size=20), SIZES)
def test_every_question_is_answered_once_and_ranks_have_about_as_much_to_do(quota, size):
    quota_P = np.array(quota, dtype=np.int64)
    bounds = [_share(quota_P, World(rank, size)) for rank in range(size)]
    assert bounds[0][0] == 0
    assert bounds[-1][1] == len(quota)
    for (_, stop), (start, _) in pairwise(bounds):
        assert stop == start
    rollouts = [int(quota_P[first:last].sum()) for first, last in bounds]
    # a cut lies at most half a question from where it should
    largest = max(quota, default=0)
    assert all(abs(mine - sum(quota) / size) <= largest for mine in rollouts)


def test_as_many_questions_each_would_not_be_balanced():
    # negative control of the bound above: three questions each are 12 and 3 rollouts, 4.5 from 7.5
    quota_P = np.array([4, 4, 4, 1, 1, 1])
    assert abs(quota_P[:3].sum() - 7.5) > 4
    # the cut nearest to 7.5 of the sums 0, 4, 8, 12, ...
    assert [_share(quota_P, World(rank, 2)) for rank in range(2)] == [(0, 2), (2, 6)]


def test_alone_everything_is_the_identity():
    world, values = World(), torch.tensor([1.5, 2.5])
    assert world.is_first
    world.barrier()
    world.add_up([values])
    assert values.tolist() == [1.5, 2.5]
    (mine,) = world.gather_rows(values)
    assert mine is values
    assert (world.any(True), world.any(False)) == (True, False)


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        ({"RANK": "1"}, r"with all of \['RANK', 'WORLD_SIZE', 'LOCAL_RANK'\].*, got \['RANK'\]"),
        ({"RANK": "0", "WORLD_SIZE": "2"}, r"got \['RANK', 'WORLD_SIZE'\]"),
    ],
)
def test_half_of_what_torchrun_says_is_refused(environment, message, monkeypatch):
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK"):
        monkeypatch.delenv(name, raising=False)
    with joined_world() as world:
        assert world == World()
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ValueError, match=message), joined_world():
        pass


def test_a_variable_that_is_no_number_is_named(monkeypatch):
    for name, value in {"RANK": "0", "WORLD_SIZE": "two", "LOCAL_RANK": "0"}.items():
        monkeypatch.setenv(name, value)
    sentence = r"train: \$WORLD_SIZE must be a whole number >= 0, as torchrun sets, got 'two'"
    with pytest.raises(ValueError, match=sentence), joined_world():
        pass


def test_one_process_of_torchrun_is_alone(monkeypatch):
    for name, value in {"RANK": "0", "WORLD_SIZE": "1", "LOCAL_RANK": "0"}.items():
        monkeypatch.setenv(name, value)
    with joined_world() as world:
        assert world == World()


QUOTA = [5, 1, 0, 2, 7, 3]
PROGRAM = """
import sys
import torch
from safetensors.torch import save_file
from tests.unit.test_train_world import answered
from train.world import joined_world

with joined_world() as world:
    rank = world.rank
    rows = 10 * rank + torch.arange(6).reshape(3, 2)[: 3 * rank]  # none, and three
    reward = torch.tensor([float(rank), torch.nan][: 2 - rank], dtype=torch.float64)  # two, and one
    total, whole = torch.tensor([1.0, 2.0]), torch.tensor([rank + 1])
    world.add_up([total, whole])
    found = {
        "rows": torch.cat(world.gather_rows(rows)),
        "reward": torch.cat(world.gather_rows(reward)),
        "total": total,
        "whole": whole,
        "any": torch.tensor([world.any(rank == 1), world.any(False)]),
        "place": torch.tensor([world.rank, world.size, world.local_rank]),
        **answered(world),
    }
    world.barrier()
    save_file(found, f"{sys.argv[1]}/{rank}.safetensors")
"""


def answered(world):
    """Completions and rewards of some questions, each rank generating its share."""
    host = small_host(task={"dead_always": 0.5})
    found = answers(
        host.engine,
        host.task.pool,
        np.arange(len(QUOTA)),
        np.array(QUOTA),
        prompt_seeds(0, Stream.GENERATION, 0, len(QUOTA)),
        host.task.decoding,
        version=0,
        world=world,
    )
    completions = found.completions
    return {
        "tokens": completions.token_R_T,
        "log_probs": completions.log_prob_R_T,
        "length": completions.length_R,
        "finish": torch.from_numpy(completions.finish_R),
        "judged": torch.from_numpy(found.reward_R),
    }


@pytest.fixture(scope="module")
def two_processes(tmp_path_factory):
    """What each of two real processes found."""
    folder = tmp_path_factory.mktemp("world")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", PROGRAM, str(folder)],
            cwd=ROOT,
            env={
                **os.environ,
                "RANK": str(rank),
                "WORLD_SIZE": "2",
                "LOCAL_RANK": str(rank),
                "MASTER_ADDR": "127.0.0.1",
                "MASTER_PORT": str(port),
                "OMP_NUM_THREADS": "1",
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for rank in range(2)
    ]
    said = [process.communicate()[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], said
    return [load_file(folder / f"{rank}.safetensors") for rank in range(2)]


def test_two_processes_add_up_and_gather(two_processes):
    for rank, found in enumerate(two_processes):
        assert found["place"].tolist() == [rank, 2, rank]
        assert found["rows"].tolist() == [[10, 11], [12, 13], [14, 15]]
        assert found["reward"].dtype == torch.float64
        assert found["reward"].nan_to_num(-1.0).tolist() == [0.0, -1.0, 1.0]
        assert found["total"].tolist() == [2.0, 4.0]
        assert found["whole"].tolist() == [3]
        assert found["any"].tolist() == [True, False]


def test_two_processes_answer_like_one(two_processes):
    alone = answered(World())
    assert 0 < alone["judged"].sum() < sum(QUOTA), "otherwise the order of rewards is not seen"
    for found in two_processes:
        for name, expected in alone.items():
            if name == "log_probs":  # a batch of another size: rounding
                torch.testing.assert_close(found[name], expected, atol=1e-5, rtol=0)
            else:
                assert torch.equal(found[name], expected), name
