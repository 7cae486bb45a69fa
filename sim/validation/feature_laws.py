"""Laws of answers with features of their own: any law of scores that a softmax policy can have.

The simulator's policies fix how scores depend on the success rate. To vary the spread of the scores and
the distance between right and wrong ones by themselves, as claims 5.3 and 5.6 do, answers need features.
Vectors with mean zero are the scores of the softmax that has them as features.
"""

from __future__ import annotations

import numpy as np

from sim.validation.answers import AnswerLaw


def constant_norms(rate: float, squared_ratio: float) -> AnswerLaw:
    """Scores of square norm 1, right and wrong alike, and mean scores a given distance apart.

    Parameters
    ----------
    rate : float
        Success rate p.
    squared_ratio : float
        D^2 / G^2 with G = 1; p has to lie in [1 - 1/D, 1/D] (claim 5.4).

    Returns
    -------
    AnswerLaw
        Two right and two wrong answers: along one axis right and wrong differ, along the other the two
        of a kind.

    Raises
    ------
    ValueError
        If no scores can be so far apart at this success rate.
    """
    apart = squared_ratio**0.5
    along_right, along_wrong = (1.0 - rate) * apart, -rate * apart
    if max(along_right, -along_wrong) > 1.0:
        raise ValueError(
            f"constant_norms: rate must be in [{1 - 1 / apart:.3f}, {1 / apart:.3f}], got {rate}"
        )
    across_right, across_wrong = ((1.0 - x**2) ** 0.5 for x in (along_right, along_wrong))
    score_K_D = np.array(
        [
            [along_right, across_right],
            [along_right, -across_right],
            [along_wrong, across_wrong],
            [along_wrong, -across_wrong],
        ]
    )
    chance_K = np.array([rate, rate, 1.0 - rate, 1.0 - rate]) / 2.0
    return AnswerLaw(chance_K, score_K_D, np.array([True, True, False, False]))


def with_fillers(rate: float, tokens: int) -> AnswerLaw:
    """One token decides between two answers, and ``tokens`` others choose between two words each.

    Returns
    -------
    AnswerLaw
        2 ** (1 + tokens) answers; a fair choice between two words has the score +-(1, -1) / 2.
    """
    word = np.arange(2 ** (1 + tokens))[:, None] >> np.arange(1 + tokens) & 1
    is_right_K = word[:, 0] == 1
    decided_K = np.where(is_right_K, 1.0 - rate, -rate)
    parts = [decided_K, -decided_K]
    for token in range(tokens):
        side_K = word[:, 1 + token] - 0.5
        parts += [side_K, -side_K]
    chance_K = np.where(is_right_K, rate, 1.0 - rate) / 2.0**tokens
    return AnswerLaw(chance_K, np.stack(parts, axis=1), is_right_K)
