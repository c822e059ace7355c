"""`nire-live check`: whatever a run would refuse is said before it is started, all of it, a line each."""

from __future__ import annotations

import os
import re
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import zmq

from nire.errors import RingError
from nire.install import pip_install
from nire.network import weights
from nire.types import EventBatch, Geometry
from stream.config_sections import RingConfig
from stream.processes.board import Board
from stream.processes.supervised import RunningProcess
from stream.rings import place
from stream.rings.place import RingSpace
from stream.rings.ring import (
    RingReader,
    RingWriter,
    event_depth,
    event_file_bytes,
    event_memory_bytes,
    events_per_packet,
    require_room,
    sweep,
)
from tests.golden import example
from tests.stream.command import FREE_PORTS, ROOT, Done, call

NAME = f"check-{os.getpid()}"
NEURAL = "reconstructor.backend=neural"
PAPER = "reconstructor.weights=paper_nano"
EVENTS_ONLY = "reconstructor.backend=events_only"
PASSTHROUGH = "reconstructor.backend=passthrough"
NO_FRAMES = "source.settings.frame_rate_hz=0"

Check = Callable[..., Done]


@pytest.fixture
def check(capsys: pytest.CaptureFixture[str], shipped_defaults: None) -> Check:
    """Check the config of the synthetic camera with some keys set."""

    def checked(*assignments: str) -> Done:
        options = [word for assignment in (f"source.name={NAME}", *assignments) for word in ("--set", assignment)]
        return call(capsys, "check", ROOT / "configs" / "synthetic.toml", *FREE_PORTS, *options)

    return checked


def _faults(done: Done) -> list[str]:
    assert done.code == 2, done
    assert not done.out
    assert "Traceback" not in done.err
    return done.err.removeprefix("nire-live: ").splitlines()


@pytest.mark.parametrize(
    ("assignments", "fault"),
    [
        (["reconstructor.backend=nonsense"], "'nonsense': no such backend; there are auto, edi"),
        (["reconstructor.backend=os.path"], "'os.path': no such backend"),
        ([NEURAL, "reconstructor.weights=/nowhere.safetensors"], "there are no weights at /nowhere.safetensors"),
        ([EVENTS_ONLY, "reconstructor.weights=/nowhere.safetensors"], "there are no weights at /nowhere.safetensors"),
        (["reconstructor.size=huge"], "reconstructor.size = 'huge': the sizes are nano, small, base"),
        ([NEURAL, "reconstructor.size=huge"], "reconstructor.size = 'huge': the sizes are nano, small, base"),
        (["source.driver=auto", "source.settings={}", "reconstructor.size=base"], "no trained weights of size 'base'"),
        ([NEURAL, "reconstructor.size=base"], "no trained weights of size 'base'"),
        ([NEURAL, PAPER, "reconstructor.engine=fastest"], "'fastest': no such engine; there are auto, compiled"),
        ([NEURAL, "reconstructor.engine=fastest"], "'fastest': this network is run by one of auto, eager, openvino"),
        ([NEURAL, PAPER, "reconstructor.engine=no.such.module"], "'no.such.module': no such engine"),
        ([NEURAL, "reconstructor.precision=fp8"], "reconstructor.precision = 'fp8'"),
        ([NEURAL, "reconstructor.engine=eager", "reconstructor.precision=int8"], "'int8': the engine 'eager' has fp32"),
        ([NEURAL, PAPER, "reconstructor.engine=cudagraph", "reconstructor.device=cpu"], "needs an NVIDIA GPU"),
        ([NEURAL, "reconstructor.device=cuda:99"], "reconstructor.device = 'cuda:99', but torch"),
        (["reconstructor.device=cuda:99"], "reconstructor.device = 'cuda:99', but torch"),
        (["window.policy=span"], "window.policy = 'span' gives windows without frames"),
        ([EVENTS_ONLY, "plan.name=deblur", "window.policy=span"], "plan.name = 'deblur' asks for one image of each"),
        ([EVENTS_ONLY, "plan.name=unroll"], "plan.name = 'unroll' asks for one image of each"),
        ([NO_FRAMES, "plan.name=deblur"], "plan.name = 'deblur' asks for one image of each"),
        ([NO_FRAMES, "window.policy=pair"], "window.policy = 'pair' cuts windows around frames"),
        ([NO_FRAMES, PASSTHROUGH], "synthetic has events but no frames, and the backend 'passthrough' needs frames"),
        (["source.driver=synthetik"], "there is no driver 'synthetik'; did you mean 'synthetic'?"),
        (["source.settings.rate=3"], "no setting 'rate'"),
        (["source.driver=video", "source.settings={seconds='abc'}"], "'video': seconds = 'abc', expected a number"),
        (["source.driver=hdf5", "source.settings={width=64}"], "hdf5: width = 64, height = 0: set both"),
        (["source.settings.exposure_us=late"], "synthetic: exposure_us = 'late', expected a number"),
        (["publish.bind=tcp://192.0.2.1:5556"], "publish.bind = 'tcp://192.0.2.1:5556' can be reached from other"),
        (["publish.bind=ipc:///nowhere/at/all"], "cannot bind publish.bind = 'ipc:///nowhere/at/all'"),
        (
            ["security.server_key=/nowhere.key_secret", "security.authorized_keys=/nowhere"],
            "cannot read security.server_key /nowhere.key_secret",
        ),
    ],
)
def test_what_a_run_would_refuse_is_refused_in_one_line(check: Check, assignments: list[str], fault: str) -> None:
    (line,) = _faults(check(*assignments))
    assert fault in line


