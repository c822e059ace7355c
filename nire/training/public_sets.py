"""Public sets of sharp frames, and what others reported on them: GoPro, Gev-RS."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from nire.errors import ConfigError
from nire.light import decode_table
from nire.training.captured import Captured, find_captured, fitting_transfer
from nire.training.cases import SEED, Case, Task, clock_offset, instants, seen
from nire.training.frames import take_frames
from nire.training.physics import averaged, node_shares
from nire.training.pictures import luma_of
from nire.training.sequences import Sequence, find_sequences, light_between, read_frames
from nire.types import Transfer

Channels = Literal["gray", "rgb"]
Blur = Literal["made", "own", "own-gamma"]
"""Means of the sharp frames, or what the set has in its folders `blur` and `blur_gamma`."""
_BLUR_FOLDERS: dict[Blur, str] = {"own": "blur", "own-gamma": "blur_gamma"}


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
    "gopro-deblur": Footage(11, 11, 240, Task("deblur_mid", ((0, 10, 0),), instants(5))),
    "gopro-vfi7": Footage(9, 8, 240, Task("sharp_vfi", ((0, 0, 0), (8, 8, 0)), instants(*range(1, 8)))),
    "gopro-vfi15": Footage(17, 16, 240, Task("sharp_vfi", ((0, 0, 0), (16, 16, 0)), instants(*range(1, 16)))),
    # Blurry key frames of 11 frames, 8 apart; asked are their middle and the seven instants up to the next one's.
    "gopro-deblur-vfi": Footage(19, 8, 240, Task("blurry_vfi", ((0, 10, 0), (8, 18, 0)), instants(*range(5, 13)))),
    # Gev-RS, 5,700 frames a second: rows are read over 64 frames (11 ms), exposed for an instant or for 32 frames.
    "gevrs-unroll": Footage(65, 64, 5700, Task("unroll", ((0, 0, 64),), instants(32))),
    "gevrs-unroll-deblur": Footage(97, 96, 5700, Task("unroll_deblur", ((0, 32, 64),), instants(48))),
}
"""Protocols on folders of sharp frames; the choice of frames is ours where the paper does not tell it."""


def _own_deblur(n: int) -> Footage:
    return Footage(n + 2, n, 240, Task("deblur_mid", ((0.5, n + 0.5, 0),), instants((n + 1) / 2)))


def _own_deblur_vfi(n: int) -> Footage:
    first, middle = (0.5, n + 0.5, 0), (n + 1) // 2
    second = (8.5, n + 8.5, 0)
    return Footage(n + 10, 8, 240, Task("blurry_vfi", (first, second), instants(*range(middle, middle + 8))))


# A mean of n frames is an exposure that lasts as long as n frames, so it begins half a frame before the first.
OWN_BLUR: dict[str, Callable[[int], Footage]] = {"gopro-deblur": _own_deblur, "gopro-deblur-vfi": _own_deblur_vfi}
"""Protocols that take a set's own blurry frames, by how many sharp ones each averages."""
PUBLISHED = {
    "gopro-deblur": {"NIRE": 35.03, "EFNet": 35.46},
    "gopro-vfi7": {"NIRE": 34.97, "REFID": 36.80},
    "gopro-vfi15": {"NIRE": 32.85, "REFID": 35.64},
    "gopro-deblur-vfi": {"NIRE": 33.43, "REFID": 35.90},
    "gevrs-unroll": {"NIRE": 31.75, "EvUnroll": 32.16},
    "gevrs-unroll-deblur": {"NIRE": 29.86, "EvUnroll": 30.14},
}
"""PSNR in dB, RGB, that the paper (NIRE) and the best work known here reported on the data set of a protocol."""


def public_cases(
    protocol: str, data: Path, *, noise: str, windows: int, channels: Channels, blur: Blur
) -> Iterator[Case]:
    """Make the windows of a protocol of `FOOTAGE`; arguments and errors as of `nire.training.protocols.cases`."""
    places = _places(protocol, data) if blur == "made" else _own_places(protocol, data, _BLUR_FOLDERS[blur])
    # Spread over all sequences where not all windows are wanted.
    chosen = np.unique(np.linspace(0, len(places) - 1, min(windows, len(places))).round().astype(int))
    return (_seen_and_shown(places[n], noise=noise, seed=(SEED, 2, int(n)), channels=channels) for n in chosen)


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a window lies: `footage.frames` frames, and the set's own blurry ones if those are exposed."""

    footage: Footage
    frames: tuple[Path, ...]
    captured: tuple[Path, ...] = ()


