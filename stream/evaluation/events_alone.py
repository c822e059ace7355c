"""What is made of events alone, without a frame, beside the frames that the same camera captured."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.console import Console

from nire.errors import ConfigError
from nire.light import LUMA, decode_table, encode_table
from nire.metrics import psnr, ssim
from nire.training.evaluate import Score, table, titled, write_json
from nire.types import Frame, Query, Reconstructor
from stream.backends import open_reconstructor
from stream.config import updated
from stream.evaluation.recording import Recorded, as_streamed, cut, opened_recording, parser, windows_of
from stream.images import write_png
from stream.progress import progress_bar

TASK = "events_alone"
CONSTANT = "constant"
"""The row of an image that says nothing: its gray is the frame's mean."""
_SHOWN = 4
Image = NDArray[np.uint8]


def main(arguments: Sequence[str]) -> int:
    """Run the command; returns 0.

    Raises:
        NireError: an argument or the recording cannot be used.
    """
    made = parser("events-alone", __doc__, backends="events_only, physics (events carry light, no network), or FILE")
    made.add_argument("--warm-up", type=float, default=0.5, metavar="S", help="seconds that are not compared; 0.5")
    made.add_argument("--out", type=Path, metavar="DIR", help="write a few frames beside what was made of events, PNG")
    asked = made.parse_args(arguments)
    recorded, columns = opened_recording(asked)
    found = compare(recorded, open_methods(recorded, asked.backend), columns, warm_up_us=1e6 * asked.warm_up)
    console = Console()
    console.print(table(found.scores, f"events of {asked.recording.name} alone, after gain and offset, dB and SSIM"))
    if asked.json:
        write_json(asked.json, {"protocol": "events-alone", "recording": asked.recording.name}, found.scores)
    if asked.out:
        write_png(asked.out / "events_alone.png", found.picture)
        console.print(f"captured frames beside what was made of events: {asked.out}", soft_wrap=True)
    return 0


@dataclass(frozen=True, slots=True, eq=False)
class Found:
    """What a comparison found.

    Attributes:
        scores: by (method, task), the constant image first.
        picture: a few frames beside what was made of events, one a row, uint8 [H, W, 3].
    """

    scores: dict[tuple[str, str], Score]
    picture: Image


def open_methods(recorded: Recorded, names: Sequence[str]) -> dict[str, Reconstructor]:
    """Make methods for events alone: "physics", "events_only", or the weights of a file; without names the first two.

    Raises:
        ConfigError: one is named twice.
        WeightsError: there are no such weights.
    """
    if len(set(names)) != len(names):
        raise ConfigError(f"--backend {' '.join(names)}: name each only once")
    made: dict[str, Reconstructor] = {}
    for name in names or ("physics", "events_only"):
        settings = {"physics": {"engine": "physics"}, "events_only": {}}.get(name, {"weights": name})
        changes = {"backend": "events_only", **settings}
        config = recorded.config.model_copy(update={"reconstructor": updated(recorded.config.reconstructor, changes)})
        made[name] = open_reconstructor(config, recorded.info.geometry)
    return made


def compare(
    recorded: Recorded, methods: Mapping[str, Reconstructor], columns: slice, *, warm_up_us: float = 500_000
) -> Found:
    """Make an image by each captured frame's own shutter of the events alone, and compare.

    Events tell neither how bright a scene is nor, without its thresholds, of how much contrast: each image is given the
    gain and the offset that bring it nearest to the frame. Both are compared as they are seen, in sRGB, and gray. What
    an image says is what it is better by than a constant one, the table's first row.

    Args:
        recorded: the recording; its frames reach no image.
        methods: by name, in the order of the table.
        columns: to compare.
        warm_up_us: frames so early are not compared: nothing has moved yet. Nor are those at the end of the stream
            whose exposure no window covers.

    Raises:
        ConfigError: no frame lies in a window.
    """
    waiting = recorded.frames
    packets = [packet for packet in recorded.packets if not isinstance(packet, Frame)]
    reach_us = max(max(f.shutter.mid_us - f.shutter.first_us, f.shutter.last_us - f.shutter.mid_us) for f in waiting)
    # When a frame was captured, not how many thresholds there are: that the offset of the clocks tells.
    source = as_streamed(recorded).config.source
    recorded = replace(recorded, config=recorded.config.model_copy(update={"source": source}))
    from_us = waiting[0].shutter.mid_us + warm_up_us
    count = sum(frame.shutter.mid_us >= from_us for frame in waiting)
    chosen = {int(k) for k in np.linspace(0, max(count - 1, 0), _SHOWN)}
    scores: dict[tuple[str, str], Score] = {}
    rows: list[Image] = []
    compared = 0
    with progress_bar("reconstructing from events") as bar:
        for window in windows_of(recorded, packets, "span", reach_us=math.ceil(reach_us)):
            contents = {name: method.build(window) for name, method in methods.items()}
            begin_us, end_us = window.answers_us
            now = [frame for frame in waiting if begin_us <= frame.shutter.mid_us < end_us]
            waiting = [frame for frame in waiting if frame.shutter.mid_us >= end_us]
            for frame in now:
                first_us, last_us = window.covered_us
                is_covered = first_us <= frame.shutter.first_us and frame.shutter.last_us <= last_us
                if frame.shutter.mid_us < from_us or not is_covered:
                    continue
                captured = seen(cut(frame.pixels, columns), frame)
                made = {CONSTANT: np.zeros(captured.shape[:2])}
                for name, method in methods.items():
                    image = method.expose(contents[name], [Query(window.film, frame.shutter, TASK)])[0]
                    made[name] = cut(image, columns).mean(2)
                images = {name: fitted(image, captured) for name, image in made.items()}
                for name, shown in images.items():
                    score = scores.setdefault((name, TASK), Score())
                    score.psnr.append(psnr(shown, captured))
                    score.ssim.append(ssim(shown, captured))
                if compared in chosen:
                    rows.append(np.concatenate([captured, *(images[name] for name in methods)], axis=1))
                compared += 1
                bar.at(compared, count)
    if not rows:
        raise ConfigError(
            f"{recorded.info.name}: none of its {len(recorded.frames)} frames was captured {warm_up_us / 1e6:g} s "
            "after the first or later, while there were events; see --warm-up"
        )
    return Found(scores, np.atleast_3d(titled(np.concatenate(rows), ["captured", *methods])))


def seen(pixels: Image, frame: Frame) -> Image:
    """Give a captured frame as it is seen: gray, sRGB, uint8 [H, W, 1]."""
    light = decode_table(frame.transfer)[pixels]
    luma = light @ LUMA if light.shape[2] == 3 else light[..., 0]
    steps = np.rint(luma * ((len(encode_table("srgb")) - 1) / 255)).astype(np.int64)
    return encode_table("srgb")[steps][..., None]


def fitted(image: NDArray[np.float64], captured: Image) -> Image:
    """Give an image [H, W] the gain, not below 0, and the offset by which it is nearest to a captured one."""
    right = captured[..., 0].astype(np.float64)
    apart, wanted = image - image.mean(), right - right.mean()
    gain = max(float((apart * wanted).mean()) / max(float((apart * apart).mean()), 1e-9), 0.0)
    return np.rint(np.clip(right.mean() + gain * apart, 0, 255)).astype(np.uint8)[..., None]
