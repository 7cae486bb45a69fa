"""Symbols that mean the same in every file. All are real; p, q, rho and mu lie in (0, 1)."""

from __future__ import annotations

import sympy as sp

p = sp.Symbol("p", positive=True)  # success rate of a prompt
q = sp.Symbol("q", positive=True)  # another success rate
share = sp.Symbol("rho", positive=True)  # of the first of two prompts in what is sampled
own_share = sp.Symbol("mu", positive=True)  # and in the dataset
n = sp.Symbol("n", integer=True, positive=True)  # rollouts of one prompt
m = sp.Symbol("m", integer=True, positive=True)  # prompts drawn for one update
budget = sp.Symbol("N", integer=True, positive=True)  # rollouts of one update
delta = sp.Symbol("delta", positive=True)  # radius of the trust region, in nats
temperature = sp.Symbol("tau", positive=True)  # of the distribution over prompts
alpha = sp.Symbol(
    "alpha", positive=True
)  # Beta count of successes, also the entropy's weight in (13)
beta = sp.Symbol("beta", positive=True)  # Beta count of failures

potential = sp.sqrt(p * (1 - p))  # Eq. (11) up to sqrt(2 delta)
