"""How the report prints: formulas, pictures, links, tables."""

from __future__ import annotations

import re
from pathlib import Path
from xml.etree import ElementTree

import pytest
import sympy as sp

from tests.unit.test_theory_framework import _variance_claim
from theory.__main__ import main
from theory.check import Verdict, verdict
from theory.claims import WIDE, Claim, Estimate, Step
from theory.mathml import mathml
from theory.picture import picture
from theory.registry import all_claims
from theory.report import markdown, page
from theory.symbols import n, p, q
from theory.typeset import latex, lines, width

ROOT = Path(__file__).parents[2]
tau, K, L = sp.symbols("tau K L", positive=True)


@pytest.mark.parametrize(
    ("formula", "printed"),
    [
        (-p * (p - 1), r"p \left(1 - p\right)"),
        (q * (p - 1) / (p - q), r"\frac{q \left(1 - p\right)}{q - p}"),
        (1 / (p - 1) ** 2, r"\frac{1}{\left(1 - p\right)^{2}}"),
        (n * (n - 1), r"n \left(n - 1\right)"),  # a count keeps its order
        (p - n * p * (1 - p), r"p - n p \left(1 - p\right)"),
        (K / (K + L * sp.exp(-p / tau)), r"\frac{K}{K + L e^{- p / \tau}}"),
        ((K / n + L) / (n + 1), r"\frac{K / n + L}{n + 1}"),
        (sp.Subs(p + q, p, 1 / n), r"\left. \left(p + q\right) \right|_{p = 1 / n}"),
        (sp.Subs(p / q, p, n * p), r"\left. \frac{p}{q} \right|_{p \to n p}"),
        (sp.Limit(K / (K + n), n, sp.oo), r"\lim_{n \to \infty} \frac{K}{K + n}"),
        (sp.Integral(p, (p, 0, 1)), r"\int_{0}^{1} p\, dp"),
    ],
)
def test_formulas_print_as_one_writes_them(formula: sp.Expr, printed: str):
    assert latex(formula) == printed


@pytest.mark.parametrize(
    "formula",
    [
        q * (p - 1) / (p - q),
        -(p**2) * (q - p) * (p - 1) ** 3 / (n - 1),
        (1 - 2 * p) * (-p - q) * (p - 1),
        -3 * (p + 2 * q * p - 2) / ((q - 1) * (p - q) ** 2),
    ],
)
def test_turning_signs_keeps_the_value(formula: sp.Expr):
    # read back by hand: plain LaTeX of products and powers is Python after these replacements
    text = latex(formula).replace(r"\left", "").replace(r"\right", "")
    text = re.sub(r"\\frac\{(.*)\}\{(.*)\}$", r"((\1)/(\2))", text).replace("^", "**")
    text = re.sub(r"\*\*\{(\d)\}", r"**\1", text)
    text = re.sub(r"(?<=[\w)])\s+(?=[\w(])|(?<=\w)(?=\()|(?<=\))(?=[\w(])", "*", text)
    at = {p: sp.Rational(1, 3), q: sp.Rational(1, 7), n: 5}
    assert sp.sympify(text, locals={"p": p, "q": q, "n": n}).subs(at) == formula.subs(at)


def test_width_counts_what_is_side_by_side():
    assert width(r"\frac{a b c}{d}") == width(r"\frac{d}{a b c}") < width("a b c d")
    assert width("x^{2}") < width("x 2")
    assert width(r"\left(x\right)") == width("(x)")


def test_a_long_sum_is_broken_between_its_terms():
    long = sum((p**k * q ** (9 - k) * (1 - p) ** k for k in range(1, 9)), n)
    parts = lines(long, 40)
    assert len(parts) > 2
    assert all(width(part) <= 40 for part in parts)
    assert all(part.startswith(("+", "-")) for part in parts[1:])
    assert " ".join(parts) == latex(long)
    assert lines(p + q, 40) == ["p + q"]


