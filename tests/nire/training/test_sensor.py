"""The batched sensor against the one of `nire.simulation.simulate`, and against what can be computed by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from nire.simulation.scene import LayeredScene
from nire.simulation.sensor_model import IDEAL, REALISTIC, SensorModel
from nire.simulation.simulate import EventSensor
from nire.training.frames import decode_srgb, encode_srgb, take_frames
from nire.training.sensor import (
    Sensors,
    Start,
    count_events,
    draw_sensors,
    jittered,
    mean_delay_us,
)

STEP_US = 500


def sensors_of(model: SensorModel, batch: int = 1, **more: float) -> Sensors:
    names = [name for name in Sensors.__dataclass_fields__ if name not in ("offset_us", "srgb")]
    values = {name: getattr(model, name) for name in names} | {"offset_us": 0.0, "srgb": 0.0} | more
    return Sensors(**{name: torch.full((batch,), float(value)) for name, value in values.items()})


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def lights_of(scene: LayeredScene, nodes: int) -> list[np.ndarray]:
    return [scene.radiance(n * 4 * STEP_US) for n in range(nodes)]


def both(model: SensorModel, lights: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Counts [T, 2, H, W] of the reference and of the batched sensor, with the same pixels."""
    reference = EventSensor(model, lights[0], 0, step_us=STEP_US, seed=7)
    levels = (torch.from_numpy(a.copy())[None] for a in (reference.threshold_positive, reference.threshold_negative))
    start = Start(*levels, torch.from_numpy(reference._low + reference.threshold_negative)[None])
    expected = np.zeros((len(lights) - 1, 2, *lights[0].shape), int)
    for n, light in enumerate(lights[1:]):
        batch = reference.advance(light, (n + 1) * STEP_US)
        np.add.at(expected[n], (batch.p, batch.y, batch.x), 1)
    stacked = torch.from_numpy(np.stack(lights))[None]
    counts = count_events(stacked, torch.tensor([float(STEP_US)]), sensors_of(model), generator=seeded(), start=start)
    return expected, counts[0].numpy().astype(int)


@pytest.mark.parametrize(
    "model",
    [
        IDEAL,
        SensorModel(threshold_positive=0.1, threshold_negative=0.15, threshold_spread=0.02),
        SensorModel(refractory_us=200.0, threshold_positive=0.12),
        SensorModel(bandwidth_hz=800.0, dark_bandwidth_hz=50.0, threshold_spread=0.02),
        SensorModel(leak_hz=20.0, threshold_spread=0.02),
        SensorModel(
            threshold_spread=0.02,
            bandwidth_hz=800.0,
            readout_log=0.1,
            readout_period_us=5200.0,
            readout_start_us=1800.0,
            readout_hold_us=1900.0,
        ),
    ],
    ids=["ideal", "spread", "refractory", "bandwidth", "leak", "readout"],
)
def test_counts_of_every_step_and_pixel_are_those_of_the_reference(
    model: SensorModel, small_scene: LayeredScene
) -> None:
    expected, counts = both(model, lights_of(small_scene, 25))
    assert expected.sum() > 1000
    assert counts.sum() == pytest.approx(expected.sum(), rel=0.01)
    # Levels that are met within rounding, or leak in chunks, may fall on the other side of a step's edge.
    assert np.abs(counts - expected).sum() < 0.02 * expected.sum()


def test_noisy_sensor_fires_as_often_as_the_reference(small_scene: LayeredScene) -> None:
    model = SensorModel(
        **{name: getattr(REALISTIC, name) for name in ("threshold_positive", "threshold_negative", "threshold_spread")},
        refractory_us=40.0,
        bandwidth_hz=4000.0,
        dark_bandwidth_hz=150.0,
        noise_hz=2.0,
    )
    expected, counts = both(model, lights_of(small_scene, 40))
    for sign in range(2):
        assert counts[:, sign].sum() == pytest.approx(expected[:, sign].sum(), rel=0.04)
    # Not only the total: the counts of neighbourhoods agree too.
    boxes = [a.sum((0, 1)).reshape(6, 8, 8, 8).sum((1, 3)) for a in (expected, counts)]
    assert np.corrcoef(boxes[0].ravel(), boxes[1].ravel())[0, 1] > 0.98


