"""Folders of sharp frames, as high-speed cameras leave them, as light: for evaluation on sets like GoPro or Gev-RS."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from nire.errors import ConfigError
from nire.training.pictures import IMAGE_SUFFIXES, luma_of, read_pixels
from nire.training.scenes import Scenes, draw_window_us

# What sets keep beside consecutive sharp frames: GoPro averages, Gev-RS rolling frames.
_NOT_SHARP = frozenset({"blur", "blur_gamma", "rs_sharp", "rs_blur"})
# Nodes between two frames, so that events of fast things do not all fall on the frames' own times.
_NODES_PER_FRAME = 8
CROP_FRAMES = (7, 17)
"""Fewest and most frames of a window to train on."""


@dataclass(frozen=True, slots=True)
class Sequence:
    """One shot.

    Attributes:
        name: its folder below the set's.
        frames: in order of their names.
    """

    name: str
    frames: tuple[Path, ...]


def find_sequences(folder: Path, *, least: int, part: str = "test") -> list[Sequence]:
    """Find every folder of frames below `folder`, itself included; where it has a folder `part`, only below that.

    GoPro's layouts (`test/NAME/*.png`, `test/NAME/sharp/*.png`) and Gev-RS's (`test/NAME/*.png`) are read as they are:
    what the sets keep beside the frames (`blur`, `rs_sharp`, ...) is left out, and so are `sharp` where the folder
    around it holds all frames, and `gt` beside `rs_blur`.

    Args:
        folder: of the set.
        part: "test" or "train".
        least: frames that one window needs; shorter sequences are left out if there are longer ones.

    Raises:
        ConfigError: no such folder, no image in it, or no sequence that is long enough.
    """
    if not folder.is_dir():
        raise ConfigError(f"{folder}: there is no such folder; name the folder of a set of sharp frames")
    root = folder / part if (folder / part).is_dir() else folder
    found = []
    for place in sorted({root, *(p for p in root.rglob("*") if p.is_dir())}):
        frames = images_in(place)
        if frames and place.name not in _NOT_SHARP and not _is_chosen(place):
            found.append(Sequence(place.relative_to(folder).as_posix(), frames))
    if not found:
        raise ConfigError(f"{root}: holds no image; expected folders of frames ({', '.join(sorted(IMAGE_SUFFIXES))})")
    long = [sequence for sequence in found if len(sequence.frames) >= least]
    if not long:
        longest = max(found, key=lambda sequence: len(sequence.frames))
        raise ConfigError(
            f"{root}: its longest sequence, {longest.name!r}, has {len(longest.frames)} frame(s); a window needs at "
            f"least {least} consecutive ones"
        )
    return long


def _is_chosen(place: Path) -> bool:
    """Tell single frames, one for each blurry or rolling one, from consecutive ones."""
    beside = place.parent
    return (place.name == "sharp" and bool(images_in(beside))) or (place.name == "gt" and (beside / "rs_blur").is_dir())


def images_in(folder: Path) -> tuple[Path, ...]:
    """List the images of a folder in order of their names; none where there is no such folder."""
    if not folder.is_dir():
        return ()
    return tuple(sorted(p for p in folder.iterdir() if p.suffix.lower() in IMAGE_SUFFIXES and p.is_file()))


def read_frames(paths: tuple[Path, ...]) -> NDArray[np.uint8]:
    """Read frames: uint8 [n, H, W, 3], RGB.

    Raises:
        ConfigError: a frame cannot be read or has another size than the first.
    """
    frames: list[NDArray[np.uint8]] = []
    for path in paths:
        pixels = read_pixels(path)
        if frames and pixels.shape != frames[0].shape:
            raise ConfigError(
                f"{path}: is {pixels.shape[1]} x {pixels.shape[0]}, but {paths[0].name} is "
                f"{frames[0].shape[1]} x {frames[0].shape[0]}; frames of one sequence must have one size"
            )
        frames.append(pixels)
    return np.stack(frames)


def read_window(sequence: Sequence, first: int, count: int, *, frame_us: float) -> Scenes:
    """Read some frames as one window of light, linear between them.

    Args:
        sequence: the shot.
        first: index of the first frame.
        count: frames, at least 2; the window reaches from the first to the last.
        frame_us: time between frames.

    Returns:
        One window, on the CPU; each frame is a node, and there are seven between two.

    Raises:
        ConfigError: a frame cannot be read or has another size than the first.
    """
    pixels = read_frames(sequence.frames[first : first + count])
    return light_between(np.stack([luma_of(frame, "srgb") for frame in pixels]), frame_us=frame_us)


def light_between(frames: NDArray[np.float32], *, frame_us: float) -> Scenes:
    """Make sharp frames one window of light, linear between them.

    Args:
        frames: float32 [n, H, W], linear light, n at least 2; the window reaches from the first to the last.
        frame_us: time between frames.

    Returns:
        One window, on the CPU; each frame is a node, and there are seven between two.
    """
    stacked = torch.from_numpy(frames)
    share = torch.arange(_NODES_PER_FRAME).view(-1, 1, 1) / _NODES_PER_FRAME
    between = stacked[:-1, None] * (1 - share) + stacked[1:, None] * share
    light_nodes = torch.cat([between.flatten(0, 1), stacked[-1:]])[None]
    return Scenes(light_nodes, torch.tensor([frame_us * (len(frames) - 1)]))


def read_crops(
    sequences: tuple[Sequence, ...], rng: np.random.Generator, *, batch: int, crop_px: int, steps: int
) -> Scenes:
    """Cut windows to train on out of one place of one sequence, so that its frames are read once for all of them.

    Args:
        sequences: to choose from, each of at least `CROP_FRAMES[1]` frames.
        rng: chooses.
        batch: number of windows.
        crop_px: height and width.
        steps: T; light is linear between frames.

    Returns:
        On the CPU; the windows' time is drawn, whatever the camera's was.

    Raises:
        ConfigError: a frame cannot be read, is smaller than a crop or has another size than the first.
    """
    sequence = sequences[int(rng.integers(len(sequences)))]
    count = int(rng.integers(CROP_FRAMES[0], CROP_FRAMES[1] + 1))
    first = int(rng.integers(0, len(sequence.frames) - count + 1))
    nodes = read_window(sequence, first, count, frame_us=1.0).light[0]
    height, width = nodes.shape[1:]
    if min(height, width) < crop_px:
        raise ConfigError(f"{sequence.frames[first]}: is {width} x {height}, less than data.crop_px = {crop_px}")
    at = torch.linspace(0, len(nodes) - 1, steps + 1)
    before = at.floor().long().clamp(max=len(nodes) - 2)
    share = (at - before)[:, None, None]
    windows = []
    for _ in range(batch):
        y, x = int(rng.integers(0, height - crop_px + 1)), int(rng.integers(0, width - crop_px + 1))
        cut = nodes[:, y : y + crop_px, x : x + crop_px]
        windows.append(cut[before] * (1 - share) + cut[before + 1] * share)
    return Scenes(torch.stack(windows), draw_window_us(rng, batch))
