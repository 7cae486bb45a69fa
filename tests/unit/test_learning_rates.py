"""A curriculum or a larger learning rate: rates chosen on some seeds, compared on others, by hand."""

from __future__ import annotations

import json

import numpy as np
import pytest

from cures.storage import save_state
from figures import learning_rates, paper_runs

SEEDS = 9  # three choose, six are compared


def folder_of(root, number, rate, ends, **config):
    """A finished comparison; ``ends`` maps arms to held-out success at the end, one per seed."""
    folder = root / f"rates-skills-sgd-{number}"
    folder.mkdir(parents=True)
    settings = {
        "arms": list(ends), "options": {}, "population": "skills", "estimator": "grpo",
        "optimiser": "sgd", "seeds": SEEDS, "rollouts": 1000, "batch_size": 4, "group_size": 8,
        "learning_rate": rate, **config,
    }  # fmt: skip
    (folder / "config.json").write_text(json.dumps(settings))
    (folder / "comparison.json").write_text(json.dumps({"start": 0.2, "arms": {}}))
    for arm, end_S in ends.items():
        for seed, end in enumerate(end_S):
            (folder / "arms" / f"{arm}-{seed}").mkdir(parents=True)
            curve = {"start": 0.2, "grid_E": [0.0, 1000.0], "held_out_E": [0.2, end]}
            curve = {key: np.array(value) for key, value in curve.items()}
            save_state(folder / "arms" / f"{arm}-{seed}" / "curve.npz", curve)
    return folder


def seeds(chosen, compared):
    """The same value on every choosing seed, and on every compared one."""
    return [chosen] * 3 + [compared] * 6


@pytest.fixture
def folders(tmp_path):
    """Uniform is best at rate 2 on the choosing seeds, ``cures`` at rate 1; on the others it differs."""
    ends = {
        1.0: {"uniform": seeds(0.4, 0.3), "cures": seeds(0.6, 0.5), "oracle": seeds(0.5, 0.6)},
        2.0: {"uniform": seeds(0.5, 0.4), "cures": seeds(0.5, 0.7), "oracle": seeds(0.6, 0.7)},
        4.0: {"uniform": seeds(0.3, 0.9), "cures": seeds(0.1, 0.8), "oracle": seeds(0.7, 0.8)},
    }
    made = [folder_of(tmp_path, k, rate, ends[rate]) for k, rate in enumerate(ends)]
    return made[::-1]  # their order does not matter


def test_rates_are_chosen_and_compared_on_different_seeds(folders):
    arrays = learning_rates.compute(folders)
    assert (arrays["chosen"], arrays["seeds"]) == (3, 6)
    panel = arrays["skills/sgd"]
    assert panel["rate_K"].tolist() == [1.0, 2.0, 4.0]
    assert [panel[arm]["best"] for arm in ("uniform", "cures", "oracle")] == [1, 0, 2]
    assert np.allclose(panel["uniform"]["held_out_K"], [0.3, 0.4, 0.9])  # of the compared seeds
    # the lowest rate, 1; uniform's best, 2; each at its own: cures 1, oracle 4, uniform 2
    found = {arm: [panel[arm][at][0] for at in learning_rates.AT] for arm in ("cures", "oracle")}
    assert np.allclose(found["cures"], [0.5 - 0.3, 0.7 - 0.4, 0.5 - 0.4])
    assert np.allclose(found["oracle"], [0.6 - 0.3, 0.7 - 0.4, 0.8 - 0.4])


def test_the_finding_counts_and_marks_the_edge(folders):
    arrays = learning_rates.compute(folders)
    text = learning_rates.finding(arrays)
    assert "CurES: ahead of uniform (interval above 0) in 1, 1 and 1 of 1" in text
    assert "+0.200 [+0.200, +0.200], +0.300" in text
    assert "(best rates 2 for uniform, 1* for it)" in text
    assert text.endswith("*: the edge of what was tried; beyond it may be better.")
    assert "6 paired seeds" in " ".join(learning_rates.caption(arrays).split())
    assert "chosen on 3 other seeds" in " ".join(learning_rates.caption(arrays).split())


def test_two_folders_of_one_rate_are_refused(tmp_path):
    ends = {"uniform": seeds(0.4, 0.3), "cures": seeds(0.6, 0.5)}
    pair = [folder_of(tmp_path, number, 2.0, ends) for number in (0, 1)]
    with pytest.raises(ValueError, match=r"of one rate each for skills/sgd, got \[2.0, 2.0\]"):
        learning_rates.compute(pair)
    with pytest.raises(ValueError, match="learning_rates: folders must be at least one"):
        learning_rates.compute([])


def test_rates_are_two_apart_and_a_third_of_the_seeds_chooses():
    known = paper_runs.comparisons(paper_runs.FULL)
    for pool in paper_runs.RATE_POOLS:
        for optimiser, lowest in paper_runs.LOWEST_RATE.items():
            names = [name for name in known if name.startswith(f"rates-{pool}-{optimiser}-")]
            settings = [known[name]() for name in names]
            rates = [s.learning_rate for s in settings]
            assert rates == [lowest * factor for factor in (1, 2, 4, 8, 16, 32, 64, 128)]
            assert {s.seeds for s in settings} == {12}  # 4 choose, 8 are compared
            assert {s.population for s in settings} == {pool}
