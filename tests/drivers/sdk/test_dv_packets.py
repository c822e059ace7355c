"""What dv-processing hands out, as packets; frames counted by the camera's marks; addresses of its network streams."""

from __future__ import annotations

import re
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from drivers.cameras import dv_network
from drivers.sdk import dv_packets
from nire.errors import ConfigError, SdkMissing
from nire.install import pip_install
from nire.types import Trigger
from tests.drivers.cameras import stub_davis as stub

dv = stub.dv


def _marks(*t_us: int) -> list[Any]:
    return list(stub.edges_of(*((t, dv.TriggerType.APS_EXPOSURE_START) for t in t_us)))


def test_columns_are_copies_of_the_store() -> None:
    store = stub.store_of([(10, 3, 2, True), (20, 345, 259, False)])
    t_us, x, y, p = dv_packets.event_columns(store)
    del store
    assert [column.dtype for column in (t_us, x, y, p)] == [np.int64, np.uint16, np.uint16, np.uint8]
    assert (t_us.tolist(), x.tolist(), y.tolist(), p.tolist()) == ([10, 20], [3, 345], [2, 259], [1, 0])


@pytest.mark.parametrize(("shape", "channels"), [((4, 6), 1), ((4, 6, 3), 3), ((4, 6, 3), 1), ((4, 6), 3)])
def test_frame_has_the_channels_of_the_stream(shape: tuple[int, ...], channels: int) -> None:
    frame = dv_packets.frame_of(stub.frame_of(1000, 250, np.full(shape, 90, np.uint8)), 7, channels, 5)
    assert frame.pixels.shape == (4, 6, channels)
    assert (frame.pixels == 90).all()
    assert (frame.index, frame.exposure_start_us, frame.exposure_end_us, frame.received_ns) == (7, 1000, 1250, 5)


def test_frame_without_exposure_says_so() -> None:
    frame = dv_packets.frame_of(stub.frame_of(1000, 0, np.zeros((4, 6), np.uint8)), 0, 1, 0)
    assert not frame.exposure_known
    assert frame.exposure_end_us == 1000


def test_reset_of_the_clock_is_no_edge() -> None:
    kinds = dv.TriggerType
    edges = stub.edges_of((1, kinds.TIMESTAMP_RESET), (2, kinds.EXTERNAL_SIGNAL_FALLING_EDGE), (3, kinds.APS_FRAME_END))
    assert dv_packets.triggers_of(edges) == [Trigger(2, 0, False), Trigger(3, 2, False)]


def test_every_trigger_type_of_the_sdk_is_known() -> None:
    types = {int(kind.value) for kind in dv.TriggerType.__members__.values()}
    assert types - dv_packets.EDGES.keys() == {int(dv.TriggerType.TIMESTAMP_RESET.value)}


def test_frames_are_counted_by_their_marks() -> None:
    counter = dv_packets.FrameCounter()
    counter.saw(_marks(900_000, 1_000_000, 1_025_000, 1_050_000, 1_075_000))
    assert counter.index_of(1_000_100) == 0  # what was before the first frame is not lost
    assert counter.index_of(1_025_000) == 1
    assert counter.index_of(1_075_000) == 3  # one was lost


def test_mark_that_comes_after_its_frame_is_no_lost_frame() -> None:
    counter = dv_packets.FrameCounter()
    assert counter.index_of(1_000_000) == 0
    counter.saw(_marks(1_000_000, 1_025_000))
    assert counter.index_of(1_025_000) == 1
    assert [counter.index_of(t_us) for t_us in (1_050_000, 1_075_000)] == [2, 3]  # no marks at all


def test_clock_that_begins_again_is_no_lost_frame() -> None:
    counter = dv_packets.FrameCounter()
    counter.saw(_marks(9_000_000, 9_025_000, 9_050_000))
    assert counter.index_of(9_000_000) == 0
    counter.saw(_marks(20_000))
    assert counter.index_of(20_000) == 1
    counter.saw(_marks(45_000, 70_000))
    assert [counter.index_of(45_000), counter.index_of(70_000)] == [2, 3]


def test_what_the_sdk_says_is_cut_to_its_first_words() -> None:
    with pytest.raises(RuntimeError) as caught:
        dv.io.NetworkReader("127.0.0.1", 1)
    assert dv_packets.first_line(caught.value) == "connect: Connection refused"
    assert dv_packets.first_line(RuntimeError("")) == "RuntimeError"


@pytest.mark.parametrize(
    ("address", "place"),
    [
        ("tcp://10.0.0.7:7777", ("10.0.0.7", 7777)),
        ("camera-2.lab:7777", ("camera-2.lab", 7777)),
        ("localhost:1", ("127.0.0.1", 1)),
        ("tcp://[::1]:7777", ("::1", 7777)),
        ("/run/dv/events.sock", "/run/dv/events.sock"),
        ("unix:///run/dv/events.sock", "/run/dv/events.sock"),
    ],
)
def test_addresses_lead_to_the_reader(address: str, place: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []
    definition = SimpleNamespace(mTypeIdentifier="EVTS")

    class Reader:
        def __init__(self, *where: Any) -> None:
            asked.append(where if len(where) == 2 else where[0])

        def getStreamDefinition(self) -> Any:
            return definition

        def getEventResolution(self) -> tuple[int, int]:
            return 346, 260

        def getCameraName(self) -> str:
            return "DAVIS346_1"

    monkeypatch.setattr(dv.io, "NetworkReader", Reader)
    monkeypatch.setattr(dv, "Path", str)
    with dv_network.open_source(events=address) as source:
        assert source.info.name == "DAVIS346_1 over the network"
    assert asked == [place]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, "events = ''"),
        ({"events": "camera"}, "tcp://host:port or the path"),
        ({"events": "camera:99999"}, "tcp://host:port or the path"),
        ({"events": "a:1", "frames": "b"}, "frames = 'b'"),
        ({"events": "a:1", "frames": "a:1"}, "two kinds of data have one address"),
        ({"events": "a:1", "color": "bgr"}, "one of 'gray', 'rgb'"),
        ({"events": "a:1", "slack_us": -1}, "slack_us"),
    ],
)
def test_wrong_addresses_are_refused_before_anything_is_connected(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        dv_network.open_source(**settings)


def test_absent_sdk_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "dv_processing", None)
    with pytest.raises(SdkMissing, match=re.escape(pip_install("davis"))):
        dv_network.open_source(events="a:1").__enter__()
