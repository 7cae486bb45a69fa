"""Chapter 8 against the simulator's policies, `cures.advantages` and the simulator's pilot moments."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import product

import numpy as np
import pytest
from scipy.special import logit

from cures import advantages, gradient_variance, potential
from sim.item_response import ItemResponse
from sim.moments import score_moments
from sim.policy import Policy
from sim.skills import Skills
from sim.tabular import Tabular
from theory import coin_detection, mean_distance, objective_gain, score_products, signal
from theory.claims import numeric
from theory.squared_gradient import CLAIMS as SQUARED_GRADIENT
from theory.symbols import delta, m, n, p, q

Array = np.ndarray


@dataclass(frozen=True)
class Law:
    """One prompt of a policy of the simulator: every answer with its chance, score and verdict."""

    pi_K: Array
    score_K_D: Array
    right_K: Array

    @property
    def p(self) -> float:
        return float(self.pi_K @ self.right_K)

    @property
    def gradient(self) -> Array:
        return (self.pi_K * self.right_K) @ self.score_K_D

    @property
    def fisher(self) -> Array:
        return (self.score_K_D.T * self.pi_K) @ self.score_K_D

    @property
    def contribution_K_D(self) -> Array:
        return (self.right_K - self.p)[:, None] * self.score_K_D

    @property
    def covariance(self) -> Array:
        x = self.contribution_K_D
        return (x.T * self.pi_K) @ x - np.outer(self.gradient, self.gradient)

    def natural_norm(self, gradient: Array | None = None) -> float:
        g = self.gradient if gradient is None else gradient
        return float(g @ np.linalg.pinv(self.fisher, rcond=1e-9, hermitian=True) @ g)

    def share(self) -> float:
        """Of the squared bound of Eq. (11)."""
        return self.natural_norm() / float(potential(self.p)) ** 2

    def given(self, outcome: int) -> Array:
        kind = self.right_K == outcome
        return np.where(kind, self.pi_K, 0.0) / self.pi_K[kind].sum()


def law_of(policy: Policy, theta: Array, prompt: int, pi_K: Array) -> Law:
    """From the policy's own scores and verdicts; its own success rate and gradient must agree."""
    here, answer_K = np.array([prompt]), np.arange(len(pi_K))
    score = np.stack([policy.score_sum(theta, here, answer_K[[k]], np.ones(1)) for k in answer_K])
    right = policy.is_right(np.full(len(pi_K), prompt), answer_K).astype(float)
    law = Law(np.asarray(pi_K), score, right)
    assert law.pi_K.sum() == pytest.approx(1.0, rel=1e-14)
    np.testing.assert_allclose(law.pi_K @ score, 0.0, atol=1e-15)
    assert law.p == pytest.approx(float(policy.success_rate(theta, here)[0]), rel=1e-13)
    gradient = policy.success_gradient(theta, here, np.ones(1))
    np.testing.assert_allclose(law.gradient, gradient, rtol=1e-12, atol=1e-15)
    return law


def table_law(right: list[bool], seed: int) -> Law:
    policy = Tabular(np.array([right]))
    theta = 0.7 * np.random.default_rng(seed).normal(size=len(right))
    return law_of(policy, theta, 0, policy.probability(theta, np.array([0]))[0])


def feature_policy() -> tuple[Tabular, Array]:
    """Two prompts with shared features: what one learns moves the other."""
    rng = np.random.default_rng(7)
    right = np.array([[True, False, False], [False, True, True]])
    return Tabular(right, features_N_F=rng.normal(size=(2, 2))), rng.normal(size=6)


def feature_laws() -> list[Law]:
    policy, theta = feature_policy()
    pi = policy.probability(theta, np.arange(2))
    return [law_of(policy, theta, i, pi[i]) for i in range(2)]


def chain_law(pass_L: list[float], skill_L: list[int], rotation: Array | None = None) -> Law:
    """A chain whose step j is passed with chance ``pass_L[j]``; steps on one skill share a chance."""
    size = max(skill_L) + 1
    skill = np.zeros(size)
    skill[skill_L] = logit(np.array(pass_L))
    policy = Skills(
        np.array([skill_L]), np.array([len(skill_L)]), size, np.zeros(1), rotation_K_K=rotation
    )
    theta = skill if rotation is None else rotation.T @ skill
    reached = np.concatenate([[1.0], np.cumprod(pass_L)])
    pi = np.append(reached[:-1] * (1 - np.array(pass_L)), reached[-1])
    return law_of(policy, theta, 0, pi)


