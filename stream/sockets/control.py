"""The control socket: wishes come in as msgpack maps and are answered as msgpack maps (docs/wire-format.md)."""

from __future__ import annotations

import contextlib
import logging
import math
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import msgpack
import zmq

from nire.errors import ConfigError, NireError, ShutterOutsideWindow, WireError
from stream.config_sections import ControlConfig, SecurityConfig
from stream.sockets.endpoint import Endpoint
from stream.sockets.keys import ClientKeys
from stream.sockets.wire import brief, plain, unpacked


@dataclass(frozen=True, slots=True)
class Pending:
    """An answer that is waited for while the stream goes on.

    Attributes:
        outcome: called now and then; gives the fields of the reply, raises a `NireError`, or None = not yet.
        meanwhile: the reply when it is not there in time.
    """

    outcome: Callable[[], Mapping[str, Any] | None]
    meanwhile: Mapping[str, Any]


Handler = Callable[[dict[str, Any]], Mapping[str, Any] | Pending]
"""Takes a checked request (all fields of its command present, plus "command" and, where it names one, "camera"),
returns the fields of the reply.

"ok": true is added where it is missing. A `NireError` becomes {"ok": false, ...}. What takes longer than an answer may
is a `Pending`."""

_MAX_REQUEST_BYTES = 1 << 16
# A flood of requests may delay the frames by this many answers, no more.
_REQUESTS_PER_POLL = 16
_PENDING_MOST = 16
_PENDING_S = 0.15
_LONGEST_HINT = 2000
_NAMED = 3
_MOST_KEYS, _LONGEST_KEY = 64, 128
_TAG = re.compile(r"[A-Za-z0-9_.-]{1,64}")
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Field:
    kind: type[Any]
    default: Any = None
    low: float = -math.inf
    optional: bool = False


COMMANDS: Mapping[str, Mapping[str, _Field]] = {
    "status": {},
    "set_plan": {"plan": _Field(dict)},
    "expose": {
        "t_us": _Field(float, optional=True),
        "wall_ns": _Field(int, optional=True),
        "for_us": _Field(float, 0.0, low=0.0),
        "row_delay_us": _Field(float, 0.0),
        "tag": _Field(str, "expose"),
    },
    "pause": {},
    "resume": {},
    "set_source": {"settings": _Field(dict)},
    "play": {"play": _Field(dict)},
    "record": {"file": _Field(str)},
    "record_stop": {},
    "set_reconstructor": {"settings": _Field(dict)},
    "set_events": {"events_ms": _Field(float, low=0.0)},
    "stop": {},
}
"""Every command and its fields; a field without a default is required, unless it is optional: then it may be
missing."""
_CAMERA = {"camera": _Field(str, optional=True)}
"""What every command takes beside its own fields."""
_ONE_OF = {"expose": ("t_us", "wall_ns")}
"""Of these fields each command needs exactly one."""


