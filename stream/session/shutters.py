"""Shutters asked for by a file: reading it, and finding the best window for each while windows pass by."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from nire.errors import ConfigError
from nire.shutter import Shutter
from nire.types import ContentWindow

_KEYS = {"t_a_us", "t_b_us", "row_delay_us", "tag"}
_MOST_US = 2**63  # device time is int64


@dataclass(frozen=True, slots=True)
class Wanted:
    """One line of a shutters file. `line` counts from 1."""

    line: int
    t_a_us: float
    t_b_us: float
    row_delay_us: float
    tag: str

    def shutter(self, height: int) -> Shutter:
        """Lay it out over the rows of a sensor."""
        return Shutter.rolling(self.t_a_us, self.t_b_us, row_delay_us=self.row_delay_us, height=height)


def read_shutters(path: Path) -> list[Wanted]:
    """Read one JSON object a line: `t_a_us`, `t_b_us`, and if wanted `row_delay_us` (0) and `tag` ("").

    Raises:
        ConfigError: no such file, or a line that is no such object; every bad line is named.
    """
    try:
        # Not splitlines: a tag may hold characters that it takes for ends of lines, JSON does not.
        lines = path.read_text(encoding="utf-8").rstrip().split("\n")
    except OSError as error:
        raise ConfigError(f"cannot read the shutters file {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path} is no shutters file: one JSON object a line is expected, {error}") from error
    wanted, faults = [], []
    for number, text in enumerate(lines, 1):
        if not text.strip() and len(lines) == 1:
            break
        try:
            wanted.append(_parse(number, text))
        except ValueError as error:
            faults.append(f"{path} line {number}: {error}")
    if faults:
        raise ConfigError("\n".join(faults))
    if not wanted:
        raise ConfigError(f'{path} holds no shutter; one JSON object a line is expected, {{"t_a_us": 0, "t_b_us": 0}}')
    return wanted


def covers(window: ContentWindow, shutter: Shutter) -> bool:
    """Tell whether a window can answer a shutter at all."""
    return window.covered_us[0] <= shutter.first_us and shutter.last_us <= window.covered_us[1]


def rank(window: ContentWindow, shutter: Shutter) -> float:
    """Tell how well a window that covers a shutter answers it: the smaller, the better.

    Negative is the best there is: two frames, or none in the whole stream, and the shutter's middle is this window's
    to answer. Else it is the distance to the nearest frame, or to the middle of a window without one, us.
    """
    mid_us = shutter.mid_us
    if len(window.frames) != 1 and window.answers_us[0] <= mid_us < window.answers_us[1]:
        return -1.0
    middles_us = [frame.mid_us for frame in window.frames] or [sum(window.covered_us) / 2]
    return min(abs(middle_us - mid_us) for middle_us in middles_us)


def why_not(shutter: Shutter, covered_us: tuple[float, float], widest_us: float) -> str:
    """Say why no window answers a shutter.

    Args:
        shutter: that none covers.
        covered_us: (first, last) of all windows together.
        widest_us: what the widest of them covers.
    """
    asked = f"the shutter [{shutter.first_us:.0f}, {shutter.last_us:.0f}] us"
    if covered_us[0] > covered_us[1]:
        return f"{asked} is not covered: there is nothing to answer from"
    covers = f"[{covered_us[0]:.0f}, {covered_us[1]:.0f}]"
    if not (covered_us[0] <= shutter.first_us and shutter.last_us <= covered_us[1]):
        return f"{asked} is not covered; {covers} us can be asked for"
    width_us = shutter.last_us - shutter.first_us
    if width_us <= widest_us:
        return (
            f"{asked} is not covered by any one window, though {covers} us are by all: data are missing within it, or "
            "it lies across the ends of two windows. Ask for a part of it"
        )
    return (
        f"{asked} is not covered: with all its rows it is {width_us:.0f} us wide, and no window is wider than "
        f"{widest_us:.0f} us. Ask for parts of it, of {covers} us"
    )


class Answers:
    """Follows the windows of a recording and tells which shutters each should answer.

    The best window has the two frames around the shutter's middle. A window that merely covers it answers
    provisionally, the nearest frame first; a better one, passing later, answers again.
    """

    def __init__(self, wanted: list[Wanted], height: int) -> None:
        """Lay the shutters out for a sensor of `height` rows."""
        self._open = {item.line: (item, item.shutter(height)) for item in wanted}
        self._rank = dict.fromkeys(self._open, math.inf)
        self.covered_us = (math.inf, -math.inf)
        """(first, last) of all windows seen."""

    def of(self, window: ContentWindow) -> Iterator[tuple[Wanted, Shutter]]:
        """Yield what this window answers better than any before it."""
        first_us, last_us = window.covered_us
        self.covered_us = min(self.covered_us[0], first_us), max(self.covered_us[1], last_us)
        for line, (item, shutter) in list(self._open.items()):
            if not covers(window, shutter):
                if shutter.last_us < first_us and self._rank[line] < math.inf:
                    del self._open[line]
                continue
            new = rank(window, shutter)
            if new < self._rank[line]:
                self._rank[line] = new
                yield item, shutter
            if new < 0:
                del self._open[line]

    @property
    def unanswered(self) -> list[Wanted]:
        """The shutters that no window covered."""
        return [item for line, (item, _) in self._open.items() if self._rank[line] == math.inf]


def _parse(number: int, text: str) -> Wanted:
    try:
        value = json.loads(text)
    except json.JSONDecodeError as error:
        raise ValueError(f"no JSON: {error}") from error
    if not isinstance(value, dict):
        raise ValueError(f"a JSON object is expected, found {type(value).__name__}")
    missing = {"t_a_us", "t_b_us"} - value.keys()
    if missing:
        raise ValueError(f"{' and '.join(sorted(missing))} missing")
    unknown = value.keys() - _KEYS
    if unknown:
        raise ValueError(f"unknown key {sorted(unknown)[0]!r}; there are {', '.join(sorted(_KEYS))}")
    times = [value["t_a_us"], value["t_b_us"], value.get("row_delay_us", 0)]
    if any(isinstance(t, bool) or not isinstance(t, int | float) or not abs(t) <= _MOST_US for t in times):
        raise ValueError("t_a_us, t_b_us and row_delay_us must be numbers, microseconds that fit 63 bits")
    if value["t_b_us"] < value["t_a_us"]:
        raise ValueError(f"t_b_us = {value['t_b_us']} lies before t_a_us = {value['t_a_us']}")
    tag = value.get("tag", "")
    if not isinstance(tag, str):
        raise ValueError("tag must be a text")
    try:
        tag.encode()
    except UnicodeEncodeError as error:
        raise ValueError(f"tag = {tag!r} holds half a character, which no file can: {error.reason}") from error
    return Wanted(number, float(times[0]), float(times[1]), float(times[2]), tag)
