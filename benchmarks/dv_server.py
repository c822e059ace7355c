"""Serves the events of an AEDAT4 file as DV does, at the speed of their time stamps.

`python -m benchmarks.dv_server FILE PORT`: it says "ready" on standard output, plays when a line comes on standard
input, says in one line of JSON how it went, and stays until its input ends: what no reader has taken by then is lost.
"""

from __future__ import annotations

import json
import sys
import time
from types import ModuleType
from typing import Any

from drivers.sdk.dv_packets import sdk

_PACKET_EVENTS = 8192  # as a DAVIS346 sends them at its limit: every 0.7 ms
_QUEUED = 50


def main(path: str, port: int) -> None:
    """Serve; see above."""
    dv = sdk()
    stores, size = _stores(dv, path)
    stream = dv.io.Stream.EventStream(0, "events", "benchmark", size)
    writer = dv.io.NetworkWriter("127.0.0.1", port, stream)
    print("ready", flush=True)
    sys.stdin.readline()
    start_s, start_us = time.monotonic(), stores[0].getLowestTime()
    events, seconds, latest_s = 0, 0.0, 0.0
    for store in stores:
        due_s = start_s + (store.getHighestTime() - start_us) * 1e-6
        time.sleep(max(0.0, due_s - time.monotonic()))
        # The writer drops what its queue cannot take.
        while writer.getQueuedPacketCount() > _QUEUED:
            time.sleep(0.0005)
        writer.writeEvents(store)
        if store is not stores[-1]:  # that one only tells that time has passed
            seconds = time.monotonic() - start_s
            events += store.size()
            latest_s = max(latest_s, start_s + seconds - due_s)
    print(json.dumps({"events": events, "seconds": seconds, "latest_ms": 1e3 * latest_s}), flush=True)
    sys.stdin.read()


def _stores(dv: ModuleType, path: str) -> tuple[list[Any], tuple[int, int]]:
    """Everything in memory, in packets as of a camera."""
    reader = dv.io.MonoCameraRecording(dv.Path(path))
    stores = []
    while (whole := reader.getNextEventBatch()) is not None:
        stores += [
            whole.slice(start, min(_PACKET_EVENTS, whole.size() - start))
            for start in range(0, whole.size(), _PACKET_EVENTS)
        ]
    return stores, reader.getEventResolution()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
