"""Prompts, answers, and the wall between training and held-out problems."""

from __future__ import annotations

import re
from dataclasses import replace
from itertools import product

import numpy as np
import pytest
import torch
from transformers import AutoTokenizer, Qwen2Config

from train.engines.protocol import Completions, Finish
from train.seeds import Stream, numpy_generator
from train.tasks.arithmetic import (
    ALWAYS,
    COIN,
    HELD_OUT_SHARE,
    NATURAL,
    NEVER,
    ArithmeticTask,
    Cell,
    exact_match,
    spread,
)
from train.tasks.arithmetic_config import ArithmeticConfig
from train.tasks.characters import BOS, EOS, PAD, VOCABULARY_SIZE, decode, encode, save_tokenizer

TEXT = re.compile(r"(\d+)([-+*@])(\d+)=")


def parse(text):
    """Operands and operator of a prompt, read back independently of the code that wrote it."""
    first, operator, second = TEXT.fullmatch(text).groups()
    return int(first[::-1]), operator, int(second[::-1])


def expected_answer(text, width):
    """The answer by Python's integers; ``@`` by pairing digit characters."""
    first, operator, second = TEXT.fullmatch(text).groups()
    a, b = int(first[::-1]), int(second[::-1])
    if operator == "@":
        digits = "".join(str(int(x) * int(y) % 10) for x, y in zip(first, second, strict=True))
        return digits.ljust(width + 1, "0")
    value = {"+": a + b, "-": a - b, "*": a * b}[operator]
    return str(value).zfill(width + 1)[::-1]


def problem_of(text):
    """A key that is equal for ``a+b`` and ``b+a``; only subtraction cares about order."""
    a, operator, b = parse(text)
    return (operator, a, b) if operator == "-" else (operator, *sorted((a, b)))


@pytest.fixture(scope="module")
def task():
    return ArithmeticTask(ArithmeticConfig(pool_size=3000, held_out_size=400, seed=5))


def test_answers_are_right(task):
    problems = list(zip(task.pool.problems.text_N, task.pool.problems.answer_N, strict=True))
    problems += zip(task.held_out.problems.text_N, task.held_out.problems.answer_N, strict=True)
    for text, answer in problems:
        assert answer == expected_answer(text, task.width), text
        a, operator, b = parse(text)
        assert operator != "-" or a >= b


def test_pool_and_held_out_share_no_problem_in_any_order(task):
    pool = [problem_of(text) for text in task.pool.problems.text_N]
    held = [problem_of(text) for text in task.held_out.problems.text_N]
    assert len(set(pool)) == 3000
    assert len(set(held)) == 400
    assert not set(pool) & set(held)


def test_disguised_problems_would_be_seen():
    # negative control of the test above: the same prompt with operands exchanged counts as equal
    assert problem_of("21+3=") == problem_of("3+21=")
    assert problem_of("21-30=") != problem_of("30-21=")


def test_worked_examples_avoid_the_held_out_set(task):
    examples = task.unseen(4000, numpy_generator(0, Stream.EXAMPLES), "examples")
    found = {problem_of(text) for text in examples.text_N}
    assert len(found) == 4000
    assert not found & {problem_of(text) for text in task.held_out.problems.text_N}


def test_cells_are_spread_evenly_and_small_cells_keep_training_problems(task):
    for c, cell in enumerate(task.cells):
        held = (task.held_out.problems.cell_N == c).sum()
        pool = (task.pool.problems.cell_N == c).sum()
        assert held <= cell.size / HELD_OUT_SHARE
        if cell.digits == 1:  # 55 pairs a >= b of 10 digits: 11 held out, 44 for training
            assert (cell.size, held, pool) == (55, 11, 44)
    large = [
        int((task.pool.problems.cell_N == c).sum())
        for c, x in enumerate(task.cells)
        if x.digits > 1
    ]
    assert max(large) - min(large) <= 1


@pytest.mark.parametrize(
    ("family", "digits"), [("add", 1), ("sub", 1), ("mul", 1), ("mul", 2), ("dig", 2)]
)
def test_canonical_numbering_by_enumeration(family, digits):
    cell = Cell(family, digits)
    low = 0 if digits == 1 else 10
    span = range(low, 10**digits)
    if family == "mul" and digits > 1:
        expected = set(product(span, range(10)))
    else:
        expected = {(a, b) for a, b in product(span, span) if a >= b}
    a, b = cell.operands(np.arange(cell.size))
    assert set(zip(a.tolist(), b.tolist(), strict=True)) == expected
    assert cell.size == len(expected)


def test_canonical_numbering_at_the_far_end():
    # 40,504,500 pairs: the float square root must not be off by one at the last ones
    cell = Cell("add", 4)
    key = np.array([0, 1, 2, cell.size - 9000, cell.size - 1])
    a, b = cell.operands(key)
    assert a.tolist() == [1000, 1001, 1001, 9999, 9999]
    assert b.tolist() == [1000, 1000, 1001, 1000, 9999]