def test_a_step_fits_the_page():
    long = sum((p**k * q ** (9 - k) * (1 - p) ** k for k in range(1, 9)), n)
    found = Step("", long, long + p).latex()
    assert all(width(line) <= WIDE + 5 for line in found)
    assert sum("= " in line for line in found) == 1
    assert Step("", 2 * p, p + p).latex() == ["2 p"]
    assert Step("", p, -q, certificate=p + q).latex() == [r"p + q = p + q \ge 0"]
    assert Step("", p, 0, certificate=p).latex() == [r"p = p \ge 0"]
    # a name stands in the place of the left side, or of the difference
    assert Step("", 2 * p, p + p, name="x").latex() == ["x = 2 p"]
    assert Step("", p, -q, certificate=p + q, name="y").latex() == [r"y = p + q \ge 0"]


def test_mathml_has_the_spaces_of_tex():
    root = ElementTree.fromstring(mathml(r"x \log p / \left(1 - p\right)"))
    local = [element.tag.split("}")[-1] for element in root.iter()]
    assert local.count("mspace") == 2  # before and after log
    operators = {e.text: e.attrib for e in root.iter() if e.tag.endswith("}mo")}
    assert operators["/"] == {"lspace": "0", "rspace": "0"}
    assert operators["("]["stretchy"] == "false"
    tall = ElementTree.fromstring(mathml(r"\left(\frac{1}{p}\right)"))
    assert {e.get("stretchy") for e in tall.iter() if e.tag.endswith("}mo")} == {"true"}
    assert "<mi>Tr</mi>" in mathml(r"\operatorname{Tr} A")
    assert "<mspace" not in mathml(r"\log\left(p\right)")


def _row(**changes: float) -> Estimate:
    fields = {"mean": 1.0, "standard_error": 0.05, "expected": 1.1, "control": 2.0}
    return Estimate(what="x", control_is="wrong", **{**fields, **changes})


def _marks(svg: str) -> dict[str, float]:
    root = ElementTree.fromstring(svg)
    by_class = {e.get("class"): e for e in root}
    band = by_class["band"]
    start, size = float(band.get("x", "")), float(band.get("width", ""))
    return {
        "left": start,
        "right": start + size,
        "mean": float(re.match(r"M([\d.]+)", by_class["mean"].get("d", ""))[1]),  # type: ignore[index]
        "formula": float(by_class["formula"].get("cx", "")),
        "control": 4.0 + float(re.match(r"M([\d.]+)", by_class["control"].get("d", ""))[1]),  # type: ignore[index]
    }


def test_picture_is_to_scale():
    marks = _marks(picture(_row()))
    # the axis goes from 1 - 4 * 0.05 to the control at 2: 1.2 units on 148 pixels from pixel 6
    at = {"left": 0.8, "mean": 1.0, "formula": 1.1, "right": 1.2, "control": 2.0}
    for name, value in at.items():
        assert marks[name] == pytest.approx(6 + (value - 0.8) / 1.2 * 148, abs=0.11), name


def test_picture_mirrors_and_never_loses_the_mean():
    marks = _marks(picture(_row(control=0.0)))
    assert marks["control"] < marks["left"] < marks["mean"] < marks["right"]
    thin = _marks(picture(_row(standard_error=1e-9)))
    assert thin["right"] - thin["left"] == pytest.approx(3.0, abs=0.2)
    flat = picture(_row(standard_error=0.0, expected=1.0, control=1.0))
    assert "nan" not in flat


def _two_claims() -> list[Claim]:
    return [
        _variance_claim(),
        _variance_claim(
            number="1.10", statement=r"By 1.1 (and 1.10), not by $1.1$ or 1.15, Beta$(1, 1)$ too."
        ),
    ]


