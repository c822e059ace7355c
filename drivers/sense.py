"""What the numbers of a file mean: what the file says, else what fits a camera, else a question. For all readers.

Files of events seldom say which column is which, in what unit their times are and which polarity is brighter. Each of
these is decided here, on the first piece of a file, in the same order: a setting, then the file's own words, then the
usual meaning where it makes sense, then the only other one that does. Where none or several do, reading is refused and
the setting named. What was decided, and why, is a `Found`, which `nire-live info` prints.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from drivers.packets.clock import CLAMP_US, LATEST_US
from drivers.source import Found, SourceInfo
from nire.errors import ConfigError, SourceError

TimeUnit = Literal["auto", "s", "ms", "us", "ns"]
Polarity = Literal["auto", "positive", "inverted"]
"""`positive`: a value above 0 is brighter; `inverted`: any other is."""
MICROSECONDS = {"s": 1e6, "ms": 1e3, "us": 1.0, "ns": 1e-3}
LONGEST_US = 2.0**62
"""A time beyond it is damage, and must still fit into 64 bits."""
GUESSED_SIZE = "not said: the largest coordinates"
"""Why a sensor has a size that no file says."""
LEAST_EXTENT = 0.75
"""Of one side of the images, at least, that the events of a whole recording use."""
EXPECTED_POLARITIES = (
    "expected 0 and 1, or -1 and 1; set source.settings.polarity to positive (above 0 is brighter) or inverted"
)
"""The end of a message about values that are none."""
LARGEST_PX = 4096
"""No event sensor has more columns or rows."""

_ENOUGH = 100  # events from which on a rate says something
_LEAST_HZ, _ODD_HZ = (
    1000.0,
    20.0,
)  # events a second of a whole sensor: below the first it is odd, below the second wrong
_MOST_HZ, _MOST_OF_A_PIXEL_HZ, _SMALL_HZ = 1e9, 1e4, 1e7
_FRAME_PERIOD_US, _ODD_FRAME_PERIOD_US = (100.0, 2e6), (50.0, 2e7)
_OVERLAP = 0.05  # of the distance of frames, by which two exposures may overlap by rounding
_LONGEST_EXPOSURE_US = 60e6
_LONGEST_RECORDING_US = 30 * 86_400e6
_YEARS_US = (1.1e15, 4.1e15)  # 2004 to 2099, since 1970
_BLOCKS = 8
_FEW_STEPS, _LATE_SHARE, _LONGEST_REACH_US = 3, 0.02, 1_000_000
_WRONG_SHARE = 0.01  # of the first values, that may be damage and tell nothing of what the others mean
_ROUND = 1e-9  # relative, of a whole number that went through a float
_SIZE = re.compile(r"(?:geometry|resolution|sensor|size|width)\D{0,12}?(\d{1,5})\s*(?:[x,; ]|height\W*)+\s*(\d{1,5})\b")
_UNIT_WORDS = {
    "s": r"seconds?|secs?|s",
    "ms": r"milliseconds?|msecs?|ms",
    "us": r"microseconds?|usecs?|us",
    "ns": r"nanoseconds?|nsecs?|ns",
}

_NAMES = {
    **dict.fromkeys(("t", "ts", "time", "timestamp", "timestamps", "tus", "timestampus"), "t"),
    **dict.fromkeys(("x", "xs", "col", "column"), "x"),
    **dict.fromkeys(("y", "ys", "row"), "y"),
    **dict.fromkeys(("p", "ps", "pol", "polarity", "polarities", "sign"), "p"),
}


class _Fit(IntEnum):
    """How well a meaning fits."""

    NO, ODD, GOOD = range(3)


@dataclass(frozen=True, slots=True)
class Times:
    """Times as a file has them, to tell their unit by.

    Attributes:
        events: float64 [N], of the first events in the order of the file; empty where only frames are judged.
        frames: float64 [M], of the first frames, in the same unit.
        last: of the last event; None where it is not known.
        count: events in the whole file, about; 0 = N.
        pixels: of the sensor, about.
        is_whole: the file writes whole numbers; None = told from the values.
    """

    events: NDArray[np.float64]
    frames: NDArray[np.float64] = field(default_factory=lambda: np.empty(0))
    last: float | None = None
    count: int = 0
    pixels: int = 1 << 18
    is_whole: bool | None = None


def check_choice(driver: str, name: str, value: str, choices: tuple[str, ...]) -> None:
    """Check a setting that is one of some words.

    Raises:
        ConfigError: it is another word; the message names driver, setting and choices.
    """
    if value not in choices:
        raise ConfigError(f"{driver}: {name} = {value!r}, expected {', '.join(map(repr, choices))}")


def check_meaning(driver: str, columns: str, time_unit: str, polarity: str, sort_us: int) -> None:
    """Check what a user says of the columns, the unit of times, the polarity and the order of events.

    Raises:
        ConfigError: one has no meaning; the message names driver, setting and choices.
    """
    if columns and sorted(columns) != ["p", "t", "x", "y"]:
        raise ConfigError(f"{driver}: columns = {columns!r}, expected the letters t, x, y, p in their order")
    check_choice(driver, "time_unit", time_unit, get_args(TimeUnit))
    check_choice(driver, "polarity", polarity, get_args(Polarity))
    if sort_us < -1:
        raise ConfigError(f"{driver}: sort_us = {sort_us}, expected microseconds, or -1 = as far as it is needed")


def find_unit(times: Times, setting: TimeUnit, *, path: object, said: str = "", usual: str = "") -> Found:
    """Tell the unit of times.

    Args:
        times: what is to be judged.
        setting: of the user.
        path: for the message.
        said: the unit that the file names, "" = none.
        usual: the unit to prefer; "" = fractions are seconds, whole numbers microseconds.

    Returns:
        What was found; `value` is s, ms, us or ns.

    Raises:
        SourceError: no unit, or several, fit a camera; the message names the setting.
    """
    if setting != "auto":
        return Found("unit of time", setting, "set by time_unit")
    if said:
        return Found("unit of time", said, "the file says so")
    if times.events.size >= _ENOUGH and times.events.min() == times.events.max() and not _span(times):
        raise SourceError(
            f"{path}: all of its events are dated {times.events[0]:.16g}: they were written with too few digits, or "
            "another column has them. To fix it, write them with all digits, or set source.settings.columns"
        )
    first = times.events if times.events.size else times.frames
    if not first.size:
        return Found("unit of time", usual or "us", "no time to judge by")
    whole = times.is_whole if times.is_whole is not None else bool((first == np.rint(first)).all())
    usual = usual or ("us" if whole else "s")
    fits = {unit: _fit(times, unit) for unit in MICROSECONDS}
    since_1970 = [
        unit for unit, us in MICROSECONDS.items() if _YEARS_US[0] < float(np.median(first)) * us < _YEARS_US[1]
    ]
    good = [unit for unit, fit in fits.items() if fit is _Fit.GOOD]
    if since_1970 and fits[since_1970[0]] is _Fit.GOOD:
        return Found("unit of time", since_1970[0], "the times are since 1970")
    kind = "whole numbers" if whole else "fractions"
    if usual in good or (fits[usual] is _Fit.ODD and not good):
        return Found("unit of time", usual, f"{kind}, and the rates fit a camera")
    if fits[usual] is _Fit.NO and len(good) == 1:
        return Found("unit of time", good[0], f"{_claim(times, usual)}: no camera; {_claim(times, good[0])} fits")
    raise SourceError(
        f"{path} does not tell the unit of its times: {'; '.join(_claim(times, unit) for unit in MICROSECONDS)}. "
        "To fix it, set source.settings.time_unit to s, ms, us or ns"
    )


def unit_in_words(text: str) -> str:
    """Find a unit that a comment names beside the time, as in `timestamp [us]` or `time (float s)`; "" where none."""
    found = re.search(r"\b(?:timestamps?|time|ts?)(?:\s*[\[(](?:\w+\s+)?|\s+in\s+|_)([a-z]+)", text.lower())
    word = found[1] if found else ""
    return next((unit for unit, words in _UNIT_WORDS.items() if re.fullmatch(words, word)), "")


def time_us(times: NDArray[Any], unit: str) -> NDArray[np.int64]:
    """Turn times of a unit into device time, int64 [N] us; beyond what a clock shows they are held at `LONGEST_US`."""
    if times.dtype.kind != "f" and unit in ("us", "ns"):
        whole = times.astype(np.int64)
        return whole if unit == "us" else whole // 1000
    with np.errstate(over="ignore"):
        us = np.nan_to_num(times.astype(np.float64) * MICROSECONDS[unit], nan=LONGEST_US)
    return np.rint(np.clip(us, -LONGEST_US, LONGEST_US)).astype(np.int64)


def check_extent(largest: tuple[int, int], size: tuple[int, int], count: int = _ENOUGH, *, path: object) -> None:
    """Refuse a sensor's size that is only that of its images, where all events lie in a corner of them.

    Args:
        largest: columns and rows that events use, from the first.
        size: width and height of the images.
        count: events that were looked at.
        path: for the message.

    Raises:
        SourceError: both sides are far smaller; the message names the settings.
    """
    if count >= _ENOUGH and all(used < LEAST_EXTENT * side for used, side in zip(largest, size, strict=True)):
        raise SourceError(
            f"{path} does not say the size of the sensor, its images are {size[0]} x {size[1]} pixels, its events use "
            f"{largest[0]} x {largest[1]}: frames and events must share one pixel grid. For two cameras use the driver "
            "hybrid; if it is one, set width and height in source.settings (in event_settings for a folder of images)"
        )


def is_size_guessed(info: SourceInfo) -> bool:
    """Tell whether a recording's sensor may be larger than it says."""
    return any(found.why == GUESSED_SIZE for found in info.found)


