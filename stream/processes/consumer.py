"""The consumer process: rings in, exposed frames out. The only process with torch, and the owner of both sockets."""

from __future__ import annotations

import contextlib
import logging
import sys
from collections import deque
from collections.abc import Sequence

from nire.errors import NireError
from stream.cameras import camera_names
from stream.clock import now_ns
from stream.config import Config
from stream.processes.camera import Arrival, Camera
from stream.processes.child import Child
from stream.processes.method import Method
from stream.processes.reception import Reception
from stream.session.shares import Shares
from stream.sockets.control import ControlServer
from stream.sockets.publisher import Publisher
from stream.sockets.wire import STATUS_TOPIC

_READ_S, _BUSY_READ_S, _FULL_READ_S = 0.005, 0.002, 0.004
"""How long to wait for packets before the control socket is looked at again; the same while images may come without
them; and how long to wait for images, while packets would begin no window."""
_SWITCH_S = 0.0005
"""After which a Python thread gives way to one that waits: those that answer windows need the interpreter often, each
time for little, and the loop's pieces are long beside that. With Python's usual 5 ms they were idle now and then."""
_LOOK_S = 0.02
"""How long to wait for the supervisor while no camera is there."""
_STATUS_NS = 1_000_000_000
_LAST_FRAMES_MS = 200
_log = logging.getLogger(__name__)


def main(child: Child, configs: Sequence[Config]) -> int:
    """Be the consumer until the sources have ended or the supervisor says stop.

    Args:
        child: this process.
        configs: of the stream, a camera each.

    Returns:
        Exit code 0.

    Raises:
        ConfigError: a socket cannot be bound.
        RingError: the rings cannot be joined.
    """
    sys.setswitchinterval(_SWITCH_S)
    shared = configs[0]
    with contextlib.ExitStack() as stack:
        publisher = stack.enter_context(Publisher(shared.publish, shared.security, life=child.row["lives"]))
        control = stack.enter_context(ControlServer(shared.control, shared.security))
        _Consumer(child, configs, publisher, control, stack).run()
    return 0


class _Consumer:
    """The loop: serve control, and each camera in turn: read its rings, publish."""

    def __init__(
        self,
        child: Child,
        configs: Sequence[Config],
        publisher: Publisher,
        control: ControlServer,
        stack: contextlib.ExitStack,
    ) -> None:
        self._child = child
        self._publisher = publisher
        self._control = control
        self._stack = stack
        ready: dict[str, Method] = child.ready or {}
        names = camera_names(configs)
        self._arriving = [
            Arrival(seat, config, name, ready.get(seat.stream_name))
            for seat, config, name in zip(child.seats, configs, names, strict=True)
        ]
        self._cameras: deque[Camera] = deque()
        """Those that are there; the one that begins a round comes last in the next."""
        self._reception = Reception(
            names,
            self._cameras,
            self._arriving,
            publish=publisher.address,
            control=control.address,
            life=publisher.life,
        )
        self._shares = Shares(names, now_ns())
        self._status_due_ns = 0
        self._refused: NireError | None = None
        """Why the last of the cameras could not begin that the others do without."""

    def run(self) -> None:
        """Go round until the end.

        Raises:
            NireError: a camera could not begin; after the end of the others.
        """
        while self._arriving or self._active():
            self._hear(0.0 if self._active() else _LOOK_S)
            if self._child.stopping:
                self._arriving.clear()
            self._welcome()
            self._serve_control()
            if not self._cameras:
                continue
            self._go_round()
            self._tell()
        self._status_due_ns = 0
        self._tell()
        # A socket drops what it has not sent when it closes: a moment for the last frames to leave.
        self._serve_control(timeout_ms=_LAST_FRAMES_MS)
        for camera in self._cameras:
            camera.sum_up()
        if self._refused is not None:
            raise self._refused

    def _active(self) -> list[Camera]:
        return [camera for camera in self._cameras if not camera.ended]

    def _hear(self, timeout_s: float) -> None:
        for order in self._child.orders(timeout_s):
            for camera in self._cameras:
                if camera.stream_name == order.get("stream"):
                    camera.hear(order)
            for arrival in self._arriving:
                if arrival.seat.stream_name == order.get("stream"):
                    arrival.orders.append(order)

    def _welcome(self) -> None:
        """Let those begin that have come; the others do without one that cannot.

        Raises:
            NireError: it is alone.
        """
        for arrival in list(self._arriving):
            try:
                is_done = self._let_begin(arrival) or arrival.is_lost
            except NireError as error:
                if not arrival.name or error.exit_code <= 1:
                    raise
                _log.error("%s: %s; the stream goes on without it", arrival.name, error)
                self._refused = error
                arrival.seat.tell({"order": "stop_camera"})
                is_done = True
            if is_done:
                self._arriving.remove(arrival)

    def _let_begin(self, arrival: Arrival) -> bool:
        """Make a camera of what has arrived; False where it is still to come."""
        known = arrival.reader
        others = [camera.method for camera in self._cameras]
        method = arrival.look(others, may_make=not any(each.is_making for each in self._arriving))
        if arrival.reader is not None and arrival.reader is not known:
            self._stack.enter_context(arrival.reader)
        if method is None or arrival.reader is None:
            return False
        camera = Camera(arrival, arrival.reader, method, self._publisher, self._control, self._shares)
        self._cameras.append(camera)
        return True

    def _serve_control(self, *, timeout_ms: int = 0) -> None:
        self._control.poll(self._reception.answer, timeout_ms=timeout_ms)

    def _go_round(self) -> None:
        """Have each camera take what is there. Where nothing is, work ahead; where that is done too, wait."""
        self._cameras.rotate(-1)
        active = self._active()
        taken = [camera.turn(self._serve_control) for camera in active]
        if any(taken):
            return
        if self._child.stopping:
            for camera in self._active():
                camera.finish()
            return
        active = self._active()
        if any(camera.ahead() for camera in active):
            return
        for camera in active:
            wait_s = _FULL_READ_S if camera.is_full else _BUSY_READ_S if camera.is_busy else _READ_S
            camera.turn(self._serve_control, wait_s=wait_s / len(active))

    def _tell(self) -> None:
        """Tell of all cameras together, once a second, where there are several."""
        now = now_ns()
        if self._reception.is_for_several and now >= self._status_due_ns:
            self._status_due_ns = now + _STATUS_NS
            if self._publisher.wants(STATUS_TOPIC):
                self._publisher.send_status(self._reception.statuses())
