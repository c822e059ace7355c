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
        if request["command"] == "status" and name in self._names and self._present(name) is None:
            return {"camera": name, "state": self._state_of_absent(name)}
        return self._camera(name or "").answer(request)

    def statuses(self) -> dict[str, Any]:
        """What all cameras say about themselves, by their names."""
        told = {camera.name: camera.status() for camera in self._cameras}
        absent = {name: {"state": self._state_of_absent(name)} for name in self._names}
        return {**self._about, "cameras": {**absent, **told}}

    def _answer_for_all(self, request: dict[str, Any]) -> Mapping[str, Any]:
        command = request["command"]
        if command not in _FOR_ALL:
            raise ConfigError(f"{command} is for one camera: say which, camera = {self._choices()}")
        if command == "status":
            return self.statuses()
        if command == "stop":
            next(iter(self._cameras)).stop_all()
            return {"stopping": True}
        for camera in self._cameras:
            camera.answer(dict(request))
        return {"paused": command == "pause", "cameras": [camera.name for camera in self._cameras]}

    def _camera(self, name: str) -> Camera:
        if (known := self._present(name)) is not None:
            return known
        if not self.is_for_several:
            raise ConfigError(f"this stream is of one camera, without a name: leave camera = {name!r} out")
        if name not in self._names:
            raise ConfigError(f"there is no camera {name!r}; there are {self._choices()}")
        is_opened = self._state_of_absent(name) == "starting"
        why = "its source is being opened" if is_opened else "its source has failed; the log says why"
        raise NireError(f"the camera {name!r} is not there: {why}")

    def _present(self, name: str) -> Camera | None:
        return next((camera for camera in self._cameras if camera.name == name), None)

    def _state_of_absent(self, name: str) -> str:
        return "starting" if any(arrival.name == name for arrival in self._arriving) else "failed"

    def _choices(self) -> str:
        return ", ".join(self._names)
