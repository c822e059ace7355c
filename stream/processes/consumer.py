"""The consumer process: rings in, exposed frames out. The only process with torch, and the owner of both sockets."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from nire.errors import ConfigError, NireError, SourceError
from nire.shutter import Shutter
from nire.types import (
    EventBatch,
    ExposedFrame,
    Frame,
    Packet,
)
from stream.clock import now_ns
from stream.config import Config, changed
from stream.processes.background import Background
from stream.processes.board import State
from stream.processes.child import Child
from stream.processes.joining import join, losses_before, note_losses, note_progress, read
from stream.processes.method import Method
from stream.processes.status import Change, Rates, Recording, StageLatencies, StatusKeeper
from stream.rings.ring import RingReader
from stream.session.session import Session
from stream.session.tally import Counters, Indices, Tally
from stream.sockets.control import ControlServer, Pending
from stream.sockets.event_image import EventImager
from stream.sockets.publisher import Publisher
from stream.sockets.wire import EVENTS_TOPIC, wall_keys

_READ_S = 0.005
"""How long to wait for packets before the control socket is looked at again."""
_STATUS_NS = 1_000_000_000
_FIRST_LINE_NS, _LINE_NS = 2_000_000_000, 5_000_000_000
_LAST_FRAMES_MS = 200
_OUTCOMES_KEPT = 64
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
    def __init__(
        self,
        child: Child,
        config: Config,
        publisher: Publisher,
        control: ControlServer,
        reader: RingReader,
    ) -> None:
        self._child = child
        self._config = config
        self._publisher = publisher
        self._control = control
        self._reader = reader
        self._info = reader.info
        self._tally = _tally_before(child)
        self._session = self._open_session(config, child.ready)
        self._imager = self._make_imager()
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
        self._outcomes: dict[int, Change] = {}
        self._source_wishes: dict[int, dict[str, Any]] = {}
        self._recording_wish = 0, ""
        """Number of the newest wish for a recording that was answered, and why it was refused."""
        self._other: tuple[Config, Background[Method]] | None = None
        """Another method that is being made, and its configuration."""
        self._newest_us = 0.0
        self._epoch = 0
        self._status_due_ns = 0
        self._line_due_ns = now_ns() + _FIRST_LINE_NS

    def run(self) -> None:
        """Serve control, read rings, publish; until the end."""
        self._child.beat(State.READY)
        while True:
            self._hear()
            self._control.poll(self._answer)
            self._change_method()
            packets = self._read()
            self._follow_source()
            self._take(packets)
            self._tell()
            if self._reader.ended or (self._child.stopping and not packets):
                break
        self._publish(self._session.finish())
        self._child.beat(State.ENDED)
        self._status_due_ns = 0
        self._tell()
        # A socket drops what it has not sent when it closes: a moment for the last frames to leave.
        self._control.poll(self._answer, timeout_ms=_LAST_FRAMES_MS)
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
            self._keeper.mean_rate(self._session.plan),
        )

    def _read(self) -> list[Packet]:
        """Take what is there. Where nothing is, work ahead; where that is done too, wait."""
        packets = read(self._child, self._reader, 0.0)
        if packets or self._child.stopping or self._session.ahead():
            return packets
        return read(self._child, self._reader, _READ_S)

    def _take(self, packets: list[Packet]) -> None:
        """Everything at once where the freshest counts; else piece by piece, so that control is never kept waiting."""
        if self._info.live:
            self._publish(self._session.feed(packets), packets)
            self._show(packets)
            return
        for packet in packets:
            self._publish(self._session.feed([packet]))
            self._show([packet])
            self._control.poll(self._answer)
        self._note(packets)

    def _publish(self, frames: Iterable[ExposedFrame], packets: Iterable[Packet] = ()) -> None:
        """Send frames. What was counted is noted before each leaves: a total that was told never goes back.

        Args:
            frames: as the session hands them out.
            packets: that it takes meanwhile, noted with the first frame: those of a consumer that is killed earlier
                were never taken, and count as lost.
        """
        for frame in frames:
            if packets:
                self._note(packets)
                packets = ()
            else:
                self._note_totals()
            frame = self._publisher.send_frame(frame)
            self._keeper.count(frame)
            stamps = frame.stamps
            if stamps.received_ns:
                self._child.row.latency.add(stamps.published_ns - stamps.received_ns)
            self._child.beat()
        self._note(packets)

    def _show(self, packets: list[Packet]) -> None:
        """Captured frames and events, for those who look."""
        wants_events = self._publisher.wants(EVENTS_TOPIC)
        for packet in packets:
            if isinstance(packet, Frame):
                self._newest_us = packet.last_us
                self._publisher.send_captured(packet, self._session.wall.at(packet.mid_us, packet.epoch))
            elif isinstance(packet, EventBatch):
                self._newest_us = float(packet.watermark_us)
                self._epoch = packet.epoch
                if wants_events:
                    self._imager.add(packet)
        if not wants_events:
            self._imager.clear()
        elif (image := self._imager.take(now_ns())) is not None:
            self._child.row["event_images"] = image.index + 1
            middle_us = (image.t_a_us + image.t_b_us) / 2
            self._publisher.send_events(image, self._session.wall.at(middle_us, self._epoch))

    def _note(self, packets: Iterable[Packet]) -> None:
        """Note all that came in, and what was made of it."""
        if packets:
            note_progress(self._child, self._reader, packets, self._tally.losses)
        self._note_totals()
        self._child.beat(State.RUNNING if packets else None)

    def _note_totals(self) -> None:
        note_losses(self._child, self._tally.losses)
        for name in _COUNTED:
            self._child.row[name] = getattr(self._tally.counters, name)

    def _tell(self) -> None:
        now = now_ns()
        if now >= self._status_due_ns:
            self._status_due_ns = now + _STATUS_NS
            self._keeper.rates.tick(self._child.row, now)
            self._publisher.send_status(self._status())
        if now >= self._line_due_ns:
            self._line_due_ns = now + _LINE_NS
            _log.info("%s", self._keeper.line(self._session.plan, self._session.paused))

    def _follow_source(self) -> None:
        """A new producer may bring another sensor: then everything is made anew."""
        info = self._reader.info
        if info == self._info:
            return
        if info.geometry != self._info.geometry or info.has_frames != self._info.has_frames:
            _log.warning("the source is now %s, %s; starting over", info.name, info.geometry)
            self._publish(self._session.finish())
            self._session = self._open_session(self._config)
            self._imager = self._make_imager()
            if self._other is not None:
                self._other = None  # it was for the other sensor
                self._keeper.method_change = Change(self._keeper.method_change.number, "failed", "the sensor changed")
        self._info = self._keeper.info = info

    def _open_session(self, config: Config, method: Method | None = None) -> Session:
        """Make the session of the present source, by a method that is ready or a new one; what was asked for holds."""
        info = self._reader.info
        if method is None or not method.suits(info):
            method = Method.opened(config, info)
        # What keeps time prefers the newest; what is read as fast as we are answers everything.
        session = Session(config, info, method.reconstructor, freshest=info.live, clock=now_ns, tally=self._tally)
        try:
            session.set_plan(self._child.kept.get("plan", {}))
        except NireError as error:
            _log.warning("the plan that was asked for cannot be kept: %s", error)
        session.paused = self._child.kept.get("paused", False)
        return session

    def _make_imager(self) -> EventImager:
        preview = self._config.preview
        first_index = self._child.row["event_images"]
        return EventImager(
            self._reader.geometry, span_us=preview.events_ms * 1e3, fps=preview.fps, first_index=first_index
        )

    # Wishes

    def _answer(self, request: dict[str, Any]) -> Mapping[str, Any] | Pending:
        """Carry out a checked request (`stream.sockets.control`); what is returned goes back beside "ok": true."""
        command = request["command"]
        if command == "status":
            return self._status()
        if command == "set_plan":
            plan = self._session.set_plan(request["plan"]).model_dump(mode="json")
            self._keep(plan=plan)
            return {"plan": plan}
        if command == "expose":
            return self._expose(request)
        if command in ("pause", "resume"):
            self._session.paused = command == "pause"
            self._keep(paused=self._session.paused)
            return {"paused": self._session.paused}
        if command == "set_source":
            return self._change_source({"order": "set_source", "settings": request["settings"]})
        if command == "play":
            return self._change_source({"order": "play", "play": request["play"]})
        if command in ("record", "record_stop"):
            return self._record(command, request.get("file", ""))
        if command == "set_reconstructor":
            return self._set_reconstructor(request["settings"])
        if command == "set_events":
            self._use(changed(self._config, {"preview": {"events_ms": request["events_ms"]}}))
            self._imager = self._make_imager()
            return {"events_ms": self._config.preview.events_ms}
        if command == "stop":
            if not self._child.tell({"order": "stop"}):
                raise NireError("the supervisor takes no more orders at present; ask again in a second")
            return {"stopping": True}
        raise NireError(f"the command {command!r} is not carried out by this version")

    def _keep(self, **asked: Any) -> None:
        """Have what was asked for hold in the next session too, in this process and in the next."""
        self._child.kept |= asked
        if not self._child.keep(self._child.kept):
            _log.warning("the supervisor takes no orders at present: a consumer after this one would forget %s", asked)

    def _change_source(self, wish: dict[str, Any]) -> Pending:
        """Pass a wish on to the producer; how it went comes back as an order (`_hear`)."""
        number = now_ns()  # no two wishes have one, over restarts too
        if not self._child.tell({**wish, "number": number}):
            raise NireError("the settings are too long, or too many wishes wait for the source; ask again in a second")
        self._source_wishes[number] = wish.get("settings", {})
        self._keeper.source_change = Change(number)
        return Pending(
            partial(self._source_outcome, number), {"sent_to": "producer", "number": number, "state": "pending"}
        )

    def _source_outcome(self, number: int) -> Mapping[str, Any] | None:
        outcome = (
            self._keeper.source_change if self._keeper.source_change.number == number else self._outcomes.get(number)
        )
        if outcome is None or outcome.state == "pending":
            return None
        if outcome.state == "failed":
            raise SourceError(outcome.error)
        return _taken(number, outcome.state)

    def _record(self, command: str, file: str) -> Pending:
        """Have a recording begun in the folder where the stream was started, or ended; the supervisor does that."""
        path = Path.cwd() / file
        if command == "record" and path.exists():
            raise ConfigError(f"{path} is there already: choose another name")
        number = now_ns()
        if not self._child.tell({"order": command, "number": number, "path": str(path)}):
            raise NireError("the supervisor takes no more orders at present; ask again in a second")
        return Pending(partial(self._recording_outcome, number), {"number": number, "state": "pending"})

    def _recording_outcome(self, number: int) -> Mapping[str, Any] | None:
        newest, error = self._recording_wish
        if newest == number and error:
            raise ConfigError(error)
        recording = self._keeper.recording
        if newest < number:
            return None
        if recording.path and self._child.board.row("recorder").state not in (State.READY, State.RUNNING):
            return None
        return {"number": number, "state": "done", "path": recording.path}

    def _set_reconstructor(self, settings: dict[str, Any]) -> Pending:
        """Make another method beside the running one, which goes on until the other is ready (`_change_method`)."""
        if self._other is not None:
            raise NireError("another method is being made already; ask again when it is there")
        config = changed(self._config, {"reconstructor": settings, "plan": self._session.plan.model_dump()})
        number = now_ns()
        self._other = config, Background(partial(Method.opened, config, self._info), name="other method")
        self._keeper.method_change = Change(number)
        return Pending(partial(self._method_outcome, number), {"number": number, "state": "pending"})

    def _method_outcome(self, number: int) -> Mapping[str, Any] | None:
        outcome = self._keeper.method_change
        if outcome.number == number and outcome.state == "pending":
            return None
        if outcome.state == "failed":
            raise ConfigError(outcome.error)
        return {"number": number, "state": outcome.state, "reconstructor": self._config.reconstructor.model_dump()}

    def _change_method(self) -> None:
        """Take over another method once it is made; where it cannot be, the present one stays."""
        if self._other is None or not self._other[1].is_done:
            return
        (config, other), self._other = self._other, None
        number = self._keeper.method_change.number
        try:
            method = other.result()
            self._open_session(config, method)  # where it cannot answer this plan, the present one goes on
        except Exception as error:  # noqa: BLE001 - a wish that cannot be carried out must not end the stream of frames
            words = str(error) if isinstance(error, NireError) else f"{type(error).__name__}: {error}"
            _log.error("the method stays as it is: %s", words)
            self._keeper.method_change = Change(number, "failed", words)
            return
        self._publish(self._session.finish())
        self._use(config)
        wall = self._session.wall
        self._session = self._open_session(config, method)
        self._session.wall = wall
        self._keeper.made_by = ("", "")
        self._keeper.method_change = Change(number, "done")
        _log.info("the method is now %s", config.reconstructor.backend)

    def _use(self, config: Config) -> None:
        self._config = self._keeper.config = config

    def _hear(self) -> None:
        """Take what the supervisor says."""
        for order in self._child.orders():
            if order["order"] == "recording":
                # What answers a wish is told to whoever had it; what is not asked for is in the status.
                self._keeper.recording = Recording(order["path"], "" if order["number"] else order["error"])
                if order["number"]:
                    self._recording_wish = order["number"], order["error"]
            if order["order"] == "source_set":
                change = Change(order["number"], "failed" if order["error"] else "done", order["error"])
                self._outcomes[change.number] = change
                self._note_settings(self._source_wishes.pop(change.number, {}), change)
                if len(self._outcomes) > _OUTCOMES_KEPT:
                    del self._outcomes[min(self._outcomes)]
                if change.number == self._keeper.source_change.number:
                    self._keeper.source_change = change

    def _note_settings(self, settings: dict[str, Any], change: Change) -> None:
        """Keep what the source has taken, for the status."""
        source = self._config.source
        if change.state == "done" and settings:
            taken = source.model_copy(update={"settings": {**source.settings, **settings}})
            self._use(self._config.model_copy(update={"source": taken}))

    def _expose(self, request: Mapping[str, Any]) -> Mapping[str, Any]:
        height = self._info.geometry.height
        for_us, row_delay_us = request["for_us"], request["row_delay_us"]
        if "wall_ns" in request:
            t_us = self._device_us(request["wall_ns"]) - for_us / 2 - row_delay_us * (height // 2)
        else:
            t_us = request["t_us"]
        shutter = Shutter.rolling(t_us, t_us + for_us, row_delay_us=row_delay_us, height=height)
        frame = self._publisher.send_frame(self._session.ask(shutter, request["tag"]))
        return {
            "index": frame.index,
            "tag": frame.tag,
            "topic": f"frame/{frame.tag}",
            "window": frame.window,
            "t_a_us": t_us,
            "t_b_us": t_us + for_us,
            "row_delay_us": row_delay_us,
            **wall_keys(frame.wall_ns, frame.wall_uncertainty_us),
        }

    def _device_us(self, wall_ns: int) -> float:
        """Device time of a robot's time."""
        device_us = self._session.wall.device_us(wall_ns)
        if device_us is None:
            raise NireError(
                "no wall time is known of this source: it is a recording without times since 1970, or no packet of "
                "the camera has come yet. Ask by t_us, device time"
            )
        return device_us

    def _status(self) -> dict[str, Any]:
        session = self._session
        return self._keeper.status(
            plan=session.plan,
            calibration=session.calibration,
            backend_reason=session.backend_reason,
            covered_us=session.covered_us,
            paused=session.paused,
            newest_us=self._newest_us,
            clock=session.wall.newest,
            now_ns=now_ns(),
        )


def _tally_before(child: Child) -> Tally:
    """Counts as a predecessor left them on the board; all zero in a first life."""
    counters = Counters(**{name: child.before[name] for name in _COUNTED})
    return Tally(counters, losses_before(child.before), Indices(child.board.index_memory))


def _taken(number: int, state: str) -> Mapping[str, Any]:
    return {"sent_to": "producer", "number": number, "state": state}
