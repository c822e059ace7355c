"""What a notebook shows of frames, shutters and events: a line, not arrays; and a picture of an image."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from nire.shutter import Shutter
from nire.types import EventBatch, ExposedFrame, Frame, Stamps

PIXELS = np.random.default_rng(0).integers(0, 255, (180, 240, 3), np.uint8)
FRAME = Frame(7, PIXELS, 1000, 11_000, row_delay_us=10.0)
EXPOSED = ExposedFrame(
    3, 1, PIXELS[..., :1], Shutter.instant(5000.0, 180), "upsample", Stamps(0, 0, 0, 0, 0), backend="edi"
)


@pytest.mark.parametrize(
    ("shown", "line"),
    [
        (FRAME, "Frame(7, 240 x 180 x 3, Shutter([1000, 11000] ... [2790, 12790] us, 180 rows))"),
        (EXPOSED, "ExposedFrame(upsample 3, 240 x 180, Shutter([5000, 5000] us, 180 rows), by edi)"),
        (Shutter(np.zeros((2, 3)), np.ones((2, 3))), "Shutter([0, 1] us, 3 x 2 pixels)"),
        (Shutter.instant(1_643_240_000_123_456.5, 2), "Shutter([1643240000123456.5, 1643240000123456.5] us, 2 rows)"),
        (EventBatch.empty(77), "EventBatch(0 events, until 77 us)"),
    ],
)
def test_line_that_is_shown(shown: object, line: str) -> None:
    assert repr(shown) == line


@pytest.mark.parametrize("frame", [FRAME, EXPOSED])
def test_picture_that_is_shown(frame: Frame | ExposedFrame) -> None:
    decoded = cv2.imdecode(np.frombuffer(frame._repr_png_(), np.uint8), cv2.IMREAD_UNCHANGED)
    pixels = decoded[..., ::-1] if decoded.ndim == 3 else decoded[..., None]
    np.testing.assert_array_equal(pixels, frame.pixels)
