"""What a setting is worth on a seed, compared with ``uniform`` on the same seed.

``final``
    Held-out success at the end minus that of the reference, at equal generated rollouts.
``rollouts``
    Rollouts that the reference needs to a level minus those that the setting needs, as a share of the
    budget. The level of a seed is its start plus 0.8 of the reference's mean gain on the trial seeds,
    fixed before any trial. A run that does not arrive counts as the budget and, on top, the share of the
    budget that is its share of the gain still lacking; so this ranks settings, and what is reported is
    :func:`cures.comparison.speed_up`, where such runs are censored.

Seeds are common to all settings: population, initial policy, held-out set, the random numbers behind a
plan's outcomes and the scheduler's.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from cures.checks import FloatArray
from cures.comparison import rollouts_to_target, target_gains
from sim.tuning.protocol import Study
from sim.tuning.runs import Laboratory
from sim.tuning.setting import Setting

FRACTION = 0.8


@dataclass(frozen=True, slots=True)
class Objective:
    """The reference's part of every difference.

    Attributes
    ----------
    study : Study
    laboratory : Laboratory
    gain : float
        Of the level, over a seed's start; 0 where ``objective`` needs none.
    """

    study: Study
    laboratory: Laboratory
    gain: float

    @classmethod
    def of(cls, study: Study, laboratory: Laboratory) -> Objective:
        """Run the reference on the trial seeds and fix the level.

        Raises
        ------
        ValueError
            If the objective is ``rollouts`` and the reference does not improve.
        """
        curves_S_E = laboratory.sound_curves(study.reference, study.search_indices)
        gain = 0.0
        if study.objective == "rollouts":
            gain = float(target_gains(curves_S_E[:, 0], curves_S_E[:, -1], (FRACTION,))[0])
        return cls(study, laboratory, gain)

    def value_S(self, setting: Setting, indices: range) -> FloatArray | None:
        """Per seed, larger is better; ``None`` if the setting diverged. Runs what is missing."""
        curve = self.laboratory.curves(setting, indices)
        if curve is None:
            return None
        reference = self.laboratory.sound_curves(self.study.reference, indices)
        if self.study.objective == "final":
            difference_S: FloatArray = curve[:, -1] - reference[:, -1]
            return difference_S
        level_S = reference[:, 0] + self.gain
        saved_S: FloatArray = self._needed(reference, level_S) - self._needed(curve, level_S)
        return saved_S / self.study.protocol.rollouts

    def _needed(self, curve_S_E: FloatArray, level_S: FloatArray) -> FloatArray:
        """Rollouts to the level, and beyond the budget what is lacking."""
        needed_S, is_censored_S = rollouts_to_target(self.study.protocol.grid_E, curve_S_E, level_S)
        lacking_S = np.maximum(level_S - curve_S_E[:, -1], 0.0) / self.gain
        return np.where(
            is_censored_S, needed_S + self.study.protocol.rollouts * lacking_S, needed_S
        )

    @property
    def label(self) -> str:
        """For an axis."""
        if self.study.objective == "final":
            return "held-out success minus uniform"
        return "rollouts saved against uniform (share of budget)"
