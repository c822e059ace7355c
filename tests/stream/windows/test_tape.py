"""The tape: what a window sees of it is what was put on it, and never changes."""

from __future__ import annotations

import itertools
import random
from collections import deque

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nire.types import EventBatch
from stream.blocks import Blocks
from stream.windows.tape import Tape
from tests.nire.windows import random_events

NAMES = ("t_us", "x", "y", "p")


def columns(events: EventBatch) -> list[bytes]:
    return [getattr(events, name).tobytes() for name in NAMES]


def part(events: EventBatch, t0_us: int, t1_us: int) -> list[bytes]:
    inside = (events.t_us >= t0_us) & (events.t_us < t1_us)
    return [getattr(events, name)[inside].tobytes() for name in NAMES]


def pieces(events: EventBatch, count: int) -> list[EventBatch]:
    edges = np.linspace(0, len(events), count + 1).astype(int)
    return [
        EventBatch(events.t_us[a:b], events.x[a:b], events.y[a:b], events.p[a:b], int(events.t_us[b - 1]) if b else 0)
        for a, b in itertools.pairwise(edges)
    ]


def test_windows_see_what_was_put_on_the_tape_and_never_see_it_change() -> None:
    events = random_events(3, 5000, 0, 100_000)
    tape, lent = Tape(), []
    for k, piece in enumerate(pieces(events, 40)):
        tape.append(piece)
        begin_us, end_us = 2500 * max(0, k - 8), piece.watermark_us
        seen = tape.cut(begin_us, end_us)
        assert columns(seen) == part(events, begin_us, end_us)
        lent.append((seen, begin_us, end_us))
        tape.forget(begin_us)
    assert all(columns(seen) == part(events, begin_us, end_us) for seen, begin_us, end_us in lent)


def test_window_that_grows_stays_at_its_place_of_memory() -> None:
    tape = Tape()
    for piece in pieces(random_events(3, 4000, 0, 100_000), 20):
        tape.append(piece)
    places = {tape.cut(10_000, end_us).t_us.ctypes.data for end_us in range(20_000, 100_000, 5000)}
    assert len(places) == 1


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from(["from a ring", "from elsewhere", "both"]))
def test_cuts_at_random_are_what_all_events_joined_and_cut_would_be(seed: int, kind: str) -> None:
    dice = random.Random(seed)
    events = random_events(seed, dice.randrange(2000), 0, 100_000)
    ring, tape = Blocks(least_events=dice.choice([16, 64, 1000])), Tape(epoch=2)
    came: list[EventBatch] = []
    forgotten_us, kept = 0, []
    for piece in pieces(events, dice.randrange(1, 60)):
        if dice.random() < 0.1:
            ring.hold(events.part(slice(5)))  # a packet that was dropped on its way
        from_ring = kind == "from a ring" or (kind == "both" and dice.random() < 0.5)
        tape.append(ring.hold(piece) if from_ring else piece)
        came.append(piece)
        joined = EventBatch.joined(came)
        for _ in range(3):
            begin_us = dice.randrange(forgotten_us, 100_000)
            end_us = dice.randrange(begin_us, 110_000)
            seen = tape.cut(begin_us, end_us)
            assert columns(seen) == part(joined, begin_us, end_us)
            assert [getattr(seen, name).dtype for name in NAMES] == [getattr(joined, name).dtype for name in NAMES]
            assert (seen.watermark_us, seen.epoch) == (end_us, 2)
            kept.append((seen, columns(seen)))
        held = list(tape.held)
        assert not held or columns(EventBatch.joined(held)) == part(joined, forgotten_us, 10**9)
        kept = kept[-dice.randrange(1, 20) :]
        assert all(columns(seen) == before for seen, before in kept)
        forgotten_us = max(forgotten_us, piece.watermark_us - dice.randrange(1000, 60_000))
        tape.forget(forgotten_us + dice.choice([0.0, -0.5]))


def test_window_within_a_block_is_not_copied_and_one_across_blocks_once() -> None:
    ring, tape = Blocks(least_events=1000), Tape()
    sent = [ring.hold(piece) for piece in pieces(random_events(3, 4000, 0, 100_000), 40)]
    for piece in sent:
        tape.append(piece)
    within = [tape.cut(int(batch.t_us[0]), int(batch.t_us[-1])) for batch in sent]
    whole = {id(batch.t_us.base) for batch in sent}
    assert len(whole) > 1
    assert {id(seen.t_us.base) for seen in within} == whole
    across = [tape.cut(10_000, end_us) for end_us in range(60_000, 100_000, 5000)]
    assert len({seen.t_us.ctypes.data for seen in across}) == 1
    assert id(across[0].t_us.base) not in whole


@pytest.mark.parametrize("is_from_a_ring", [True, False])
def test_memory_of_what_was_forgotten_is_used_again(is_from_a_ring: bool) -> None:
    ring, tape = Blocks(), Tape()
    windows: deque[EventBatch] = deque(maxlen=3)
    memories: dict[int, object] = {}
    for k in range(60):
        batch = random_events(k, 50_000, 100_000 * k, 100_000 * (k + 1))
        tape.append(ring.hold(batch) if is_from_a_ring else batch)
        windows.append(tape.cut(100_000 * (k - 1), 100_000 * (k + 1)))
        memory = windows[-1].t_us.base.base
        memories[id(memory)] = memory
        tape.forget(100_000 * (k - 1))
        assert len(tape) <= 100_000
    assert 2 <= len(memories) <= 8  # of more than 20 blocks, and of 20 windows across two


def test_nothing_seen_is_an_empty_batch_with_the_end_as_its_promise() -> None:
    seen = Tape(epoch=3).cut(5, 50)
    assert (len(seen), seen.watermark_us, seen.epoch) == (0, 50, 3)