def test_everything_is_said_at_once(check: Check, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "statvfs", lambda _: SimpleNamespace(f_bavail=1, f_frsize=4096))
    lines = _faults(
        check(
            NEURAL,
            "source.settings.rate=3",
            "reconstructor.weights=/nowhere.safetensors",
            "reconstructor.engine=fastest",
            "plan.name=deblur",
            "window.policy=span",
            "publish.bind=tcp://192.0.2.1:5556",
            "control.bind=tcp://192.0.2.1:5557",
        )
    )
    said = (
        "'rate'",
        "no weights",
        "'fastest'",
        "window.policy",
        "plan.name",
        "/dev/shm",
        "publish.bind",
        "control.bind",
    )
    assert len(lines) == len(said), lines
    assert all(word in line for word, line in zip(said, lines, strict=True)), lines


def test_faults_of_several_keys_are_said_at_once(check: Check) -> None:
    lines = _faults(check("reconstructor.size=huge", "plan.rate_hz=-1"))
    assert [word in line for word, line in zip(("plan.rate_hz", "reconstructor.size"), lines, strict=True)] == [
        True
    ] * 2


def test_damaged_weights_are_refused_by_their_header(check: Check, tmp_path: Path) -> None:
    shipped = weights.shipped("nano")
    assert shipped is not None
    damaged = tmp_path / "half.safetensors"
    damaged.write_bytes(shipped.read_bytes()[:100_000])
    (line,) = _faults(check(NEURAL, f"reconstructor.weights={damaged}"))
    assert "is no whole safetensors file" in line


def test_engine_that_is_not_installed_is_refused(check: Check, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)
    (line,) = _faults(check(NEURAL, "reconstructor.engine=openvino", "reconstructor.device=cpu"))
    assert "pip install openvino" in line


# Sources


