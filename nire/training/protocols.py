"""Evaluation protocols: the windows that methods are compared on, the same for all of them and in every run."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from nire.errors import ConfigError
from nire.training.pictures import find_images, make_bank
from nire.training.samples import Window, believed_thresholds, see
from nire.training.scenes import Scenes, render
from nire.training.sensor import draw_sensors
from nire.training.sequences import find_sequences, light_between, read_window
from nire.training.tasks import Shutters
from nire.training.videos import find_videos, read_stretches

SEED = 20_240
"""Of everything random in every protocol."""
CROP_PX = 96
"""Size of rendered windows."""
STEPS = 160
"""Of the renderer in a window; a multiple of nano's and small's bins."""
TRAVEL_PX = 24.0
"""Furthest that anything moves in a rendered window."""
VIDEO_CROP_PX = 128
"""Size of windows cut from videos."""
VIDEO_FRAMES = 17
"""Consecutive frames of a video in a window."""
VIDEO_RATE_HZ = 240.0
"""Of the slow-motion camera that a video's frames are taken to come from; a window then lasts 67 ms."""
THRESHOLD_ERROR = 0.12
"""Standard deviation of the logarithm of the believed thresholds over the true ones."""
_WINDOWS_AT_ONCE = 4
_LAYERS = 3
Rows = tuple[float, float, float]
"""First row's start and end, and the time from the first to the last row; in windows."""


