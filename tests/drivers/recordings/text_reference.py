"""A slow and plain reader of lines of numbers, one by one: what the compiled loop is compared with."""

from __future__ import annotations

import re

NUMBER = r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?"
LINE = re.compile(rf"[ \t\v\f]*({NUMBER})" + rf"[ \t\v\f,;]+({NUMBER})" * 3 + r"[ \t\v\f,;]*", re.ASCII)


def rows(data: bytes) -> tuple[list[tuple[float, ...]], int]:
    """Four numbers of each line, and how many bytes are good: up to the first line that is neither that nor empty."""
    found, good = [], 0
    for line in data.splitlines(keepends=True):
        text = line.decode("latin-1").rstrip("\r\n")
        match = LINE.fullmatch(text)
        if match is not None:
            found.append(tuple(float(number) for number in match.groups()))
        elif text.strip(" \t\v\f"):
            break
        good += len(line)
    return found, good
