"""A camera whose clock drifts and whose packets come late: `source.driver = "tests.system.drifting_camera"`."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from drivers.source import SourceInfo
from nire.types import EventBatch, Frame, Geometry, SourcePacket

DRIFT = 1e-4
START_US = 1_000_000
PERIOD_US, EXPOSURE_US = 40_000, 10_000
_PACKET_US = 2000
_GEOMETRY = Geometry(64, 48)


class DriftingCamera(contextlib.AbstractContextManager["DriftingCamera"]):
    """Frames of one level each, their index modulo 256; it writes down which wall time its clock began at."""

    info = SourceInfo("drifting", _GEOMETRY, live=True, time_offset_us=0.0)

    def __init__(self, truth: Path, jitter_us: float) -> None:
        self._truth = truth
        self._jitter_us = jitter_us

    def __exit__(self, *_: object) -> None:
        pass

    def __iter__(self) -> Iterator[SourcePacket]:
        rng = np.random.default_rng(7)
        began_ns = time.monotonic_ns()
        self._truth.write_text(json.dumps(time.time_ns()))
        columns = (np.arange(4, dtype=np.uint16), np.arange(4, dtype=np.uint16), np.ones(4, np.uint8))
        for k in range(1, 1 << 30):
            passed_us = k * _PACKET_US
            due_ns = began_ns + round(1000 * (passed_us / (1 + DRIFT) + rng.exponential(self._jitter_us)))
            time.sleep(max(0.0, (due_ns - time.monotonic_ns()) * 1e-9))
            now_us, now_ns = START_US + passed_us, time.monotonic_ns()
            yield EventBatch(np.arange(now_us - 4, now_us), *columns, now_us, received_ns=now_ns)
            if passed_us % PERIOD_US == EXPOSURE_US:
                index = passed_us // PERIOD_US
                pixels = np.full((_GEOMETRY.height, _GEOMETRY.width, 1), index % 256, np.uint8)
                yield Frame(index, pixels, now_us - EXPOSURE_US, now_us, received_ns=now_ns)


def open_source(truth: str, jitter_us: float = 2000.0) -> DriftingCamera:
    return DriftingCamera(Path(truth), jitter_us)


def wall_ns(truth: Path, device_us: float) -> float:
    """Wall time of a device time, as it is in truth."""
    return json.loads(truth.read_text()) + 1000 * (device_us - START_US) / (1 + DRIFT)
