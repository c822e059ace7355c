"""Images for a browser: JPEG for frames, a transparent PNG for events."""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from stream.sockets.wire import Message

_QUALITY = 90
# A preview is looked at, not measured: what is larger is made smaller before it is sent.
_MAX_WIDTH = 1280
_BRIGHTER_BGR = (96, 92, 255)
_DARKER_BGR = (255, 158, 82)


def picture(kind: str, message: Message) -> bytes | None:
    """Make what travels to the browser: uint32 LE length of a JSON map, that map, the image file.

    Args:
        kind: "exposed", "captured" or "events".
        message: with uint8 [H, W, 1 or 3] pixels, or int8 [H, W, 1] for events.

    Returns:
        None where the message has no image that can be shown.
    """
    image = _encode(kind, message.pixels)
    if image is None:
        return None
    head = json.dumps({"kind": kind, **_facts(message.header)}).encode()
    return struct.pack("<I", len(head)) + head + image


def overlay(counts: NDArray[np.int8]) -> NDArray[np.uint8]:
    """Colour signed counts: red where it became brighter, blue where darker, clear where nothing happened.

    Args:
        counts: int8 [H, W].

    Returns:
        uint8 [H, W, 4], BGRA.
    """
    colour = np.zeros((*counts.shape, 4), np.uint8)
    colour[counts > 0, :3] = _BRIGHTER_BGR
    colour[counts < 0, :3] = _DARKER_BGR
    strength = np.minimum(np.abs(counts.astype(np.int16)), 3)
    colour[..., 3] = np.array([0, 150, 210, 245], np.uint8)[strength]
    return colour


def _facts(header: Mapping[str, Any]) -> dict[str, Any]:
    keys = ("index", "shape", "t_a_us", "t_b_us", "row_delay_us", "tag", "events")
    return {key: header[key] for key in keys if key in header}


def _encode(kind: str, pixels: NDArray[Any] | bytes | None) -> bytes | None:
    if pixels is None or isinstance(pixels, bytes):
        return pixels
    if kind == "events":
        if pixels.dtype != np.int8 or pixels.ndim != 3:
            return None
        return _file(".png", _small(overlay(pixels[..., 0]), cv2.INTER_NEAREST), cv2.IMWRITE_PNG_COMPRESSION, 1)
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] not in (1, 3):
        return None
    image = np.ascontiguousarray(pixels if pixels.shape[2] == 1 else pixels[..., ::-1])
    return _file(".jpg", _small(image, cv2.INTER_AREA), cv2.IMWRITE_JPEG_QUALITY, _QUALITY)


def _small(image: NDArray[np.uint8], interpolation: int) -> NDArray[np.uint8]:
    height, width = image.shape[:2]
    if width <= _MAX_WIDTH:
        return image
    size = (_MAX_WIDTH, max(1, round(height * _MAX_WIDTH / width)))
    return np.asarray(cv2.resize(image, size, interpolation=interpolation), np.uint8)


def _file(suffix: str, image: NDArray[np.uint8], option: int, value: int) -> bytes | None:
    made, data = cv2.imencode(suffix, image, [option, value])
    return data.tobytes() if made else None
