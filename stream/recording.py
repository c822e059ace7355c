"""A recording or a camera, opened for programs: its frames, its events, and windows that are exposed at will."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import cached_property
from numbers import Real
from threading import Lock
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from drivers.source import Source
from nire.errors import RecordingDamaged, SourceError
from nire.shutter import Shutter
from nire.threads import windows_at_once
from nire.types import ContentWindow, EventBatch, Frame
from stream.clock import now_ns
from stream.config import Config, changed, with_settings
from stream.reading import Reading
from stream.session.session import Session
from stream.sources import SourceOrder, open_source

# What brings torch is imported where it is used: `import nire_live` does not wait for it.

EVENT = np.dtype([("t", np.int64), ("x", np.uint16), ("y", np.uint16), ("p", np.uint8)])
"""One event: `t` device time, us; `x`, `y` column and row; `p` 1 brighter, 0 darker."""

ShutterLike = Shutter | float | tuple[float, float] | tuple[float, float, float]
"""A shutter, an instant t_us, or (t_a_us, t_b_us) and if wanted the row delay, us."""

_SECTIONS = ("window", "reconstructor", "planes")


class Window:
    """A stretch of a recording that answers any shutter, as often as asked, also when later windows were taken.

    It may be asked by several threads: one call waits for the other, because all windows share what computes.

    Attributes:
        frames: its captured frames: 0, 1 or 2.
        covered_us: (first, last) device time that a row of a shutter may reach.
        backend: the method that answers, "neural" or "edi" for instance.
    """

    def __init__(self, session: Session, window: ContentWindow, turn: Lock) -> None:
        """Wrap a window of a session, which is asked by who has the turn."""
        self.frames: list[Frame] = list(window.frames)
        self.covered_us: tuple[float, float] = window.covered_us
        self.backend: str = session.backend
        self._session = session
        self._window = window
        self._turn = turn

    def __repr__(self) -> str:
        """Say when it is, and who answers, in one line."""
        first_us, last_us = self.covered_us
        return f"Window({first_us:.0f} to {last_us:.0f} us, {len(self.frames)} frames, by {self.backend})"

    @cached_property
    def events(self) -> NDArray[np.void]:
        """The events of the window: `EVENT` [N], with the device's time stamps."""
        return _structured([self._window.events])

    def expose(self, t_a_us: float, t_b_us: float | None = None, row_delay_us: float = 0.0) -> NDArray[np.uint8]:
        """Expose one image.

        Args:
            t_a_us: start of the first row's exposure, device time.
            t_b_us: its end; None = the instant `t_a_us`.
            row_delay_us: row y is exposed that many microseconds later than row y - 1; 0 = a global shutter.

        Returns:
            uint8 [H, W], or [H, W, 3] in colour (RGB).

        Raises:
            ShutterOutsideWindow: it reaches beyond `covered_us`.
            ValueError: it ends before it starts.
        """
        return self.expose_many([(t_a_us, t_a_us if t_b_us is None else t_b_us, row_delay_us)])[0]

    def expose_many(self, shutters: Iterable[ShutterLike]) -> NDArray[np.uint8]:
        """Expose images together, which is faster than one by one.

        Args:
            shutters: N of them.

        Returns:
            uint8 [N, H, W], or [N, H, W, 3] in colour (RGB).

        Raises:
            ShutterOutsideWindow: one of them reaches beyond `covered_us`.
            ValueError: one of them ends before it starts, is no shutter, or is one of another sensor.
        """
        film = self._window.film
        laid_out = [_shutter(wanted, film.height) for wanted in shutters]
        for shutter in laid_out:
            self._window.require(shutter)
        images = np.empty((len(laid_out), film.height, film.width, film.channels), np.uint8)
        with self._turn:
            frames = self._session.ask_all_of(self._window, laid_out, "expose") if laid_out else ()
            for image, frame in zip(images, frames, strict=True):
                image[:] = frame.pixels
        return images[..., 0] if film.channels == 1 else images