def test_spread_is_even_within_capacities():
    assert spread(10, np.array([2, 9, 9]), "x").tolist() == [2, 4, 4]
    assert spread(20, np.array([2, 9, 9]), "x").tolist() == [2, 9, 9]
    with pytest.raises(ValueError, match=r"pool_size must be at most 20 with .*, got 21"):
        spread(21, np.array([2, 9, 9]), "pool_size")


def test_a_pool_larger_than_the_world_is_refused():
    with pytest.raises(ValueError, match="pool_size must be at most 53 with"):
        ArithmeticTask(
            ArithmeticConfig(families=["add"], digits=[1], pool_size=60, held_out_size=2)
        )


def test_same_seed_same_task_other_seed_other_task():
    first, again = (
        ArithmeticTask(ArithmeticConfig(pool_size=100, held_out_size=10, seed=1)) for _ in range(2)
    )
    other = ArithmeticTask(ArithmeticConfig(pool_size=100, held_out_size=10, seed=2))
    assert first.pool.problems.text_N == again.pool.problems.text_N
    assert first.pool.problems.text_N != other.pool.problems.text_N


def test_stress_switches_spoil_exact_shares_and_no_problem():
    plain = ArithmeticTask(ArithmeticConfig(pool_size=1000, held_out_size=10))
    spoiled = ArithmeticTask(
        ArithmeticConfig(
            pool_size=1000, held_out_size=10, dead_never=0.6, dead_always=0.29, coins=0.1
        )
    )
    count = np.bincount(spoiled.pool.kind_N, minlength=4)
    assert count[[NATURAL, NEVER, ALWAYS, COIN]].tolist() == [10, 600, 290, 100]
    assert spoiled.pool.problems.text_N == plain.pool.problems.text_N
    assert spoiled.held_out.problems.text_N == plain.held_out.problems.text_N


def test_verifier_wants_the_whole_answer_and_nothing_else():
    answer = np.array([[*encode("05"), EOS]] * 5)
    completion = np.array(
        [
            [*encode("05"), EOS],  # right
            [*encode("50"), EOS],  # digits the wrong way round
            [*encode("05"), *encode("0")],  # never ends
            [*encode("0"), EOS, PAD],  # ends early
            [EOS, PAD, PAD],
        ]
    )
    assert exact_match(completion, answer).tolist() == [1.0, 0.0, 0.0, 0.0, 0.0]
    assert exact_match(completion[:, :2], answer).tolist() == [0.0] * 5


def completions_of(token_R_T, finish=0):
    size = len(token_R_T)
    return Completions(
        torch.from_numpy(token_R_T),
        torch.zeros(token_R_T.shape),
        torch.full((size,), token_R_T.shape[1]),
        np.full(size, finish),
    )


def test_spoiled_rewards(task):
    size = 4000
    kind = np.arange(size) // 2 % 4
    questions = replace(
        task.pool,
        kind_N=kind,
        answer_N_A=np.tile([*encode("05"), EOS], (size, 1)),
    )
    right = np.arange(size) % 2 == 0
    answer = questions.answer_N_A
    completion = completions_of(np.where(right[:, None], answer, answer[:, ::-1]))
    got = questions.reward(np.arange(size), completion, np.random.default_rng(0).random(size))
    assert (got[kind == NATURAL] == right[kind == NATURAL]).all()
    assert not got[kind == NEVER].any()
    assert got[kind == ALWAYS].all()
    coins = got[kind == COIN]
    # 1000 fair coins: four standard errors are 4 * 0.5 / sqrt(1000) = 0.063
    assert abs(coins.mean() - 0.5) < 0.063
    # and they ignore the completion: difference of two means of 500, four standard errors 0.126
    is_right = right[kind == COIN]
    assert abs(coins[is_right].mean() - coins[~is_right].mean()) < 0.126
    with pytest.raises(ValueError, match="luck_R must be given for prompts of kind COIN"):
        questions.reward(np.arange(size), completion)


def test_what_was_lost_has_no_reward(task):
    answer = task.pool.answer_N_A[:2]
    assert task.pool.reward(np.arange(2), completions_of(answer)).tolist() == [1.0, 1.0]
    lost = task.pool.reward(np.arange(2), completions_of(answer, finish=Finish.MISSING))
    assert np.isnan(lost).all()


@pytest.mark.parametrize("with_model", [False, True])
def test_the_saved_tokenizer_has_the_tokens_of_the_model_alone(tmp_path, with_model):
    save_tokenizer(tmp_path)
    if with_model:  # then it is loaded as a Qwen2 tokenizer, which has a token for what is unknown
        Qwen2Config().save_pretrained(tmp_path)
    found = AutoTokenizer.from_pretrained(tmp_path)
    assert len(found) == VOCABULARY_SIZE
    assert found("12+3=").input_ids == [BOS, *encode("12+3=")]
    assert (found.pad_token_id, found.bos_token_id, found.eos_token_id) == (PAD, BOS, EOS)


def test_tokenizer_round_trip_and_refusal():
    assert decode([BOS, *encode("3210+9800="), EOS, *encode("7")]) == "3210+9800="
    with pytest.raises(ValueError, match=r"text must be made of .*, got 'x'"):
        encode("3x")
