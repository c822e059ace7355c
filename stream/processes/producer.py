"""The producer process: one camera or recording into the rings. It never imports torch."""

from __future__ import annotations

import contextlib
import logging
import math
from collections import deque
from collections.abc import Iterator
from functools import partial
from typing import Any

from drivers.packets.cleaning import cleaned
from drivers.packets.epochs import Epochs
from drivers.packets.playback import PacedSource, play
from drivers.packets.wall_clock import wall_shared, wall_timed
from drivers.source import Source, SourceInfo, change_while_open
from nire.errors import ConfigError, DeviceLost, NireError, RecordingDamaged, SourceError
from nire.types import EventBatch, Frame, Gap, Geometry, Packet, WallClock
from stream.clock import now_ns
from stream.config import Config
from stream.processes.board import Row, State
from stream.processes.child import Child
from stream.rings.recut import Recutter
from stream.rings.ring import RingWriter, clock_of, event_depth, frame_depth, require_room
from stream.sources import SourceOrder, check_change, open_source

_FOLLOWERS = ("consumer", "recorder")
_FIRST_BACK_OFF_S = 0.5
_LONGEST_BACK_OFF_S = 8.0
_DRAIN_S = 10.0
_LONGEST_ANSWER = 4000
_WISHES_KEPT = 16
_log = logging.getLogger(__name__)


class _Reopen(Exception):
    """The source is to be opened again, by another configuration, as wish `number` asks for (None: nobody waits).

    `with_others`: because another camera was opened again that has the same clock.
    """

    def __init__(self, config: Config, number: int | None = None, *, with_others: bool = False) -> None:
        """Keep the configuration."""
        super().__init__()
        self.config = config
        self.number = number
        self.with_others = with_others


class _Moved(Exception):
    """The replay is to go on at another place of the recording."""


def main(child: Child, config: Config, order: SourceOrder) -> int:
    """Be the producer: open, wait for the word to go, write packets until the source ends or the supervisor says stop.

    Returns:
        Exit code 0.

    Raises:
        NireError: the source cannot be opened; `RecordingDamaged` after everything before the damage was written.
    """
    producer = _Producer(child, config, order)
    producer.run()
    return 0


