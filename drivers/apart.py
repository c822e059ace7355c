"""A recording read by a process of its own, where a library in C may crash or hang over damaged bytes.

The child opens the recording and sends what it gives over a pipe, as fast as that is taken. When it dies, all that
came before has been delivered, and the recording is told as damaged there.
"""

from __future__ import annotations

import contextlib
import faulthandler
import importlib
import json
import logging
import os
import resource
import signal
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

import numpy as np

from drivers.packets.chunks import decode_packet, encode_packet
from drivers.source import Found, Source, SourceInfo, Stream
from nire import errors
from nire.errors import NireError, RecordingDamaged, SourceError
from nire.types import Geometry, SourcePacket

PATIENCE_S = 10.0
"""What a library may take for a packet. A producer that gives no sign of life for 15 s is killed."""
_SLOWEST_BYTES_S = 20e6  # of a file that is passed over as a whole when it is opened
_CHUNK = struct.Struct("<4sQ")
_INFO, _LOG, _ERROR, _END = b"INFO", b"LOG_", b"FAIL", b"END_"
_HUNG = 1  # exit code of a process that `faulthandler` ends


class ReadApart:
    """A recording as a source; each iteration reads it from its start."""

    def __init__(self, driver: str, settings: Mapping[str, Any], *, patience_s: float = PATIENCE_S) -> None:
        """Remember what to open.

        Args:
            driver: dotted name of its module.
            settings: of its `open_source`, `path` among them; checked already.
            patience_s: for a packet; opening may take longer, by the size of the file.
        """
        self.path = Path(settings["path"])
        self._order = {"driver": driver, "settings": {**settings, "path": str(self.path)}}
        self._patience_s = patience_s
        self._info: SourceInfo | None = None
        self._child: _Child | None = None

    @property
    def info(self) -> SourceInfo:
        """What the recording says of itself; known once entered.

        Raises:
            SourceError: it has not been entered.
        """
        if self._info is None:
            raise SourceError(f"{self.path} is not open: use it in a with statement")
        return self._info

    def __enter__(self) -> Self:
        """Have it opened; raises what the driver raises, and `RecordingDamaged` where the child dies over it."""
        self._info = self._open()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End the child."""
        self._close()
        self._info = None

    def __iter__(self) -> Iterator[SourcePacket]:
        """Yield packets; raises as entering does, after everything before it."""
        _ = self.info
        if self._child is None:  # it has read once
            self._open()
        child, self._child = self._child, None
        assert child is not None  # just opened
        return self._packets(child)

    def _packets(self, child: _Child) -> Iterator[SourcePacket]:
        count = 0
        with child:
            while True:
                try:
                    kind, payload = child.take(self._patience_s)
                except _Died as error:
                    raise RecordingDamaged(
                        f"{self.path} cannot be read behind its packet {count}: {error}; all before was delivered",
                        count,
                    ) from error
                if kind == _END:
                    return
                packet = decode_packet(kind, payload)
                assert packet is not None  # the child is of this version
                count += 1
                yield packet

    def _open(self) -> SourceInfo:
        """Start a child and wait until it has opened the recording."""
        self._close()
        size_bytes = self.path.stat().st_size if self.path.is_file() else 0
        opening_s = self._patience_s + size_bytes / _SLOWEST_BYTES_S
        self._child = _Child({**self._order, "waits_s": (opening_s, self._patience_s)})
        try:
            _, payload = self._child.take(opening_s)
        except _Died as error:
            self._close()
            raise RecordingDamaged(f"{self.path} cannot be read: {error}", 0) from error
        except BaseException:
            self._close()
            raise
        return _info_of(payload)

    def _close(self) -> None:
        if self._child is not None:
            self._child.close()
            self._child = None


class _Died(Exception):
    """A child has ended without a word; says how."""


class _Child:
    """The process, and its two pipes."""

    def __init__(self, order: Mapping[str, Any]) -> None:
        self._process = subprocess.Popen(
            _command("drivers.apart"), env=_environment(), stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        assert self._process.stdin is not None  # pipes, as asked for
        assert self._process.stdout is not None
        self._orders, self._chunks = self._process.stdin, self._process.stdout
        level = logging.getLogger().getEffectiveLevel()
        with contextlib.suppress(BrokenPipeError):  # what ended it is told where its answer is missing
            # The pipe stays open: its end tells the child that nobody listens any more.
            self._orders.write(json.dumps({**order, "level": level}, default=_plain).encode() + b"\n")
            self._orders.flush()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def take(self, patience_s: float) -> tuple[bytes, bytes]:
        """Take a chunk; pass on what is logged and what is raised."""
        while True:
            start_s = time.monotonic()
            head = self._chunks.read(_CHUNK.size)
            kind, length = _CHUNK.unpack(head) if len(head) == _CHUNK.size else (b"", 0)
            payload = self._chunks.read(length)
            if not kind or len(payload) < length:
                raise _Died(_end_in_words(self._process.wait(), time.monotonic() - start_s, patience_s))
            if kind == _ERROR:
                raise _error_of(payload)
            if kind != _LOG:
                return kind, payload
            said = json.loads(payload)
            logging.getLogger(said["name"]).log(said["level"], "%s", said["text"])

    def close(self) -> None:
        """End it; safe to call twice."""
        self._process.kill()
        self._process.wait()
        self._chunks.close()
        with contextlib.suppress(BrokenPipeError):
            self._orders.close()


def ended(module: str, *arguments: str) -> int | None:
    """Run a module in a process of its own, in silence; give its exit code, or None where it did not come back."""
    command = [*_command(module), *arguments]
    try:
        done = subprocess.run(command, env=_environment(), capture_output=True, timeout=PATIENCE_S, check=False)
    except subprocess.TimeoutExpired:
        return None
    return done.returncode


def _command(module: str) -> list[str]:
    return [sys.executable, "-P", "-m", module]


def _environment() -> dict[str, str]:
    """Modules are found where we find them."""
    return {**os.environ, "PYTHONPATH": os.pathsep.join(place or os.curdir for place in sys.path)}


def _plain(value: Any) -> Any:
    """A setting as JSON has it: paths, and the numbers of NumPy."""
    return value.item() if isinstance(value, np.generic) else str(value)


def _end_in_words(code: int, waited_s: float, patience_s: float) -> str:
    if code < 0:
        return f"the library that reads it crashed ({signal.Signals(-code).name})"
    if code == _HUNG and waited_s > 0.9 * patience_s:
        return f"the library that reads it did not come back within {patience_s:.0f} s"
    return f"the process that reads it ended with code {code}"


def _info_of(payload: bytes) -> SourceInfo:
    said = json.loads(payload)
    said["geometry"] = Geometry(**said["geometry"])
    said["streams"] = tuple(Stream(**stream) for stream in said["streams"])
    said["found"] = tuple(Found(**found) for found in said["found"])
    return SourceInfo(**said)


def _error_of(payload: bytes) -> NireError:
    said = json.loads(payload)
    kind: type[NireError] = getattr(errors, said["kind"])
    return kind(said["text"], said["position"]) if issubclass(kind, RecordingDamaged) else kind(said["text"])


# The child


def main() -> None:
    """Be the child: take the order from the standard input, send what the source gives."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C in a terminal reaches all; the parent ends this process
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # a crash is expected here, and its memory of use to nobody
    order = json.loads(sys.stdin.readline())
    pipe = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # what libraries print is no chunk
    logging.basicConfig(level=order["level"], handlers=[_Relay(pipe)])
    threading.Thread(target=_end_with_parent, daemon=True).start()
    with contextlib.suppress(BrokenPipeError), open(os.devnull, "w") as nowhere:
        try:
            _play(order, pipe, nowhere)
        except NireError as error:
            said = {"kind": type(error).__name__, "text": str(error), "position": getattr(error, "position", None)}
            _send(pipe, _ERROR, json.dumps(said).encode())
    os._exit(0)


