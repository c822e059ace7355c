"""The methods that an evaluation compares on the same windows: captured frame, flow, double integral, networks."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from nire.backends.flow import FlowReconstructor
from nire.engines import Engine, Job
from nire.engines.choice import open_engine
from nire.explicit.engines import Cleaner, open_cleaner
from nire.explicit.network import KeyPlaneNetwork
from nire.explicit.reconstructor import ExplicitReconstructor
from nire.integral.reconstructor import IntegralReconstructor
from nire.network.reexposure import ReExposureNetwork
from nire.shutter import Shutter
from nire.training.frames import encode_srgb
from nire.training.protocols import Case
from nire.training.samples import make_sample
from nire.types import Calibration, ContentWindow, EventBatch, Frame, Geometry, Transfer

Method = Callable[[Case], Tensor]
"""Gives linear light, 1 = a full frame, for the windows of a case, shaped as its `target`."""


def passthrough(case: Case) -> Tensor:
    """Give the captured frame whose middle is nearest to that of the asked shutter."""
    window = case.window
    asked = window.shutters.mean((2, 3))
    own = window.frame_shutters.mean((2, 3))
    nearest = (asked[:, :, None] - own[:, None]).abs().argmin(2)
    return case.frames[torch.arange(len(nearest))[:, None], nearest]


def edi(case: Case) -> Tensor:
    """Re-expose by `nire.integral.double_integral` with the believed thresholds."""
    return _answered(case, IntegralReconstructor, case.positive, case.negative)


def edi_true_threshold(case: Case) -> Tensor:
    """Re-expose by `nire.integral.double_integral` with the sensors' true mean thresholds."""
    sensors = case.window.sensors
    return _answered(case, IntegralReconstructor, sensors.threshold_positive, sensors.threshold_negative)


def flow(case: Case) -> Tensor:
    """Move the deblurred frames along optical flow: `nire.backends.flow`."""
    return _answered(case, FlowReconstructor, case.positive, case.negative)


def explicit(
    network: KeyPlaneNetwork, device: torch.device, *, engine: str = "eager", precision: str = "fp32"
) -> Method:
    """Make a method of a network of the explicit content; arguments and errors as for `neural`."""
    opened = dict[tuple[int, int], Cleaner]()

    def made(geometry: Geometry, _: torch.device, bin_us: int) -> IntegralReconstructor:
        size = network.config.padded(geometry.height, geometry.width)
        job = Job(*size, (), device, precision)
        if size not in opened:
            opened[size] = open_cleaner(engine, copy.deepcopy(network), job)
        return ExplicitReconstructor(geometry, opened[size], network.config, job=job, bin_us=bin_us)

    return lambda case: _answered(case, made, case.positive, case.negative)


def neural(
    network: ReExposureNetwork, device: torch.device, *, engine: str = "eager", precision: str = "fp32"
) -> Method:
    """Make a method of a network, window by window.

    Args:
        network: is the method's from now on.
        device: that it runs on.
        engine: how it is run, a name under nire/engines/.
        precision: of the engine.

    Returns:
        A method that raises ConfigError where the precision, and EngineError where the engine is not there.
    """
    config, opened = network.config, dict[tuple[int, int], Engine]()

    def engine_of(size: tuple[int, int]) -> Engine:
        if size not in opened:
            opened[size] = open_engine(engine, copy.deepcopy(network), Job(*size, (), device, precision))
        return opened[size]

    @torch.inference_mode()
    def method(case: Case) -> Tensor:
        sample = make_sample(
            case.window,
            case.positive,
            case.negative,
            segments=config.segments,
            bins=config.bins,
            task=case.task,
            index=0,
        )
        height, width = sample.target.shape[-2:]
        padded = config.padded(height, width)
        below, right = padded[0] - height, padded[1] - width
        built_from = (
            _padded(sample.images, below, right),
            _padded(sample.voxels, below, right),
            _more_rows(sample.image_ranges, below),
            sample.segment_ranges,
            sample.observed,
        )
        asked = _more_rows(sample.shutters, below), _padded(sample.re_exposed, below, right)
        running, images = engine_of(padded), []
        for k in range(len(sample.shutters)):
            content = running.build(*(tensor[k : k + 1].to(device) for tensor in built_from))
            images.append(running.expose(content, *(tensor[k : k + 1].to(device) for tensor in asked)).cpu())
        shown: Tensor = torch.cat(images)[..., 0, :height, :width].float().clamp(0, 1).square()
        return shown if case.colours is None else _coloured(shown, edi(case))

    return method


def cascade(method: Method) -> Method:
    """Make a method of two steps: deblur, then interpolate (NIRE-cascade, Sec. 5.6, Table 4).

    First each frame by itself is exposed anew, at the middle of its exposure and in all rows at once. Then these images
    stand for the frames, as instantaneous ones, and the asked shutters are exposed from them. Both steps get all events
    of the window.

    Args:
        method: answers both times, for instance `neural(network, device)`.

    Returns:
        A method for windows with frames.
    """

    def twice(case: Case) -> Tensor:
        window = case.window
        height = window.frame_shutters.shape[2]
        middles = window.frame_shutters.mean((2, 3))[..., None, None].expand(-1, -1, height, 2)
        sharp = [
            method(
                _exposed_by(
                    case.showing(case.frames[:, n : n + 1], case.target[:, :1]),  # only the target's shape is looked at
                    window.frame_shutters[:, n : n + 1],
                    middles[:, n : n + 1],
                )
            )
            for n in range(window.frames.shape[1])
        ]
        return method(_exposed_by(case.showing(torch.cat(sharp, 1), case.target), middles, window.shutters))

    return twice


