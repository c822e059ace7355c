"""Neural Image Re-Exposure: the network of the paper over the double integral's re-exposures."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from nire.backends import prepare_torch
from nire.double_integral import DoubleIntegral
from nire.engines import Engine, Job
from nire.engines.choice import open_engine
from nire.errors import WeightsError
from nire.light import BRIGHTEST, ENCODE_STEPS, UNKNOWN_LIGHT, decode_table, encode_table
from nire.network import weights as weight_files
from nire.network.config import NetworkConfig
from nire.planes import EventPlanes
from nire.shutter import Shutter
from nire.types import Content, ContentWindow, Frame, Geometry, Query, Transfer


class NeuralReconstructor:
    """Content by the network, once per window; films start from the physics. One content is alive at a time."""

    name = "neural"
    needs_frames = True

    def __init__(self, geometry: Geometry, network: Engine, config: NetworkConfig, *, job: Job, bin_us: int) -> None:
        """Put a trained network to work for one sensor.

        Args:
            geometry: of the sensor.
            network: as it is run.
            config: of the network.
            job: that the engine was made for.
            bin_us: width of the event bins.
        """
        self.engine = network.name
        self._geometry = geometry
        self._device = job.device
        self._config = config
        self._network = network
        self._planes = EventPlanes(geometry, bin_us, job.device)
        self._integral = DoubleIntegral(bin_us, job.device, weighing=True)
        self._padded = (job.height, job.width)
        # Stands for the frame that a window has none of: exposed for all of it, and told nothing.
        shape = (geometry.channels, geometry.height, geometry.width)
        self._gray = torch.full(shape, 255 * UNKNOWN_LIGHT, device=job.device)
        self._no_pixels = np.zeros(shape[1:] + shape[:1], np.uint8)
        self._current: ContentWindow | None = None
        self._content: Any = None

    @torch.inference_mode()
    def build(self, window: ContentWindow) -> Content:
        """Build the content of a window of 0, 1 or 2 frames (g, Eq. 7)."""
        decoded = [decode_table(frame.transfer)[frame.pixels] for frame in window.frames]
        light = [torch.from_numpy(image).to(self._device).permute(2, 0, 1) for image in decoded]
        self._integral.build(window if light else self._with_gray(window), light or [self._gray])
        voxels, edges_us = self._voxels(window)
        segments, bins = self._config.segments, self._config.bins
        starts, ends = edges_us[:-1].reshape(segments, bins), edges_us[1:].reshape(segments, bins)
        ranges = [np.stack(frame.shutter.normalised(*_span(window)), axis=-1) for frame in window.frames]
        self._content = self._network.build(
            self._images(light)[None],
            self._pad(voxels).view(1, segments, bins, *self._padded),
            self._rows(np.stack([np.zeros((self._geometry.height, 2)), *ranges]))[None, 1:],
            self._tensor(np.stack([_within(window, starts[:, 0]), _within(window, ends[:, -1])], axis=-1))[None],
            self._tensor(_observed(window, edges_us).reshape(segments, bins))[None],
        )
        self._current = window
        return window

    @torch.inference_mode()
    def expose(self, content: Content, queries: Sequence[Query]) -> NDArray[np.uint8]:
        """Expose films (f, Eq. 6): uint8 [Q, H, W, C], in the captured frames' transfer; valid until the next call.

        Raises:
            ShutterOutsideWindow: a shutter reaches beyond the window's `covered_us`.
            ValueError: the content is not the last one built.
        """
        window: ContentWindow = content
        if window is not self._current or self._content is None:
            raise ValueError("this content was replaced by a later build; build its window again")
        for query in queries:
            window.require(query.shutter)
        estimates = [self._integral.estimates(query.shutter) for query in queries]
        re_exposed = self._pad(torch.stack([torch.cat((_encoded(light), trust), 1) for light, trust in estimates]))
        shutters = self._shutters(window, [query.shutter for query in queries])
        image = self._network.expose(self._content, shutters, re_exposed[None])[0]
        luma = image[..., : self._geometry.height, : self._geometry.width].float().clamp_(0, 1).square_().mul_(255)
        coloured = [self._coloured(y, query.shutter) for y, query in zip(luma, queries, strict=True)]
        return _as_pixels(torch.stack(coloured), window.transfer)

    def _with_gray(self, window: ContentWindow) -> ContentWindow:
        start_us, end_us = _span(window)
        frame = Frame(0, self._no_pixels, round(start_us), round(end_us))
        return replace(window, frames=(frame,))

    def _images(self, light: Sequence[Tensor]) -> Tensor:
        """Encode N frames: [N, 1, H, W], padded."""
        if not light:
            return self._gray.new_zeros((0, 1, *self._padded))
        return self._pad(torch.stack([_encoded(image) for image in light]))

    def _coloured(self, luma: Tensor, shutter: Shutter) -> Tensor:
        """Give the image the colours of the double integral: events carry none, so the network works on luma."""
        if self._geometry.channels == 1:
            return luma
        colours = self._integral.expose(shutter)
        return colours * (luma / colours.mean(0, keepdim=True).clamp_min(1.0))

    def _voxels(self, window: ContentWindow) -> tuple[Tensor, NDArray[np.float64]]:
        """Share the window's event bins out to M x B: float32 [M B, H, W], and the edges, frame time."""
        calibration = window.calibration
        self._planes.reset(window.t0_us, window.t1_us)
        self._planes.add(window.events, ignore=calibration.hot_pixels)
        slots = self._config.segments * self._config.bins
        edges = np.round(np.linspace(0, self._planes.bins, slots + 1)).astype(int)
        counts = self._planes.counts
        sums = torch.stack(
            [counts[a:b].sum(0, dtype=torch.int32) for a, b in itertools.pairwise(edges.tolist())]
        ).float()
        change = sums[:, 1] * calibration.threshold_positive - sums[:, 0] * calibration.threshold_negative
        edges_us = self._planes.t0_us + edges * float(self._planes.bin_us) - calibration.time_offset_us
        return change, edges_us

    def _shutters(self, window: ContentWindow, shutters: Sequence[Shutter]) -> Tensor:
        ranges = [np.stack([_within(window, s.t_a_us), _within(window, s.t_b_us)], axis=-1) for s in shutters]
        if any(r.ndim == 3 for r in ranges):  # of pixels, then all are
            shape = (self._geometry.height, self._geometry.width, 2)
            ranges = [np.broadcast_to(r if r.ndim == 3 else r[:, None], shape) for r in ranges]
        return self._rows(np.stack(ranges))[None]

    def _rows(self, ranges: NDArray[np.float64]) -> Tensor:
        """Give the rows below the sensor the times of its last one: [n, H, 2] or [n, H, W, 2]."""
        below = self._padded[0] - ranges.shape[1]
        widths = [(0, 0), (0, below), *[(0, 0)] * (ranges.ndim - 2)]
        if ranges.ndim == 4:
            widths[2] = (0, self._padded[1] - ranges.shape[2])
        return self._tensor(np.pad(ranges, widths, mode="edge"))

    def _pad(self, images: Tensor) -> Tensor:
        below, right = self._padded[0] - images.shape[-2], self._padded[1] - images.shape[-1]
        return functional.pad(images, (0, right, 0, below))

    def _tensor(self, values: NDArray[np.float64]) -> Tensor:
        return torch.from_numpy(values.astype(np.float32)).to(self._device)