def _play(order: Mapping[str, Any], pipe: IO[bytes], nowhere: IO[str]) -> None:
    """Send all; a timer that needs no Python ends this process when the library does not come back."""
    opening_s, patience_s = order["waits_s"]
    faulthandler.dump_traceback_later(opening_s, exit=True, file=nowhere)
    source: Source = importlib.import_module(order["driver"]).open_source(**order["settings"])
    with source:
        _send(pipe, _INFO, json.dumps(asdict(source.info)).encode())
        packets = iter(source)
        while True:
            faulthandler.dump_traceback_later(patience_s, exit=True, file=nowhere)
            packet = next(packets, None)
            faulthandler.cancel_dump_traceback_later()  # the parent may take as long as it likes
            if packet is None:
                break
            _send(pipe, *encode_packet(packet))
    _send(pipe, _END, b"")


def _send(pipe: IO[bytes], kind: bytes, payload: bytes) -> None:
    pipe.write(_CHUNK.pack(kind, len(payload)))
    pipe.write(payload)
    pipe.flush()


class _Relay(logging.Handler):
    """Sends what is logged to the parent, whose handlers decide about it."""

    def __init__(self, pipe: IO[bytes]) -> None:
        super().__init__()
        self._pipe = pipe

    def emit(self, record: logging.LogRecord) -> None:
        said = {"name": record.name, "level": record.levelno, "text": record.getMessage()}
        _send(self._pipe, _LOG, json.dumps(said).encode())


def _end_with_parent() -> None:
    os.read(sys.stdin.fileno(), 1)
    os._exit(1)


if __name__ == "__main__":
    main()
