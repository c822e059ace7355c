"""Metrics for Prometheus, at `/metrics` of the preview's address: the newest status of the stream as text."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

from nire.errors import WireError
from stream.sockets.keys import ClientKeys
from stream.sockets.subscriber import Subscriber

CONTENT_TYPE = "text/plain; version=0.0.4"
_WAIT_MS = 2500  # a status comes once a second
_TOTALS = {
    "events": "Events that came in.",
    "frames": "Frames that came in.",
    "windows": "Windows that were answered.",
    "exposed": "Images that went out.",
    "lost_events": "Events that were lost.",
    "lost_frames": "Frames that were lost.",
    "late_windows": "Windows that were skipped.",
    "reduced_queries": "Images that were left out for lack of time.",
    "unanswered": "Indices that no image has.",
    "fallback_windows": "Windows that the fast method answered, because the best one does not keep up.",
    "out_of_memory": "Batches of images that the GPU's memory did not hold.",
    "gaps": "Spans whose data is missing.",
}
_Sample = tuple[Mapping[str, str], Any]


class _Metric(NamedTuple):
    """A metric of one camera: labels of all samples, its name and kind, what it means, and the samples."""

    labels: Mapping[str, str]
    name: str
    kind: str
    what: str
    samples: Iterable[_Sample]


async def scraped(address: str, keys: ClientKeys | None) -> str:
    """Wait for the next status of a stream, at most 2.5 s, and write it as metrics.

    Args:
        address: where the stream publishes.
        keys: where it has keys.
    """
    return text(await asyncio.to_thread(_status, address, keys))


def text(status: Mapping[str, Any]) -> str:
    """Write a status as metrics; of an empty one, only that the stream is not there.

    Where it is of several cameras, each sample has the label `camera`.
    """
    cameras = _map(status, "cameras")
    told = [({"camera": name}, _map(cameras, name)) for name in cameras] or [({}, status)]
    lines = (_metric(metrics) for metrics in zip(*(_metrics(own, labels) for labels, own in told), strict=True))
    return "".join(f"{line}\n" for each in lines for line in each)


def _status(address: str, keys: ClientKeys | None) -> Mapping[str, Any]:
    with Subscriber(address, ["status"], newest_only=True, keys=keys) as subscriber:
        try:
            message = subscriber.recv(_WAIT_MS)
        except WireError:
            return {}  # whoever publishes there is no stream of ours
    return message.header if message else {}


def _metrics(status: Mapping[str, Any], labels: Mapping[str, str]) -> Iterator[_Metric]:
    """All metrics of a camera, whether they are known or not."""
    is_there = bool(status) and status.get("state") != "failed"
    made = partial(_Metric, labels)
    yield made("up", "gauge", "1 where the stream says its status.", [({}, int(is_there))])
    for name, what in _TOTALS.items():
        yield made(f"{name}_total", "counter", what, [({}, status.get(name))])
    yield made("rate_hz", "gauge", "A second, lately.", _labelled("what", _map(status, "rates")))
    yield made("asked_hz", "gauge", "Images a second that the plan asks for.", [({}, status.get("asked_hz"))])
    yield made("delivered_hz", "gauge", "Images a second that go out.", [({}, status.get("delivered_hz"))])
    yield made("latency_seconds", "gauge", "Latency by stage, lately.", _latencies(status))
    processes = _map(status, "processes")
    restarts = {name: _map(processes, name).get("lives", 0) - 1 for name in processes}
    restarts = {name: max(0, lives) for name, lives in restarts.items()}
    yield made("restarts_total", "counter", "Times a process began again.", _labelled("process", restarts))
    private = {name: 1024 * _map(processes, name).get("private_kb", 0) for name in processes}
    yield made("private_bytes", "gauge", "Private memory of a process.", _labelled("process", private))
    calibration = _map(status, "calibration")
    thresholds = {sign: calibration.get(f"threshold_{sign}") for sign in ("positive", "negative")}
    yield made(
        "contrast_threshold", "gauge", "Log intensity that an event stands for.", _labelled("polarity", thresholds)
    )
    doubt_us = status.get("wall_uncertainty_us")
    seconds = None if doubt_us is None else doubt_us * 1e-6
    yield made("wall_uncertainty_seconds", "gauge", "How far wall times may be off.", [({}, seconds)])


def _latencies(status: Mapping[str, Any]) -> Iterator[_Sample]:
    for stage, quantiles in _map(status, "latency_ms").items():
        for name, quantile in (("p50", "0.5"), ("p99", "0.99")):
            ms = quantiles.get(name)
            yield {"stage": stage, "quantile": quantile}, None if ms is None else ms * 1e-3


def _labelled(label: str, values: Mapping[str, Any]) -> Iterator[_Sample]:
    return (({label: name}, value) for name, value in values.items())


def _metric(alike: Sequence[_Metric]) -> Iterator[str]:
    """One metric with its samples, of all cameras; those that are not known are left out, and it with them."""
    known = [
        ({**metric.labels, **labels}, value)
        for metric in alike
        for labels, value in metric.samples
        if isinstance(value, int | float) and math.isfinite(value)
    ]
    if not known:
        return
    name = alike[0].name
    yield f"# HELP nire_{name} {alike[0].what}"
    yield f"# TYPE nire_{name} {alike[0].kind}"
    for labels, value in known:
        inside = ",".join(f'{label}="{word}"' for label, word in labels.items())
        yield f"nire_{name}{{{inside}}} {value}" if inside else f"nire_{name} {value}"


def _map(status: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    value = status.get(key)
    return value if isinstance(value, Mapping) else {}
