"""Write small files in Prophesee's formats: RAW in EVT 2.0, 2.1 and 3.0, and DAT."""

from __future__ import annotations

import itertools
import struct
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

Event = tuple[int, int, int, int]
"""t_us, x, y, p."""
Edge = tuple[int, int, bool]
"""t_us, channel, rising."""

HEADERS = {
    "EVT2": b"% evt 2.0\n% format EVT2;height=48;width=64\n% end\n",
    "EVT21": b"% evt 2.1\n% format EVT21;endianness=little;height=48;width=64\n% end\n",
    "EVT21 legacy": b"% evt 2.1\n% format EVT21;endianness=legacy;height=48;width=64\n% end\n",
    "EVT3": b"% evt 3.0\n% format EVT3;height=48;width=64\n% geometry 64x48\n% end\n",
}


def raw(path: Path, encoding: str, events: Sequence[Event], edges: Sequence[Edge] = (), *, extra: bytes = b"") -> Path:
    """Write a RAW file of 64 x 48 pixels; `extra` is appended as it is."""
    path.write_bytes(HEADERS[encoding] + encoded(encoding, events, edges) + extra)
    return path


def encoded(encoding: str, events: Sequence[Event], edges: Sequence[Edge] = ()) -> bytes:
    """Encode events and edges, merged in time."""
    if encoding == "EVT3":
        return _evt3(events, edges)
    if encoding == "EVT2":
        return _evt2(events, edges)
    words = _evt21(events, edges)
    halves = words.view("<u4").reshape(-1, 2)
    return words.tobytes() if encoding == "EVT21" else halves[:, ::-1].tobytes()


def dat(
    path: Path, events: Sequence[Event], *, version: int = 2, kind: int = 0x0C, size: tuple[int, int] | None = (64, 48)
) -> Path:
    """Write a DAT file of events."""
    x_bits, y_bits, p_at = (14, 14, 28) if version == 2 else (9, 8, 17)
    header = f"% Data file containing CD events.\n% Version {version}\n"
    if size:
        header += f"% Width {size[0]}\n% Height {size[1]}\n"
    records = b"".join(
        struct.pack("<II", t % (1 << 32), x % (1 << x_bits) | (y % (1 << y_bits)) << x_bits | p << p_at)
        for t, x, y, p in events
    )
    path.write_bytes(header.encode() + bytes([kind, 8]) + records)
    return path


def dat_edges(path: Path, edges: Sequence[Edge]) -> Path:
    """Write a DAT file of trigger edges."""
    records = b"".join(struct.pack("<II", t, channel << 26 | rising) for t, channel, rising in edges)
    path.write_bytes(b"% Data file containing EXT_TRIGGER events.\n% Version 2\n" + bytes([0x0E, 8]) + records)
    return path


def words16(*words: int) -> bytes:
    """Words of EVT 3.0."""
    return np.array(words, "<u2").tobytes()


def words32(*words: int) -> bytes:
    """Words of EVT 2.0."""
    return np.array(words, "<u4").tobytes()


def sorted_events(count: int, *, seed: int = 1, first_us: int = 5000, step_us: int = 7) -> list[Event]:
    """Draw events on 64 x 48 pixels, some of them together in rows."""
    rng = np.random.default_rng(seed)
    events: list[Event] = []
    t_us = first_us
    while len(events) < count:
        t_us += int(rng.integers(0, step_us))
        y, p, x = int(rng.integers(48)), int(rng.integers(2)), int(rng.integers(64))
        row = np.flatnonzero(rng.random(64 - x) < 0.3) + x if rng.random() < 0.5 else np.array([x])
        events += [(t_us, int(column), y, p) for column in row]
    return events[:count]


def _merged(events: Sequence[Event], edges: Sequence[Edge]) -> Iterable[tuple[int, bool, tuple[int, ...]]]:
    """Both, by time, events first: (time, is an edge, the rest)."""
    both = [(e[0], False, tuple(e[1:])) for e in events] + [(g[0], True, (g[1], int(g[2]))) for g in edges]
    return sorted(both, key=lambda item: (item[0], item[1]))


def _evt2(events: Sequence[Event], edges: Sequence[Edge]) -> bytes:
    words, high = [], -1
    for t, is_edge, rest in _merged(events, edges):
        if t >> 6 != high:
            high = t >> 6
            words.append(0x8 << 28 | high & 0xFFFFFFF)
        low = (t & 0x3F) << 22
        if is_edge:
            words.append(0xA << 28 | low | rest[0] << 8 | rest[1])
        else:
            words.append(rest[2] << 28 | low | rest[0] << 11 | rest[1])
    return words32(*words)


def _evt21(events: Sequence[Event], edges: Sequence[Edge]) -> np.ndarray:
    words, high = [], -1
    items = _merged(events, edges)
    for (t, is_edge, y, p, x0), group in itertools.groupby(items, _vector_of(32)):
        if t >> 6 != high:
            high = t >> 6
            words.append((0x8 << 28 | high & 0xFFFFFFF) << 32)
        low = (t & 0x3F) << 22
        if is_edge:
            words += [(0xA << 28 | low | rest[0] << 8 | rest[1]) << 32 for _, _, rest in group]
            continue
        for run in _rising([rest[0] for _, _, rest in group]):
            mask = sum(1 << (x - x0) for x in run)
            words.append((p << 28 | low | x0 << 11 | y) << 32 | mask)
    return np.array(words, "<u8")


def _evt3(events: Sequence[Event], edges: Sequence[Edge]) -> bytes:
    words, high, low, row = [], -1, -1, -1
    for (t, is_edge, y, p, x0), group in itertools.groupby(_merged(events, edges), _vector_of(8)):
        if t >> 12 != high:
            high, low = t >> 12, -1
            words.append(0x8000 | high & 0xFFF)
        if t & 0xFFF != low:
            low = t & 0xFFF
            words.append(0x6000 | low)
        if is_edge:
            words += [0xA000 | rest[0] << 8 | rest[1] for _, _, rest in group]
            continue
        if y != row:
            row = y
            words.append(y)
        for run in _rising([rest[0] for _, _, rest in group]):
            if len(run) == 1:
                words.append(0x2000 | p << 11 | run[0])
            else:
                words += [0x3000 | p << 11 | x0, 0x5000 | sum(1 << (x - x0) for x in run)]
    return words16(*words)


def _vector_of(width: int):  # type: ignore[no-untyped-def]
    """Key of the vector that an item fits: time, edge, row, polarity, first column."""

    def key(item: tuple[int, bool, tuple[int, ...]]) -> tuple[int, bool, int, int, int]:
        t, is_edge, rest = item
        return (t, True, 0, 0, 0) if is_edge else (t, False, rest[1], rest[2], rest[0] // width * width)

    return key


def _rising(columns: list[int]) -> list[list[int]]:
    """Split where columns do not rise: a vector holds each once, in order."""
    runs: list[list[int]] = []
    for x in columns:
        if runs and x > runs[-1][-1]:
            runs[-1].append(x)
        else:
            runs.append([x])
    return runs
