"""Evaluation protocols: the windows that methods are compared on, the same for all of them and in every run."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import zip_longest
from pathlib import Path

import numpy as np

from nire.errors import ConfigError
from nire.training.cases import SEED, Case, Task, instants, seen
from nire.training.pictures import find_images, make_bank
from nire.training.public_sets import FOOTAGE, OWN_BLUR, PUBLISHED, Blur, Channels, public_cases
from nire.training.scenes import render
from nire.training.sequences import light_between
from nire.training.videos import find_videos, read_stretches

__all__ = ["FOOTAGE", "OWN_BLUR", "PROTOCOLS", "PUBLISHED", "RENDERED", "Blur", "Case", "Channels", "Task", "cases"]

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
_WINDOWS_AT_ONCE = 4
_LAYERS = 3

RENDERED = (
    Task("deblur_mid", ((0.1, 0.9, 0.0),), instants(0.5)),
    Task("deblur_edge", ((0.1, 0.9, 0.0),), instants(0.1, 0.9)),
    Task("sharp_vfi", ((0.0, 0.02, 0.0), (0.98, 1.0, 0.0)), instants(0.25, 0.5, 0.75)),
    Task("blurry_vfi", ((0.0, 0.35, 0.0), (0.65, 1.0, 0.0)), instants(0.175, 0.4, 0.5, 0.6)),
    Task("unroll", ((0.1, 0.12, 0.78),), instants(0.3, 0.5)),
    Task("unroll_deblur", ((0.1, 0.3, 0.6),), instants(0.3, 0.5)),
    Task("live_edge", ((0.2, 0.4, 0.0),), instants(0.55, 0.7, 0.85, 1.0)),
    Task("reshutter_long", ((0.0, 0.05, 0.0), (0.95, 1.0, 0.0)), ((0.2, 0.8, 0.0), (0.1, 0.5, 0.4))),
)
"""Tasks of the protocols "rendered" and "videos"."""
PROTOCOLS = ("rendered", "videos", *FOOTAGE)


def cases(
    protocol: str, data: Path, *, noise: str, windows: int, channels: Channels = "gray", blur: Blur = "made"
) -> Iterator[Case]:
    """Make the windows of a protocol, one after the other; the same arguments give the same ones.

    Args:
        protocol: of `PROTOCOLS`.
        data: folder of images ("rendered": those held out are used), of videos, or of sequences of sharp frames.
        noise: "realistic" or "ideal".
        windows: how many per task.
        channels: of what methods see and answer; events are of luma in both. "rendered" and "videos" are gray.
        blur: where blurry frames come from; "made" but for the protocols of `OWN_BLUR`.

    Raises:
        ConfigError: no such protocol, data that it cannot use, or channels or blur that it does not have.
    """
    if protocol in PROTOCOLS and protocol not in FOOTAGE and channels != "gray":
        raise ConfigError(f"{protocol!r} is gray; channels rgb is for {', '.join(FOOTAGE)}")
    if protocol in PROTOCOLS and protocol not in OWN_BLUR and blur != "made":
        raise ConfigError(f"{protocol!r} takes no blurry frames of a set; blur {blur} is for {', '.join(OWN_BLUR)}")
    if protocol == "rendered":
        return _rendered(data, noise, windows)
    if protocol == "videos":
        return _videos(data, noise, windows)
    if protocol not in FOOTAGE:
        raise ConfigError(f"there is no protocol {protocol!r}; choose one of {', '.join(PROTOCOLS)}")
    return public_cases(protocol, data, noise=noise, windows=windows, channels=channels, blur=blur)


def _rendered(data: Path, noise: str, windows: int) -> Iterator[Case]:
    paths = find_images(data, "held_out")
    bank = make_bank(paths, crop_px=CROP_PX, tiles=max(40, windows), sprites=80, seed=SEED)
    for number, first in enumerate(range(0, windows, _WINDOWS_AT_ONCE)):
        batch = min(_WINDOWS_AT_ONCE, windows - first)
        rng = np.random.default_rng([SEED, number])
        scenes = render(bank, rng, batch=batch, crop_px=CROP_PX, steps=STEPS, layers=_LAYERS, travel_px=TRAVEL_PX)
        for task in RENDERED:
            yield seen(task, scenes, noise=noise, seed=(SEED, 1, number), frames=1.0)


def _videos(data: Path, noise: str, windows: int) -> Iterator[Case]:
    paths = find_videos(data)
    most = -(-windows // len(paths))
    found = [read_stretches(path, frames=VIDEO_FRAMES, crop_px=VIDEO_CROP_PX, most=most) for path in paths]
    # The liveliest of each video, then the second of each, so that fewer windows are still from all of them.
    turns = [stretch for turn in zip_longest(*found) for stretch in turn if stretch is not None]
    for number, stretch in enumerate(turns[:windows]):
        scenes = light_between(stretch.light, frame_us=1e6 / VIDEO_RATE_HZ)
        for task in RENDERED:
            yield seen(task, scenes, noise=noise, seed=(SEED, 3, number), frames=1.0)
