"""Make a page of each file of the repository that a page links to, so that the site needs no other server."""

from __future__ import annotations

import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parents[2]
FOLDER = "source"
_FENCE = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\]\((?!\w+:|#)([^)\s#]+)(#[^)\s]*)?\)")
_LANGUAGES = {".py": "python", ".toml": "toml", ".cpp": "cpp", ".md": ""}


def on_files(files: Files, config: Any) -> Files:
    """Add a page for each linked file, and for those that they link to."""
    waiting = [f"docs/{file.src_uri}" for file in files.documentation_pages()]
    seen = set(waiting)
    while waiting:
        name = waiting.pop()
        for target in _targets(name):
            if target not in seen and not target.startswith("docs/"):
                seen.add(target)
                waiting.append(target)
                files.append(File.generated(config, _page_of(target), content=_content(target)))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Point links to files of the repository at their pages."""
    if page.file.src_uri.startswith(f"{FOLDER}/"):
        return markdown  # done when it was made
    return _relinked(markdown, f"docs/{page.file.src_uri}", page.file.src_uri)


def _content(name: str) -> str:
    """The markdown of a file's page."""
    head = f"---\ntitle: {name}\nsearch:\n  exclude: true\n---\n\n"
    text = (ROOT / name).read_text(encoding="utf-8")
    if name.endswith(".md"):
        return head + _relinked(text, name, _page_of(name))
    language = _LANGUAGES.get(Path(name).suffix, "text")
    return f"{head}# `{name}`\n\n````{language}\n{text}````\n"


def _targets(name: str) -> list[str]:
    """Files of the repository that a markdown file links to."""
    if not name.endswith(".md"):
        return []
    prose = _FENCE.sub("", (ROOT / name).read_text(encoding="utf-8"))
    targets = [_resolved(name, match[1]) for match in _LINK.finditer(prose)]
    return [target for target in targets if (ROOT / target).is_file()]


def _relinked(markdown: str, name: str, page: str) -> str:
    """Links of a file as links of its page."""

    def relink(match: re.Match[str]) -> str:
        target = _resolved(name, match[1])
        if not (ROOT / target).is_file():
            return match[0]
        there = target.removeprefix("docs/") if target.startswith("docs/") else _page_of(target)
        return f"]({posixpath.relpath(there, posixpath.dirname(page) or '.')}{match[2] or ''})"

    # Code keeps what looks like a link: odd pieces are the fences.
    pieces = re.split(r"(^```.*?^```$)", markdown, flags=re.MULTILINE | re.DOTALL)
    return "".join(piece if at % 2 else _LINK.sub(relink, piece) for at, piece in enumerate(pieces))


def _resolved(name: str, target: str) -> str:
    return posixpath.normpath(posixpath.join(posixpath.dirname(name), target))


def _page_of(name: str) -> str:
    return f"{FOLDER}/{name}" if name.endswith(".md") else f"{FOLDER}/{name}.md"
