"""A stream of packets from a file that can be looked at before it is taken, and ends at the file's damage."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

_T = TypeVar("_T")


class LookAhead(Generic[_T]):
    """Hands out packets in order, when they are due."""

    def __init__(
        self,
        packets: Iterator[tuple[int, _T]],
        due_us: Callable[[_T], int],
        is_sound: Callable[[int], bool],
    ) -> None:
        """Wrap a stream.

        Args:
            packets: (position in the file, packet).
            due_us: device time at which a packet may be handed out.
            is_sound: tells whether a position lies before all damage met so far; packets behind it stay back.
        """
        self._packets = packets
        self._due_us = due_us
        self._is_sound = is_sound
        self._seen: deque[tuple[int, _T]] = deque()
        self._newest: list[_T] = []  # the one taken last

    def until(self, limit_us: float) -> Iterator[_T]:
        """Take the packets that are due by a time."""
        while self._seen or self._look():
            position, packet = self._seen[0]
            if self._due_us(packet) > limit_us or not self._is_sound(position):
                return
            self._seen.popleft()
            self._newest = [packet]
            yield packet

    def peek_until(self, enough: Callable[[_T], bool]) -> list[_T]:
        """Look at the packets from the one taken last up to the first that is enough, that one included."""
        while not (self._seen and enough(self._seen[-1][1])) and self._look():
            pass
        return [*self._newest, *(packet for _, packet in self._seen)]

    def _look(self) -> bool:
        """Read one more packet; False at the end."""
        for item in self._packets:
            self._seen.append(item)
            return True
        return False