def _places(protocol: str, data: Path) -> list[_Place]:
    footage = FOOTAGE[protocol]
    return [
        _Place(footage, sequence.frames[first : first + footage.frames])
        for sequence in find_sequences(data, least=footage.frames)
        for first in range(0, len(sequence.frames) - footage.frames + 1, footage.stride)
    ]


def _own_places(protocol: str, data: Path, folder: str) -> list[_Place]:
    places: list[_Place] = []
    for sequence in find_sequences(data, least=1):
        captured = find_captured(sequence, folder)
        footage = OWN_BLUR[protocol](captured.averaged)
        places += _around(sequence, captured, footage)
    if not places:
        raise ConfigError(
            f"{data}: no window of {protocol!r} has all its blurry frames in {folder!r}, and a sharp one "
            "before and after each; --blur made averages the sharp frames instead"
        )
    return places


def _around(sequence: Sequence, captured: Captured, footage: Footage) -> Iterator[_Place]:
    """Place a window around each blurry frame that has its others where the task has them."""
    inside = [int((opens + closes) / 2) for opens, closes, _ in footage.task.frames]
    for middle in sorted(captured.middles):
        first = middle - inside[0]
        wanted = [first + k for k in inside]
        if first >= 0 and first + footage.frames <= len(sequence.frames) and captured.middles.keys() >= set(wanted):
            frames = sequence.frames[first : first + footage.frames]
            yield _Place(footage, frames, tuple(captured.middles[k] for k in wanted))


def _seen_and_shown(place: _Place, *, noise: str, seed: tuple[int, ...], channels: Channels) -> Case:
    """Let a sensor see luma between a set's frames; its frames and what is right are the set's own pixels."""
    footage, both = place.footage, read_frames((*place.frames, *place.captured))
    pixels, blurry = both[: footage.frames], both[footage.frames :]
    transfers: list[Transfer] = [
        fitting_transfer(path, image, pixels[round(opens + 0.5) : round(closes + 0.5)])
        for path, image, (opens, closes, _) in zip(place.captured, blurry, footage.task.frames, strict=False)
    ]
    transfer: Transfer = transfers[0] if transfers else "srgb"
    scenes = light_between(luma_of(pixels, transfer), frame_us=1e6 / footage.rate_hz)
    case = seen(footage.task, scenes, noise=noise, seed=seed, frames=footage.frames - 1, exact=True)

    def planes(images: NDArray[np.uint8]) -> Tensor:
        if channels == "gray":
            return torch.from_numpy(luma_of(images, transfer)[:, None])
        return torch.from_numpy(decode_table(transfer)[images] / 255).permute(0, 3, 1, 2)

    window, shown = case.window, planes(pixels)
    sensors = replace(window.sensors, srgb=torch.full_like(window.sensors.srgb, transfer == "srgb"))
    generator = torch.Generator().manual_seed(int(np.random.default_rng((*seed, 1)).integers(2**62)))
    exposed, asked = (
        told + clock_offset(sensors.offset_us, window.window_us) for told in (window.frame_shutters, window.shutters)
    )
    asked_shares = node_shares(asked, footage.frames - 1)
    if len(blurry):
        frames = planes(blurry)[None]
    else:
        frames = _each(shown, lambda plane: take_frames(plane, exposed, sensors, generator=generator))
    target = _each(shown, lambda plane: averaged(plane, asked_shares)).clamp_(0, 1)
    return replace(case, transfer=transfer).showing(
        *(p[:, :, 0] if channels == "gray" else p for p in (frames, target))
    )


def _each(shown: Tensor, view: Callable[[Tensor], Tensor]) -> Tensor:
    """Look at each channel of [n, C, H, W] by itself: [1, n, H, W] -> [1, K, H, W], together [1, K, C, H, W]."""
    return torch.stack([view(shown[None, :, channel]) for channel in range(shown.shape[1])], 2)
