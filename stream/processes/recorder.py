"""The recorder process: what the rings carry, into a file that can be replayed."""

from __future__ import annotations

import contextlib
import logging
from pathlib import Path

from drivers.writing import begin_writing
from nire.types import Packet
from stream.config import Config
from stream.disk import writing
from stream.processes.board import State
from stream.processes.child import Child
from stream.processes.joining import join, losses_before, note_progress, read
from stream.rings.ring import clock_of

_READ_S = 0.1
_log = logging.getLogger(__name__)


def main(child: Child, config: Config, path: Path) -> int:
    """Be the recorder until the source has ended or the supervisor says stop.

    Returns:
        Exit code 0.

    Raises:
        RingError: the rings cannot be joined.
        SourceError: the file cannot be written.
        ConfigError: its disk is full, or gone.
    """
    if child.before["lives"] > 0:
        path = path.with_stem(f"{path.stem}-{child.before['lives'] + 1}")  # what was written before stays readable
    packets: list[Packet] = []
    losses = losses_before(child.before)
    with writing(path), contextlib.ExitStack() as stack:
        reader = stack.enter_context(join(child, config))
        recording = stack.enter_context(begin_writing(path, reader.geometry, reader.info))
        if (clock := clock_of(config.stream_name)) is not None:
            recording.write(clock)  # of a producer that was there before this recorder: its next one is a second away
        child.beat(State.READY)
        while not (reader.ended or (child.stopping and not packets)):
            child.orders()
            packets = read(child, reader, 0.0 if child.stopping else _READ_S)
            for packet in packets:
                losses.add(packet)
                recording.write(packet)
            note_progress(child, reader, packets, losses)
            child.beat(State.RUNNING if packets else None)
    for what, times in recording.lost.items():
        _log.warning("%s has no place for %s: %d were left out", path, what, times)
    events, frames = (child.row[what] - child.before[what] for what in ("events_in", "frames_in"))
    _log.info("recorded %d events and %d frames into %s", events, frames, path)
    return 0
