"""The parts of the documentation's site that need no mkdocs: links, lists, what the navigation names.

That the site builds is the business of ``make docs``, which takes broken links for errors.
"""

from __future__ import annotations

import doctest
import re

import pytest
import yaml

import cures.quota
import website.docstrings
import website.links
import website.lists
import website.pages
from website.docstrings import apart, markdown
from website.formulas import DISPLAY, INLINE, html
from website.links import in_site
from website.lists import indented
from website.pages import OUTSIDE, ROOT, api_page, leaves, module_of

PAGES = [
    *(ROOT / name for name in OUTSIDE if name.endswith(".md")),
    *sorted((ROOT / "docs").rglob("*.md")),
]
NAMED = list(leaves(yaml.safe_load((ROOT / "mkdocs.yml").read_text())["nav"]))
# modules of cures that are no business of those who use it: parts of other modules, of the driver and of
# adapters, and the error sentences
INTERNAL = {
    "beta_binomial", "checks", "followed", "integrations.supported", "integrations.trl.agreement",
    "integrations.trl.rows", "integrations.verl.agreement", "marginal", "schedulers.driver.books",
    "schedulers.driver.checkpoint", "schedulers.driver.consistency", "schedulers.driver.draft",
    "schedulers.driver.groups", "schedulers.driver.open_plans", "schedulers.driver.persistence",
    "schedulers.driver.pool", "schedulers.driver.randomness", "schedulers.driver.streaming",
    "schedulers.passes", "schedulers.refill", "schedulers.weighted", "water_level",
}  # fmt: skip
# packages whose contents have pages of their own
PACKAGES = {"integrations.trl", "integrations.verl", "schedulers.driver"}


@pytest.mark.parametrize(
    "module", [website.docstrings, website.links, website.lists, website.pages]
)
def test_examples(module):
    result = doctest.testmod(module)
    assert result.attempted > 0
    assert result.failed == 0


def test_every_module_is_in_the_navigation_or_internal():
    modules = {
        ".".join(path.relative_to(ROOT / "cures").with_suffix("").parts).removesuffix(".__init__")
        for path in (ROOT / "cures").rglob("*.py")
    } - {"__init__"}
    in_nav = {module.partition(".")[2] for module in map(module_of, NAMED) if module} - {""}
    assert in_nav | INTERNAL | PACKAGES == modules
    assert not in_nav & (INTERNAL | PACKAGES)


def test_every_page_is_in_the_navigation_once():
    assert len(NAMED) == len(set(NAMED))
    docs = {path.relative_to(ROOT / "docs").as_posix() for path in (ROOT / "docs").rglob("*.md")}
    outside = {page for page in OUTSIDE.values() if page.endswith(".md")}
    assert {page for page in NAMED if not page.startswith("api/")} == docs | outside


@pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(page):
    source = page.relative_to(ROOT).as_posix()
    broken = []

    def is_file(path):
        if not (ROOT / path).exists():
            broken.append(path)
        return True

    in_site(page.read_text(), source=source, page=source, pages={}, is_file=is_file)
    assert broken == []


def test_a_broken_link_is_found_and_left_for_mkdocs_to_refuse():  # the control of the test above
    asked = []

    def is_file(path):
        asked.append(path)
        return False

    text = "see [there](../gone.md#place)"
    where = {"source": "docs/here.md", "page": "here.md", "pages": {}}
    assert in_site(text, is_file=is_file, **where) == text
    assert asked == ["gone.md"]


PLACES = {"docs/a.md": "a.md", "docs/b/README.md": "b/README.md", "cures/q.py": "api/cures.q.md"}


@pytest.mark.parametrize(
    ("text", "expected"),
    [  # from docs/b/README.md, by hand
        ("[a](../a.md#x)", "[a](../a.md#x)"),
        ("[the *quota*](../../cures/q.py)", "[the *quota*](../api/cures.q.md)"),
        ("[`q.py`](../../cures/q.py).", "[`q.py`](../api/cures.q.md)."),
        ("[proof](../../theory/q.py)", "proof (`theory/q.py`)"),
        ("[`q.py`](../../theory/q.py)", "`theory/q.py`"),
        ("[top](#top), [out](https://a.org/b.md)", "[top](#top), [out](https://a.org/b.md)"),
        ("`[a](../../theory/q.py)` and ``a ` [a](../../theory/q.py)``", None),
        ("```md\n[a](../../theory/q.py)\n```", None),
        (
            "```\nx\n```\n[proof](../../theory/q.py)\n```\ny\n```",
            "```\nx\n```\nproof (`theory/q.py`)\n```\ny\n```",
        ),
    ],
)
def test_links_by_hand(text, expected):
    where = {"source": "docs/b/README.md", "page": "b/README.md", "pages": PLACES}
    found = in_site(text, is_file=lambda path: True, **where)
    assert found == (text if expected is None else expected)


