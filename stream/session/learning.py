"""Which windows teach what is believed about the sensor: pairs of frames, once each, while there is more to learn."""

from __future__ import annotations

from dataclasses import replace

from nire.calibrate import Calibrator
from nire.types import Calibration, ContentWindow, Frame
from stream.windows.assembler import WindowAssembler


class Learning:
    """Feeds a calibrator from the windows of an assembler, and keeps the assembler's guard as wide as needed."""

    def __init__(self, calibrator: Calibrator, assembler: WindowAssembler) -> None:
        """Begin before the first window."""
        self._calibrator = calibrator
        self._assembler = assembler
        self._seen: Frame | None = None
        self._put_off: ContentWindow | None = None
        assembler.guard(calibrator.guard_us)

    @property
    def current(self) -> Calibration:
        """What is believed at present."""
        return self._calibrator.current

    def calibrated(self, window: ContentWindow, *, at_once: bool = False) -> ContentWindow:
        """Give a window the calibration that it is answered with.

        A pair teaches before it is answered while nothing is known yet, later only by `learn`: answers come first.

        Args:
            window: complete.
            at_once: learn from it first in any case; nothing waits for its answer.
        """
        pair = self._pair_in(window)
        if pair is not None and (at_once or (pair is window and self._calibrator.learning)):
            self._observe(pair)
            pair = None
        self._put_off = pair
        return replace(window, calibration=self._calibrator.current)

    def learn(self) -> None:
        """Learn what the last window put off; call when it has been answered."""
        if self._put_off is not None:
            self._observe(self._put_off)
            self._put_off = None

    def _pair_in(self, window: ContentWindow) -> ContentWindow | None:
        if len(window.frames) == 2:
            return window if self._calibrator.wants() else None
        previous = self._assembler.frame_before(window) if window.frames else None
        # The windows of a live edge have one frame after the other, each of them many times.
        if previous is None or window.frames[0] is self._seen:
            return None
        self._seen = window.frames[0]
        return self._assembler.paired(previous, window) if self._calibrator.wants() else None

    def _observe(self, pair: ContentWindow) -> None:
        self._calibrator.observe(pair.frames, pair.events, pair.gaps)
        self._assembler.guard(self._calibrator.guard_us)