def whole_rows(columns: NDArray[np.float64], *, path: object) -> NDArray[np.float64]:
    """Leave out events of which a number is none: they tell nothing of what the others mean.

    Args:
        columns: float64 [4, N], of the first events.
        path: for the message.

    Raises:
        SourceError: they are most.
    """
    whole = np.isfinite(columns).all(axis=0)
    bad = int(np.count_nonzero(~whole))
    if 2 * bad > whole.size:
        raise SourceError(f"{path}: {bad} of its first {whole.size} events have NaN or infinity for a number")
    return columns[:, whole] if bad else columns


def find_order(
    columns: NDArray[np.float64],
    setting: str,
    *,
    path: object,
    said: str = "",
    usual: str = "txyp",
    size: tuple[int, int] | None = None,
) -> Found:
    """Tell which of four columns are t, x, y and p.

    Args:
        columns: float64 [4, N], of the first events; without what `whole_rows` leaves out.
        setting: of the user, as "xypt"; "" = not set.
        path: for the message.
        said: the order that the file names, "" = none.
        usual: the order to prefer where several fit.
        size: of the sensor, where known.

    Returns:
        What was found; `value` is the order as a word.

    Raises:
        SourceError: no order, or several, fit; the message names the setting.
    """
    if setting:
        return Found("columns", setting, "set by columns")
    if said:
        return Found("columns", said, "the file names them")
    fitting = [order for order in _orders(size) if _order_fits(columns, order, size)]
    if usual in fitting or (not fitting and _order_fits(columns, usual, size, with_reset=True)):
        return Found("columns", usual, "the usual order, and the values fit it")
    if len(fitting) == 1:
        return Found("columns", fitting[0], "the only order that the values fit")
    found = f"{' and '.join(fitting)} fit alike" if fitting else "none is a rising time beside x, y and a polarity"
    head = "; ".join(" ".join(f"{value:g}" for value in row) for row in columns[:, :2].T)
    raise SourceError(
        f"{path} does not tell the order of its columns ({head}; ...): {found}. To fix it, set source.settings.columns "
        'to the letters t, x, y, p in their order, as "xypt"'
    )


