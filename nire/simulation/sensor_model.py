"""What one event camera does to light: the numbers that `nire.simulation.simulate` simulates by. No arithmetic here."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import Literal


@dataclass(frozen=True, slots=True)
class SensorModel:
    """What one sensor does to light.

    Attributes:
        threshold_positive, threshold_negative: mean change of log intensity per event, > 0.
        threshold_spread: standard deviation of a pixel's thresholds, same unit, >= 0.
        refractory_us: dead time of a pixel after an event; it starts again from the light at its end. Kept short
            of the simulation step.
        bandwidth_hz: corner of the pixel's low pass at full light; it falls in proportion to light. 0 = no low pass.
        dark_bandwidth_hz: what is left of it in the dark.
        leak_hz: rate of the positive events of a pixel that sees nothing change.
        noise_hz: rate of random events per pixel at half light; it doubles in the dark, and both signs are alike.
        hot_fraction: share of pixels that fire without reason.
        hot_hz: their rate.
        jitter_us: standard deviation of time stamps.
        readout_log: step that all pixels' log light seems to take while frames are read out, as some hybrid sensors
            show: up at its start, down at its end. Pixels that are near a level fire together then.
        readout_period_us: distance of such steps up; 0 = none.
        readout_start_us: time of one of them.
        readout_hold_us: from a step up to the step down, shorter than the period.
        read_noise: standard deviation of a frame's pixel in 8-bit levels.
        full_well: electrons of a saturated pixel, for the shot noise of frames; 0 = none.
    """

    threshold_positive: float = 0.2
    threshold_negative: float = 0.2
    threshold_spread: float = 0.0
    refractory_us: float = 0.0
    bandwidth_hz: float = 0.0
    dark_bandwidth_hz: float = 0.0
    leak_hz: float = 0.0
    noise_hz: float = 0.0
    hot_fraction: float = 0.0
    hot_hz: float = 0.0
    jitter_us: float = 0.0
    readout_log: float = 0.0
    readout_period_us: float = 0.0
    readout_start_us: float = 0.0
    readout_hold_us: float = 0.0
    read_noise: float = 0.0
    full_well: float = 0.0

    def __post_init__(self) -> None:
        """Check ranges.

        Raises:
            ValueError: a threshold is not positive, anything else is negative, or a readout never ends; it names the
                field.
        """
        for field in fields(self):
            value = getattr(self, field.name)
            if not math.isfinite(value) or value < 0 or (field.name in _THRESHOLDS and value < 0.01):
                least = 0.01 if field.name in _THRESHOLDS else 0
                raise ValueError(f"SensorModel.{field.name} = {value!r}, expected a finite number of at least {least}")
        if 0 < self.readout_period_us <= self.readout_hold_us:
            raise ValueError(
                f"SensorModel.readout_hold_us = {self.readout_hold_us!r}, expected less than readout_period_us = "
                f"{self.readout_period_us!r}"
            )


_THRESHOLDS = ("threshold_positive", "threshold_negative")

IDEAL = SensorModel()
"""No noise, no lag: every change of log light by the threshold is an event, frames are only quantised."""

REALISTIC = SensorModel(
    threshold_positive=0.20,
    threshold_negative=0.22,
    threshold_spread=0.015,
    refractory_us=40.0,
    bandwidth_hz=4000.0,
    dark_bandwidth_hz=150.0,
    leak_hz=0.1,
    noise_hz=0.3,
    hot_fraction=2e-4,
    hot_hz=400.0,
    jitter_us=20.0,
    read_noise=0.8,
    full_well=20000.0,
)
"""About what a well-lit DAVIS346 does; the numbers are chosen for looks and tests, not fitted to one device."""


def sensor_model(noise: Literal["realistic", "ideal"]) -> SensorModel:
    """Look up a model by the word that configs use.

    Raises:
        ValueError: another word.
    """
    models = {"realistic": REALISTIC, "ideal": IDEAL}
    if noise not in models:
        raise ValueError(f"noise = {noise!r}, expected one of {', '.join(models)}")
    return models[noise]