def mean_and_variance(
    chance_J: list[Array], statistic: Callable[[tuple[int, ...]], float]
) -> tuple[float, float]:
    """Of a statistic of independent rollouts, over all outcomes."""
    values, weights = [], []
    for outcome in product(*(np.flatnonzero(c) for c in chance_J)):
        weights.append(np.prod([c[k] for c, k in zip(chance_J, outcome, strict=True)]))
        values.append(statistic(outcome))
    weight, value = np.array(weights), np.array(values)
    mean = float(weight @ value)
    return mean, float(weight @ (value - mean) ** 2)


def distinct_mean(vector_n_D: Array) -> float:
    """Mean product of two different rows."""
    size = len(vector_n_D)
    gram = vector_n_D @ vector_n_D.T
    return float((gram.sum() - np.trace(gram)) / (size * (size - 1)))


# -- claims 8.1 to 8.3: the share of the bound --------------------------------------------------------


def test_policies_of_the_simulator_reach_the_bound():
    norm = numeric(signal.CLAIMS[1].formulas["norm"], p)
    item = ItemResponse(np.array([[1.0, -2.0, 0.5]]), np.array([0.7]))
    theta = np.array([0.4, -0.3, 1.0])
    rate = float(item.success_rate(theta, np.array([0]))[0])
    rotation = np.linalg.qr(np.random.default_rng(0).normal(size=(4, 4)))[0]
    laws = [
        table_law([True, False, False], 1),
        table_law([True, False, True, True, False, False], 2),
        *feature_laws(),
        law_of(item, theta, 0, np.array([1 - rate, rate])),
        chain_law([0.5, 0.7, 0.9], [0, 1, 2]),
        chain_law([0.2, 0.99, 0.6, 0.8], [3, 1, 0, 2]),
        chain_law([0.2, 0.99, 0.6, 0.8], [3, 1, 0, 2], rotation),
    ]
    for law in laws:
        assert law.natural_norm() == pytest.approx(float(norm(law.p)), rel=1e-12)
        assert law.natural_norm() == pytest.approx(float(potential(law.p)) ** 2, rel=1e-12)
    # control: a chain that comes back to a skill does not, see the next test
    assert chain_law([0.5, 0.7, 0.5], [0, 1, 0]).share() < 0.99


@pytest.mark.parametrize("chance", [0.1, 0.5, 0.9])
@pytest.mark.parametrize("length", [1, 2, 3, 6])
def test_a_chain_on_one_skill_keeps_the_claimed_share(chance: float, length: int):
    share = numeric(signal.CLAIMS[2].formulas["share"], (signal.steps, q))
    law = chain_law([chance] * length, [0] * length)
    assert law.share() == pytest.approx(float(share(length, chance)), rel=1e-12)
    if length > 1:
        assert law.share() < 1.0
        other = chain_law([chance] * length, list(range(length)))  # control: distinct skills
        assert other.share() == pytest.approx(1.0, rel=1e-12)


@pytest.mark.parametrize(("a", "b"), [(0.0, 0.0), (0.2, 0.1), (0.5, 0.5), (0.3, 0.7), (0.0, 0.4)])
def test_a_noisy_verifier_keeps_the_claimed_share_and_a_coin_nothing(a: float, b: float):
    symbols = (p, signal.false_positive, signal.false_negative)
    claim = {name: numeric(formula, symbols) for name, formula in signal.CLAIMS[0].formulas.items()}
    for law in (table_law([True, False, False, True], 3), chain_law([0.5, 0.7], [0, 1])):
        verdict_K = law.right_K * (1 - b) + (1 - law.right_K) * a
        seen = law.pi_K @ verdict_K
        slope = (law.pi_K * verdict_K) @ law.score_K_D
        assert seen == pytest.approx(float(claim["judged"](law.p, a, b)), rel=1e-13)
        kept = law.natural_norm(slope)
        assert kept == pytest.approx(float(claim["kept"](law.p, a, b)), rel=1e-12, abs=1e-28)
        lost = law.pi_K @ (verdict_K * (1 - verdict_K))
        assert lost == pytest.approx(float(claim["lost"](law.p, a, b)), rel=1e-12)
        bound = float(potential(seen)) ** 2
        assert kept + lost == pytest.approx(bound, rel=1e-12)
        assert kept / bound == pytest.approx(
            float(claim["share"](law.p, a, b)), rel=1e-12, abs=1e-28
        )
        if a + b == 1.0:  # a coin: no signal, while the bound does not notice
            np.testing.assert_allclose(slope, 0.0, atol=1e-16)
            assert bound == pytest.approx(a * (1 - a), rel=1e-12)
        else:  # control: the signal is not the bound unless the verdict is sure
            assert kept > 1e-3
            assert (kept == pytest.approx(bound, rel=1e-9)) is (a == b == 0.0)


