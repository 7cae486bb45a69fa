"""A simulation at a glance, as an inline SVG."""

from __future__ import annotations

from theory.claims import BAND, Estimate

WIDTH, HEIGHT, EDGE = 160.0, 18.0, 6.0
LEAST_BAND = 3.0  # pixels: a precise mean must not vanish


def picture(row: Estimate) -> str:
    """Mean with its band of four standard errors, the formula (circle) and the control (cross).

    One line of SVG on one axis, in the colour of the text. Its scale is its own: leftmost to rightmost
    mark.
    """
    band = BAND * row.standard_error
    marks = (row.mean - band, row.mean + band, row.expected, row.control)
    low, high = min(marks), max(marks)
    unit = (WIDTH - 2.0 * EDGE) / (high - low) if high > low else 0.0
    middle = HEIGHT / 2.0

    def x(value: float) -> float:
        return EDGE + unit * (value - low)

    half = max(band * unit, LEAST_BAND / 2.0)
    cross = x(row.control)
    said = f"mean {row.mean:.4g}, formula {row.expected:.4g}, control {row.control:.4g}"
    return (
        f'<svg class="picture" viewBox="0 0 {WIDTH:g} {HEIGHT:g}" role="img" aria-label="{said}">'
        f'<path class="axis" d="M0 {middle:g}H{WIDTH:g}"/>'
        f'<rect class="band" x="{x(row.mean) - half:.1f}" y="2" width="{2.0 * half:.1f}" '
        f'height="{HEIGHT - 4.0:g}"/>'
        f'<path class="mean" d="M{x(row.mean):.1f} 2V{HEIGHT - 2.0:g}"/>'
        f'<circle class="formula" cx="{x(row.expected):.1f}" cy="{middle:g}" r="4"/>'
        f'<path class="control" d="M{cross - 4.0:.1f} {middle - 4.0:g}l8 8m0 -8l-8 8"/></svg>'
    )
