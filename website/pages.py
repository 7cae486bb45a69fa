"""Which pages the site has, and the text of those that are made of modules."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
OUTSIDE = {  # of docs/
    "README.md": "index.md",
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "LOG.md": "log.md",
    "website/site.css": "site.css",
}
_API = re.compile(r"api/(cures[\w.]*)\.md")


def leaves(nav: Any) -> Iterator[str]:
    """Every page that a navigation names.

    Examples
    --------
    >>> list(leaves(["index.md", {"Guide": ["data.md", {"More": "log.md"}]}, {"Empty": None}]))
    ['index.md', 'data.md', 'log.md']
    """
    if isinstance(nav, str):
        yield nav
    elif isinstance(nav, dict):
        for below in nav.values():
            yield from leaves(below)
    elif nav is not None:
        for below in nav:
            yield from leaves(below)


def module_of(page: str) -> str | None:
    """The module that a page is about.

    Examples
    --------
    >>> module_of("api/cures.quota.md"), module_of("api/cures.md"), module_of("data.md")
    ('cures.quota', 'cures', None)
    """
    found = _API.fullmatch(page)
    return found[1] if found else None


def module_file(module: str) -> str:
    """Path of a module in the repository.

    Examples
    --------
    >>> module_file("cures.quota"), module_file("cures.schedulers")
    ('cures/quota.py', 'cures/schedulers/__init__.py')
    """
    path = module.replace(".", "/")
    return f"{path}/__init__.py" if (ROOT / path).is_dir() else f"{path}.py"


def api_page(module: str) -> str:
    """The text of a module's page, which mkdocstrings fills.

    Examples
    --------
    >>> api_page("cures.quota")
    '::: cures.quota\\n'
    """
    if module == "cures":
        return f"::: cures\n    options:\n      members: []\n\n{contents()}"
    if module == "cures.schedulers.driver.rule":  # for those who write a scheduler
        return f'::: {module}\n    options:\n      filters: ["!^__"]\n'
    return f"::: {module}\n"


def contents() -> str:
    """What ``import cures`` brings, by the module that it comes from."""
    rows = ["| `cures.` | from | |", "|---|---|---|"]
    for node in ast.parse((ROOT / "cures/__init__.py").read_text()).body:
        if isinstance(node, ast.ImportFrom) and node.module:
            links = ", ".join(f"[`{a.name}`][{node.module}.{a.name}]" for a in node.names)
            whole = f"cures.{node.names[0].name}" if node.module == "cures" else node.module
            text = ast.get_docstring(ast.parse((ROOT / module_file(whole)).read_text())) or ""
            summary = text.split("\n")[0]
            rows.append(f"| {links} | [`{whole}`][{whole}] | {summary} |")
    return "\n".join(rows) + "\n"
