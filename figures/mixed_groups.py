r"""What avoiding groups without a spread of rewards has to offer, what arms had of it, what that saved.

Under a group baseline only a mixed group, one with right and wrong answers, has a gradient. A group of n
rollouts of a prompt with success rate p is mixed with chance :math:`P = 1 - p^n - (1-p)^n`. Of uniform
sampling's groups a share :math:`\bar P` is mixed; of one that visits prompts in proportion to a soft
threshold h(P), as ``adaptive`` does once it knows them, :math:`\overline{h(P) P} / \overline{h(P)}`
(less where a prompt is due more than once an update). The ratio R of the two is what avoiding dead
groups has to offer.

What R saves depends on the step. Plain ascent moves as far as the gradient is long, so R times the mixed
groups go R times as far: R times fewer rollouts. Adam divides by the gradient's root mean square. Where
noise prevails in it, R times the signal with :math:`\sqrt R` times the noise goes :math:`\sqrt R` times
as far; where the signal prevails, a step is a step, and nothing is saved. So the exponent of R is 1
under plain ascent, and between 0 and 1/2 under Adam.

Additional axis suffix: ``_C`` cells; a cell is one setting, all arms and seeds.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

import cures
from cures.checks import FloatArray, InWords, fail
from cures.comparison import rollouts_to_target
from cures.potential import prob_mixed
from cures.sampling import inclusion_probability
from cures.soft_threshold import soft_threshold
from figures.sim_folders import FRACTION, Comparison, FloatMatrix, difference
from sim.diagnosis import load_columns
from sim.settings import REFERENCE

NO_GROUP_BASELINE = ("reinforce++",)
HALF = cures.scheduler_settings("adaptive")["threshold"]  # of h
EXPONENT = {"adam": (0.0, 0.5), "sgd": (1.0, 1.0)}  # of R, what theory says: from, to


def initial_rates(config: dict[str, Any]) -> FloatArray:
    """Initial success rates of a pool whose learnable prompts are spread exactly as the law says.

    Parameters
    ----------
    config : dict
        ``pool``, and under ``empirical`` the content of a population file.

    Returns
    -------
    ndarray of float64, shape (pool,)
    """
    law, pool = config["empirical"], int(config["pool"])
    fixed = ((0.0, law["never"]), (1.0, law["always"]), (0.5, law["coin"]))
    rates = [np.full(round(share * pool), rate) for rate, share in fixed]
    learnable = pool - sum(part.size for part in rates)
    level = (np.arange(learnable) + 0.5) / max(1, learnable)
    place = np.searchsorted(np.cumsum(law["weight"]), level)  # inversion of the law
    return np.concatenate([*rates, np.asarray(law["success_rate"])[place]])


def mixed_shares(rate_N: FloatArray, group_size: int, batch_size: int) -> tuple[float, float]:
    r"""Share of mixed groups, for uniform visits and for visits in proportion to a soft threshold.

    Parameters
    ----------
    rate_N : array_like of float, shape (N,)
        Success rates.
    group_size, batch_size : int
        Rollouts of a group, and groups of an update: distinct prompts, ``batch_size <= N``.

    Returns
    -------
    tuple of float
        :math:`\overline P`, and :math:`\sum_i \pi_i P_i / m` with inclusion probabilities
        :math:`\pi_i = \min(1, c\, h(P_i))`.

    Examples
    --------
    Two of four prompts can teach. Either both are all of the batch, or two thirds of it:

    >>> mixed_shares(np.array([0.5, 0.5, 0.0, 0.0]), 2, 2)
    (0.25, 0.5)
    >>> mixed_shares(np.array([0.5, 0.5, 0.0, 0.0]), 2, 3)[1]
    0.3333333333333333
    """
    mixed_N = prob_mixed(rate_N, group_size)
    worth_N = soft_threshold(mixed_N, HALF)
    worth_N = np.maximum(worth_N, np.finfo(np.float64).tiny)  # none is excluded, as in adaptive
    chance_N = inclusion_probability(worth_N / worth_N.sum(), batch_size)
    return float(mixed_N.mean()), float(chance_N @ mixed_N / batch_size)


def predicted_ratio(config: dict[str, Any]) -> float:
    """R of the initial success rates."""
    rate_N = initial_rates(config)
    uniform, weighted = mixed_shares(rate_N, config["group_size"], config["batch_size"])
    return weighted / uniform


def cells_of(cells: list[Comparison]) -> dict[str, Any]:
    """R of every cell, what the arms had of it, and what that saved.

    Left out: cells without a group baseline, where no advantage is 0 and mixed groups are not seen; and
    cells without a level to reach.

    Returns
    -------
    dict
        ``name_C``; ``coins_C`` (bool); ``predicted_C``: R. Per arm ``measured_C``: share of rollouts in
        mixed groups over uniform's, both until the level is reached; ``speed_up_C``, NaN where it is
        only a bound, with ``low_C`` and ``high_C``, NaN where open; and two exponents over the cells
        without coins (:func:`exponent`): ``had``, of R in the measured ratio, and ``saved``, of the
        measured ratio in the saving.
    """
    kept = [
        cell
        for cell in cells
        if cell.config["estimator"] not in NO_GROUP_BASELINE and _target(cell, REFERENCE)
    ]
    coins_C = np.array([cell.config["empirical"]["coin"] > 0.0 for cell in kept], dtype=bool)
    predicted_C = np.array([predicted_ratio(cell.config) for cell in kept])
    result: dict[str, Any] = {
        "name_C": [cell.folder.name for cell in kept],
        "coins_C": coins_C,
        "predicted_C": predicted_C,
    }
    uniform = np.array([_way_to_the_level(cell, REFERENCE) for cell in kept])  # (C, 2, S)
    for arm in cells[0].arms[1:]:
        ours = np.array([_way_to_the_level(cell, arm) for cell in kept])
        log_saving_C_S, log_ratio_C_S = (
            np.log(uniform[:, 0] / ours[:, 0]),
            np.log(ours[:, 1] / uniform[:, 1]),
        )
        log_promise_C_S = np.log(predicted_C)[:, None] + np.zeros_like(log_ratio_C_S)
        rows = [_target(cell, arm) for cell in kept]
        result[arm] = {
            "measured_C": np.exp(_mean_of_known(log_ratio_C_S)),
            "speed_up_C": _floats(r["ratio"] if r["bound"] == "exact" else None for r in rows),
            "low_C": _floats(row["low"] or None for row in rows),
            "high_C": _floats(row["high"] for row in rows),
            "had": exponent(log_promise_C_S[~coins_C], log_ratio_C_S[~coins_C]),
            "saved": exponent(log_ratio_C_S[~coins_C], log_saving_C_S[~coins_C]),
        }
    return result


def _target(cell: Comparison, arm: str) -> dict[str, Any]:
    """Of the level at :data:`figures.sim_folders.FRACTION`; empty where there is none."""
    rows = cell.result["arms"][arm]["targets"]
    return next((row for row in rows if row["fraction"] == FRACTION), {})


def _way_to_the_level(cell: Comparison, arm: str) -> tuple[FloatArray, FloatArray]:
    """Per seed the rollouts to the level, and the share of them in mixed groups; NaN: never there."""
    grid_E, curve_S_E = cell.curve(arm)
    level_S = curve_S_E[:, 0] + _target(cell, arm)["gain"]
    rollouts_S, is_out_S = rollouts_to_target(grid_E, curve_S_E, level_S)
    rollouts_S[is_out_S | (rollouts_S == 0.0)] = np.nan
    columns = load_columns(cell.folder, arm, cell.seeds)
    if columns is None:
        fail(
            "boundary",
            str(cell.folder),
            "with the columns of sim.watch in curve.npz",
            InWords("none"),
        )
    mixed_S_E = columns["trained"] - columns["zero_advantage"]
    mixed_S = [np.interp(r, grid_E, m) for r, m in zip(rollouts_S, mixed_S_E, strict=True)]
    return rollouts_S, np.array(mixed_S) / rollouts_S


def _floats(values: Iterable[float | None]) -> FloatArray:
    return np.array([np.nan if value is None else value for value in values], dtype=np.float64)


def _mean_of_known(values_C_S: FloatMatrix) -> FloatArray:
    """Mean over the seeds that are known; NaN where none is."""
    known = np.isfinite(values_C_S)
    total_C, count_C = np.where(known, values_C_S, 0.0).sum(axis=1), known.sum(axis=1)
    return np.where(count_C > 0, total_C / np.maximum(count_C, 1), np.nan)


def exponent(log_cause_C_S: FloatMatrix, log_result_C_S: FloatMatrix) -> FloatArray:
    """Slope of one logarithm against another, through the origin: mean over seeds, and its interval.

    Parameters
    ----------
    log_cause_C_S, log_result_C_S : array_like of float, shape (C, S)
        Cells with a NaN are left out.

    Returns
    -------
    ndarray of float64, shape (3,)
        Mean and the ends of its 95 % interval; NaN where nothing is left.

    Examples
    --------
    >>> ratio = np.log([[4.0] * 6, [2.0] * 6])
    >>> exponent(ratio, 0.5 * ratio).round(12).tolist()
    [0.5, 0.5, 0.5]
    """
    is_whole_C = (np.isfinite(log_cause_C_S) & np.isfinite(log_result_C_S)).all(axis=1)
    x, y = log_cause_C_S[is_whole_C], log_result_C_S[is_whole_C]
    square_S = (x * x).sum(axis=0)
    if not is_whole_C.any() or not square_S.all():
        return np.full(3, np.nan)
    return difference((x * y).sum(axis=0) / square_S, np.zeros(square_S.size))
