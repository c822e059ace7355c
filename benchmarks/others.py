"""Others beside ours, in one run on one recording: what reads it, what makes images of its events, left-out frames."""

from __future__ import annotations

import importlib
import math
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from drivers.detect import open_recording
from drivers.source import SourceInfo
from drivers.writing import begin_writing
from nire.errors import ConfigError
from nire.shutter import Shutter
from nire.types import ContentWindow, EventBatch, Frame, Packet, Query, Reconstructor
from stream.backends import warm_up
from stream.config import load_config
from stream.evaluation.leave_out import TASK, compare
from stream.evaluation.recording import Recorded, open_backends, read
from stream.windows.assembler import WindowAssembler
from stream.windows.cut import Cut

from . import material
from .report import Result
from .timing import in_turns

_SYNTHETIC_S = 2.0
_LOOKED_AT_S = 5.0
_SPAN_US = 33_000
_BURST = 40
_RUNS = 5
_KNOWN_AS = {"passthrough": "nearest frame", "flow": "OpenCV DIS", "edi": "double integral"}
_PACKAGES = {"dv_processing": "'dv-processing>=2.0.4,<3'", "eventcv": "eventcv"}  # what pip calls them

Work = Callable[[], int]
"""Does something so many times, and says how many."""


def run(recording: Path | None = None) -> list[Result]:
    """Compare on a recording with frames; None = two seconds of the synthetic camera.

    Raises:
        NireError: the recording cannot be read, or has no frames.
    """
    with tempfile.TemporaryDirectory() as name:
        path = recording or written(Path(name) / "synthetic.aedat4", *material.packets(_SYNTHETIC_S))
        recorded = shortened(read(load_config(None, []), path, discard=0), _LOOKED_AT_S)
        # dv-processing reads no other format.
        is_aedat4 = path.suffix == ".aedat4"
        aedat4 = path if is_aedat4 else written(Path(name) / "converted.aedat4", recorded.info, recorded.packets)
        return [*_reading(aedat4), *_images(recorded, aedat4), *_left_out(recorded)]


def _reading(path: Path) -> list[Result]:
    """Events a second of a whole file, into columns."""

    def ours() -> int:
        with open_recording(path) as source:
            return sum(len(packet) for packet in source if isinstance(packet, EventBatch))

    works = {
        "ours": ours,
        "dv": by("dv_processing", lambda dv: lambda: sum(len(batch.numpy()) for batch in _batches(dv, path))),
        "eventcv": by("eventcv", lambda eventcv: lambda: len(eventcv.load(str(path)).numpy())),
    }
    return rates("read_{}_events_per_s", "events/s", works, f"AEDAT4, {path.stat().st_size / 1e6:.0f} MB")


def _images(recorded: Recorded, path: Path) -> list[Result]:
    """Images a second: of 33 ms of events each, and between two frames."""
    spans, pairs = list(_windows(recorded, "span", frames=0)), list(_windows(recorded, "pair", frames=2))
    backends = open_backends(recorded, ["events_only", "edi"])
    for backend in backends.values():
        warm_up(backend, recorded.info.geometry)
    works = {
        "ours_events_only": lambda: _exposed(backends["events_only"], spans, 1),
        f"ours_events_only_{_BURST}": lambda: _exposed(backends["events_only"], spans, _BURST),
        "ours_edi": lambda: _exposed(backends["edi"], pairs, 1),
        f"ours_edi_{_BURST}": lambda: _exposed(backends["edi"], pairs, _BURST),
        "dv_accumulator": by("dv_processing", lambda dv: _accumulated(dv, dv.Accumulator, path, spans)),
        "dv_edge_map": by("dv_processing", lambda dv: _accumulated(dv, dv.EdgeMapAccumulator, path, spans)),
        "eventcv_time_surface": by("eventcv", lambda eventcv: _surfaces(eventcv, path, len(spans))),
        "e2vid": "neither its network nor its weights are in a registry of packages",
    }
    events = np.mean([len(window.events) for window in spans])
    return rates(
        "images_{}_per_s", "images/s", works, f"of {_SPAN_US // 1000} ms or between frames, {events:,.0f} events"
    )


