"""The place a stream's rings live in: where their files are, who holds them, and how they are swept away.

Every stream has a place of its own, so streams (and tests) that run side by side do not meddle: a folder under /tmp
and a prefix in /dev/shm, both made from the stream's name and the user.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from nire.errors import RingError

SHARED_MEMORY = Path("/dev/shm")
# Not the temporary folder of the environment: processes of one stream may be started from different ones. Short,
# because a UNIX socket's path is limited to 107 bytes.
_ROOT = Path("/tmp")
_HELLO = "hello.json"


@dataclass(frozen=True, slots=True)
class RingSpace:
    """Where a stream's shared things are.

    Attributes:
        root: folder of sockets and small files; it exists while a process of the stream lives.
        prefix: what the names of its files in shared memory begin with.
    """

    root: Path
    prefix: str

    @classmethod
    def of(cls, name: str) -> RingSpace:
        """The place of the stream `name` of this user."""
        short = re.sub(r"[^A-Za-z0-9-]", "-", name)[:16]
        digest = hashlib.sha256(f"{os.getuid()}/{name}".encode()).hexdigest()[:8]
        return cls(_ROOT / f"nire-{short}-{digest}", f"nire-{short}-{digest}_")

    def shared_file(self, suffix: str) -> Path:
        """A file of the stream in shared memory."""
        return SHARED_MEMORY / f"{self.prefix}{suffix}"

    def write_hello(self, text: bytes) -> None:
        """Let readers know what the source is; replaced as a whole."""
        new = self.root / "hello.new"
        new.write_bytes(text)
        new.replace(self.root / _HELLO)

    def read_hello(self) -> bytes | None:
        """What the producer said of its source; None when there is no producer."""
        try:
            return (self.root / _HELLO).read_bytes()
        except FileNotFoundError:
            return None

    def remove_hello(self) -> None:
        """The producer leaves."""
        (self.root / _HELLO).unlink(missing_ok=True)

    def leftovers(self) -> list[Path]:
        """Everything that exists of the stream, in shared memory and in its folder."""
        inside = list(self.root.rglob("*")) if self.root.exists() else []
        return sorted(SHARED_MEMORY.glob(f"{self.prefix}*")) + inside

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the place while joining, leaving or sweeping it; the kernel frees it when its holder dies."""
        handle = self._open_root()
        try:
            yield
        finally:
            os.close(handle)

    def remove(self) -> None:
        """Delete all its files; only while `locked` and when nobody lives here."""
        for path in SHARED_MEMORY.glob(f"{self.prefix}*"):
            if not is_held(path):
                path.unlink(missing_ok=True)
        shutil.rmtree(self.root, ignore_errors=True)

    def _open_root(self) -> int:
        while True:
            self.root.mkdir(mode=0o700, exist_ok=True)
            try:
                handle = os.open(self.root, os.O_RDONLY | os.O_DIRECTORY)
            except FileNotFoundError:
                continue  # swept between the two lines
            fcntl.flock(handle, fcntl.LOCK_EX)
            if self._is_current(handle):
                return handle
            os.close(handle)  # swept while we waited

    def _is_current(self, handle: int) -> bool:
        try:
            return os.fstat(handle).st_ino == os.stat(self.root).st_ino
        except FileNotFoundError:
            return False


def require_writable() -> None:
    """Check that this user may make a place.

    Raises:
        RingError: one of its two folders is not there, or cannot be written.
    """
    closed = [str(folder) for folder in (_ROOT, SHARED_MEMORY) if not os.access(folder, os.W_OK | os.X_OK)]
    if closed:
        raise RingError(
            f"the rings need {_ROOT} and {SHARED_MEMORY}, and this user cannot write to {' and '.join(closed)}: mount "
            "it, or change its permissions (chmod 1777)"
        )


def require_memory(needed: int, what: str) -> None:
    """Check that shared memory has room.

    Nothing else says so: a ring takes memory as it is written, and a process that finds none left is killed (SIGBUS).

    Args:
        needed: bytes.
        what: takes them, for the message.

    Raises:
        RingError: less is free.
    """
    if not SHARED_MEMORY.is_dir():
        return
    status = os.statvfs(SHARED_MEMORY)
    free = status.f_bavail * status.f_frsize
    if free < needed:
        raise RingError(
            f"{SHARED_MEMORY} has {free / 1e6:.0f} MB free, and {what} up to {needed / 1e6:.0f} MB: "
            "lower ring.seconds or ring.peak_rate_meps, or make it larger (in a container: --shm-size)"
        )


def is_held(path: Path) -> bool:
    """Whether a living process holds a lock on a file, as a supervisor does on its board."""
    try:
        handle = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(handle)
    return False
