"""See at a glance what re-exposure makes of a recording: contact_sheet.py RECORDING OUT.png --backend edi neural.

One row for each captured frame and backend: as captured, then exposed at the start, the middle and the end of its own
exposure, and halfway to the next frame.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from drivers.packets.cleaning import cleaned
from nire.errors import NireError
from nire.shutter import Shutter
from nire.types import ContentWindow, EventBatch, Frame, Gap, Packet
from stream.backends import open_reconstructor
from stream.clock import now_ns
from stream.config import load_config
from stream.session.session import Session
from stream.sources import SourceOrder, open_source

Image = NDArray[np.uint8]


def rows(recording: Path, backend: str) -> Iterator[tuple[Frame, list[Image]]]:
    """Yield each frame that has a successor, with its exposures."""
    config = load_config(None, [f"reconstructor.backend={backend}"])
    with open_source(config.source, SourceOrder(recording, speed=math.inf)) as source:
        reconstructor = open_reconstructor(config, source.info.geometry)
        session = Session(config, source.info, reconstructor, freshest=False, clock=now_ns, reach_us=5000)
        packets: Iterator[Packet] = (p for p in cleaned(source) if isinstance(p, EventBatch | Frame | Gap))
        for window in session.windows(packets):
            if len(window.frames) == 2:
                yield window.frames[0], [session.ask_of(window, s, "sheet").pixels for s in _shutters(window)]


def _shutters(window: ContentWindow) -> list[Shutter]:
    first, second = window.frames
    between_us = (first.exposure_end_us + second.exposure_start_us) / 2
    times_us = (first.exposure_start_us, first.mid_us, first.exposure_end_us, between_us)
    return [Shutter.instant(float(t), first.pixels.shape[0]) for t in times_us]


def sheet(recording: Path, numbers: list[int], backends: list[str], part: tuple[slice, slice]) -> Image:
    """Put the rows together, those of one frame under one another; brightness is stretched alike everywhere."""
    table: dict[int, dict[str, Image]] = {}
    for backend in backends:
        for frame, images in rows(recording, backend):
            table.setdefault(frame.index, {})[backend] = np.concatenate(
                [image[part] for image in (frame.pixels, *images)], axis=1
            )
    if not table:
        raise NireError(f"{recording} has no two neighbouring frames")
    indices = sorted(table)
    chosen = [n for n in numbers if n in table] or [indices[k] for k in np.linspace(0, len(indices) - 1, 5).astype(int)]
    pixels = np.concatenate([row for n in dict.fromkeys(chosen) for row in table[n].values()], axis=0)
    scale = 235 / max(1.0, float(np.percentile(pixels, 99.5)))
    return np.clip(pixels * scale, 0, 255).astype(np.uint8)


def main() -> int:
    """Read the arguments, write the picture, and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recording", type=Path)
    parser.add_argument("out", type=Path, help="PNG to write")
    parser.add_argument("frames", type=int, nargs="*", help="numbers of captured frames; five over the recording")
    parser.add_argument("--backend", nargs="+", default=["edi"], help="edi, neural, passthrough, ...")
    parser.add_argument("--part", type=int, nargs=4, metavar=("X", "Y", "WIDTH", "HEIGHT"), help="of the images")
    parser.add_argument("--times", type=int, default=1, help="enlarge pixels so many times")
    asked = parser.parse_args()
    x, y, width, height = asked.part or (0, 0, sys.maxsize, sys.maxsize)
    try:
        picture = sheet(asked.recording, asked.frames, asked.backend, (slice(y, y + height), slice(x, x + width)))
    except NireError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    picture = picture.repeat(asked.times, 0).repeat(asked.times, 1)
    cv2.imwrite(str(asked.out), picture[..., ::-1] if picture.shape[2] == 3 else picture)
    return 0


if __name__ == "__main__":
    sys.exit(main())
