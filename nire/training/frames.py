"""Frames of windows of light by Eq. 1, with a sensor's noise, clipping and 8 bits, linear or in sRGB."""

from __future__ import annotations

import torch
from torch import Tensor

from nire.training.physics import averaged, node_shares
from nire.training.sensor import Sensors


def take_frames(light: Tensor, shutters: Tensor, sensors: Sensors, *, generator: torch.Generator) -> Tensor:
    """Take frames (Eq. 1), with noise, clipping and 8 bits.

    Args:
        light: float32 [b, T + 1, H, W], linear, at the nodes.
        shutters: float32 [b, N, H, 2], start and end of each row's exposure, in windows, within 0..1.
        sensors: of the b windows.
        generator: on the light's device.

    Returns:
        float32 [b, N, H, W], linear light 0..1 as a reader of the stored frame knows it.
    """
    shares = node_shares(shutters, light.shape[1] - 1)
    image = averaged(light, shares)
    well = sensors.full_well
    shot = torch.where(well > 0, 1 / well.clamp(min=1), 0.0)
    variance = (sensors.read_noise / 255).square()[:, None, None, None] + image * shot[:, None, None, None]
    image = image + variance.sqrt() * torch.randn(image.shape, generator=generator, device=image.device)
    image = image.clamp_(0, 1)
    stored = torch.where(sensors.srgb[:, None, None, None] > 0, encode_srgb(image), image)
    stored = (stored * 255).round_() / 255
    return torch.where(sensors.srgb[:, None, None, None] > 0, decode_srgb(stored), stored)


def encode_srgb(light: Tensor) -> Tensor:
    """Linear light 0..1 to sRGB 0..1 (IEC 61966-2-1)."""
    return torch.where(light <= 0.0031308, 12.92 * light, 1.055 * light.clamp(min=1e-4) ** (1 / 2.4) - 0.055)


def decode_srgb(value: Tensor) -> Tensor:
    """Turn sRGB 0..1 into linear light 0..1."""
    return torch.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4)
