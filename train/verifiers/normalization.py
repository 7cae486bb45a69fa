"""What does not count when two answers are compared as text."""

from __future__ import annotations

import re
import unicodedata

INVISIBLE = ("Cf", "Cc")  # format characters such as right-to-left marks; control characters


def visible(text: str) -> str:
    """Without characters that nobody sees; white space other than line feeds becomes spaces.

    Examples
    --------
    >>> visible("\\u200f4\\x002\\t")
    '42 '
    """
    return "".join(
        (sign if sign == "\n" else " ")
        if sign.isspace()
        else ("" if unicodedata.category(sign) in INVISIBLE else sign)
        for sign in text
    )


def normalized(text: str) -> str:
    """The form that is compared: visible characters in Unicode form NFC, single spaces, lower case,
    without dollar signs around it and a full stop at its end.

    Examples
    --------
    >>> normalized("  $X  = 1$. "), normalized("Tuesday"), normalized(" . ")
    ('x = 1', 'tuesday', '')
    """
    text = re.sub(r"\s+", " ", unicodedata.normalize("NFC", visible(text))).strip()
    text = text.removesuffix(".").strip()
    while len(text) > 1 and text[0] == text[-1] == "$":
        text = text[1:-1].strip()
    return text.removesuffix(".").strip().casefold()
