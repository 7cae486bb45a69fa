"""Operands come in either order where it does not matter, so that order tells nothing."""

from __future__ import annotations

import re

import pytest

from train.tasks.arithmetic import ArithmeticTask
from train.tasks.arithmetic_config import ArithmeticConfig


def operands(text):
    """Both numbers of a prompt, whose digits are written from the last to the first."""
    return [int(digits[::-1]) for digits in re.fullmatch(r"(\d+)\D(\d+)=", text).groups()]


def share_with_smaller_first(family, pool_size):
    """Among prompts of two different numbers."""
    task = ArithmeticTask(
        ArithmeticConfig(
            families=[family], digits=[3], pool_size=pool_size, held_out_size=2, seed=4
        )
    )
    pairs = [operands(text) for text in task.pool.problems.text_N]
    return sum(a < b for a, b in pairs) / sum(a != b for a, b in pairs)


@pytest.mark.parametrize("family", ["add", "dig"])
def test_half_of_the_problems_are_written_the_other_way_round(family):
    # fair coins: four standard errors of 2000 are 4 * 0.5 / sqrt(2000) = 0.045; without the coins
    # the share is 0 (canonical problems have a >= b), which the same band refuses
    share = share_with_smaller_first(family, 2000)
    assert abs(share - 0.5) < 0.045


def test_subtraction_is_never_turned_round():
    # a - b with a < b has no answer among the digits
    assert share_with_smaller_first("sub", 500) == 0.0
