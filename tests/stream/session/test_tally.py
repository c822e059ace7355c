"""What is counted on when a session follows another: indices that tell the time that nobody answered."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import numpy as np
import pytest

from nire.backends import passthrough
from nire.shutter import Shutter
from nire.types import ExposedFrame, Packet
from stream.config import load_config
from stream.losses import Losses
from stream.session.session import Session
from stream.session.tally import INDEX_MEMORY, TAGS, Counters, Indices, Place, Tally
from tests.stream import packets
from tests.stream.packets import INFO, PERIOD_US, START_US

FRAMES = 20
WAYS = [
    ("upsample", "pair"),
    ("upsample", "live_edge"),
    ("reshutter", "pair"),
    ("deblur", "single"),
    ("deblur", "pair"),
    ("unroll", "single"),
]


def stream() -> list[Packet]:
    end_us = START_US + FRAMES * PERIOD_US
    return packets.in_order(
        packets.frames(FRAMES), packets.cut(packets.events(10_000, FRAMES), range(START_US, end_us, 5000))
    )


def session(tally: Tally, *overrides: str) -> Session:
    backend = passthrough.create(packets.GEOMETRY)
    return Session(load_config(None, overrides), INFO, backend, freshest=True, clock=lambda: 1, tally=tally)


def fed(machine: Session, given: Iterable[Packet]) -> list[ExposedFrame]:
    return [frame for packet in given for frame in machine.feed([packet])]


def successor(memory: np.ndarray, before: Counters) -> Tally:
    """What the next process finds: counters and the memory of the indices, and nothing else."""
    return Tally(replace(before), Losses(), Indices(memory))


@pytest.mark.parametrize(("plan", "policy"), WAYS)
@pytest.mark.parametrize("missed", [0, 1, 40])
def test_index_goes_on_as_if_the_time_between_had_been_answered(plan: str, policy: str, missed: int) -> None:
    overrides = [f"plan.name={plan}", f"window.policy={policy}", "plan.rate_hz=250", "plan.offset_us=300"]
    whole = fed(session(Tally(), *overrides), stream())
    memory = np.zeros((), INDEX_MEMORY)
    first = session(Tally(indices=Indices(memory)), *overrides)
    ahead = fed(first, stream()[:60])
    second = session(successor(memory, first.counters), *overrides)
    behind = fed(second, stream()[60 + missed :])
    assert ahead
    assert behind
    assert second.counters.unanswered == behind[0].unanswered == behind[0].index - ahead[-1].index - 1
    assert second.counters.exposed == len(ahead) + len(behind)
    assert behind[0].window == ahead[-1].window + 1
    at_us = {frame.index: frame.shutter.mid_us for frame in whole}
    assert all(at_us[frame.index] == frame.shutter.mid_us for frame in (*ahead, *behind))
    assert second.counters.unanswered > 0 or missed < 40


def test_image_that_was_given_a_number_and_never_left_is_a_hole() -> None:
    memory = np.zeros((), INDEX_MEMORY)
    first = session(Tally(indices=Indices(memory)), "plan.rate_hz=250")
    frames = (frame for packet in stream() for frame in first.feed([packet]))
    sent = [next(frames) for _ in range(14)]  # killed within the second window, with 6 of its images to come
    second = session(successor(memory, first.counters), "plan.rate_hz=250")
    behind = fed(second, stream()[60:])
    assert behind[0].index == sent[-1].index + 1 + second.counters.unanswered
    assert behind[0].shutter.mid_us - sent[-1].shutter.mid_us == 4000 * (behind[0].index - sent[-1].index)


def test_clock_that_began_again_leaves_no_hole_of_an_unknown_size() -> None:
    memory = np.zeros((), INDEX_MEMORY)
    first = session(Tally(indices=Indices(memory)))
    ahead = fed(first, stream()[:60])
    second = session(successor(memory, first.counters))
    behind = fed(second, (replace(packet, epoch=1) for packet in stream()[100:]))
    assert behind[0].index == ahead[-1].index + 1
    assert second.counters.unanswered == 0


def test_pause_is_no_hole() -> None:
    memory = np.zeros((), INDEX_MEMORY)
    first = session(Tally(indices=Indices(memory)))
    ahead = fed(first, stream()[:60])
    second = session(successor(memory, first.counters))
    second.paused = True
    assert fed(second, stream()[60:90]) == []
    second.paused = False
    assert fed(second, stream()[90:])[0].index == ahead[-1].index + 1


def test_shutter_that_is_asked_for_beside_the_plan_is_counted_on_and_moves_no_place_of_the_plan() -> None:
    memory = np.zeros((), INDEX_MEMORY)
    first = session(Tally(indices=Indices(memory)))
    ahead = fed(first, stream()[:60])
    shutter = Shutter.instant(ahead[-4].shutter.mid_us, packets.GEOMETRY.height)
    assert [first.ask(shutter, "robot").index for _ in range(3)] == [0, 1, 2]
    after = Indices(memory)
    assert after.give("robot")[0] == 3
    assert after.last("robot") is None
    place = after.last("upsample")
    assert place is not None
    assert place.at_us == ahead[-1].shutter.mid_us


def test_of_many_tags_the_longest_unused_is_forgotten() -> None:
    memory = np.zeros((), INDEX_MEMORY)
    indices = Indices(memory)
    for tag in ["plan", *(f"tag-{k}" for k in range(TAGS + 5))]:
        for each in (tag, "plan"):
            (index,) = indices.give(each)
            indices.hand_out(each, index, place=Place(1.0, 2, 3) if each == "plan" else None)
    for each in (indices, Indices(memory)):
        assert each.give("plan")[0] == 2 * (TAGS + 5) // 2 + 2
        assert each.last("plan") == (1.0, 2, 3)
        assert each.give(f"tag-{TAGS + 4}")[0] == 1
        assert each.give("tag-0")[0] == 0
        assert each.last("tag-40") is None
