"""Methods side by side on the synthetic camera, against its exact ground truth; nothing hurries them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from drivers.cameras.synthetic import scene_of
from nire.metrics import psnr, ssim
from stream.config import Config, changed
from stream.recording import session_of
from stream.session.plan import queries_of
from stream.sources import SourceOrder, open_source

# The first windows teach the thresholds; then so many are compared, by so many shutters each.
_TEACH, _WINDOWS, _SHUTTERS = 4, 6, 4


@dataclass(frozen=True, slots=True)
class Quality:
    """How near a method's images are to the truth: means over all, PSNR in dB."""

    psnr: float
    ssim: float


def methods_compared(config: Config, names: Sequence[str]) -> Mapping[str, Quality]:
    """Let methods answer the same shutters of a few windows.

    Args:
        config: whose source is the synthetic camera; its plan is asked.
        names: of backends.

    Raises:
        ConfigError: there is no such backend.
        WeightsError: it has no weights.
    """
    seconds = (_TEACH + _WINDOWS + 2) / float(config.source.settings["frame_rate_hz"])
    settings = {**config.source.settings, "live": False, "seconds": seconds}
    short = changed(config, {"source": {"settings": settings}})
    return {name: _quality(changed(short, {"reconstructor": {"backend": name}})) for name in names}


def _quality(config: Config) -> Quality:
    """Judge the backend of a config, whose source ends."""
    truth = scene_of(**config.source.settings)
    found: list[tuple[float, float]] = []
    with open_source(config.source, SourceOrder()) as source:
        session, reading = session_of(config, source)
        for window in session.windows(reading):
            queries = queries_of(window, config.plan)
            if not queries or not _TEACH <= window.index < _TEACH + _WINDOWS:
                continue
            chosen = sorted({int(k) for k in np.linspace(0, len(queries) - 1, _SHUTTERS)})
            for frame in session.ask_all_of(window, [queries[k].shutter for k in chosen], "compared"):
                right = truth.pixels(frame.shutter)
                found.append((psnr(frame.pixels, right), ssim(frame.pixels, right)))
    means = np.mean(found, axis=0)
    return Quality(round(float(means[0]), 3), round(float(means[1]), 4))
