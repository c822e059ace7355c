"""`bench hd` at a tiny size: the recording that it makes of a larger sensor, and that each figure is there."""

from __future__ import annotations

import math
import tomllib
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest

from benchmarks import hd, page
from benchmarks.material import larger, packets
from benchmarks.rig import write_rig
from drivers.detect import open_driver
from nire.types import EventBatch, Frame, Geometry

SIZE = Geometry(400, 300)


@pytest.mark.parametrize("rate_meps", [0.5, 1.5, 1000.0])
def test_larger_sensor_moves_as_far_as_its_rate_goes(rate_meps: float) -> None:
    info, stream = packets(0.2)
    made = list(larger(info, stream, SIZE, rate_meps=rate_meps))
    assert len(made) == len(stream)
    batches = [packet for packet in made if isinstance(packet, EventBatch)]
    x, y = (np.concatenate([getattr(batch, name) for batch in batches]) for name in ("x", "y"))
    assert y.max() < SIZE.height
    moving = int(x.max()) + 1
    frames = [packet for packet in made if isinstance(packet, Frame)]
    assert {frame.pixels.shape for frame in frames} == {(300, 400, 1)}
    changed = frames[0].pixels != frames[-1].pixels
    assert not changed[:, moving:].any()
    assert changed[:260, : min(moving, 346)].any()
    if rate_meps == 1000.0:
        assert moving == SIZE.width
        small = [packet for packet in stream if isinstance(packet, EventBatch)]
        once = sum(map(len, small))
        assert np.count_nonzero((x < 346) & (y < 260)) == once
    else:
        assert len(x) / 0.2e6 == pytest.approx(rate_meps, rel=0.1)


def test_rig_holds_what_the_source_gave(tmp_path: Path) -> None:
    info, stream = packets(0.6)
    rig = write_rig(tmp_path, SIZE, larger(info, stream, SIZE, rate_meps=1.0))
    given = list(larger(info, stream, SIZE, rate_meps=1.0))
    settings = tomllib.loads(f"settings = {rig.settings()}")["settings"]
    with open_driver("hybrid", path=rig.events, **settings) as source:
        assert source.info.geometry == SIZE
        played = list(source)
    expected, found = (sorted_events(each) for each in (given, played))
    np.testing.assert_array_equal(found, expected)
    before, after = ([packet for packet in each if isinstance(packet, Frame)] for each in (given, played))
    assert len(before) == len(after) > 10
    for one, other in zip(before, after, strict=True):
        np.testing.assert_array_equal(one.pixels, other.pixels)
        assert one.transfer == other.transfer
        assert (one.exposure_start_us, one.exposure_end_us) == (other.exposure_start_us, other.exposure_end_us)


def sorted_events(stream: Iterable[object]) -> np.ndarray:
    """All of them: int64 [4, N], in one order whatever that of equal times was."""
    batches = [packet for packet in stream if isinstance(packet, EventBatch)]
    names = ("t_us", "y", "x", "p")
    columns = np.stack([np.concatenate([getattr(batch, name) for batch in batches]) for name in names])
    return np.asarray(columns[:, np.lexsort(columns[::-1])], np.int64)


@pytest.mark.system
def test_each_figure_is_there_and_nothing_is_uncounted(monkeypatch: pytest.MonkeyPatch) -> None:
    small = {"_GEOMETRY": SIZE, "_RATES_MEPS": (0.5, 1.0), "_RECORDED_S": 0.6, "_MEASURED_S": 1.0}
    for name, value in {**small, "_RIG_MEPS": 0.5, "_DENSE_MEPS": 1.5}.items():
        monkeypatch.setattr(hd, name, value)
    monkeypatch.setattr(page, "_STRETCH_S", 0.5)
    figures = {result.metric: result.value for result in hd.run()}
    for name in ("edi_hd_0.5m", "edi_hd_1m", "edi_hd_evt3_0.5m", "edi_hd_1.5m", "nano_hd"):
        assert figures[f"{name}_fps"] > 0
        assert figures[f"{name}_uncounted"] == 0
        assert 0 <= figures[f"{name}_lost_share"] < 1
        assert figures[f"{name}_latency_ms_p99"] >= figures[f"{name}_latency_ms_p50"] > 0
    for name in ("hd_0.5m", "hd_1m", "hd_evt3_0.5m", "hd_1.5m"):
        assert figures[f"{name}_peak_private_mb_consumer"] > figures[f"{name}_peak_private_mb_producer"] > 0
        assert figures[f"{name}_told_mb_rings"] > figures[f"{name}_told_mb_windows"] * 0.1 > 0
    assert figures["page_hd_fps"] > 0
    assert not any(math.isnan(value) for value in figures.values())
