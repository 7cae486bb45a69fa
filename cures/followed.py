"""Which prompts are followed where a large pool's own numbers are estimated: every so many, by id.

A number that all prompts share, as the share of steady ones or the length of a memory, is known well
enough from a few thousand of them, and an estimate from everyone would cost the pool at every update.
"""

from __future__ import annotations

MOST = 4096


def stride(num_prompts: int) -> int:
    """Distance between the ids that are followed, a power of two: at most :data:`MOST` prompts are.

    In a pool that grows it doubles from time to time, so those that stay were followed before.

    Examples
    --------
    >>> stride(4096), stride(4097), stride(10_000_000)
    (1, 2, 4096)
    """
    return 1 << max(0, (-(-num_prompts // MOST) - 1).bit_length())
