"""All claims, in reading order: from one prompt to many, from gradients to counts, then the rivals."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module

from theory.claims import Claim


@dataclass(frozen=True, slots=True)
class Chapter:
    """A concept: the number before the dot, a title, the modules of its claims, and what it finds."""

    number: int
    title: str
    modules: tuple[str, ...]
    summary: str


CHAPTERS = (
    Chapter(
        1,
        "One prompt: the bound",
        ("bound", "cramer_rao", "exact_problem", "finite_radius"),
        r"""(11) holds to leading order in $\delta$. At a given small radius it fails for every $p <
\tfrac12$; 1.8 has a bound that holds at every radius. A table reaches the ceiling $p(1-p)$ whatever
answers are right (1.3); a restricted policy stays below it, by as much as its scores cannot express
of $r - p$ (1.4).""",
    ),
    Chapter(
        2,
        "Many prompts: the bound on a dataset",
        (
            "average_bound",
            "average_radius",
            "average_sampling",
            "own_objective",
            "importance_weights",
        ),
        r"""Under the average constraint of (1) the bound is
$\sqrt{2\delta\,\mathbb{E}_\rho[p(1-p)]}$, which is larger than (12) unless all prompts have the
same $p(1-p)$; (12) is right if every prompt has a trust region of its own. The corrected bound asks
for a softmax of $p(1-p)$, not of its root (2.5). Both bounds are about what is sampled. In a fixed
metric a step with exact gradients gains the dataset most if the dataset's own distribution is
sampled (2.7); what sampling can win is less noise (2.8). Weights of one over the chance keep the
dataset's objective whatever is sampled (2.9).""",
    ),
    Chapter(
        3,
        "Which prompts: sampling",
        ("sampling", "temperature", "effective_size"),
        r"""(14) is the only optimum of (13). Its shape is a matter of the temperature, of which the
paper gives no value: potentials lie between $0$ and $\tfrac12$, so that above $\tau \approx 0.28$
at least half of any pool counts, and with the $\tau \ge 100$ of the released code sampling is
uniform (3.6).""",
    ),
    Chapter(
        4,
        "How many rollouts: the quota",
        ("estimate_variance", "quota", "integer_quota", "wrong_sigma", "duplicates"),
        r"""(20) minimises the variance given the drawn prompts, for quotas that are fixed
beforehand and the true advantage. Against equal quotas it gains the squared coefficient of
variation of $\sigma$: eight percent for uniformly spread success rates, which an error of 28
percent in $\sigma$ uses up (4.6). Whole rollouts are best given one after another (4.5).""",
    ),
    Chapter(
        5,
        "Variance of one rollout's gradient",
        ("gradient_std", "gradient_shape", "two_answers", "few_answers"),
        r"""(21) is right, and the term that it subtracts is $|\nabla p|^2$ (5.2). The bell of the
paper's Figure 4 is not universal: with two answers the variance vanishes at $p = \tfrac12$, and
what makes a bell of it is noise from tokens that do not matter (5.6). The released code computes
another variance (5.8).""",
    ),
    Chapter(
        6,
        "Finite groups of rollouts",
        (
            "finite_groups",
            "group_variance",
            "group_normalisation",
            "group_scale",
            "group_worth",
            "finite_quota",
            "signal_quota",
        ),
        r"""With the group's own mean or standard deviation in the advantage, (21) is no longer the
variance. RLOO spends one rollout per prompt on the baseline, and only the rest should follow (20)
(6.9). For Dr.GRPO and GRPO a small group has little variance because it has little signal, so that least
variance is the wrong goal (6.10); what should be maximised instead is in 6.11 and 6.12.""",
    ),
    Chapter(
        7,
        "What is known of a success rate: the posterior",
        (
            "posterior",
            "beta_moments",
            "plug_in",
            "pilots",
            "forgetting",
            "wrong_side",
            "response_odds",
        ),
        r"""The Beta update is exact for a policy that stands still. Plugging its mean into the
potential is biased; the posterior expectation of the potential is not, and has a closed form (7.3).
Four pilots say little: with uniformly spread success rates two prompts in five look dead (7.6). For
a policy that moves, 7.8 and 7.9 say what forgetting costs and how fast to forget. That a rate does not
move can be seen from rewards alone, with odds that seldom mislead (7.11).""",
    ),
    Chapter(
        8,
        "What a prompt can teach: signal",
        (
            "signal",
            "squared_gradient",
            "mean_distance",
            "objective_gain",
            "coin_detection",
            "explained_share",
        ),
        r"""The potential is a bound on what a prompt can teach, not what it teaches: a fair coin in
the place of the verdict has the largest potential and no signal (8.1). What a prompt teaches,
$|\nabla p|^2$, and what it does for the dataset, $g_i \cdot g$, can both be estimated without bias
from products of *different* rollouts (8.5, 8.8). So can what the reward explains of the scores:
nothing for a coin, whatever groups are measured (8.10).""",
    ),
    Chapter(
        9,
        "The rivals in the same language",
        ("gvm", "speed", "screened_groups", "refill"),
        r"""GVM's quota is (20) for the gradient of $\log p$ in the place of $p$. SPEED and DAPO
train on mixed groups only, which favours prompts as (14) does with the potential $\log P(n)$ at
temperature 1. Screening by pilots pays if success rates are spread out or many prompts are dead,
and never if all are alike (9.8).""",
    ),
)


def all_claims() -> list[Claim]:
    """Every claim, by number.

    Raises
    ------
    ValueError
        If a number is taken twice or belongs to another chapter.
    """
    claims = [
        (chapter.number, claim)
        for chapter in CHAPTERS
        for name in chapter.modules
        for claim in import_module(f"theory.{name}").CLAIMS
    ]
    numbers = [claim.number for _, claim in claims]
    if len(set(numbers)) != len(numbers):
        raise ValueError(f"all_claims: numbers must be unique, got {numbers}")
    for chapter_number, claim in claims:
        if number_key(claim.number)[0] != chapter_number:
            raise ValueError(f"all_claims: {claim.number} stands in chapter {chapter_number}")
    return sorted((claim for _, claim in claims), key=lambda claim: number_key(claim.number))


def number_key(number: str) -> tuple[int, ...]:
    """``"4.10"`` as (4, 10), which sorts after (4, 9)."""
    return tuple(int(part) for part in number.split("."))


def chapter_of(claim: Claim) -> Chapter:
    """Where a claim stands."""
    return next(c for c in CHAPTERS if c.number == number_key(claim.number)[0])
