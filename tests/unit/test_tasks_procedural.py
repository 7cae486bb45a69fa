"""Generated questions: repeatable, disjoint, judged by their own score."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from tests.text_cases import said, save_tokenizer
from train.engines.protocol import Finish
from train.tasks.procedural import build
from train.tasks.procedural_config import ProceduralConfig


@pytest.fixture(scope="module")
def tokenizer_folder(tmp_path_factory):
    return save_tokenizer(tmp_path_factory.mktemp("tokenizer"))


@pytest.fixture
def task_of(tokenizer_folder):
    """Build a task; its pool closes with the test."""
    pytest.importorskip("reasoning_gym", reason="the extra 'procedural' is not installed")
    tasks = []

    def make(**values):
        content = {"generators": "chain_sum, count_primes", "pool_size": 11, "held_out_size": 5}
        content["tokenizer"] = str(tokenizer_folder)
        tasks.append(build(ProceduralConfig(**{**content, **values})))
        return tasks[-1]

    yield make
    for task in tasks:
        task.pool.verify.close()


def test_questions_repeat_by_seed_and_are_disjoint(task_of):
    one, same, other = task_of(), task_of(), task_of(seed=1)
    assert one.pool.text_N == same.pool.text_N
    assert one.held_out.text_N == same.held_out.text_N
    assert one.pool.text_N != other.pool.text_N
    texts = [*one.pool.text_N, *one.held_out.text_N]
    assert len(set(texts)) == 16  # 11 + 5
    assert one.category_names == ("chain_sum", "count_primes")
    # as even as can be: 6 + 5 and 3 + 2
    assert np.bincount(one.category_N).tolist() == [6, 5]
    assert np.bincount(one.held_out_category_N).tolist() == [3, 2]
    for text, category in zip(one.pool.text_N, one.category_N, strict=True):
        assert ("prime numbers" in text) == (category == 1)


def test_rewards_are_the_generators_own_score_in_a_worker(task_of):
    task = task_of()
    rows = [0, len(task.pool.text_N) - 1]  # one of each kind
    right = [rf"so \boxed{{{task.pool.answer(i)}}}" for i in rows]
    wrong = [rf"so \boxed{{{int(task.pool.answer(i)) + 1}}}" for i in rows]
    bare = [task.pool.answer(i) for i in rows]  # no box, no answer
    texts = [*right, *wrong, *bare, right[0], right[0], r"\boxed{}"]
    finishes = [Finish.STOP] * 6 + [Finish.LENGTH, Finish.MISSING, Finish.STOP]
    completions = said(texts, task.language.tokenizer, task.decoding, finishes)
    reward_R = task.pool.reward(np.array([*rows * 3, 0, 0, 0]), completions)
    assert np.array_equal(reward_R, [1, 1, 0, 0, 0, 0, 0, np.nan, 0], equal_nan=True)
    assert task.pool.verify.counters["exception"] == 0


def test_partial_credit_is_no_credit(task_of):
    import reasoning_gym

    task = task_of(generators="chain_sum")
    generator = reasoning_gym.create_dataset("chain_sum", seed=0, size=1)
    # its score of an answer with something beside it lies between 0 and 1
    answer = task.pool.answer(0)
    assert 0.0 < generator.score_answer(f"it is {answer}", generator[0] | {"answer": answer}) < 1.0
    text = rf"\boxed{{it is {answer}}}"
    completions = said([text], task.language.tokenizer, task.decoding)
    assert task.pool.reward(np.array([0]), completions).tolist() == [0.0]


def test_an_exhausted_generator_is_named(task_of):
    with pytest.raises(ValueError, match="generators must be one with at least 16 different"):
        task_of(generators="chain_sum", max_prompt_tokens=10)
    with pytest.raises(ValueError, match="generators must be one of .*got 'nobody'"):
        task_of(generators="chain_sum, nobody")


@pytest.mark.parametrize("name", ["isomorphic_strings", "graph_color", "composite"])
def test_generators_that_cannot_be_used_are_named(name, task_of):
    # it iterates over sets of texts; it has no answer of its own; it needs settings
    with pytest.raises(ValueError, match=f"generators must be ones that .*{name}"):
        task_of(generators=f"chain_sum, {name}")


def test_without_the_package_the_extra_is_named(monkeypatch, tokenizer_folder):
    for name in [n for n in sys.modules if n.partition(".")[0] == "reasoning_gym"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "reasoning_gym", None)
    config = ProceduralConfig(
        generators="chain_sum", pool_size=2, held_out_size=2, tokenizer=str(tokenizer_folder)
    )
    with pytest.raises(ValueError, match=r"needs the package reasoning-gym: pip install 'cures\["):
        build(config)


@pytest.mark.parametrize("generators", ["a,,b", "a,a", "a,b,c", " "])
def test_bad_lists_of_generators(generators):
    with pytest.raises(ValueError, match="generators must be"):
        ProceduralConfig(generators=generators, pool_size=9, held_out_size=2, tokenizer="x")