# -- claim 8.4: a larger bound, a smaller gain --------------------------------------------------------


def test_the_gain_of_the_objective_is_not_in_the_order_of_the_bounds():
    symbols = (p, q, delta, signal.overlap)
    own, gain = (numeric(signal.CLAIMS[3].formulas[name], symbols) for name in ("own", "gain"))
    radius, gains = 1 / 800, {}
    for first, second, loading in product((0.5, 0.9), (0.5, 0.2), ([1.0, 1.0], [-0.5, 2.0])):
        policy = ItemResponse(
            np.array([[1.0, 0.0], loading]), np.array([-logit(first), -logit(second)])
        )
        theta = np.zeros(2)
        law = law_of(policy, theta, 0, np.array([1 - first, first]))
        direction = np.linalg.pinv(law.fisher, rcond=1e-9) @ law.gradient
        step = direction * np.sqrt(2.0 * radius / (law.gradient @ direction))
        whole = policy.success_gradient(theta, np.arange(2), np.full(2, 0.5))
        given = (first, second, radius, loading[0])
        assert law.gradient @ step == pytest.approx(float(own(*given)), rel=1e-12)
        assert law.gradient @ step == pytest.approx(
            np.sqrt(2 * radius) * float(potential(first)), rel=1e-12
        )
        assert whole @ step == pytest.approx(float(gain(*given)), rel=1e-12)
        gains[first, second, loading[0]] = whole @ step
        # along the step the objective does rise by this much, to first order
        tiny = 1e-6
        moved = policy.success_rate(theta + tiny * step, np.arange(2)).mean() - np.mean(
            [first, second]
        )
        assert moved / tiny == pytest.approx(float(gain(*given)), rel=1e-3, abs=1e-8)
    assert potential(0.9) < potential(0.5)
    assert gains[0.9, 0.5, 1.0] > gains[0.5, 0.5, 1.0]  # the order of the bounds is the wrong one
    turn = float(numeric(signal.CLAIMS[3].formulas["turn"], (q, signal.overlap))(0.2, 1.0))
    slowest = 0.5 - np.sqrt(0.25 - turn)  # p(1-p) = turn
    low = float(gain(slowest, 0.2, radius, 1.0))
    assert low < min(float(gain(x, 0.2, radius, 1.0)) for x in (0.8 * slowest, 1.2 * slowest))
    # kappa q(1-q) = 2/4 is beyond every p(1-p): then the largest bound has the smallest gain
    rising = gain(np.linspace(0.5, 0.999, 200), 0.5, radius, 2.0)
    assert (np.diff(rising) > 0).all()


# -- claims 8.5 and 8.6: the squared gradient ---------------------------------------------------------


LAWS = {
    "table": lambda: table_law([True, False, False], 1),
    "features": lambda: feature_laws()[1],
    "chain": lambda: chain_law([0.6, 0.8], [0, 1]),
    "one skill": lambda: chain_law([0.6, 0.6], [0, 0]),
}


@pytest.mark.parametrize("name", LAWS)
@pytest.mark.parametrize("size", [2, 3, 4])
def test_the_u_statistic_of_the_squared_gradient(name: str, size: int):
    law = LAWS[name]()
    sigma, g, x = law.covariance, law.gradient, law.contribution_K_D
    formulas = SQUARED_GRADIENT[0].formulas
    noise = (score_products.along, score_products.spread_sq, n)
    variance = float(
        numeric(formulas["variance"], noise)(g @ sigma @ g, np.trace(sigma @ sigma), size)
    )
    bias = float(numeric(formulas["bias"], (score_products.spread, n))(np.trace(sigma), size))
    chances = [law.pi_K] * size
    mean, spread = mean_and_variance(chances, lambda y: distinct_mean(x[list(y)]))
    assert mean == pytest.approx(g @ g, rel=1e-12)
    assert spread == pytest.approx(variance, rel=1e-12)
    plug_in, _ = mean_and_variance(chances, lambda y: float((x[list(y)].mean(axis=0) ** 2).sum()))
    assert plug_in - g @ g == pytest.approx(bias, rel=1e-12)
    assert plug_in != pytest.approx(g @ g, rel=0.02)  # control
    # Tr Sigma is the variance (21) of `cures`, and |g|^2 its last term
    squares = [float(law.given(r) @ (law.score_K_D**2).sum(axis=1)) for r in (1, 0)]
    apart = (law.given(1) - law.given(0)) @ law.score_K_D
    eq_21 = float(gradient_variance(law.p, *squares, apart @ apart))
    assert eq_21 == pytest.approx(np.trace(sigma), rel=1e-12)
    assert (law.p * (1 - law.p)) ** 2 * (apart @ apart) == pytest.approx(g @ g, rel=1e-12)


