"""The wire format: what is packed comes out again, the document's golden message decodes, damage is refused."""

from __future__ import annotations

import re
from pathlib import Path

import msgpack
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nire.errors import WireError
from nire.shutter import Shutter
from nire.types import ExposedFrame, Frame, Stamps
from stream.sockets import wire
from stream.sockets.event_image import EventImage

DOCUMENT = Path(__file__).parents[3] / "docs" / "wire-format.md"
FRAME = ExposedFrame(
    index=7,
    window=3,
    pixels=np.array([[0, 64], [128, 255]], np.uint8)[..., None],
    shutter=Shutter.rolling(10000.0, 12000.0, row_delay_us=10.0, height=2),
    tag="reshutter",
    stamps=Stamps(11010.0, 1000, 2000, 3000, 4000),
    evidence_us=12500.0,
    lost_events=5,
    lost_frames=1,
    backend="edi",
    engine="eager",
    unanswered=2,
    life=1,
)


def golden(number: int) -> bytes:
    blocks = re.findall(r"```hex\n(.*?)```", DOCUMENT.read_text(), re.DOTALL)
    return bytes.fromhex("".join(blocks[number].split()))


def test_golden_message_of_the_document_is_what_is_packed() -> None:
    assert wire.pack_frame(FRAME) == golden(0)


def test_golden_message_decodes_to_the_frame_that_the_document_describes() -> None:
    message = wire.unpack(golden(0))
    assert message.topic == "frame/reshutter"
    assert message.header["index"] == 7
    assert message.header["window"] == 3
    assert (message.header["t_a_us"], message.header["t_b_us"], message.header["row_delay_us"]) == (10000, 12000, 10)
    assert isinstance(message.pixels, np.ndarray)
    assert message.pixels[..., 0].tolist() == [[0, 64], [128, 255]]


def test_golden_request_is_the_status_command() -> None:
    assert msgpack.unpackb(golden(1)) == {"command": "status"}


def test_document_names_every_header_key() -> None:
    text = DOCUMENT.read_text()
    header = wire.frame_header(FRAME)
    assert [key for key in (*header, *header["stamps"]) if f"`{key}`" not in text] == []


def test_captured_frame_carries_its_own_shutter() -> None:
    frame = Frame(4, np.arange(24, dtype=np.uint8).reshape(2, 4, 3), 100, 300, row_delay_us=-2.0, received_ns=9)
    message = wire.unpack(wire.pack_captured(frame, 11))
    assert message.topic == "captured"
    assert (message.header["t_a_us"], message.header["t_b_us"], message.header["row_delay_us"]) == (100, 300, -2)
    assert message.header.keys() == wire.frame_header(FRAME).keys()
    assert isinstance(message.pixels, np.ndarray)
    assert (message.pixels == frame.pixels).all()


def test_event_image_keeps_its_signs() -> None:
    pixels = np.array([[[-3], [0], [127]]], np.int8)
    message = wire.unpack(wire.pack_events(EventImage(2, pixels, 10, 20, 130, 5), 6))
    assert message.topic == "events"
    assert message.header["events"] == 130
    assert isinstance(message.pixels, np.ndarray)
    assert message.pixels.dtype == np.int8
    assert message.pixels.ravel().tolist() == [-3, 0, 127]


def test_status_takes_numpy_values_and_has_no_pixels() -> None:
    message = wire.unpack(wire.pack_status({"a": np.float32(0.5), "b": np.int64(3), "c": np.array([1, 2])}))
    assert message.header == {"v": 1, "a": 0.5, "b": 3, "c": [1, 2]}
    assert message.pixels is None


def test_pixels_are_a_view_that_cannot_be_written() -> None:
    pixels = wire.unpack(wire.pack_frame(FRAME)).pixels
    assert isinstance(pixels, np.ndarray)
    with pytest.raises(ValueError, match="read-only"):
        pixels[0, 0] = 1


