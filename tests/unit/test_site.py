"""The parts of the documentation's site that need no mkdocs: links, lists, what the navigation names.

That the site builds is the business of ``make docs``, which takes broken links for errors.
"""

from __future__ import annotations

import doctest
import re
from pathlib import Path

import pytest
import yaml

import website.links
import website.lists
from website.links import in_site
from website.lists import indented

ROOT = Path(__file__).parents[2]
PAGES = [
    *(ROOT / name for name in ("README.md", "CHANGELOG.md", "CONTRIBUTING.md", "LOG.md")),
    *sorted((ROOT / "docs").rglob("*.md")),
]
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


def named_pages() -> list[str]:
    """Every page in the navigation of mkdocs.yml."""
    text = (ROOT / "mkdocs.yml").read_text()
    found: list[str] = []

    def walk(part):
        if isinstance(part, str):
            found.append(part)
        else:
            for below in part.values() if isinstance(part, dict) else part:
                walk(below)

    walk(yaml.safe_load(text)["nav"])
    return found


@pytest.mark.parametrize("module", [website.links, website.lists])
def test_examples(module):
    result = doctest.testmod(module)
    assert result.attempted > 0
    assert result.failed == 0


def test_every_module_is_in_the_navigation_or_internal():
    modules = {
        ".".join(path.relative_to(ROOT / "cures").with_suffix("").parts).removesuffix(".__init__")
        for path in (ROOT / "cures").rglob("*.py")
    } - {"__init__"}
    named = [re.fullmatch(r"api/cures\.?([\w.]*)\.md", page) for page in named_pages()]
    in_nav = {found[1] for found in named if found} - {""}
    assert in_nav | INTERNAL | PACKAGES == modules
    assert not in_nav & (INTERNAL | PACKAGES)


def test_every_page_is_in_the_navigation_once():
    named = named_pages()
    assert len(named) == len(set(named))
    docs = {path.relative_to(ROOT / "docs").as_posix() for path in (ROOT / "docs").rglob("*.md")}
    outside = {"index.md", "contributing.md", "changelog.md", "log.md"}
    assert {page for page in named if not page.startswith("api/")} == docs | outside


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
