"""The golden messages: our writer makes them, our reader and the C++ one read them, byte for byte."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import msgpack
import numpy as np
import pytest

from nire.errors import WireError
from stream.sockets import wire
from tests.compiling import compiled
from tests.golden import messages
from tests.waiting import PATIENCE_S

KINDS = {"published": messages.published, "requests": messages.requests, "damaged": messages.damaged}


@pytest.mark.parametrize("kind", KINDS)
def test_messages_are_written_byte_for_byte(kind: str) -> None:
    files = {path.stem: path.read_bytes() for path in (messages.FOLDER / kind).glob("*.bin")}
    assert files == KINDS[kind]()


@pytest.mark.parametrize("name", messages.published())
def test_python_reads_what_is_published(name: str) -> None:
    data = (messages.FOLDER / "published" / f"{name}.bin").read_bytes()
    read = wire.unpack(data)
    pixels = b"" if read.pixels is None else read.pixels if isinstance(read.pixels, bytes) else read.pixels.tobytes()
    assert wire.pack(read.topic, read.header, pixels) == data
    if name.startswith("frame"):
        assert wire.pack_frame(wire.frame_of(read)) == data


@pytest.mark.parametrize("name", messages.damaged())
def test_python_refuses_what_is_damaged(name: str) -> None:
    with pytest.raises(WireError):
        wire.unpack((messages.FOLDER / "damaged" / f"{name}.bin").read_bytes())


@pytest.fixture(scope="module")
def cpp(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The C++ reader."""
    return compiled(Path(__file__).parent / "conformance.cpp", tmp_path_factory.mktemp("cpp"))


def _read(cpp: Path, kind: str, folder: str) -> dict[str, object]:
    files = sorted((messages.FOLDER / folder).glob("*.bin"))
    done = subprocess.run([str(cpp), kind, *map(str, files)], capture_output=True, check=False, timeout=PATIENCE_S)
    assert done.returncode == 0, "it packs what it read to other bytes"
    lines = done.stdout.decode().splitlines()
    return {file.stem: json.loads(line) for file, line in zip(files, lines, strict=True)}


def test_cpp_reads_what_is_published(cpp: Path) -> None:
    for name, said in _read(cpp, "published", "published").items():
        read = wire.unpack(messages.published()[name])
        pixels = read.pixels.tobytes() if isinstance(read.pixels, np.ndarray) else read.pixels or b""
        assert said == [read.topic, read.header, pixels.hex()], name


def test_cpp_reads_and_writes_requests_and_answers(cpp: Path) -> None:
    for name, said in _read(cpp, "request", "requests").items():
        assert said == msgpack.unpackb(messages.requests()[name]), name


def test_cpp_refuses_what_is_damaged(cpp: Path) -> None:
    assert set(_read(cpp, "published", "damaged").values()) == {"refused"}
