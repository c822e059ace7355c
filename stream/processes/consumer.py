"""The consumer process: rings in, exposed frames out. The only process with torch, and the owner of both sockets."""

from __future__ import annotations

import contextlib
import logging

from nire.types import Packet
from stream.clock import now_ns
from stream.config import Config
from stream.processes.board import State
from stream.processes.child import Child
from stream.processes.current_session import CurrentSession
from stream.processes.joining import join, read
from stream.processes.outlet import Outlet
from stream.processes.requests import Requests
from stream.processes.status import Rates, StageLatencies, StatusKeeper
from stream.processes.wishes import Wishes
from stream.rings.ring import RingReader
from stream.sockets.control import ControlServer
from stream.sockets.publisher import Publisher

_READ_S = 0.005
"""How long to wait for packets before the control socket is looked at again."""
_STATUS_NS = 1_000_000_000
_FIRST_LINE_NS, _LINE_NS = 2_000_000_000, 5_000_000_000
_LAST_FRAMES_MS = 200
_log = logging.getLogger(__name__)


def main(child: Child, config: Config) -> int:
    """Be the consumer until the source has ended or the supervisor says stop.

    Args:
        child: this process.
        config: of the stream.

    Returns:
        Exit code 0.

    Raises:
        ConfigError: a socket cannot be bound.
        RingError: the rings cannot be joined.
    """
    with contextlib.ExitStack() as stack:
        publisher = stack.enter_context(Publisher(config.publish, config.security, life=child.row["lives"]))
        control = stack.enter_context(ControlServer(config.control, config.security))
        reader = stack.enter_context(join(child, config))
        consumer = _Consumer(child, config, publisher, control, reader)
        consumer.run()
    return 0


class _Consumer:
    """The loop: serve control, read rings, publish."""

    def __init__(
        self,
        child: Child,
        config: Config,
        publisher: Publisher,
        control: ControlServer,
        reader: RingReader,
    ) -> None:
        self._child = child
        self._publisher = publisher
        self._control = control
        self._reader = reader
        self._keeper = StatusKeeper(
            config,
            reader.info,
            child.board,
            child.row,
            publisher.address,
            control.address,
            StageLatencies(),
            Rates(),
        )
        self._outlet = Outlet(child, self._keeper, reader, publisher)
        self._current = CurrentSession(child, self._keeper, self._outlet.tally, self._outlet.publish)
        self._wishes = Wishes(child, self._keeper)
        self._requests = Requests(self._current, self._wishes, self._outlet, publisher, self._keeper)
        self._status_due_ns = 0
        self._line_due_ns = now_ns() + _FIRST_LINE_NS

    def run(self) -> None:
        """Go round until the end."""
        self._child.beat(State.READY)
        while True:
            self._wishes.hear()
            self._serve_control()
            self._current.change_method()
            packets = self._read()
            self._follow_source()
            self._take(packets)
            self._tell()
            if self._reader.ended or (self._child.stopping and not packets):
                break
        self._outlet.publish(self._current.session.finish())
        self._child.beat(State.ENDED)
        self._status_due_ns = 0
        self._tell()
        # A socket drops what it has not sent when it closes: a moment for the last frames to leave.
        self._serve_control(timeout_ms=_LAST_FRAMES_MS)
        self._sum_up()

    def _serve_control(self, *, timeout_ms: int = 0) -> None:
        self._control.poll(self._requests.answer, timeout_ms=timeout_ms)

    def _read(self) -> list[Packet]:
        """Take what is there. Where nothing is, work ahead; where that is done too, wait."""
        packets = read(self._child, self._reader, 0.0)
        if packets or self._child.stopping or self._current.session.ahead():
            return packets
        return read(self._child, self._reader, _READ_S)

    def _follow_source(self) -> None:
        """A new producer may bring another sensor."""
        if self._reader.info != self._keeper.info and self._current.follow(self._reader.info):
            self._outlet.begin_events()

    def _take(self, packets: list[Packet]) -> None:
        """Everything at once where the freshest counts; else piece by piece, so that control is never kept waiting."""
        if self._keeper.info.live:
            session = self._current.session
            self._outlet.publish(session.feed(packets), packets)
            self._outlet.show(packets, session.wall)
            return
        for packet in packets:
            session = self._current.session
            self._outlet.publish(session.feed([packet]))
            self._outlet.show([packet], session.wall)
            self._serve_control()
        self._outlet.note(packets)

    def _tell(self) -> None:
        now = now_ns()
        if now >= self._status_due_ns:
            self._status_due_ns = now + _STATUS_NS
            self._keeper.rates.tick(self._child.row, now)
            self._publisher.send_status(self._current.status())
        if now >= self._line_due_ns:
            self._line_due_ns = now + _LINE_NS
            session = self._current.session
            _log.info("%s", self._keeper.line(session.plan, session.paused))

    def _sum_up(self) -> None:
        row = self._child.row
        _log.info(
            "in: %d events, %d frames; lost: %d events, %d frames; out: %d frames from %d windows, %d late; "
            "%d queries reduced: %s",
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
