"""Every second captured frame is left out and exposed again from its neighbours: quality where no truth is rendered."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.console import Console

from nire.errors import ConfigError
from nire.metrics import psnr, ssim
from nire.training.evaluate import Score, table, titled, write_json
from nire.types import ContentWindow, Film, Frame, Query, Reconstructor
from stream.evaluation.recording import Recorded, cut, opened, parser, windows_of
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
    scores, picture = compare(recorded, backends, columns)
    console = Console()
    console.print(table(scores, f"left-out frames of {asked.recording.name}, PSNR in dB and SSIM"))
    if asked.json:
        write_json(asked.json, {"protocol": "leave-out", "recording": asked.recording.name}, scores)
    if asked.out:
        write_png(asked.out / "leave_out.png", picture)
        console.print(f"captured frames beside what was exposed: {asked.out / 'leave_out.png'}", soft_wrap=True)
    return 0


def compare(
    recorded: Recorded, backends: Mapping[str, Reconstructor], columns: slice
) -> tuple[dict[tuple[str, str], Score], Image]:
    """Expose each left-out frame by its own shutter, from the frames beside it and the events between them.

    Calibration does not see the left-out frames either.

    Args:
        recorded: the recording.
        backends: by name, in the order of the table.
        columns: to compare.

    Returns:
        Scores by (backend, task), in the captured transfer; and a few left-out frames beside what was exposed, one a
        row, uint8 [H, W, C].

    Raises:
        ConfigError: no frame lies between two others that can make a window.
    """
    left_out = recorded.frames[1:-1:2]
    hidden = {id(frame) for frame in left_out}
    packets = [packet for packet in recorded.packets if id(packet) not in hidden]
    shown = {left_out[int(k)].index for k in np.linspace(0, len(left_out) - 1, _SHOWN)} if left_out else set()
    scores: dict[tuple[str, str], Score] = {}
    rows: list[Image] = []
    waiting = left_out
    with progress_bar("exposing left-out frames") as bar:
        for window in windows_of(recorded, packets, "pair", next(iter(backends.values()))):
            # The last window of all has the frames of the one before it: nothing waits there any more.
            between = [frame for frame in waiting if _is_between(frame, window)]
            waiting = [frame for frame in waiting if frame not in between]
            for frame in between:
                images = {name: _exposed(backend, window, frame, columns) for name, backend in backends.items()}
                captured = cut(frame.pixels, columns)
                for name, image in images.items():
                    score = scores.setdefault((name, TASK), Score())
                    score.psnr.append(psnr(image, captured))
                    score.ssim.append(ssim(image, captured))
                if frame.index in shown:
                    rows.append(np.concatenate([captured, *images.values()], axis=1))
            bar.at(len(left_out) - len(waiting), len(left_out))
    if not rows:
        raise ConfigError(
            f"{recorded.info.name}: none of its {len(recorded.frames)} frames lies between two others that are near "
            "enough to make a window; at least 3 frames within 0.6 s are needed"
        )
    return scores, np.atleast_3d(titled(np.concatenate(rows), ["captured", *backends]))


def _exposed(backend: Reconstructor, window: ContentWindow, frame: Frame, columns: slice) -> Image:
    query = Query(Film(*frame.pixels.shape), frame.shutter, TASK)
    return cut(backend.expose(backend.build(window), [query])[0], columns)


def _is_between(frame: Frame, window: ContentWindow) -> bool:
    if len(window.frames) < 2:
        return False
    first, second = window.frames
    return first.epoch == frame.epoch and first.index < frame.index < second.index
