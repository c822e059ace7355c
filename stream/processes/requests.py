"""What clients ask on the control socket, carried out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from nire.errors import NireError
from nire.shutter import Shutter
from stream.config import changed
from stream.processes.current_session import CurrentSession
from stream.processes.outlet import Outlet
from stream.processes.status import StatusKeeper
from stream.processes.wishes import Wishes
from stream.sockets.control import Pending
from stream.sockets.wire import camera_topic, frame_topic, wall_keys


class Requests:
    """Answers clients about one camera, by what the consumer has of it."""

    def __init__(self, current: CurrentSession, wishes: Wishes, outlet: Outlet, keeper: StatusKeeper) -> None:
        """Remember them all."""
        self._current = current
        self._wishes = wishes
        self._outlet = outlet
        self._keeper = keeper

    def answer(self, request: dict[str, Any]) -> Mapping[str, Any] | Pending:
        """Carry out a checked request (`stream.sockets.control`); what is returned goes back beside "ok": true.

        Raises:
            NireError: it cannot be carried out; says why.
        """
        command = request["command"]
        if command == "status":
            return self._current.status()
        if command == "set_plan":
            return {"plan": self._current.set_plan(request["plan"])}
        if command == "expose":
            return self._expose(request)
        if command in ("pause", "resume"):
            self._current.pause(command == "pause")
            return {"paused": command == "pause"}
        if command == "set_source":
            return self._wishes.set_source(request["settings"])
        if command == "play":
            return self._wishes.play(request["play"])
        if command == "record":
            return self._wishes.record(request["file"])
        if command == "record_stop":
            return self._wishes.end_recording()
        if command == "set_reconstructor":
            return self._current.set_reconstructor(request["settings"])
        if command == "set_events":
            return self._set_events(request["events_ms"])
        if command == "stop":
            self._wishes.stop()
            return {"stopping": True}
        raise NireError(f"the command {command!r} is not carried out by this version")

    def _set_events(self, events_ms: float) -> Mapping[str, Any]:
        self._keeper.config = changed(self._keeper.config, {"preview": {"events_ms": events_ms}})
        self._outlet.begin_events()
        return {"events_ms": self._keeper.config.preview.events_ms}

    def _expose(self, request: Mapping[str, Any]) -> Mapping[str, Any]:
        height = self._keeper.info.geometry.height
        for_us, row_delay_us = request["for_us"], request["row_delay_us"]
        if "wall_ns" in request:
            t_us = self._device_us(request["wall_ns"]) - for_us / 2 - row_delay_us * (height // 2)
        else:
            t_us = request["t_us"]
        shutter = Shutter.rolling(t_us, t_us + for_us, row_delay_us=row_delay_us, height=height)
        frame = self._outlet.send(self._current.session.ask(shutter, request["tag"]))
        return {
            "index": frame.index,
            "tag": frame.tag,
            "topic": camera_topic(self._keeper.camera, frame_topic(frame.tag)),
            "window": frame.window,
            "t_a_us": t_us,
            "t_b_us": t_us + for_us,
            "row_delay_us": row_delay_us,
            **wall_keys(frame.wall_ns, frame.wall_uncertainty_us),
        }

    def _device_us(self, wall_ns: int) -> float:
        """Device time of a robot's time."""
        device_us = self._current.session.wall.device_us(wall_ns)
        if device_us is None:
            raise NireError(
                "no wall time is known of this source: it is a recording without times since 1970, or no packet of "
                "the camera has come yet. Ask by t_us, device time"
            )
        return device_us
