"""The arrays behind every figure, from one small fixed set of runs, and what the drawings look like.

Regenerate with ``OMP_NUM_THREADS=1 python -m tests.golden.test_figures`` (more threads change last bits)
and say why in CHANGELOG.md. A golden file that is missing is an error: nothing records itself.
"""

from __future__ import annotations

import fcntl
import os
import re
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import matplotlib
import numpy as np
import pytest
from matplotlib.text import Text

from cures.storage import State, load_state, save_state
from figures import (
    ablation,
    adaptive_pieces,
    against_gvm,
    boundary,
    estimated_rates,
    gradient_norms,
    learning_rates,
    measured_table,
    method_shapes,
    pilots_and_group_size,
    quota_by_iteration,
    reaching_the_best,
    steps_or_rollouts,
    subset_cuts,
    update_budgets,
)
from figures.making import produce
from figures.paper_runs import Size
from figures.style import COLUMN, PAGE, RC, save_both

GOLDEN = Path(__file__).parent / "figures"
SIZE = Size(60, 10, 4, 1200, 2, 1, 1, 1)
AGAINST = ("against-skills-grpo", "against-skills-rpp")
CASES: dict[str, tuple[Any, tuple[str, ...]]] = {
    "method_shapes": (method_shapes, ()),
    "against_gvm": (against_gvm, AGAINST),
    "estimated_rates": (estimated_rates, ("trace-skills",)),
    "quota_by_iteration": (quota_by_iteration, ("trace-skills",)),
    "pilots_and_group_size": (pilots_and_group_size, ("grid-skills-n8", "grid-skills-n16")),
    "reaching_the_best": (reaching_the_best, AGAINST),
    "gradient_norms": (gradient_norms, AGAINST[:1]),
    "ablation": (ablation, ("ablation-skills-adam",)),
    "steps_or_rollouts": (steps_or_rollouts, ("budget-x1",)),
    "update_budgets": (update_budgets, ("budget-x1", "budget-x2")),
    "subset_cuts": (subset_cuts, ("subsets", "cut-seed0")),
    "measured_table": (measured_table, AGAINST),
    "adaptive_pieces": (adaptive_pieces, ("pieces-coins",)),
    "boundary": (boundary, ("boundary-sgd-default", "boundary-sgd-dead-2")),
    "learning_rates": (learning_rates, ("rates-dead-sgd-0", "rates-dead-sgd-4")),
}
DRAWN = [name for name, (module, _) in CASES.items() if hasattr(module, "draw")]
# Runs are exact with one BLAS thread on one machine; elsewhere last bits differ, sampled answers do not.
RTOL, ATOL = 1e-6, 1e-9


def make_runs(root: Path) -> None:
    """Every run that a case needs; what is there is left alone."""
    produce(root, SIZE, names=sorted({run for _, runs in CASES.values() for run in runs}))


