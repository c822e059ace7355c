"""Compare methods: python -m nire.training.evaluate PROTOCOL [DATA] [--json FILE] [--out DIR] [--weights FILE ...]."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import get_args

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table
from torch import Tensor

from nire.errors import NireError, WeightsError
from nire.explicit.network import KeyPlaneNetwork
from nire.metrics import psnr, ssim
from nire.network import weights
from nire.recurrent.network import RecurrentNetwork
from nire.training.methods import (
    Method,
    as_pixels,
    cascade,
    edi,
    edi_true_threshold,
    explicit,
    flow,
    neural,
    passthrough,
)
from nire.training.plots import write_png
from nire.training.protocols import FOOTAGE, PROTOCOLS, PUBLISHED, Blur, Case, Channels, cases

# Rows of a task's picture.
_SHOWN = 4
_RECORDINGS = (
    "On real recordings: nire-live evaluate leave-out, nire-live evaluate events-alone, nire-live evaluate consistency "
    "(each has its own --help)."
)


@dataclass(slots=True)
class Score:
    """Sums over images of one method and task."""

    psnr: list[float] = field(default_factory=list)
    ssim: list[float] = field(default_factory=list)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit code (0 done, 2 wrong usage or input)."""
    asked = _parser().parse_args(arguments)
    console = Console()
    if not console.is_terminal:
        console = Console(width=140)  # a file has room for all tasks
    try:
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        methods = all_methods(
            asked.weights, device, cascades=asked.cascade, engine=asked.engine, precision=asked.precision
        )
        data = asked.data or Path("images" if asked.protocol == "rendered" else asked.protocol.partition("-")[0])
        made = cases(
            asked.protocol, data, noise=asked.noise, windows=asked.windows, channels=asked.channels, blur=asked.blur
        )
        scores, pictures = compare(made, methods)
    except NireError as error:
        Console(stderr=True).print(f"error: {error}", style="red", highlight=False, markup=False, soft_wrap=True)
        return error.exit_code
    about: dict[str, object] = {"protocol": asked.protocol, "noise": asked.noise}
    if asked.protocol in FOOTAGE:
        about |= {"channels": asked.channels, "blur": asked.blur, "published": PUBLISHED[asked.protocol]}
    title = f"{asked.protocol}, {asked.noise} sensor, PSNR in dB and SSIM, {asked.channels}, 8 bits"
    console.print(table(scores, title))
    if asked.protocol in PUBLISHED:
        console.print(published(asked.protocol), highlight=False, soft_wrap=True)
    if asked.json:
        write_json(asked.json, about, scores)
    if asked.out:
        asked.out.mkdir(parents=True, exist_ok=True)
        for task, picture in pictures.items():
            write_png(asked.out / f"{asked.protocol}_{asked.noise}_{task}.png", picture)
        console.print(f"pictures are in {asked.out}", highlight=False)
    return 0


def all_methods(
    paths: Sequence[Path],
    device: torch.device,
    *,
    cascades: bool = False,
    engine: str = "",
    precision: str = "auto",
) -> dict[str, Method]:
    """Collect the methods: the classical ones, and each size with weights, given or shipped.

    Args:
        paths: weights that replace the shipped ones of their size.
        device: of the networks.
        cascades: each size in two steps as well, by the name SIZE_cascade.
        engine: that runs each size too, by the name SIZE_ENGINE_PRECISION, beside plain torch in float32; "" = none.
        precision: of that engine.

    Raises:
        WeightsError: a file holds no usable weights.
    """
    methods: dict[str, Method] = {
        "passthrough": passthrough,
        "flow": flow,
        "edi": edi,
        "edi_true_threshold": edi_true_threshold,
    }
    networks = {name: weights.load_any(path) for name, path in weights.all_shipped().items()}
    for path in paths:
        network = weights.load_any(path)
        networks[network.config.size] = network
    methods |= {size: method_of(network, device) for size, network in networks.items()}
    if engine:
        methods |= {
            f"{size}_{engine}_{precision}": method_of(network, device, engine=engine, precision=precision)
            for size, network in networks.items()
        }
    if cascades:
        methods |= {f"{size}_cascade": cascade(methods[size]) for size in networks}
    return methods


def method_of(network: weights.Network, device: torch.device, **run: str) -> Method:
    """Let a network answer cases; `run` is its engine and precision.

    Raises:
        WeightsError: it is for events without frames.
    """
    if isinstance(network, RecurrentNetwork):
        raise WeightsError("these weights are for events without frames, and all windows here have frames")
    return explicit(network, device, **run) if isinstance(network, KeyPlaneNetwork) else neural(network, device, **run)


