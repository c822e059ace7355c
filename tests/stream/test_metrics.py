"""Metrics for Prometheus: over HTTP from a running page, in the text format, and without a stream."""

from __future__ import annotations

import re
import urllib.request
from collections.abc import Iterator

import pytest

from stream.preview.metrics import CONTENT_TYPE, text
from tests.stream.fake_stream import FakeStream
from tests.stream.serving import Served
from tests.waiting import PATIENCE_S

SAMPLE = re.compile(r'nire_[a-z_0-9]+(\{[a-z]+="[\w.]+"(,[a-z]+="[\w.]+")*\})? -?[0-9.e+-]+')


@pytest.fixture
def served() -> Iterator[Served]:
    stream = FakeStream()
    served = Served(stream.address)
    yield served
    served.close()
    stream.close()


def _values(told: str) -> dict[str, float]:
    samples = [line for line in told.splitlines() if not line.startswith("#")]
    assert [line for line in samples if not SAMPLE.fullmatch(line)] == []
    return {line.rpartition(" ")[0]: float(line.rpartition(" ")[2]) for line in samples}


def test_page_serves_the_metrics_of_its_stream(served: Served) -> None:
    with urllib.request.urlopen(f"{served.url}metrics", timeout=PATIENCE_S) as answer:
        assert answer.headers["Content-Type"].startswith(CONTENT_TYPE.partition(";")[0])
        values = _values(answer.read().decode())
    assert values["nire_up"] == 1
    assert values['nire_contrast_threshold{polarity="positive"}'] == pytest.approx(0.2213)
    assert values['nire_contrast_threshold{polarity="negative"}'] == pytest.approx(0.1987)


def test_rates_latencies_losses_and_restarts_are_told() -> None:
    status = {
        "lost_events": 7,
        "late_windows": 2,
        "rates": {"exposed": 400.5, "captured": 25.0},
        "latency_ms": {"build": {"p50": 2.0, "p99": None}, "total": {"p50": 5.0, "p99": 9.0}},
        "processes": {"consumer": {"lives": 3, "private_kb": 2}, "producer": {"lives": 1, "private_kb": 1}},
        "wall_uncertainty_us": 600.0,
        "asked_hz": None,
    }
    values = _values(text(status))
    assert values["nire_lost_events_total"] == 7
    assert values["nire_late_windows_total"] == 2
    assert values['nire_rate_hz{what="exposed"}'] == 400.5
    assert values['nire_latency_seconds{stage="total",quantile="0.99"}'] == pytest.approx(0.009)
    assert 'nire_latency_seconds{stage="build",quantile="0.99"}' not in values
    assert values['nire_restarts_total{process="consumer"}'] == 2
    assert values['nire_restarts_total{process="producer"}'] == 0
    assert values['nire_private_bytes{process="consumer"}'] == 2048
    assert values["nire_wall_uncertainty_seconds"] == pytest.approx(0.0006)
    assert "nire_asked_hz" not in values


def test_every_metric_says_what_it_is() -> None:
    lines = text({"lost_frames": 1, "rates": {"exposed": 1.0, "windows": 2.0}}).splitlines()
    names = {line.split("{")[0].split(" ")[0] for line in lines if not line.startswith("#")}
    for word in ("HELP", "TYPE"):
        assert {line.split(" ")[2] for line in lines if line.startswith(f"# {word} ")} == names
    assert len([line for line in lines if line.startswith("# TYPE nire_rate_hz ")]) == 1


def test_stream_that_is_not_there_is_down() -> None:
    assert _values(text({})) == {"nire_up": 0}


def test_samples_of_several_cameras_are_told_apart_by_a_label() -> None:
    status = {"cameras": {"left": {"exposed": 3, "rates": {"events": 5.0}}, "right": {"state": "failed"}}}
    lines = text(status).splitlines()
    assert 'nire_exposed_total{camera="left"} 3' in lines
    assert 'nire_rate_hz{camera="left",what="events"} 5.0' in lines
    assert [line for line in lines if "_up{" in line] == ['nire_up{camera="left"} 1', 'nire_up{camera="right"} 0']
    assert sum(line.startswith("# TYPE nire_exposed_total ") for line in lines) == 1
