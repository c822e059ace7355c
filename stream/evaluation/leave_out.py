"""Every second captured frame is left out and exposed again from its neighbours: quality where no truth is rendered."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from nire.errors import ConfigError
from nire.metrics import psnr, ssim
from nire.training.evaluate import Score, table, titled, write_json
from nire.types import Content, ContentWindow, Film, Frame, Query, Reconstructor
from stream.evaluation.motion import Apart, Steadiness, below_best, moving_crops, moving_pixels, watch
from stream.evaluation.recording import Recorded, as_streamed, cut, opened, parser, windows_of
from stream.images import write_png
from stream.progress import progress_bar

TASK = "left_out"
_SHOWN = 4

Image = NDArray[np.uint8]


def main(arguments: Sequence[str]) -> int:
    """Run the command; returns 0.

    Raises:
        NireError: an argument or the recording cannot be used.
    """
    made = parser("leave-out", __doc__)
    made.add_argument("--out", type=Path, metavar="DIR", help="write a few frames beside what was exposed, PNG")
    asked = made.parse_args(arguments)
    recorded, backends, columns = opened(asked)
    found = compare(recorded, backends, columns)
    console = Console()
    console.print(table(found.scores, f"left-out frames of {asked.recording.name}, PSNR in dB and SSIM"))
    console.print(_table_of_motion(found))
    if asked.json:
        about = {"protocol": "leave-out", "recording": asked.recording.name}
        write_json(asked.json, about, found.scores, found.further())
    if asked.out:
        write_png(asked.out / "leave_out.png", found.picture)
        write_png(asked.out / "moving.png", found.crops)
        console.print(f"captured frames beside what was exposed, and moving parts of them: {asked.out}", soft_wrap=True)
    return 0


@dataclass(frozen=True, slots=True, eq=False)
class Found:
    """What a comparison found.

    Attributes:
        scores: by (backend, task), in the captured transfer.
        apart: moving and still pixels, by backend.
        steadiness: by backend.
        picture: a few left-out frames beside what was exposed, one a row, uint8 [H, W, C].
        crops: the liveliest parts of the same, enlarged.
    """

    scores: dict[tuple[str, str], Score]
    apart: dict[str, Apart]
    steadiness: dict[str, Steadiness]
    picture: Image
    crops: Image

    def further(self) -> dict[tuple[str, str], dict[str, float]]:
        """Figures beside PSNR and SSIM, by (backend, task)."""
        return {(name, TASK): self._of(name) for name in self.apart}

    def _of(self, name: str) -> dict[str, float]:
        apart, steady = self.apart[name], self.steadiness[name]
        figures = {
            "psnr_moving": float(np.mean(apart.moving or [np.nan])),
            "psnr_still": float(np.mean(apart.still or [np.nan])),
            "breathing": steady.breathing,
            "seam_ratio": steady.seam_ratio,
        }
        others = [other for other in self.apart if other != name and not other.startswith("neural")]
        if name.startswith("neural") and others:
            figures["below_best_share"], figures["below_best_db"] = below_best(self.apart, name, others)
        return {key: round(value, 4) for key, value in figures.items() if np.isfinite(value)}


def _table_of_motion(found: Found) -> Table:
    drawn = Table(title="gain-corrected PSNR in dB of moving and still pixels; breathing; steps from window to window")
    for heading in ("method", "moving", "still", "breathing", "seams"):
        drawn.add_column(heading, no_wrap=True)
    for (name, _), figures in found.further().items():
        moving, still = (f"{figures[key]:.2f}" if key in figures else "-" for key in ("psnr_moving", "psnr_still"))
        drawn.add_row(name, moving, still, f"{100 * figures['breathing']:.1f} %", f"{figures['seam_ratio']:.2f}")
    return drawn


def compare(recorded: Recorded, backends: Mapping[str, Reconstructor], columns: slice) -> Found:
    """Expose each left-out frame by its own shutter, from the frames beside it and the events between them.

    The left-out frames reach no image. Thresholds and time offset are those that a stream over all frames ends with:
    three numbers of the camera, which pairs twice as long tell badly.

    Args:
        recorded: the recording.
        backends: by name, in the order of the table.
        columns: to compare.

    Raises:
        ConfigError: no frame lies between two others that can make a window.
    """
    left_out = recorded.frames[1:-1:2]
    hidden = {id(frame) for frame in left_out}
    packets = [packet for packet in recorded.packets if id(packet) not in hidden]
    shown = {left_out[int(k)].index for k in np.linspace(0, len(left_out) - 1, _SHOWN)} if left_out else set()
    scores: dict[tuple[str, str], Score] = {}
    apart, steadiness = {name: Apart() for name in backends}, {name: Steadiness() for name in backends}
    rows: list[Image] = []
    crops: list[Image] = []
    waiting = left_out
    recorded = as_streamed(recorded)
    with progress_bar("exposing left-out frames") as bar:
        for window in windows_of(recorded, packets, "pair"):
            # The last window of all has the frames of the one before it: nothing waits there any more.
            between = [frame for frame in waiting if lies_between(frame, window)]
            waiting = [frame for frame in waiting if frame not in between]
            contents = {name: backend.build(window) for name, backend in backends.items()} if between else {}
            for name, content in contents.items():
                watch(backends[name], content, window, steadiness[name], columns)
            for frame in between:
                moving = moving_pixels(window)[:, columns]
                images = {name: _exposed(backends[name], content, frame, columns) for name, content in contents.items()}
                captured = cut(frame.pixels, columns)
                for name, image in images.items():
                    score = scores.setdefault((name, TASK), Score())
                    score.psnr.append(psnr(image, captured))
                    score.ssim.append(ssim(image, captured))
                    apart[name].add(image, captured, moving)
                if frame.index in shown:
                    rows.append(np.concatenate([captured, *images.values()], axis=1))
                    crops.append(moving_crops([captured, *images.values()], moving))
            bar.at(len(left_out) - len(waiting), len(left_out))
    if not rows:
        raise ConfigError(
            f"{recorded.info.name}: none of its {len(recorded.frames)} frames lies between two others that are near "
            "enough to make a window; at least 3 frames within 0.6 s are needed"
        )
    names = ["captured", *backends]
    pictures = (np.atleast_3d(titled(np.concatenate(shown), names)) for shown in (rows, crops))
    return Found(scores, apart, steadiness, *pictures)


def _exposed(backend: Reconstructor, content: Content, frame: Frame, columns: slice) -> Image:
    query = Query(Film(*frame.pixels.shape), frame.shutter, TASK)
    return cut(backend.expose(content, [query])[0], columns)


def lies_between(frame: Frame, window: ContentWindow) -> bool:
    """Tell whether a frame was captured between the two of a window."""
    if len(window.frames) < 2:
        return False
    first, second = window.frames
    return first.epoch == frame.epoch and first.index < frame.index < second.index
