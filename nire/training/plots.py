"""Pictures of a run as PNG: the loss curve, and contact sheets of what was captured, asked, given and right."""

from __future__ import annotations

import os
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from nire.training.samples import Taught

Picture = NDArray[np.uint8]
_WIDTH, _HEIGHT, _MARGIN = 900, 420, 60
# Of the smooth line.
_POINTS = 400
# An event image is full red or blue where light changed by this much, log units.
_FULL_CHANGE = 1.0
_SHOWN_QUERIES = 4
_COLOURS = ((200, 110, 30), (40, 40, 200), (60, 150, 60))


def write_png(path: Path, picture: Picture) -> None:
    """Write a picture (BGR or gray) to a temporary name, then put it in its place."""
    whole, data = cv2.imencode(".png", picture)
    if not whole:
        raise ValueError(f"a picture of shape {picture.shape} cannot be written as PNG")
    unfinished = path.with_name(f".{path.name}.{os.getpid()}.part")
    unfinished.write_bytes(data.tobytes())
    unfinished.replace(path)


def loss_curve(history: NDArray[np.float64]) -> Picture:
    """Draw the loss of each iteration on a logarithmic scale, thin, and its running median, thick.

    A median: tasks that are rare and hard do not hide how the others do.

    Args:
        history: float64 [iterations, 2], loss and learning rate.

    Returns:
        uint8 [420, 900, 3], BGR.
    """
    picture = np.full((_HEIGHT, _WIDTH, 3), 255, np.uint8)
    losses = np.maximum(history[:, 0], 1e-8)
    if len(losses) < 2:
        return picture
    span = max(1, len(losses) // 50)
    shown = np.linspace(span - 1, len(losses) - 1, min(len(losses) - span + 1, _POINTS)).astype(int)
    smooth = np.median(np.lib.stride_tricks.sliding_window_view(losses, span)[shown - span + 1], axis=1)
    low, high = np.log10(np.quantile(losses, 0.005)), np.log10(np.quantile(losses, 0.9))
    high = max(high, low + 0.05)
    inner = (_WIDTH - 2 * _MARGIN, _HEIGHT - 2 * _MARGIN)

    def line(values: NDArray[np.float64], at: NDArray[np.int64], colour: tuple[int, int, int], thick: int) -> None:
        across = at / (len(losses) - 1)
        height = np.clip((np.log10(values) - low) / (high - low), 0, 1)
        points = np.stack([_MARGIN + across * inner[0], _HEIGHT - _MARGIN - height * inner[1]], 1)
        cv2.polylines(picture, [np.rint(points).astype(np.int32)], False, colour, thick, cv2.LINE_AA)

    line(losses, np.arange(len(losses)), (225, 205, 190), 1)
    line(smooth, shown, _COLOURS[0], 2)
    for share in (0.0, 0.5, 1.0):
        y = round(_HEIGHT - _MARGIN - share * inner[1])
        cv2.line(picture, (_MARGIN, y), (_WIDTH - _MARGIN, y), (215, 215, 215), 1)
        _write(picture, f"{10 ** (low + share * (high - low)):.4f}", (4, y + 4))
        _write(picture, f"{round(share * len(losses))}", (round(_MARGIN + share * inner[0]) - 16, _HEIGHT - 34))
    _write(picture, f"loss over iterations; now {smooth[-1]:.5f}, learning rate {history[-1, 1]:.2e}", (_MARGIN, 30))
    return picture


def contact_sheet(sample: Taught, image: Tensor | None, windows: int = 4) -> Picture:
    """Draw windows of a sample, one a row: frames, events, then for each query what was given and what is right.

    Args:
        sample: b windows.
        image: [b, Q, 1, H, W] of the network; None leaves it out.
        windows: rows at most.

    Returns:
        uint8 [rows, columns, 3], BGR, each image two times enlarged where it is small.
    """
    rows = [_row(sample, image, window) for window in range(min(windows, sample.target.shape[0]))]
    zoom = 2 if sample.target.shape[-1] < 128 else 1
    stacked = np.concatenate(rows)
    sheet = cv2.resize(stacked, None, fx=zoom, fy=zoom, interpolation=cv2.INTER_NEAREST)
    head = np.full((22, sheet.shape[1], 3), 255, np.uint8)
    shown = "frames | events | each query: re-exposed, " + ("network, " if image is not None else "") + "right"
    _write(head, f"{sample.task}: {shown}", (4, 15))
    return np.concatenate([head, sheet])


def event_picture(change: NDArray[np.float32]) -> Picture:
    """Show a sum of events on white: brighter red, darker blue; float32 [H, W] in log units -> uint8 [H, W, 3]."""
    amount = np.clip(np.abs(change) / _FULL_CHANGE, 0, 1)[..., None]
    colour = np.where(change[..., None] > 0, np.array(_COLOURS[1]), np.array(_COLOURS[0]))
    return np.rint(255 + amount * (colour - 255)).astype(np.uint8)


def _row(sample: Taught, image: Tensor | None, window: int) -> Picture:
    pieces = [_gray(frame) for frame in sample.frames[window]]
    # Few bins around the middle: a sum over a whole window would show events that cancel each other.
    pieces.append(event_picture(sample.middle_change[window].cpu().numpy()))
    estimates = sample.estimates()[window]
    # As many images as fit, evenly chosen.
    asked = len(estimates)
    for query in np.unique(np.linspace(0, asked - 1, min(asked, _SHOWN_QUERIES)).round().astype(int)):
        pieces += [_gray(estimate) for estimate in estimates[query]]
        if image is not None:
            pieces.append(_gray(image[window, query, 0]))
        pieces.append(_gray(sample.target[window, query, 0], frame=_COLOURS[2]))
    return np.concatenate(pieces, axis=1)


def _gray(encoded: Tensor, frame: tuple[int, int, int] | None = None) -> Picture:
    """Show a square root of light; that is near enough to what screens expect."""
    values = np.rint(255 * encoded.detach().float().clamp(0, 1).cpu().numpy()).astype(np.uint8)
    picture: Picture = np.repeat(values[..., None], 3, axis=2)
    if frame is not None:
        picture[0], picture[-1], picture[:, 0], picture[:, -1] = frame, frame, frame, frame
    return picture


def _write(picture: Picture, text: str, place: tuple[int, int]) -> None:
    cv2.putText(picture, text, place, cv2.FONT_HERSHEY_SIMPLEX, 0.42, (70, 70, 70), 1, cv2.LINE_AA)
