"""Writes small videos for tests: MJPG in AVI, which OpenCV brings along everywhere."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import cv2
import numpy as np


def write(path: Path, images: Iterable[np.ndarray], *, rate_hz: float = 50.0) -> Path:
    """Write uint8 RGB images [H, W, 3] as a video; returns the path."""
    writer = None
    for image in images:
        if writer is None:
            size = (image.shape[1], image.shape[0])
            writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), rate_hz, size)
            assert writer.isOpened()
            writer.set(cv2.VIDEOWRITER_PROP_QUALITY, 100)
        writer.write(np.ascontiguousarray(image[..., ::-1]))
    assert writer is not None
    writer.release()
    return path


def flat(level: int, *, size: tuple[int, int] = (32, 24), count: int = 3) -> list[np.ndarray]:
    """Images of one gray level."""
    return [np.full((size[1], size[0], 3), level, np.uint8)] * count


def sliding(*, size: tuple[int, int] = (64, 48), count: int = 12) -> list[np.ndarray]:
    """A wave of light that moves a pixel from image to image."""
    columns = np.arange(size[0])
    waves = [128 + 80 * np.sin((columns - n) / 6) for n in range(count)]
    return [np.repeat(np.tile(wave, (size[1], 1))[..., None], 3, axis=2).round().astype(np.uint8) for wave in waves]
