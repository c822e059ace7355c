"""Serves a recording as DV does: `python -m tests.system.dv_writer RECORDING PASSES PAUSE_S KIND=ADDRESS ...`.

It waits for a reader at each address, plays at the speed of the recording, PASSES times (0 = for ever), and stops when
the readers have gone. After the third pass each takes a third longer than the one before: whoever still reads lost
something at that speed. Says on stdout "ready", then "pass N" after each.
"""

from __future__ import annotations

import itertools
import sys
import time
from collections.abc import Iterator
from typing import Any

import dv_processing as dv

_SLOWEST = 20.0


def main(recording: str, passes: int, pause_s: float, addresses: dict[str, str]) -> None:
    packets = sorted(_packets(recording, addresses), key=lambda packet: packet[0])
    writers = {kind: _writer(kind, address) for kind, address in addresses.items()}
    print("ready", flush=True)
    while any(writer.getClientCount() == 0 for writer in writers.values()):
        time.sleep(0.01)
    for number in itertools.count(1):
        _play(packets, writers, slower=min(_SLOWEST, 1.33 ** max(0, number - 4)))
        print(f"pass {number}", flush=True)
        time.sleep(pause_s)
        if number == passes:
            break
    # What a reader has not read when the writer closes is lost.
    while any(writer.getClientCount() for writer in writers.values()):
        time.sleep(0.01)


def _play(packets: list[tuple[int, str, Any]], writers: dict[str, Any], *, slower: float) -> None:
    begin_s, begin_us = time.monotonic(), packets[0][0]
    for t_us, kind, item in packets:
        wait_s = begin_s + (t_us - begin_us) * 1e-6 * slower - time.monotonic()
        if wait_s > 0:
            time.sleep(wait_s)
        writer = writers[kind]
        # The writer drops what its queue cannot take.
        while writer.getQueuedPacketCount() > 50:
            time.sleep(0.001)
        {
            "events": writer.writeEvents,
            "frames": writer.writeFrame,
            "triggers": writer.writeTriggers,
            "imu": writer.writeImu,
        }[kind](item)


def _packets(recording: str, addresses: dict[str, str]) -> Iterator[tuple[int, str, Any]]:
    """Everything in the recording, with the time at which a camera could have sent it."""
    reader = dv.io.MonoCameraRecording(dv.Path(recording))
    nexts = {
        "events": (reader.getNextEventBatch, lambda store: store.getHighestTime()),
        "frames": (reader.getNextFrame, lambda frame: frame.timestamp + round(frame.exposure.total_seconds() * 1e6)),
        "triggers": (reader.getNextTriggerBatch, lambda batch: batch[len(batch) - 1].timestamp),
        "imu": (reader.getNextImuBatch, lambda batch: batch[len(batch) - 1].timestamp),
    }
    for kind in addresses:
        take, time_of = nexts[kind]
        while (item := take()) is not None:
            yield time_of(item), kind, item


def _writer(kind: str, address: str) -> Any:
    name, size = "DAVIS346_00000391", (346, 260)
    stream = {
        "events": lambda: dv.io.Stream.EventStream(0, "events", name, size),
        "frames": lambda: dv.io.Stream.FrameStream(0, "frames", name, size),
        "triggers": lambda: dv.io.Stream.TriggerStream(0, "triggers", name),
        "imu": lambda: dv.io.Stream.IMUStream(0, "imu", name),
    }[kind]()
    if address.startswith("/"):
        return dv.io.NetworkWriter(dv.Path(address), stream)
    host, _, port = address.removeprefix("tcp://").rpartition(":")
    return dv.io.NetworkWriter(host, int(port), stream)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), float(sys.argv[3]), dict(argument.split("=", 1) for argument in sys.argv[4:]))
