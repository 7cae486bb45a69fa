"""Groups of rollouts, exactly: every outcome of a group with its probability, in rationals.

A rollout gives answer k with probability ``pi_K[k]``; a group is n rollouts. With the two answers
"wrong" and "right" the answer is the reward.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import product
from math import prod

import sympy as sp

from theory.policies import softmax_probabilities, softmax_scores

Rewards = tuple[int, ...]


def groups(pi_K: Sequence[Fraction], size: int) -> Iterator[tuple[tuple[int, ...], Fraction]]:
    """All K^size ordered groups of answers, each with its probability."""
    for group in product(range(len(pi_K)), repeat=size):
        yield group, prod((pi_K[k] for k in group), start=Fraction(1))


def expectation(rate: Fraction, size: int, value: Callable[[Rewards], Fraction]) -> sp.Rational:
    """Mean of ``value(rewards)`` over groups of 0/1 rewards with success rate ``rate``."""
    total = sum(
        (chance * value(rewards) for rewards, chance in groups((1 - rate, rate), size)), Fraction()
    )
    return rational(total)


def rational(value: Fraction) -> sp.Rational:
    """The same number for sympy."""
    return sp.Rational(value.numerator, value.denominator)


def centred(rewards: Rewards) -> list[Fraction]:
    """Rewards minus their mean: the advantages of Dr.GRPO."""
    mean = Fraction(sum(rewards), len(rewards))
    return [r - mean for r in rewards]


@dataclass(frozen=True)
class SmallPolicy:
    """A tabular softmax policy with rational probabilities, and the moments of its scores.

    Attributes
    ----------
    pi_K : tuple of Fraction
        Probability of each answer.
    score_K : tuple of tuple of Fraction
        Score of each answer.
    right : frozenset of int
        The right answers.
    """

    pi_K: tuple[Fraction, ...]
    score_K: tuple[tuple[Fraction, ...], ...]
    right: frozenset[int]

    @classmethod
    def of(cls, weight_K: Sequence[int], right: frozenset[int]) -> SmallPolicy:
        """From whole-number weights ``exp(logit)``."""
        pi = softmax_probabilities([sp.Integer(w) for w in weight_K])
        score = softmax_scores(pi)
        as_fraction = [[Fraction(int(x.p), int(x.q)) for x in score.row(k)] for k in range(pi.rows)]
        return cls(
            tuple(Fraction(int(x.p), int(x.q)) for x in pi),
            tuple(tuple(row) for row in as_fraction),
            right,
        )

    @property
    def rate(self) -> Fraction:
        """Success rate p."""
        return sum((self.pi_K[k] for k in self.right), Fraction())

    def moments(self) -> dict[str, Fraction]:
        r"""Spread of the scores of right and of wrong answers, and the squared distance of their means.

        ``spread_right`` is :math:`E[|s - E[s|r]|^2 | r = 1]`, ``spread_wrong`` the same for r = 0,
        ``sq_difference`` is :math:`|E[s|r=1] - E[s|r=0]|^2`.
        """
        means, spreads = [], []
        for kind in (True, False):
            members = [k for k in range(len(self.pi_K)) if (k in self.right) is kind]
            mass = sum((self.pi_K[k] for k in members), Fraction())
            mean = [
                sum((self.pi_K[k] * self.score_K[k][d] for k in members), Fraction()) / mass
                for d in range(len(self.score_K[0]))
            ]
            square = sum(
                (self.pi_K[k] * _dot(self.score_K[k], self.score_K[k]) for k in members), Fraction()
            )
            means.append(mean)
            spreads.append(square / mass - _dot(mean, mean))
        difference = [a - b for a, b in zip(*means, strict=True)]
        return {
            "spread_right": spreads[0],
            "spread_wrong": spreads[1],
            "sq_difference": _dot(difference, difference),
        }

    def gradient_moments(
        self, size: int, square_scale: Callable[[Rewards], Fraction]
    ) -> tuple[list[Fraction], Fraction]:
        """Mean and mean square of ``sum_j A_j s_j / n`` with ``A = (r - mean r) * scale``.

        The mean takes a scale of 1; the mean square takes ``square_scale(rewards)``, the square of
        the scale, which is rational where the scale is a root.
        """
        mean = [Fraction()] * len(self.score_K[0])
        square = Fraction()
        for group, chance in groups(self.pi_K, size):
            rewards = tuple(int(k in self.right) for k in group)
            advantage = centred(rewards)
            pairs = list(zip(advantage, group, strict=True))
            gradient = [
                sum((a * self.score_K[k][d] for a, k in pairs), Fraction()) / size
                for d in range(len(mean))
            ]
            mean = [x + chance * y for x, y in zip(mean, gradient, strict=True)]
            if any(advantage):
                square += chance * _dot(gradient, gradient) * square_scale(rewards)
        return mean, square


def _dot(a: Sequence[Fraction], b: Sequence[Fraction]) -> Fraction:
    return sum((x * y for x, y in zip(a, b, strict=True)), Fraction())
