"""Does the simulator do what the theory says? Measurements against the formulas that are proved.

Expected values are those of ``theory``'s claims: the very expressions that its report prints and its
proofs are about, made numeric (:mod:`sim.validation.expected`). Measured values come from the
simulator's policies and from the functions and schedulers of ``cures``. A family of checks is one
module with a list ``CHECKS`` and a function ``draw``; a check is a measurement, an expectation, a band
and a wrong formula that the band must reject (:mod:`sim.validation.check`).

This package alone in ``sim`` imports ``theory`` and the pieces that schedulers are made of: it tests
them and hosts nothing.
"""

from __future__ import annotations

# module of each family -> its heading, in the order of the theory's chapters
FAMILIES = {
    "bound": "One prompt: improvement of natural-gradient steps against the bound",
    "dataset": "Many prompts: the bound on a dataset",
    "sampling": "Which prompts: frequencies of real draws against Eq. (14)",
    "gradient_std": "Spread of one rollout's gradient against Eq. (21)",
    "estimator_variance": "Variance of the whole estimate, Eq. (16), under four quotas",
}
