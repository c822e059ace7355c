"""The golden messages of the wire: what they hold, and the bytes, which lie in `tests/golden/wire`.

Readers and writers in any language pass them byte for byte. `python -m tests.golden.messages` writes the files anew.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgpack
import numpy as np

from nire.shutter import Shutter
from nire.types import ExposedFrame, Frame, Stamps
from nire.wall_time import WallTime
from stream.sockets import wire
from stream.sockets.event_image import EventImage

FOLDER = Path(__file__).parent / "wire"
WALL_NS = 1_700_000_000_123_456_789


def published() -> dict[str, bytes]:
    """Messages of the publishing socket: name of the file -> bytes."""
    gray = np.array([[0, 64], [128, 255]], np.uint8)[..., None]
    colour = np.arange(18, dtype=np.uint8).reshape(2, 3, 3)
    shutter = Shutter.rolling(10_000.0, 12_000.0, row_delay_us=10.0, height=2)
    stamps = Stamps(11_010.0, 1000, 2000, 3000, 4000)
    plain = ExposedFrame(7, 3, gray, shutter, "reshutter", stamps, "linear", 12_500.0, 5, 1, 0, 0, "edi", "")
    far = ExposedFrame(
        2**40,
        2**33,
        colour,
        Shutter.instant(1.7e15 + 0.25, 2),
        "a-b.c_9",
        Stamps(1.7e15 + 0.25, 2**62, 2**62 + 1, 2**62 + 2, 2**62 + 3),
        "srgb",
        1.7e15,
        200,
        70_000,
        2**32,
        0,
        "neural",
        "openvino",
        WALL_NS,
        512.5,
    )
    taken = Frame(300, gray, 0, 20_000, row_delay_us=-1.5, received_ns=65_536)
    events = EventImage(3, np.array([[[-128], [-1]], [[0], [127]]], np.int8), 0, 10_000, 255, 9)
    captured = wire.pack_captured(taken, 70_000, WallTime(WALL_NS, 20_000.0))
    compressed = wire.unpack(captured).header | {"encoding": "jpeg"}
    edges = [-1, -33, -129, -32_769, -(2**31) - 1, 127, 128, 255, 256, 65_535, 65_536, 2**32, 2**63]
    status = {"state": "running", "covered_us": None, "live": True, "rates": {"exposed": 400.0}, "edges": edges}
    return {
        "frame": wire.pack_frame(plain),
        "frame_wall_time": wire.pack_frame(far),
        "captured": captured,
        "events": wire.pack_events(events, 10),
        "jpeg": wire.pack("captured", compressed, b"\xff\xd8"),
        "status": wire.pack_status(status | {"text": "µs", "long": "x" * 300}),
    }


def requests() -> dict[str, bytes]:
    """Requests and answers of the control socket: name of the file -> bytes."""
    asked: dict[str, dict[str, Any]] = {
        "ask_status": {"command": "status"},
        "ask_expose": {"command": "expose", "t_us": 5.0, "for_us": 2000.0, "row_delay_us": 0.0},
        "ask_expose_wall": {"command": "expose", "wall_ns": WALL_NS, "for_us": 0.0, "row_delay_us": 0.0},
        "ask_plan": {"command": "set_plan", "plan": {"name": "upsample", "rate_hz": 800}},
        "answer_expose": {"ok": True, "index": 4, "topic": "frame/expose", "t_a_us": 5.0, "wall_ns": WALL_NS},
        "answer_not_covered": {"ok": False, "error": "not_covered", "hint": "later", "covered_us": [1.0, 2.5]},
    }
    return {name: msgpack.packb(fields) for name, fields in asked.items()}


def damaged() -> dict[str, bytes]:
    """Published messages that every reader refuses: name of the file -> bytes."""
    whole = published()["frame"]
    start = whole.index(b"\0") + 5
    header = wire.unpack(whole).header
    return {
        "no_topic": b"x" * 300,
        "ends_in_length": whole[: start - 2],
        "ends_in_header": whole[: start + 40],
        "header_is_too_long": whole[: start - 4] + b"\xff\xff\xff\x7f" + whole[start:],
        "version_2": wire.pack("frame/a", header | {"v": 2}, bytes(4)),
        "pixels_are_missing": whole[:-1],
        "shape_of_zero": wire.pack("frame/a", header | {"shape": [0, 2, 1]}, b""),
        "unknown_dtype": wire.pack("frame/a", header | {"dtype": "object"}, bytes(4)),
        "unknown_encoding": wire.pack("frame/a", header | {"encoding": "zip"}, bytes(4)),
        "shutter_is_not_finite": wire.pack("frame/a", header | {"t_a_us": float("nan")}, bytes(4)),
        "nested": b"a\0" + (40).to_bytes(4, "little") + b"\x91" * 39 + b"\xc0",
    }


def write() -> None:
    """Write all files."""
    for folder, made in (("published", published()), ("requests", requests()), ("damaged", damaged())):
        (FOLDER / folder).mkdir(parents=True, exist_ok=True)
        for name, data in made.items():
            (FOLDER / folder / f"{name}.bin").write_bytes(data)


if __name__ == "__main__":
    write()
