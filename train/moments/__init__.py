"""Scores of rollouts for a set of parameters, as inner products: what Eq. 21 is estimated from.

parameters      which linear layers, and whether the head shares its weight with the embedding
bundles         groups of a plan -> passes of bounded size, shared by the processes
capture         one pass of the policy -> inputs and errors of these layers, token by token
factors         a score as a sum of outer products; the head's errors in blocks of the vocabulary
gram            inner products of the scores within groups, exactly
sketch          the same from random projections of stated error, where a group is too large to keep
group_moments   inner products and verdicts -> the moments
"""
