"""What mkdocs calls: pages that lie outside docs/, pages of the API, links."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

from website.links import in_site

ROOT = Path(__file__).parents[1]
OUTSIDE = {
    "README.md": "index.md",
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "LOG.md": "log.md",
    "website/site.css": "site.css",
}
_API = re.compile(r"api/(cures[\w.]*)\.md")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages of the root, and a page for every module that the navigation names."""
    for source, page in OUTSIDE.items():
        files.append(File.generated(config, page, abs_src_path=str(ROOT / source)))
    for page in _leaves(config.nav):
        module = _API.fullmatch(page)
        if module:
            files.append(File.generated(config, page, content=api_page(module[1])))
    return files


def on_page_markdown(markdown: str, page: Page, files: Files, **kwargs: Any) -> str:
    """Turn links between files of the repository into links of the site."""
    pages = {}
    for file in files:
        module = _API.fullmatch(file.src_uri)
        if module:
            pages[module_file(module[1])] = file.src_uri
        elif file.inclusion.is_included() and file.abs_src_path:
            path = Path(file.abs_src_path)
            if path.is_relative_to(ROOT):
                pages[path.relative_to(ROOT).as_posix()] = file.src_uri
    names = {page: source for source, page in pages.items()}
    return in_site(
        markdown,
        source=names[page.file.src_uri],
        page=page.file.src_uri,
        pages=pages,
        is_file=lambda path: (ROOT / path).exists(),
    )


def module_file(module: str) -> str:
    """Path of a module in the repository."""
    path = module.replace(".", "/")
    return f"{path}/__init__.py" if (ROOT / path).is_dir() else f"{path}.py"


def api_page(module: str) -> str:
    """The text of a module's page, which mkdocstrings fills."""
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


def _leaves(nav: Any) -> Iterator[str]:
    if isinstance(nav, str):
        yield nav
    elif isinstance(nav, dict):
        for below in nav.values():
            yield from _leaves(below)
    elif nav is not None:
        for below in nav:
            yield from _leaves(below)
