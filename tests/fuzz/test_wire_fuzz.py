"""Damaged and foreign messages: a message or a WireError, and no memory beyond the message's own."""

from __future__ import annotations

import tracemalloc
from typing import Any

import msgpack
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from nire.errors import WireError
from nire.shutter import Shutter
from nire.types import ExposedFrame, Stamps
from stream.sockets import wire
from tests.fuzz.damage import EXAMPLES, damaged

FRAME = ExposedFrame(
    index=7,
    window=3,
    pixels=np.arange(48, dtype=np.uint8).reshape(6, 8, 1),
    shutter=Shutter.rolling(10000.0, 12000.0, row_delay_us=10.0, height=6),
    tag="upsample",
    stamps=Stamps(11010.0, 1000, 2000, 3000, 4000),
)
MESSAGE = wire.pack_frame(FRAME)
HEADER = wire.frame_header(FRAME)
MOST_BYTES = 4 << 20
"""Stated bound for messages of a few kilobytes."""

ANY = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(1 << 63), (1 << 64) - 1)
    | st.floats()
    | st.text(max_size=9)
    | st.binary(max_size=9),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=6), inner, max_size=4),
    max_leaves=8,
)


def unpacked(message: bytes) -> wire.Message | None:
    tracemalloc.start()
    try:
        found = wire.unpack(message)
    except WireError:
        return None
    finally:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < MOST_BYTES
    assert isinstance(found.header, dict)
    if isinstance(found.pixels, np.ndarray):
        assert list(found.pixels.shape) == found.header["shape"]
        assert found.pixels.dtype.name == found.header["dtype"]
    return found


@settings(max_examples=5 * EXAMPLES)
@given(damaged(MESSAGE))
def test_damaged_message_is_a_message_or_a_wire_error(message: bytes) -> None:
    unpacked(message)


@settings(max_examples=2 * EXAMPLES)
@given(st.binary(max_size=400))
def test_foreign_bytes_are_a_wire_error(message: bytes) -> None:
    unpacked(message)
    unpacked(b"frame/x\0" + message)


@settings(max_examples=5 * EXAMPLES)
@given(st.sampled_from(sorted(HEADER)), ANY, st.binary(max_size=64))
def test_header_with_any_value_under_any_key_is_a_message_or_a_wire_error(key: str, value: Any, pixels: bytes) -> None:
    unpacked(wire.pack("frame/upsample", {**HEADER, key: value}, pixels))
    unpacked(wire.pack("frame/upsample", {**HEADER, key: value}, MESSAGE[-48:]))


@settings(max_examples=EXAMPLES)
@given(ANY)
def test_header_of_any_kind_is_a_message_or_a_wire_error(header: Any) -> None:
    head = msgpack.packb(header)
    unpacked(b"status\0" + len(head).to_bytes(4, "little") + head)


def test_deeply_nested_header_is_a_wire_error() -> None:
    head = b"\x91" * 100_000 + b"\xc0"
    assert unpacked(b"status\0" + len(head).to_bytes(4, "little") + head) is None
