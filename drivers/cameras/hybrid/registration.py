"""Where each pixel of the event sensor finds its light in the frame camera: homography or stereo calibration."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from nire.errors import ConfigError

Matrix = NDArray[np.float64]
_STEREO = {
    "frame_matrix": ("frame_matrix", "M1", "K1", "cameraMatrix1"),
    "frame_distortion": ("frame_distortion", "D1", "distCoeffs1"),
    "event_matrix": ("event_matrix", "M2", "K2", "cameraMatrix2"),
    "event_distortion": ("event_distortion", "D2", "distCoeffs2"),
    "R": ("R",),
    "T": ("T",),
}


@dataclass(frozen=True, slots=True, eq=False)
class Registration:
    """A frame as the event sensor would see it.

    Attributes:
        columns, rows: float32 [H, W] of the event sensor: the place in the frame, shrunk by `shrink`, pixels.
        seen: bool [H, W]: the frame camera sees this pixel's light.
        frame_size: (width, height) of the frames.
        row_offset, row_scale: frame row = offset + scale * event row, on average over the seen pixels.
        row_error: largest distance of a seen pixel from that line, frame rows.
        shrink: frames that are so much finer than the event sensor are averaged first, or fine texture would flicker.
    """

    columns: NDArray[np.float32]
    rows: NDArray[np.float32]
    seen: NDArray[np.bool_]
    frame_size: tuple[int, int]
    row_offset: float
    row_scale: float
    row_error: float
    shrink: int

    def warped(self, pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Give a frame the event sensor's pixels; what the frame camera does not see is 0.

        Args:
            pixels: uint8 [Hf, Wf, C] of `frame_size`.

        Returns:
            uint8 [H, W, C].
        """
        if self.shrink > 1:
            width, height = (size // self.shrink for size in self.frame_size)
            whole = pixels[: height * self.shrink, : width * self.shrink]
            pixels = cv2.resize(whole, (width, height), interpolation=cv2.INTER_AREA)
        image = cv2.remap(pixels, self.columns, self.rows, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        image = np.asarray(image, np.uint8).reshape(*self.seen.shape, -1)
        image[~self.seen] = 0
        return image


def load_registration(
    path: str | Path, *, frame_size: tuple[int, int], event_size: tuple[int, int], depth: float = 0.0
) -> Registration:
    """Read how the two cameras stand to each other.

    Args:
        path: "" where both have the same pixels; `.toml` or `.json` with `frame_to_events` (or `events_to_frame`), a
            3 x 3 homography; `.npy` or `.npz` with the same; `.yml`, `.yaml` or `.xml` as OpenCV writes a stereo
            calibration with the frame camera first: M1 D1 M2 D2 R T.
        frame_size, event_size: (width, height), pixels.
        depth: stereo: distance of the scene from the event camera, in the unit of T; 0 = far away.

    Raises:
        ConfigError: the file cannot be read, has another layout, or the sizes need one and there is none.
    """
    if not path:
        if frame_size != event_size:
            raise ConfigError(
                f"frames are {frame_size[0]} x {frame_size[1]}, the event sensor is {event_size[0]} x {event_size[1]}: "
                "set source.settings.registration to a file with a homography or a stereo calibration"
            )
        return from_homography(np.eye(3), frame_size=frame_size, event_size=event_size)
    path = Path(path)
    values = _read(path)
    if any(name in values for name in ("frame_to_events", "events_to_frame")):
        return from_homography(_homography(values, path), frame_size=frame_size, event_size=event_size)
    return _from_stereo(values, path, frame_size=frame_size, event_size=event_size, depth=depth)


def from_homography(matrix: Matrix, *, frame_size: tuple[int, int], event_size: tuple[int, int]) -> Registration:
    """Make a registration of a homography.

    Args:
        matrix: float [3, 3], maps (column, row, 1) of a frame to the event sensor.
        frame_size, event_size: (width, height), pixels.
    """
    inverse = np.linalg.inv(matrix)
    x, y, scale = np.tensordot(inverse, np.stack([*_pixels(event_size), np.ones(event_size[::-1])]), axes=1)
    behind = scale * np.sign(inverse[2] @ [event_size[0] / 2, event_size[1] / 2, 1]) <= 1e-12
    scale = np.where(behind, np.nan, scale)
    return _registration(x / scale, y / scale, frame_size)


def _from_stereo(
    values: Mapping[str, Any], path: Path, *, frame_size: tuple[int, int], event_size: tuple[int, int], depth: float
) -> Registration:
    found = {name: next((values[key] for key in keys if key in values), None) for name, keys in _STEREO.items()}
    missing = [_STEREO[name][-1] for name in ("frame_matrix", "event_matrix", "R", "T") if found[name] is None]
    if missing:
        raise ConfigError(
            f"{path} has {', '.join(sorted(values)) or 'nothing'}: neither frame_to_events (a 3 x 3 homography) nor a "
            f"stereo calibration; of that {', '.join(missing)} is missing"
        )
    at = np.stack(_pixels(event_size), axis=-1).reshape(-1, 1, 2)
    shaped = {
        name: np.asarray(value, np.float64) if value is not None else np.zeros(5) for name, value in found.items()
    }
    rays = cv2.undistortPoints(at, shaped["event_matrix"], shaped["event_distortion"]).reshape(-1, 2)
    there = np.concatenate([rays, np.ones((len(rays), 1))], axis=1)
    if depth > 0:
        there = depth * there - shaped["T"].reshape(1, 3)
    there = there @ shaped["R"]  # the inverse rotation, of row vectors
    projected, _ = cv2.projectPoints(
        there, np.zeros(3), np.zeros(3), shaped["frame_matrix"], shaped["frame_distortion"]
    )
    places = np.where(there[:, 2:] > 0, projected.reshape(-1, 2), np.nan).reshape(*event_size[::-1], 2)
    return _registration(places[..., 0], places[..., 1], frame_size)


def _registration(columns: Matrix, rows: Matrix, frame_size: tuple[int, int]) -> Registration:
    width, height = frame_size
    seen = (columns >= -0.5) & (columns <= width - 0.5) & (rows >= -0.5) & (rows <= height - 0.5)
    if not seen.any():
        raise ConfigError("by its registration the frame camera sees nothing of what the event camera sees")
    event_rows = np.nonzero(seen)[0].astype(np.float64)
    scale, offset = np.polyfit(event_rows, rows[seen], 1) if np.ptp(event_rows) > 0 else (1.0, float(rows[seen][0]))
    error = float(np.abs(rows[seen] - offset - scale * event_rows).max())
    steps = [np.abs(np.diff(columns, axis=1)), np.abs(np.diff(rows, axis=0))]
    density = min(float(np.nanmedian(step)) if step.size else 1.0 for step in steps)
    shrink = max(1, round(density)) if np.isfinite(density) else 1
    column_map, row_map = (
        ((np.where(seen, places, 0) + 0.5) / shrink - 0.5).astype(np.float32) for places in (columns, rows)
    )
    return Registration(column_map, row_map, seen, frame_size, float(offset), float(scale), error, shrink)


def _pixels(size: tuple[int, int]) -> tuple[Matrix, Matrix]:
    x, y = np.meshgrid(np.arange(size[0], dtype=np.float64), np.arange(size[1], dtype=np.float64))
    return x, y


def _read(path: Path) -> dict[str, Any]:
    try:
        if path.suffix in (".yml", ".yaml", ".xml"):
            return _read_opencv(path)
        if path.suffix == ".npy":
            return {"frame_to_events": np.load(path, allow_pickle=False)}
        if path.suffix == ".npz":
            with np.load(path, allow_pickle=False) as archive:
                return {name: archive[name] for name in archive.files}
        text = path.read_text(encoding="utf-8")
        return dict(json.loads(text) if path.suffix == ".json" else tomllib.loads(text))
    except OSError as error:
        raise ConfigError(f"cannot read the registration {path}: {error.strerror or error}") from error
    except (ValueError, cv2.error) as error:
        raise ConfigError(f"the registration {path} cannot be understood: {error}") from error


def _read_opencv(path: Path) -> dict[str, Any]:
    with open(path, "rb"):
        pass  # says why it cannot be read, which OpenCV does not
    storage = cv2.FileStorage(str(path), cv2.FILE_STORAGE_READ)
    names = {name for keys in _STEREO.values() for name in keys} | {"frame_to_events", "events_to_frame"}
    nodes = {name: storage.getNode(name).mat() for name in sorted(names) if not storage.getNode(name).empty()}
    storage.release()
    return {name: value for name, value in nodes.items() if value is not None}


def _homography(values: Mapping[str, Any], path: Path) -> Matrix:
    name = "frame_to_events" if "frame_to_events" in values else "events_to_frame"
    try:
        matrix = np.asarray(values[name], np.float64)
        if matrix.shape != (3, 3) or abs(np.linalg.det(matrix)) < 1e-12:
            raise ValueError(f"shape {matrix.shape}, determinant 0 or not a matrix")
    except (ValueError, TypeError, np.linalg.LinAlgError) as error:
        raise ConfigError(f"{path}: {name} is expected to be an invertible 3 x 3 matrix: {error}") from error
    return matrix if name == "frame_to_events" else np.asarray(np.linalg.inv(matrix), np.float64)