def create(
    geometry: Geometry,
    device: str = "cpu",
    *,
    bin_us: int = 500,
    threads: int = 0,
    size: str = "nano",
    weights: str = "",
    engine: str = "auto",
    precision: str = "auto",
    frames: tuple[int, ...] = (2, 1),
) -> NeuralReconstructor:
    """Make the backend.

    Args:
        geometry: of the sensor.
        device: "auto", "cpu" or "cuda:N".
        bin_us: width of the event bins.
        threads: CPU threads, 0 = all cores.
        size: of the shipped weights.
        weights: a file instead of the shipped one.
        engine: how the network is run: "auto", a file under nire/engines/, or a dotted name.
        precision: "auto" (bf16 where the processor computes in it), "fp32", "bf16" or "fp16".
        frames: numbers of frames that windows will have; an engine prepares for these.

    Raises:
        ConfigError: the device, the engine or the precision is not there.
        EngineError: the engine cannot run here.
        WeightsError: no weights, or not whole ones.
    """
    chosen = prepare_torch(device, threads)
    path = Path(weights) if weights else weight_files.shipped(size)
    if path is None:
        raise WeightsError(
            f"no trained weights of size {size!r} come with this version. Train some (python -m nire.training, see "
            "docs/training.md) and set reconstructor.weights, or use reconstructor.backend = 'edi'"
        )
    network = weight_files.load(path)
    height, width = network.config.padded(geometry.height, geometry.width)
    job = Job(height, width, frames, chosen, precision)
    return NeuralReconstructor(geometry, open_engine(engine, network, job), network.config, job=job, bin_us=bin_us)


def _span(window: ContentWindow) -> tuple[float, float]:
    """Find the window's span in frame time: what the network calls 0 and 1."""
    offset_us = window.calibration.time_offset_us
    return window.t0_us - offset_us, window.t1_us - offset_us


def _within(window: ContentWindow, t_us: NDArray[np.float64]) -> NDArray[np.float64]:
    first_us, last_us = _span(window)
    return np.clip((t_us - first_us) / (last_us - first_us), 0.0, 1.0)


def _observed(window: ContentWindow, edges_us: NDArray[np.float64]) -> NDArray[np.float64]:
    """Tell which bins were observed: 0 where gaps cover more than half of one."""
    offset_us = window.calibration.time_offset_us
    missing_us = np.zeros(len(edges_us) - 1)
    for gap in window.gaps:
        low, high = (np.clip(t - offset_us, edges_us[:-1], edges_us[1:]) for t in (gap.t0_us, gap.t1_us))
        missing_us += high - low
    return (missing_us <= 0.5 * np.diff(edges_us)).astype(np.float64)


def _encoded(light: Tensor) -> Tensor:
    """Square root of linear-light luma: [..., C, H, W] levels to [..., 1, H, W], up to a little above white."""
    return light.mean(-3, keepdim=True).div(255).clamp(0, BRIGHTEST**2).sqrt()


def _as_pixels(light: Tensor, transfer: Transfer) -> NDArray[np.uint8]:
    """Encode [Q, C, H, W] linear levels as uint8 [Q, H, W, C]."""
    levels = light.clamp(0, 255).permute(0, 2, 3, 1).cpu().numpy()
    if transfer == "linear":
        return np.rint(levels).astype(np.uint8)
    return encode_table(transfer)[np.rint(levels * ENCODE_STEPS).astype(np.int64)]
