"""Neural Image Re-Exposure: the network of the paper over the double integral's re-exposures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from nire.backends import device_errors, prepare_torch
from nire.engines import Engine, Job
from nire.engines.choice import open_engine
from nire.errors import WeightsError
from nire.explicit.choice import open_fastest
from nire.explicit.engines import open_cleaner
from nire.explicit.network import KeyPlaneNetwork
from nire.explicit.reconstructor import ExplicitReconstructor
from nire.integral import loops as plane_loops
from nire.light import BRIGHTEST, ENCODE_STEPS, UNKNOWN_LIGHT, decode_table, encode_table
from nire.network import weights as weight_files
from nire.network.config import NetworkConfig
from nire.network.ranges import shutter_ranges, span_of
from nire.recurrent.network import RecurrentNetwork
from nire.rolling import Captured, Captures, Forecast, RollingContent
from nire.shutter import Shutter
from nire.threads import windows_at_once
from nire.types import Content, ContentWindow, Frame, Geometry, Query, Transfer

# What torch gets of the threads beside an engine that has threads of its own on as many cores. torch does a fifth of
# the work, and its threads, which spin before they sleep, keep the engine's from their cores: live on two cores, 33
# frames a second with two threads of torch and 47 with one.
_TORCH_SHARE = 4
# Pixels from which on a second thread makes a window of key planes earlier for its cost: two took a seventh less than
# one at 346 x 260, and a third less at 1280 x 720.
_THREAD_PX = 600_000


class NeuralReconstructor:
    """Content by the network, once per window; films start from the physics. One content is alive at a time.

    Beside it there may be the beginning of the next one (`ahead`).
    """

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
        self._network = network
        self._padded = (job.height, job.width)
        self._present, self._next = (
            RollingContent(geometry, network, config, job=job, bin_us=bin_us) for _ in range(2)
        )
        self._captures = Captures(self._decoded)
        self._forecast = Forecast(bin_us)
        # Stands for the frame that a window has none of: exposed for all of it, and told nothing.
        shape = (geometry.channels, geometry.height, geometry.width)
        self._gray = torch.full(shape, 255 * UNKNOWN_LIGHT, device=job.device)
        self._no_pixels = np.zeros(shape[1:] + shape[:1], np.uint8)
        self._estimates = torch.empty(0)
        self._current: ContentWindow | None = None
        self._content: Any = None

    @property
    def out_of_memory(self) -> int:
        """How often a batch of queries did not fit into the GPU's memory, and smaller ones were taken from then on."""
        return int(getattr(self._network, "out_of_memory", 0))

    @torch.inference_mode()
    def build(self, window: ContentWindow) -> Content:
        """Build the content of a window of 0, 1 or 2 frames (g, Eq. 7).

        A window that extends the last one, or one that `ahead` began, costs what is new in it.

        Raises:
            DeviceMemoryFull: it does not fit into the GPU's memory.
            AcceleratorLost: the GPU failed for good.
        """
        if self._next.leads_to(window):
            self._present, self._next = self._next, self._present
        self._current = None
        captured = self._captures.of(window.frames)
        light = [entry.light for entry in captured]
        given = window if light else self._with_gray(window)
        with device_errors("build a window"):
            self._content = self._present.build(given, captured, light or [self._gray])
        self._forecast.learn(window)
        self._current = window
        return window

    @torch.inference_mode()
    def ahead(self, window: ContentWindow) -> bool:
        """Begin the content of a window that is not complete; the present content stays as it is.

        Args:
            window: as far as it is there, one frame at least; it may be given again with more.

        Returns:
            True where it can be given again without more, for what is left to do.
        """
        with device_errors("begin a window"):
            return self._next.ahead(window, self._captures.of(window.frames), self._forecast.end_us(window))

    @torch.inference_mode()
    def expose(self, content: Content, queries: Sequence[Query]) -> NDArray[np.uint8]:
        """Expose films (f, Eq. 6): uint8 [Q, H, W, C], in the captured frames' transfer; valid until the next call.

        Raises:
            ShutterOutsideWindow: a shutter reaches beyond the window's `covered_us`.
            ValueError: the content is not the last one built.
            DeviceMemoryFull: so many films do not fit into the GPU's memory.
            AcceleratorLost: the GPU failed for good.
        """
        window: ContentWindow = content
        if window is not self._current or self._content is None:
            raise ValueError("this content was replaced by a later build; build its window again")
        for query in queries:
            window.require(query.shutter)
        with device_errors(f"expose {len(queries)} films"):
            return self._exposed(window, [query.shutter for query in queries])

    def _exposed(self, window: ContentWindow, shutters: Sequence[Shutter]) -> NDArray[np.uint8]:
        ranges = torch.from_numpy(shutter_ranges(window, shutters, self._padded).astype(np.float32)).to(self._device)
        image = self._network.expose(self._content, ranges[None], self._re_exposed(shutters)[None])[0]
        luma = image[..., : self._geometry.height, : self._geometry.width].float().clamp_(0, 1).square_().mul_(255)
        if self._geometry.channels == 1:
            return _as_pixels(luma, window.transfer)
        coloured = [self._coloured(y, shutter) for y, shutter in zip(luma, shutters, strict=True)]
        return _as_pixels(torch.stack(coloured), window.transfer)

    def _with_gray(self, window: ContentWindow) -> ContentWindow:
        start_us, end_us = span_of(window)
        frame = Frame(0, self._no_pixels, round(start_us), round(end_us))
        return replace(window, frames=(frame,))

    def _decoded(self, frame: Frame) -> Captured:
        """Decode a frame; a copy, because frames may be read-only."""
        light = torch.from_numpy(decode_table(frame.transfer)[frame.pixels]).to(self._device)
        light = light.permute(2, 0, 1).contiguous()
        encoded = torch.zeros((1, 1, 1, *self._padded), device=self._device)
        self._encode_into(encoded[0, 0, 0], light)
        return Captured(frame, light, encoded)

    def _re_exposed(self, shutters: Sequence[Shutter]) -> Tensor:
        """Re-expose each frame by itself, by physics: [Q, E, 2, height, width], encoded light and its trust."""
        height, width = self._geometry.height, self._geometry.width
        for index, shutter in enumerate(shutters):
            light, trust = self._present.integral.estimates(shutter)
            shape = (len(shutters), len(light), 2, *self._padded)
            if self._estimates.shape != shape:
                # What lies beyond the sensor is never written, and stays 0.
                self._estimates = torch.zeros(shape, device=self._device)
            for encoded, estimate in zip(self._estimates[index, :, 0], light, strict=True):
                self._encode_into(encoded, estimate)
            self._estimates[index, :, 1:, :height, :width] = trust
        return self._estimates

    def _encode_into(self, encoded: Tensor, light: Tensor) -> None:
        """Write the square root of linear-light luma, up to a little above white.

        Args:
            encoded: [height, width], written where there is light.
            light: [C, H, W], levels.
        """
        if plane_loops.serve(encoded, light):
            plane_loops.encode(encoded.numpy(), light.numpy(), 255.0, BRIGHTEST)
            return
        seen = encoded[: light.shape[1], : light.shape[2]]
        torch.sqrt(light.mean(0).div_(255).clamp_(0, BRIGHTEST**2), out=seen)

    def _coloured(self, luma: Tensor, shutter: Shutter) -> Tensor:
        """Give the image the colours of the double integral: events carry none, so the network works on luma."""
        colours = self._present.integral.expose(shutter)
        return colours * (luma / colours.mean(0, keepdim=True).clamp_min(1.0))


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
) -> NeuralReconstructor | ExplicitReconstructor:
    """Make the backend.

    Args:
        geometry: of the sensor.
        device: "auto", "cpu" or "cuda:N".
        bin_us: width of the event bins.
        threads: CPU threads, 0 = all cores.
        size: of the shipped weights.
        weights: a file, or the name of shipped ones, instead of those of the size.
        engine: how the network is run: "auto", a file under nire/engines/, or a dotted name.
        precision: "auto" (bf16 where the processor computes in it), "fp32", "bf16" or "fp16".
        frames: numbers of frames that windows will have; an engine prepares for these.

    Raises:
        ConfigError: the device, the engine or the precision is not there.
        EngineError: the engine cannot run here.
        WeightsError: no weights, or not whole ones.
    """
    chosen = prepare_torch(device, threads)
    network = weight_files.load_any(weights_file(size, weights))
    height, width = network.config.padded(geometry.height, geometry.width)
    job = Job(height, width, frames, chosen, precision)
    threads = torch.get_num_threads()
    if isinstance(network, KeyPlaneNetwork):
        # Engines are made for, and timed on, the threads of one window. Those of a large sensor are worth sharing.
        worth = 1 + geometry.width * geometry.height // _THREAD_PX
        threads = max(threads // windows_at_once(threads), min(threads, worth))
        torch.set_num_threads(threads)
        cleaner = open_fastest(network, job) if engine == "auto" else open_cleaner(engine, network, job)
        if getattr(cleaner, "has_threads", False):
            torch.set_num_threads(max(1, threads // _TORCH_SHARE))
        return ExplicitReconstructor(geometry, cleaner, network.config, job=job, bin_us=bin_us, threads=threads)
    if isinstance(network, RecurrentNetwork):
        raise WeightsError(
            f"{weights or size}: these weights are for events without frames; set reconstructor.backend = "
            "'events_only', or leave reconstructor.weights empty"
        )
    opened = open_engine(engine, network, job)
    if getattr(opened, "has_threads", False):
        torch.set_num_threads(max(1, threads // _TORCH_SHARE))
    return NeuralReconstructor(geometry, opened, network.config, job=job, bin_us=bin_us)


def weights_file(size: str = "nano", weights: str = "") -> Path:
    """Find the weights that `create` loads.

    Args:
        size: of the shipped weights.
        weights: a file, or the name of shipped ones, instead of those of the size.

    Raises:
        WeightsError: none of this size are shipped.
    """
    named = weight_files.all_shipped().get(weights) or Path(weights)
    path = named if weights else weight_files.shipped(size)
    if path is None:
        raise WeightsError(
            f"no trained weights of size {size!r} come with this version. Train some (python -m nire.training, see "
            "docs/training.md) and set reconstructor.weights, or use reconstructor.backend = 'edi'"
        )
    return path


def _as_pixels(light: Tensor, transfer: Transfer) -> NDArray[np.uint8]:
    """Encode [Q, C, H, W] linear levels as uint8 [Q, H, W, C]."""
    levels = light.clamp(0, 255).permute(0, 2, 3, 1).cpu().numpy()
    if transfer == "linear":
        return np.rint(levels).astype(np.uint8)
    return encode_table(transfer)[np.rint(levels * ENCODE_STEPS).astype(np.int64)]
