"""A recording in, files out: every window, every query, nothing dropped."""

from __future__ import annotations

import contextlib
import logging
import math
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, is_dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from drivers.packets.cleaning import CleaningCounters
from drivers.source import Source, SourceInfo
from nire.errors import NireError
from nire.threads import windows_at_once
from nire.types import EventBatch, ExposedFrame, Frame, Packet, Reconstructor
from stream.arguments import without_config
from stream.backends import open_reconstructor, weights_of
from stream.clock import now_ns
from stream.config import Config
from stream.options import ConfigRecordingOut, LogLevel, Overrides, leave, load
from stream.outputs import Output, files_of, open_output, require_ready
from stream.outputs.frames import FrameFolder
from stream.progress import Progress, progress_bar
from stream.provenance import host, inputs_of, versions
from stream.reading import Reading
from stream.run_folder import EARLIER, RunFolder
from stream.session.part import Part
from stream.session.session import Session
from stream.session.shutters import Answers, Wanted, read_shutters, why_not
from stream.sources import SourceOrder, open_source

DONE, UNANSWERED, DAMAGED = 0, 3, 4

log = logging.getLogger(__name__)


def command(
    words: ConfigRecordingOut,
    shutters: Annotated[
        Path | None,
        typer.Option(help="Answer these shutters (one JSON object a line) instead of the plan.", show_default=False),
    ] = None,
    video: Annotated[bool, typer.Option("--video", help="Also write video.mp4; the same as --output video.")] = False,
    fps: Annotated[
        float | None,
        typer.Option(
            min=0.1,
            max=1000,
            help="Images a second of the films; without it real time where a screen can show that, else 30.",
            show_default=False,
        ),
    ] = None,
    plain: Annotated[
        bool, typer.Option("--plain", help="Films show the values as they are, without automatic level and gamma.")
    ] = False,
    output: Annotated[
        list[str] | None,
        typer.Option(help="Also make this output; 'nire-live outputs' lists them.", show_default=False),
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Write into a folder that holds files of somebody else, and keep them.")
    ] = False,
    overrides: Overrides = None,
    log_level: LogLevel = "INFO",
) -> None:
    """Re-expose a recording into image files; nothing is dropped.

    With --video there is a film too, and with --output beside one that has the captured frames to the left.
    """
    config, (recording, out) = without_config("offline", words, ["RECORDING", "OUT"])
    loaded, outputs = load(config, overrides, log_level), _chosen(output or [], video)
    leave(run(loaded, recording, out, shutters=shutters, outputs=outputs, fps=fps, plain=plain, overwrite=overwrite))


def _chosen(outputs: list[str], video: bool) -> list[str]:
    """Name each output once; images and their lines are written in any case."""
    wanted = [*outputs, "video"] if video else outputs
    return [name for name in dict.fromkeys(wanted) if name != "frames"]


def run(
    config: Config,
    recording: Path,
    out: Path,
    *,
    shutters: Path | None = None,
    outputs: Sequence[str] = (),
    fps: float | None = None,
    plain: bool = False,
    overwrite: bool = False,
    progress: Callable[[str], AbstractContextManager[Progress]] = progress_bar,
    part: Part | None = None,
) -> int:
    """Re-expose a recording into `frames/*.png`, `frames.jsonl`, `run.json` and, if wanted, `video.mp4` under `out`.

    A run that is ended early leaves what it had, and `run.json` says "unfinished"; the run that was there before it
    stays in `earlier/` until another one is whole.

    Args:
        config: as for a live run; `publish`, `control` and `ring` do not matter.
        recording: file of any kind that a driver recognises.
        out: folder, made if need be.
        shutters: file of shutters to answer instead of the plan.
        outputs: what to make beside images and their lines, by name: "video", or another file of stream/outputs/.
        fps: images a second of films; None = real time where a screen can show that, else 30.
        plain: films show the values as they are.
        overwrite: go on where `out` holds files that no earlier run wrote; they stay, but for those in the way.
        progress: shows how far the run has come, under a label.
        part: answer the plan in this part of the recording only, with the indices of the whole; None = all of it.

    Returns:
        Exit code: 0 done, 3 some shutters unanswered, or no image of any window, 4 recording damaged (all before
            the damage is there).

    Raises:
        NireError: anything that keeps the run from starting, or the disk takes no more.
    """
    wanted = read_shutters(shutters) if shutters is not None else None
    with open_source(config.source, SourceOrder(recording, speed=math.inf)) as source:
        margin_us = config.window.margin_us if wanted is not None else None
        reconstructor = open_reconstructor(config, source.info.geometry, has_frames=source.info.has_frames)
        answers = (lambda window: True) if part is None else part.chooser()
        session = Session(
            config,
            source.info,
            reconstructor,
            freshest=False,
            clock=now_ns,
            reach_us=margin_us,
            answers=answers,
            at_once=windows_at_once(config.reconstructor.threads),
        )
        reading = Reading(source, config.source, needs_frames=reconstructor.needs_frames)
        made_from = inputs_of(config, recording, has_frames=source.info.has_frames)
        # What cannot be made is told before an earlier run is set aside.
        files = files_of(outputs)
        for name in outputs:
            require_ready(name)
        folder = RunFolder(out, files, overwrite=overwrite)
        in_order = wanted is None
        with contextlib.ExitStack() as stack:
            frames = stack.enter_context(FrameFolder(out, in_order=in_order))
            opened = partial(open_output, out=out, in_order=in_order, fps=fps, plain=plain)
            made = [stack.enter_context(opened(name)) for name in outputs]
            stack.push(partial(_say_what_is_left, out, frames))
            bar = stack.enter_context(progress("re-exposing"))
            watched = _watched(reading, source.info, bar, [_captured_of(output) for output in made])
            if wanted is None:
                unanswered = _by_plan(session, watched, [frames, *made])
            else:
                unanswered = _by_shutters(session, watched, [frames, *made], wanted=wanted, info=source.info)
        made_from |= {"engine": reconstructor.engine, "shutters": None if shutters is None else str(shutters)}
        folder.finish(made_from | _report(config, session, source, reading.counters, reading.damage))
        method = _method(config, reconstructor, has_frames=source.info.has_frames)
    print(f"{len(frames.files)} exposed frames in {out / 'frames'}, their shutters in {out / 'frames.jsonl'}")
    print(f"made by {method}")
    for output in made:
        if hasattr(output, "summary"):
            print(output.summary())
    _say_what_was_missing(session, reading.damage)
    if reading.damage is not None:
        return DAMAGED
    has_none = part is None and session.counters.windows > 0 and not frames.files
    return UNANSWERED if unanswered or has_none or session.uncovered else DONE


