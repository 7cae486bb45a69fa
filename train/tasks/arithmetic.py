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

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cures.checks import FloatArray, IntArray, fail
from train.config import TaskConfig
from train.seeds import Stream, numpy_generator
from train.tasks.characters import encode_answers, encode_prompts

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


class Task:
    """The prompts of one experiment and the right answers.

    Parameters
    ----------
    config : TaskConfig

    Attributes
    ----------
    pool, held_out : Problems
    kind_N : ndarray of int64, shape (N,)
        ``NATURAL``, ``NEVER``, ``ALWAYS`` or ``COIN`` for each pool prompt.
    prompt_N_L, answer_N_A : ndarray of int64
        Token ids of the pool; ``held_prompt_N_L`` and ``held_answer_N_A`` likewise.
    """

    def __init__(self, config: TaskConfig) -> None:
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
        self.held_out = self._write(held_keys, generator)
        self.pool = self._write(pool_keys, generator)
        self.kind_N = _spoil(config, generator)
        self.prompt_N_L = encode_prompts(self.pool.text_N)
        self.answer_N_A = encode_answers(self.pool.answer_N)
        self.held_prompt_N_L = encode_prompts(self.held_out.text_N)
        self.held_answer_N_A = encode_answers(self.held_out.answer_N)

    @property
    def max_new_tokens(self) -> int:
        """Tokens of a complete answer: one digit more than an operand, and EOS."""
        return self.width + 2

    @property
    def prior_success_rate_N(self) -> FloatArray:
        """A teacher's guess for hand-made curricula, shape (N,): more digits, less success."""
        digits_N = np.array([self.cells[c].digits for c in self.pool.cell_N], dtype=np.float64)
        return 1.0 / (1.0 + digits_N)

    @property
    def category_N(self) -> IntArray:
        """Cell of each pool prompt, shape (N,)."""
        return self.pool.cell_N

    @property
    def features_N_D(self) -> NDArray[np.float64]:
        """What can be said of a prompt before any rollout: its family (one-hot) and its digits."""
        families = list(self.config.families)
        family_N = np.array([families.index(self.cells[c].family) for c in self.pool.cell_N])
        digits_N = np.array([self.cells[c].digits for c in self.pool.cell_N])
        return np.column_stack([np.eye(len(families))[family_N], digits_N / self.width])

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
            np.concatenate([p.key_N[p.cell_N == c] for p in (self.held_out, *seen)])
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


def _spoil(config: TaskConfig, generator: np.random.Generator) -> IntArray:
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
