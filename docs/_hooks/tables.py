"""Tell each cell of a table the heading of its column, so that a narrow screen can show a row as a list."""

from __future__ import annotations

import html
import re
from typing import Any

_TABLE = re.compile(r"<table>.*?</table>", re.DOTALL)
_ROW = re.compile(r"<tr>.*?</tr>", re.DOTALL)
_HEADING = re.compile(r"<th\b[^>]*>(.*?)</th>", re.DOTALL)
_MARKS = re.compile(r"<[^>]*>")


def on_page_content(content: str, **_: Any) -> str:
    """Label the cells of a page's own tables; those of the Python API have a class, and stay as they are."""
    return _TABLE.sub(lambda table: _labelled(table[0]), content)


def _labelled(table: str) -> str:
    headings = [html.unescape(_MARKS.sub("", heading)) for heading in _HEADING.findall(table)]
    return _ROW.sub(lambda row: _with_labels(row[0], headings), table)


def _with_labels(row: str, headings: list[str]) -> str:
    labels = iter(headings)
    return re.sub(r"<td\b", lambda _: f'<td data-label="{html.escape(next(labels, ""))}"', row)
