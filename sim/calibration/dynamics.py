r"""How success rates move while the model trains: drift, and what one prompt's training does to others.

Fitted by marginal likelihood (:mod:`sim.calibration.state_space`). Three numbers come out.

*Drift*: :math:`\sigma`, the standard deviation per update of a prompt's own random walk in logits, on
top of what learning explains.

*Transfer*: a unit of dose on one prompt moves every prompt by a and that prompt by a + b logits.
Transfer is a / (a + b): 0, a step helps its own prompt only; 1, it helps all alike. In a policy with
logits linear in the parameters it is the mean inner product of the gradients of two prompts' logits
over their mean square.

*Reach*: the share of the pool's mean logit gain that came to prompts while they were not trained on:
the shared part over shared and own. Pools are large, so a small transfer may have a large reach:
with N prompts trained equally it is N a / (N a + b).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.stats import norm

from cures.checks import FloatArray
from sim.calibration.state_space import GAIN_SD, OWN, Evaluation, StateSpace, state_space
from sim.calibration.visits import Visits

FIRST_VARIANCE = 1e-2  # where the search starts: large enough to keep beliefs smooth
MOST_VARIANCE = 1.0  # per update: a logit that moves by 1 each time has no memory
TOLERANCE = 1e-3  # nats that one more step could gain
MAX_ITERATIONS = 200


@dataclass(frozen=True, slots=True)
class Estimate:
    """A number with its interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Dynamics:
    """What a training log says about movement.

    Attributes
    ----------
    drift_sd : Estimate
        Logits per square root of an update, >= 0.
    own, shared : Estimate
        b and a, logits per unit of dose.
    transfer, reach : Estimate or None
        As defined above, not clipped; ``None`` where the log does not tell: nothing was learned (the
        interval of a + b, or of the whole gain, contains 0), or no prompt was seen after it was
        trained on.
    shared_U : tuple of float
        Shared gain in logits up to every update.
    visits, prompts, visited_twice : int
        What it rests on.
    log_likelihood : float
    """

    drift_sd: Estimate
    own: Estimate
    shared: Estimate
    transfer: Estimate | None
    reach: Estimate | None
    shared_U: tuple[float, ...]
    visits: int
    prompts: int
    visited_twice: int
    log_likelihood: float


def fit_dynamics(
    visits: Visits,
    *,
    confidence: float = 0.95,
    on_progress: Callable[[], None] = lambda: None,
) -> Dynamics:
    """Maximise the marginal likelihood; intervals from the information in the prompts' scores.

    Parameters
    ----------
    visits : Visits
        From :func:`sim.calibration.visits.visits_of`.
    confidence : float in (0, 1)
    on_progress : callable
        Called at every iteration.

    Raises
    ------
    RuntimeError
        If the search does not converge.

    Notes
    -----
    The interval of the drift is one of the variance, cut at 0, then its root: a variance estimated
    as 0 still has an upper end.
    """
    model = state_space(visits)
    parameters, last = _maximise(model, on_progress)
    covariance: FloatArray = np.linalg.inv(last.information_J_J).astype(np.float64, copy=False)
    return _summary(model, parameters, covariance, last.value, confidence)


def _maximise(model: StateSpace, on_progress: Callable[[], None]) -> tuple[FloatArray, Evaluation]:
    """Fisher scoring with Levenberg's damping; the variance stays in its bounds."""
    here = np.zeros(model.num_parameters)
    here[0] = FIRST_VARIANCE
    now, damping = model.evaluate(here), 1e-3
    for _ in range(MAX_ITERATIONS):
        on_progress()
        if (
            _step(now, here[0], 0.0)[1] < TOLERANCE
        ):  # undamped, or a short step would look like the end
            return here, now
        step, promise = _step(now, here[0], damping)
        then = model.evaluate(here + step)
        if np.isfinite(then.slope_J).all() and then.value > now.value + 1e-4 * promise:
            here, now, damping = here + step, then, damping / 5.0
        else:
            damping *= 10.0
    raise RuntimeError(
        "fit_dynamics: no convergence; the log hardly determines drift and learning (leave its lines "
        "of training out for a population without them)"
    )


def _step(now: Evaluation, variance: float, damping: float) -> tuple[FloatArray, float]:
    """A damped scoring step, and the gain that its quadratic model promises."""
    matrix = now.information_J_J + damping * np.diag(np.diag(now.information_J_J))
    step = np.asarray(np.linalg.solve(matrix, now.slope_J))
    bounded = float(np.clip(variance + step[0], 0.0, MOST_VARIANCE)) - variance
    if bounded != step[0]:  # the other parameters answer to what the variance may do
        rest = np.linalg.solve(matrix[1:, 1:], now.slope_J[1:] - matrix[1:, 0] * bounded)
        step = np.append(bounded, rest)
    return step, float(now.slope_J @ step - 0.5 * step @ matrix @ step)


def _summary(
    model: StateSpace,
    parameters: FloatArray,
    covariance: FloatArray,
    log_likelihood: float,
    confidence: float,
) -> Dynamics:
    visits, end = model.visits, model.first_spline
    dose_W = visits.dose_W
    total = float(dose_W.sum())
    learned, spread = parameters[OWN:end], covariance[OWN:end, OWN:end]
    width = float(norm.isf((1.0 - confidence) / 2.0))

    def linear(weight: FloatArray) -> Estimate:
        value = float(weight @ learned)
        half = width * float(np.sqrt(weight @ spread @ weight))
        return Estimate(value, value - half, value + half)

    def ratio(top: FloatArray, bottom: FloatArray) -> Estimate | None:
        """Interval by the delta method."""
        below = linear(bottom)
        if below.low <= 0.0 or not is_own_told:
            return None
        value = float(top @ learned) / below.value
        slope = (top - value * bottom) / below.value
        half = width * float(np.sqrt(slope @ spread @ slope))
        return Estimate(value, value - half, value + half)

    is_own_told = spread[0, 0] < 0.25 * GAIN_SD**2  # else its penalty speaks, not the log
    own, shared = np.eye(end - 1)[0], np.append(0.0, dose_W / max(total, 1e-300))
    all_shared = np.append(0.0, dose_W)
    all_own = own * total / visits.prompts
    variance, error = float(parameters[0]), width * float(np.sqrt(covariance[0, 0]))
    return Dynamics(
        drift_sd=Estimate(
            *(float(np.sqrt(max(v, 0.0))) for v in (variance, variance - error, variance + error))
        ),
        own=linear(own),
        shared=linear(shared),
        transfer=ratio(shared, own + shared),
        reach=ratio(all_shared, all_own + all_shared),
        shared_U=tuple(np.cumsum(visits.dose_U * learned[1 + visits.segment_U]).tolist()),
        visits=sum(len(r.trial) for r in visits.rounds),
        prompts=len(visits.rounds[0].trial),
        visited_twice=visits.visited_twice,
        log_likelihood=log_likelihood,
    )
