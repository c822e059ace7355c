"""The bank of pictures that scenes are rendered from: tiles of natural images, and things with soft masks."""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from nire.errors import ConfigError
from nire.light import LUMA, decode_table
from nire.types import Transfer

Gray = NDArray[np.float32]
Part = Literal["train", "held_out"]
IMAGE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp"})
# One image of so many is held out from training.
_HELD_OUT_OF = 6


@dataclass(frozen=True, slots=True, eq=False)
class Bank:
    """Pictures on the device, as square roots of linear light in 8 bits: finer in the dark than linear ones.

    Attributes:
        tiles: uint8 [P, S, S], backgrounds; S is 2.5 crops.
        sprites: uint8 [K, 2, s, s], light times cover, and the square root of cover; s is 1.5 crops.
    """

    tiles: Tensor
    sprites: Tensor


def find_images(folder: Path, part: Part | None = None) -> list[Path]:
    """List the images below a folder, of one side of the split by the hash of their file names.

    Raises:
        ConfigError: there is no such folder, or no image of that part in it.
    """
    if not folder.is_dir():
        raise ConfigError(f"{folder}: there is no such folder; name one with images by --images DIR")
    paths = sorted(p for p in folder.rglob("*") if p.suffix.lower() in IMAGE_SUFFIXES and p.is_file())
    if not paths:
        raise ConfigError(f"{folder}: holds no image; expected files like {', '.join(sorted(IMAGE_SUFFIXES))}")
    chosen = [p for p in paths if part is None or (part == "held_out") == is_held_out(p)]
    if not chosen:
        raise ConfigError(
            f"{folder}: none of its {len(paths)} images belongs to the part {part!r} (the split is by the hash of the "
            f"file name, one of {_HELD_OUT_OF} is held out); add images"
        )
    return chosen


def is_held_out(path: Path) -> bool:
    """Tell whether an image is never trained on: one of six, by the SHA-256 of its name up to the last "_".

    Crops of one photograph, named `name_0`, `name_1`, fall on the same side.
    """
    name = path.stem.rpartition("_")[0] or path.stem
    return hashlib.sha256(name.encode()).digest()[0] % _HELD_OUT_OF == 0


def read_pixels(path: Path) -> NDArray[np.uint8]:
    """Read an image: uint8 [H, W, 3], RGB.

    Raises:
        ConfigError: the file cannot be read as an image.
    """
    pixels = cv2.imread(str(path), cv2.IMREAD_COLOR)
    if pixels is None:
        raise ConfigError(f"{path}: cannot be read as an image; remove it or convert it to PNG")
    return np.asarray(pixels[..., ::-1], np.uint8)


def read_light(path: Path) -> Gray:
    """Read an image as linear luma: float32 [H, W], 0..1; raises as `read_pixels`."""
    return luma_of(read_pixels(path), "srgb")


def luma_of(pixels: NDArray[np.uint8], transfer: Transfer) -> Gray:
    """Turn pixels [..., 3], RGB, into linear luma: float32 [...], 0..1."""
    return np.asarray(decode_table(transfer)[pixels] @ LUMA / np.float32(255), np.float32)


def make_bank(
    paths: list[Path], *, crop_px: int, tiles: int, sprites: int, seed: int, device: torch.device | str = "cpu"
) -> Bank:
    """Cut and draw a bank; the same arguments give the same bank.

    Args:
        paths: of images.
        crop_px: of the windows to render.
        tiles, sprites: how many.
        seed: of everything random.
        device: holds the bank.

    Raises:
        ConfigError: an image cannot be read.
    """
    rng = np.random.default_rng([seed, 50])
    tile_px, sprite_px = 2 * round(1.25 * crop_px), 2 * round(0.75 * crop_px)
    cut = np.empty((tiles, tile_px, tile_px), np.uint8)
    order = rng.permutation(len(paths))
    # Image by image, so that each is decoded once and only one is in memory.
    for k, image in enumerate(order[: min(len(order), tiles)]):
        light = read_light(paths[image])
        for place in range(k, tiles, len(order)):
            cut[place] = _encoded(_tile(light, tile_px, rng))
    drawn = np.stack([_sprite(cut, sprite_px, rng) for _ in range(sprites)])
    return Bank(torch.from_numpy(cut).to(device), torch.from_numpy(drawn).to(device))


def _encoded(light: Gray) -> NDArray[np.uint8]:
    return np.rint(255 * np.sqrt(np.clip(light, 0, 1))).astype(np.uint8)


def _tile(light: Gray, size_px: int, rng: np.random.Generator) -> NDArray[np.float32]:
    """Cut a square of random scale: from the whole image, reduced, to its own pixels."""
    height, width = light.shape
    shorter = min(height, width)
    side = min(shorter, max(1, round(size_px * math.exp(rng.uniform(0.1, math.log(3.0))))))
    y, x = rng.integers(0, height - side + 1), rng.integers(0, width - side + 1)
    cut = light[y : y + side, x : x + side]
    way = cv2.INTER_AREA if side >= size_px else cv2.INTER_CUBIC
    return np.ascontiguousarray(cv2.resize(cut, (size_px, size_px), interpolation=way), np.float32)


