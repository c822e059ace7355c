"""Writes small AEDAT4 files for tests: flatbuffers by hand, so that every dialect and every damage can be made."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from pathlib import Path

import lz4.frame
import numpy as np
import zstandard

MAGIC = b"#!AER-DAT4.0\r\n"
NONE, LZ4, ZSTD = 0, 1, 3
_DEPTHS = {"u1": 0, "u2": 2, "i2": 3, "f4": 5}  # OpenCV's
_XML = """<dv version="2.0"><node name="outInfo" path="/outInfo/">{}</node></dv>"""
_NODE = (
    '<node name="{number}" path="/outInfo/{number}/"><attr key="typeIdentifier" type="string">{kind}</attr>'
    '<node name="info" path="/outInfo/{number}/info/"><attr key="sizeX" type="int">{width}</attr>'
    '<attr key="sizeY" type="int">{height}</attr><attr key="source" type="string">{camera}</attr></node></node>'
)


def table(fields: dict[int, bytes], vectors: dict[int, tuple[int, bytes]], identifier: bytes) -> bytes:
    """A size-prefixed flatbuffer with one root table: scalars by field, vectors as (count, bytes)."""
    last = max([*fields, *vectors])
    order = sorted([*fields, *vectors], key=lambda n: -len(fields.get(n, b"0000")))
    inline, places = b"\0\0\0\0", {}
    for field in order:
        size = len(fields.get(field, b"0000"))
        inline += b"\0" * (-len(inline) % size)
        places[field] = len(inline)
        inline += fields.get(field, b"\0\0\0\0")
    vtable = struct.pack("<HH", 4 + 2 * (last + 1), len(inline))
    vtable += b"".join(struct.pack("<H", places.get(n, 0)) for n in range(last + 1))
    start = 8 + len(vtable) + (-(8 + len(vtable)) % 8)
    body = bytearray(struct.pack("<I4s", start, identifier) + vtable)
    body += b"\0" * (start - len(body))
    body += struct.pack("<i", start - 8) + inline[4:]
    for field, (count, data) in vectors.items():
        body += b"\0" * ((4 - len(body)) % 8)
        at = start + places[field]
        body[at : at + 4] = struct.pack("<I", len(body) - at)
        body += struct.pack("<I", count) + data
    return struct.pack("<I", len(body)) + bytes(body)


def event_packet(t_us: Sequence[int]) -> bytes:
    """EVTS: events walk over the columns of row 5, brighter and darker in turn."""
    events = np.zeros(len(t_us), np.dtype([("t", "<i8"), ("x", "<i2"), ("y", "<i2"), ("p", "u1"), ("_", "V3")]))
    events["t"] = t_us
    events["x"] = np.arange(len(t_us)) % 32
    events["y"] = 5
    events["p"] = np.arange(len(t_us)) % 2
    return table({}, {0: (len(t_us), events.tobytes())}, b"EVTS")


def frame_packet(
    pixels: np.ndarray,
    t_us: int,
    *,
    exposure: tuple[int, int] | None = None,
    length_us: int | None = None,
    at: tuple[int, int] | None = None,
) -> bytes:
    """FRME: in the dialect with start and end of exposure, in the one with a length, or with neither.

    `at` is the place of a region of interest. Pixels of uint8, uint16 or another type.
    """
    height, width = pixels.shape[:2]
    channels = 1 if pixels.ndim == 2 else pixels.shape[2]
    fields = {
        0: struct.pack("<q", t_us),
        5: struct.pack("<B", (channels - 1) << 3 | _DEPTHS[pixels.dtype.str[1:]]),
        6: struct.pack("<h", width),
        7: struct.pack("<h", height),
    }
    if exposure is not None:
        fields |= {3: struct.pack("<q", exposure[0]), 4: struct.pack("<q", exposure[1])}
    if length_us is not None:
        fields[11] = struct.pack("<q", length_us)
    if at is not None:
        fields |= {8: struct.pack("<h", at[0]), 9: struct.pack("<h", at[1])}
    return table(fields, {10: (pixels.nbytes, pixels.tobytes())}, b"FRME")


def write(
    path: Path,
    packets: Sequence[tuple[int, bytes]],
    *,
    compression: int = LZ4,
    kinds: Sequence[str] = ("EVTS", "FRME"),
    size: tuple[int, int] = (32, 24),
    cameras: Sequence[str] = (),
    finished: bool = True,
) -> list[int]:
    """Write (stream number, flatbuffer) packets; stream n is of `kinds[n]`, `cameras[n]`. Returns their positions."""
    names = cameras or ["TEST_1"] * len(kinds)
    nodes = [
        _NODE.format(number=n, kind=kind, width=size[0], height=size[1], camera=camera)
        for n, (kind, camera) in enumerate(zip(kinds, names, strict=True))
    ]
    xml = _XML.format("".join(nodes)).encode()
    pack = {NONE: bytes, LZ4: lz4.frame.compress, ZSTD: zstandard.ZstdCompressor().compress}[compression]

    def header(data_table: int) -> bytes:
        fields = {0: struct.pack("<i", compression), 1: struct.pack("<q", data_table)}
        return MAGIC + table(fields, {2: (len(xml), xml)}, b"IOHE")

    data, positions = header(-1), []
    for number, flat in packets:
        body = pack(flat)
        positions.append(len(data))
        data += struct.pack("<ii", number, len(body)) + body
    if finished:
        head = header(len(data))
        data = head + data[len(head) :] + pack(b"a data table that nobody reads")
    path.write_bytes(data)
    return positions