def test_events_of_an_ideal_sensor_add_up_to_the_change_of_log_light(small_scene: LayeredScene) -> None:
    light = torch.from_numpy(np.stack(lights_of(small_scene, 20)))[None]
    sensors = sensors_of(SensorModel(threshold_positive=0.17, threshold_negative=0.17))
    counts = count_events(light, torch.tensor([500.0]), sensors, generator=seeded()).float()
    total = 0.17 * (counts[:, :, 1] - counts[:, :, 0]).sum(1)
    assert (total - (light[:, -1] / light[:, 0]).log()).abs().max() < 0.17 + 1e-3


def test_brighter_is_polarity_one() -> None:
    ramp = torch.linspace(0.1, 0.8, 11)[None, :, None, None].expand(1, 11, 4, 4)
    counts = count_events(ramp, torch.tensor([500.0]), sensors_of(IDEAL), generator=seeded()).sum((0, 1, 3, 4))
    assert counts[1] > 100
    assert counts[0] == 0


def test_windows_of_a_batch_have_their_own_sensors() -> None:
    ramp = torch.linspace(0.1, 0.8, 11)[None, :, None, None].expand(2, 11, 4, 4).contiguous()
    sensors = sensors_of(IDEAL, 2)
    sensors.threshold_positive[1] = 0.5
    counts = count_events(ramp, torch.tensor([500.0, 500.0]), sensors, generator=seeded())
    alone = count_events(ramp[:1], torch.tensor([500.0]), sensors_of(IDEAL), generator=seeded())
    assert torch.equal(counts[:1], alone)
    assert counts[1].sum() < counts[0].sum()


def test_noise_is_stronger_in_the_dark_and_of_both_signs() -> None:
    levels = torch.tensor([0.05, 0.8])[:, None, None, None].expand(2, 301, 30, 30).contiguous()
    model = SensorModel(noise_hz=5.0)
    counts = count_events(levels, torch.tensor([1000.0] * 2), sensors_of(model, 2), generator=seeded()).float()
    dark, bright = counts.sum((1, 2, 3, 4))
    assert dark > 1.5 * bright
    assert 0.4 < counts[0, :, 1].sum() / dark < 0.6


def test_hot_pixels_fire_at_their_rate() -> None:
    still = torch.full((1, 101, 40, 40), 0.5)
    model = SensorModel(hot_fraction=0.02, hot_hz=500.0)
    counts = count_events(still, torch.tensor([1000.0]), sensors_of(model), generator=seeded()).long()
    hot = int((counts.sum((0, 1, 2)) > 0).sum())
    assert 15 < hot < 60
    assert int(counts.sum()) == pytest.approx(hot * 50, rel=0.15)


def test_events_of_slow_pixels_are_as_late_as_is_told() -> None:
    # A step up in half of the pixels soon after the start, and dim ones are slower; the others see nothing.
    light = torch.full((1, 81, 4, 4), 0.05)
    light[:, 4:, :2, :2], light[:, 4:, :2, 2:] = 0.4, 0.2
    step_us = torch.tensor([100.0])
    fast, slow = (
        sensors_of(SensorModel(threshold_positive=0.05, bandwidth_hz=corner, dark_bandwidth_hz=corner / 10))
        for corner in (0.0, 600.0)
    )

    def mean_time_us(sensors: Sensors) -> float:
        events = count_events(light, step_us, sensors, generator=seeded()).sum((0, 2, 3, 4)).double()
        return float((events * torch.arange(80)).sum() / events.sum()) * 100

    told = mean_delay_us(light, slow)
    assert 500 < told < 1200
    assert mean_time_us(slow) - mean_time_us(fast) == pytest.approx(float(told), rel=0.15)
    assert mean_delay_us(light, fast) == 0