def test_jpeg_comes_out_as_the_bytes_of_its_file() -> None:
    header = wire.frame_header(FRAME) | {"encoding": "jpeg"}
    assert wire.unpack(wire.pack("frame/x", header, b"\xff\xd8 a jpeg")).pixels == b"\xff\xd8 a jpeg"


def test_pixels_that_are_not_contiguous_travel_in_row_order() -> None:
    turned = np.arange(12, dtype=np.uint8).reshape(3, 4, 1).transpose(1, 0, 2)
    message = wire.unpack(wire.pack_captured(Frame(0, turned, 0, 1), 0))
    assert isinstance(message.pixels, np.ndarray)
    assert (message.pixels == turned).all()


@given(
    st.sampled_from([1, 3]),
    st.integers(1, 9),
    st.integers(1, 9),
    st.floats(-1e15, 1e15),
    st.floats(0, 1e7),
    st.text("abcxyz0-_.", min_size=1, max_size=64),
    st.randoms(use_true_random=False),
)
def test_every_frame_comes_out_as_it_went_in(channels, height, width, start, wide, tag, random) -> None:  # type: ignore[no-untyped-def]
    pixels = np.frombuffer(random.randbytes(height * width * channels), np.uint8).reshape(height, width, channels)
    frame = ExposedFrame(1, 2, pixels, Shutter.flat(start, start + wide, height), tag, Stamps(start))
    message = wire.unpack(wire.pack_frame(frame))
    assert message.topic == f"frame/{tag}"
    assert message.header["t_a_us"] == start
    assert isinstance(message.pixels, np.ndarray)
    assert message.pixels.shape == pixels.shape
    assert (message.pixels == pixels).all()


@given(st.integers(0, 400), st.binary(max_size=12), st.booleans())
def test_damaged_message_is_a_wire_error_or_a_message_never_anything_else(at: int, junk: bytes, cut: bool) -> None:
    whole = wire.pack_frame(FRAME)
    damaged = whole[:at] + junk + (b"" if cut else whole[at + len(junk) :])
    try:
        message = wire.unpack(damaged)
    except WireError:
        return
    assert isinstance(message.header, dict)


@given(st.binary(max_size=300))
def test_foreign_bytes_are_a_wire_error(junk: bytes) -> None:
    with pytest.raises(WireError):
        wire.unpack(junk)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"v": 2}, "version 2"),
        ({"shape": [1 << 19, 1 << 19, 4]}, "needs"),
        ({"shape": [2, -2, 1]}, "no list of sizes"),
        ({"shape": "2x2"}, "shape"),
        ({"dtype": "object"}, "dtype"),
        ({"encoding": "webp"}, "encoding"),
        ({"index": "7"}, "index"),
        ({"stamps": None}, "stamps"),
        ({"t_a_us": float("nan")}, "finite"),
    ],
)
def test_impossible_header_is_refused_with_the_key_that_is_wrong(changes: dict[str, object], words: str) -> None:
    message = wire.pack("frame/x", wire.frame_header(FRAME) | changes, bytes(4))
    with pytest.raises(WireError, match=words):
        wire.unpack(message)


def test_missing_keys_are_named() -> None:
    header = wire.frame_header(FRAME)
    del header["t_b_us"], header["tag"]
    with pytest.raises(WireError, match="lacks t_b_us, tag"):
        wire.unpack(wire.pack("frame/x", header, bytes(4)))


@pytest.mark.parametrize("where", ["whole", "v", "index", "shape", "tag", "stamps"])
def test_deeply_nested_header_is_refused_in_few_words(where: str) -> None:
    deep = b"\x91" * 1000 + b"\x01"
    header = {key: value for key, value in wire.frame_header(FRAME).items() if key != where}
    packed = msgpack.packb(header)  # a map of 16 or more: its length is in two bytes
    head = deep if where == "whole" else b"\xde" + (len(header) + 1).to_bytes(2) + packed[3:]
    head = head if where == "whole" else head + msgpack.packb(where) + deep
    with pytest.raises(WireError, match=r"deep|no msgpack") as told:
        wire.unpack(b"frame/x\0" + len(head).to_bytes(4, "little") + head)
    assert len(str(told.value)) < 300