@pytest.mark.parametrize(
    ("estimator", "name"), [("dr_grpo", "group_mean"), ("rloo", "leave_one_out")]
)
@pytest.mark.parametrize("size", [2, 3, 5])
def test_group_baselines_of_the_library_scale_the_squared_gradient(
    estimator: str, name: str, size: int
):
    law = table_law([True, False, False], 4)
    factor = float(numeric(SQUARED_GRADIENT[1].formulas[name], n)(size))

    def statistic(outcome: tuple[int, ...]) -> float:
        chosen = list(outcome)
        a = advantages(law.right_K[chosen], np.zeros(size, dtype=int), estimator=estimator)
        return distinct_mean(a[:, None] * law.score_K_D[chosen])

    mean, _ = mean_and_variance([law.pi_K] * size, statistic)
    square = law.gradient @ law.gradient
    assert mean == pytest.approx(factor * square, rel=1e-12)
    independent = ((size - 1) / size) ** 2 if estimator == "dr_grpo" else 1.0
    assert mean != pytest.approx(independent * square, rel=0.03)  # control: baselines as if fixed


# -- claim 8.7: the distance of the mean scores, as the simulator measures it ---------------------------


@pytest.mark.parametrize("counts", [(2, 2), (3, 2), (2, 4)])
def test_pilot_moments_of_the_simulator_have_no_bias_and_the_claimed_variance(
    counts: tuple[int, int],
):
    law = table_law([True, True, False, False], 5)
    right, wrong = counts
    kinds = np.array([True] * right + [False] * wrong)

    def measured(outcome: tuple[int, ...]) -> float:
        index = np.zeros(right + wrong, dtype=np.int64)
        moments = score_moments(law.score_K_D[list(outcome)], kinds, index, 1)
        assert moments.sq_norm_difference is not None
        return float(moments.sq_norm_difference[0])

    d = (law.given(1) - law.given(0)) @ law.score_K_D
    cov = []
    for r in (1, 0):
        centred = law.score_K_D - law.given(r) @ law.score_K_D
        cov.append((centred.T * law.given(r)) @ centred)
    v1, v0 = cov
    md = mean_distance
    values = {
        md.n_1: right, md.n_0: wrong, md.along_1: d @ v1 @ d, md.along_0: d @ v0 @ d,
        md.square_1: np.trace(v1 @ v1), md.square_0: np.trace(v0 @ v0), md.cross: np.trace(v1 @ v0),
        md.spread_1: np.trace(v1), md.spread_0: np.trace(v0),
    }  # fmt: skip
    claimed = {
        name: float(numeric(formula, list(values))(*values.values()))
        for name, formula in md.CLAIMS[0].formulas.items()
    }
    chances = [law.given(1)] * right + [law.given(0)] * wrong
    mean, spread = mean_and_variance(chances, measured)
    assert mean == pytest.approx(d @ d, rel=1e-12)
    assert spread == pytest.approx(claimed["variance"], rel=1e-12)

    def plug_in(outcome: tuple[int, ...]) -> float:
        score = law.score_K_D[list(outcome)]
        gap = score[:right].mean(axis=0) - score[right:].mean(axis=0)
        return float(gap @ gap)

    biased, _ = mean_and_variance(chances, plug_in)
    assert biased - d @ d == pytest.approx(claimed["bias"], rel=1e-12)
    assert biased != pytest.approx(d @ d, rel=0.1)  # control


# -- claim 8.8: g_i . g -------------------------------------------------------------------------------


