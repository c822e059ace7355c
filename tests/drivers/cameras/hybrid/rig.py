"""Two cameras on one bench, simulated: events with trigger edges in one file, colour frames in a folder."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from drivers.recordings.recording.source import RecordingWriter
from drivers.source import SourceInfo
from nire.shutter import Shutter
from nire.simulation.simulate import quantised
from nire.types import EventBatch, Frame, Geometry, Trigger
from tests.nire.colour_scene import ColourScene, colour_scene, record, warp_view

EVENT_SIZE, FRAME_SIZE = (96, 72), (120, 90)
FIRST_US, PERIOD_US, EXPOSURE_US = 1_000_000, 40_000, 20_000
CAMERA_CLOCK_US = 7.25e11
_TURN = np.deg2rad(1.5)
FRAME_TO_EVENTS = np.array(
    [
        [0.82 * np.cos(_TURN), -0.82 * np.sin(_TURN), -1.0],
        [0.82 * np.sin(_TURN), 0.82 * np.cos(_TURN), -3.0],
        [0.0, 0.0, 1.0],
    ]
)


@dataclass(frozen=True, eq=False)
class Rig:
    """What was recorded, and the truth.

    Attributes:
        events: a recording of events and edges, without frames.
        frames: a folder of images, with their times by the frame camera's own clock.
        registration: file of the homography.
        exposures_us: start and end of each frame by the event camera's clock.
    """

    events: Path
    frames: Path
    registration: Path
    exposures_us: list[tuple[int, int]]
    scene: ColourScene

    def settings(self, **others: Any) -> dict[str, Any]:
        """Settings of the hybrid driver for it."""
        return {
            "events": {"driver": "auto", "path": str(self.events)},
            "frames": {"driver": "recorded", "path": str(self.frames), "transfer": "linear"},
            "registration": str(self.registration),
            "channel": 6,
            **others,
        }

    def truth(self, t_us: float) -> NDArray[np.uint8]:
        """See the scene at an instant as the event sensor would in colour: uint8 [H, W, 3]."""
        light = warp_view(FRAME_TO_EVENTS, EVENT_SIZE)(self.scene.light(t_us))
        return np.concatenate([quantised(light[..., c]) for c in range(3)], axis=2)


def build(
    folder: Path,
    *,
    count: int = 12,
    jitter_us: float = 300.0,
    lost: Sequence[tuple[int, bool]] = (),
    spurious_us: Sequence[int] = (),
    motion: float = 1.0,
) -> Rig:
    """Record a rig.

    Args:
        folder: to write to.
        count: frames.
        jitter_us: of the start of an exposure; stamps scatter by a third of it, and the camera's clock is fast.
        lost: edges that the event camera missed: frame, and whether it is the edge at its start.
        spurious_us: edges that no exposure made, each a rise and 40 us later a fall, after `FIRST_US`.
        motion: factor on the scene's speeds.
    """
    rng = np.random.default_rng(5)
    starts = FIRST_US + 10_000 + PERIOD_US * np.arange(count) + rng.normal(0, jitter_us, count).round().astype(int)
    exposures = [(int(start), int(start) + EXPOSURE_US) for start in starts]
    shutters = [Shutter.flat(*exposure, FRAME_SIZE[1]) for exposure in exposures]
    scene = colour_scene(*FRAME_SIZE, motion=motion)
    view = warp_view(FRAME_TO_EVENTS, EVENT_SIZE)
    end_us = exposures[-1][1] + 15_000
    batches, frames = record(scene, shutters, first_us=FIRST_US, end_us=end_us, view=view)
    edges = [Trigger(t, 6, k == 0) for n, pair in enumerate(exposures) for k, t in enumerate(pair)]
    missed = [Trigger(exposures[frame][0 if start else 1], 6, start) for frame, start in lost]
    edges = [edge for edge in edges if edge not in missed]
    edges += [Trigger(FIRST_US + t + 40 * (not up), 6, up) for t in spurious_us for up in (True, False)]
    _write_events(folder / "events.nire", batches, sorted(edges, key=lambda edge: edge.t_us))
    stamps = CAMERA_CLOCK_US + 1.00005 * starts + rng.normal(0, jitter_us / 3, count)
    _write_frames(folder / "frames", frames, [float(stamp) for stamp in stamps])
    registration = folder / "homography.toml"
    registration.write_text(f"frame_to_events = {FRAME_TO_EVENTS.tolist()}\n")
    return Rig(folder / "events.nire", folder / "frames", registration, exposures, scene)


def _write_events(path: Path, batches: list[EventBatch], edges: list[Trigger]) -> None:
    geometry = Geometry(*EVENT_SIZE)
    with RecordingWriter(path, geometry, source=SourceInfo("rig", geometry, has_frames=False)) as writer:
        for batch in batches:
            writer.write(batch)
            while edges and edges[0].t_us <= batch.watermark_us:  # as readers do: after the batch that passes them
                writer.write(edges.pop(0))


def _write_frames(folder: Path, frames: list[Frame], stamps_us: list[float]) -> None:
    folder.mkdir()
    with open(folder / "times.csv", "w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(["file", "time_us"])
        for frame, stamp_us in zip(frames, stamps_us, strict=True):
            name = f"{frame.index:04d}.png"
            cv2.imwrite(str(folder / name), cv2.cvtColor(frame.pixels, cv2.COLOR_RGB2BGR))
            table.writerow([name, f"{stamp_us:.3f}"])
