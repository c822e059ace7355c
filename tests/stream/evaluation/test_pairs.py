"""Exposed and captured frames of a stream in pairs: of one moment, or none."""

from __future__ import annotations

import numpy as np

from nire.shutter import Shutter
from nire.types import ExposedFrame, Frame, Stamps
from stream.evaluation.pairs import Pair, Pairing, Stretch
from stream.sockets import wire

INTERVAL_US = 40_000


def captured(number: int) -> wire.Message:
    """Frame `number` of 25 a second, exposed for 20 ms; its pixels tell its number."""
    start_us = INTERVAL_US * number
    pixels = np.full((4, 6, 1), number % 256, np.uint8)
    return wire.unpack(wire.pack_captured(Frame(number, pixels, start_us, start_us + 20_000), 0))


def exposed(mid_us: float) -> wire.Message:
    shutter = Shutter.instant(mid_us, 4)
    pixels = np.zeros((4, 6, 1), np.uint8)
    return wire.unpack(wire.pack_frame(ExposedFrame(0, 0, pixels, shutter, "upsample", Stamps(mid_us))))


def told(pairs: list[Pair]) -> list[tuple[float, int, bool]]:
    return [(pair.shutter.mid_us, int(pair.captured[0, 0, 0]), pair.is_of_exposure) for pair in pairs]


def test_exposed_frame_is_paired_with_the_captured_frame_that_is_nearest_in_time() -> None:
    pairing = Pairing(INTERVAL_US)
    assert pairing.captured(captured(0)) == pairing.captured(captured(1)) == []
    pairs = [pair for mid_us in (10_000, 19_000, 25_000, 35_000, 45_000) for pair in pairing.exposed(exposed(mid_us))]
    assert told(pairs) == [
        (10_000, 0, True),
        (19_000, 0, True),
        (25_000, 0, False),
        (35_000, 1, False),
        (45_000, 1, True),
    ]


def test_exposed_frame_waits_for_a_captured_one_that_may_be_nearer() -> None:
    pairing = Pairing(INTERVAL_US)
    pairing.captured(captured(0))
    assert pairing.exposed(exposed(45_000)) == []
    assert told(pairing.captured(captured(1))) == [(45_000, 1, True)]


def test_image_that_comes_seconds_late_still_finds_the_frame_of_its_own_moment() -> None:
    """Only 8 captured frames were kept, so an image of a stream that starts was shown beside another moment."""
    pairing = Pairing(INTERVAL_US)
    for number in range(100):
        pairing.captured(captured(number))
    assert told(pairing.exposed(exposed(10_000))) == [(10_000, 0, True)]
    assert pairing.left_out == 0


def test_exposed_frame_whose_captured_frame_did_not_come_is_left_out() -> None:
    pairing = Pairing(INTERVAL_US)
    pairing.captured(captured(0))
    pairing.captured(captured(3))
    assert pairing.exposed(exposed(60_000)) == []
    assert told(pairing.exposed(exposed(125_000))) == [(125_000, 3, True)]
    assert pairing.left_out == 1


def test_frames_of_a_clock_that_begins_again_are_not_taken_for_earlier_ones() -> None:
    pairing = Pairing(INTERVAL_US)
    for number in (7, 50, 0, 1, 2):
        pairing.captured(captured(number))
    assert pairing.exposed(exposed(290_000)) == []
    assert told(pairing.captured(captured(8))) == []
    assert pairing.left_out == 1


def pair_at(mid_us: float) -> Pair:
    image = np.zeros((4, 6, 1), np.uint8)
    return Pair(image, image, Shutter.instant(mid_us, 4), True)


def test_film_is_the_newest_stretch_without_a_hole() -> None:
    """What comes while a stream starts is followed by a hole: it began the film."""
    stretch = Stretch(at_most=5, hole_us=500_000)
    for mid_us in (0, 2_500, 5_000, *range(3_000_000, 3_020_000, 2_500), 9_000_000):
        stretch.add(pair_at(mid_us))
    assert [pair.shutter.mid_us for pair in stretch.longest] == [3_007_500 + 2_500 * count for count in range(5)]