@pytest.mark.parametrize("sizes", [(2, 1), (2, 2), (3, 2)])
def test_what_a_prompt_does_for_the_objective(sizes: tuple[int, int]):
    first, second = feature_laws()
    x, y = first.contribution_K_D, second.contribution_K_D
    size, other = sizes
    sigma, rest = first.covariance, second.covariance / (4 * other)
    whole = (first.gradient + second.gradient) / 2
    policy, theta = feature_policy()  # the simulator's gradient of the mean success rate
    np.testing.assert_allclose(
        whole, policy.success_gradient(theta, np.arange(2), np.full(2, 0.5)), rtol=1e-12, atol=1e-15
    )
    aim = whole + first.gradient / 2
    og = objective_gain
    values = {
        m: 2, n: size, og.others_along: first.gradient @ rest @ first.gradient,
        og.mixed_along: aim @ sigma @ aim, og.others_cross: np.trace(sigma @ rest),
        og.own_square: np.trace(sigma @ sigma), og.own_spread: np.trace(sigma),
    }  # fmt: skip
    claimed = {
        name: float(numeric(formula, list(values))(*values.values()))
        for name, formula in og.CLAIMS[0].formulas.items()
    }

    def unbiased(outcome: tuple[int, ...]) -> float:
        mine, theirs = x[list(outcome[:size])], y[list(outcome[size:])]
        return float(mine.mean(axis=0) @ theirs.mean(axis=0) + distinct_mean(mine)) / 2

    def plug_in(outcome: tuple[int, ...]) -> float:
        mine, theirs = (v.mean(axis=0) for v in (x[list(outcome[:size])], y[list(outcome[size:])]))
        return float(mine @ (mine + theirs)) / 2

    chances = [first.pi_K] * size + [second.pi_K] * other
    target = first.gradient @ whole
    mean, spread = mean_and_variance(chances, unbiased)
    assert mean == pytest.approx(target, rel=1e-12)
    assert spread == pytest.approx(claimed["variance"], rel=1e-12)
    biased, _ = mean_and_variance(chances, plug_in)
    assert biased - target == pytest.approx(claimed["bias"], rel=1e-12)
    assert biased != pytest.approx(target, rel=0.05)  # control


# -- claim 8.9: coins ---------------------------------------------------------------------------------


def test_rollouts_that_tell_a_coin_from_a_prompt_that_teaches():
    formulas = coin_detection.CLAIMS[0].formulas
    answers, z = coin_detection.K, coin_detection.z
    table = numeric(formulas["table"], (answers, z))
    rollouts = numeric(formulas["rollouts"], (score_products.slope, score_products.spread_sq, z))
    error = numeric(formulas["error"], z)
    for size, count in ((2, 4), (4, 3)):
        policy = Tabular((np.arange(size) < size // 2)[None, :])
        flat = np.full(size, 1.0 / size)
        teaches = law_of(policy, np.zeros(size), 0, flat)
        coin_pi = np.repeat(flat / 2, 2)  # answer and verdict: half right, whatever the answer
        x = np.repeat(teaches.score_K_D, 2, axis=0) * np.tile([0.5, -0.5], size)[:, None]
        coin_sq = np.trace(np.linalg.matrix_power((x.T * coin_pi) @ x, 2))
        level = teaches.gradient @ teaches.gradient

        def statistic(outcome: tuple[int, ...], x: Array = x) -> float:
            return distinct_mean(x[list(outcome)])

        mean, spread = mean_and_variance([coin_pi] * count, statistic)
        assert mean == pytest.approx(0.0, abs=1e-16)
        errors = level / np.sqrt(spread)  # standard deviations of the coin up to |g|^2
        assert float(table(size, errors)) == pytest.approx(count, rel=1e-12)
        assert float(rollouts(np.sqrt(level), coin_sq, errors)) == pytest.approx(count, rel=1e-12)
        alarms, _ = mean_and_variance(
            [coin_pi] * count, lambda y, f=statistic, t=level: float(f(y) >= t * (1 - 1e-12))
        )
        assert alarms <= float(error(errors))
        sigma = teaches.covariance
        assert teaches.gradient @ sigma @ teaches.gradient == pytest.approx(0.0, abs=1e-17)
        less = float(numeric(formulas["less"], answers)(size))
        assert coin_sq - np.trace(sigma @ sigma) == pytest.approx(less, rel=1e-12)
        # control: success rates agree, rewards alone tell nothing
        assert teaches.p == pytest.approx(0.5, rel=1e-15)
        assert teaches.share() == pytest.approx(1.0, rel=1e-12)
