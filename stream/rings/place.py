"""The place a stream's rings live in: where their files are, who holds them, and how they are swept away.

Every stream has a place of its own, so streams (and tests) that run side by side do not meddle: a folder among the
user's own runtime files, and names in /dev/shm that nobody can know before they are there. Another user can neither
take a name first nor have a stream write into a file of theirs: folders are checked for their owner, files are new.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import secrets
import shutil
import stat
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from nire.errors import RingError

SHARED_MEMORY = Path("/dev/shm")
# Where there is no folder for the user's runtime files. Not the temporary folder of the environment: processes of one
# stream may be started from different ones.
_ROOT = Path("/tmp")
# A UNIX socket's path is limited to 107 bytes, and ours take 78 below the folder for runtime files.
_LONGEST_RUNTIME_PATH = 29
_HELLO, _CLOCK, _PREFIX, _CARRIER = "hello.json", "clock", "prefix", "carrier"
_PRIVATE = 0o700
_OWN_FILE = 0o600


@dataclass(frozen=True, slots=True)
class RingSpace:
    """Where a stream's shared things are.

    Attributes:
        root: folder of sockets and small files; it exists while a process of the stream lives.
        stem: what the names of its files in shared memory begin with, in every life of the stream.
    """

    root: Path
    stem: str

    @classmethod
    def of(cls, name: str) -> RingSpace:
        """The place of the stream `name` of this user."""
        digest = hashlib.sha256(f"{os.getuid()}/{name}".encode()).hexdigest()[:8]
        return cls(_runtime_folder() / digest, f"nire-{digest}-")

    @property
    def prefix(self) -> str:
        """What the names of this life's files in shared memory begin with; known to this user alone until they exist.

        Only `stem` where the stream does not run.
        """
        try:
            return self.stem + (self.root / _PREFIX).read_text(encoding="utf-8")
        except (FileNotFoundError, NotADirectoryError):
            return self.stem

    def shared_file(self, suffix: str) -> Path:
        """A file of the stream in shared memory."""
        return SHARED_MEMORY / f"{self.prefix}{suffix}"

    @property
    def carrier(self) -> str:
        """Name of what carries its packets (`stream.rings.carriers`); "" where no process has joined its rings."""
        try:
            return (self.root / _CARRIER).read_text(encoding="utf-8")
        except (FileNotFoundError, NotADirectoryError):
            return ""

    def write_carrier(self, name: str) -> None:
        """Say what carries its packets; replaced as a whole."""
        self._write(_CARRIER, name.encode())

    def write_hello(self, text: bytes) -> None:
        """Let readers know what the source is; replaced as a whole."""
        self._write(_HELLO, text)

    def read_hello(self) -> bytes | None:
        """What the producer said of its source; None when there is no producer."""
        try:
            return (self.root / _HELLO).read_bytes()
        except FileNotFoundError:
            return None

    def write_clock(self, packet: bytes) -> None:
        """Let others know how device time maps to wall time; replaced as a whole."""
        self._write(_CLOCK, packet)

    def read_clock(self) -> bytes | None:
        """What `write_clock` wrote last; None where there is no producer, or it knows no wall time."""
        try:
            return (self.root / _CLOCK).read_bytes()
        except FileNotFoundError:
            return None

    def remove_hello(self) -> None:
        """The producer leaves."""
        for name in (_HELLO, _CLOCK):
            (self.root / name).unlink(missing_ok=True)

    def leftovers(self) -> list[Path]:
        """Everything that exists of the stream, in shared memory and in its folder."""
        inside = list(self.root.rglob("*")) if self.root.exists() else []
        return sorted(self._shared_files()) + inside

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the place while joining, leaving or sweeping it; the kernel frees it when its holder dies."""
        handle = self._open_root()
        try:
            yield
        finally:
            os.close(handle)

    def close_to_others(self) -> None:
        """Take from other users what a library has given them in shared memory.

        Who may write to a file there can cut it short, and a process that uses it dies of that.
        """
        for path in self._shared_files():
            with contextlib.suppress(FileNotFoundError):  # of a process that leaves
                if path.lstat().st_mode & 0o077:
                    path.chmod(_OWN_FILE)

    def remove(self) -> None:
        """Delete all its files, but for what is held; only while `locked` and when nobody lives here."""
        held = [path for path in self._shared_files() if is_held(path)]
        for path in self._shared_files():
            if path not in held:
                path.unlink(missing_ok=True)
        if held:  # a supervisor's board, which the others find by the prefix
            for path in self.root.iterdir():
                if path.is_dir():
                    shutil.rmtree(path, ignore_errors=True)
                elif path.name != _PREFIX:
                    path.unlink(missing_ok=True)
            return
        shutil.rmtree(self.root, ignore_errors=True)
        with contextlib.suppress(OSError):  # other streams of this user live there
            _usual_folder().rmdir()

    def _write(self, name: str, data: bytes) -> None:
        new = self.root / f"{name}.new"
        new.write_bytes(data)
        new.replace(self.root / name)

    def _shared_files(self) -> list[Path]:
        return [path for path in SHARED_MEMORY.glob(f"{self.stem}*") if _is_own(path)]

    def _open_root(self) -> int:
        while True:
            try:
                self.root.parent.mkdir(mode=_PRIVATE, exist_ok=True)
                self.root.mkdir(mode=_PRIVATE, exist_ok=True)
                handle = os.open(self.root, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
            except FileNotFoundError:
                continue  # swept between the lines
            fcntl.flock(handle, fcntl.LOCK_EX)
            if self._is_current(handle):
                self._choose_prefix()
                return handle
            os.close(handle)  # swept while we waited

    def _choose_prefix(self) -> None:
        if not (self.root / _PREFIX).exists():
            new = self.root / f"{_PREFIX}.new"  # its text is whole when it has its name
            new.write_text(f"{secrets.token_hex(4)}_", encoding="utf-8")
            new.replace(self.root / _PREFIX)

    def _is_current(self, handle: int) -> bool:
        try:
            return os.fstat(handle).st_ino == os.stat(self.root).st_ino
        except FileNotFoundError:
            return False


def open_new(path: Path) -> int:
    """Create a file of this user alone, for reading and writing, and open it; never one that somebody else put there.

    Raises:
        RingError: something of another user has that name.
    """
    try:
        if _is_own(path):
            path.unlink()
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, _OWN_FILE)
    except OSError as error:
        raise RingError(f"cannot make {path}: {error.strerror}. Is it another user's? Then have it removed") from error


