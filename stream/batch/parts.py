"""Long recordings in parts: orders for each part, and what the parts have made joined to one run."""

from __future__ import annotations

import contextlib
import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

from nire.errors import ConfigError, NireError
from stream.batch.worker import Ending, Order
from stream.disk import writing
from stream.run_folder import EARLIER, FRAMES, LINES, RunFolder, read_run, remove_run, require_own
from stream.session.part import Part
from stream.sources import SourceOrder, open_source

PARTS = ".parts"
"""Folder beside those of the recordings, for what is not joined."""


def in_parts(order: Order, seconds: float, jobs: int) -> list[Order]:
    """Split an order into one for each job; a short recording, or one that cannot be opened, stays whole.

    Args:
        order: of a whole recording.
        seconds: length of the stretches that are dealt out to the parts.
        jobs: parts at most.
    """
    duration_us: int | None = 0
    with contextlib.suppress(NireError):  # whoever carries it out will say so
        require_own(order.out)
        with open_source(order.config.source, SourceOrder(order.recording, speed=math.inf)) as source:
            duration_us = source.info.duration_us
    stretches = jobs if duration_us is None else math.ceil(duration_us / (seconds * 1e6))
    count = min(jobs, stretches)
    if count < 2:
        return [order]
    folder = order.out.parent / PARTS / order.name
    _clear(folder)  # of a batch that was killed
    return [
        replace(order, out=folder / str(number), whole=order.out, part=Part(number, count, seconds * 1e6))
        for number in range(count)
    ]


class Joining:
    """Takes the endings of parts, and makes one of them when all parts of a recording have ended."""

    def __init__(self) -> None:
        """Begin without parts."""
        self._ended: dict[str, list[tuple[Order, Ending]]] = {}

    def take(self, order: Order, ending: Ending) -> tuple[Order, Ending] | None:
        """Take an ending; returns that of a whole recording, or None while parts of it are missing.

        Seconds are those of all parts together.
        """
        if order.part is None:
            return order, ending
        parts = self._ended.setdefault(order.name, [])
        parts.append((order, ending))
        if len(parts) < order.part.count:
            return None
        whole = replace(order, out=order.whole, part=None)
        reason = next((each.reason for _, each in parts if not each.is_usable), "")
        try:
            if not reason:
                _join([each.out for each, _ in parts], whole.out)
                reason = next((each.reason for _, each in parts if each.reason), "")
        except NireError as error:
            reason = str(error)
        _clear(order.out.parent)
        warnings = dict.fromkeys(text for _, each in parts for text in each.warnings)
        return whole, Ending(reason, sum(each.seconds for _, each in parts), tuple(warnings))


def _join(parts: list[Path], out: Path) -> None:
    """Move the images of parts into one run's folder, in their order, each before its line."""
    reports = [read_run(part) for part in parts]
    exposed = sum(report["counts"].pop("exposed") for report in reports)
    if differing := sorted(key for key in reports[0] if any(report[key] != reports[0][key] for report in reports)):
        raise ConfigError(
            f"its parts differ in {', '.join(differing)}, so that its images could, too: {_told(reports, differing)}. "
            "Start it again; where it is the engine, name one by reconstructor.engine"
        )
    lines: list[tuple[int, str, Path]] = []
    for part in parts:
        text = (part / LINES).read_text(encoding="utf-8")
        lines += [(json.loads(line)["index"], line, part) for line in text.splitlines(keepends=True)]
    folder = RunFolder(out)
    with writing(f"to {out}"), (out / LINES).open("w", encoding="utf-8") as index:
        for number, line, part in sorted(lines):
            name = f"{FRAMES}/{number:06d}.png"
            (part / name).replace(out / name)
            index.write(line)
            index.flush()
    report = {key: value for key, value in reports[0].items() if key not in ("state", "files", "made_by")}
    folder.finish(report | {"counts": report["counts"] | {"exposed": exposed}})


def _told(reports: list[dict[str, Any]], keys: list[str]) -> str:
    return " and ".join(dict.fromkeys(json.dumps([report[key] for key in keys]) for report in reports))


def _clear(folder: Path) -> None:
    """Remove what parts of a recording have left, and their folders where nothing else is in them."""
    runs = list(folder.glob("*"))
    for run in runs:
        remove_run(run / EARLIER)
        remove_run(run)
    for empty in (*runs, folder, folder.parent):
        with contextlib.suppress(OSError):  # parts of another recording are in it, or it is not there
            empty.rmdir()
