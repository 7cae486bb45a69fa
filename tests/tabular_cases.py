"""Of a table of answers, by definition: its Fisher matrix, and the divergence of Eq. (1)."""

from __future__ import annotations

import numpy as np
from scipy.special import log_softmax


def fisher_of(policy, theta_D, prompt):
    """Fisher matrix of one prompt in its own K logits: ``diag(pi) - pi pi^T`` (singular)."""
    pi = policy.probability(theta_D, np.array([prompt]))[0]
    return np.diag(pi) - np.outer(pi, pi)


def kl_of(policy, theta_D, other_D, prompt_B):
    """``KL(pi_theta || pi_other)`` of each prompt."""
    log_pi = log_softmax(policy.logits(theta_D, prompt_B), axis=1)
    log_other = log_softmax(policy.logits(other_D, prompt_B), axis=1)
    return (np.exp(log_pi) * (log_pi - log_other)).sum(axis=1)
