"""Files of events for benchmarks: an HD sensor's, in Prophesee's encodings and as text."""

from __future__ import annotations

from pathlib import Path

import numpy as np

WIDTH, HEIGHT = 1280, 720
_GROUPS_PER_EDGE = 8
_GROUP_WORDS = 10  # time high, time low, y, base, three vectors, y, two single events
_HEADERS = {
    "evt3": b"% evt 3.0\n% format EVT3;height=720;width=1280\n% geometry 1280x720\n% end\n",
    "evt2": b"% evt 2.0\n% format EVT2;height=720;width=1280\n% geometry 1280x720\n% end\n",
    "dat": b"% Data file containing CD events.\n% Version 2\n% Height 720\n% Width 1280\n\x0c\x08",
}


def write_evt3(path: Path, *, seconds: float, rate_meps: float, edges: bool = False) -> None:
    """Write vectors and single events of EVT 3.0.

    Args:
        path: of the file; bits are the same in each run.
        seconds: how long it is, device time.
        rate_meps: M events a second, on average.
        edges: an edge of the trigger input for every 80 events, as a camera has with a signal of 1 kHz.
    """
    rng = np.random.default_rng(1)
    per_group = 2 + 32 / 4  # two single events, and a quarter of the bits of 12, 12 and 8
    groups = int(seconds * rate_meps * 1e6 / per_group)
    t_us = np.arange(groups) * (seconds * 1e6 / groups)
    ticks = t_us.astype(np.int64)
    masks = rng.integers(0, 1 << 32, groups, np.uint32) & rng.integers(0, 1 << 32, groups, np.uint32)
    words = np.empty((groups, _GROUP_WORDS), np.uint16)
    words[:, 0] = 0x8000 | (ticks >> 12) & 0xFFF
    words[:, 1] = 0x6000 | ticks & 0xFFF
    words[:, 2] = rng.integers(0, HEIGHT, groups)
    words[:, 3] = 0x3000 | rng.integers(0, 2, groups) << 11 | rng.integers(0, WIDTH - 32, groups)
    words[:, 4] = 0x4000 | masks & 0xFFF
    words[:, 5] = 0x4000 | masks >> 12 & 0xFFF
    words[:, 6] = 0x5000 | masks >> 24
    words[:, 7] = rng.integers(0, HEIGHT, groups)
    for column in (8, 9):
        words[:, column] = 0x2000 | rng.integers(0, 2, groups) << 11 | rng.integers(0, WIDTH, groups)
    if edges:
        turns = words[: groups // _GROUPS_PER_EDGE * _GROUPS_PER_EDGE].reshape(-1, _GROUPS_PER_EDGE * _GROUP_WORDS)
        words = np.insert(turns, 0, 0xA000 | np.arange(len(turns)) & 1, axis=1)
        words[:, :3] = words[:, [1, 2, 0]]  # the edge after the time
    with open(path, "wb") as file:
        file.write(_HEADERS["evt3"])
        words.tofile(file)


def _places(count: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(2)
    t_us = np.arange(count, dtype=np.int64) // 30
    return t_us, rng.integers(0, WIDTH, count), rng.integers(0, HEIGHT, count), rng.integers(0, 2, count)


def write_evt2(path: Path, count: int) -> None:
    """Write single events of EVT 2.0, 30 a microsecond."""
    t_us, x, y, p = _places(count)
    words = (p << 28 | (t_us & 0x3F) << 22 | x << 11 | y).astype(np.uint32)
    first = np.flatnonzero(np.diff(t_us >> 6, prepend=-1))  # of each time high
    path.write_bytes(
        _HEADERS["evt2"] + np.insert(words, first, 0x80000000 | (t_us[first] >> 6)).astype("<u4").tobytes()
    )


def write_dat(path: Path, count: int) -> None:
    """Write events of DAT version 2, 30 a microsecond."""
    t_us, x, y, p = _places(count)
    records = np.stack([t_us, p << 28 | y << 14 | x], axis=1).astype("<u4")
    path.write_bytes(_HEADERS["dat"] + records.tobytes())


def write_text(path: Path, count: int) -> None:
    """Write a line with the size, then lines `t x y p`, 30 events a microsecond, their time in seconds."""
    t_us, x, y, p = _places(count)
    rows = zip(*(column.tolist() for column in (t_us // 1_000_000, t_us % 1_000_000, x, y, p)), strict=True)
    path.write_text(f"{WIDTH} {HEIGHT}\n" + "".join(f"{s}.{us:06d} {x} {y} {p}\n" for s, us, x, y, p in rows))
