"""A new camera, recording, window policy, backend, output or command is one new file, which runs."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from drivers.detect import driver_names, open_driver, open_recording
from nire.types import EventBatch
from stream import cli
from stream.config import load_config
from stream.session.session import Session
from stream.windows.policies import policy_names
from tests.golden.example import write_recording
from tests.stream import packets

Add = Callable[[str, str, str], None]


@pytest.fixture
def add(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Add]:
    """Put a file into a package, as if it lay in its folder: package, name, text."""
    made = []

    def put(package: str, name: str, text: str) -> None:
        folder = tmp_path / package
        folder.mkdir(exist_ok=True)
        (folder / f"{name}.py").write_text(text, encoding="utf-8")
        module = importlib.import_module(package)
        monkeypatch.setattr(module, "__path__", [*module.__path__, str(folder)])
        importlib.invalidate_caches()
        made.append(f"{package}.{name}")

    yield put
    for name in made:
        sys.modules.pop(name, None)
        package, _, last = name.rpartition(".")
        if hasattr(sys.modules[package], last):
            delattr(sys.modules[package], last)


CAMERA = '''
"""A camera of two events."""
import contextlib, numpy as np
from drivers.source import SourceInfo
from nire.types import EventBatch, Geometry

class Two(contextlib.AbstractContextManager):
    info = SourceInfo("two", Geometry(4, 3), has_frames=False)
    def __exit__(self, *_): ...
    def __iter__(self):
        one = np.ones(2)
        yield EventBatch(np.array([5, 9]), one.astype("u2"), one.astype("u2"), one.astype("u1"), 10)

def open_source(path="", gain=1):
    return Two()
'''
RECORDING = (
    CAMERA
    + """
def recognise(head, path):
    return head.startswith(b"TWO!")
"""
)
POLICY = '''
"""Policy `newest`: as `single`, under another name."""
from stream.windows.policies.single import Single

def create(held):
    return Single(held)
'''
BACKEND = '''
"""The first frame, whatever is asked."""
from nire.backends import passthrough

def create(geometry, device="cpu"):
    return passthrough.create(geometry, device)
'''
OUTPUT = '''
"""The tags of the frames."""
import contextlib

class Tags(contextlib.AbstractContextManager):
    def __init__(self, out):
        self.file = open(out / "tags.txt", "w")
    def write(self, frame, *, index):
        print(index, frame.tag, file=self.file)
    def __exit__(self, *_):
        self.file.close()

def create(out, *, in_order):
    return Tags(out)
'''
COMMAND = '''
"""Say a word."""
def command(word: str = "aye") -> None:
    """Say a word."""
    print(word)
'''


def test_camera_is_a_file(add: Add) -> None:
    add("drivers.cameras", "two", CAMERA)
    assert "two" in driver_names()
    with open_driver("two", gain=2) as source:
        assert sum(len(packet) for packet in source if isinstance(packet, EventBatch)) == 2


def test_recording_format_is_a_file(add: Add, tmp_path: Path) -> None:
    add("drivers.recordings", "two", RECORDING)
    path = tmp_path / "a.two"
    path.write_bytes(b"TWO!")
    with open_recording(path) as source:
        assert sum(len(packet) for packet in source if isinstance(packet, EventBatch)) == 2


def test_window_policy_is_a_file(add: Add) -> None:
    add("stream.windows.policies", "newest", POLICY)
    assert "newest" in policy_names()
    answered = [_answered(f"window.policy={policy}", "plan.name=deblur") for policy in ("newest", "single")]
    assert answered[0] == answered[1] != []


def test_backend_is_a_file(add: Add) -> None:
    add("nire.backends", "first", BACKEND)
    assert _answered("reconstructor.backend=first")


def test_output_is_a_file(add: Add, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    add("stream.outputs", "tags", OUTPUT)
    write_recording(tmp_path / "a.nire")
    words = ["offline", str(tmp_path / "a.nire"), str(tmp_path / "out"), "--set", "plan.name=deblur"]
    for command in (["outputs"], [*words, "--output", "tags"]):
        with pytest.raises(SystemExit) as ending:
            cli.main(command)
        assert ending.value.code == 0
    assert "The tags of the frames" in capsys.readouterr().out
    assert (tmp_path / "out" / "tags.txt").read_text().splitlines() == ["0 deblur", "1 deblur"]


def test_command_is_a_file(add: Add, capsys: pytest.CaptureFixture[str]) -> None:
    add("stream.commands", "say", COMMAND)
    for words, said in ((["--help"], "Say a word."), (["say", "--word", "aye aye"], "aye aye")):
        with pytest.raises(SystemExit) as ending:
            cli.main(words)
        assert ending.value.code == 0
        assert said in capsys.readouterr().out


def test_listing_the_commands_imports_none_of_them() -> None:
    import subprocess

    code = (
        "import sys\nfrom stream import cli\n"
        "try: cli.main(['--help'])\n"
        "except SystemExit: pass\n"
        "print(sorted({'numpy', 'torch', 'pydantic', 'zmq'} & set(sys.modules)), file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=Path(__file__).parents[1], capture_output=True, text=True, check=True
    )
    assert done.stderr.strip() == "[]"


def _answered(*overrides: str) -> list[int]:
    from stream.backends import open_reconstructor

    config = load_config(None, [*overrides, "plan.rate_hz=100"])
    reconstructor = open_reconstructor(config, packets.GEOMETRY)
    session = Session(config, packets.INFO, reconstructor, freshest=False, clock=lambda: 0)
    return [frame.index for frame in [*session.feed(packets.usual()), *session.finish()]]
