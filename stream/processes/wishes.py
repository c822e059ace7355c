"""What clients want of other processes: passed on to the supervisor under a number, and answered once it is known."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from nire.errors import ConfigError, NireError, SourceError
from stream.clock import now_ns
from stream.processes.board import State
from stream.processes.child import Seat
from stream.processes.status import Change, Recording, StatusKeeper
from stream.sockets.control import Pending

_OUTCOMES_KEPT = 64


class Wishes:
    """The wishes of one consumer's life; what became of the newest ones is kept for the status."""

    def __init__(self, seat: Seat, keeper: StatusKeeper) -> None:
        """Begin with none.

        Args:
            seat: the consumer's.
            keeper: of the status.
        """
        self._seat = seat
        self._keeper = keeper
        self._outcomes: dict[int, Change] = {}
        self._settings: dict[int, dict[str, Any]] = {}
        self._recording = 0, ""
        """Number of the newest wish for a recording that was answered, and why it was refused."""

    def set_source(self, settings: dict[str, Any]) -> Pending:
        """Have the producer change settings of the source.

        Raises:
            NireError: the supervisor takes no more orders at present.
        """
        return self._to_the_source({"order": "set_source", "settings": settings})

    def play(self, play: dict[str, Any]) -> Pending:
        """Have the producer play its recording otherwise; raises as `set_source`."""
        return self._to_the_source({"order": "play", "play": play})

    def record(self, file: str) -> Pending:
        """Have the supervisor begin a recording in the folder where the stream was started.

        Raises:
            ConfigError: the file is there already.
            NireError: the supervisor takes no more orders at present.
        """
        path = Path.cwd() / file
        if path.exists():
            raise ConfigError(f"{path} is there already: choose another name")
        return self._to_the_recorder({"order": "record", "path": str(path)})

    def end_recording(self) -> Pending:
        """Have the supervisor end the recording; raises as `record`."""
        return self._to_the_recorder({"order": "record_stop", "path": ""})

    def stop(self) -> None:
        """Have the supervisor end this camera: the whole stream, where it is alone.

        Raises:
            NireError: it takes no more orders at present.
        """
        _end(self._seat, {"order": "stop_camera" if self._keeper.camera else "stop"})

    @staticmethod
    def end_all(seat: Seat) -> None:
        """Have the supervisor end the stream; raises as `stop`."""
        _end(seat, {"order": "stop"})

    def hear(self, order: dict[str, Any]) -> None:
        """Take what the supervisor says of this stream."""
        if order["order"] == "recording":
            # What answers a wish is told to whoever had it; what is not asked for is in the status.
            self._keeper.recording = Recording(order["path"], "" if order["number"] else order["error"])
            if order["number"]:
                self._recording = order["number"], order["error"]
        if order["order"] == "source_set":
            self._note(Change(order["number"], "failed" if order["error"] else "done", order["error"]))

    def _note(self, change: Change) -> None:
        """Keep how a wish went, and what the source has taken."""
        self._outcomes[change.number] = change
        settings = self._settings.pop(change.number, {})
        if change.state == "done" and settings:
            config = self._keeper.config
            taken = config.source.model_copy(update={"settings": {**config.source.settings, **settings}})
            self._keeper.config = config.model_copy(update={"source": taken})
        if len(self._outcomes) > _OUTCOMES_KEPT:
            del self._outcomes[min(self._outcomes)]
        if change.number == self._keeper.source_change.number:
            self._keeper.source_change = change

    def _to_the_source(self, wish: dict[str, Any]) -> Pending:
        number = now_ns()  # no two wishes have one, over restarts too
        if not self._seat.tell({**wish, "number": number}):
            raise NireError("the settings are too long, or too many wishes wait for the source; ask again in a second")
        self._settings[number] = wish.get("settings", {})
        self._keeper.source_change = Change(number)
        return Pending(
            partial(self._source_outcome, number), {"sent_to": "producer", "number": number, "state": "pending"}
        )

    def _source_outcome(self, number: int) -> Mapping[str, Any] | None:
        newest = self._keeper.source_change
        outcome = newest if newest.number == number else self._outcomes.get(number)
        if outcome is None or outcome.state == "pending":
            return None
        if outcome.state == "failed":
            raise SourceError(outcome.error)
        return {"sent_to": "producer", "number": number, "state": outcome.state}

    def _to_the_recorder(self, wish: dict[str, Any]) -> Pending:
        number = now_ns()
        if not self._seat.tell({**wish, "number": number}):
            raise NireError("the supervisor takes no more orders at present; ask again in a second")
        return Pending(partial(self._recording_outcome, number), {"number": number, "state": "pending"})

    def _recording_outcome(self, number: int) -> Mapping[str, Any] | None:
        newest, error = self._recording
        if newest == number and error:
            raise ConfigError(error)
        recording = self._keeper.recording
        if newest < number:
            return None
        if recording.path and self._seat.board.row("recorder").state not in (State.READY, State.RUNNING):
            return None
        return {"number": number, "state": "done", "path": recording.path}


def _end(seat: Seat, wish: dict[str, Any]) -> None:
    if not seat.tell(wish):
        raise NireError("the supervisor takes no more orders at present; ask again in a second")
