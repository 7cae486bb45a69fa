"""What mkdocs calls: pages that lie outside docs/, pages of the API, links."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

from website.links import in_site
from website.pages import OUTSIDE, ROOT, api_page, leaves, module_file, module_of


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages of the root, and a page for every module that the navigation names."""
    for source, page in OUTSIDE.items():
        files.append(File.generated(config, page, abs_src_path=str(ROOT / source)))
    for page in leaves(config.nav):
        module = module_of(page)
        if module is not None:
            files.append(File.generated(config, page, content=api_page(module)))
    return files


def on_page_markdown(markdown: str, page: Page, files: Files, **kwargs: Any) -> str:
    """Turn links between files of the repository into links of the site."""
    pages = {}
    for file in files:
        module = module_of(file.src_uri)
        if module is not None:
            pages[module_file(module)] = file.src_uri
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
