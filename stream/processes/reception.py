"""Where requests of clients come in: each is for one camera, or for all."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from nire.errors import ConfigError, NireError
from stream.processes.camera import Arrival, Camera
from stream.sockets.control import Pending

_FOR_ALL = ("status", "pause", "resume", "stop")
"""Commands that make sense of all cameras at once."""


class Reception:
    """Hands requests on to the cameras that they are for.

    Attributes:
        is_for_several: cameras have names, and requests say which they mean.
    """

    def __init__(
        self,
        names: Sequence[str],
        cameras: Collection[Camera],
        arriving: Collection[Arrival],
        *,
        publish: str,
        control: str,
        life: int,
    ) -> None:
        """Know who there will be.

        Args:
            names: of all cameras; [""] = one that is alone.
            cameras: those that are there; grows.
            arriving: those that are still to come; whoever is neither has failed.
            publish, control: addresses as bound.
            life: of this consumer.
        """
        self.is_for_several = len(names) > 1
        self._names = names
        self._cameras = cameras
        self._arriving = arriving
        self._about = {"publish": publish, "control": control, "life": life}

    def answer(self, request: dict[str, Any]) -> Mapping[str, Any] | Pending:
        """Carry out a checked request (`stream.sockets.control`); what is returned goes back beside "ok": true.

        Raises:
            NireError: it cannot be carried out; says why.
        """
        name = request.pop("camera", None)
        if name is None and self.is_for_several:
            return self._answer_for_all(request)
        if (name or "") in self._names and self._present(name or "") is None:
            return self._answer_for_absent(name or "", request["command"])
        return self._camera(name or "").answer(request)

    def statuses(self) -> dict[str, Any]:
        """What all cameras say about themselves, by their names."""
        told = {camera.name: camera.status() for camera in self._cameras}
        absent = {name: self._absent(name) for name in self._names}
        return {**self._about, "cameras": {**absent, **told}}

    def _answer_for_all(self, request: dict[str, Any]) -> Mapping[str, Any]:
        command = request["command"]
        if command not in _FOR_ALL:
            raise ConfigError(f"{command} is for one camera: say which, camera = {self._choices()}")
        if command == "status":
            return self.statuses()
        if command == "stop":
            everyone: list[Camera | Arrival] = [*self._cameras, *self._arriving]
            everyone[0].stop_all()
            return {"stopping": True}
        for camera in self._cameras:
            camera.answer(dict(request))
        return {"paused": command == "pause", "cameras": [camera.name for camera in self._cameras]}

    def _answer_for_absent(self, name: str, command: str) -> Mapping[str, Any]:
        if command == "status":
            return ({"camera": name} if self.is_for_several else self._about) | self._absent(name)
        arrival = self._arrival(name)
        if arrival is not None and command == "stop" and not self.is_for_several:
            arrival.stop_all()
            return {"stopping": True}
        who = f"the camera {name!r}" if self.is_for_several else "the stream"
        why = "its source has failed; the log says why" if arrival is None else arrival.waits_for
        raise NireError(f"{who} is not there: {why}")

    def _absent(self, name: str) -> dict[str, Any]:
        """What is said of a camera that is not there."""
        arrival = self._arrival(name)
        return {"state": "failed"} if arrival is None else {"state": "starting", "waits_for": arrival.waits_for}

    def _camera(self, name: str) -> Camera:
        if (known := self._present(name)) is not None:
            return known
        if not self.is_for_several:
            raise ConfigError(f"this stream is of one camera, without a name: leave camera = {name!r} out")
        raise ConfigError(f"there is no camera {name!r}; there are {self._choices()}")

    def _present(self, name: str) -> Camera | None:
        return next((camera for camera in self._cameras if camera.name == name), None)

    def _arrival(self, name: str) -> Arrival | None:
        return next((arrival for arrival in self._arriving if arrival.name == name), None)

    def _choices(self) -> str:
        return ", ".join(self._names)
