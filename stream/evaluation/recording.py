"""A recording as evaluations on it need it: all in memory, its windows by any policy, the backends to compare."""

from __future__ import annotations

import argparse
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from drivers.packets.cleaning import cleaned
from drivers.source import SourceInfo
from nire.errors import ConfigError, SourceError
from nire.network.config import SIZES
from nire.network.weights import all_shipped
from nire.types import Calibration, Content, ContentWindow, EventBatch, Frame, Gap, Packet, Query, Reconstructor
from stream.backends import open_reconstructor
from stream.clock import now_ns
from stream.config import Config, load_config, updated
from stream.session.session import Session
from stream.sources import SourceOrder, open_source


@dataclass(frozen=True, slots=True, eq=False)
class Recorded:
    """All of a recording.

    Attributes:
        config: what it was read with, and is re-exposed with.
        info: of its source.
        packets: in order, cleaned; frames that were discarded are gone.
    """

    config: Config
    info: SourceInfo
    packets: tuple[Packet, ...]

    @property
    def frames(self) -> list[Frame]:
        """The captured frames, in order."""
        return [packet for packet in self.packets if isinstance(packet, Frame)]

    @property
    def gaps(self) -> list[Gap]:
        """The spans whose events are missing."""
        return [packet for packet in self.packets if isinstance(packet, Gap)]

    def events(self) -> EventBatch:
        """Join all events.

        Raises:
            SourceError: the device clock started again, so that their times have no common meaning.
        """
        batches = [packet for packet in self.packets if isinstance(packet, EventBatch)]
        if len({batch.epoch for batch in batches}) > 1:
            raise SourceError(f"{self.info.name}: its clock started again within; cut it there")
        return EventBatch.joined(batches)


def read(config: Config, recording: Path, *, discard: int) -> Recorded:
    """Read a whole recording into memory.

    Args:
        config: its section `source` is used.
        recording: of any kind that a driver recognises.
        discard: frames to leave out at the beginning, beyond those that its driver leaves out.

    Raises:
        SourceError: it cannot be read, or holds no frames or no events.
    """
    with open_source(config.source, SourceOrder(recording, speed=math.inf)) as source:
        info = source.info
        source_config = config.source
        packets = [
            packet
            for packet in cleaned(
                source, row_delay_us=source_config.row_delay_us, exposure_us=source_config.exposure_us
            )
            if isinstance(packet, EventBatch | Frame | Gap)
        ]
    early = {id(frame) for frame in [packet for packet in packets if isinstance(packet, Frame)][:discard]}
    recorded = Recorded(config, info, tuple(packet for packet in packets if id(packet) not in early))
    if not recorded.frames or not any(isinstance(packet, EventBatch) for packet in packets):
        raise SourceError(f"{recording}: holds no frames (after {discard} discarded) or no events; both are needed")
    return recorded


class _Nobody:
    """The method of a session that is only asked for windows: a network would take long to make."""

    name = "nobody"
    engine = ""
    needs_frames = False

    def build(self, window: ContentWindow) -> Content:
        raise NotImplementedError

    def expose(self, content: Content, queries: Sequence[Query]) -> NDArray[np.uint8]:
        raise NotImplementedError


def windows_of(
    recorded: Recorded, packets: Sequence[Packet], policy: str, *, reach_us: int | None = None
) -> Iterator[ContentWindow]:
    """Cut some of a recording's packets into windows, calibrated as in a run: the same code; none is built.

    Args:
        recorded: where they are from.
        packets: of it, in order.
        policy: "pair", "single" or "span".
        reach_us: how far shutters may reach beyond what a window answers; None = as those of the plan.
    """
    config = recorded.config
    margin_us = max(config.window.margin_us, reach_us or 0)
    config = config.model_copy(update={"window": updated(config.window, {"policy": policy, "margin_us": margin_us})})
    session = Session(config, recorded.info, _Nobody(), freshest=False, clock=now_ns, reach_us=reach_us)
    return session.windows(packets)


def as_streamed(recorded: Recorded) -> Recorded:
    """Fix thresholds and time offset to those that a stream over all of a recording's frames ends with.

    Args:
        recorded: the recording; what its configuration fixes already stays.
    """
    calibration = Calibration()
    for window in windows_of(recorded, recorded.packets, "pair"):
        calibration = window.calibration
    config = recorded.config
    thresholds = (calibration.threshold_positive, calibration.threshold_negative)
    fixed = {
        "source": updated(config.source, {"time_offset_us": calibration.time_offset_us}),
        "reconstructor": updated(config.reconstructor, {"contrast_threshold": thresholds}),
    }
    return replace(recorded, config=config.model_copy(update=fixed))


