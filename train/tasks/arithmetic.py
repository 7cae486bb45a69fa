"""Arithmetic in fixed slots: a pool of prompts to train on and a disjoint held-out set.

A prompt is ``slot(a) OPERATOR slot(b) =`` and its answer ``slot(result)``: digits are written least
significant first and zero padded, so that every operand digit sits at one fixed distance from the
answer digit that depends on it. (Written the usual way, a model of this size learns nothing within a
minute.) A *cell* is a family (operator) at a number of digits; prompts are spread over the cells as
evenly as the cells' sizes allow.

Pool and held-out set come from one draw without replacement over *canonical* problems, where ``a+b``
and ``b+a`` are the same problem, so neither set can contain a problem of the other in disguise.

Three switches spoil a share of the **pool** (never the held-out set) on purpose: prompts whose
reward is always 0 (``dead_never``), always 1 (``dead_always``), or a fair coin whatever the model
says (``coins``): the first two reward a scheduler that avoids them, the third punishes one that
takes a success rate of one half for something to learn.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cures.checks import BoolArray, FloatArray, IntArray, fail
from train.engines.protocol import Completions, Decoding, Finish
from train.prompts import Prompts
from train.seeds import Stream, numpy_generator
from train.tasks.arithmetic_config import ArithmeticConfig
from train.tasks.characters import (
    EOS,
    FORBIDDEN_TOKENS,
    PAD,
    VOCABULARY_SIZE,
    decode,
    encode_answers,
    encode_prompts,
    save_tokenizer,
)

OPERATOR = {"add": "+", "sub": "-", "mul": "*", "dig": "@"}
NATURAL, NEVER, ALWAYS, COIN = 0, 1, 2, 3
HELD_OUT_SHARE = 5  # held-out problems are at most 1/5 of a cell: small cells keep some to train on


@dataclass(frozen=True, slots=True, eq=False)
class Problems:
    """Problems in canonical numbering, one row each.

    Attributes
    ----------
    cell_N : ndarray of int64
        Index into the task's cells.
    key_N : ndarray of int64
        Canonical number within the cell; equal keys are the same problem.
    text_N, answer_N : tuple of str
        Prompt without BOS, answer without EOS.
    """

    cell_N: IntArray
    key_N: IntArray
    text_N: tuple[str, ...]
    answer_N: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.text_N)


@dataclass(frozen=True, slots=True)
class Cell:
    """One family at one number of digits.

    ``add``, ``dig`` and one-digit ``mul`` do not depend on the order of the operands and ``sub``
    wants the larger first, so their canonical problems are the pairs ``a >= b``. ``mul`` multiplies
    by one digit.
    """

    family: str
    digits: int

    @property
    def _low(self) -> int:
        return 0 if self.digits == 1 else int(10 ** (self.digits - 1))

    @property
    def _span(self) -> int:
        return int(10**self.digits) - self._low

    @property
    def _is_triangular(self) -> bool:
        return self.family != "mul" or self.digits == 1

    @property
    def size(self) -> int:
        """Number of canonical problems."""
        return self._span * (self._span + 1) // 2 if self._is_triangular else self._span * 10

    def operands(self, key_N: IntArray) -> tuple[IntArray, IntArray]:
        """Operands ``(a, b)`` of canonical problems, ``a >= b`` where order does not matter."""
        if not self._is_triangular:
            return key_N // 10 + self._low, key_N % 10
        # key = i (i+1) / 2 + j with 0 <= j <= i; the float root may be off by one
        i = ((np.sqrt(8.0 * key_N + 1.0) - 1.0) / 2.0).astype(np.int64)
        i -= i * (i + 1) // 2 > key_N
        i += (i + 1) * (i + 2) // 2 <= key_N
        return i + self._low, key_N - i * (i + 1) // 2 + self._low

    def result(self, a: int, b: int) -> int:
        """Exact answer; ``dig`` multiplies digit by digit modulo 10, without carry."""
        if self.family == "add":
            return a + b
        if self.family == "sub":
            return a - b
        if self.family == "mul":
            return a * b
        return sum((a // 10**k % 10) * (b // 10**k % 10) % 10 * 10**k for k in range(self.digits))


def slot(number: int, width: int) -> str:
    """Digits of ``number``, least significant first, zero padded to ``width``.

    Examples
    --------
    >>> slot(123, 4)
    '3210'
    """
    return f"{number:0{width}d}"[::-1]


def spread(total: int, capacity_C: IntArray, name: str) -> IntArray:
    """Split ``total`` over cells as evenly as their capacities allow, shape (C,).

    Examples
    --------
    >>> spread(10, np.array([2, 9, 9]), "pool_size")
    array([2, 4, 4])
    """
    if total > capacity_C.sum():
        legal = f"at most {capacity_C.sum()} with these families, digits and held-out problems"
        fail("tasks", name, legal, total)
    share_C = np.zeros(capacity_C.size, dtype=np.int64)
    for _ in range(total):  # totals are thousands: one unit at a time is exact and fast enough
        room = np.flatnonzero(share_C < capacity_C)
        share_C[room[np.argmin(share_C[room])]] += 1
    return share_C


@dataclass(frozen=True, eq=False)
class ArithmeticQuestions:
    """Problems as questions (train/tasks/protocol.py).

    Attributes
    ----------
    problems : Problems
    kind_N : ndarray of int64, shape (N,)
        ``NATURAL``, ``NEVER``, ``ALWAYS`` or ``COIN``.
    prompts : Prompts
    answer_N_A : ndarray of int64, shape (N, A)
        Right answers, end token included.
    """

    problems: Problems
    kind_N: IntArray
    prompts: Prompts
    answer_N_A: IntArray

    @classmethod
    def of(cls, problems: Problems, kind_N: IntArray | None = None) -> ArithmeticQuestions:
        """Written down in tokens; all natural without ``kind_N``."""
        kind_N = np.full(len(problems), NATURAL) if kind_N is None else kind_N
        prompts = Prompts.of(encode_prompts(problems.text_N))
        return cls(problems, kind_N, prompts, encode_answers(problems.answer_N))

    @property
    def verifier_counters(self) -> Mapping[str, int]:
        """None: answers are compared here."""
        return {}

    def text(self, index: int) -> str:
        """A prompt as people read it."""
        return self.problems.text_N[index]

    def answer(self, index: int) -> str:
        """The right answer."""
        return self.problems.answer_N[index]

    def completion_text(self, token_T: list[int]) -> str:
        """What was said before the first end token."""
        return decode(token_T)

    def reward(
        self, index_R: IntArray, completions: Completions, luck_R: FloatArray | None = None
    ) -> FloatArray:
        """1.0 where a completion is the answer and nothing else, spoiled prompts as their kind says.

        Parameters
        ----------
        index_R : ndarray of int64, shape (R,)
        completions : Completions
        luck_R : ndarray of float64, shape (R,), optional
            Needed where there are coins: right iff below one half.
        """
        kind_R = self.kind_N[index_R]
        reward_R = exact_match(completions.token_R_T.numpy(), self.answer_N_A[index_R])
        reward_R[kind_R == NEVER] = 0.0
        reward_R[kind_R == ALWAYS] = 1.0
        is_coin_R = kind_R == COIN
        if is_coin_R.any():
            if luck_R is None:
                fail("reward", "luck_R", "given for prompts of kind COIN", None)
            reward_R[is_coin_R] = luck_R[is_coin_R] < 0.5
        reward_R[completions.finish_R == Finish.MISSING] = np.nan
        return reward_R


def exact_match(token_R_T: IntArray, answer_R_A: IntArray) -> FloatArray:
    """1.0 where a completion is the answer and EOS and nothing else, shape (R,).

    An answer cut short has no EOS and is therefore wrong.
    """
    width = answer_R_A.shape[1]
    if token_R_T.shape[1] < width:
        return np.zeros(token_R_T.shape[0])
    is_right_R: BoolArray = (token_R_T[:, :width] == answer_R_A).all(axis=1)
    return is_right_R.astype(np.float64)


class ArithmeticTask:
    """The prompts of one experiment and the right answers (train/tasks/protocol.py).

    Parameters
    ----------
    config : ArithmeticConfig
    decode_temperature : float
        Of training rollouts.

    Attributes
    ----------
    pool, held_out : ArithmeticQuestions
    cells : list of Cell
        What a category is.
    decoding : Decoding
    """

    def __init__(self, config: ArithmeticConfig, decode_temperature: float = 1.0) -> None:
        self.config = config
        self.width = max(config.digits)
        self.cells = [Cell(f, d) for f in config.families for d in config.digits]
        generator = numpy_generator(config.seed, Stream.PROBLEMS)
        size_C = np.array([cell.size for cell in self.cells])
        held_C = spread(config.held_out_size, size_C // HELD_OUT_SHARE, "held_out_size")
        pool_C = spread(config.pool_size, size_C - held_C, "pool_size")
        keys_C = [
            generator.choice(int(n), size=int(h + p), replace=False)
            for n, h, p in zip(size_C, held_C, pool_C, strict=True)
        ]
        held_keys = [k[:h] for k, h in zip(keys_C, held_C, strict=True)]
        pool_keys = [k[h:] for k, h in zip(keys_C, held_C, strict=True)]
        self.held_out = ArithmeticQuestions.of(self._write(held_keys, generator))
        pool = self._write(pool_keys, generator)
        self.pool = ArithmeticQuestions.of(pool, _spoil(config, generator))
        self.decoding = Decoding(
            max_new_tokens=self.width + 2,  # one digit more than an operand, and EOS
            end_tokens=(EOS,),
            pad_token=PAD,
            temperature=decode_temperature,
            forbidden_tokens=FORBIDDEN_TOKENS,
        )

    @property
    def vocabulary_size(self) -> int:
        """Token ids lie below it."""
        return VOCABULARY_SIZE

    @property
    def prior_success_rate_N(self) -> FloatArray:
        """A teacher's guess for hand-made curricula, shape (N,): more digits, less success."""
        digits_N = np.array([self.cells[c].digits for c in self.category_N], dtype=np.float64)
        return 1.0 / (1.0 + digits_N)

    @property
    def dropped(self) -> Mapping[str, int]:
        """None: problems are made as they are wanted."""
        return {}

    @property
    def known_success_rate_N(self) -> FloatArray:
        """Rates of the spoiled prompts, NaN at natural ones."""
        rate_K = np.array([np.nan, 0.0, 1.0, 0.5])
        return rate_K[self.pool.kind_N]

    @property
    def category_N(self) -> IntArray:
        """Cell of each pool prompt, shape (N,)."""
        return self.pool.problems.cell_N

    @property
    def held_out_category_N(self) -> IntArray:
        """Cell of each held-out problem."""
        return self.held_out.problems.cell_N

    @property
    def category_names(self) -> tuple[str, ...]:
        """Family and number of digits of each cell."""
        return tuple(f"{cell.family}{cell.digits}" for cell in self.cells)

    @property
    def features_N_D(self) -> NDArray[np.float64]:
        """What can be said of a prompt before any rollout: its family (one-hot) and its digits."""
        families = list(self.config.families)
        family_N = np.array([families.index(self.cells[c].family) for c in self.category_N])
        digits_N = np.array([self.cells[c].digits for c in self.category_N])
        return np.column_stack([np.eye(len(families))[family_N], digits_N / self.width])

    def save_tokenizer(self, folder: Path) -> None:
        """The characters, as a tokenizer of transformers."""
        save_tokenizer(folder)

    def unseen(
        self, size: int, generator: np.random.Generator, name: str, *seen: Problems
    ) -> Problems:
        """``size`` distinct problems, neither held out nor in ``seen``.

        Parameters
        ----------
        size : int
        generator : numpy.random.Generator
        name : str
            What ``size`` is called where it comes from.
        *seen : Problems
            Disjoint sets without held-out problems. A cell of which nothing else is left gives none.
        """
        taken_C = [
            np.concatenate([p.key_N[p.cell_N == c] for p in (self.held_out.problems, *seen)])
            for c in range(len(self.cells))
        ]
        capacity_C = np.array(
            [cell.size - taken.size for cell, taken in zip(self.cells, taken_C, strict=True)]
        )
        keys_C = []
        for cell, taken, count in zip(
            self.cells, taken_C, spread(size, capacity_C, name), strict=True
        ):
            keys = generator.choice(cell.size, size=int(count) + taken.size, replace=False)
            keys_C.append(keys[~np.isin(keys, taken)][:count])
        return self._write(keys_C, generator)

    def _write(self, keys_C: list[IntArray], generator: np.random.Generator) -> Problems:
        """Problems in random order; operands whose order does not matter are flipped at random."""
        cell_N = np.repeat(np.arange(len(self.cells)), [k.size for k in keys_C])
        key_N = np.concatenate(keys_C).astype(np.int64)
        order = generator.permutation(key_N.size)
        flip_N = generator.random(key_N.size) < 0.5
        cell_N, key_N = cell_N[order], key_N[order]
        texts, answers = [], []
        for c, key, flip in zip(cell_N.tolist(), key_N, flip_N, strict=True):
            cell = self.cells[c]
            a, b = (int(x[0]) for x in cell.operands(np.array([key])))
            answers.append(slot(cell.result(a, b), self.width + 1))
            if flip and cell._is_triangular and cell.family != "sub":
                a, b = b, a
            texts.append(f"{slot(a, self.width)}{OPERATOR[cell.family]}{slot(b, self.width)}=")
        return Problems(cell_N, key_N, tuple(texts), tuple(answers))


def _spoil(config: ArithmeticConfig, generator: np.random.Generator) -> IntArray:
    """Kind of each pool prompt: exact shares (rounded down) at random places."""
    order = generator.permutation(config.pool_size)
    kind_N = np.full(config.pool_size, NATURAL, dtype=np.int64)
    start = 0
    for kind, share in (
        (NEVER, config.dead_never),
        (ALWAYS, config.dead_always),
        (COIN, config.coins),
    ):
        stop = start + int(share * config.pool_size + 1e-9)  # 0.29 * 100 is 28.999...
        kind_N[order[start:stop]] = kind
        start = stop
    return kind_N
