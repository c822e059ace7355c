"""Images for a browser: JPEG for frames, a transparent PNG for events."""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from stream.display import Tone

_QUALITY = 90
# A preview is looked at, not measured: what is larger is made smaller before it is sent.
_MAX_WIDTH = 1280
COLOURS: Mapping[str, tuple[tuple[int, int, int], tuple[int, int, int]]] = {
    "red-blue": ((96, 92, 255), (255, 158, 82)),
    "orange-teal": ((72, 168, 250), (186, 190, 52)),
    "white-black": ((255, 255, 255), (0, 0, 0)),
}
"""Name -> colours of brighter and of darker, BGR. Orange and teal stay apart for eyes that confuse red and green."""


@dataclass(frozen=True, slots=True)
class Look:
    """How a browser wants images.

    Attributes:
        levelled: with automatic level and gamma; False = the values as they are.
        colours: of events, a key of `COLOURS`.
    """

    levelled: bool = True
    colours: str = "red-blue"


def encoded(kind: str, pixels: NDArray[Any] | bytes | None, look: Look, tone: Tone) -> bytes | None:
    """Make an image file for a browser.

    Args:
        kind: "exposed", "captured" or "events".
        pixels: uint8 [H, W, 1 or 3], or int8 [H, W, 1] for events; bytes are an image file already.
        look: what the browser wants.
        tone: makes frames visible where the look is levelled.

    Returns:
        JPEG, or PNG for events; None where the pixels are none that can be shown.
    """
    if pixels is None or isinstance(pixels, bytes):
        return pixels
    if kind == "events":
        if pixels.dtype != np.int8 or pixels.ndim != 3:
            return None
        colours = COLOURS.get(look.colours, COLOURS[Look().colours])
        image = _small(overlay(pixels[..., 0], colours), cv2.INTER_NEAREST)
        return _file(".png", image, cv2.IMWRITE_PNG_COMPRESSION, 1)
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] not in (1, 3):
        return None
    image = _small(np.ascontiguousarray(pixels if pixels.shape[2] == 1 else pixels[..., ::-1]), cv2.INTER_AREA)
    return _file(".jpg", tone.shown(image) if look.levelled else image, cv2.IMWRITE_JPEG_QUALITY, _QUALITY)


def png(pixels: NDArray[Any] | bytes | None) -> bytes | None:
    """Make a PNG of uint8 [H, W, 1 or 3] with the values as they are; None where it is no such image."""
    if not isinstance(pixels, np.ndarray) or pixels.dtype != np.uint8 or pixels.ndim != 3 or not pixels.size:
        return None
    image = pixels if pixels.shape[2] == 1 else np.ascontiguousarray(pixels[..., ::-1])
    return _file(".png", np.ascontiguousarray(image), cv2.IMWRITE_PNG_COMPRESSION, 1)


def envelope(head: Mapping[str, Any], parts: Sequence[tuple[Mapping[str, Any], bytes]]) -> bytes:
    """Join what travels to the browser: uint32 LE length of a JSON map, that map, image files one after another.

    Args:
        head: of the whole.
        parts: facts of each image and its file; they become `parts` of the map, with the `bytes` of each.
    """
    listed = [{**facts, "bytes": len(file)} for facts, file in parts]
    packed = json.dumps({**head, "parts": listed}).encode()
    return b"".join((struct.pack("<I", len(packed)), packed, *(file for _, file in parts)))


def facts(kind: str, header: Mapping[str, Any]) -> dict[str, Any]:
    """What a browser is told of an image: its kind, and of its header what the page shows."""
    keys = ("index", "shape", "t_a_us", "t_b_us", "row_delay_us", "tag", "events")
    return {"kind": kind} | {key: header[key] for key in keys if key in header}


def overlay(
    counts: NDArray[np.int8], colours: tuple[tuple[int, int, int], tuple[int, int, int]] = COLOURS["red-blue"]
) -> NDArray[np.uint8]:
    """Colour signed counts, clear where nothing happened.

    Args:
        counts: int8 [H, W].
        colours: BGR where it became brighter, and where darker.

    Returns:
        uint8 [H, W, 4], BGRA.
    """
    colour = np.zeros((*counts.shape, 4), np.uint8)
    colour[counts > 0, :3], colour[counts < 0, :3] = colours
    strength = np.minimum(np.abs(counts.astype(np.int16)), 3)
    colour[..., 3] = np.array([0, 150, 210, 245], np.uint8)[strength]
    return colour


def _small(image: NDArray[np.uint8], interpolation: int) -> NDArray[np.uint8]:
    height, width = image.shape[:2]
    if width <= _MAX_WIDTH:
        return image
    size = (_MAX_WIDTH, max(1, round(height * _MAX_WIDTH / width)))
    return np.asarray(cv2.resize(image, size, interpolation=interpolation), np.uint8)


def _file(suffix: str, image: NDArray[np.uint8], option: int, value: int) -> bytes | None:
    made, data = cv2.imencode(suffix, image, [option, value])
    return data.tobytes() if made else None