def as_pixels(light: Tensor, transfer: Transfer = "srgb") -> NDArray[np.uint8]:
    """Encode linear light in 8 bits, in which images are compared: [...] float32 -> uint8."""
    shown = light.clamp(0, 1)
    encoded = encode_srgb(shown) if transfer == "srgb" else shown
    pixels: NDArray[np.uint8] = (encoded * 255).round().to(torch.uint8).numpy()
    return pixels


def _exposed_by(case: Case, frame_shutters: Tensor, asked: Tensor) -> Case:
    return replace(case, window=replace(case.window, frame_shutters=frame_shutters, shutters=asked))


def _coloured(luma: Tensor, colours: Tensor) -> Tensor:
    """Give luma [b, Q, H, W] the colours of [b, Q, 3, H, W], as the backend of the paper's network does."""
    return colours * (luma[:, :, None] / colours.mean(2, keepdim=True).clamp_min(1 / 255))


def _answered(
    case: Case,
    method: Callable[[Geometry, torch.device, int], IntegralReconstructor],
    positive: Tensor,
    negative: Tensor,
) -> Tensor:
    """Let a backend answer, window by window, as it does live."""
    window = case.window
    height, width = window.target.shape[-2:]
    out = torch.empty_like(case.target)
    for k in range(len(out)):
        calibration = Calibration(float(positive[k]), float(negative[k]))
        content, light = _content(case, k, calibration)
        bin_us = max(1, round(content.t1_us / window.counts.shape[1]))
        backend = method(Geometry(width, height), out.device, bin_us)
        backend.build_from(content, light)
        for q, rows in enumerate(window.shutters[k].double().numpy() * float(window.window_us[k])):
            light_now = backend.light_at(Shutter(rows[:, 0], np.maximum(rows[:, 0], rows[:, 1])))
            out[k, q] = light_now.view(out.shape[2:]) / 255
    return out


def _content(case: Case, k: int, calibration: Calibration) -> tuple[ContentWindow, list[Tensor]]:
    """Make what a camera would have sent of window `k`, and the linear light of its frames in levels."""
    window = case.window
    span_us = float(window.window_us[k])
    height, width = window.target.shape[-2:]
    events = _events(window.counts[k], span_us)
    frames = tuple(
        _frame(index, rows, height, width) for index, rows in enumerate(window.frame_shutters[k].double() * span_us)
    )
    content = ContentWindow(
        index=0,
        t0_us=0,
        t1_us=int(np.ceil(span_us)),
        frames=frames,
        events=events,
        geometry=Geometry(width, height),
        calibration=calibration,
    )
    return content, [255 * frame.view(-1, height, width) for frame in case.frames[k]]


def _frame(index: int, rows: Tensor, height: int, width: int) -> Frame:
    """Make a frame with the times of its rows [H, 2]; its light travels beside it, so its pixels stay empty."""
    delay = float(rows[-1, 0] - rows[0, 0]) / max(1, height - 1)
    pixels = np.zeros((height, width, 1), np.uint8)
    return Frame(index, pixels, round(float(rows[0, 0])), round(float(rows[0, 1])), row_delay_us=delay)


def _events(counts: Tensor, span_us: float) -> EventBatch:
    """Spread the events of each step [T, 2, H, W] evenly over it."""
    step, sign, row, column = torch.nonzero(counts, as_tuple=True)
    amount = counts[step, sign, row, column].long()
    repeated = torch.repeat_interleave(torch.arange(len(amount)), amount)
    nth = torch.arange(len(repeated)) - (amount.cumsum(0) - amount)[repeated]
    share = (nth + 0.5) / amount[repeated]
    t_us, order = ((step[repeated] + share).double() * (span_us / counts.shape[0])).long().sort(stable=True)
    chosen = repeated[order]
    return EventBatch(
        t_us.numpy(),
        column[chosen].numpy().astype(np.uint16),
        row[chosen].numpy().astype(np.uint16),
        sign[chosen].numpy().astype(np.uint8),
        int(np.ceil(span_us)),
    )


def _padded(planes: Tensor, below: int, right: int) -> Tensor:
    """Repeat the last row and column of [..., H, W]."""
    if planes.numel() == 0:
        return planes.new_zeros((*planes.shape[:-2], planes.shape[-2] + below, planes.shape[-1] + right))
    flat = planes.reshape(1, -1, *planes.shape[-2:])
    return functional.pad(flat, (0, right, 0, below), mode="replicate").view(
        *planes.shape[:-2], planes.shape[-2] + below, planes.shape[-1] + right
    )


def _more_rows(ranges: Tensor, below: int) -> Tensor:
    """Repeat the last row of [..., H, 2]."""
    return torch.cat([ranges, ranges[..., -1:, :].expand(*ranges.shape[:-2], below, 2)], -2)
