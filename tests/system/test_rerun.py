"""rerun, process to process: what was sent into a file comes back with the pixels and stamps of the wire."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from nire.errors import ConfigError
from stream.outputs import follow_output
from stream.sockets.subscriber import Subscriber
from tests.stream.fake_stream import HEIGHT, WIDTH, FakeStream
from tests.system.live_stream import ROOT, free_ports
from tests.waiting import PATIENCE_MS, PATIENCE_S

rerun = pytest.importorskip("rerun", reason="needs rerun-sdk")
pytestmark = pytest.mark.system
_IMAGES = 5


def test_file_holds_pixels_and_stamps_of_the_wire(tmp_path: Path) -> None:
    pytest.importorskip("datafusion", reason="needs rerun-sdk[catalog] to read a recording")
    stream = FakeStream()
    words = [sys.executable, "-m", "stream.cli", "send", "rerun", "--to", str(tmp_path / "a.rrd"), "--rate", "200"]
    words += ["--address", stream.address, "--control", stream.control.address, "--count", str(_IMAGES)]
    with Subscriber(stream.address, ["frame/deblur"], high_water_mark=100_000) as subscriber:
        done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=PATIENCE_S, check=False)
        assert done.returncode == 0, done.stderr
        with rerun.server.Server(host="127.0.0.1", datasets={"sent": [str(tmp_path / "a.rrd")]}) as server:
            client = server.client()  # its data is gone with it
            dataset = client.get_dataset("sent")
            view = dataset.filter_contents(["/exposed"])
            rows = view.reader(index="wall")
            table = rows.to_arrow_table()
        stamps = np.asarray(table["wall"].to_numpy().astype("datetime64[ns]").astype(np.int64))
        buffers = table["/exposed:Image:buffer"].to_pylist()
        images = {int(stamp): _image(buffer) for stamp, buffer in zip(stamps, buffers, strict=True) if buffer}
        assert len(images) == _IMAGES
        while images:
            message = subscriber.recv(PATIENCE_MS)
            assert message is not None
            if (seen := images.pop(message.header["wall_ns"], None)) is not None:
                np.testing.assert_array_equal(seen, message.pixels)
    stream.close()


def _image(buffer: list[object]) -> np.ndarray:
    data = buffer[0]
    return np.asarray(list(data) if isinstance(data, list) else np.frombuffer(data, np.uint8), np.uint8).reshape(
        HEIGHT, WIDTH, 1
    )  # type: ignore[call-overload]


def test_target_that_is_none_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"expected NAME\.rrd"):
        follow_output("rerun", "nonsense")


def test_viewer_that_is_not_there_is_said_at_once() -> None:
    (port,) = free_ports(1)
    for target in (f"rerun+http://127.0.0.1:{port}/proxy", "rerun+http://127.0.0.1:x/proxy"):
        with pytest.raises(ConfigError, match="no viewer of rerun answers"):
            follow_output("rerun", target)


def test_viewer_is_not_started_where_nobody_would_see_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.platform", "linux")
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(ConfigError, match=r"no display.*--to NAME\.rrd"):
        follow_output("rerun", "viewer")
