"""After the search: which setting, and is it better? On seeds that the search never saw.

The best of many noisy trials looks better than it is (the winner's curse). So the best few and the
defaults run again on ``select_seeds``, which choose one; that one, the defaults and the reference run on
``confirm_seeds``, which chose neither. Only the latter carry intervals.

The recommendation differs from the defaults only if the whole 95 % interval of (chosen - defaults) lies
above zero: of held-out success at equal generated rollouts, whatever the objective of the search. Which
of the two is recommended is all that the confirming seeds decide; the differences of both from the
reference are reported whatever they decide.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from cures.checks import FloatArray
from cures.comparison import (
    FRACTIONS,
    PairedDifference,
    harm_verdict,
    paired_difference,
    rollouts_to_target,
    speed_up,
    target_gains,
)
from sim.analysis import closed
from sim.settings import REFERENCE, is_told_true_rates
from sim.tuning.objective import Objective
from sim.tuning.protocol import Study
from sim.tuning.runs import Laboratory, Run
from sim.tuning.search import STREAM, Trial, best_first
from sim.tuning.setting import Setting


@dataclass(frozen=True, slots=True)
class Candidate:
    """A setting that was looked at again.

    Attributes
    ----------
    label : str
        ``trial 12`` or ``defaults``.
    setting : Setting
    search_S, select_S : ndarray of float64, or None
        Objective on the trial seeds and on the selecting ones; ``None``: training diverged there.
    """

    label: str
    setting: Setting
    search_S: FloatArray | None
    select_S: FloatArray | None

    def as_json(self) -> dict[str, Any]:
        """Means and single seeds."""
        plain = {"label": self.label, **self.setting.as_json()}
        for name in ("search", "select"):
            value_S = getattr(self, f"{name}_S")
            plain[name] = None if value_S is None else float(value_S.mean())
            plain[f"{name}_S"] = None if value_S is None else value_S.tolist()
        return plain


@dataclass(frozen=True, slots=True)
class Choice:
    """What the selecting seeds chose, and every setting that stood for election."""

    chosen: Candidate
    defaults: Candidate
    candidates: tuple[Candidate, ...]

    @property
    def is_default(self) -> bool:
        """Whether the defaults won."""
        return self.chosen.setting.key == self.defaults.setting.key


def choose(study: Study, objective: Objective, trials: Sequence[Trial]) -> Choice:
    """Look at the best trials and the defaults again; the best mean on the selecting seeds wins.

    Raises
    ------
    FloatingPointError
        If training diverged in every trial, or now with every candidate.
    """
    defaults, best = study.defaults, best_first(trials)[: study.top]
    if not best:
        remedy = "give a smaller --learning-rate or other ranges (--range)"
        raise FloatingPointError(f"tune: training diverged in every trial; {remedy}")
    named = {t.setting.key: (f"trial {t.number}", t.setting) for t in best}
    named[defaults.key] = ("defaults", defaults)
    runs = [Run(s, i) for _, s in named.values() for i in study.select_indices]
    objective.laboratory.run(runs)
    candidates = [
        Candidate(
            label,
            setting,
            objective.value_S(setting, study.search_indices),
            objective.value_S(setting, study.select_indices),
        )
        for label, setting in named.values()
    ]
    sound = [c for c in candidates if c.select_S is not None]
    if not sound:
        raise FloatingPointError("tune: every candidate diverged; give a smaller --learning-rate")
    chosen = max(sound, key=lambda c: _mean(c.select_S))
    by_key = {c.setting.key: c for c in candidates}
    return Choice(chosen, by_key[defaults.key], tuple(candidates))


def confirm(study: Study, objective: Objective, choice: Choice) -> dict[str, Any]:
    """Intervals on the confirming seeds, and what they allow to recommend.

    Returns
    -------
    dict
        ``recommended``: setting; ``is_default``; ``verdict``; ``minus_uniform``, ``minus_defaults``,
        ``minus_uniform_same_group_size`` (absent where it is the same comparison): paired differences
        of final held-out success of the *chosen* setting; ``defaults_minus_uniform``; ``speed_up`` per
        target.
    """
    laboratory, seeds = objective.laboratory, study.confirm_indices
    chosen, defaults = choice.chosen.setting, choice.defaults.setting
    same_size = Setting(REFERENCE, chosen.group_size, {})
    settings = {s.key: s for s in (study.reference, chosen, defaults, same_size)}
    laboratory.run(Run(s, i) for s in settings.values() for i in seeds)
    final = {key: laboratory.sound_curves(s, seeds)[:, -1] for key, s in settings.items()}
    reference_S = final[study.reference.key]
    minus_uniform = paired_difference(final[chosen.key], reference_S)
    minus_defaults = paired_difference(final[chosen.key], final[defaults.key])
    is_better = not choice.is_default and minus_defaults.low > 0.0
    recommended = chosen if is_better else defaults
    against_uniform = paired_difference(final[recommended.key], reference_S)
    report: dict[str, Any] = {
        "chosen": choice.chosen.label,
        "chosen_setting": chosen.as_json(),
        "recommended": recommended.as_json(),
        "is_default": not is_better,
        "verdict": verdict(choice.is_default, minus_defaults),
        "told_true_rates": is_told_true_rates(study.scheduler),
        "minus_uniform": asdict(minus_uniform),
        "minus_defaults": asdict(minus_defaults),
        "defaults_minus_uniform": asdict(paired_difference(final[defaults.key], reference_S)),
        "recommended_minus_uniform": asdict(against_uniform),
        "harm": harm_verdict(against_uniform, study.protocol.margin),
        "speed_up": _speed_ups(study, laboratory, recommended),
    }
    if same_size.key != study.reference.key:
        same = paired_difference(final[chosen.key], final[same_size.key])
        report["minus_uniform_same_group_size"] = asdict(same)
    return report


def verdict(is_default: bool, minus_defaults: PairedDifference) -> str:
    """One sentence about the defaults.

    Examples
    --------
    >>> verdict(False, PairedDifference(0.01, 0.002, 0.018, 8, 0, 0, 0.01, 8))
    'better than the defaults'
    >>> verdict(False, PairedDifference(0.01, -0.002, 0.022, 6, 0, 2, 0.3, 8))
    'nothing is shown to be better than the defaults: the interval of the best includes zero'
    """
    if is_default:
        return "nothing is better than the defaults: they won on the selecting seeds"
    if minus_defaults.low > 0.0:
        return "better than the defaults"
    if minus_defaults.high < 0.0:
        return "nothing is better than the defaults: the best of the search is worse on fresh seeds"
    return "nothing is shown to be better than the defaults: the interval of the best includes zero"


def _speed_ups(study: Study, laboratory: Laboratory, setting: Setting) -> list[dict[str, Any]]:
    """Rollouts to the levels that the reference's trial seeds fix; empty if it does not improve."""
    trial = laboratory.sound_curves(study.reference, study.search_indices)
    if not trial[:, -1].mean() > trial[:, 0].mean():
        return []
    grid_E = study.protocol.grid_E
    curve = laboratory.sound_curves(setting, study.confirm_indices)
    reference = laboratory.sound_curves(study.reference, study.confirm_indices)
    rows = []
    for target, gain in enumerate(target_gains(trial[:, 0], trial[:, -1])):
        level_S = reference[:, 0] + gain
        key = (STREAM, 0, target)
        seed = np.random.SeedSequence(study.protocol.root_seed, spawn_key=key)
        found = speed_up(
            *rollouts_to_target(grid_E, reference, level_S),
            *rollouts_to_target(grid_E, curve, level_S),
            generator=np.random.default_rng(seed),
        )
        rows.append({"fraction": FRACTIONS[target], **closed(asdict(found))})
    return rows


def _mean(value_S: FloatArray | None) -> float:
    return -np.inf if value_S is None else float(value_S.mean())
