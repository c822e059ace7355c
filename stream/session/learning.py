"""Which windows teach what is believed about the sensor: pairs of frames, once each, and windows of events alone."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

from drivers.source import SourceInfo
from nire.calibrate import Calibrator
from nire.types import Calibration, ContentWindow, Frame
from stream.config_sections import SourceConfig
from stream.windows.assembler import WindowAssembler


def make_calibrator(
    source: SourceConfig,
    info: SourceInfo,
    *,
    threshold: Literal["auto"] | tuple[float, float] = "auto",
    learns: bool = True,
) -> Calibrator:
    """Make the calibrator of a stream: what is set or known stays, the rest is learned.

    Args:
        source: its time offset is used, if it is set.
        info: of the source; its time offset is used, if it knows one.
        threshold: (positive, negative) to fix them.
        learns: False where there are no pairs of frames to learn from.
    """
    time_offset_us = info.time_offset_us if source.time_offset_us == "auto" else source.time_offset_us
    if time_offset_us is None and not learns:
        # Without frames there is nothing that events could be late against, and no pair to wait for.
        time_offset_us = 0.0
    return Calibrator(thresholds=None if threshold == "auto" else threshold, time_offset_us=time_offset_us)


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
        if not window.frames:
            return window if self._calibrator.wants() else None
        # The windows of a live edge have one frame after the other, each of them many times; a stream's last pair
        # has two windows.
        if window.frames[-1] is self._seen:
            return None
        previous = None if len(window.frames) == 2 else self._assembler.frame_before(window)
        if len(window.frames) == 1 and previous is None:
            return None
        self._seen = window.frames[-1]
        if not self._calibrator.wants():
            return None
        return window if previous is None else self._assembler.paired(previous, window)

    def _observe(self, pair: ContentWindow) -> None:
        if pair.frames:
            self._calibrator.observe(pair.frames, pair.events, pair.gaps)
        else:
            self._calibrator.observe_alone(pair.events, (pair.geometry.height, pair.geometry.width))
        self._assembler.guard(self._calibrator.guard_us)