def find_polarity(p: NDArray[Any], setting: Polarity, *, path: object, hint: str = "") -> Found:
    """Tell which events are the brighter ones.

    Args:
        p: [N], of the first events.
        setting: of the user.
        path, hint: for the message; the hint says what else may be wrong.

    Raises:
        SourceError: more than 1 % of the values are no polarities; the message names the setting.
    """
    sound = are_polarities(p, setting)
    if np.count_nonzero(~sound) > _WRONG_SHARE * p.size:
        raise SourceError(f"{path}: {_no_polarities(p)}{hint}")
    if setting == "auto":
        return Found("polarity", "1 is brighter", f"the other value is {-1 if (p == -1).any() else 0}, as usual")
    return Found("polarity", "above 0 is " + ("brighter" if setting == "positive" else "darker"), "set by polarity")


def find_reach(t_us: NDArray[np.int64], setting: int, *, path: object) -> tuple[int, tuple[Found, ...]]:
    """Tell within which time events must be sorted.

    Args:
        t_us: int64 [N], of the first events, in the order of the file.
        setting: of the user, us; -1 = told from the times.
        path: for the message.

    Returns:
        The reach for `sorted_within`, us, 0 where they are in order but for single ones; and what was found.

    Raises:
        SourceError: they would have to be sorted over more than a second.
    """
    if setting >= 0:
        return setting, (Found("order of events", f"sorted within {setting} us", "set by sort_us"),)[: setting > 0]
    t_us = t_us[np.abs(t_us) <= LATEST_US]
    late_us = np.maximum.accumulate(t_us) - t_us if t_us.size else t_us
    late = int(np.count_nonzero(late_us > CLAMP_US))
    steps = int(np.count_nonzero(np.diff(t_us) < -CLAMP_US))
    if steps < _FEW_STEPS or late < _LATE_SHARE * t_us.size:
        return 0, ()
    # As single times may be wrong, the last per mille does not count.
    reach_us = 2 * int(np.percentile(late_us, 99.9))
    if reach_us > _LONGEST_REACH_US:
        raise SourceError(
            f"{path} is not in the order of time: {late} of its first {t_us.size} events come up to {reach_us // 2} us "
            "late. To fix it, sort the file by time, or set source.settings.sort_us to the microseconds within which "
            "to sort: so much of it is held in memory"
        )
    found = Found("order of events", f"sorted within {reach_us} us", f"{late} of the first {t_us.size} come late")
    return reach_us, (found,)


