"""What counts as right: arithmetic that anybody can check, or a documented rule."""

from __future__ import annotations

import re

import pytest

from train.verifiers import exact, math, regex
from train.verifiers.naming import load, place_of
from train.verifiers.normalization import normalized


@pytest.mark.parametrize(
    ("completion", "reference", "verdict"),
    [
        (r"\boxed{Tuesday}", "tuesday", True),  # case does not count
        ("  $ x  = 1 $. ", "x = 1", True),  # spaces, dollar signs, a full stop
        ("e\u0301", "\u00e9", True),  # NFC: one letter, written in two ways
        ("x\u00b2", "x2", False),  # not NFKC: a power is no digit
        (r"\boxed{1} and \boxed{2}", "2", True),  # the last one
        (r"\boxed{2} and \boxed{1}", "2", False),
        (r"\boxed{}", "", False),  # no answer
        ("", "1", False),
        ("0.5", "1/2", False),  # text, not mathematics
    ],
)
def test_exact(completion, reference, verdict):
    assert exact.is_right(completion, reference) is verdict


def test_normalization_can_be_repeated():
    for text in (" $a$ .", "$$a.$$", "A..", "$", "\u200e$1$\u200f", "\u0130"):
        assert normalized(normalized(text)) == normalized(text), text


@pytest.mark.parametrize(
    ("completion", "verdict"),
    [("#### 1\n#### 42", True), ("#### 42\n#### 1", False), ("42", False), ("", False)],
)
def test_regex_takes_the_last_match(completion, verdict):
    assert regex.is_right(completion, "42", pattern=r"#### (\d+)") is verdict


def test_a_group_that_takes_no_part_in_the_match_is_no_answer():
    assert regex.is_right("b", "", pattern="(a)|b") is False


@pytest.mark.parametrize("pattern", ["(", "no group", "(a)(b)", None, 3, "(?P<x"])
def test_patterns_that_cannot_be_used(pattern):
    with pytest.raises(ValueError, match="pattern must be a regular expression of Python with"):
        regex.check_pattern("[task]", "pattern", pattern)


@pytest.mark.parametrize(
    ("completion", "reference", "verdict"),
    [
        (r"so \boxed{\frac{1}{2}}", "0.5", True),
        (r"so \boxed{\frac{2}{4}}", r"\frac{1}{2}", True),
        (r"so \boxed{\frac{1}{3}}", r"\frac{1}{2}", False),
        (r"\boxed{2(n-1)}", "2n-2", True),
        (r"\boxed{\sqrt{9}}", "3", True),
        (r"\boxed{70,000}", "70000", True),
        (r"\boxed{1} or \boxed{3}", "3", True),  # the last one counts
        (r"\boxed{3} or \boxed{1}", "3", False),  # and no other
        (r"\boxed{-1, 1}", "1, -1", True),  # several answers, in any order
        (r"\boxed{(2,1)}", "(1,2)", False),  # a point is not a set
        (r"\boxed{\text{(B)}}", r"\text{(B)}", True),
        ("The answer is $3$.", "3", True),  # nothing boxed: what math-verify finds last
        (r"The answer is 3, \boxed{", "3", True),  # a box that never closes is none
        (r"The answer is 3, \boxed{}", "3", False),  # one that is empty is an empty answer
        ("I do not know.", "3", False),
        ("", "3", False),
    ],
)
def test_math(completion, reference, verdict):
    assert math.is_right(completion, reference) is verdict


def test_of_a_text_without_a_box_the_end_is_searched():
    filler = "and so on. " * math.TAIL
    assert math.is_right(f"The answer is $3$. {filler}", "3") is False
    assert math.is_right(f"{filler}The answer is $3$.", "3") is True
    # a model that is caught in a loop: the whole of it would take math-verify minutes
    assert math.is_right("1 " * 30_000, "3") is False
    # a dollar sign opens no formula that goes on in the next line
    assert math.is_right("It costs $5\nso the answer is $x=3$", "3") is True


def test_references_that_math_verify_can_read():
    for text in (r"\frac{1}{2}", "x+1", r"\text{(B)}", "(1, 2]", "C", r"\sqrt{2}", "1, 2"):
        assert math.is_readable("", text), text
    for text in ("あ", r"\begin{foo", "", "?"):
        assert not math.is_readable("", text), text


def test_what_math_verify_cannot_read_is_compared_as_text():
    # math-verify finds no number or formula in a kana
    assert math.is_right(r"\boxed{あ}", "あ") is True
    assert math.is_right(r"\boxed{い}", "あ") is False


@pytest.mark.parametrize("name", ["", "nobody", "a:b c", ":f", "a-b:f", "a.py:", "/tmp/x.txt:f"])
def test_names_that_are_none(name):
    with pytest.raises(ValueError, match="verifier must be one of math, exact, regex, package"):
        place_of(name)


def test_functions_have_a_name_if_others_can_import_them():
    assert place_of(math.is_right) == "train.verifiers.math:is_right"
    assert load(place_of("exact")) is exact.is_right
    with pytest.raises(ValueError, match="a function at the top of a module"):
        place_of(lambda completion, reference: True)


def test_what_is_not_there_is_named(tmp_path):
    with pytest.raises(ValueError, match="file must be one that exists"):
        load(f"{tmp_path}/none.py:is_right")
    (tmp_path / "mine.py").write_text("def is_right(c, r): return c == r\nvalue = 3\n")
    assert load(f"{tmp_path}/mine.py:is_right")("a", "a") is True
    for name in ("other", "value"):
        with pytest.raises(ValueError, match=re.escape("mine.py must be defined there")):
            load(f"{tmp_path}/mine.py:{name}")