def open_backends(recorded: Recorded, names: Sequence[str]) -> dict[str, Reconstructor]:
    """Make backends for a recording.

    Args:
        recorded: for its sensor and its configuration.
        names: "edi", "neural:small" (a size) or "neural:FILE" (weights); none = passthrough, flow, edi, and the
            networks whose weights are shipped.

    Raises:
        ConfigError: there is no such backend, or one is named twice.
        WeightsError: there are no such weights.
    """
    if len(set(names)) != len(names):
        raise ConfigError(f"--backend {' '.join(names)}: name each only once")
    chosen = names or ("passthrough", "flow", "edi", *(f"neural:{name}" for name in all_shipped()))
    made: dict[str, Reconstructor] = {}
    for name in chosen:
        backend, _, what = name.partition(":")
        changes = {"backend": backend} | ({"size" if what in SIZES else "weights": what} if what else {})
        config = recorded.config
        config = config.model_copy(update={"reconstructor": updated(config.reconstructor, changes)})
        made[name] = open_reconstructor(config, recorded.info.geometry)
    return made


def columns_of(text: str | None, width: int) -> slice:
    """Read "A:B", as Python counts, as columns of a sensor; None = all.

    Raises:
        ConfigError: it is nothing like that, or fewer than 11 columns, which SSIM needs.
    """
    if text is None:
        return slice(0, width)
    first, colon, last = text.partition(":")
    try:
        columns = range(width)[int(first) if first else None : int(last) if last else None]
    except ValueError:
        columns = range(0)
    if not colon or len(columns) < 11:
        raise ConfigError(f"--columns {text}: expected A:B, at least 11 columns within 0:{width}")
    return slice(columns.start, columns.stop)


_WITH_FRAMES = "edi, flow, passthrough, neural:SIZE or neural:FILE; default: those and each shipped size"


def parser(name: str, what: str, *, backends: str = _WITH_FRAMES) -> argparse.ArgumentParser:
    """Make a parser with the arguments that evaluations on a recording share; `backends` is the help for those."""
    made = argparse.ArgumentParser(f"nire-live evaluate {name}", description=what)
    made.add_argument("recording", type=Path, help="a recording; its kind is told from its content")
    made.add_argument(
        "--backend",
        nargs="+",
        default=[],
        metavar="NAME",
        help=backends,
    )
    made.add_argument("--columns", metavar="A:B", help="compare these columns only, for sensors cut by their events")
    made.add_argument("--discard", type=int, default=0, metavar="N", help="leave out the first N frames")
    made.add_argument("--json", type=Path, metavar="FILE", help="write the figures to this file")
    made.add_argument(
        "--set", dest="overrides", action="append", default=[], metavar="KEY=VALUE", help="override a config key"
    )
    return made


def opened(asked: argparse.Namespace) -> tuple[Recorded, dict[str, Reconstructor], slice]:
    """Do what the shared arguments say: the recording, the backends and the columns; make the folders to write to.

    Raises:
        NireError: an argument or the recording cannot be used.
    """
    recorded, columns = opened_recording(asked)
    return recorded, open_backends(recorded, asked.backend), columns


def opened_recording(asked: argparse.Namespace) -> tuple[Recorded, slice]:
    """Do what the shared arguments say of the recording and the columns; make the folders to write to.

    Raises:
        NireError: an argument or the recording cannot be used.
    """
    if asked.discard < 0:
        raise ConfigError(f"--discard {asked.discard}: expected a number of frames, 0 or more")
    for folder in (asked.json and asked.json.parent, getattr(asked, "out", None)):
        if folder is not None:
            _make(folder)
    recorded = read(load_config(None, asked.overrides), asked.recording, discard=asked.discard)
    return recorded, columns_of(asked.columns, recorded.info.geometry.width)


def cut(pixels: NDArray[np.uint8], columns: slice) -> NDArray[np.uint8]:
    """Cut columns out of an image [H, W, C]."""
    return np.ascontiguousarray(pixels[:, columns])


def _make(folder: Path) -> None:
    """Make a folder before the work, which takes long, not after it."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"cannot write to {folder}: {error.strerror}. Choose another place") from error
