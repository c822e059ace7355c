"""Adapt the network to a camera by a recording of it: its own frames teach, later ones tell whether it helped."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import numpy as np
import typer
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from nire.errors import ConfigError
from nire.types import ContentWindow, Frame, Packet
from stream.config import Config
from stream.disk import writing
from stream.images import write_png
from stream.options import LogLevel, Overrides, Recording, leave, load
from stream.progress import progress_bar

if TYPE_CHECKING:  # what takes torch is imported when it is needed, so that --help is quick
    from nire.explicit.config import ExplicitConfig
    from nire.training.adaptation import Lesson
    from stream.evaluation.motion import Apart
    from stream.evaluation.recording import Recorded

# Shares of a recording, in the order of time: what is learned from, what tells when to stop, and what is told at the
# end; the last one is seen by nothing before.
_LEARNED, _WATCHED = 0.5, 0.75
_FEWEST = 12
"""Frames that a recording must have."""
_LESSONS, _PARTS = 60, 3
"""Windows that are learned from, evenly over the recording, and parts of each."""
_GAIN_DB, _LOSS_DB = 0.02, 0.05
"""What moving pixels must gain, and still ones may lose, for the result to be worth keeping."""
MOST_ITERATIONS = 2000
"""After these, more of the same frames teach nothing more."""
BEFORE, AFTER = "before", "after"
Image = NDArray[np.uint8]


def command(
    recording: Recording,
    out: Annotated[Path, typer.Option(help="File for what was learned, .safetensors.", show_default=False)],
    minutes: Annotated[float, typer.Option(min=0.05, max=600, help="Most time to learn.")] = 5.0,
    overrides: Overrides = None,
    log_level: LogLevel = "WARNING",
) -> None:
    """Adapt the network to your own camera: minutes on a CPU, no ground truth needed.

    Every second frame of the recording is left out and must be found again by the network, from the frames beside it
    and the events. What was learned is written beside a picture, if frames of another part of the recording come out
    better by it. Use it by --set reconstructor.weights=FILE.
    """
    leave(run(load(None, overrides, log_level), recording, out, minutes=minutes))


def run(config: Config, recording: Path, out: Path, *, minutes: float) -> int:
    """Adapt the network that a config names.

    Args:
        config: `reconstructor.size` or `.weights` is what is begun with.
        recording: with frames and events.
        out: file to write; beside it a picture of the same name.
        minutes: most time to learn.

    Returns:
        0; 1 where the result is not better, and nothing was written.

    Raises:
        ConfigError: too few frames, or a network of another kind.
        NireError: the recording or the weights cannot be used.
    """
    from nire.backends.neural import weights_file
    from nire.explicit.network import KeyPlaneNetwork
    from nire.network import weights
    from nire.training.adaptation import adapt
    from stream.evaluation import recording as recordings

    console = Console(stderr=True)
    if out.suffix != ".safetensors":
        raise ConfigError(f"--out {out}: expected a name that ends in .safetensors")
    with writing(f"to {out.parent}"):
        out.parent.mkdir(parents=True, exist_ok=True)
    base = weights_file(config.reconstructor.size, config.reconstructor.weights)
    network = weights.load_any(base)
    if not isinstance(network, KeyPlaneNetwork):
        raise ConfigError(f"{base} holds another network; those of key planes can be adapted")
    if weights.metadata(base)["format"] == weights.CHANGE_FORMAT:
        raise ConfigError(f"{base} was adapted already; begin with the weights that come along, or with whole ones")
    recorded = recordings.read(config, recording, discard=0)
    if len(recorded.frames) < _FEWEST:
        raise ConfigError(
            f"{recording} has {len(recorded.frames)} frames; adapting needs {_FEWEST} at least, and is good from a "
            "hundred on"
        )
    learned, watched, told = _divided(recorded)
    lessons = _lessons(learned, network.config, "reading what to learn")
    apart = _lessons(watched, network.config, "reading what to compare")
    if not lessons or not apart:
        raise ConfigError(f"{recording}: no frame lies between two others that are near enough to make a window")
    console.print(f"{len(lessons)} lessons from {len(learned.frames)} frames, at most {minutes:g} minutes")
    with progress_bar("learning") as bar:
        changed = adapt(network, lessons, apart, minutes=minutes, iterations=MOST_ITERATIONS, progress=bar.at)
    part = out.with_name(f".{out.name}")
    with writing(f"to {out}"):
        weights.save_change(changed, base, part, {"recording": recording.name})
    try:
        figures, picture = _compared(told, base, part)
        _show(figures, console)
        better = _is_better(figures)
        if better:
            part.replace(out)
            write_png(out.with_suffix(".png"), picture)
    finally:
        part.unlink(missing_ok=True)
    if not better:
        console.print("not better: nothing was written, and the network stays as it is")
        return 1
    console.print(f"written: {out} and {out.with_suffix('.png')}; use it by --set reconstructor.weights={out}")
    return 0


def _divided(recorded: Recorded) -> tuple[Recorded, Recorded, Recorded]:
    """Divide a recording in the order of time: what is learned from, what is watched, what is told at the end."""
    frames = recorded.frames
    edges = [frames[int(share * len(frames))] for share in (_LEARNED, _WATCHED)]
    first, second = (next(k for k, packet in enumerate(recorded.packets) if packet is edge) for edge in edges)
    packets = recorded.packets
    learned, watched, told = (
        dataclasses.replace(recorded, packets=part)
        for part in (packets[:first], packets[first:second], packets[second:])
    )
    return learned, watched, told


def _lessons(recorded: Recorded, network: ExplicitConfig, label: str) -> list[Lesson]:
    """Leave every second frame out, then the others; parts of windows evenly over the recording."""
    from nire.training.adaptation import Teacher

    geometry = recorded.info.geometry
    teacher = Teacher(network, geometry.height, geometry.width, bin_us=recorded.config.planes.bin_us)
    found = [pair for first in (1, 2) for pair in _pairs(recorded, recorded.frames[first:-1:2])]
    chosen = sorted({int(k) for k in np.linspace(0, len(found) - 1, _LESSONS)}) if found else []
    lessons: list[Lesson] = []
    with progress_bar(label) as bar:
        for done, k in enumerate(chosen):
            lessons += teacher.lessons(*found[k], count=_PARTS)
            bar.at(done + 1, len(chosen))
    return lessons


def _pairs(recorded: Recorded, left_out: Sequence[Frame]) -> Iterator[tuple[ContentWindow, Frame]]:
    """Give windows of the other frames, and a frame that was left out of each."""
    from stream.evaluation.leave_out import lies_between
    from stream.evaluation.recording import windows_of

    hidden = {id(frame) for frame in left_out}
    packets: list[Packet] = [packet for packet in recorded.packets if id(packet) not in hidden]
    waiting = list(left_out)
    for window in windows_of(recorded, packets, "pair"):
        for frame in [frame for frame in waiting if lies_between(frame, window)]:
            waiting.remove(frame)
            yield window, frame


def _compared(recorded: Recorded, base: Path, changed: Path) -> tuple[Mapping[str, Apart], Image]:
    """Expose left-out frames of the last part by edi and both networks; figures, and moving crops."""
    from stream.evaluation.leave_out import compare
    from stream.evaluation.recording import open_backends

    names = {f"neural:{base}": BEFORE, f"neural:{changed}": AFTER, "edi": "edi"}
    methods = {names[name]: method for name, method in open_backends(recorded, list(names)).items()}
    found = compare(recorded, methods, slice(0, recorded.info.geometry.width))
    return found.apart, found.crops


def _is_better(figures: Mapping[str, Apart]) -> bool:
    moving, still = (
        _mean(getattr(figures[AFTER], which)) - _mean(getattr(figures[BEFORE], which)) for which in ("moving", "still")
    )
    return moving >= _GAIN_DB and not still < -_LOSS_DB


def _show(figures: Mapping[str, Apart], console: Console) -> None:
    table = Table("", "moving pixels", "still pixels", title="left-out frames of the last part, PSNR in dB")
    for name, apart in figures.items():
        table.add_row(name, f"{_mean(apart.moving):.2f}", f"{_mean(apart.still):.2f}")
    console.print(table)


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(values)) if values else float("nan")
