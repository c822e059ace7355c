"""Out of the consumer: exposed frames, and captured frames and events for those who look; all counted on the board."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from nire.types import EventBatch, ExposedFrame, Frame, Packet
from nire.wall_time import WallTimes
from stream.clock import now_ns
from stream.processes.board import Row, State
from stream.processes.child import Seat
from stream.processes.joining import losses_before, note_losses, note_progress
from stream.processes.status import StatusKeeper
from stream.rings.ring import RingReader
from stream.session.tally import Counters, Indices, Tally
from stream.sockets.event_image import EventImager
from stream.sockets.publisher import Publisher
from stream.sockets.wire import EVENTS_TOPIC, camera_topic

_COUNTED = (
    "windows",
    "exposed",
    "late_windows",
    "reduced_queries",
    "unanswered",
    "out_of_memory",
    "built_ahead",
    "fallback_windows",
)
"""Of a session's counters, those that are on the board."""


class Outlet:
    """Publishes, and notes on the board what came in and what was made of it.

    Attributes:
        tally: of all sessions; it goes on where a predecessor left it on the board.
    """

    def __init__(self, seat: Seat, keeper: StatusKeeper, reader: RingReader, publisher: Publisher) -> None:
        """Begin.

        Args:
            seat: the consumer's.
            keeper: of the status; knows the camera.
            reader: of the packets that are noted.
            publisher: sends.
        """
        self.tally = _tally_before(seat)
        self._seat = seat
        self._keeper = keeper
        self._reader = reader
        self._publisher = publisher
        self._epoch = 0
        self.begin_events()

    def begin_events(self) -> None:
        """Begin with the images of events: the sensor, or how they shall be, is another."""
        preview = self._keeper.config.preview
        first_index = self._seat.row["event_images"]
        self._imager = EventImager(
            self._reader.geometry, span_us=preview.events_ms * 1e3, fps=preview.fps, first_index=first_index
        )

    def publish(self, frames: Iterable[ExposedFrame], packets: Iterable[Packet] = ()) -> None:
        """Send frames. What was counted is noted before each leaves: a total that was told never goes back.

        Args:
            frames: as the session hands them out.
            packets: that it takes meanwhile, noted with the first frame: those of a consumer that is killed earlier
                were never taken, and count as lost.
        """
        for frame in frames:
            if packets:
                self.note(packets)
                packets = ()
            else:
                self._note_totals()
            frame = self.send(frame)
            self._keeper.count(frame)
            stamps = frame.stamps
            if stamps.received_ns:
                self._seat.row.latency.add(stamps.published_ns - stamps.received_ns)
            self._seat.beat()
        self.note(packets)

    def send(self, frame: ExposedFrame) -> ExposedFrame:
        """Send a frame that was asked for beside the plan; as `Publisher.send_frame`."""
        return self._publisher.send_frame(frame, camera=self._keeper.camera)

    def show(self, packets: Iterable[Packet], wall: WallTimes) -> None:
        """Send captured frames and images of events, for those who look.

        Args:
            packets: as they came.
            wall: what is known of wall time.
        """
        camera = self._keeper.camera
        wants_events = self._publisher.wants(camera_topic(camera, EVENTS_TOPIC))
        for packet in packets:
            if isinstance(packet, Frame):
                self._keeper.newest_us = packet.last_us
                numbered = counted_on(packet, self._seat.row)
                self._publisher.send_captured(numbered, wall.at(packet.mid_us, packet.epoch), camera=camera)
            elif isinstance(packet, EventBatch):
                self._keeper.newest_us = float(packet.watermark_us)
                self._epoch = packet.epoch
                if wants_events:
                    self._imager.add(packet)
        if not wants_events:
            self._imager.clear()
        elif (image := self._imager.take(now_ns())) is not None:
            self._seat.row["event_images"] = image.index + 1
            middle_us = (image.t_a_us + image.t_b_us) / 2
            self._publisher.send_events(image, wall.at(middle_us, self._epoch), camera=camera)

    def note(self, packets: Iterable[Packet]) -> None:
        """Note all that came in, and what was made of it."""
        if packets:
            note_progress(self._seat, self._reader, packets, self.tally.losses)
        self._note_totals()
        self._seat.beat(State.RUNNING if packets else None)

    def _note_totals(self) -> None:
        note_losses(self._seat, self.tally.losses)
        for name in _COUNTED:
            self._seat.row[name] = getattr(self.tally.counters, name)


def counted_on(frame: Frame, row: Row) -> Frame:
    """Number a captured frame for those who look: by the camera's count, and on from there where that begins anew.

    It is noted before the frame leaves: no index comes twice, in this life of the consumer or a later one.

    Args:
        frame: as it came.
        row: the consumer's.
    """
    clock = frame.epoch + 1
    begins_anew = row["captured_clock"] not in (0, clock) or frame.index + row["captured_ahead"] < row["captured"]
    if begins_anew:
        row["captured_ahead"] = row["captured"] - frame.index
    row["captured_clock"] = clock
    index = frame.index + row["captured_ahead"]
    row["captured"] = index + 1
    return replace(frame, index=index)


def _tally_before(seat: Seat) -> Tally:
    """Counts as a predecessor left them on the board; all zero in a first life."""
    counters = Counters(**{name: seat.before[name] for name in _COUNTED})
    return Tally(counters, losses_before(seat.before), Indices(seat.board.index_memory))
