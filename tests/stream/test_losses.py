"""What is lost is told by packets and added up once."""

from __future__ import annotations

from dataclasses import replace

import pytest

from nire.types import EventBatch, Gap, Packet
from stream.losses import Losses
from tests.stream import packets

FRAMES = packets.frames()


def total(*given: Packet) -> tuple[int, int]:
    losses = Losses()
    for packet in given:
        losses.add(packet)
    return losses.events, losses.frames


@pytest.mark.parametrize(
    ("frames", "lost"),
    [
        (FRAMES[:4], 0),
        ([FRAMES[0], FRAMES[3], FRAMES[4]], 2),  # the camera's count has a hole
        ([FRAMES[0], replace(FRAMES[3], lost_before=2)], 2),  # the ring tells of the same two
        ([FRAMES[0], replace(FRAMES[3], lost_before=1)], 2),  # the camera lost one, the ring the other
        ([replace(FRAMES[3], lost_before=2), FRAMES[4]], 2),  # the first that a successor sees
        ([FRAMES[2], FRAMES[1], FRAMES[3]], 0),  # a repeated one is no loss, and no hole behind it
    ],
)
def test_frame_is_lost_once_whoever_tells_of_it(frames: list[Packet], lost: int) -> None:
    assert total(*frames) == (0, lost)


def test_lost_events_are_what_gaps_say() -> None:
    assert total(Gap(0, 9, "overtaken", lost_events=5), Gap(9, 20, "nobody knows"), Gap(20, 30, "", lost_events=2)) == (
        7,
        0,
    )


def test_count_begins_anew_with_the_clock_and_frames_of_the_clock_before_are_lost() -> None:
    early = replace(FRAMES[0], epoch=1)  # before its events: no hole behind the frames of the old clock
    again = EventBatch.empty(0, epoch=1)
    assert total(FRAMES[0], FRAMES[1], early, FRAMES[2], again, replace(FRAMES[1], epoch=1), FRAMES[3]) == (0, 1)
