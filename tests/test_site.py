"""The documentation as a site: it builds without a warning or a network, and is read without another server."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest

import nire_live
from stream.commands import command_names

ROOT = Path(__file__).resolve().parents[1]
NOWHERE = "http://127.0.0.1:9"
EXTERNAL = re.compile(r"^\s*(?:https?:)?//")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built site; a warning of mkdocs fails the build."""
    folder = tmp_path_factory.mktemp("site")
    proxies = dict.fromkeys(("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"), NOWHERE)
    result = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", folder],
        cwd=ROOT,
        env={**os.environ, **proxies, "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    return folder


class _Resources(HTMLParser):
    """Addresses that a browser fetches by itself: links to click on are none."""

    def __init__(self) -> None:
        super().__init__()
        self.addresses: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        named = dict(attrs)
        if tag == "link" and named.get("rel") not in ("prev", "next", "canonical"):
            self.addresses.append(named.get("href") or "")
        if tag != "a":
            self.addresses += [named[name] or "" for name in ("src", "srcset", "data", "poster") if name in named]


def test_pages_fetch_nothing_from_another_server(site: Path) -> None:
    pages = list(site.rglob("*.html"))
    assert len(pages) > 15
    for page in pages:
        resources = _Resources()
        resources.feed(page.read_text(encoding="utf-8"))
        assert resources.addresses, page.name
        assert not [address for address in resources.addresses if EXTERNAL.match(address)], page.name


def test_style_sheets_fetch_nothing_from_another_server(site: Path) -> None:
    sheets = list(site.rglob("*.css"))
    assert sheets
    for sheet in sheets:
        text = sheet.read_text(encoding="utf-8")
        assert not re.search(r"""(?:url\(|@import)\s*["']?(?:https?:)?//""", text), sheet.name


def test_cells_of_tables_name_their_column_for_narrow_screens(site: Path) -> None:
    page = (site / "configuration.html").read_text(encoding="utf-8")
    (row,) = re.findall(r"<tr>\s*(<td[^>]*><code>plan\.rate_hz</code>.*?)</tr>", page, re.DOTALL)
    assert re.findall(r'data-label="(\w+)"', row) == ["key", "default", "range", "meaning"]


def test_every_command_has_its_section(site: Path) -> None:
    page = (site / "commands.html").read_text(encoding="utf-8")
    assert set(command_names()) <= set(re.findall(r'<h2 id="([\w-]+)"', page))


def test_every_name_of_the_library_is_described(site: Path) -> None:
    page = (site / "python-api.html").read_text(encoding="utf-8")
    described = set(re.findall(r'<h3 id="nire_live\.(\w+)"', page))
    assert described == set(nire_live.__all__) - {"__version__"}


def test_files_that_pages_link_to_are_pages_too(site: Path) -> None:
    page = (site / "adding-a-camera.html").read_text(encoding="utf-8")
    assert 'href="source/nire/types.py.html"' in page
    assert "class EventBatch" in re.sub(r"<[^>]*>", "", (site / "source/nire/types.py.html").read_text("utf-8"))