def _method(config: Config, reconstructor: Reconstructor, *, has_frames: bool) -> str:
    """Name the method that has answered, with the weights and the engine of one that has a network."""
    weights = weights_of(config, config.reconstructor.backend_for(has_frames=has_frames))
    if weights is None:
        return reconstructor.name
    return f"{reconstructor.name}, weights {weights.stem}, engine {reconstructor.engine}"


def _by_plan(session: Session, packets: Iterator[Packet], outputs: Sequence[Output]) -> list[Wanted]:
    def save(frames: Iterator[ExposedFrame]) -> None:
        for frame in frames:
            for output in outputs:
                output.write(frame, index=frame.index)

    save(session.feed(packets))
    save(session.finish())
    return []


def _by_shutters(
    session: Session, packets: Iterator[Packet], outputs: Sequence[Output], *, wanted: list[Wanted], info: SourceInfo
) -> list[Wanted]:
    answers = Answers(wanted, info.geometry.height)
    widest_us = 0.0
    for window in session.windows(packets):
        widest_us = max(widest_us, window.covered_us[1] - window.covered_us[0])
        for item, shutter in answers.of(window):
            frame = session.ask_of(window, shutter, item.tag)
            for output in outputs:
                output.write(frame, index=item.line - 1)
    for item in answers.unanswered:
        shutter = item.shutter(info.geometry.height)
        print(f"line {item.line}: {why_not(shutter, answers.covered_us, widest_us)}", file=sys.stderr)
    return answers.unanswered


def _captured_of(output: Output) -> Callable[[Frame], None]:
    """What an output does with captured frames; most do nothing."""
    taken: Callable[[Frame], None] = getattr(output, "captured", lambda frame: None)
    return taken


def _watched(
    packets: Iterable[Packet], info: SourceInfo, bar: Progress, show: Sequence[Callable[[Frame], None]]
) -> Iterator[Packet]:
    """Show progress by the watermark, and captured frames to those who want them."""
    first_us: int | None = None
    for packet in packets:
        if isinstance(packet, EventBatch):
            first_us = packet.watermark_us if first_us is None else first_us
            bar.at(packet.watermark_us - first_us, info.duration_us)
        elif isinstance(packet, Frame):
            for take in show:
                take(packet)
        yield packet


def _report(
    config: Config, session: Session, source: Source, cleaning: CleaningCounters, damage: NireError | None
) -> dict[str, Any]:
    counters, calibration = session.counters, session.calibration
    hot = calibration.hot_pixels
    return {
        "recording": source.info.name,
        "has_frames": source.info.has_frames,
        "host": host(),
        "config": config.model_dump(mode="json"),
        "versions": versions(),
        "counts": {
            "events": counters.events,
            "frames": counters.frames,
            "windows": counters.windows,
            "exposed": counters.exposed,
        },
        "losses": {
            "lost_events": session.losses.events,
            "lost_frames": session.losses.frames,
            "late_windows": counters.late_windows,
            "uncovered": session.uncovered,
        }
        | asdict(cleaning),
        "source": _own_counters(source),
        "calibration": {
            "threshold_positive": calibration.threshold_positive,
            "threshold_negative": calibration.threshold_negative,
            "time_offset_us": calibration.time_offset_us,
            "hot_pixels": 0 if hot is None else int(hot.sum()),
            "misfit": calibration.misfit,
        },
        "damage": None if damage is None else str(damage),
    }


def _own_counters(source: Source) -> dict[str, Any]:
    """What a source counts itself: the fields of its attribute `counters`, where it has one."""
    counters = getattr(source, "counters", None)
    return asdict(counters) if is_dataclass(counters) and not isinstance(counters, type) else {}


def _say_what_is_left(out: Path, frames: FrameFolder, kind: object, error: object, trace: object) -> None:
    """Say what a run that breaks off leaves."""
    if kind is not None:
        earlier = f"; the run before it is in {out / EARLIER}" if (out / EARLIER).exists() else ""
        print(f"unfinished: {len(frames.files)} exposed frames so far are in {out}{earlier}", file=sys.stderr)


def _say_what_was_missing(session: Session, damage: NireError | None) -> None:
    if damage is not None:
        print(f"the recording is damaged; everything before the damage was used: {damage}", file=sys.stderr)
    if session.counters.frames == 1:
        log.warning("the recording holds one frame: single-frame windows were used")
