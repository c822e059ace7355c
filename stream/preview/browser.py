"""One browser at the other end of a WebSocket: what it is sent, and what it may ask."""

from __future__ import annotations

import asyncio
import contextlib
import json
import math
from typing import Any

from aiohttp import WSMsgType, web

from stream.preview import slow
from stream.preview.feed import KINDS, Feed
from stream.sockets.control import refusal

_COMMANDS = ("status", "set_plan", "pause", "resume")
_STATE_EVERY_S = 0.25
# A browser that does not say within this time that it has shown an image is sent the next one anyway.
_PATIENCE_S = 2.0
_TASKS_MOST = 32


class Browser:
    """Gets the newest image of each kind once it has shown the one before.

    Attributes:
        socket: its WebSocket.
        wake: set when there may be something new.
        kinds: what it shows.
    """

    def __init__(self, socket: web.WebSocketResponse, feed: Feed, period_s: float) -> None:
        """Take over a connection.

        Args:
            socket: prepared.
            feed: of the stream.
            period_s: of the images, for slow motion.
        """
        self.socket = socket
        self.wake = asyncio.Event()
        self.kinds = {"exposed", "captured", "status"}
        self._feed = feed
        self._period_s = period_s
        self._slow = False
        self._sent = dict.fromkeys(KINDS, 0)
        self._on_its_way: dict[str, asyncio.Event] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    async def serve(self) -> None:
        """Send and listen until the browser leaves."""
        self._start(self._send())
        try:
            await self._listen()
        finally:
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _send(self) -> None:
        """Send images and, four times a second, the numbers."""
        loop = asyncio.get_running_loop()
        state_s = 0.0
        while not self.socket.closed:
            await self.wake.wait()
            self.wake.clear()
            for kind in ("events",) if self._slow else ("captured", "exposed", "events"):
                await self._send_newest(kind)
            if loop.time() >= state_s:
                state_s = loop.time() + _STATE_EVERY_S
                await self._send_text(self._feed.state())

    async def _send_slowly(self) -> None:
        """Record a piece, play it, and again, until slow motion is switched off."""
        while self._slow and not self.socket.closed:
            piece = await slow.record(self._feed.publish_address, self._feed.keys)
            await slow.play(piece, self._send_in_turn, self._period_s, lambda: self._slow)

    async def _listen(self) -> None:
        """Serve what the browser says; anything that is not understood ends the connection."""
        async for message in self.socket:
            if message.type is not WSMsgType.TEXT or not self._hear(message.data):
                await self.socket.close(code=1003, message=b"not understood")

    def _hear(self, text: str) -> bool:
        try:
            said = json.loads(text)
        except (ValueError, RecursionError):
            return False
        match said:
            case {"type": "ack", "kind": str(kind)}:
                shown = self._on_its_way.pop(kind, None)
                if shown is not None:
                    shown.set()
            case {"type": "events", "on": bool(on)}:
                self.kinds = self.kinds | {"events"} if on else self.kinds - {"events"}
            case {"type": "slow", "on": bool(on)}:
                if on and not self._slow:
                    self._start(self._send_slowly())
                self._slow = on
            case {"type": "ask", "id": int(number), "command": str(command), "fields": dict(fields)}:
                if len(self._tasks) > _TASKS_MOST:  # more than any page of ours has under way
                    return False
                self._start(self._answer(number, command, fields))
            case _:
                return False
        return True

    def _start(self, work: Any) -> None:
        task: asyncio.Task[None] = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _answer(self, number: int, command: str, fields: dict[str, Any]) -> None:
        if command not in _COMMANDS:
            reply = refusal("bad_request", f"the page may only ask for {', '.join(_COMMANDS)}")
        else:
            reply = await self._feed.ask(command, fields)
        await self._send_text({"type": "reply", "id": number, "command": command, **reply})

    async def _send_newest(self, kind: str) -> None:
        number = self._feed.number(kind)
        if kind in self._on_its_way or number == self._sent[kind]:
            return
        self._sent[kind] = number
        image = self._feed.image(kind)
        if image is not None:
            await self._send_image(kind, image)

    async def _send_in_turn(self, kind: str, image: bytes) -> None:
        shown = self._on_its_way.get(kind)
        if shown is not None:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(shown.wait(), _PATIENCE_S)
        await self._send_image(kind, image)

    async def _send_image(self, kind: str, image: bytes) -> None:
        self._on_its_way[kind] = asyncio.Event()
        # A browser may leave at any moment; `_listen` notices.
        with contextlib.suppress(ConnectionError):
            await self.socket.send_bytes(image)

    async def _send_text(self, message: dict[str, Any]) -> None:
        with contextlib.suppress(ConnectionError):
            await self.socket.send_str(json.dumps(finite(message), default=str))


def finite(value: Any) -> Any:
    """Replace what JSON cannot say (infinite, not a number) by None, at any depth."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {str(key): finite(part) for key, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [finite(part) for part in value]
    return value
