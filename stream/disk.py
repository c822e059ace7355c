"""Files that are there when they are whole, and a clear word where the disk takes no more."""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Iterator
from pathlib import Path

from nire.errors import ConfigError

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
PART = ".part"
"""What the name of a file ends in while it is being written."""


def is_full(error: OSError) -> bool:
    """Tell whether a disk, or what a user may have of it, is used up."""
    return error.errno in _FULL


def refused(error: OSError, what: str | Path) -> ConfigError:
    """Say what could not be written, why, and what to do.

    Args:
        error: as the system raised it.
        what: the file or folder, or words for it.
    """
    advice = "Free some room there, or choose another place" if is_full(error) else "Choose another place"
    return ConfigError(f"cannot write {what}: {error.strerror or error}. {advice}")


@contextlib.contextmanager
def writing(what: str | Path) -> Iterator[None]:
    """Turn what the system says against writing `what` into an error for people.

    Raises:
        ConfigError: the disk is full, read-only, gone, or the place does not exist.
    """
    try:
        yield
    except OSError as error:
        raise refused(error, what) from error


def write_whole(path: Path, data: bytes | str, *, kind: str = "") -> None:
    """Write a file under another name and give it its own when it is whole.

    Args:
        path: of the file.
        data: text goes as UTF-8.
        kind: of file, for the message: "the image".

    Raises:
        ConfigError: it cannot be written; what lay there stays.
    """
    part = path.with_name(path.name + PART)
    with writing(f"{kind} {path}".strip()):
        try:
            part.write_bytes(data.encode() if isinstance(data, str) else data)
            part.replace(path)
        except BaseException:
            part.unlink(missing_ok=True)
            raise