def test_claims_are_linked_and_every_link_has_its_anchor():
    claims = _two_claims()
    verdicts = [verdict(claim) for claim in claims]
    for text in (markdown(claims, verdicts), page(claims, verdicts)):
        targets = re.findall(r'(?:\(|href=")#([\w.-]+)', text)
        anchors = re.findall(r'<a id="([\w.-]+)">', text)
        assert {"claim-1.1", "claim-1.10", "chapter-1", "claims"} <= set(targets)
        assert set(targets) <= set(anchors)
        assert len(anchors) == len(set(anchors))
    source = markdown(claims, verdicts)
    # a link to another claim; none to itself, in mathematics or in a longer number
    assert "By [1.1](#claim-1.1) (and 1.10), not by $1.1$ or 1.15" in source


def test_markdown_is_for_a_code_hosting_site():
    claims = _two_claims()
    claims.append(_variance_claim(number="1.2", statement=r"$\operatorname{Var} r$"))
    text = markdown(claims, [verdict(claim) for claim in claims])
    assert "Beta $(1, 1)$ too" in text  # a dollar sign after a letter is not read as mathematics
    assert r"\operatorname" not in text
    assert "<svg" not in text
    rows = [re.sub(r"\\\||\$[^$]*\$", "", row) for row in text.split("\n")]
    tables = re.findall(r"(?:^\|.*\n)+", "\n".join(rows), re.MULTILINE)
    assert len(tables) == 2 + 2 * len(claims)  # statuses, contents, two per claim
    assert all(len({row.count("|") for row in table.splitlines()}) == 1 for table in tables)


def test_page_stands_alone_and_shows_the_simulations():
    claims = _two_claims()
    found = page(claims, [verdict(claim) for claim in claims])
    assert found.count("<svg") == 3  # one per simulation, one in the legend
    assert not re.search(r"<script|<link|<img|\bsrc=|url\(", found)
    # a comma does not go to the next line without its formula
    assert re.search(
        r'<span class="joined"><span class="math inline"><math.*?</math></span>\.', found
    )
    ElementTree.fromstring(re.sub(r"<!doctype html>|<meta[^>]*>", "", found))  # every tag is closed


def test_command_line_reports_what_it_did(capsys: pytest.CaptureFixture[str], tmp_path: Path):
    assert main(["report", "1.2", "--jobs", "1", "--out", str(tmp_path / "new" / "folder")]) == 0
    lines_ = capsys.readouterr().out.splitlines()
    assert lines_[0].split()[:2] == ["1.2", "ok"]
    assert lines_[1].startswith("1 claims: ")
    assert {path.name for path in (tmp_path / "new" / "folder").iterdir()} == {
        "report.md",
        "report.html",
    }


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["check", "1.99"], "N must be a chapter or a claim: 1, 1.1-"),
        (["check", "1.2", "--jobs", "0"], "--jobs must be"),
        (["check", "1.2", "--seed", "-1"], "--seed must be"),
        (["report", "1.2", "--out", __file__], "--out must be a folder"),
    ],
)
def test_command_line_refuses_before_it_checks(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
):
    assert main(arguments) == 2
    printed = capsys.readouterr()
    assert said in printed.err
    assert printed.out == ""


def test_command_line_fails_with_a_claim(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    wrong = verdict(_variance_claim(), {"variance": p})
    monkeypatch.setattr("theory.__main__.run", lambda numbers, **_: iter([wrong]))
    assert main(["check", "1.1"]) == 1
    printed = capsys.readouterr().out
    assert " FAILED " in printed.splitlines()[0]
    assert printed.splitlines()[-1].endswith("FAILED: 1.1")


def test_the_report_in_the_repository_states_the_claims_as_they_are():
    """Statements and corrections; the numbers of simulations may differ in their last digits."""
    stored = (ROOT / "docs" / "theory" / "report.md").read_text()
    claims = all_claims()
    now = markdown(claims, [Verdict(claim.number, (), (), 0.0) for claim in claims])
    for claim in claims:
        anchor = f'<a id="claim-{claim.number}"></a>'
        old, new = (t.partition(anchor)[2].partition("**Proof.**")[0] for t in (stored, now))
        assert old == new != "", f"{claim.number} is stale: python -m theory report"
