"""House style that no linter knows: file names, first lines, and what a repository must not hold."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("nire", "drivers", "stream")
SOURCES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))
LIMIT_BYTES = 12 * 2**20


def _identify(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def test_no_file_is_named_after_nothing() -> None:
    vague = {"utils.py", "util.py", "common.py", "helpers.py", "base.py", "misc.py"}
    assert not [_identify(path) for path in SOURCES if path.name in vague]


@pytest.mark.parametrize("path", SOURCES, ids=_identify)
def test_first_line_of_a_file_says_what_is_done_there(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    if path.name == "__init__.py" and not text.strip():
        return
    docstring = ast.get_docstring(ast.parse(text))
    assert docstring, "the file has no docstring"
    first = docstring.splitlines()[0]
    assert text.startswith(('"""', 'r"""')), "the docstring is not the first line"
    assert first.endswith((".", ":")), f"the first line is no sentence: {first!r}"


def test_shipped_weights_stay_small() -> None:
    weights = ROOT / "nire" / "weights"
    large = [path.name for path in weights.glob("*") if path.is_file() and path.stat().st_size > LIMIT_BYTES]
    assert not large
