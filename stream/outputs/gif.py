"""A short film that any page shows, `video.gif`."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from nire.types import ExposedFrame
from stream.disk import PART, writing
from stream.display import Tone
from stream.outputs.video import Pace

FILES = ("video.gif",)
_MOST = 300
"""Images that are kept: of a longer run every second, fourth, ... one, so that the film stays as long as it is."""
_SHORTEST_CS = 2  # players show what is quicker at a tenth of its speed


def create(out: Path, *, in_order: bool, fps: float | None = None, plain: bool = False) -> Gif:
    """Write into the run's folder; the order of frames does not matter, they are kept until the end."""
    return Gif(out / FILES[0], fps, None if plain else Tone())


class Gif:
    """Written when the run ends; gray images keep all their levels, colour is reduced to 256 an image."""

    def __init__(self, path: Path, fps: float | None = None, tone: Tone | None = None) -> None:
        """Prepare; as `Video`."""
        self._path = path
        self._tone = tone
        self._pace = Pace(fps)
        self._images: dict[int, tuple[Image.Image, float]] = {}
        self._stride = 1

    def write(self, frame: ExposedFrame, *, index: int) -> None:
        """Take an exposed frame; the last of an index counts."""
        if index % self._stride:
            return
        pixels, t_us = frame.pixels, frame.shutter.mid_us
        if self._tone is not None:
            self._tone.learn(pixels, t_us)
            pixels = self._tone.shown(pixels)
        self._images[index] = _reduced(pixels), t_us
        if len(self._images) > _MOST:
            self._stride *= 2
            self._images = {index: image for index, image in self._images.items() if index % self._stride == 0}

    def summary(self) -> str:
        """Tell what was written, and how fast it is shown."""
        if not self._images:
            return f"no image, so no {self._path}"
        every = "" if self._stride == 1 else f" (one of {self._stride})"
        return f"{len(self._images)} images{every} in {self._path}, {self._pace.text()}"

    def __enter__(self) -> Self:
        """Begin."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Write the file, unless something has gone wrong."""
        if kind is not None or not self._images:
            return
        if self._pace.rate_hz is not None:
            self._pace.rate_hz /= self._stride
        first, *others = (self._images[index][0] for index in sorted(self._images))
        for index in sorted(self._images):
            self._pace.add(self._images[index][1])
        delay_cs = max(_SHORTEST_CS, round(100 / self._pace.settle()))
        self._pace.rate_hz = 100 / delay_cs
        part = self._path.with_name(self._path.name + PART)
        with writing(self._path):
            first.save(part, "GIF", save_all=True, append_images=others, duration=10 * delay_cs, loop=0)
            part.replace(self._path)


def _reduced(pixels: NDArray[np.uint8]) -> Image.Image:
    """Make an image of at most 256 colours of uint8 [H, W, C]."""
    if pixels.shape[2] == 1:
        return Image.fromarray(np.ascontiguousarray(pixels[..., 0]))
    return Image.fromarray(np.ascontiguousarray(pixels)).quantize(256)
