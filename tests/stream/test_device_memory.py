"""A GPU with too little memory, or none left: fewer queries together, counted; or a clear end."""

from __future__ import annotations

import pytest
import torch

from nire.backends import device_errors, passthrough
from nire.errors import AcceleratorLost, DeviceMemoryFull
from stream.config import load_config
from stream.session.session import Session
from stream.sockets.wire import frame_header
from tests.stream import packets
from tests.stream.packets import INFO

RATE = "plan.rate_hz=500"  # 20 queries a window


class SmallMemory(passthrough.Passthrough):
    """Holds three films together."""

    def __init__(self, holds: int = 3) -> None:
        self.holds = holds
        self.asked: list[int] = []

    def expose(self, content, queries):
        self.asked.append(len(queries))
        with device_errors(f"expose {len(queries)} films"):
            if len(queries) > self.holds:
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 9 GiB")
            return super().expose(content, queries)


def session_of(backend: passthrough.Passthrough) -> Session:
    return Session(load_config(None, [RATE]), INFO, backend, freshest=False, clock=lambda: 0)


def test_batch_that_does_not_fit_is_halved_once_and_for_all_and_every_query_is_answered() -> None:
    backend = SmallMemory()
    machine = session_of(backend)
    exposed = list(machine.feed(packets.usual()))
    assert backend.asked[:3] == [8, 4, 2]
    assert max(backend.asked[3:]) == 2
    assert machine.counters.out_of_memory == 2
    assert exposed[0].out_of_memory == 2
    assert frame_header(exposed[0])["out_of_memory"] == 2
    plain = list(session_of(passthrough.Passthrough()).feed(packets.usual()))
    assert [frame.index for frame in exposed] == list(range(len(plain)))
    assert [frame.pixels.tobytes() for frame in exposed] == [frame.pixels.tobytes() for frame in plain]


def test_memory_that_does_not_hold_a_single_film_ends_with_what_to_do() -> None:
    with pytest.raises(DeviceMemoryFull, match=r"to expose 1 films .*reconstructor\.size"):
        list(session_of(SmallMemory(0)).feed(packets.usual()))


def test_counts_of_an_engine_that_cuts_batches_itself_are_told_too() -> None:
    backend = SmallMemory(8)
    backend.out_of_memory = 5
    machine = session_of(backend)
    assert list(machine.feed(packets.usual()))[-1].out_of_memory == 5


def test_lost_gpu_is_told_apart_from_other_errors() -> None:
    told = r"failed to build a window .*unspecified launch failure"
    with pytest.raises(AcceleratorLost, match=told), device_errors("build a window"):
        raise RuntimeError("CUDA error: unspecified launch failure\nCUDA kernel errors might be reported later")
    assert AcceleratorLost.exit_code == 1  # so the supervisor starts another consumer
    with pytest.raises(RuntimeError, match="sizes") as caught, device_errors("build a window"):
        raise RuntimeError("sizes of tensors must match")
    assert type(caught.value) is RuntimeError