def order_in_words(text: str) -> str:
    """Find the order of columns in a line of names or a comment, as "txyp"; "" where it does not name all four."""
    letters = [_NAMES[word] for word in re.findall(r"[a-z]+", text.lower().replace("_", "")) if word in _NAMES]
    order = "".join(dict.fromkeys(letters))
    return order if len(order) == 4 else ""


def name_columns(names: Iterable[str]) -> tuple[str, str, str, str] | None:
    """Find the names of t, x, y, p among those of fields, arrays or datasets; None where one of them is missing."""
    known = {name: _NAMES.get(name.lower().replace("_", "")) for name in names}
    t, x, y, p = (min((n for n, letter in known.items() if letter == wanted), key=len, default="") for wanted in "txyp")
    return (t, x, y, p) if t and x and y and p else None


def size_in_words(text: str) -> tuple[int, int] | None:
    """Find a size in a comment, as `%geometry:640,480` or `# width 346 height 260`: (width, height) or None."""
    found = re.search(
        r"(?:geometry|resolution|sensor|size|width)\D{0,12}?(\d{1,5})\s*(?:[x,; ]|height\W*)+\s*(\d{1,5})\b",
        text.lower(),
    )
    size = (int(found[1]), int(found[2])) if found else (0, 0)
    return size if all(0 < side <= LARGEST_PX for side in size) else None