def compare(
    windows: Iterator[Case], methods: Mapping[str, Method]
) -> tuple[dict[tuple[str, str], Score], dict[str, NDArray[np.uint8]]]:
    """Let every method answer every case.

    Args:
        windows: the cases.
        methods: by name, in the order of the table.

    Returns:
        Scores by (method, task), and a picture per task: a row per window (its first query), a column per method, the
        right image last.
    """
    scores: dict[tuple[str, str], Score] = {}
    rows: dict[str, list[NDArray[np.uint8]]] = {}
    for case in windows:
        truth = _images(case, case.target)
        given = {name: _images(case, method(case)) for name, method in methods.items()}
        for name, images in given.items():
            score = scores.setdefault((name, case.task), Score())
            for image, right in zip(
                images.reshape(-1, *images.shape[2:]), truth.reshape(-1, *truth.shape[2:]), strict=True
            ):
                score.psnr.append(psnr(image, right))
                score.ssim.append(ssim(image, right))
        shown = rows.setdefault(case.task, [])
        for k in range(min(len(truth), _SHOWN - len(shown))):
            row = np.concatenate([*(images[k, 0] for images in given.values()), truth[k, 0]], 1)
            shown.append(row[..., ::-1])  # pictures are BGR
    names = [*methods, "right"]
    return scores, {task: titled(np.concatenate(shown), names) for task, shown in rows.items()}


def published(protocol: str) -> str:
    """Say what others reported on the data set of a protocol, one of `PUBLISHED`."""
    figures = ", ".join(f"{name} {decibels:.2f}" for name, decibels in PUBLISHED[protocol].items())
    return f"published, RGB, with other events: {figures} dB (docs/training.md says what differs)"


def _images(case: Case, light: Tensor) -> NDArray[np.uint8]:
    """Make images of light that is shaped as a case's target: uint8 [b, Q, H, W, C]."""
    pixels = as_pixels(light, case.transfer)
    return pixels[..., None] if case.colours is None else np.moveaxis(pixels, 2, 4)


def table(scores: Mapping[tuple[str, str], Score], title: str) -> Table:
    """Lay scores out: methods down, tasks across."""
    tasks = list(dict.fromkeys(task for _, task in scores))
    drawn = Table(title=title)
    for heading in ("method", *tasks):
        drawn.add_column(heading, no_wrap=True)
    for method in dict.fromkeys(method for method, _ in scores):
        cells = (scores[method, task] for task in tasks)
        drawn.add_row(method, *(f"{np.mean(cell.psnr):.2f}\n{np.mean(cell.ssim):.3f}" for cell in cells))
    return drawn


def write_json(
    path: Path,
    about: Mapping[str, object],
    scores: Mapping[tuple[str, str], Score],
    further: Mapping[tuple[str, str], Mapping[str, float]] | None = None,
) -> None:
    """Write `{"protocol", ..., "rows": [{"method", "task", "psnr", "ssim", "n"}]}`, `about` first, in one step.

    Args:
        path: what was there is replaced.
        about: comes first.
        scores: by (method, task).
        further: what else is known of some of them; joins their rows.
    """
    rows = [
        {
            "method": method,
            "task": task,
            "psnr": round(float(np.mean(score.psnr)), 4),
            "ssim": round(float(np.mean(score.ssim)), 5),
            "n": len(score.psnr),
            **(further or {}).get((method, task), {}),
        }
        for (method, task), score in scores.items()
    ]
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name}.{os.getpid()}.part")
    unfinished.write_text(json.dumps({**about, "rows": rows}, indent=1) + "\n")
    unfinished.replace(path)


def titled(picture: NDArray[np.uint8], names: Sequence[str]) -> NDArray[np.uint8]:
    """Write the names of columns of equal width above a picture: uint8 [H, W] or [H, W, 3]; small ones are enlarged."""
    zoom = 2 if picture.shape[1] < 256 * len(names) else 1
    large = cv2.resize(picture, None, fx=zoom, fy=zoom, interpolation=cv2.INTER_NEAREST)
    head = np.full((20, *large.shape[1:]), 255, np.uint8)
    for k, name in enumerate(names):
        place = (k * large.shape[1] // len(names) + 4, 14)
        cv2.putText(head, name, place, cv2.FONT_HERSHEY_SIMPLEX, 0.42, (60, 60, 60), 1, cv2.LINE_AA)
    return np.concatenate([head, large])


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("nire-live evaluate", description=__doc__, epilog=_RECORDINGS)
    parser.add_argument("protocol", choices=PROTOCOLS)
    parser.add_argument(
        "data",
        type=Path,
        nargs="?",
        help=f"folder of images (rendered), of videos, or of sequences of sharp frames ({', '.join(FOOTAGE)})",
    )
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    parser.add_argument("--out", type=Path, help="write side-by-side pictures to this folder")
    parser.add_argument("--weights", type=Path, nargs="+", default=[], help="weights instead of the shipped ones")
    parser.add_argument("--cascade", action="store_true", help="networks in two steps too: deblur, then interpolate")
    parser.add_argument("--engine", default="", help="run networks by this engine too, to see what it costs in quality")
    parser.add_argument("--precision", default="auto", help="of that engine: auto, fp32, bf16, fp16, int8")
    parser.add_argument("--noise", choices=("realistic", "ideal"), default="realistic", help="sensor model")
    parser.add_argument(
        "--channels", choices=get_args(Channels), default="gray", help="of sets of sharp frames; published figures: rgb"
    )
    parser.add_argument(
        "--blur",
        choices=get_args(Blur),
        default="made",
        help="gopro-deblur, gopro-deblur-vfi: means of the sharp frames, or the set's own, blur or blur_gamma",
    )
    parser.add_argument("--windows", type=_count, default=24, help="windows per task")
    return parser


def _count(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text} is not at least 1")
    return value


if __name__ == "__main__":
    sys.exit(main())