class Recording:
    """An open recording or camera. `frames`, `events` and `windows` each read it from its beginning.

    Attributes:
        info: its name, sensor and length.
        damage: why `frames` or `events` end early; None if no damage was found.
    """

    def __init__(self, config: Config, order: SourceOrder) -> None:
        """Open; use `stream.api.open`.

        Raises:
            SourceError: it cannot be opened.
        """
        self._config, self._order = config, order
        self._opened = ExitStack()
        self._is_open = True
        self._unread: Source | None = self._opened.enter_context(open_source(config.source, order))
        self.info = self._unread.info
        self.damage: RecordingDamaged | None = None

    def __repr__(self) -> str:
        """Say what it is in one line."""
        geometry, length_us = self.info.geometry, self.info.duration_us
        length = "live" if length_us is None else f"{length_us * 1e-6:.3f} s"
        return f"Recording({self.info.name}, {geometry.width} x {geometry.height}, {length})"

    @cached_property
    def frames(self) -> list[Frame]:
        """The captured frames in order, pixels uint8 [H, W, C]; all of them in memory.

        Raises:
            SourceError: a live camera, which has no end.
        """
        return [packet for packet in self._everything() if isinstance(packet, Frame)]

    @cached_property
    def events(self) -> NDArray[np.void]:
        """All events in memory: `EVENT` [N], inside the sensor, sorted until the device clock is reset.

        Raises:
            SourceError: a live camera, which has no end.
        """
        return _structured([packet for packet in self._everything() if isinstance(packet, EventBatch)])

    def windows(self, policy: str = "pair", backend: str = "auto", **overrides: Any) -> Iterator[Window]:
        """Cut it into windows, and calibrate on the way.

        Args:
            policy: "pair" (two frames and what lies between), "single", "live_edge" or "span". Without frames
                "pair" means "span".
            backend: the method; "auto" = as configured, by default the network, or the double integral where there are
                no weights for the source.
            overrides: keys of [reconstructor] (device, threads, ...), [window] and [planes], without their section.

        Raises:
            ConfigError: an override is unknown, or settings contradict each other.
            SourceError: the method needs frames and there are none; or the source cannot be read.
            RecordingDamaged: the recording is damaged; raised after all windows from before the damage.
        """
        config = with_settings(self._config, {"policy": policy, "backend": backend, **overrides}, _SECTIONS)
        return self._windows(config)

    def close(self) -> None:
        """Close; safe to call twice. What was read stays."""
        self._is_open = False
        self._opened.close()

    def __enter__(self) -> Self:
        """Nothing more to do."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close."""
        self.close()

    def _windows(self, config: Config) -> Iterator[Window]:
        with self._source() as source:
            session, reading = session_of(config, source, reach_us=config.window.margin_us)
            turn = Lock()
            for window in session.windows(reading):
                yield Window(session, window, turn)
        if reading.damage is not None:
            raise reading.damage

    def _everything(self) -> Iterator[object]:
        if self.info.live and self.info.duration_us is None:
            raise SourceError(
                f"{self.info.name} is live and has no end: iterate over windows(), or record it first "
                "(nire-live record)"
            )
        with self._source() as source:
            reading = Reading(source, self._config.source, needs_frames=False)
            yield from reading
        self.damage = reading.damage or self.damage

    @contextmanager
    def _source(self) -> Iterator[Source]:
        """Hand out a source that nothing was read from yet, and close it afterwards."""
        if not self._is_open:
            raise SourceError(f"{self.info.name} is closed; open it again")
        source, self._unread = self._unread, None
        if source is None:
            source = self._opened.enter_context(open_source(self._config.source, self._order))
        try:
            yield source
        finally:
            source.__exit__(None, None, None)


def session_of(config: Config, source: Source, *, reach_us: int | None = None) -> tuple[Session, Reading]:
    """Make a session, and what it is to be fed, over a source that is entered.

    Args:
        config: as wanted.
        source: nothing was read from it yet.
        reach_us: as for `Session`: given where shutters of one's own are asked instead of the plan.

    Raises:
        ConfigError, SourceError: source, windows and method do not go together.
    """
    from stream.backends import open_reconstructor

    info = source.info
    reconstructor = open_reconstructor(config, info.geometry, has_frames=info.has_frames)
    uses_frames = info.has_frames and reconstructor.needs_frames
    if reach_us is not None and config.window.policy == "pair" and not uses_frames:
        config = changed(config, {"window": {"policy": "auto"}})
    at_once = windows_at_once(config.reconstructor.threads)
    session = Session(config, info, reconstructor, freshest=False, clock=now_ns, reach_us=reach_us, at_once=at_once)
    return session, Reading(source, config.source, needs_frames=reconstructor.needs_frames)


def _shutter(wanted: ShutterLike, height: int) -> Shutter:
    if isinstance(wanted, Shutter):
        return wanted
    times = wanted if isinstance(wanted, tuple) else (wanted, wanted)
    if len(times) not in (2, 3) or not all(isinstance(time, Real) for time in times):
        raise ValueError(
            f"{wanted!r} is no shutter; expected a Shutter, an instant, or (t_a_us, t_b_us) and if wanted row_delay_us"
        )
    row_delay_us = float(times[2]) if len(times) == 3 else 0.0
    return Shutter.rolling(float(times[0]), float(times[1]), row_delay_us=row_delay_us, height=height)


def _structured(batches: Sequence[EventBatch]) -> NDArray[np.void]:
    events = np.empty(sum(map(len, batches)), EVENT)
    start = 0
    for batch in batches:
        part = events[start : start + len(batch)]
        part["t"], part["x"], part["y"], part["p"] = batch.t_us, batch.x, batch.y, batch.p
        start += len(batch)
    return events