def brighter(p: NDArray[Any], meaning: Polarity) -> NDArray[np.uint8]:
    """Turn polarities into 1 brighter and 0 darker, uint8 [N].

    Args:
        p: [N]; under "auto" 0 and 1, or -1 and 1, of any type.
        meaning: of the user.

    Raises:
        ValueError: under "auto", other values; the message names the setting.
    """
    if not are_polarities(p, meaning).all():
        raise ValueError(_no_polarities(p))
    return (p > 0 if meaning != "inverted" else ~(p > 0)).astype(np.uint8)


def are_polarities(p: NDArray[Any], meaning: Polarity) -> NDArray[np.bool_]:
    """Tell of each value whether it is a polarity, bool [N]: under "auto" -1, 0 and 1 are, else all."""
    return (np.abs(p) == (p > 0)) | (p == -1) if meaning == "auto" else np.ones(p.shape, np.bool_)


def _no_polarities(p: NDArray[Any]) -> str:
    values = ", ".join(f"{value:g}" for value in np.unique(p)[:5].astype(float))
    return f"the polarities are {values}, {EXPECTED_POLARITIES}"


def are_exposures(starts: NDArray[np.float64], ends: NDArray[np.float64]) -> bool:
    """Tell whether pairs of times can be exposures: none ends before it starts or lasts beyond the next one's start."""
    lengths, distances = ends - starts, np.diff(starts)
    if not (lengths >= 0).all() or not (distances >= 0).all():
        return False
    slack = _OVERLAP * float(np.median(distances)) if distances.size else 0.0
    is_last_short = not distances.size or lengths[-1] <= 2 * distances.max()
    return bool((lengths[:-1] <= distances + slack).all() and is_last_short)


def check_exposures(starts_us: NDArray[np.int64], ends_us: NDArray[np.int64], *, path: object) -> None:
    """Refuse exposures that no camera makes.

    Raises:
        SourceError: one lasts longer than a minute; the message names the settings.
    """
    longest_us = int((ends_us - starts_us).max(initial=0))
    if longest_us > _LONGEST_EXPOSURE_US:
        raise SourceError(
            f"{path}: an exposure lasts {longest_us / 1e6:.3g} s, expected at most {_LONGEST_EXPOSURE_US / 1e6:g} s. "
            "To fix it, set source.settings.image_columns or time_unit"
        )


def coordinate(column: NDArray[Any]) -> NDArray[np.uint16]:
    """Turn a column into coordinates, uint16 [N]; what does not fit lies beyond any sensor: cleaning counts it."""
    if column.dtype == np.uint16:
        return np.ascontiguousarray(column)
    with np.errstate(invalid="ignore"):
        whole = np.where((column >= 0) & (column < 65535), column, 65535)
    return whole.astype(np.uint16)


def _fit(times: Times, unit: str) -> _Fit:
    return min(_fit_of_events(times, MICROSECONDS[unit]), _fit_of_frames(times, MICROSECONDS[unit]))


def _fit_of_events(times: Times, us: float) -> _Fit:
    rate_hz, span_us = _rate_hz(times, us), _span(times) * us
    if span_us > _LONGEST_RECORDING_US:
        return _Fit.NO
    if rate_hz is None:
        return _Fit.GOOD
    if max(times.count, times.events.size) < _ENOUGH:
        return _Fit.GOOD if rate_hz >= 1.0 or times.events.size < 10 else _Fit.NO
    most_hz = min(_MOST_HZ, max(_SMALL_HZ, _MOST_OF_A_PIXEL_HZ * times.pixels))
    if not _ODD_HZ <= rate_hz <= most_hz:
        return _Fit.NO
    return _Fit.GOOD if rate_hz >= _LEAST_HZ or len(times.frames) > 1 else _Fit.ODD


