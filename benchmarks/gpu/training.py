"""Step 5: the smallest network trained for some minutes, and how many iterations that makes a second."""

from __future__ import annotations

import argparse
import io
import re
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from rich.console import Console

from nire.training.__main__ import prepare
from nire.training.loop import train
from nire.training.ranks import joined
from nire.training.settings import read_settings

from .place import peak_mb, place

_MINUTES = 3.0
# Left for the last iteration, the checkpoint and the weights.
_ENDING_MINUTES = 0.4
_IMAGES, _IMAGE_PX = 32, (480, 640)
_SPEED = re.compile(r"([\d.]+) iterations/s")
_DRY = """\
[model]
network = "explicit"
[data]
crop_px = 32
batch = 1
queries = 1
steps_per_bin = 2
layers = 1
tiles = 4
sprites = 4
[optimiser]
iterations = 2
[run]
device = "cpu"
report_every = 1
validate_every = 1000
validation_windows = 1
"""


def cases(asked: argparse.Namespace) -> Sequence[str]:
    """List them."""
    return ["nano"]


def run(case: str, asked: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Train."""
    device = place(asked)
    images = asked.images or _made_up(asked.out / "images", 8 if asked.dry_run else _IMAGES)
    settings = read_settings(_written(asked.out) if asked.dry_run else _recipe())
    told = _Told()
    began_s = time.monotonic()
    with joined(settings.run.device) as ranks:
        console = Console(file=told, width=200)
        out = asked.out / "training"
        materials = prepare(settings, images, out, data=None, ranks=ranks, console=console)
        prepared_s = time.monotonic() - began_s
        minutes = max(0.1, min(_MINUTES, asked.minutes - _ENDING_MINUTES - prepared_s / 60))
        began_s = time.monotonic()
        iterations = train(settings, materials, out, ranks=ranks, console=console, minutes=minutes)
    yield {
        "images": "made up" if asked.images is None else str(asked.images),
        "iterations": iterations,
        "iterations_per_s": iterations / (time.monotonic() - began_s),
        "best_per_s": max(map(float, _SPEED.findall(told.getvalue())), default=0.0),
        "prepared_s": prepared_s,
        "memory_mb": peak_mb(device),
    }


class _Told(io.StringIO):
    """Keeps what is told, and hands it on to the log."""

    def write(self, text: str) -> int:
        sys.stderr.write(text)
        return super().write(text)


def _recipe() -> Path:
    """Find the recipe: in a checkout, or in a wheel."""
    above = Path(__file__).parents[2]
    return next(
        path for path in (above / name / "train_nano.toml" for name in ("configs", "_configs")) if path.exists()
    )


def _written(out: Path) -> Path:
    path = out / "dry.toml"
    path.write_text(_DRY, encoding="utf-8")
    return path


def _made_up(folder: Path, count: int) -> Path:
    """Draw textures of all scales with edges in them; a network learns little from these, but at the usual speed."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    height, width = _IMAGE_PX
    for number in range(count):
        image = np.zeros((height, width, 3), np.float32)
        for octave in range(2, 8):
            coarse = rng.normal(size=(2**octave, 2**octave, 3)).astype(np.float32)
            image += cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC) / octave
        for _ in range(12):
            corners = rng.integers(0, (width, height), size=(4, 2)).astype(np.int32)
            cv2.fillConvexPoly(image, cv2.convexHull(corners), rng.normal(size=3).tolist())
        cv2.imwrite(str(folder / f"made-{number:02d}_0.png"), np.clip(110 + 55 * image, 0, 255).astype(np.uint8))
    return folder