class ControlServer(Endpoint):
    """Answers requests between two windows; never waits longer than it is told to.

    Attributes:
        address: what the socket is bound to, with its real port.
    """

    def __init__(self, control: ControlConfig, security: SecurityConfig | None = None) -> None:
        """Bind.

        Raises:
            ConfigError: the address cannot be bound, or the keys cannot be used.
        """
        # The answer to "stop" is on its way while its sender is being stopped: a moment for it to leave.
        super().__init__(linger_ms=200)
        self._pending: list[tuple[list[bytes], Pending, float]] = []
        # No REP: after a client that broke off within a message it would answer the next one to the wrong place.
        self.address = self.serve(zmq.ROUTER, "control.bind", control.bind, security)

    def prepare(self, socket: zmq.Socket[bytes]) -> None:
        """Set what the socket needs before it is bound."""
        socket.maxmsgsize = _MAX_REQUEST_BYTES

    def poll(self, handler: Handler, timeout_ms: int = 0) -> int:
        """Answer the requests that wait, at most 16 of them.

        Args:
            handler: called for every request that is well formed.
            timeout_ms: how long to wait for the first one; 0 = not at all.

        Returns:
            How many were answered.
        """
        if self.renew():
            self._pending.clear()
        answered = self._answer_pending()
        for attempt in range(_REQUESTS_PER_POLL):
            if not self.served.poll(0 if attempt else timeout_ms):
                break
            try:
                parts = self.served.recv_multipart(zmq.NOBLOCK)
            except zmq.ZMQError:
                break  # what waited was no request at all: ZMQ has thrown it away, and would block for the next one
            if b"" not in parts:
                continue  # no request: an empty part ends what says where its answer belongs
            body = parts.index(b"") + 1
            reply = answer(parts[body:], handler)
            if isinstance(reply, Pending):
                self._wait_for(parts[:body], reply)
                continue
            self._send(parts[:body], reply)
            answered += 1
        return answered

    def _wait_for(self, envelope: list[bytes], pending: Pending) -> None:
        if len(self._pending) >= _PENDING_MOST:
            self._send(envelope, refusal("busy", "too many wishes are being carried out; ask again in a second"))
        else:
            self._pending.append((envelope, pending, time.monotonic() + _PENDING_S))

    def _answer_pending(self) -> int:
        waiting, self._pending = self._pending, []
        for envelope, pending, until_s in waiting:
            reply = guarded(pending.outcome)
            if reply is None and time.monotonic() >= until_s:
                reply = {"ok": True, **pending.meanwhile}
            if reply is None or isinstance(reply, Pending):
                self._pending.append((envelope, pending, until_s))
            else:
                self._send(envelope, reply)
        return len(waiting) - len(self._pending)

    def _send(self, envelope: list[bytes], reply: Mapping[str, Any]) -> None:
        try:
            packed = msgpack.packb(reply, default=plain)
        except (TypeError, ValueError, OverflowError) as error:
            _log.exception("an answer cannot be packed")
            packed = msgpack.packb(refusal("internal", f"{type(error).__name__}: the answer cannot be packed"))
        with contextlib.suppress(zmq.ZMQError):  # its client has gone, or does not take its answers
            self.served.send_multipart([*envelope, packed], zmq.NOBLOCK)


class ControlClient(Endpoint):
    """Asks a running stream; not for use by several threads at once."""

    def __init__(
        self, address: str, keys: ClientKeys | None = None, *, timeout_ms: int = 2000, camera: str = ""
    ) -> None:
        """Connect; nothing is sent yet.

        Args:
            address: of the control socket, for example tcp://127.0.0.1:5557.
            keys: where the stream has keys.
            timeout_ms: how long to wait for an answer.
            camera: that is asked, of several; "" = the only one, or all.

        Raises:
            ConfigError: it is no ZMQ address.
        """
        super().__init__()
        self.address = address
        self._timeout_ms = timeout_ms
        self._camera = {"camera": camera} if camera else {}
        self._socket = self.socket(zmq.REQ)
        # After a timeout the next question may be sent at once, and the late answer to the old one is dropped.
        self._socket.req_relaxed = True
        self._socket.req_correlate = True
        try:
            self.connect(self._socket, address, keys)
        except zmq.ZMQError as error:
            raise ConfigError(f"{address!r} is no ZMQ address, expected for example tcp://127.0.0.1:5557") from error

    def ask(self, command: str, *, within_ms: int | None = None, **fields: Any) -> dict[str, Any]:
        """Send a request and wait for the answer.

        Args:
            command: one of `COMMANDS`.
            within_ms: how long to wait for it; None = as long as for any.
            fields: of the command.

        Returns:
            The reply as it came, {"ok": true, ...} or {"ok": false, "error", "hint", ...}.

        Raises:
            ConfigError: a text that cannot be sent.
            NireError: nobody answers in time.
            WireError: the answer is no map with "ok".
        """
        try:
            request = msgpack.packb({"command": command, **self._camera, **fields}, default=plain)
        except UnicodeEncodeError as error:
            raise ConfigError(f"{command}: {error.object!r} holds half a character, which cannot be sent") from error
        self._socket.send(request)
        timeout_ms = self._timeout_ms if within_ms is None else within_ms
        if not self._socket.poll(timeout_ms):
            raise NireError(
                f"nobody answers at {self.address} within {timeout_ms / 1000:g} s. Is the stream running, is "
                "this its control address, and, where it has keys, is this client's key on its list?"
            )
        reply = _decode([self._socket.recv()])
        if not isinstance(reply.get("ok"), bool):
            raise WireError(f"the answer from {self.address} has no 'ok': is this the control socket of a stream?")
        return reply