def _fit_of_frames(times: Times, us: float) -> _Fit:
    if len(times.frames) < 2:
        return _Fit.GOOD
    period_us = _period(times) * us
    for (low, high), fit in ((_FRAME_PERIOD_US, _Fit.GOOD), (_ODD_FRAME_PERIOD_US, _Fit.ODD)):
        if low <= period_us <= high:
            return fit
    return _Fit.NO


def _period(times: Times) -> float:
    """The usual distance of two frames, in the file's unit."""
    return float(np.median(np.abs(np.diff(times.frames))))


def _rate_hz(times: Times, us: float) -> float | None:
    """Events a second of the first piece, strays apart; of the file where that piece is one moment; None if unknown."""
    if times.events.size < 2:
        return None
    low, high = np.percentile(times.events, (1, 99))
    if high > low:
        # Where a clock begins again, the times that pass are fewer than those between its ends.
        passed = min(high - low, float(np.maximum(np.diff(times.events), 0).sum()) or high - low)
        return float(0.98 * times.events.size / (passed * us) * 1e6)
    span = _span(times)
    return max(times.count, times.events.size) / (span * us) * 1e6 if span > 0 else None


def _span(times: Times) -> float:
    if not times.events.size:
        return 0.0
    last = times.last if times.last is not None and np.isfinite(times.last) else float(times.events[-1])
    return last - float(times.events[0])


def _claim(times: Times, unit: str) -> str:
    """Say what a unit would mean."""
    us = MICROSECONDS[unit]
    if _fit_of_frames(times, us) is not _Fit.GOOD or (len(times.frames) > 1 and not times.events.size):
        return f"in {unit} it has {1e6 / max(1e-9, _period(times) * us):.3g} images a second"
    rate_hz = _rate_hz(times, us)
    if rate_hz is None:
        return f"in {unit} it lasts {_span(times) * us / 1e6:.3g} s"
    return f"in {unit} it has {rate_hz:.3g} events a second"


def _orders(size: tuple[int, int] | None) -> list[str]:
    """Orders of the four letters; y before x only where a size can tell."""
    orders = ("".join(letters) for letters in itertools.permutations("txyp"))
    return [order for order in orders if size is not None or order.index("x") < order.index("y")]


def _order_fits(
    columns: NDArray[np.float64], order: str, size: tuple[int, int] | None, *, with_reset: bool = False
) -> bool:
    t, x, y, p = (columns[order.index(letter)] for letter in "txyp")
    width, height = size or (LARGEST_PX, LARGEST_PX)
    on_sensor = all(
        ((axis == np.rint(axis)) & (axis >= 0)).all() and np.count_nonzero(axis >= side) <= axis.size // 100
        for axis, side in ((x, width), (y, height))
    )
    both_used = t.size < _ENOUGH or (np.ptp(x) > 0 and np.ptp(y) > 0)
    are_signs = np.count_nonzero(~np.isin(p, (-1, 0, 1))) <= _WRONG_SHARE * p.size
    if not (on_sensor and both_used and are_signs):
        return False
    return _is_reset(t, p) if with_reset else _rises(t)


def _is_reset(t: NDArray[np.float64], p: NDArray[np.float64]) -> bool:
    """Tell whether times rise but for few steps back, and events are not just sorted by polarity."""
    steps = np.diff(t)
    if t.size < _ENOUGH or np.count_nonzero(steps < 0) > _FEW_STEPS:
        return False
    at = int(np.argmin(steps)) + 1
    return all(np.ptp(part) > 0 for part in (p[:at], p[at:]) if part.size >= _ENOUGH)


def _rises(t: NDArray[np.float64]) -> bool:
    """Tell whether times rise on the whole, even if not from line to line."""
    if t.size < 2 * _BLOCKS:
        return bool(t[-1] >= t[0])
    middles = [float(np.median(block)) for block in np.array_split(t, _BLOCKS)]
    return middles == sorted(middles)
