"""Frames of a frame camera, on demand from a recording, as they come from a live camera (a thread reads it)."""

from __future__ import annotations

import contextlib
import itertools
import threading
from collections import deque
from collections.abc import Iterator
from types import TracebackType
from typing import Self

from drivers.cameras.hybrid.frame_cameras import CapturedFrame, FrameCamera

_MOST_FRAMES = 32  # of a live camera that wait; the oldest goes, which leaves a hole in the indices
_LEAVE_S = 5.0


class FrameFeed:
    """Hands out frames without making the event camera wait."""

    def __init__(self, camera: FrameCamera) -> None:
        """Wrap an entered camera."""
        self._camera = camera
        self._frames: Iterator[CapturedFrame | None] = iter(())
        self._arrived: deque[CapturedFrame] = deque(maxlen=_MOST_FRAMES)
        self._thread: threading.Thread | None = None
        self._error: Exception | None = None
        self._given = 0
        self._leaving = False
        self.ended = False
        """No frame will come any more."""

    @property
    def ended_without_frames(self) -> bool:
        """Tell whether there never was a frame."""
        return self.ended and not self._given

    def __enter__(self) -> Self:
        """Begin: a live camera is read from now on."""
        if self._camera.info.live:
            self._thread = threading.Thread(target=self._read, name="frame camera", daemon=True)
            self._thread.start()
        else:
            self._frames = iter(self._camera)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop reading; the camera itself is closed by its owner."""
        self._leaving = True
        if self._thread is not None:
            self._thread.join(_LEAVE_S)

    def take(self, wanted: int) -> list[CapturedFrame]:
        """Take frames: of a recording at most so many, of a live camera all that have come.

        Raises:
            NireError: whatever the camera raised.
        """
        if self._thread is None:
            frames = [frame for frame in itertools.islice(self._frames, wanted) if frame is not None]
            self.ended |= len(frames) < wanted
        else:
            frames = []
            with contextlib.suppress(IndexError):
                while True:
                    frames.append(self._arrived.popleft())
            if self._error is not None:
                raise self._error
        self._given += len(frames)
        return frames

    def _read(self) -> None:
        try:
            for frame in self._camera:
                if self._leaving:
                    return
                if frame is not None:
                    self._arrived.append(frame)
            self.ended = True
        except Exception as error:  # noqa: BLE001 - raised where the frames are taken
            if not self._leaving:
                self._error = error