@pytest.mark.parametrize(
    ("driver", "settings", "module", "remedy"),
    [
        ("davis346", "{}", "dv_processing", pip_install("davis")),
        ("neuromorphic", "{}", "neuromorphic_drivers", pip_install("neuromorphic")),
        ("metavision", "{}", "metavision_hal", "Metavision SDK"),
        (
            "hybrid",
            "{events = {driver = 'davis346'}, frames = {driver = 'genicam'}}",
            "dv_processing",
            pip_install("davis"),
        ),
        (
            "hybrid",
            "{events = {driver = 'davis346'}, frames = {driver = 'genicam'}}",
            "harvesters",
            pip_install("genicam"),
        ),
        ("hdf5", "{}", "h5py", pip_install("hdf5")),
    ],
)
def test_sdk_that_a_driver_lacks_is_named(
    check: Check, monkeypatch: pytest.MonkeyPatch, driver: str, settings: str, module: str, remedy: str
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    (line,) = _faults(check(f"source.driver={driver}", f"source.settings={settings}"))
    assert f"source.driver = {driver!r} needs what is not installed" in line
    assert remedy in line


def test_recording_that_is_not_there_is_refused(check: Check, tmp_path: Path) -> None:
    (line,) = _faults(check("source.driver=npz", f"source.settings={{path = '{tmp_path}/none.npz'}}"))
    assert "there is no file" in line


@pytest.fixture
def with_sdks(monkeypatch: pytest.MonkeyPatch) -> None:
    """No driver lacks anything."""
    monkeypatch.setattr("drivers.detect.missing_sdk", lambda *_, **__: "")


@pytest.mark.usefixtures("with_sdks")
@pytest.mark.parametrize(
    ("driver", "settings", "good"),
    [
        ("neuromorphic", "{}", True),  # may be a DAVIS
        ("neuromorphic", "{device = 'davis346'}", True),
        ("neuromorphic", "{device = 'evk4'}", False),
        ("metavision", "{}", False),
        ("davis346", "{}", True),
        ("davis346", "{frames = false}", False),
        ("dv_network", "{events = 'tcp://127.0.0.1:7777', frames = ''}", False),
        ("auto", "{}", True),  # a recording, told when it is named
    ],
)
def test_plan_is_held_against_what_is_known_of_the_frames(check: Check, driver: str, settings: str, good: bool) -> None:
    done = check(f"source.driver={driver}", f"source.settings={settings}", "plan.name=deblur")
    if good:
        assert done.code == 0, done.err
    else:
        assert "plan.name = 'deblur' asks for one image" in "".join(_faults(done))


# The machine


def test_ports_that_are_taken_are_both_named(check: Check) -> None:
    with zmq.Context() as context, context.socket(zmq.PAIR) as first, context.socket(zmq.PAIR) as second:
        taken = [socket.bind_to_random_port("tcp://127.0.0.1") for socket in (first, second)]
        done = check(f"publish.bind=tcp://127.0.0.1:{taken[0]}", f"control.bind=tcp://127.0.0.1:{taken[1]}")
    lines = _faults(done)
    assert len(lines) == 2
    for key, port, line in zip(("publish", "control"), taken, lines, strict=True):
        assert f"cannot bind {key}.bind = 'tcp://127.0.0.1:{port}': the address is in use" in line


@pytest.mark.parametrize(
    ("bind", "fault"),
    [
        ("here", "preview.bind = 'here' is no HOST:PORT, for example 127.0.0.1:8765"),
        ("127.0.0.1:99999", "preview.bind = '127.0.0.1:99999' is no HOST:PORT"),
        ("192.0.2.1:0", "cannot bind preview.bind = '192.0.2.1:0': Cannot assign requested address"),  # nobody's
    ],
)
def test_preview_address_that_cannot_be_bound_is_refused(check: Check, bind: str, fault: str) -> None:
    (line,) = _faults(check(f"preview.bind={bind}"))
    assert fault in line


def test_preview_port_that_is_taken_is_refused_and_given_back_where_it_is_free(check: Check) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        bind = f"127.0.0.1:{taken.getsockname()[1]}"
        (line,) = _faults(check(f"preview.bind={bind}"))
    assert f"cannot bind preview.bind = '{bind}': Address already in use" in line
    assert check(f"preview.bind={bind}").code == 0
    assert check(f"preview.bind={bind}").code == 0


def test_one_address_for_both_sockets_is_refused(check: Check) -> None:
    address = f"ipc://@{NAME}"  # a name, not a file: two sockets cannot have it
    (line,) = _faults(check(f"publish.bind={address}", f"control.bind={address}"))
    assert f"publish.bind = '{address}' and control.bind = '{address}' are one address" in line


def test_socket_file_of_a_running_stream_is_not_taken_from_it(check: Check, tmp_path: Path) -> None:
    address = f"ipc://{tmp_path}/socket"
    with zmq.Context() as context, context.socket(zmq.REP) as server, context.socket(zmq.REQ) as client:
        server.bind(address)
        assert check(f"publish.bind={address}").code == 0
        client.linger = 0
        client.connect(address)
        client.send(b"still there?")
        assert server.poll(10_000)


def test_running_stream_of_the_same_name_is_refused(check: Check) -> None:
    with Board.create(NAME, ["consumer"]) as board:
        done = check()
        board.remove()
    sweep(NAME)
    (line,) = _faults(done)
    assert f"a stream named {NAME!r} is running already" in line


def test_shared_memory_that_is_too_small_is_refused(check: Check, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "statvfs", lambda _: SimpleNamespace(f_bavail=64 << 8, f_frsize=4096))
    (line,) = _faults(check("ring.peak_rate_meps=12", "ring.seconds=0.5"))
    assert "/dev/shm has 67 MB free, and the event ring takes up to 78 MB" in line
    assert check("ring.peak_rate_meps=6", "ring.seconds=0.5").code == 0


@pytest.mark.parametrize("folder", ["_ROOT", "SHARED_MEMORY"])
def test_folder_that_cannot_be_written_is_refused(
    check: Check, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, folder: str
) -> None:
    monkeypatch.setattr(place, folder, tmp_path / "none")
    (line,) = _faults(check())
    assert f"this user cannot write to {tmp_path / 'none'}" in line


@pytest.mark.parametrize("command", ["live", "replay", "record"])
def test_run_refuses_what_check_refuses_of_the_machine_before_anything_is_made(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, command: str
) -> None:
    config, recording = ROOT / "configs" / "synthetic.toml", example.write_recording(tmp_path / "golden.nire")
    words = {"live": [config], "replay": [config, recording], "record": [config, tmp_path / "out.nire"]}[command]
    words += [*FREE_PORTS, "--set", f"source.name={NAME}", "--set", "ring.seconds=0.5"]
    monkeypatch.setattr(RunningProcess, "start", lambda _: pytest.fail("nothing is to be started"))
    with monkeypatch.context() as full:
        full.setattr(os, "statvfs", lambda _: SimpleNamespace(f_bavail=64 << 8, f_frsize=4096))
        (line,) = _faults(call(capsys, command, *words))
        assert "/dev/shm has 67 MB free, and the event ring takes up to 78 MB" in line
    for folder in ("_ROOT", "SHARED_MEMORY"):
        with monkeypatch.context() as closed:
            closed.setattr(place, folder, tmp_path / "none")
            (line,) = _faults(call(capsys, command, *words))
            assert f"this user cannot write to {tmp_path / 'none'}" in line
    assert RingSpace.of(NAME).leftovers() == []


def test_room_for_frames_is_asked_for_where_their_size_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "statvfs", lambda _: SimpleNamespace(f_bavail=100 << 8, f_frsize=4096))
    require_room(RingConfig(), Geometry(346, 260))
    with pytest.raises(RingError, match="the rings take up to 133 MB"):
        require_room(RingConfig(), Geometry(1280, 720))


