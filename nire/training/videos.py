"""Videos as slow-motion cameras would have filmed them: the squares that move most, for evaluation on real footage."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from nire.errors import ConfigError
from nire.light import LUMA, decode_table

Light = NDArray[np.float32]
VIDEO_SUFFIXES = frozenset({".avi", ".mkv", ".mov", ".mp4", ".webm"})
WIDTH_PX = 346
"""Wider videos are reduced to this, the width of a DAVIS346, so that little moves far from frame to frame."""
FASTEST_PX = 3.0
"""What moves faster from frame to frame is a cross-fade rather than motion: slower squares are preferred."""
# Of the pixels, so many are not faster; the rest are noise of the optical flow as often as things.
_SLOWER_SHARE = 0.95


@dataclass(frozen=True, slots=True, eq=False)
class Stretch:
    """A square of consecutive frames.

    Attributes:
        light: float32 [n, S, S], linear, 0..1.
        change: mean absolute difference from frame to frame, levels of the square root of light.
        speed_px: 95 % of its pixels move no faster, pixels a frame (optical flow).
    """

    light: Light
    change: float
    speed_px: float


def find_videos(folder: Path) -> list[Path]:
    """List the videos of a folder, by name.

    Raises:
        ConfigError: there is no such folder, or no video in it.
    """
    if not folder.is_dir():
        raise ConfigError(f"{folder}: there is no such folder; name a folder of videos")
    paths = sorted(p for p in folder.iterdir() if p.suffix.lower() in VIDEO_SUFFIXES and p.is_file())
    if not paths:
        raise ConfigError(f"{folder}: holds no video; expected files like {', '.join(sorted(VIDEO_SUFFIXES))}")
    return paths


def read_stretches(path: Path, *, frames: int, crop_px: int, most: int) -> list[Stretch]:
    """Cut a video into stretches that share their ends, each to the square that changes most, and keep the liveliest.

    Args:
        path: of the video; it is read once, from its beginning.
        frames: of a stretch.
        crop_px: S, height and width of a square.
        most: stretches to keep at most.

    Returns:
        Those no faster than `FASTEST_PX` first, and the more a square changes the earlier.

    Raises:
        ConfigError: the video cannot be read, is too short or too small.
    """
    kept: list[Stretch] = []
    held: list[Light] = []
    count = 0
    for light in _reduced(path, crop_px):
        count += 1
        held.append(light)
        if len(held) == frames:
            kept.append(_liveliest_square(np.stack(held), crop_px))
            kept = sorted(kept, key=lambda s: (s.speed_px > FASTEST_PX, -s.change))[:most]
            held = held[-1:]
    if count < frames:
        raise ConfigError(f"{path}: has {count} frame(s); at least {frames} are needed. Remove it or name a longer one")
    return kept


def _reduced(path: Path, crop_px: int) -> Iterator[Light]:
    """Yield the frames as linear luma, at most `WIDTH_PX` wide; light is what is averaged, as a larger pixel would."""
    capture = cv2.VideoCapture(str(path))
    to_light = decode_table("srgb")
    size: tuple[int, int] | None = None
    try:
        while True:
            decoded, pixels = capture.read()
            if not decoded:
                break
            height, width = pixels.shape[:2]
            size = (min(width, WIDTH_PX), round(height * min(1.0, WIDTH_PX / width)))
            if min(size) < crop_px:
                raise ConfigError(
                    f"{path}: is {size[0]} x {size[1]} once reduced; at least {crop_px} each way is needed"
                )
            light: Light = to_light[pixels[..., ::-1]] @ (LUMA / 255)
            yield cv2.resize(light, size, interpolation=cv2.INTER_AREA)
    finally:
        capture.release()
    if size is None:
        raise ConfigError(f"{path}: cannot be read as a video; remove it or convert it to MP4")


def _liveliest_square(light: Light, crop_px: int) -> Stretch:
    """Cut the square that changes most out of frames [n, H, W]; encoded, so that bright places do not win always."""
    levels = 255 * np.sqrt(light)
    changes = np.abs(np.diff(levels, axis=0)).mean(0, dtype=np.float64)
    sums = np.pad(changes, ((1, 0), (1, 0))).cumsum(0).cumsum(1)
    inside = (
        sums[crop_px:, crop_px:] - sums[:-crop_px, crop_px:] - sums[crop_px:, :-crop_px] + sums[:-crop_px, :-crop_px]
    )
    y, x = np.unravel_index(int(inside.argmax()), inside.shape)
    square = (slice(None), slice(y, y + crop_px), slice(x, x + crop_px))
    return Stretch(
        np.ascontiguousarray(light[square]),
        change=float(inside.max()) / crop_px**2,
        speed_px=_speed_px(np.rint(levels[square]).astype(np.uint8)),
    )


def _speed_px(levels: NDArray[np.uint8]) -> float:
    flow = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    moved = [np.linalg.norm(flow.calc(a, b, None), axis=-1) for a, b in itertools.pairwise(levels)]
    return float(np.quantile(np.stack(moved), _SLOWER_SHARE))