class _Producer:
    def __init__(self, child: Child, config: Config, order: SourceOrder) -> None:
        self._child = child
        self._config = config
        self._order = order
        self._epochs = Epochs()
        self._watermark_us = 0
        self._started = False
        self._wishes: deque[dict[str, Any]] = deque(maxlen=_WISHES_KEPT)
        self._clocks = child.before.get("clocks", 0)
        self._asked: int | None = None
        """The wish that the source is being opened again for."""

    def run(self) -> None:
        """Open the source, and again when it gets lost, until it ends by itself or we are stopped."""
        source = open_source(self._config.source, self._order)
        with contextlib.ExitStack() as stack:
            source = stack.enter_context(source)
            info = source.info
            self._count_clock()
            name, ring = self._config.stream_name, self._config.ring
            if self._child.before["lives"] == 0:  # later the readers may still hold what the life before has filled
                require_room(ring, info.geometry)
            with RingWriter(name, info.geometry, ring, info=info) as writer:
                self._stream(source, stack, writer)

    def _stream(self, source: Source, stack: contextlib.ExitStack, writer: RingWriter) -> None:
        damage: RecordingDamaged | None = None
        try:
            self._await_go()
            self._follow(source, stack, writer)
        except RecordingDamaged as error:
            damage = error
        finally:
            writer.finish()
            self._child.beat()
        # What was written is gone for readers once the writer has left: let them take it first.
        self._await_followers(writer, behind=0, at_most_s=_DRAIN_S)
        if damage is not None:
            raise damage

    def _follow(self, source: Source, stack: contextlib.ExitStack, writer: RingWriter) -> None:
        info = source.info
        before: Config | None = None
        while not self._child.stopping:
            alone = True
            try:
                self._pump(source, info, writer)
                return
            except _Moved:
                self._mark_gap(writer, "the replay goes on at another place")
                continue
            except _Reopen as wish:
                before, self._config = self._config, wish.config
                self._asked = wish.number
                alone = not wish.with_others
                how = "with other settings" if alone else "with the camera that has the same clock"
                self._mark_gap(writer, f"the source was opened again {how}")
            except DeviceLost as error:
                _log.warning("%s; opening it again", error)
                self._child.row["reopened"] += 1
                self._mark_gap(writer, f"device lost: {error}")
            source = self._open_again(stack, info, before)
            before = None
            if alone:
                self._count_clock()

    def _count_clock(self) -> None:
        """The device's clock has begun: the supervisor has those begin with it that share it."""
        self._clocks += 1
        self._child.row["clocks"] = self._clocks

    def _open_again(self, stack: contextlib.ExitStack, info: SourceInfo, before: Config | None) -> Source:
        """Open the source, with patience; from `before` when its new settings do not work."""
        wait_s = _FIRST_BACK_OFF_S
        while True:
            stack.close()
            try:
                source = stack.enter_context(open_source(self._config.source, self._order))
                _check_same_sensor(source.info.geometry, info.geometry)
                self._answer("")
                return source
            except NireError as error:
                if before is not None:
                    _log.error("the source cannot be used with the new settings: %s; going back to the old ones", error)
                    self._answer(f"{error}; the source goes on with the old settings")
                    self._config, before = before, None
                    continue
                if self._child.stopping or not isinstance(error, SourceError):
                    raise
                _log.warning("%s; trying again in %.1f s", error, wait_s)
                self._pause(wait_s)
                wait_s = min(2 * wait_s, _LONGEST_BACK_OFF_S)

    def _pump(self, source: Source, info: SourceInfo, writer: RingWriter) -> None:
        """Carry packets from one opened source into the rings, until it ends."""
        settings = self._config.source
        recutter = Recutter(self._config.ring.packet_us)
        packets = cleaned(
            source, row_delay_us=settings.row_delay_us, exposure_us=settings.exposure_us, epochs=self._epochs
        )
        timed = (
            wall_shared(packets, partial(clock_of, settings.clock_of))
            if settings.clock_of
            else wall_timed(packets, info, arrival_us=settings.least_arrival_us)
        )
        for packet in timed:
            self._serve_orders(source)
            if self._child.stopping:
                break
            if not isinstance(packet, EventBatch | Frame | Gap | WallClock):
                continue
            for piece in recutter.feed(packet):
                self._send(piece, writer, throttled=not info.live)
        for piece in recutter.flush():
            self._send(piece, writer, throttled=not info.live)

    def _send(self, packet: Packet, writer: RingWriter, *, throttled: bool) -> None:
        if isinstance(packet, EventBatch):
            self._watermark_us = packet.watermark_us
        if throttled:
            ring = self._config.ring
            self._await_followers(writer, behind=min(event_depth(ring), frame_depth(ring)) // 2, at_most_s=math.inf)
        writer.send(packet)
        row, before = self._child.row, self._child.before
        row["events_in"] = before.get("events_in", 0) + writer.events_sent
        row["frames_in"] = before.get("frames_in", 0) + writer.frames_sent
        row["gaps"] += isinstance(packet, Gap)
        row["serial"] = writer.serial
        row["life"] = writer.life

    def _mark_gap(self, writer: RingWriter, reason: str) -> None:
        """The device clock begins again: what follows is another epoch."""
        t_us = self._watermark_us
        writer.send(Gap(t_us, t_us, reason, now_ns(), self._epochs.newest))
        self._epochs.source_began_again()
        self._child.row["gaps"] += 1

    def _serve_orders(self, source: Source) -> None:
        self._child.beat(State.RUNNING)
        self._listen()
        while self._wishes:
            wish = self._wishes.popleft()
            if wish["order"] == "reopen":
                raise _Reopen(self._config, with_others=True)
            if wish["order"] == "play":
                self._play(source, wish["play"], wish.get("number"))
            else:
                self._set_source(source, wish["settings"], wish.get("number"))
        if isinstance(source, PacedSource):
            self._note_place(source)

    def _listen(self, timeout_s: float = 0.0) -> None:
        """Hear the supervisor; wishes wait until the source can be changed."""
        for order in self._child.orders(timeout_s):
            if order["order"] == "go":
                self._started = True
            elif order["order"] in ("set_source", "play", "reopen"):
                self._wishes.append(order)

    def _set_source(self, source: Source, settings: dict[str, Any], number: int | None) -> None:
        """Change settings in the running source, or, where it cannot, open it again with them; tell how it went."""
        before = self._config.source
        changed = before.model_copy(update={"settings": {**before.settings, **settings}})
        wanted = self._config.model_copy(update={"source": changed})
        self._asked = number
        try:
            if not change_while_open(source, settings):
                # What the settings alone tell is refused before anything is closed.
                check_change(settings, changed, self._order)
                raise _Reopen(wanted, number)
        except NireError as error:
            _log.error("the settings of the source stay as they are: %s", error)
            self._answer(str(error))
            if isinstance(error, DeviceLost):
                raise
            return
        self._config = wanted
        self._answer("")
        _log.info("the source goes on with %s", ", ".join(f"{key} = {value}" for key, value in settings.items()))

    def _play(self, source: Source, wishes: dict[str, Any], number: int | None) -> None:
        """Play a replay otherwise; tell how it went."""
        self._asked = number
        try:
            is_elsewhere = play(source, wishes)
        except NireError as error:
            self._answer(str(error))
            return
        self._answer("")
        if is_elsewhere:
            raise _Moved

    def _note_place(self, source: PacedSource) -> None:
        place, row = source.place, self._child.row
        row["replay_at_us"] = place.at_us
        row["replay_length_us"] = place.length_us
        row["replay_permille"] = round(1000 * place.speed) if source.info.live else 0
        row["replay_held"] = place.held

    def _answer(self, error: str) -> None:
        """Say how the wish went that is being carried out, if there is one; "" = well."""
        if self._asked is not None:
            self._child.tell({"order": "source_set", "number": self._asked, "error": error[:_LONGEST_ANSWER]})
            self._asked = None

    def _await_go(self) -> None:
        self._child.beat(State.WAITING)
        while not self._child.stopping and not self._started:
            self._listen(timeout_s=0.05)
            self._child.beat()

    def _await_followers(self, writer: RingWriter, *, behind: int, at_most_s: float) -> None:
        """Wait until the slowest reader is at most `behind` packets behind: only what need not keep time may."""
        deadline_ns = now_ns() + at_most_s * 1e9
        while self._lag(writer) > behind and now_ns() < deadline_ns:
            if self._child.stopping and at_most_s == math.inf:
                return
            self._listen(timeout_s=0.001)
            self._child.beat()

    def _lag(self, writer: RingWriter) -> int:
        return max((_behind(row, writer) for row in self._followers()), default=0)

    def _followers(self) -> Iterator[Row]:
        for name in _FOLLOWERS:
            if name in self._child.board.names:
                row = self._child.board.row(name)
                if row.state in (State.READY, State.RUNNING) or (
                    row.state == State.STARTING and not self._child.stopping
                ):
                    yield row

    def _pause(self, seconds: float) -> None:
        deadline_ns = now_ns() + seconds * 1e9
        while now_ns() < deadline_ns and not self._child.stopping:
            self._listen(timeout_s=0.05)
            self._child.beat()


def _behind(row: Row, writer: RingWriter) -> int:
    """Count the packets that a reader still has to take; all of them until it is ready."""
    if row.state not in (State.READY, State.RUNNING):
        return writer.serial
    return writer.serial - (row["passed"] if row["passed_life"] == writer.life else 0)


def _check_same_sensor(now: Geometry, before: Geometry) -> None:
    if now != before:
        raise ConfigError(
            f"the source is now {now}, the rings were made for {before}. Stop the stream and start it again for "
            "another sensor"
        )