@pytest.fixture(scope="session")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Made once, also with several workers of pytest-xdist."""
    base = tmp_path_factory.getbasetemp()
    shared = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    with open(shared / "figure_runs.lock", "wb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        make_runs(shared / "figure_runs")
    return shared / "figure_runs"


def arrays_of(name: str, root: Path) -> dict[str, Any]:
    module, runs = CASES[name]
    return dict(module.compute([root / run for run in runs]))


def flatten(tree: dict[str, Any], prefix: str = "") -> State:
    """Nested arrays as one flat mapping, as a file holds them."""
    flat: State = {}
    for key, value in tree.items():
        if isinstance(value, dict):
            flat.update(flatten(value, f"{prefix}{key}/"))
        else:
            flat[f"{prefix}{key}"] = np.asarray(value)
    return flat


def differences(found: State, expected: State) -> list[str]:
    """Names of the entries that are not what they were."""
    wrong = sorted(found.keys() ^ expected.keys())
    for key in found.keys() & expected.keys():
        new, old = np.asarray(found[key]), np.asarray(expected[key])
        if new.shape != old.shape or new.dtype.kind != old.dtype.kind:
            wrong.append(key)
        elif new.dtype.kind in "fi":
            if not np.allclose(new, old, rtol=RTOL, atol=ATOL, equal_nan=True):
                wrong.append(key)
        elif not np.array_equal(new, old):
            wrong.append(key)
    return wrong


@pytest.mark.parametrize("name", CASES)
def test_arrays_are_what_they_were(name, root):
    found = flatten(arrays_of(name, root))
    expected = load_state(GOLDEN / f"{name}.npz")
    assert differences(found, expected) == []
    # negative control: one value off by a thousandth is seen
    numbers = {k: v for k, v in sorted(found.items()) if v.dtype.kind == "f" and v.size}
    key = max(numbers, key=lambda k: np.abs(np.nan_to_num(numbers[k])).max())
    assert differences(found | {key: found[key] * 1.001}, expected) == [key]


def test_a_missing_golden_is_an_error():
    with pytest.raises(FileNotFoundError):
        load_state(GOLDEN / "no_such_figure.npz")
    assert {path.stem for path in GOLDEN.glob("*.npz")} == set(CASES)


@pytest.mark.parametrize("name", DRAWN)
def test_figures_are_legible_at_their_printed_size(name, root, tmp_path):
    module, _ = CASES[name]
    arrays = arrays_of(name, root)
    figure = module.draw(arrays)
    png, pdf = save_both(figure, tmp_path, name)
    assert png.stat().st_size > 5_000
    assert pdf.read_bytes().startswith(b"%PDF")
    assert figure.get_size_inches()[0] in (COLUMN, PAGE)
    assert illegible(figure) == []
    for text in (module.caption(arrays), module.finding(arrays)):
        assert not re.search(r"[{}]|\bnan\b", text), text  # every number was filled in
        assert text.rstrip().endswith(".")


def illegible(figure: Any) -> list[str]:
    """Texts below 6 points, out of the figure, or tick labels that touch each other."""
    with matplotlib.rc_context(RC):
        figure.canvas.draw()  # ticks are made anew for every file
    renderer = figure.canvas.get_renderer()
    box = figure.get_window_extent()
    ticks, drawn, found = set(), [], []
    for axes in figure.axes:
        for axis in (axes.xaxis, axes.yaxis):
            low, high = sorted(axis.get_view_interval())
            ticks |= {id(label) for t in _all_ticks(axis) for label in (t.label1, t.label2)}
            now = [t for t in axis.get_major_ticks() if low <= t.get_loc() <= high]
            labels = [t.label1 for t in now if _is_shown(t.label1)]
            drawn += labels
            if axis is axes.xaxis:
                extents = [label.get_window_extent(renderer) for label in labels]
                for label, left, right in zip(labels, extents, extents[1:], strict=False):
                    if left.x1 > right.x0:
                        found.append(f"touching: {label.get_text()}")
    texts = drawn + [text for text in figure.findobj(_is_shown) if id(text) not in ticks]
    for text in texts:
        extent = text.get_window_extent(renderer)
        if text.get_fontsize() < 6.0:
            found.append(f"small: {text.get_text()}")
        if not (box.x0 - 1 <= extent.x0 and extent.x1 <= box.x1 + 1):
            found.append(f"cut off: {text.get_text()}")
    return found


def _all_ticks(axis: Any) -> list[Any]:
    """Also those that matplotlib keeps from an earlier drawing, or made outside of the view."""
    return [*axis.majorTicks, *axis.minorTicks]


def _is_shown(artist: Any) -> bool:
    return isinstance(artist, Text) and artist.get_visible() and bool(artist.get_text().strip())


def test_the_legibility_check_sees_what_it_should(root):
    figure = steps_or_rollouts.draw(arrays_of("steps_or_rollouts", root))
    axes = figure.axes[0]
    axes.set_xticks([1.0, 1.1], ["one label", "another label"])
    axes.text(0.5, 0.5, "tiny", fontsize=4, transform=axes.transAxes)
    figure.text(0.95, 0.01, "longer than what is left")
    assert sorted(line.split(":")[0] for line in illegible(figure)) == [
        "cut off",
        "small",
        "touching",
    ]


if __name__ == "__main__":
    GOLDEN.mkdir(exist_ok=True)
    with TemporaryDirectory() as folder:
        make_runs(Path(folder))
        for case in CASES:
            save_state(GOLDEN / f"{case}.npz", flatten(arrays_of(case, Path(folder))))
            print(GOLDEN / f"{case}.npz")
