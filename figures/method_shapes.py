"""Whom each method prefers and how many rollouts it gives, as functions of the success rate.

The closed forms are those that ``theory/shapes.py`` collects and ``python -m theory check`` proves.
They are imported when they are needed: sympy is slow to start and no other figure wants it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from cures.checks import FloatArray, fail
from figures.style import letters, light_grid, line, method_name, page_figure, shared_legend, styled
from sim.picture import arm_styles

SHOWN = ("cures", "speed", "gvm")
CAPTION = """\
How often a prompt is trained on (a) and how many rollouts it gets (b), against its success rate p,
each relative to that method's favourite p. CurES: softmax of sqrt(p(1-p)) at temperature
{temperature} (the paper does not state its own) and quota sqrt(p(1-p)); dashed: the quota by Eq.
21 where a prompt has only two possible answers. SPEED: the chance that four screening rollouts are
mixed, and 4 + 20 rollouts if so. GVM: uniform sampling, and a quota that falls with p. Closed
forms, no run."""
STORY = """\
The paper speaks of bell-shaped quotas. That is one case: how sigma depends on p is a property of
the scores, and with two answers it is zero at p = 1/2, where the bell has its top."""


def compute(folders: list[Path]) -> dict[str, Any]:
    """Curves on 201 success rates in (0, 1); ``folders`` must be empty: nothing is read.

    Returns
    -------
    dict
        ``temperature`` of Eq. 14, ``success_rate_P`` and, under ``selection`` and ``quota``, a
        curve per method.
    """
    from theory.shapes import TEMPERATURE, quota_shapes, selection_shapes

    if folders:
        fail("method_shapes", "folders", "none: nothing is read", [str(f) for f in folders])
    rate_P = np.linspace(0.0, 1.0, 203)[1:-1]
    selection, quota = selection_shapes(), quota_shapes()
    return {
        "temperature": float(TEMPERATURE),
        "success_rate_P": rate_P,
        # GVM samples like uniform
        "selection": {
            name: _on(rate_P, selection["uniform" if name == "gvm" else name]) for name in SHOWN
        },
        "quota": {name: _on(rate_P, quota[name]) for name in (*SHOWN, "cures, two answers")},
    }


def _on(rate_P: FloatArray, shape: Any) -> FloatArray:
    import sympy as sp

    from theory.symbols import p

    values = np.asarray(sp.lambdify(p, shape, "numpy")(rate_P), dtype=np.float64)
    return np.broadcast_to(values, rate_P.shape).copy()


@styled
def draw(arrays: dict[str, Any]) -> Figure:
    """Two panels over one axis."""
    figure = page_figure(2.3)
    panels = figure.subplots(1, 2, sharey=True)
    styles = arm_styles([*SHOWN, "cures@two-answers"])
    for axes, which in zip(panels, ("selection", "quota"), strict=True):
        for position, (name, curve_P) in enumerate(arrays[which].items()):
            two = name not in SHOWN
            look = line(styles["cures@two-answers" if two else name])
            label = "CurES, two answers" if two else method_name(name)
            every = (9 * position, 40)
            axes.plot(arrays["success_rate_P"], curve_P, label=label, markevery=every, **look)
        axes.set_xlabel("success rate p")
        axes.set_xlim(0, 1)
        axes.set_ylim(0, 1.05)
        light_grid(axes)
    panels[0].set_ylabel("relative to the largest")
    letters(panels, ("sampling of prompts", "rollouts per visited prompt"))
    shared_legend(figure, panels[1])
    return figure


def caption(arrays: dict[str, Any]) -> str:
    """What is shown."""
    return CAPTION.format(temperature=arrays["temperature"])


def finding(arrays: dict[str, Any]) -> str:
    """Where the curves have their top, in numbers."""
    rate_P, quota = arrays["success_rate_P"], arrays["quota"]
    two = quota["cures, two answers"]
    top = {name: float(rate_P[np.argmax(curve)]) for name, curve in quota.items()}
    return (
        f"Quotas are largest at p = {top['cures']:.2f} (CurES), {top['speed']:.2f} (SPEED) and "
        f"{top['gvm']:.2f} (GVM); with two answers CurES's is largest at "
        f"{top['cures, two answers']:.2f} and its mirror image, and {two[rate_P.size // 2]:.2f} at "
        f"p = 0.5. {STORY}"
    )
