"""The data that flows: frozen values, arrays never written after construction, device time in int64 microseconds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from nire.errors import ShutterOutsideWindow
from nire.shutter import Shutter

Transfer = Literal["linear", "srgb"]


@dataclass(frozen=True, slots=True)
class Geometry:
    """Size of a sensor.

    Attributes:
        width, height: pixels; origin top-left, arrays are [H, W].
        channels: of its frames: 1 gray, 3 RGB.
        bayer: colours of the filter that the event pixels lie behind, top left 2 x 2 ("RGGB"); "" = none.
    """

    width: int
    height: int
    channels: int = 1
    bayer: str = ""


@dataclass(frozen=True, slots=True, eq=False)
class EventBatch:
    """Events in the order of their time stamps, with a promise about the future.

    Attributes:
        t_us: int64 [N], device time, sorted.
        x, y: uint16 [N], column and row.
        p: uint8 [N], 1 brighter, 0 darker.
        watermark_us: no later batch holds an event before this time. An empty batch with a new watermark is
            the heartbeat of a scene in which nothing moves.
        received_ns: host monotonic time at which the batch reached us; 0 where meaningless (files).
        epoch: life of the device clock; grows when the clock starts again.
    """

    t_us: NDArray[np.int64]
    x: NDArray[np.uint16]
    y: NDArray[np.uint16]
    p: NDArray[np.uint8]
    watermark_us: int
    received_ns: int = 0
    epoch: int = 0

    def __len__(self) -> int:
        """Count the events."""
        return int(self.t_us.shape[0])

    def __repr__(self) -> str:
        """Say how many and from when to when, in one line."""
        span = f"{self.t_us[0]} to {self.t_us[-1]} us" if len(self) else f"until {self.watermark_us} us"
        return f"EventBatch({len(self)} events, {span})"

    @classmethod
    def empty(cls, watermark_us: int, *, received_ns: int = 0, epoch: int = 0) -> EventBatch:
        """Make a heartbeat: no event, only the promise."""
        return cls(
            np.empty(0, np.int64),
            np.empty(0, np.uint16),
            np.empty(0, np.uint16),
            np.empty(0, np.uint8),
            watermark_us,
            received_ns,
            epoch,
        )

    def part(self, which: slice | NDArray[np.bool_] | NDArray[np.intp], watermark_us: int | None = None) -> EventBatch:
        """Take some of the events; a slice copies nothing.

        Args:
            which: a slice; or bool [N], True where an event is taken; or places, in the order in which to take them.
            watermark_us: the promise of the part; None = that of the whole.
        """
        return replace(
            self,
            t_us=self.t_us[which],
            x=self.x[which],
            y=self.y[which],
            p=self.p[which],
            watermark_us=self.watermark_us if watermark_us is None else watermark_us,
        )

    @classmethod
    def joined(cls, batches: Sequence[EventBatch], watermark_us: int | None = None) -> EventBatch:
        """Join batches that follow one another; what is not a column comes from the last.

        Args:
            batches: at least one, of one epoch.
            watermark_us: the promise of the whole; None = that of the last.
        """
        return replace(
            batches[-1],
            t_us=np.concatenate([batch.t_us for batch in batches]),
            x=np.concatenate([batch.x for batch in batches]),
            y=np.concatenate([batch.y for batch in batches]),
            p=np.concatenate([batch.p for batch in batches]),
            watermark_us=batches[-1].watermark_us if watermark_us is None else watermark_us,
        )


@dataclass(frozen=True, slots=True, eq=False)
class Frame:
    """A captured image and the interval it was exposed over.

    Attributes:
        index: count of the camera; a hole means a lost frame.
        pixels: uint8 [H, W, C].
        exposure_start_us, exposure_end_us: of the first row; equal = an instant.
        row_delay_us: alpha of a rolling shutter, 0 = global.
        transfer: "linear" where pixel values are proportional to light, else "srgb".
        received_ns: host monotonic time at which the frame reached us; 0 where meaningless.
        epoch: life of the device clock.
        exposure_known: False where the source knows only one time stamp (then start = end = that stamp).
        lost_before: frames that a ring lost between the one before and this one.
    """

    index: int
    pixels: NDArray[np.uint8]
    exposure_start_us: int
    exposure_end_us: int
    row_delay_us: float = 0.0
    transfer: Transfer = "linear"
    received_ns: int = 0
    epoch: int = 0
    exposure_known: bool = True
    lost_before: int = 0

    def __repr__(self) -> str:
        """Say what it is in one line, without its pixels."""
        return f"Frame({self.index}, {_size(self.pixels)}, {self.shutter!r})"

    def _repr_png_(self) -> bytes:
        """Show it in a notebook."""
        return _png(self.pixels)

    @property
    def shutter(self) -> Shutter:
        """The shutter that this frame was captured with."""
        return Shutter.rolling(
            float(self.exposure_start_us),
            float(self.exposure_end_us),
            row_delay_us=self.row_delay_us,
            height=self.pixels.shape[0],
        )

    @property
    def first_us(self) -> float:
        """The earliest moment any row of it was exposed."""
        return self.exposure_start_us + min(0.0, self.row_delay_us * (self.pixels.shape[0] - 1))

    @property
    def last_us(self) -> float:
        """The latest moment any row of it was exposed."""
        return self.exposure_end_us + max(0.0, self.row_delay_us * (self.pixels.shape[0] - 1))

    @property
    def mid_us(self) -> float:
        """Middle of the middle row's exposure."""
        return (self.exposure_start_us + self.exposure_end_us) / 2 + self.row_delay_us * (self.pixels.shape[0] // 2)


@dataclass(frozen=True, slots=True)
class Gap:
    """Events in [t0_us, t1_us) are missing: lost packets, an overrun, a restart, a camera that does not send them.

    Attributes:
        reason: a few words for people and logs.
        received_ns, epoch: as in `EventBatch`.
        lost_events: how many a ring lost there; 0 where nothing was lost on our way, or nobody can tell how much.
    """

    t0_us: int
    t1_us: int
    reason: str
    received_ns: int = 0
    epoch: int = 0
    lost_events: int = 0


@dataclass(frozen=True, slots=True)
class WallClock:
    """How device time maps to the wall's clock (CLOCK_REALTIME): holds from `device_us` on, until the next one.

    Attributes:
        device_us, wall_ns: belong together; ns since 1970.
        rate: wall time that passes in a unit of device time: 1 + drift.
        uncertainty_us: that `wall_ns` may be off either way; None = nobody tells.
        rate_uncertainty: that `rate` may be off either way.
        received_ns, epoch: as in `EventBatch`.
    """

    device_us: int
    wall_ns: int
    rate: float = 1.0
    uncertainty_us: float | None = None
    rate_uncertainty: float = 0.0
    received_ns: int = 0
    epoch: int = 0

    def wall_at(self, device_us: float) -> int:
        """Wall time of a device time, ns since 1970."""
        return self.wall_ns + round((device_us - self.device_us) * 1000 * self.rate)

    def device_at(self, wall_ns: int) -> float:
        """Device time of a wall time, us."""
        return self.device_us + (wall_ns - self.wall_ns) / (1000 * self.rate)

    def uncertainty_at(self, device_us: float) -> float | None:
        """How far `wall_at(device_us)` may be off either way, us; None = nobody tells."""
        if self.uncertainty_us is None:
            return None
        return self.uncertainty_us + abs(device_us - self.device_us) * self.rate_uncertainty


@dataclass(frozen=True, slots=True)
class Trigger:
    """An edge on a trigger input. `rising` is the signal's direction; `channel` the device's own number."""

    t_us: int
    channel: int
    rising: bool


@dataclass(frozen=True, slots=True, eq=False)
class ImuBatch:
    """Inertial samples: t_us int64 [N]; accelerometer_mps2 and gyroscope_radps float32 [N, 3]."""

    t_us: NDArray[np.int64]
    accelerometer_mps2: NDArray[np.float32]
    gyroscope_radps: NDArray[np.float32]


Packet = EventBatch | Frame | Gap | WallClock
"""What re-exposure needs, and how its times map to the wall's clock where that is known."""
SourcePacket = Packet | Trigger | ImuBatch
"""What a source may yield; the extras may be ignored."""


@dataclass(frozen=True, slots=True)
class Film:
    """What kind of image is wanted. Fields in pixels."""

    height: int
    width: int
    channels: int = 1


@dataclass(frozen=True, slots=True)
class Query:
    """One film/shutter pair: an image that is asked of a content. `tag` names its stream ("upsample", ...)."""

    film: Film
    shutter: Shutter
    tag: str


@dataclass(frozen=True, slots=True, eq=False)
class Calibration:
    """What is believed about the sensor; see `nire.calibrate`.

    Attributes:
        threshold_positive, threshold_negative: change of log intensity that one event stands for, > 0.
        time_offset_us: event time minus frame time of the same moment.
        hot_pixels: bool [H, W], True = its events are ignored; None = none known.
        misfit: share of the pixels that changed from frame to frame by two thresholds or more whose events miss that by
            one and a half; near 0 for a good sensor. None = not known: too few changed, or events are missing.
    """

    threshold_positive: float = 0.25
    threshold_negative: float = 0.25
    time_offset_us: float = 0.0
    hot_pixels: NDArray[np.bool_] | None = None
    misfit: float | None = None

    def says_the_same_as(self, other: Calibration) -> bool:
        """Tell whether contents built with one and with the other are the same."""
        numbers = ("threshold_positive", "threshold_negative", "time_offset_us", "misfit")
        if any(getattr(self, name) != getattr(other, name) for name in numbers):
            return False
        if self.hot_pixels is None or other.hot_pixels is None:
            return self.hot_pixels is other.hot_pixels
        return self.hot_pixels is other.hot_pixels or np.array_equal(self.hot_pixels, other.hot_pixels)


@dataclass(frozen=True, slots=True, eq=False, weakref_slot=True)
class ContentWindow:
    """Host data of one window [t0_us, t1_us): the events temporally encompass the frames (paper Sec. 5.2).

    Attributes:
        index: counts windows; a hole means a window that was skipped.
        t0_us, t1_us: the span of the events, raw event time.
        frames: 0, 1 or 2, in order.
        events: all events of the span, time as the device stamped it (the calibration's offset not removed).
        geometry: of the sensor.
        gaps: missing spans that touch the window.
        answers_us: [first, last) centre of the shutters that this window answers under its policy.
        covered_us: (first, last) moment that any row of a shutter may touch.
        calibration: what to build with.
        received_ns: when the newest packet that the window needed was received.
    """

    index: int
    t0_us: int
    t1_us: int
    frames: tuple[Frame, ...]
    events: EventBatch
    geometry: Geometry
    gaps: tuple[Gap, ...] = ()
    answers_us: tuple[float, float] = (-np.inf, np.inf)
    covered_us: tuple[float, float] = (-np.inf, np.inf)
    calibration: Calibration = field(default_factory=Calibration)
    received_ns: int = 0

    @property
    def transfer(self) -> Transfer:
        """Of the images that it answers: that of its frames; "srgb" without, because such images are only looked at."""
        return self.frames[-1].transfer if self.frames else "srgb"

    @property
    def film(self) -> Film:
        """The film that fits it: the sensor's size, the channels of its frames, and without frames the sensor's."""
        channels = self.frames[-1].pixels.shape[2] if self.frames else self.geometry.channels
        return Film(self.geometry.height, self.geometry.width, channels)

    def require(self, shutter: Shutter) -> None:
        """Check that a shutter is of this sensor, and lies within `covered_us`.

        Raises:
            ValueError: it has other rows, or other pixels, than the sensor.
            ShutterOutsideWindow: it reaches beyond; the message names both spans.
        """
        # Loops that expose trust this: they would read beyond its end.
        found, (height, width) = shutter.t_a_us.shape, (self.geometry.height, self.geometry.width)
        if found not in ((height,), (height, width)):
            raise ValueError(
                f"the shutter has times for {' x '.join(map(str, found))}, expected {height} rows, or "
                f"{height} x {width} pixels: those of the sensor"
            )
        first_us, last_us = self.covered_us
        if shutter.first_us < first_us or shutter.last_us > last_us:
            raise ShutterOutsideWindow(
                f"the shutter [{shutter.first_us:.0f}, {shutter.last_us:.0f}] us lies outside the covered span "
                f"[{first_us:.0f}, {last_us:.0f}] us",
                self.covered_us,
            )


@dataclass(frozen=True, slots=True)
class Stamps:
    """Life of an exposed frame: `device_us` is the middle of its shutter, the rest host monotonic nanoseconds."""

    device_us: float
    received_ns: int = 0
    built_ns: int = 0
    exposed_ns: int = 0
    published_ns: int = 0


@dataclass(frozen=True, slots=True, eq=False)
class ExposedFrame:
    """A computed image: what a shutter would have seen.

    Attributes:
        index: counts exposed frames of one tag; a hole means a lost frame.
        window: index of the window that answered.
        pixels: uint8 [H, W, C].
        shutter: when each row was exposed.
        tag: what it was asked for: the plan's name, or a word of the one who asked.
        stamps: when it was received, built, exposed and published.
        transfer: "linear" or "srgb", as the captured frames.
        evidence_us: device time of the newest event or frame that was used.
        lost_events, lost_frames, late_windows, out_of_memory: running totals of the stream.
        backend, engine: what made it.
        wall_ns: of the shutter's middle, CLOCK_REALTIME, ns since 1970; None = not known.
        wall_uncertainty_us: that `wall_ns` may be off either way; None = not known.
        unanswered: running total of indices that no image of the stream has.
        life: of the process that published it, from 1 on: a larger one has taken over. 0 = none did.
    """

    index: int
    window: int
    pixels: NDArray[np.uint8]
    shutter: Shutter
    tag: str
    stamps: Stamps
    transfer: Transfer = "linear"
    evidence_us: float = 0.0
    lost_events: int = 0
    lost_frames: int = 0
    late_windows: int = 0
    out_of_memory: int = 0
    backend: str = ""
    engine: str = ""
    wall_ns: int | None = None
    wall_uncertainty_us: float | None = None
    unanswered: int = 0
    life: int = 0

    def __repr__(self) -> str:
        """Say what it is in one line, without its pixels."""
        made = f", by {self.backend}" if self.backend else ""
        return f"ExposedFrame({self.tag} {self.index}, {_size(self.pixels)}, {self.shutter!r}{made})"

    def _repr_png_(self) -> bytes:
        """Show it in a notebook."""
        return _png(self.pixels)


def _size(pixels: NDArray[np.uint8]) -> str:
    height, width, channels = pixels.shape
    return f"{width} x {height}" + (f" x {channels}" if channels > 1 else "")


def _png(pixels: NDArray[np.uint8]) -> bytes:
    """Encode an image [H, W, C], gray or RGB."""
    import cv2  # not needed where nothing is shown

    return bytes(cv2.imencode(".png", pixels[..., ::-1] if pixels.shape[2] == 3 else pixels)[1])


Content = Any
"""What `build` returns: opaque, lives on its backend's device."""


@runtime_checkable
class WorksAhead(Protocol):
    """A method of re-exposure that can begin a window before it is complete."""

    def ahead(self, window: ContentWindow) -> bool:
        """Take the next window as far as it has arrived; what is done must change no image nor the present content.

        It is called again and again with more, and as long as it returns True also without more.
        """
        ...


@runtime_checkable
class Rolls(Protocol):
    """A method whose content may go on from the window before: where `rolls` is set, windows are built in order, all.

    A window that is built again gives the same images, whatever was built since.
    """

    @property
    def rolls(self) -> bool:
        """Whether it does."""
        ...


@runtime_checkable
class FallsBack(Protocol):
    """A backend of two methods: a best one, and a fast one that builds the next windows while `falls_back` is set."""

    falls_back: bool


@runtime_checkable
class HasSiblings(Protocol):
    """A method that can be made once more for another stream without loading it again: weights and graph are shared.

    Each has a content of its own, and may work in a thread of its own.
    """

    def sibling(self) -> Reconstructor | None:
        """Make another one for the same sensor; None where this one has what cannot be shared."""
        ...


@runtime_checkable
class WorksBeside(Protocol):
    """A method that can be made once more for the same stream, to build other windows of it in another thread."""

    @property
    def works_beside(self) -> bool:
        """Whether something is gained by it here."""
        ...

    def beside(self) -> Reconstructor:
        """Make another one; only where `works_beside` is set."""
        ...

    def expect(self, window: ContentWindow) -> None:
        """Be told of a window that this one will build, in the order of windows, before it or a later one is built.

        One that rolls learns by it what the window goes on from, which another one may still be building.
        """
        ...


class Reconstructor(Protocol):
    """A method of re-exposure: content once per window (g, Eq. 7), then any number of queries (f, Eq. 6).

    A method that can use idle time is a `WorksAhead` too, one that can give way to a faster one a `FallsBack`,
    one that remembers the window before a `Rolls`, one that several streams can share a `HasSiblings`, one that
    works at several windows of a stream at once a `WorksBeside`.
    """

    name: str
    engine: str
    needs_frames: bool

    def build(self, window: ContentWindow) -> Content:
        """Build the content of a window."""
        ...

    def expose(self, content: Content, queries: Sequence[Query]) -> NDArray[np.uint8]:
        """Expose Q films: uint8 [Q, H, W, C]; valid until the next call.

        Raises:
            ShutterOutsideWindow: a shutter reaches beyond the window's `covered_us`.
            DeviceMemoryFull: so many do not fit; fewer may be asked.
            AcceleratorLost: the device failed for good.
        """
        ...
