"""The folder of a run over a recording: whose files lie there, and what becomes of those of an earlier run.

Only files that an earlier run says it wrote are ever replaced. They are set aside in `earlier/` and go when the new run
is whole, so at any moment the folder holds one run, and where that one was ended early, the one before it as well.
"""

from __future__ import annotations

import contextlib
import json
import logging
import re
import shutil
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from nire.errors import ConfigError
from stream.disk import PART, write_whole, writing

RUN, LINES, FRAMES = "run.json", "frames.jsonl", "frames"
EARLIER = "earlier"
_IMAGE = re.compile(rf"{FRAMES}/(\d{{6,}})\.png")
_MARK = "nire-live"
_NAMED = 3
_log = logging.getLogger(__name__)


class RunFolder:
    """Begins a run in a folder, and ends it; see the module.

    Attributes:
        path: of the folder.
    """

    def __init__(self, path: Path, files: Sequence[str] = (), *, overwrite: bool = False) -> None:
        """Set aside what an earlier run left, and note that this one has begun.

        Args:
            path: of the folder, made if need be.
            files: that this run makes there besides images, their lines and `run.json`; relative names.
            overwrite: go on where there are files of somebody else. They stay, but for those that have the name of
                something that is written.

        Raises:
            ConfigError: files are there that no earlier run wrote, or the folder cannot be written.
        """
        self.path = path
        self._files = list(files)
        with writing(f"to {path}"):
            path.mkdir(parents=True, exist_ok=True)
            if not overwrite:
                require_own(path)
            self._set_aside()
            (path / FRAMES).mkdir(exist_ok=True)
        self._note({"state": "unfinished"})

    def finish(self, report: Mapping[str, Any]) -> None:
        """Write the report: the run is whole, and the one before it goes.

        Raises:
            ConfigError: it cannot be written.
        """
        self._note({"state": "done", **report})
        with writing(f"to {self.path}"):
            remove_run(self.path / EARLIER)

    def _note(self, report: Mapping[str, Any]) -> None:
        text = json.dumps({**report, "files": self._files, "made_by": _MARK}, indent=2) + "\n"
        write_whole(self.path / RUN, text)

    def _set_aside(self) -> None:
        """Leave no product of an earlier run in the folder, and the last whole one in `earlier/`."""
        earlier = self.path / EARLIER
        own = own_files(self.path)
        if not own:
            return
        is_whole = _state(self.path) == "done"
        if not is_whole:
            _log.warning("an earlier run in %s was ended before it was whole; this one takes its place", self.path)
        if (not is_whole and own_files(earlier)) or (earlier.exists() and not own_files(earlier)):
            remove_run(self.path)  # the last whole run is aside already, or somebody else's files are in the way
            return
        if RUN in own_files(earlier):
            remove_run(earlier)
        (earlier / FRAMES).mkdir(parents=True, exist_ok=True)
        if LINES in own:
            shutil.copyfile(self.path / LINES, earlier / LINES)  # both folders know their files, whenever we are killed
        for name in sorted(own, key=lambda name: (name == RUN, name == LINES)):
            (self.path / name).replace(earlier / name)


def own_files(folder: Path) -> set[str]:
    """List the files of a folder that a run wrote, by what its lines and its report say; names relative to it."""
    found = {LINES, RUN, RUN + PART, LINES + PART} if _is_run(folder) else set()
    if not found:
        return found
    files = read_run(folder).get("files")
    found |= {name for name in files if _is_inside(name)} if isinstance(files, list) else set()
    indices = [int(match[1]) for match in map(_IMAGE.fullmatch, _images(folder)) if match]
    if _state(folder) == "unfinished":  # an image is there a moment before its line is
        indices.append(max(indices, default=-1) + 1)
    found |= {f"{FRAMES}/{index:06d}.png" for index in indices}
    found |= {f"{FRAMES}/{part.name}" for part in (folder / FRAMES).glob(f"*.png{PART}")}
    return {name for name in found if (folder / name).is_file()}


def whole_run(folder: Path) -> dict[str, Any] | None:
    """Read the report of a run that is done, undamaged, and has all its files; None where there is none such."""
    report = read_run(folder)
    counts, files = report.get("counts"), report.get("files")
    if report.get("state") != "done" or report.get("damage") or not isinstance(counts, dict):
        return None
    images = _images(folder)
    names = [*images, LINES, *(files if isinstance(files, list) else [])]
    is_whole = len(set(images)) == counts.get("exposed") and all(_has_bytes(folder / str(name)) for name in names)
    return report if is_whole else None


def damage_of(folder: Path) -> str:
    """Tell the damage that a run met; "" where there was none."""
    return str(read_run(folder).get("damage") or "")


def _has_bytes(path: Path) -> bool:
    return path.is_file() and (path.name == LINES or path.stat().st_size > 0)


def require_own(folder: Path) -> None:
    """Refuse a folder with files of somebody else.

    Raises:
        ConfigError: it names some of them.
    """
    own = {folder / name for name in own_files(folder)}
    own |= {folder / EARLIER / name for name in own_files(folder / EARLIER)}
    foreign = sorted(path for path in folder.rglob("*") if not path.is_dir() and path not in own)
    if foreign:
        named = ", ".join(str(path.relative_to(folder)) for path in foreign[:_NAMED])
        more = f" and {len(foreign) - _NAMED} more" if len(foreign) > _NAMED else ""
        raise ConfigError(
            f"{folder} holds files that no run of 'offline' wrote: {named}{more}. Choose another folder, or add "
            "--overwrite: it keeps them, but for those with the name of a file that is written"
        )


def _is_run(folder: Path) -> bool:
    report = read_run(folder)
    versions = report.get("versions")
    is_made_by_us = report.get("made_by") == _MARK or (isinstance(versions, dict) and _MARK in versions)
    return is_made_by_us or bool(_images(folder))


def _state(folder: Path) -> str:
    return str(read_run(folder).get("state", "done" if (folder / RUN).exists() else "unfinished"))


def read_run(folder: Path) -> dict[str, Any]:
    """Read the report of a run as far as it is there; empty where there is none."""
    try:
        report = json.loads((folder / RUN).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return report if isinstance(report, dict) else {}


def _images(folder: Path) -> list[str]:
    """Names of images in the lines of a run; a last line that was cut off is passed over."""
    try:
        lines = (folder / LINES).read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError):
        return []
    found = []
    for line in lines:
        with contextlib.suppress(ValueError):
            record = json.loads(line)
            if isinstance(record, dict) and "t_a_us" in record and isinstance(record.get("file"), str):
                found.append(record["file"])
    return [name for name in found if _IMAGE.fullmatch(name)]


def _is_inside(name: object) -> bool:
    """Tell whether a name from a report is that of a file in the folder itself: never follow one that leads out."""
    return isinstance(name, str) and name not in ("", ".", "..") and Path(name).name == name


def remove_run(folder: Path) -> None:
    """Delete what a run wrote there, and its folders where nothing else is in them."""
    _unlink(folder, sorted(own_files(folder), key=lambda name: (name == LINES, name == RUN)))
    for empty in (folder / FRAMES, folder):
        if empty.name in (FRAMES, EARLIER):
            with contextlib.suppress(OSError):  # somebody else's files are in it, or it is not there
                empty.rmdir()


def _unlink(folder: Path, names: Iterable[str]) -> None:
    for name in names:
        (folder / name).unlink(missing_ok=True)
