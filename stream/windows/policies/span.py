"""Policy `span`: windows without frames on an absolute grid, from the first event, not through long silences."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np

from nire.types import ContentWindow, EventBatch, Frame
from stream.windows.held import Held

LONGEST_SILENCE_US = 600_000
"""After so long without an event nothing is known any more, and nothing is answered until the next one."""


def create(held: Held) -> Span:
    """Begin before the first event."""
    return Span(held)


class Span:
    """Cuts a window as soon as a span of time has passed; frames are let go."""

    frames_begun = 0

    def __init__(self, held: Held) -> None:
        """Cut from what is held."""
        self._held = held
        self._spans = Spans(held.cut.span_us)

    def take_over(self) -> None:
        """Begin with the first event that is held."""

    def following(self) -> ContentWindow | None:
        """Cut the next span once all of its events are there."""
        held = self._held
        while held.frames:
            held.retire()
        span = self._spans.following(tuple(held.tape.held), held.edge_us)
        return None if span is None else self._window(*span, answers_us=span, after_us=held.cut.reach_us)

    def remaining(self) -> Iterator[ContentWindow]:
        """The rest gets a full-length window that ends at the last event."""
        end_us = self._held.tape.watermark_us - self._held.guard_us[1]
        begin_us = self._spans.unfinished_us(end_us)
        if begin_us is not None:
            yield self._window(end_us - self._spans.span_us, end_us, answers_us=(begin_us, end_us), after_us=0)

    def expected_us(self, frames: tuple[Frame, ...]) -> int:
        """Nothing is known of a window that has no frame."""
        return self._held.tape.watermark_us

    def needed_us(self) -> float:
        """One span before the next one."""
        return self._held.horizon_us if self._spans.needed_us is None else self._spans.needed_us

    def _window(self, begin_us: int, end_us: int, *, answers_us: tuple[float, float], after_us: int) -> ContentWindow:
        held = self._held
        first_us, last_us = begin_us - held.cut.reach_us, end_us + after_us
        return held.slice(
            first_us - held.guard_us[0],
            last_us + held.guard_us[1],
            (),
            index=held.count(),
            answers_us=answers_us,
            covered_us=(first_us, last_us),
        )


class Spans:
    """Counts off the spans of one stream. They follow from its events alone, however these are delivered."""

    def __init__(self, span_us: int) -> None:
        """Begin before the first event; a span lies between two multiples of `span_us`, device time."""
        self.span_us = span_us
        self._next_us: int | None = None
        self._event_us = 0
        """The newest event known before the next span, or the first one in it."""

    @property
    def needed_us(self) -> int | None:
        """Events before this time will not be asked for again; None before the first span."""
        return None if self._next_us is None else self._next_us - self.span_us

    def following(self, batches: Iterable[EventBatch], until_us: int) -> tuple[int, int] | None:
        """Take the next span [begin, end), or None where it has not ended by `until_us`.

        Args:
            batches: the events since `needed_us`, in order.
            until_us: all events before it are there.
        """
        first_us = _first_event(batches, self._next_us)
        if self._next_us is None or self._is_silent(self._next_us):
            if first_us is None:
                return None
            self._next_us, self._event_us = first_us // self.span_us * self.span_us, first_us
        begin_us, end_us = self._next_us, self._next_us + self.span_us
        if until_us < end_us:
            return None
        self._next_us = end_us
        self._event_us = max(self._event_us, _last_event(batches, end_us))
        return begin_us, end_us

    def unfinished_us(self, until_us: int) -> int | None:
        """Where the span begins that the end of the stream, at `until_us`, cuts off; None where there is none."""
        if self._next_us is None or self._is_silent(self._next_us) or self._next_us >= until_us:
            return None
        return self._next_us

    def _is_silent(self, at_us: int) -> bool:
        return at_us - self._event_us > LONGEST_SILENCE_US


def _first_event(batches: Iterable[EventBatch], from_us: int | None) -> int | None:
    for batch in batches:
        low = 0 if from_us is None else int(np.searchsorted(batch.t_us, from_us))
        if low < len(batch):
            return int(batch.t_us[low])
    return None


def _last_event(batches: Iterable[EventBatch], before_us: int) -> int:
    """Find the newest event before a time; a time long past where there is none."""
    found = (batch.t_us[: np.searchsorted(batch.t_us, before_us)] for batch in batches)
    return max((int(t_us[-1]) for t_us in found if len(t_us)), default=-(2**62))
