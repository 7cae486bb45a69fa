"""Section ``[moments]``: how gradient moments for Eq. 21 are measured."""

from __future__ import annotations

from dataclasses import dataclass

from train.moments.group_moments import DIFFERENCES
from train.section import MAX_COUNT, Section, option


@dataclass(frozen=True, kw_only=True)
class MomentsConfig(Section):
    """Scores of rollouts (train/gradient_moments.py), if [rollout] gradient_moments is true."""

    TITLE = "moments"

    parameters: str = option(
        "what scores are derivatives by: head; last-block, its linear layers; linear, every linear "
        "layer; or names of linear layers, of their .weight or their .bias, separated by commas",
        "text",
        "head",
    )
    difference: str = option(
        "squared difference of the mean scores of right and wrong rollouts: without bias, or that "
        "of the sample means, which is too large on average",
        "choice",
        "unbiased",
        choices=DIFFERENCES,
    )
    exact_entries: int = option(
        "largest number of activations and errors kept of one group for exact products, and of "
        "hidden states kept of one plan, 4 bytes each; a larger group is sketched, 0: all are; a "
        "larger plan gets a pass of its own",
        "int",
        2**28,
        low=0,
        high=MAX_COUNT,
    )
    sketch_size: int = option(
        "side k of a sketch; the relative error of a squared norm is at most about 2 / sqrt(k)",
        "int",
        256,
        low=1,
        high=2**14,
    )