def test_jitter_moves_events_by_a_step_and_loses_none() -> None:
    counts = torch.zeros((2, 9, 2, 30, 30), dtype=torch.uint8)
    counts[:, 4] = 1
    moved = jittered(counts.clone(), torch.tensor([500.0, 500.0]), torch.tensor([0.0, 100.0]), seeded())
    assert torch.equal(moved[0], counts[0])
    assert moved.sum() == counts.sum()
    assert float(moved[1, 3].float().mean()) == pytest.approx(0.08, abs=0.02)
    assert float(moved[1, 5].float().mean()) == pytest.approx(0.08, abs=0.02)


def test_frame_is_the_mean_light_of_each_rows_exposure() -> None:
    # Light that grows steadily in time: the mean of an exposure is the light of its middle.
    light = torch.linspace(0, 1, 11)[None, :, None, None].expand(1, 11, 3, 5)
    shutters = torch.tensor([[[[0.2, 0.4], [0.3, 0.5], [0.7, 0.7]]]])
    frame = take_frames(light, shutters, sensors_of(IDEAL), generator=seeded())
    expected = torch.tensor([0.3, 0.4, 0.7])[:, None].expand(3, 5)
    assert (frame[0, 0] - expected).abs().max() < 0.5 / 255 + 1e-5


def test_frames_clip_and_have_256_levels_in_their_own_curve() -> None:
    light = torch.linspace(0, 2, 400).view(1, 1, 20, 20).expand(1, 3, 20, 20)
    shutters = torch.zeros(1, 1, 20, 2)
    for srgb, encode in ((0.0, lambda x: x), (1.0, encode_srgb)):
        frame = take_frames(light, shutters, sensors_of(IDEAL, srgb=srgb), generator=seeded())
        levels = encode(frame) * 255
        assert (levels - levels.round()).abs().max() < 1e-2
        assert frame.max() == 1


def test_srgb_curves_undo_each_other() -> None:
    light = torch.linspace(0, 1, 1000)
    assert (decode_srgb(encode_srgb(light)) - light).abs().max() < 1e-5


def test_pixels_fire_together_at_readouts() -> None:
    slowly = (torch.linspace(0, 0.2, 13)[:, None, None] * torch.linspace(-1, 1, 40)).exp()
    light = 0.5 * slowly.expand(-1, 40, -1)[None].contiguous()
    model = SensorModel(
        threshold_spread=0.01,
        readout_log=0.08,
        readout_period_us=4000.0,
        readout_start_us=1500.0,
        readout_hold_us=2000.0,
    )
    counts = count_events(light, torch.tensor([500.0]), sensors_of(model), generator=seeded())[0].sum((2, 3))
    down, up = counts[:, 0].tolist(), counts[:, 1].tolist()
    # Steps up before nodes 3 and 11, a step down before node 7; light goes up on one side and down on the other.
    assert min(up[2], up[10]) > 3 * max(n for step, n in enumerate(up) if step not in (2, 10))
    assert down[6] > 3 * max(n for step, n in enumerate(down) if step != 6)


def test_readouts_are_drawn_for_their_share_of_sensors() -> None:
    drawn = draw_sensors(np.random.default_rng(0), 400, "realistic", readout_share=0.25)
    shown = drawn.readout_log > 0
    assert 60 < int(shown.sum()) < 140
    assert (drawn.readout_log[shown] < drawn.threshold_positive[shown]).all()
    assert (drawn.readout_hold_us[shown] < drawn.readout_period_us[shown]).all()
    assert not draw_sensors(np.random.default_rng(0), 400, "realistic").readout_log.any()


def test_drawn_sensors_are_within_what_is_promised() -> None:
    drawn = draw_sensors(np.random.default_rng(0), 400, "realistic")
    mean = (drawn.threshold_positive * drawn.threshold_negative).sqrt()
    assert mean.min() >= 0.0999
    assert mean.max() <= 0.5001
    wide = draw_sensors(np.random.default_rng(0), 400, "realistic", wide=True)
    assert drawn.offset_us.std() < 200
    assert wide.offset_us.std() > 600
    ideal = draw_sensors(np.random.default_rng(0), 10, "ideal")
    quiet: list[Tensor] = [ideal.noise_hz, ideal.bandwidth_hz, ideal.threshold_spread, ideal.offset_us]
    assert all(not values.any() for values in quiet)