def _left_out(recorded: Recorded) -> list[Result]:
    """Quality at every second frame, which is left out: what `evaluate leave-out` says."""
    try:
        found = compare(recorded, open_backends(recorded, ()), slice(0, recorded.info.geometry.width))
    except ConfigError as error:  # frames too far apart: what was measured before is told all the same
        return [Result(f"{TASK}_psnr", math.nan, "dB", str(error))]
    further = found.further()
    results = []
    for (name, task), score in found.scores.items():
        moving = further[name, TASK].get("psnr_moving", math.nan)
        how = _KNOWN_AS.get(name, "network")
        note = f"{how}: SSIM {np.mean(score.ssim):.3f}, moving {moving:.2f} dB, {len(score.psnr)} frames"
        metric = f"{task}_{name.replace(':', '_')}_psnr"
        results.append(Result(metric, float(np.mean(score.psnr)), "dB", note))
    return results


def by(package: str, make: Callable[[ModuleType], Work]) -> Work | str:
    """Make a work that needs a package; where that is not installed, say how to install it."""
    try:
        return make(importlib.import_module(package))
    except ImportError:
        return f"not installed: pip install {_PACKAGES[package]}"


def rates(metric: str, unit: str, works: dict[str, Work | str], note: str) -> list[Result]:
    """Tell how many a second each work does; they take turns.

    Args:
        metric: its name, {} for that of the work.
        unit: of what is done.
        works: by name; a text in the place of one says why there is none: its value is not a number.
        note: for those that there are.
    """
    there = {name: work for name, work in works.items() if callable(work)}
    counts = {name: work() for name, work in there.items()}
    seconds = dict(zip(there, in_turns(*there.values(), runs=_RUNS, warm_up=0), strict=True))
    return [
        Result(metric.format(name), math.nan, unit, why)
        if isinstance(why, str)
        else Result(metric.format(name), counts[name] / seconds[name], unit, f"{note}; {counts[name]:,}")
        for name, why in works.items()
    ]


def _exposed(backend: Reconstructor, windows: Sequence[ContentWindow], each: int) -> int:
    """Build each window and ask it for some instants of its own."""
    for window in windows:
        first_us, last_us = max(window.covered_us[0], window.t0_us), min(window.covered_us[1], window.t1_us)
        times_us = np.linspace(first_us, last_us, each + 2)[1:-1].tolist()
        film = window.film
        queries = [Query(film, Shutter.instant(t_us, film.height), "others") for t_us in times_us]
        backend.expose(backend.build(window), queries)
    return each * len(windows)


def _accumulated(dv: ModuleType, kind: Callable[[Any], Any], path: Path, spans: Sequence[ContentWindow]) -> Work:
    """Accumulate the same spans."""
    whole = dv.EventStore()
    for batch in _batches(dv, path):
        whole.add(batch)
    stores = [whole.sliceTime(window.t0_us, window.t1_us) for window in spans]
    accumulator = kind(dv.io.MonoCameraRecording(str(path)).getEventResolution())

    def accumulate() -> int:
        for store in stores:
            accumulator.accept(store)
            accumulator.generateFrame()
        return len(stores)

    return accumulate


def _surfaces(eventcv: ModuleType, path: Path, count: int) -> Work:
    """Draw surfaces of as many spans of the same length, from the first event on."""
    reader = eventcv.open(str(path), dt_us=_SPAN_US)
    slices = [reader.slice(k) for k in range(min(count, reader.n_slices))]
    return lambda: len([piece.tsurf().numpy() for piece in slices])


def _batches(dv: ModuleType, path: Path) -> Iterator[Any]:
    return iter(dv.io.MonoCameraRecording(str(path)).getNextEventBatch, None)


def _windows(recorded: Recorded, policy: str, *, frames: int) -> Iterator[ContentWindow]:
    """Cut a recording into windows; those of other than so many frames are left out."""
    assembler = WindowAssembler(recorded.info.geometry, Cut(policy, span_us=_SPAN_US))
    for packet in recorded.packets:
        assembler.push(packet)
        yield from (window for window in assembler.complete() if len(window.frames) == frames)
        assembler.release()


def shortened(recorded: Recorded, seconds: float) -> Recorded:
    """Keep what lies in the first seconds, so that what a comparison takes does not grow with the recording."""
    first_us = next(
        int(packet.t_us[0]) for packet in recorded.packets if isinstance(packet, EventBatch) and len(packet)
    )

    def is_early(packet: Packet) -> bool:
        end_us = packet.watermark_us if isinstance(packet, EventBatch) else None
        end_us = packet.last_us if isinstance(packet, Frame) else end_us
        return end_us is None or end_us < first_us + seconds * 1e6

    return replace(recorded, packets=tuple(packet for packet in recorded.packets if is_early(packet)))


def written(path: Path, info: SourceInfo, packets: Iterable[Packet]) -> Path:
    """Write packets as a recording of the kind that the suffix names."""
    with begin_writing(path, info.geometry, info) as writer:
        for packet in packets:
            writer.write(packet)
    return path
