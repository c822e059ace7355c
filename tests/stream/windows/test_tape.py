"""The tape: what a window sees of it is what was put on it, and never changes."""

from __future__ import annotations

import itertools

import numpy as np

from nire.types import EventBatch
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
        EventBatch(events.t_us[a:b], events.x[a:b], events.y[a:b], events.p[a:b], int(events.t_us[b - 1]))
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


def test_window_that_grows_stays_at_its_place_of_memory_until_the_tape_moves() -> None:
    tape = Tape()
    for piece in pieces(random_events(3, 4000, 0, 100_000), 20):
        tape.append(piece)
    places = {tape.cut(10_000, end_us).t_us.ctypes.data for end_us in range(20_000, 100_000, 5000)}
    assert len(places) == 1


def test_tape_holds_no_more_than_was_not_forgotten() -> None:
    tape = Tape()
    for k in range(500):
        tape.append(random_events(k, 100, 1000 * k, 1000 * (k + 1)))
        tape.forget(1000 * (k - 3))
    assert len(tape) <= 500
    assert tape.cut(0, 10**9).t_us.base.nbytes < 100_000


def test_nothing_seen_is_an_empty_batch_with_the_end_as_its_promise() -> None:
    seen = Tape(epoch=3).cut(5, 50)
    assert (len(seen), seen.watermark_us, seen.epoch) == (0, 50, 3)
