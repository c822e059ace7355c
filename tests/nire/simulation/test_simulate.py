"""The simulator against what can be computed by hand: Eq. 1 and 5 for frames, log light for events."""

from __future__ import annotations

import numpy as np
import pytest

from nire.shutter import Shutter
from nire.simulation.scene import Image, LayeredScene, make_scene
from nire.simulation.sensor_model import IDEAL, REALISTIC, SensorModel
from nire.simulation.simulate import EventSensor, FrameSensor, expose, node_weights, quantised
from nire.types import EventBatch

STEP_US = 1000


def run(model: SensorModel, lights: list[Image], seed: int = 1) -> list[EventBatch]:
    """Feed a sensor with light at nodes 1 ms apart, from time 0."""
    sensor = EventSensor(model, lights[0], 0, step_us=STEP_US, seed=seed)
    return [sensor.advance(light, (n + 1) * STEP_US) for n, light in enumerate(lights[1:])]


def constant(level: float, nodes: int, shape: tuple[int, int] = (40, 50)) -> list[Image]:
    return [np.full(shape, level, np.float32)] * nodes


def test_instant_of_any_scene_is_its_light(small_scene: LayeredScene) -> None:
    np.testing.assert_array_equal(expose(small_scene, Shutter.instant(12_345, 48)), small_scene.radiance(12_345))


def test_every_exposure_of_a_static_scene_is_the_scene() -> None:
    scene = make_scene("static", width=64, height=48, seed=3)
    for shutter in (Shutter.flat(0, 30_000, 48), Shutter.rolling(500, 9_000, row_delay_us=40, height=48)):
        np.testing.assert_allclose(expose(scene, shutter), scene.radiance(0), atol=1e-5)


def test_two_half_exposures_average_to_the_whole(small_scene: LayeredScene) -> None:
    halves = [expose(small_scene, Shutter.flat(t, t + 10_000, 48)) for t in (5_000, 15_000)]
    whole = expose(small_scene, Shutter.flat(5_000, 25_000, 48))
    np.testing.assert_allclose((halves[0] + halves[1]) / 2, whole, atol=1e-5)


def test_a_row_of_a_rolling_exposure_is_that_row_of_a_global_one_later(small_scene: LayeredScene) -> None:
    rolling = expose(small_scene, Shutter.rolling(2_000, 12_000, row_delay_us=50, height=48))
    row = 30
    later = expose(small_scene, Shutter.flat(2_000 + 50 * row, 12_000 + 50 * row, 48))
    np.testing.assert_allclose(rolling[row], later[row], atol=1e-5)


def test_long_exposure_is_the_mean_of_many_instants(small_scene: LayeredScene) -> None:
    instants = [small_scene.radiance(t) for t in np.arange(0, 20_000, 50) + 25]
    np.testing.assert_allclose(expose(small_scene, Shutter.flat(0, 20_000, 48)), np.mean(instants, axis=0), atol=2e-3)


@pytest.mark.parametrize(("start", "end"), [(0, 20_000), (137, 138), (400, 400), (-3_300, 777.5), (1_000, 2_000)])
def test_shares_of_the_nodes_sum_to_one(start: float, end: float) -> None:
    shutter = Shutter.rolling(start, end, row_delay_us=13.0, height=7)
    total = sum(node_weights(shutter, node * 1000.0, 1000.0) for node in range(-10, 40))
    np.testing.assert_allclose(total, np.ones(7), atol=1e-12)


def test_shutter_of_another_height_is_refused(small_scene: LayeredScene) -> None:
    with pytest.raises(ValueError, match="the shutter has 50 rows, the scene 48"):
        expose(small_scene, Shutter.flat(0, 1, 50))


def test_streamed_frame_is_the_exposure(small_scene: LayeredScene) -> None:
    shutter = Shutter.rolling(1_300, 12_000, row_delay_us=33, height=48)
    sensor = FrameSensor(IDEAL, step_us=250, seed=0)
    sensor.begin(4, shutter, 64)
    done = [f for t in range(0, 20_000, 250) for f in sensor.advance(small_scene.radiance(t), t)]
    assert [(f.index, f.exposure_start_us, f.exposure_end_us, f.row_delay_us) for f in done] == [(4, 1300, 12000, 33)]
    difference = done[0].pixels.astype(int) - quantised(expose(small_scene, shutter))
    assert np.abs(difference).max() <= 1


def test_noise_of_a_frame_depends_on_seed_and_index_only() -> None:
    light = np.full((20, 30), 0.5, np.float32)

    def capture(seed: int, index: int) -> bytes:
        sensor = FrameSensor(REALISTIC, step_us=1000, seed=seed)
        sensor.begin(index, Shutter.instant(0, 20), 30)
        return sensor.advance(light, 0)[0].pixels.tobytes()

    assert capture(1, 5) == capture(1, 5)
    assert len({capture(1, 5), capture(1, 6), capture(2, 5)}) == 3


def test_frames_saturate_at_full_light() -> None:
    assert quantised(np.array([[-0.1, 0.5, 1.7]], np.float32)).ravel().tolist() == [0, 128, 255]


def test_a_steady_ramp_of_log_light_gives_evenly_spaced_events() -> None:
    slope_per_ms = 0.47  # log units: several crossings of 0.2 in each step
    lights = [np.full((1, 1), 0.1 * np.exp(slope_per_ms * n), np.float32) for n in range(5)]
    times = np.concatenate([batch.t_us for batch in run(IDEAL, lights)])
    expected = np.arange(1, 10) * 0.2 / slope_per_ms * 1000
    assert times.shape == (9,)
    np.testing.assert_allclose(times, expected, atol=2)


