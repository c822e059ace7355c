"""Metrics for Prometheus, at `/metrics` of the preview's address: the newest status of the stream as text."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

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


async def scraped(address: str, keys: ClientKeys | None) -> str:
    """Wait for the next status of a stream, at most 2.5 s, and write it as metrics.

    Args:
        address: where the stream publishes.
        keys: where it has keys.
    """
    return text(await asyncio.to_thread(_status, address, keys))


def text(status: Mapping[str, Any]) -> str:
    """Write a status as metrics; of an empty one, only that the stream is not there."""
    return "".join(line + "\n" for line in _lines(status))


def _status(address: str, keys: ClientKeys | None) -> Mapping[str, Any]:
    with Subscriber(address, ["status"], newest_only=True, keys=keys) as subscriber:
        try:
            message = subscriber.recv(_WAIT_MS)
        except WireError:
            return {}  # whoever publishes there is no stream of ours
    return message.header if message else {}


def _lines(status: Mapping[str, Any]) -> Iterator[str]:
    yield from _metric("up", "gauge", "1 where the stream says its status.", [({}, int(bool(status)))])
    for name, what in _TOTALS.items():
        yield from _metric(f"{name}_total", "counter", what, [({}, status.get(name))])
    yield from _metric("rate_hz", "gauge", "A second, lately.", _labelled("what", _map(status, "rates")))
    yield from _metric("asked_hz", "gauge", "Images a second that the plan asks for.", [({}, status.get("asked_hz"))])
    yield from _metric("delivered_hz", "gauge", "Images a second that go out.", [({}, status.get("delivered_hz"))])
    yield from _metric("latency_seconds", "gauge", "Latency by stage, lately.", _latencies(status))
    processes = _map(status, "processes")
    restarts = {name: _map(processes, name).get("lives", 0) - 1 for name in processes}
    restarts = {name: max(0, lives) for name, lives in restarts.items()}
    yield from _metric("restarts_total", "counter", "Times a process began again.", _labelled("process", restarts))
    private = {name: 1024 * _map(processes, name).get("private_kb", 0) for name in processes}
    yield from _metric("private_bytes", "gauge", "Private memory of a process.", _labelled("process", private))
    calibration = _map(status, "calibration")
    thresholds = {sign: calibration.get(f"threshold_{sign}") for sign in ("positive", "negative")}
    yield from _metric(
        "contrast_threshold", "gauge", "Log intensity that an event stands for.", _labelled("polarity", thresholds)
    )
    doubt_us = status.get("wall_uncertainty_us")
    seconds = None if doubt_us is None else doubt_us * 1e-6
    yield from _metric("wall_uncertainty_seconds", "gauge", "How far wall times may be off.", [({}, seconds)])


def _latencies(status: Mapping[str, Any]) -> Iterator[_Sample]:
    for stage, quantiles in _map(status, "latency_ms").items():
        for name, quantile in (("p50", "0.5"), ("p99", "0.99")):
            ms = quantiles.get(name)
            yield {"stage": stage, "quantile": quantile}, None if ms is None else ms * 1e-3


def _labelled(label: str, values: Mapping[str, Any]) -> Iterator[_Sample]:
    return (({label: name}, value) for name, value in values.items())


def _metric(name: str, kind: str, what: str, samples: Iterable[_Sample]) -> Iterator[str]:
    """One metric with its samples; those that are not known are left out, and it with them."""
    known = [(labels, value) for labels, value in samples if isinstance(value, int | float) and math.isfinite(value)]
    if not known:
        return
    yield f"# HELP nire_{name} {what}"
    yield f"# TYPE nire_{name} {kind}"
    for labels, value in known:
        inside = ",".join(f'{label}="{word}"' for label, word in labels.items())
        yield f"nire_{name}{{{inside}}} {value}" if inside else f"nire_{name} {value}"


def _map(status: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    value = status.get(key)
    return value if isinstance(value, Mapping) else {}
