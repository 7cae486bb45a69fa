"""What of a page's text is a formula, and what a browser is given for it."""

from __future__ import annotations

from theory.mathml import mathml

DISPLAY = r"(?<!\\)\$\$(.+?)\$\$"
INLINE = r"(?<![\\$])\$(?=[^\s$])([^$]*[^\s$\\])\$(?![\d$])"


def html(tex: str, *, display: bool) -> str:
    """MathML, which needs neither a script nor a network."""
    kind = "display" if display else "formula"
    return f'<span class="{kind}">{mathml(" ".join(tex.split()), display=display)}</span>'