@pytest.mark.parametrize(
    ("text", "expected"),
    [  # by hand
        ("- a\n  b\n- c\n\n  d\n\nend", "- a\n    b\n- c\n\n    d\n\nend"),
        ("1. a\n   - b\n     - c\n2. d", "1. a\n    - b\n        - c\n2. d"),
        ("10. a\n\n    $$x$$\nlazy", "10. a\n\n    $$x$$\nlazy"),
        ("text\n\n    code - here\n\n-2 is no item\n  nor this", None),
        ("- a\n\n      code", "- a\n\n        code"),
    ],
)
def test_list_items_by_hand(text, expected):
    assert "\n".join(indented(text.split("\n"))) == (text if expected is None else expected)


def test_the_page_of_cures_lists_what_it_brings():
    rows = api_page("cures").splitlines()
    # cures/__init__.py: a module, and names of a module whose docstring begins as shown
    assert "| [`loop`][cures.loop] | [`cures.loop`][cures.loop] |" in rows[6]
    quota = cures.quota.__doc__.splitlines()[0]
    names = ", ".join(
        f"[`{name}`][cures.quota.{name}]"
        for name in ("allocate", "allocate_by_value", "round_to_total")
    )
    assert f"| {names} | [`cures.quota`][cures.quota] | {quota} |" in rows
    assert "filters" in api_page("cures.schedulers.driver.rule")


AUTOREF = '<autoref optional identifier="cures.quota.f"><code>{}</code></autoref>'


@pytest.mark.parametrize(
    ("text", "expected"),
    [  # by hand
        (r"the :math:`\sigma_i` of Eq. 21", r"the $\sigma_i$ of Eq. 21"),
        ("See :func:`f` or :func:`~quota.f`.", None),
        ("What :attr:`gone` was.", "What `gone` was."),
        ("  .. math:: a\n     + b\n\nEnd", "  $$a + b$$\n\nEnd"),
        ("Like this::\n\n    code", "Like this:\n\n    code"),
        ("bound : {'exact', 'at least'}\n", "bound : 'exact' | 'at least'\n"),
        (".. [1] A paper.", "[1] A paper."),
        ("=== ===\na   b\n    c\nd   e\n=== ===", "| | |\n|---|---|\n| a | b c |\n| d | e |"),
    ],
)
def test_docstrings_by_hand(text, expected):
    names = {"f": "cures.quota.f", "quota.f": "cures.quota.f"}
    if expected is None:
        expected = f"See {AUTOREF.format('f')} or {AUTOREF.format('f')}."
    assert markdown(text, names.get) == expected


def test_parameters_one_by_one():
    text = "x\n    Alone.\nlow, high\n    Ends.\n\n    More.\n"
    # the first paragraph goes with each name; what follows an empty line stays with the last one
    assert apart(text) == ("x\n    Alone.\nlow\n    Ends.\nhigh\n    Ends.\n\n    More.\n")


@pytest.mark.parametrize(
    ("text", "formulas"),
    [  # by hand
        ("with $x_i$ and $y$.", ["x_i", "y"]),
        ("$5 or $6, not $ 7$", []),  # GitHub: no space inside, no digit behind
        (r"\$x$ is no formula", []),
        ("costs $x$5", []),
        ("$$a + b$$", []),  # displayed
    ],
)
def test_formulas_in_a_line_by_hand(text, formulas):
    assert re.findall(INLINE, text) == formulas


def test_displayed_formulas_and_their_html():
    assert re.findall(DISPLAY, r"so $$a + b$$ and \$$c$$") == ["a + b"]
    for is_displayed, kind in ((True, "display"), (False, "formula")):
        found = html("x_i", display=is_displayed)
        assert found.startswith(f'<span class="{kind}"><math')
        assert "<msub><mi>x</mi><mi>i</mi></msub>" in found