@dataclass(frozen=True, slots=True)
class Task:
    """Frames and what is asked, as `Rows`.

    Attributes:
        name: as in tables.
        frames: one or two.
        asked: any number.
    """

    name: str
    frames: tuple[Rows, ...]
    asked: tuple[Rows, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Case:
    """Windows of one task, and what a calibration believes about their sensors.

    Attributes:
        task: its name.
        window: b windows.
        positive, negative: float32 [b], believed thresholds.
    """

    task: str
    window: Window
    positive: Tensor
    negative: Tensor


def _instants(*times: float) -> tuple[Rows, ...]:
    return tuple((t, t, 0.0) for t in times)


RENDERED = (
    Task("deblur_mid", ((0.1, 0.9, 0.0),), _instants(0.5)),
    Task("deblur_edge", ((0.1, 0.9, 0.0),), _instants(0.1, 0.9)),
    Task("sharp_vfi", ((0.0, 0.02, 0.0), (0.98, 1.0, 0.0)), _instants(0.25, 0.5, 0.75)),
    Task("blurry_vfi", ((0.0, 0.35, 0.0), (0.65, 1.0, 0.0)), _instants(0.175, 0.4, 0.5, 0.6)),
    Task("unroll", ((0.1, 0.12, 0.78),), _instants(0.3, 0.5)),
    Task("unroll_deblur", ((0.1, 0.3, 0.6),), _instants(0.3, 0.5)),
    Task("live_edge", ((0.2, 0.4, 0.0),), _instants(0.55, 0.7, 0.85, 1.0)),
    Task("reshutter_long", ((0.0, 0.05, 0.0), (0.95, 1.0, 0.0)), ((0.2, 0.8, 0.0), (0.1, 0.5, 0.4))),
)
"""Tasks of the protocols "rendered" and "videos"."""


@dataclass(frozen=True, slots=True)
class Footage:
    """A protocol on sequences of sharp frames.

    Attributes:
        frames: that one window needs.
        stride: frames between the starts of windows.
        rate_hz: of the set's camera.
        task: shutters in frames of the set (divided by `frames` - 1 they are in windows).
    """

    frames: int
    stride: int
    rate_hz: float
    task: Task


FOOTAGE = {
    # GoPro, 240 frames a second; an average of 11 frames is blurry, as in the set's own pairs on average.
    "gopro-deblur": Footage(11, 11, 240, Task("deblur_mid", ((0, 10, 0),), _instants(5))),
    "gopro-vfi7": Footage(9, 8, 240, Task("sharp_vfi", ((0, 0, 0), (8, 8, 0)), _instants(*range(1, 8)))),
    "gopro-vfi15": Footage(17, 16, 240, Task("sharp_vfi", ((0, 0, 0), (16, 16, 0)), _instants(*range(1, 16)))),
    # Blurry key frames of 11 frames, 8 apart; asked are their middle and the seven instants up to the next one's.
    "gopro-deblur-vfi": Footage(19, 8, 240, Task("blurry_vfi", ((0, 10, 0), (8, 18, 0)), _instants(*range(5, 13)))),
    # Gev-RS, 5,700 frames a second: rows are read over 64 frames (11 ms), exposed for an instant or for 32 frames.
    "gevrs-unroll": Footage(65, 64, 5700, Task("unroll", ((0, 0, 64),), _instants(32))),
    "gevrs-unroll-deblur": Footage(97, 96, 5700, Task("unroll_deblur", ((0, 32, 64),), _instants(48))),
}
"""Protocols on folders of sharp frames; the choice of frames is ours where the paper does not tell it."""
PROTOCOLS = ("rendered", "videos", *FOOTAGE)


def cases(protocol: str, data: Path, *, noise: str, windows: int) -> Iterator[Case]:
    """Make the windows of a protocol, one after the other; the same arguments give the same ones.

    Args:
        protocol: of `PROTOCOLS`.
        data: folder of images ("rendered": those held out are used), of videos, or of sequences of sharp frames.
        noise: "realistic" or "ideal".
        windows: how many per task.

    Raises:
        ConfigError: no such protocol, or data that it cannot use.
    """
    if protocol == "rendered":
        return _rendered(data, noise, windows)
    if protocol == "videos":
        return _videos(data, noise, windows)
    if protocol not in FOOTAGE:
        raise ConfigError(f"there is no protocol {protocol!r}; choose one of {', '.join(PROTOCOLS)}")
    return _footage(FOOTAGE[protocol], data, noise, windows)


def _rendered(data: Path, noise: str, windows: int) -> Iterator[Case]:
    paths = find_images(data, "held_out")
    bank = make_bank(paths, crop_px=CROP_PX, tiles=max(40, windows), sprites=80, seed=SEED)
    for number, first in enumerate(range(0, windows, _WINDOWS_AT_ONCE)):
        batch = min(_WINDOWS_AT_ONCE, windows - first)
        rng = np.random.default_rng([SEED, number])
        scenes = render(bank, rng, batch=batch, crop_px=CROP_PX, steps=STEPS, layers=_LAYERS, travel_px=TRAVEL_PX)
        for task in RENDERED:
            yield _case(task, scenes, noise=noise, seed=(SEED, 1, number), frames=1.0)


def _videos(data: Path, noise: str, windows: int) -> Iterator[Case]:
    paths = find_videos(data)
    most = -(-windows // len(paths))
    found = [read_stretches(path, frames=VIDEO_FRAMES, crop_px=VIDEO_CROP_PX, most=most) for path in paths]
    # The liveliest of each video, then the second of each, so that fewer windows are still from all of them.
    turns = [stretch for turn in zip_longest(*found) for stretch in turn if stretch is not None]
    for number, stretch in enumerate(turns[:windows]):
        scenes = light_between(stretch.light, frame_us=1e6 / VIDEO_RATE_HZ)
        for task in RENDERED:
            yield _case(task, scenes, noise=noise, seed=(SEED, 3, number), frames=1.0)


def _footage(footage: Footage, data: Path, noise: str, windows: int) -> Iterator[Case]:
    sequences = find_sequences(data, least=footage.frames)
    places = [
        (sequence, first)
        for sequence in sequences
        for first in range(0, len(sequence.frames) - footage.frames + 1, footage.stride)
    ]
    # Spread over all sequences where not all windows are wanted.
    chosen = np.unique(np.linspace(0, len(places) - 1, min(windows, len(places))).round().astype(int))
    for number in chosen:
        sequence, first = places[number]
        scenes = read_window(sequence, first, footage.frames, frame_us=1e6 / footage.rate_hz)
        yield _case(footage.task, scenes, noise=noise, seed=(SEED, 2, int(number)), frames=footage.frames - 1)


def _case(task: Task, scenes: Scenes, *, noise: str, seed: tuple[int, ...], frames: float) -> Case:
    """Let sensors see windows; every task sees the same sensors. `frames` is the unit of the task's times."""
    batch, _, height, _ = scenes.light.shape
    rng = np.random.default_rng(seed)
    sensors = draw_sensors(rng, batch, noise)
    positive, negative = believed_thresholds(sensors, THRESHOLD_ERROR, rng)
    generator = torch.Generator().manual_seed(int(rng.integers(2**62)))
    shutters = Shutters(*(_rows(rows, height=height, batch=batch, unit=frames) for rows in (task.frames, task.asked)))
    observed = np.ones((batch, 1), np.float32)
    window = see(scenes, shutters, sensors, observed=observed, generator=generator)
    return Case(task.name, window, positive, negative)


def _rows(shutters: tuple[Rows, ...], *, height: int, batch: int, unit: float) -> NDArray[np.float32]:
    times = np.array(shutters)[:, None, :] / unit
    row = np.arange(height)[None, :] / max(1, height - 1)
    each = np.stack([times[..., 0] + times[..., 2] * row, times[..., 1] + times[..., 2] * row], -1)
    return np.ascontiguousarray(np.broadcast_to(each, (batch, *each.shape)).astype(np.float32))