def _sprite(tiles: NDArray[np.uint8], size_px: int, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Draw one thing, 3 times too large and then reduced: uint8 [2, s, s]."""
    large = 3 * size_px
    # In pixels of the large drawing: things from a fifth of a crop to more than one.
    extent = large * math.exp(rng.uniform(math.log(0.14), math.log(0.46)))
    kind = rng.choice(["picture", "picture", "plain", "pattern", "pattern", "text", "wires"])
    cover = np.zeros((large, large), np.float32)
    light = np.full((large, large), math.exp(rng.normal(math.log(0.25), 0.8)), np.float32)
    if kind == "wires":
        _wires(cover, extent, rng)
    else:
        _outline(cover, extent, rng)
    if kind == "picture":
        tile = tiles[rng.integers(len(tiles))].astype(np.float32) / 255
        light = cv2.resize(tile * tile, (large, large), interpolation=cv2.INTER_LINEAR)
    elif kind == "pattern":
        light = _pattern(large, rng)
    elif kind == "text":
        _text(light, extent, rng)
    light, cover = (cv2.resize(a, (size_px, size_px), interpolation=cv2.INTER_AREA) for a in (light, cover))
    # Softness of the edge: the lens's, or out of focus.
    cover = cv2.GaussianBlur(cover, (0, 0), math.exp(rng.uniform(math.log(0.4), math.log(1.6))))
    light = cv2.GaussianBlur(light, (0, 0), 0.5)
    # Nothing may touch the tile's border, beyond which there is nothing.
    cover[:2], cover[-2:], cover[:, :2], cover[:, -2:] = 0, 0, 0, 0
    return np.stack([_encoded(light * cover), _encoded(cover)])


def _outline(cover: Gray, extent: float, rng: np.random.Generator) -> None:
    """Fill an ellipse, a box, a polygon or a smooth blob."""
    middle = cover.shape[0] / 2
    count = int(rng.choice([4, 5, 7, 64, 64]))
    angles = 2 * math.pi * (np.arange(count) + rng.uniform(-0.2, 0.2, count) * (count < 10)) / count
    radii = np.full(count, extent)
    if count == 64:
        for k in range(2, 6):
            radii += extent * rng.normal(0, 0.28 / k) * np.cos(k * angles + rng.uniform(0, 2 * math.pi))
    else:
        radii *= rng.uniform(0.6, 1.0, count)
    squeeze = np.array([1.0, rng.uniform(0.35, 1.0)])
    corners = middle + radii[:, None] * np.stack([np.cos(angles), np.sin(angles)], 1) * squeeze
    cv2.fillPoly(cover, [np.rint(corners).astype(np.int32)], (1.0,), cv2.LINE_AA)
    if rng.random() < 0.25:  # a hole to look through
        cv2.circle(cover, (int(middle), int(middle)), max(1, int(extent * rng.uniform(0.15, 0.4))), (0.0,), -1)


def _wires(cover: Gray, extent: float, rng: np.random.Generator) -> None:
    """Thin structures: a fan, a fence, a net; one to three pixels wide once reduced."""
    middle = cover.shape[0] / 2
    width = int(rng.integers(3, 10))
    lines = int(rng.integers(1, 9))
    fan = rng.random() < 0.5
    for k in range(lines):
        angle = math.pi * k / lines if fan else 0.0
        shift = 0.0 if fan else extent * (2 * (k + 0.5) / lines - 1)
        along = np.array([math.cos(angle), math.sin(angle)]) * extent
        across = np.array([-math.sin(angle), math.cos(angle)]) * shift
        start, end = middle + across - along, middle + across + along
        cv2.line(
            cover, tuple(np.rint(start).astype(int).tolist()), tuple(np.rint(end).astype(int).tolist()), 1.0, width
        )


def _pattern(size: int, rng: np.random.Generator) -> Gray:
    """Repetitive texture: stripes, bars of hard edges, checks; periods of 3 to 24 pixels once reduced."""
    period = 3 * math.exp(rng.uniform(math.log(3), math.log(24)))
    y, x = np.mgrid[:size, :size].astype(np.float32)
    first, second = np.sin(2 * math.pi * x / period), np.sin(2 * math.pi * y / period)
    wave = [first, np.sign(first), np.sign(first * second), first * second][int(rng.integers(4))]
    middle, depth = math.exp(rng.normal(math.log(0.25), 0.6)), rng.uniform(0.2, 0.95)
    return (middle * (1 + depth * wave)).astype(np.float32)


def _text(light: Gray, extent: float, rng: np.random.Generator) -> None:
    letters = "".join(rng.choice(list("ABCDEFGHKLMNPRSTUXYZabdeghkmnrst0123456789"), 14))
    ink = float(light[0, 0]) * (6.0 if rng.random() < 0.5 else 0.12)
    page = np.zeros(light.shape, np.uint8)  # OpenCV 5 writes on 8 bits only
    scale = extent / 60 * rng.uniform(0.4, 1.2)
    middle = light.shape[0] / 2
    thick = max(1, round(scale * rng.uniform(1.5, 4)))
    for row in range(-3, 4):
        place = (int(middle - extent), int(middle + row * 34 * scale))
        cv2.putText(page, letters[row + 3 :], place, cv2.FONT_HERSHEY_SIMPLEX, scale, (255,), thick, cv2.LINE_AA)
    written = page.astype(np.float32) / 255
    light += written * (ink - light)
