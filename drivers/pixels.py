"""Pixels of a file become uint8 [H, W, 1] or RGB: how many bits of 16 they use, and in which order colours stand."""

from __future__ import annotations

import re
from typing import Any, Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from drivers.source import Found
from nire.errors import ConfigError, SourceError

Colours = Literal["auto", "rgb", "bgr"]
BITS = (0, 8, 10, 12, 14, 16)
"""What the setting `bits` may be; 0 = told from the largest value."""

_LARGEST_FRACTION = 1.0


def check_bits(driver: str, bits: int) -> None:
    """Check the setting `bits`.

    Raises:
        ConfigError: it is none of `BITS`.
    """
    if bits not in BITS:
        raise ConfigError(f"{driver}: bits = {bits!r}, expected one of {', '.join(map(str, BITS))} (0 = by the values)")


class Depth:
    """How the values of a recording's images become 8 bits: decided once for all of them.

    A converter of 10 bits may leave its values low in 16 bits or shifted to the top; files do not say which. The
    largest value of the first images tells: below 1024 they are 10 bits, and so on.
    """

    def __init__(self, bits: int = 0) -> None:
        """Begin.

        Args:
            bits: that hold values, as set; 0 = told from the largest value.
        """
        self._is_set = bits > 0
        self._bits = bits
        self._largest = 0.0
        self._seen = ""  # kind of the type of values that are not uint8
        self._odd = ""  # a type that is not read
        self._is_decided = False

    @property
    def found(self) -> tuple[Found, ...]:
        """What was found; nothing where all images have 8 bits."""
        if not self._seen:
            return ()
        if self._seen == "f":
            return (Found("values of pixels", f"0 to {self._largest:g}", "by the largest of the first images"),)
        why = "set by bits" if self._is_set else f"the largest value of the first images is {self._largest:g}"
        return (Found("bits of pixels", f"{self._bits} of 16", why),)

    def see(self, image: NDArray[Any]) -> None:
        """Look at one of the first images, before any is turned."""
        if image.dtype != np.uint8 and image.size:
            self._seen = image.dtype.kind
            if image.dtype != np.uint16 and image.dtype.kind != "f":
                self._odd = str(image.dtype)
            largest = float(np.nan_to_num(image).max()) if image.dtype.kind == "f" else float(image.max())
            self._largest = max(self._largest, largest)

    def decide(self, *, path: object) -> None:
        """Decide by the images that were seen.

        Raises:
            SourceError: their values do not tell, the message names the setting; or they are of a type that is not
                read.
        """
        if self._odd:
            raise SourceError(_not_read(path, self._odd))
        self._is_decided = bool(self._seen)
        if self._seen == "f":
            self._largest = _LARGEST_FRACTION if self._largest <= _LARGEST_FRACTION else 255.0
        elif self._seen and not self._is_set:
            if self._largest < 256:
                raise SourceError(
                    f"{path}: its images have 16 bits a pixel and no value above {self._largest:g}: they may be dark, "
                    f"or use 8 bits. To fix it, set source.settings.bits to {', '.join(map(str, BITS[1:]))}"
                )
            self._bits = next((bits for bits in BITS[1:] if self._largest < 1 << bits), 16)

    def to_8(self, image: NDArray[Any], *, path: object) -> NDArray[np.uint8]:
        """Turn an image into 8 bits a value; one of 8 bits is passed on.

        Args:
            image: [...] of uint8, uint16 or a float type.
            path: for messages.

        Raises:
            SourceError: another type, or a value beyond what the first images led to expect.
        """
        if image.dtype == np.uint8:
            return image
        if image.dtype != np.uint16 and image.dtype.kind != "f":
            raise SourceError(_not_read(path, image.dtype))
        if not self._is_decided:
            self.see(image)
            self.decide(path=path)
        if image.dtype.kind == "f":
            return np.rint(np.nan_to_num(np.clip(image, 0, self._largest)) * (255 / self._largest)).astype(np.uint8)
        if int(image.max(initial=0)) >> self._bits:
            raise SourceError(
                f"{path}: an image has the value {int(image.max())}, more than the {self._bits} bits that "
                f"{'are set' if self._is_set else 'the first images use'}. To fix it, set source.settings.bits to "
                f"{', '.join(map(str, BITS[1:]))}"
            )
        return (image >> (self._bits - 8)).astype(np.uint8)


def _not_read(path: object, kind: object) -> str:
    return f"{path} has images of {kind}; uint8, uint16 and fractions can be read"


def colours_in_words(text: str) -> Literal["rgb", "bgr", ""]:
    """Find the order of colours that a file names, as "color_bgr" or "rgb8"; "" where it names none."""
    found = re.search(r"(?:^|[^a-z]|color|colour)(rgb|bgr)", text.lower())
    return ("bgr" if found[1] == "bgr" else "rgb") if found else ""


def as_rgb(image: NDArray[np.uint8], colours: Literal["rgb", "bgr"]) -> NDArray[np.uint8]:
    """Bring an image into the shape of frames.

    Args:
        image: uint8 [H, W], or [H, W, C] of 1, 3 or 4 channels; a fourth channel is left out.
        colours: their order.

    Returns:
        uint8 [H, W, 1] or [H, W, 3] RGB, contiguous.

    Raises:
        ValueError: another shape.
    """
    if image.ndim == 2:
        return np.ascontiguousarray(image[..., None])
    if image.ndim != 3 or image.shape[2] not in (1, 3, 4) or not image.size:
        raise ValueError(f"an image is {image.shape}, expected [H, W] or [H, W, C] of 1, 3 or 4 channels")
    if image.shape[2] == 1:
        return np.ascontiguousarray(image)
    plain = np.ascontiguousarray(image[..., :3])
    return np.asarray(cv2.cvtColor(plain, cv2.COLOR_BGR2RGB), np.uint8) if colours == "bgr" else plain


def in_place(image: NDArray[np.uint8], at: tuple[int, int], size: tuple[int, int]) -> NDArray[np.uint8]:
    """Put a region of interest where it lies on the sensor; the rest is 0.

    Args:
        image: uint8 [h, w, C].
        at: column and row of its first pixel.
        size: width and height of the sensor.

    Returns:
        uint8 [H, W, C]; the image itself where it does not fit, which cleaning refuses.
    """
    (x, y), (height, width) = at, image.shape[:2]
    if (width, height) == size or x < 0 or y < 0 or x + width > size[0] or y + height > size[1]:
        return image
    whole = np.zeros((size[1], size[0], image.shape[2]), np.uint8)
    whole[y : y + height, x : x + width] = image
    return whole
