"""Exposed frames of a running stream, each with the captured frame that is nearest to it in time."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nire.shutter import Shutter
from stream.sockets import wire

# Captured frames that wait for exposed ones: images of a stream that starts come seconds after their frames.
_CAPTURED_KEPT = 256
# Times on the wire are rounded: half a frame interval may be so much more.
_ROUNDING_US = 1.0

Image = NDArray[np.uint8]


@dataclass(frozen=True, slots=True, eq=False)
class Pair:
    """An exposed frame and the captured frame nearest to it.

    Attributes:
        exposed, captured: uint8 [H, W, C].
        shutter: of the exposed one.
        is_of_exposure: the middle of the shutter lies in the captured frame's own exposure.
    """

    exposed: Image
    captured: Image
    shutter: Shutter
    is_of_exposure: bool


class Pairing:
    """Pairs what a subscriber receives; an exposed frame whose captured frame did not come is left out."""

    def __init__(self, interval_us: float) -> None:
        """Begin; `interval_us`: from one captured frame to the next."""
        self.left_out = 0
        self._farthest_us = interval_us / 2 + _ROUNDING_US
        self._captured: deque[wire.Message] = deque(maxlen=_CAPTURED_KEPT)
        self._waiting: deque[wire.Message] = deque()

    def captured(self, frame: wire.Message) -> list[Pair]:
        """Take a captured frame; gives the pairs for which no nearer one can come any more."""
        if self._captured and _mid_us(frame) < _mid_us(self._captured[-1]):
            self._captured.clear()  # the device clock has begun again
        self._captured.append(frame)
        return self._settled()

    def exposed(self, frame: wire.Message) -> list[Pair]:
        """Take an exposed frame, as `captured` does."""
        self._waiting.append(frame)
        return self._settled()

    def _settled(self) -> list[Pair]:
        pairs = []
        while self._waiting and self._captured and _mid_us(self._waiting[0]) <= _mid_us(self._captured[-1]):
            pair = self._paired(self._waiting.popleft())
            self.left_out += pair is None
            pairs += [] if pair is None else [pair]
        return pairs

    def _paired(self, exposed: wire.Message) -> Pair | None:
        mid_us = _mid_us(exposed)
        nearest = min(self._captured, key=lambda frame: abs(_mid_us(frame) - mid_us))
        away_us = abs(_mid_us(nearest) - mid_us)
        if away_us > self._farthest_us:
            return None
        header = nearest.header
        is_of_exposure = away_us <= (header["t_b_us"] - header["t_a_us"]) / 2
        return Pair(np.array(exposed.pixels), np.array(nearest.pixels), _shutter_of(exposed), is_of_exposure)


class Stretch:
    """The longest film of pairs that follow each other without a hole, the newest of equally long ones."""

    def __init__(self, *, at_most: int, hole_us: float) -> None:
        """Begin without any.

        Args:
            at_most: pairs that are kept, the newest.
            hole_us: so far apart pairs do not follow each other.
        """
        self.longest: deque[Pair] = deque(maxlen=at_most)
        self._present = self.longest
        self._hole_us = hole_us

    def add(self, pair: Pair) -> None:
        """Take the next pair."""
        if self._present and abs(pair.shutter.mid_us - self._present[-1].shutter.mid_us) > self._hole_us:
            self._present = deque(maxlen=self._present.maxlen)
        self._present.append(pair)
        if len(self._present) >= len(self.longest):
            self.longest = self._present


def _mid_us(message: wire.Message) -> float:
    return float(message.header["stamps"]["device_us"])


def _shutter_of(message: wire.Message) -> Shutter:
    header = message.header
    return Shutter.rolling(
        header["t_a_us"], header["t_b_us"], row_delay_us=header["row_delay_us"], height=header["shape"][0]
    )
