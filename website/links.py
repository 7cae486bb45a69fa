"""Links of the repository's pages, as they are in the site."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable, Mapping

# Code comes first, so that nothing in it is taken for a link; a link's text may hold code.
_CODE = r"(?P<code>^(?P<fence>`{3,}).*?^(?P=fence)`*[ ]*$|(?P<tick>`+)[^`].*?(?P=tick))"
_LINK = r"(?P<bang>!?)\[(?P<text>(?:[^\[\]`]|`[^`]*`)*)\]\((?P<target>[^()\s]+)\)"
_EITHER = re.compile(f"{_CODE}|{_LINK}", flags=re.DOTALL | re.MULTILINE)
_ELSEWHERE = re.compile(r"[a-z][a-z+.-]*:|#|/")


def in_site(
    markdown: str,
    *,
    source: str,
    page: str,
    pages: Mapping[str, str],
    is_file: Callable[[str], bool],
) -> str:
    """The text with every link to a file of the repository turned into what the site has of it.

    A file that is in the site keeps its link, whatever it is called there; one that is not is named by
    its path. What is neither stays as it is: mkdocs says that the link is broken.

    Parameters
    ----------
    markdown : str
    source, page : str
        Where the text lies in the repository and in the site.
    pages : mapping of str to str
        Path in the repository -> path in the site.
    is_file : callable
        Whether the repository has something at a path.

    Examples
    --------
    >>> pages = {"docs/data.md": "data.md", "CHANGELOG.md": "changelog.md"}
    >>> text = "[data](docs/data.md#verifiers), [proof](theory/quota.py), [`Makefile`](Makefile)"
    >>> in_site(text, source="README.md", page="index.md", pages=pages, is_file=lambda path: True)
    '[data](data.md#verifiers), proof (`theory/quota.py`), `Makefile`'
    """

    def replaced(found: re.Match[str]) -> str:
        if found["code"] or _ELSEWHERE.match(found["target"]):
            return found[0]
        target, _, place = found["target"].partition("#")
        path = posixpath.normpath(posixpath.join(posixpath.dirname(source), target))
        if path in pages:
            there = posixpath.relpath(pages[path], posixpath.dirname(page) or ".")
            return f"{found['bang']}[{found['text']}]({there}{'#' if place else ''}{place})"
        if not is_file(path):
            return found[0]
        text = found["text"]
        named = f"`{path}`"
        is_name = text.strip("`") in (path, posixpath.basename(path))
        return named if is_name else f"{text} ({named})"

    return _EITHER.sub(replaced, markdown)
