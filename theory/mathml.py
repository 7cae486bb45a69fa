"""LaTeX to MathML, with the spaces that TeX would set."""

from __future__ import annotations

import html
from xml.etree.ElementTree import Element, tostring

from latex2mathml.converter import convert_to_element

THIN = "0.167em"
_OPENING, _CLOSING = "([{|‖∥", ")]}|‖∥"
_TALL = frozenset(("mfrac", "msqrt", "mroot", "munder", "munderover", "mtable"))
_NO_SPACE = frozenset("/!|‖∥∇()[]{}")


def mathml(tex: str, *, display: bool = False) -> str:
    """The formula as one ``<math>`` element."""
    root = convert_to_element(tex, display="block" if display else "inline")
    _tidy(root)
    return tostring(root, encoding="unicode")


def _tidy(parent: Element) -> None:
    for child in parent:
        text = child.text = html.unescape(child.text or "").strip()  # it holds entities
        if child.tag == "mo" and len(text) > 1 and text.isalpha():
            child.tag = "mi"  # \operatorname
            child.attrib.clear()
        elif child.tag == "mo" and text in _NO_SPACE:
            child.set("lspace", "0")
            child.set("rspace", "0")
        elif child.tag == "mi" and "Α" <= text <= "Ω":
            child.set("mathvariant", "normal")  # capital Greek stands upright
        elif text == "~":
            child.tag, child.text = "mo", "∼"
        elif child.tag == "msub" and (child[0].text or "").strip() == "lim":
            child.tag = "munder"
        _tidy(child)
    if not _is_tall(parent):
        for child in parent:
            if child.get("fence") == "true":
                child.set("stretchy", "false")  # fonts set stretched brackets further apart
    if parent.tag in ("mrow", "math", "mtd", "mstyle", "msqrt"):
        _space_functions(parent)


def _is_tall(row: Element) -> bool:
    return any(element.tag in _TALL for element in row.iter())


def _space_functions(row: Element) -> None:
    """A thin space around log and the like, except at a bracket or an operator."""
    children = list(row)
    for i, child in enumerate(children):
        if not _is_function(child):
            continue
        position = list(row).index(child)
        if i + 1 < len(children) and not _starts_with_operator(children[i + 1]):
            row.insert(position + 1, Element("mspace", {"width": THIN}))
        if i and not _is_operator(children[i - 1]) and children[i - 1].tag != "mspace":
            row.insert(position, Element("mspace", {"width": THIN}))


def _is_function(element: Element) -> bool:
    if element.tag in ("msub", "msup", "msubsup", "munder", "munderover") and len(element):
        element = element[0]
    text = (element.text or "").strip()
    return element.tag == "mi" and len(text) > 1 and text.isalpha()


def _is_operator(element: Element) -> bool:
    return element.tag == "mo" and (element.text or "") not in tuple(_CLOSING)


def _starts_with_operator(element: Element) -> bool:
    while element.tag in ("mrow", "msup", "msub", "msubsup") and len(element):
        element = element[0]
    return element.tag == "mo" and (element.text or "") != "∇"