def test_events_of_an_ideal_sensor_add_up_to_the_change_of_log_light(small_scene: LayeredScene) -> None:
    lights = [small_scene.radiance(t) for t in range(0, 60_000, STEP_US)]
    total = np.zeros((48, 64))
    for batch in run(IDEAL, lights):
        np.add.at(total, (batch.y, batch.x), np.where(batch.p == 1, 0.2, -0.2))
    assert np.abs(total - np.log(lights[-1] / lights[0])).max() < 0.2 + 1e-3


def test_events_are_sorted_inside_their_step_and_below_the_watermark(small_scene: LayeredScene) -> None:
    lights = [small_scene.radiance(t) for t in range(0, 20_000, STEP_US)]
    for n, batch in enumerate(run(REALISTIC, lights)):
        assert batch.watermark_us == (n + 1) * STEP_US
        assert batch.t_us.dtype == np.int64
        assert (np.diff(batch.t_us) >= 0).all()
        assert not len(batch) or (batch.t_us[0] >= n * STEP_US and batch.t_us[-1] < batch.watermark_us)


def test_still_light_gives_no_event_in_an_ideal_sensor() -> None:
    assert not any(len(batch) for batch in run(IDEAL, constant(0.5, 50)))


def test_leak_gives_positive_events_at_its_rate() -> None:
    model = SensorModel(leak_hz=5.0, threshold_spread=0.005)
    batches = run(model, constant(0.5, 1001))
    assert all((batch.p == 1).all() for batch in batches)
    # In one second each pixel sinks by 5 thresholds, from a start that is level with its light on average.
    assert sum(map(len, batches)) == pytest.approx(4.5 * 40 * 50, rel=0.05)


def test_noise_is_stronger_in_the_dark_and_of_both_signs() -> None:
    dark, bright = (run(SensorModel(noise_hz=2.0), constant(level, 500)) for level in (0.05, 0.8))
    assert sum(map(len, dark)) > 1.5 * sum(map(len, bright))
    signs = np.concatenate([batch.p for batch in dark])
    assert 0.45 < signs.mean() < 0.55


def test_hot_pixels_fire_at_their_rate_whatever_the_light() -> None:
    model = SensorModel(hot_fraction=0.01, hot_hz=300.0)
    sensor = EventSensor(model, np.full((40, 50), 0.5, np.float32), 0, step_us=STEP_US, seed=2)
    batches = [sensor.advance(np.full((40, 50), 0.5, np.float32), (n + 1) * STEP_US) for n in range(300)]
    where = np.concatenate([batch.y.astype(int) * 50 + batch.x for batch in batches])
    assert set(where) <= set(sensor.hot_pixels.tolist())
    assert where.size == pytest.approx(300 * 0.3 * sensor.hot_pixels.size, rel=0.2)


def test_dead_time_loses_events_of_a_fast_edge() -> None:
    lights = [np.full((1, 1), 0.05 * np.exp(1.2 * n), np.float32) for n in range(3)]
    counts = [sum(map(len, run(SensorModel(refractory_us=dead), lights))) for dead in (0.0, 150.0, 400.0)]
    assert counts[0] > counts[1] > counts[2] > 0


def test_a_dark_pixel_answers_later_than_a_bright_one() -> None:
    model = SensorModel(bandwidth_hz=2000.0, dark_bandwidth_hz=10.0)

    def mean_time(level: float) -> float:
        lights = constant(level, 1, (1, 1)) + constant(level * 3, 40, (1, 1))
        return float(np.concatenate([batch.t_us for batch in run(model, lights)]).mean())

    assert mean_time(0.02) > 2 * mean_time(0.3)


def test_thresholds_vary_from_pixel_to_pixel_as_told() -> None:
    model = SensorModel(threshold_positive=0.3, threshold_spread=0.03)
    sensor = EventSensor(model, np.full((100, 100), 0.5, np.float32), 0, step_us=STEP_US, seed=2)
    assert sensor.threshold_positive.mean() == pytest.approx(0.3, abs=0.002)
    assert sensor.threshold_positive.std() == pytest.approx(0.03, rel=0.05)


@pytest.mark.parametrize("name", ["threshold_positive", "refractory_us", "hot_hz"])
def test_sensor_model_names_the_field_that_is_out_of_range(name: str) -> None:
    with pytest.raises(ValueError, match=f"SensorModel.{name} = -1.0"):
        SensorModel(**{name: -1.0})


def test_readout_that_never_ends_is_refused() -> None:
    with pytest.raises(ValueError, match=r"readout_hold_us = 4000.0, expected less than readout_period_us = 4000.0"):
        SensorModel(readout_log=0.1, readout_period_us=4000.0, readout_hold_us=4000.0)


def test_unknown_scene_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ValueError, match="there is no scene 'moon'; the scenes are default"):
        make_scene("moon", width=64, height=48, seed=0)


def test_scene_is_a_pure_function_of_its_arguments_and_time(small_scene: LayeredScene) -> None:
    again = make_scene("default", width=64, height=48, seed=3)
    small_scene.radiance(77)
    np.testing.assert_array_equal(small_scene.radiance(500_000), again.radiance(500_000))
