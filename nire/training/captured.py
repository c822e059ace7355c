"""Blurry frames that a set brings along, and which of its sharp frames each is the mean of (layout of GoPro)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

import numpy as np
from numpy.typing import NDArray

from nire.errors import ConfigError
from nire.light import ENCODE_STEPS, decode_table, encode_table
from nire.training.pictures import read_pixels
from nire.training.sequences import Sequence, images_in
from nire.types import Transfer

USUAL = 11
"""Frames that a blurry one averages where its folder's name does not tell: those of all GoPro's test sequences."""
# GOPR0372_07_00: camera's file, frames in an average, clip.
_NAMED = re.compile(r"_(\d+)_\d+$")
# Mean squared differences in levels: what rounding explains, and what a camera's own curve in place of sRGB's does.
_ROUNDING, _FITTING = 1.0, 25.0


@dataclass(frozen=True, slots=True)
class Captured:
    """Blurry frames of a sequence.

    Attributes:
        averaged: sharp frames that each is the mean of, odd.
        middles: each one's file, by the index of the sharp frame in the middle.
    """

    averaged: int
    middles: dict[int, Path]


def find_captured(sequence: Sequence, name: str) -> Captured:
    """Find the blurry frames of a sequence.

    They lie in a folder of that name beside `sharp`, each for the sharp frame of its own name (or of its place in the
    order, if there are as many). Where all frames lie around both folders, as when GOPRO_Large is put into
    GOPRO_Large_all, `sharp` has one frame for each blurry one, which is looked for among them.

    Args:
        sequence: of sharp frames.
        name: "blur" or "blur_gamma".

    Raises:
        ConfigError: there are none, or it cannot be told which sharp frames they belong to.
    """
    place = sequence.frames[0].parent
    home = place.parent if place.name == "sharp" else place
    blurry = images_in(home / name)
    if not blurry:
        raise ConfigError(f"{home / name}: holds no image; choose another --blur, made for instance")
    named = _NAMED.search(home.name)
    averaged = int(named[1]) if named else USUAL
    if averaged < 3 or averaged % 2 == 0:
        raise ConfigError(
            f"{home}: its name tells that blurry frames average {averaged} sharp ones; expected an odd number from 3 on"
        )
    if place is home:
        return Captured(averaged, _spread(sequence, blurry, images_in(home / "sharp"), averaged))
    index = {path.stem: k for k, path in enumerate(sequence.frames)}
    if all(path.stem in index for path in blurry):
        return Captured(averaged, {index[path.stem]: path for path in blurry})
    if len(blurry) != len(sequence.frames):
        raise ConfigError(
            f"{home / name}: {len(blurry)} images for {len(sequence.frames)} in {place}; expected images of the same "
            "names, or as many"
        )
    return Captured(averaged, dict(enumerate(blurry)))


def _spread(sequence: Sequence, blurry: tuple[Path, ...], sharp: tuple[Path, ...], averaged: int) -> dict[int, Path]:
    """Find the first pair's sharp frame among all; the others follow, `averaged` frames apart."""
    home = sequence.frames[0].parent
    if len(sharp) != len(blurry):
        raise ConfigError(
            f"{home}: {len(blurry)} blurry frames, but {len(sharp)} in {home / 'sharp'}; put the folders blur and "
            "sharp of GOPRO_Large into those of GOPRO_Large_all"
        )
    wanted = read_pixels(sharp[0])
    for first, path in enumerate(sequence.frames[:averaged]):
        if np.array_equal(read_pixels(path), wanted):
            return {first + k * averaged: path for k, path in enumerate(blurry)}
    raise ConfigError(f"{sharp[0]}: is none of the first {averaged} frames of {home}; take both from the same sequence")


def fitting_transfer(path: Path, blurry: NDArray[np.uint8], frames: NDArray[np.uint8]) -> Transfer:
    """Tell of which light a blurry frame is the mean: GoPro has means of pixel values, and of what gamma encodes.

    Args:
        path: of the blurry frame, for what is said if it does not fit.
        blurry: uint8 [H, W, 3].
        frames: uint8 [n, H, W, 3], sharp, that it averages.

    Raises:
        ConfigError: it is neither; or the frame in the middle alone is nearer to it.
    """
    errors = {}
    for transfer in get_args(Transfer):
        light = decode_table(transfer)[frames].mean(0)
        errors[transfer] = _error(encode_table(transfer)[np.rint(light * ENCODE_STEPS).astype(np.intp)], blurry)
    best: Transfer = min(errors, key=errors.__getitem__)
    alone = _error(frames[len(frames) // 2], blurry)
    if errors[best] > min(_FITTING, alone + _ROUNDING):
        raise ConfigError(
            f"{path}: is not the mean of the {len(frames)} sharp frames around it ({errors[best] ** 0.5:.1f} levels "
            "off). GOPRO_Large has one sharp frame for each blurry one only; put its folders blur and sharp into those "
            "of GOPRO_Large_all, which has all frames"
        )
    return best


def _error(image: NDArray[np.uint8], truth: NDArray[np.uint8]) -> float:
    return float(np.mean((image.astype(np.float32) - truth) ** 2))
