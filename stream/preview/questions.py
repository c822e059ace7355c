"""Questions to the stream's control socket, one after another, without stopping the images."""

from __future__ import annotations

import asyncio
import time
from typing import Any

from nire.errors import NireError
from stream.sockets.control import ControlClient, refusal
from stream.sockets.keys import ClientKeys

# A status that comes this soon after an answer may have been written before it.
_STATUS_LAG_S = 0.25


class Questions:
    """Asks one question at a time.

    Attributes:
        answered: what the newest answers say of the status, until one is there that is newer.
    """

    def __init__(self, keys: ClientKeys | None) -> None:
        """Prepare; nothing is connected before the first question.

        Args:
            keys: where the stream has keys.
        """
        self.answered: dict[str, Any] = {}
        self._keys = keys
        self._answered_s = -1e9
        self._control: ControlClient | None = None
        self._one_at_a_time = asyncio.Lock()
        self._asked: asyncio.Future[dict[str, Any]] | None = None

    async def ask(self, address: str, command: str, fields: dict[str, Any]) -> dict[str, Any]:
        """Ask; what fails becomes {"ok": false, "error", "hint"}."""
        async with self._one_at_a_time:
            await self._hear_out()
            self._asked = asyncio.ensure_future(asyncio.to_thread(self._ask, address, command, fields))
            # A browser that leaves now must not take the socket from the thread that still waits on it.
            reply = await asyncio.shield(self._asked)
        # The answer is newer than the last status, which comes once a second: until the next one it goes first.
        if reply["ok"] and command == "set_plan" and "plan" in reply:
            self.answered["plan"] = reply["plan"]
        if reply["ok"] and command in ("pause", "resume"):
            self.answered["state"] = "paused" if command == "pause" else "running"
        self._answered_s = time.monotonic()
        return reply

    def status_came(self) -> None:
        """A status has arrived: where it is newer than the last answer, that one has done its duty."""
        if time.monotonic() > self._answered_s + _STATUS_LAG_S:
            self.answered.clear()

    async def close(self) -> None:
        """Disconnect, once the last question is answered or given up."""
        await self._hear_out()
        self._hang_up()

    async def _hear_out(self) -> None:
        if self._asked is not None:
            await asyncio.wait([self._asked])

    def _ask(self, address: str, command: str, fields: dict[str, Any]) -> dict[str, Any]:
        if not address:
            return refusal("no_control", "the stream has not said its control address yet; ask again in a second")
        try:
            if self._control is None or self._control.address != address:
                self._hang_up()
                self._control = ControlClient(address, self._keys)
            return self._control.ask(command, **fields)
        except NireError as error:
            return refusal("no_answer", str(error))
        except (TypeError, ValueError, OverflowError):
            return refusal("bad_request", f"{command} cannot be asked with these fields")

    def _hang_up(self) -> None:
        if self._control is not None:
            self._control.close()
            self._control = None
