"""Names of the optional terms of the loss; apart from it, because a configuration needs no torch."""

KL_KINDS = ("none", "k1", "k3")
MISMATCH_KINDS = ("off", "truncated")
