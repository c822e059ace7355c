"""The preview's view of a stream: the newest message of each topic, and the control socket by its address."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from nire.errors import NireError, WireError
from stream.preview.images import picture
from stream.preview.numbers import Numbers
from stream.sockets.control import ControlClient, refusal
from stream.sockets.keys import ClientKeys
from stream.sockets.subscriber import Subscriber
from stream.sockets.wire import Message

KINDS = {"exposed": "frame/", "captured": "captured", "events": "events", "status": "status"}
"""What the page knows -> the topic it comes from."""
_SILENT_S = 2.5
# A status that comes this soon after an answer may have been written before it.
_STATUS_LAG_S = 0.25


@dataclass(slots=True)
class _Slot:
    """The newest message of a topic and, once asked for, the image made of it."""

    subscriber: Subscriber
    message: Message | None = None
    number: int = 0
    image: bytes | None = None
    image_number: int = field(default=-1)


class Feed:
    """Follows a stream for all browsers at once; subscribes only to what one of them shows."""

    def __init__(self, publish_address: str, control_address: str, keys: ClientKeys | None) -> None:
        """Prepare; nothing is connected before `follow`.

        Args:
            publish_address: of the stream.
            control_address: of the stream; "" = as its status says.
            keys: where the stream has keys.
        """
        self.publish_address = reachable(publish_address, "tcp://127.0.0.1:0")
        self.problem = ""
        self.numbers = Numbers()
        self._control_address = reachable(control_address, self.publish_address)
        self.keys = keys
        self._slots: dict[str, _Slot] = {}
        self._heard_s = -1e9
        self._answered: dict[str, Any] = {}
        self._answered_s = -1e9
        self._control: ControlClient | None = None
        self._one_at_a_time = asyncio.Lock()
        self._asked: asyncio.Future[dict[str, Any]] | None = None

    def follow(self, kinds: Iterable[str]) -> None:
        """Subscribe to exactly these kinds."""
        wanted = set(kinds)
        for kind in self._slots.keys() - wanted:
            self._slots.pop(kind).subscriber.close()
        for kind in wanted - self._slots.keys():
            self._slots[kind] = _Slot(Subscriber(self.publish_address, [KINDS[kind]], newest_only=True, keys=self.keys))

    def drain(self) -> None:
        """Take the newest message of each topic, without waiting; what cannot be understood is a `problem`."""
        for kind, slot in self._slots.items():
            try:
                message = slot.subscriber.recv(0)
                if message is not None:
                    self._take(kind, slot, message)
                    self.problem = ""
            except Exception as error:  # noqa: BLE001 - whoever publishes there must not end the page
                self.problem = str(error) if isinstance(error, WireError) else f"a message of {kind!r} is damaged"

    def number(self, kind: str) -> int:
        """Count of the messages seen of a kind; grows when there is something new."""
        slot = self._slots.get(kind)
        return slot.number if slot else 0

    def image(self, kind: str) -> bytes | None:
        """The newest image of a kind, encoded once for all browsers."""
        slot = self._slots.get(kind)
        if slot is None or slot.message is None:
            return None
        if slot.image_number != slot.number:
            slot.image_number = slot.number
            try:
                slot.image = picture(kind, slot.message)
            except Exception:  # noqa: BLE001 - as in `drain`
                slot.image, self.problem = None, f"an image of {kind!r} is damaged"
        return slot.image

    def state(self) -> dict[str, Any]:
        """What the page shows beside the images: link, numbers and the stream's own status."""
        live = time.monotonic() - self._heard_s < _SILENT_S
        if not live:
            self._forget()
        slot = self._slots.get("status")
        return {
            "type": "state",
            "address": self.publish_address,
            "live": live,
            "problem": self.problem,
            "numbers": self.numbers.summary(),
            "status": (dict(slot.message.header) if slot and slot.message else {}) | self._answered,
        }

    def _forget(self) -> None:
        """A stream that is gone has no figures any more, and the next one has its own."""
        self.numbers = Numbers()
        self._answered.clear()
        if slot := self._slots.get("status"):
            slot.message = None

    async def ask(self, command: str, fields: dict[str, Any]) -> dict[str, Any]:
        """Ask the stream, without stopping the images; what fails becomes {"ok": false, "error", "hint"}."""
        async with self._one_at_a_time:
            await self._hear_out()
            self._asked = asyncio.ensure_future(asyncio.to_thread(self._ask, command, fields))
            # A browser that leaves now must not take the socket from the thread that still waits on it.
            reply = await asyncio.shield(self._asked)
        # The answer is newer than the last status, which comes once a second: until the next one it goes first.
        if reply["ok"] and command == "set_plan" and "plan" in reply:
            self._answered["plan"] = reply["plan"]
        if reply["ok"] and command in ("pause", "resume"):
            self._answered["state"] = "paused" if command == "pause" else "running"
        self._answered_s = time.monotonic()
        return reply

    async def close(self) -> None:
        """Disconnect from everything, once the last question is answered or given up."""
        self.follow(())
        await self._hear_out()
        self._hang_up()

    async def _hear_out(self) -> None:
        if self._asked is not None:
            await asyncio.wait([self._asked])

    def _take(self, kind: str, slot: _Slot, message: Message) -> None:
        slot.message = message
        slot.number += 1
        self._heard_s = time.monotonic()
        if kind == "exposed":
            self.numbers.add_exposed(message.header)
        elif kind == "captured":
            self.numbers.add_captured(message.header)
        elif kind == "status" and self._heard_s > self._answered_s + _STATUS_LAG_S:
            self._answered.clear()

    def _ask(self, command: str, fields: dict[str, Any]) -> dict[str, Any]:
        address = self._control_address or self._published_control_address()
        if not address:
            return refusal("no_control", f"the stream at {self.publish_address} has not said its control address yet")
        try:
            if self._control is None or self._control.address != address:
                self._hang_up()
                self._control = ControlClient(address, self.keys)
            return self._control.ask(command, **fields)
        except NireError as error:
            return refusal("no_answer", str(error))
        except (TypeError, ValueError, OverflowError):
            return refusal("bad_request", f"{command} cannot be asked with these fields")

    def _hang_up(self) -> None:
        if self._control is not None:
            self._control.close()
            self._control = None

    def _published_control_address(self) -> str:
        slot = self._slots.get("status")
        header = slot.message.header if slot and slot.message else {}
        return reachable(str(header.get("control", "")), self.publish_address)


def reachable(address: str, neighbour: str) -> str:
    """Replace "every interface" in an address by the host of another address of the same stream.

    >>> reachable("tcp://0.0.0.0:5557", "tcp://camera.local:5556")
    'tcp://camera.local:5557'
    """
    for everywhere in ("tcp://0.0.0.0:", "tcp://*:", "tcp://[::]:"):
        if address.startswith(everywhere) and neighbour.startswith("tcp://"):
            return f"{neighbour.rpartition(':')[0]}:{address.rpartition(':')[2]}"
    return address