def answer(parts: list[bytes], handler: Handler) -> dict[str, Any] | Pending:
    """Turn the parts of a request into a reply; whatever is wrong becomes {"ok": false, "error", "hint"}."""
    reply = guarded(lambda: handler(_checked(_decode(parts))))
    return refusal("internal", "nothing was answered") if reply is None else reply


def guarded(carry_out: Callable[[], Mapping[str, Any] | Pending | None]) -> dict[str, Any] | Pending | None:
    """Carry out a wish; nothing that it raises gets further than the reply."""
    try:
        reply = carry_out()
        return reply if reply is None or isinstance(reply, Pending) else {"ok": True, **reply}
    except WireError as error:
        return refusal("bad_request", str(error))
    except ShutterOutsideWindow as error:
        return refusal("not_covered", str(error)) | {"covered_us": [float(t) for t in error.covered_us]}
    except NireError as error:
        return refusal("refused", str(error))
    except Exception as error:  # noqa: BLE001 - a wish that cannot be carried out must not end the stream of frames
        _log.exception("a control command failed")
        return refusal(
            "internal",
            f"{type(error).__name__}. The log of the stream has the details",
        )


def refusal(error: str, hint: str) -> dict[str, Any]:
    """Make a reply that says no: `error` is a word for programs, `hint` a sentence for people."""
    return {"ok": False, "error": error, "hint": hint[:_LONGEST_HINT]}


def _decode(parts: list[bytes]) -> dict[str, Any]:
    if len(parts) != 1:
        raise WireError(f"a control message has one part, got {len(parts)}")
    message = unpacked(parts[0], "this")
    if not isinstance(message, dict):
        raise WireError(f"expected a msgpack map such as {{'command': 'status'}}, got {type(message).__name__}")
    return message


def _checked(request: dict[str, Any]) -> dict[str, Any]:
    command = request.get("command")
    if not isinstance(command, str) or command not in COMMANDS:
        raise WireError(f"unknown command {brief(command)}; known: {', '.join(COMMANDS)}")
    fields = {**COMMANDS[command], **_CAMERA}
    extra = sorted(brief(key).strip("'") for key in request.keys() - fields.keys() - {"command"})
    if extra:
        takes = f"{', '.join(COMMANDS[command]) or 'no fields'}, and camera among several"
        raise WireError(f"{command} does not know {', '.join(extra[:_NAMED])}; it takes {takes}")
    checked: dict[str, Any] = {"command": command}
    for name, field in fields.items():
        given = request.get(name, field.default)
        if given is not None or not field.optional:
            checked[name] = _value(command, name, field, given)
    either = _ONE_OF.get(command, ())
    if either and len(checked.keys() & set(either)) != 1:
        raise WireError(f"{command} needs {' or '.join(either)}, one of them")
    return checked


def _value(command: str, name: str, field: _Field, value: Any) -> Any:
    if value is None:
        raise WireError(f"{command} needs {name}")
    if field.kind is float:
        number = isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
        if not number or value < field.low or abs(value) > 2**62:
            at_least = f" >= {field.low:g}" if field.low > -math.inf else ""
            raise WireError(f"{command}: {name} = {brief(value)}, expected a finite number{at_least}")
        return float(value)
    if field.kind is int and (isinstance(value, bool) or not isinstance(value, int) or abs(value) > 2**62):
        raise WireError(f"{command}: {name} = {brief(value)}, expected a whole number")
    if not isinstance(value, field.kind):
        raise WireError(f"{command}: {name} is a {type(value).__name__}, expected a {field.kind.__name__}")
    if field.kind is str and not _TAG.fullmatch(value):
        raise WireError(f"{command}: {name} = {brief(value)}, expected 1 to 64 letters, digits, '_', '.', '-'")
    if field.kind is dict:
        if not all(isinstance(key, str) for key in value):
            raise WireError(f"{command}: the keys of {name} must be text")
        if len(value) > _MOST_KEYS or any(len(key) > _LONGEST_KEY for key in value):
            raise WireError(f"{command}: {name} has more than {_MOST_KEYS} keys, or one of over {_LONGEST_KEY} letters")
    return value
