"""Pairing of edges and frames by arrivals: two clocks that drift apart, and one of them begins again."""

from __future__ import annotations

import numpy as np
import pytest

from drivers.cameras.hybrid.frame_cameras import CapturedFrame
from drivers.cameras.hybrid.pairing import Pairing, Wiring
from drivers.cameras.hybrid.registration import load_registration
from nire.types import EventBatch, Frame, SourcePacket, Trigger

WIRING = Wiring("high", None, "auto", None, 0, 0.0, 0.0, 0.0, "", 0.0, 0.0, "auto", "drop")
PERIOD_US, EXPOSURE_US = 40_000, 6_000
ENDS_US, STAMPED_US = (14_000, 30_000), 12_000
FRAMES, AFTER = 3_000, 40
DRIFT = 400e-6


class HeldFrames:
    """A feed that gives a frame when a test says so."""

    ended = ended_without_frames = False

    def __init__(self) -> None:
        self.frames: list[CapturedFrame] = []

    def take(self, wanted: int) -> list[CapturedFrame]:
        taken, self.frames = self.frames, []
        return taken


def packets_of(host_us: int, device_us: int, epoch: int) -> list[SourcePacket]:
    """Two edges and the batches of a frame period that arrive as they end."""
    edges = [Trigger(device_us, 0, True), Trigger(device_us + EXPOSURE_US, 0, False)]
    return [
        *edges,
        *(EventBatch.empty(device_us + us, received_ns=1000 * (host_us + us), epoch=epoch) for us in ENDS_US),
    ]


@pytest.mark.parametrize("restarts", ["events", "frames"])
def test_clocks_that_have_drifted_apart_are_found_again_when_one_begins_again(restarts: str) -> None:
    """In two minutes they drift by more than a frame period."""
    registration = load_registration("", frame_size=(16, 12), event_size=(16, 12))
    run, feed = Pairing(WIRING, registration, "linear", live=True), HeldFrames()
    zero_us = {"events": 0, "frames": 0}
    made: dict[int, Frame] = {}
    for index in range(FRAMES):
        host_us = PERIOD_US * index
        if index == FRAMES - AFTER:
            zero_us[restarts] = host_us
        stamp_us = (host_us - zero_us["frames"]) * (1 - DRIFT)
        for packet in packets_of(host_us, host_us - zero_us["events"], int(zero_us["events"] > 0)):
            if isinstance(packet, EventBatch) and packet.received_ns == 1000 * (host_us + ENDS_US[0]):
                pixels = np.zeros((12, 16, 1), np.uint8)
                feed.frames.append(CapturedFrame(index, pixels, stamp_us, received_ns=1000 * (host_us + STAMPED_US)))
            made |= {frame.index: frame for frame in run.take(packet, feed) if isinstance(frame, Frame)}
    found = {index: frame.exposure_start_us for index, frame in made.items() if index >= FRAMES - AFTER // 2}
    assert len(found) > AFTER // 2 - 5
    assert found == {index: PERIOD_US * index - zero_us["events"] for index in found}