def open_own(path: Path, flags: int) -> int:
    """Open a file of this user; never a link, a pipe or another user's.

    Args:
        path: of the file.
        flags: os.O_RDONLY or os.O_RDWR.

    Raises:
        FileNotFoundError: there is none.
    """
    try:
        handle = os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise FileNotFoundError(path) from error
    status = os.fstat(handle)
    if status.st_uid != os.getuid() or not stat.S_ISREG(status.st_mode):
        os.close(handle)
        raise FileNotFoundError(path)
    return handle


def _runtime_folder() -> Path:
    """The folder of this user's runtime files of ours; it need not exist."""
    usual = _usual_folder()
    if _is_private(usual) or not os.path.lexists(usual):
        return usual
    # Somebody else took the name. One of our own that exists already, for the other processes will find the same.
    others = sorted(path for path in _ROOT.glob(f"{usual.name}-*") if _is_private(path))
    return others[0] if others else Path(tempfile.mkdtemp(prefix=f"{usual.name}-", dir=_ROOT))


def _usual_folder() -> Path:
    given = os.environ.get("XDG_RUNTIME_DIR", "")
    if given.startswith("/") and len(given) <= _LONGEST_RUNTIME_PATH and _is_private(Path(given)):
        return Path(given) / "nire-live"
    return _ROOT / f"nire-{os.getuid()}"


def _is_private(folder: Path) -> bool:
    """Tell whether this is a folder, no link, of this user, that nobody else can write or look into."""
    try:
        status = folder.lstat()
    except OSError:
        return False
    return stat.S_ISDIR(status.st_mode) and status.st_uid == os.getuid() and not status.st_mode & 0o077


def _is_own(path: Path) -> bool:
    try:
        return path.lstat().st_uid == os.getuid()
    except OSError:
        return False


def require_writable() -> None:
    """Check that this user may make a place.

    Raises:
        RingError: one of its two folders is not there, or cannot be written.
    """
    needed = (_usual_folder().parent, SHARED_MEMORY)
    closed = [str(folder) for folder in needed if not os.access(folder, os.W_OK | os.X_OK)]
    if closed:
        raise RingError(
            f"the rings need {needed[0]} and {needed[1]}, and this user cannot write to {' and '.join(closed)}: mount "
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
        handle = open_own(path, os.O_RDONLY)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(handle)
    return False