@pytest.mark.parametrize("ring", [RingConfig(), RingConfig(seconds=2, packet_us=1000, peak_rate_meps=30)])
def test_files_of_the_rings_are_as_large_as_their_packets(ring: RingConfig) -> None:
    with RingWriter(NAME, Geometry(64, 48), ring):
        sizes = sorted(path.stat().st_size for path in place.SHARED_MEMORY.glob(f"{RingSpace.of(NAME).prefix}*"))
    assert sizes[-1] == pytest.approx(event_file_bytes(ring), rel=0.01)
    assert sizes[-2] < 10e6


def test_full_event_ring_takes_the_memory_that_is_asked_for() -> None:
    ring = RingConfig(seconds=0.05, packet_us=100_000, peak_rate_meps=0.5)
    needed, events = event_memory_bytes(ring), events_per_packet(ring)
    columns: list[Any] = [np.zeros(events, kind) for kind in (np.uint16, np.uint16, np.uint8)]
    with RingWriter(NAME, Geometry(64, 48), ring) as writer, RingReader(NAME, ring):
        for packet in range(3 * event_depth(ring)):
            times = np.full(events, packet * ring.packet_us, np.int64)
            writer.send(EventBatch(times, *columns, watermark_us=(packet + 1) * ring.packet_us))
        space = RingSpace.of(NAME)
        taken = sum(path.stat().st_blocks * 512 for path in place.SHARED_MEMORY.glob(f"{space.prefix}*"))
    assert 0.9 * needed < taken < 1.1 * needed + 1e6


# Where all is well


def test_good_config_is_described_and_leaves_nothing_behind(check: Check) -> None:
    done = check()
    assert done.code == 0, done.err
    assert "config is good" in done.out
    assert "auto: the network where it keeps up" in " ".join(done.out.split())
    assert RingSpace.of(NAME).leftovers() == []


@pytest.mark.parametrize("backend", [NEURAL, "reconstructor.backend=auto", EVENTS_ONLY])
def test_engine_that_auto_takes_is_shown_and_no_network_is_made(
    check: Check, monkeypatch: pytest.MonkeyPatch, backend: str
) -> None:
    def made(*_: object, **__: object) -> None:
        raise AssertionError("nothing is to be made")

    for heavy in ("nire.backends.neural.create", "nire.network.weights.load", "nire.network.weights._read"):
        monkeypatch.setattr(heavy, made)
    for engine in ("eager", "openvino"):
        monkeypatch.setattr(f"nire.engines.{engine}.create", made)
    monkeypatch.setitem(sys.modules, "openvino", None)
    without = check(backend, "reconstructor.device=cpu")
    assert "eager (the one that auto takes here)" in without.out, without.err
    for check_of in ("nire.engines.openvino.check", "nire.engines.kept_graph.check"):
        monkeypatch.setattr(check_of, lambda *_: None)
    assert "openvino (the one that auto takes here)" in check(backend, "reconstructor.device=cpu").out
    named = check(backend, "reconstructor.device=cpu", "reconstructor.engine=eager")
    assert "eager" in named.out
    assert "auto takes" not in named.out


def test_source_without_frames_is_shown_with_the_backend_that_it_gets(check: Check) -> None:
    assert "events_only, on auto" in check(NO_FRAMES).out


def test_memory_of_rings_and_windows_grows_with_the_rate_and_the_stall(check: Check) -> None:
    def told_mb(*assignments: str) -> list[int]:
        out = " ".join(check(*assignments).out.split())
        return [int(mb) for mb in re.findall(r"at most\D*(\d+)\D*MB", out.replace("│", " "))]

    small = told_mb("ring.peak_rate_meps=12", "ring.seconds=0.5")
    large = told_mb("ring.peak_rate_meps=30", "ring.seconds=1")
    assert len(small) == len(large) == 3  # event ring, frame ring, windows
    assert all(more > less for less, more in zip(small, large, strict=True))
    assert large[2] > large[0]
