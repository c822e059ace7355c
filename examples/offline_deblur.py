"""Deblur a recording from Python, without processes or sockets: offline_deblur.py RECORDING OUT [COUNT].

The same parts that a live stream is made of: a driver yields packets, the session answers the plan.
"""

from __future__ import annotations

import itertools
import sys
from collections.abc import Iterator
from pathlib import Path

import cv2

from drivers.detect import open_recording
from drivers.packets.cleaning import cleaned
from nire.errors import NireError
from nire.types import EventBatch, ExposedFrame, Frame, Gap, Packet
from stream.backends import open_reconstructor
from stream.clock import now_ns
from stream.config import load_config
from stream.session.session import Session


def deblurred(recording: Path) -> Iterator[ExposedFrame]:
    """Yield one sharp frame for each captured one, at the middle of its exposure."""
    config = load_config(None, ["plan.name=deblur"])
    with open_recording(recording) as source:
        reconstructor = open_reconstructor(config, source.info.geometry)
        session = Session(config, source.info, reconstructor, freshest=False, clock=now_ns)
        yield from session.feed(_needed(cleaned(source)))
        yield from session.finish()


def main(recording: Path, out: Path, count: int | None = None) -> None:
    """Write the first `count` sharp frames (all, if None) as PNG."""
    out.mkdir(parents=True, exist_ok=True)
    for frame in itertools.islice(deblurred(recording), count):
        file = out / f"{frame.index:06d}.png"
        cv2.imwrite(str(file), frame.pixels[..., ::-1] if frame.pixels.shape[2] == 3 else frame.pixels)
        print(f"{file}: {frame.shutter.mid_us:.0f} us")


def _needed(packets: Iterator[object]) -> Iterator[Packet]:
    """Leave out triggers and inertial samples."""
    return (packet for packet in packets if isinstance(packet, (EventBatch, Frame, Gap)))


if __name__ == "__main__":
    if len(sys.argv) not in (3, 4):
        sys.exit(f"usage: {sys.argv[0]} RECORDING OUT [COUNT]")
    try:
        main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]) if len(sys.argv) == 4 else None)
    except NireError as error:
        print(error, file=sys.stderr)
        sys.exit(error.exit_code)
