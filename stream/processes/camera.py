"""One camera in the consumer: packets of its rings in, its exposed frames out; and a camera that is still to come."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from nire.types import Packet
from stream.clock import now_ns
from stream.config import Config
from stream.processes.background import Background
from stream.processes.board import State
from stream.processes.child import Seat
from stream.processes.current_session import CurrentSession
from stream.processes.joining import join_if_there, read
from stream.processes.method import Method
from stream.processes.outlet import Outlet
from stream.processes.requests import Requests
from stream.processes.status import StatusKeeper
from stream.processes.wishes import Wishes
from stream.rings.ring import RingReader
from stream.session.shares import Shares
from stream.sockets.control import ControlServer, Pending
from stream.sockets.publisher import Publisher

_STATUS_NS = 1_000_000_000
_FIRST_LINE_NS, _LINE_NS = 2_000_000_000, 5_000_000_000
_log = logging.getLogger(__name__)


class Arrival:
    """A camera that is to come: its producer opens it, then its method is made.

    Attributes:
        name: of the camera among several; "" = it is alone.
        seat: the consumer's in its stream.
        config: of the camera.
        reader: of its rings; None until they are joined. It belongs to the caller.
        orders: of the supervisor, for the camera that it becomes.
    """

    def __init__(self, seat: Seat, config: Config, name: str, ready: Method | None = None) -> None:
        """Wait for one.

        Args:
            seat: the consumer's in its stream.
            config: of the camera.
            name: of the camera among several; "" = it is alone.
            ready: its method, where a spare has made it.
        """
        self.name = name
        self.seat = seat
        self.reader: RingReader | None = None
        self.orders: list[dict[str, Any]] = []
        self.config = config
        self._method = ready
        self._made: Background[Method] | None = None
        self._began_ns = 0

    @property
    def waits_for(self) -> str:
        """What it does before it is there, for people."""
        if self._made is None:
            return "its source is being opened"
        seconds = (now_ns() - self._began_ns) * 1e-9
        return f"its method is being made, for {seconds:.0f} s now; what takes long is kept for the next start"

    @property
    def is_making(self) -> bool:
        """Its method is being made."""
        return self._made is not None and not self._made.is_done

    def look(self, others: Sequence[Method], *, may_make: bool) -> Method | None:
        """Tell whether it is there: its rings are joined and its method is made, beside the loop; None until then.

        Args:
            others: methods of cameras that are there; what is alike is shared.
            may_make: begin to make it; else wait, for what is being made for another one may be alike.

        Raises:
            NireError: the rings cannot be joined, or the method cannot be made.
        """
        self.seat.beat()
        if self.reader is None and (reader := join_if_there(self.seat, self.config)) is not None:
            self.reader = reader
        if self.reader is None:
            return None
        info = self.reader.info
        if self._method is not None and self._method.suits(info):
            return self._method
        if self._made is None and (shared := Method.beside(others, self.config, info)) is not None:
            return shared
        if self._made is None and may_make:
            self._began_ns = now_ns()
            self._made = Background(partial(Method.opened, self.config, info), name=f"method of {self.name}")
        return self._made.result() if self._made is not None and self._made.is_done else None

    def stop_all(self) -> None:
        """Have the supervisor end all cameras; raises as `Wishes.stop`."""
        Wishes.end_all(self.seat)

    @property
    def is_lost(self) -> bool:
        """Its producer has ended for good before it was there."""
        return self.reader is None and _is_over(self.seat)


class Camera:
    """A camera that is there.

    Attributes:
        name: among several; "" = it is alone.
        method: that it began with.
        ended: its source has ended, and all that it gave was answered.
    """

    def __init__(
        self,
        arrival: Arrival,
        reader: RingReader,
        method: Method,
        publisher: Publisher,
        control: ControlServer,
        shares: Shares,
    ) -> None:
        """Begin.

        Args:
            arrival: what it was before.
            reader: of its rings.
            method: warmed up.
            publisher: sends.
            control: takes requests.
            shares: of the time, among all cameras.

        Raises:
            ConfigError: method, source and plan do not go together.
        """
        self.name = arrival.name
        self.method = method
        self.ended = False
        self._seat = seat = arrival.seat
        self._publisher = publisher
        self._control = control
        self._reader = reader
        self._shares = shares
        share = partial(shares.of, self.name)
        self._keeper = StatusKeeper(
            arrival.config,
            reader.info,
            seat.board,
            seat.row,
            publisher.address,
            control.address,
            arrival.name,
            share,
        )
        self._outlet = Outlet(seat, self._keeper, reader, publisher)
        self._current = CurrentSession(
            seat,
            self._keeper,
            self._outlet.tally,
            self._outlet.publish,
            method,
            share=share,
            is_alone=not arrival.name,
        )
        self._wishes = Wishes(seat, self._keeper)
        self._requests = Requests(self._current, self._wishes, self._outlet, self._keeper)
        self._status_due_ns = 0
        self._line_due_ns = now_ns() + _FIRST_LINE_NS
        for order in arrival.orders:
            self.hear(order)
        seat.beat(State.READY)

    @property
    def stream_name(self) -> str:
        """Of its rings."""
        return self._seat.stream_name

    @property
    def is_busy(self) -> bool:
        """Its windows are being answered: images come without packets too."""
        return self._current.session.is_busy

    @property
    def is_full(self) -> bool:
        """As many of its windows are being answered as can be."""
        return self._current.session.is_full

    def hear(self, order: dict[str, Any]) -> None:
        """Take what the supervisor says of this camera."""
        self._wishes.hear(order)

    def answer(self, request: dict[str, Any]) -> Mapping[str, Any] | Pending:
        """Carry out a request; see `Requests.answer`."""
        return self._requests.answer(request)

    def stop_all(self) -> None:
        """Have the supervisor end all cameras; raises as `Wishes.stop`."""
        Wishes.end_all(self._seat)

    def status(self) -> dict[str, Any]:
        """All that the stream says about this camera."""
        return self._current.status()

    def turn(self, serve: Callable[[], object], *, wait_s: float = 0.0) -> bool:
        """Take what has come, answer the windows that it completes, and say now and then how it goes.

        Args:
            serve: called between packets of a source that keeps no time: answers the control socket.
            wait_s: how long to wait for packets; while it `is_full`, for images.

        Returns:
            Whether there was anything.
        """
        self._current.change_method()
        is_over = _is_over(self._seat)  # what it sent before is there to be read
        if wait_s > 0 and self.is_full:
            # Packets come every other millisecond, and to wake for each of them takes from what windows need.
            self._current.session.wait(wait_s)
            wait_s = 0.0
        packets = read(self._seat, self._reader, wait_s)
        began_ns = now_ns()
        # A new producer may bring another sensor.
        if self._reader.info != self._keeper.info and self._current.follow(self._reader.info):
            self._outlet.begin_events()
        self._take(packets, serve)
        self._shares.spent(self.name, now_ns() - began_ns, now_ns())
        self._tell()
        if self._reader.ended or (is_over and not packets):
            self.finish()
        return bool(packets)

    def ahead(self) -> bool:
        """Work a little on what is still arriving; False where nothing is to be done."""
        return self._current.session.ahead()

    def finish(self) -> None:
        """Answer what is left; for good."""
        self.ended = True
        self._outlet.publish(self._current.session.finish())
        self._seat.beat(State.ENDED)
        self._status_due_ns = 0
        self._tell()

    def sum_up(self) -> None:
        """Log what came in, what was lost and what was made of it."""
        row = self._seat.row
        _log.info(
            "%sin: %d events, %d frames; lost: %d events, %d frames; out: %d frames from %d windows, %d late; "
            "%d queries reduced: %s",
            f"{self.name}: " if self.name else "",
            row["events_in"],
            row["frames_in"],
            row["lost_events"],
            row["lost_frames"],
            row["exposed"],
            row["windows"],
            row["late_windows"],
            row["reduced_queries"],
            self._keeper.mean_rate(self._current.session.plan),
        )

    def _take(self, packets: list[Packet], serve: Callable[[], object]) -> None:
        """Everything at once where the freshest counts; else piece by piece, so that control is never kept waiting."""
        if self._keeper.info.live:
            session = self._current.session
            self._outlet.publish(session.feed(packets), packets)
            self._outlet.show(packets, session.wall)
            return
        if not packets:
            self._outlet.publish(self._current.session.feed([]))
        for packet in packets:
            session = self._current.session
            self._outlet.publish(session.feed([packet]))
            self._outlet.show([packet], session.wall)
            serve()
        self._outlet.note(packets)

    def _tell(self) -> None:
        now = now_ns()
        if now >= self._status_due_ns:
            self._status_due_ns = now + _STATUS_NS
            self._keeper.rates.tick(self._seat.row, now)
            self._publisher.send_status(self.status(), camera=self.name)
        if now >= self._line_due_ns:
            self._line_due_ns = now + _LINE_NS
            session = self._current.session
            _log.info("%s", self._keeper.line(session.plan, session.paused))


def _is_over(seat: Seat) -> bool:
    """Tell whether the producer has ended and is not started again."""
    return seat.board.row("producer").state == State.ENDED
