"""Every example runs as its first lines say."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest

from tests.compiling import compiled
from tests.golden.example import write_recording
from tests.stream.fake_stream import HEIGHT, WIDTH, FakeStream
from tests.waiting import PATIENCE_S

EXAMPLES = Path(__file__).parents[2] / "examples"
ROOT = EXAMPLES.parent
LINE = re.compile(r"^deblur (\d+): \(260, 346, 1\) over \[\d+, \d+\] us, mean [1-9]\d+\.\d\d$")


@pytest.fixture
def stream() -> Iterator[FakeStream]:
    stream = FakeStream()
    yield stream
    stream.close()


def run(*command: str | Path, folder: Path = ROOT) -> subprocess.CompletedProcess[str]:
    words = [*map(str, command)]
    return subprocess.run(words, check=False, capture_output=True, text=True, timeout=PATIENCE_S, cwd=folder)


def example(name: str, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return run(sys.executable, "-c", RUN, EXAMPLES / name, *arguments)


# Run a script with the repository on the path, as an installed project is.
RUN = "import runpy, sys; sys.path.insert(0, '.'); del sys.argv[0]; runpy.run_path(sys.argv[0], run_name='__main__')"


def test_minimal_subscriber_shows_frames(stream: FakeStream, tmp_path: Path) -> None:
    done = run(sys.executable, EXAMPLES / "subscriber_minimal.py", stream.address, "frame/deblur", "3", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert len(lines) == 3
    indices = [int(match[1]) for line in lines if (match := LINE.match(line))]
    assert len(indices) == 3
    assert indices == sorted(set(indices))


def test_minimal_subscriber_says_what_it_waits_for() -> None:
    command = [sys.executable, str(EXAMPLES / "subscriber_minimal.py"), "tcp://127.0.0.1:9"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as waiting:
        assert waiting.stderr is not None
        said = waiting.stderr.readline()
        waiting.kill()
    assert said == "waiting for frame/ from tcp://127.0.0.1:9: does a stream run there?\n"


def test_minimal_subscriber_needs_zmq_msgpack_and_numpy_only_and_is_25_lines_at_most() -> None:
    text = (EXAMPLES / "subscriber_minimal.py").read_text()
    names = {a.name for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Import) for a in node.names}
    assert names == {"struct", "sys", "msgpack", "numpy", "zmq"}
    assert len(text.splitlines()) <= 25


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return compiled(EXAMPLES / "subscriber_minimal.cpp", tmp_path_factory.mktemp("cpp"))


def test_cpp_robot_gets_what_it_asked_for_by_its_own_clock(stream: FakeStream, tmp_path: Path) -> None:
    asking = compiled(EXAMPLES / "cpp_ask_for_instant.cpp", tmp_path)
    done = run(asking, stream.address, stream.control.address, "frame/deblur")
    assert done.returncode == 0, done.stderr
    *seen, answered = done.stdout.splitlines()
    assert [re.fullmatch(r"frame/deblur \d+: 346 x 260", line) is not None for line in seen] == [True, True]
    matched = re.fullmatch(r"(-?\d+) ns after what was asked, at most 500 us off", answered)
    assert matched is not None, answered
    assert abs(int(matched[1])) < 1_000_000
    assert stream.wait_for("expose")["for_us"] == 0


def test_cpp_subscriber_shows_the_same(program: Path, stream: FakeStream) -> None:
    done = run(program, stream.address, "frame/deblur", "3")
    assert done.returncode == 0, done.stderr
    assert [bool(LINE.match(line)) for line in done.stdout.splitlines()] == [True] * 3


def test_cpp_subscriber_passes_over_messages_without_an_image(program: Path, stream: FakeStream) -> None:
    done = run(program, stream.address, "status", "1")
    assert (done.returncode, done.stdout) == (0, "status: no raw 8-bit image\n")


def test_cpp_subscriber_says_what_is_wrong_with_an_address(program: Path) -> None:
    done = run(program, "nonsense")
    assert done.returncode == 2
    assert "cannot connect to nonsense" in done.stderr


def test_robot_gets_the_instant_that_it_asked_for(stream: FakeStream, tmp_path: Path) -> None:
    out = tmp_path / "instant.png"
    done = example("robot_ask_for_instant.py", "500", out, stream.address, stream.control.address)
    assert done.returncode == 0, done.stderr
    asked = stream.wait_for("expose")
    assert f"exposed at {asked['t_us']:.0f} us" in done.stdout
    assert asked["for_us"] == 0
    assert cv2.imread(str(out), cv2.IMREAD_GRAYSCALE).shape == (HEIGHT, WIDTH)


def test_robot_is_told_what_is_covered(stream: FakeStream, tmp_path: Path) -> None:
    out = tmp_path / "x.png"
    done = example("robot_ask_for_instant.py", "1e12", out, stream.address, stream.control.address)
    assert done.returncode == 3
    assert "before the beginning" in done.stderr
    assert "Traceback" not in done.stderr
    assert not out.exists()


@pytest.mark.parametrize("name", ["offline_deblur.py", "robot_ask_for_instant.py"])
def test_example_on_the_library_is_ten_lines_of_work(name: str) -> None:
    body = ast.parse((EXAMPLES / name).read_text()).body[1:]
    assert body[-1].end_lineno is not None
    lines = (EXAMPLES / name).read_text().splitlines()[body[0].lineno - 1 : body[-1].end_lineno]
    assert len([line for line in lines if line and not line.startswith("import")]) <= 10


def test_offline_deblur_writes_one_sharp_frame_for_each_captured_one(tmp_path: Path) -> None:
    pixels = np.zeros((3, 24, 32), np.uint8)
    pixels[:, :, 16:] = 200
    empty = np.empty(0)
    np.savez(
        tmp_path / "still.npz",
        frames=pixels,
        frame_id=np.arange(3),
        has_events=np.ones(3, bool),
        exposure_start_us=np.array([0, 40_000, 80_000]),
        exposure_end_us=np.array([20_000, 60_000, 100_000]),
        t_us=empty.astype(np.int64),
        x=empty.astype(np.uint16),
        y=empty.astype(np.uint16),
        p=empty.astype(np.uint8),
    )
    done = example("offline_deblur.py", tmp_path / "still.npz", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    assert sorted(file.name for file in (tmp_path / "out").iterdir()) == [f"{i:06d}.png" for i in range(3)]
    assert "3 sharp frames" in done.stdout
    # Where nothing moves, the sharp frame is the captured one.
    assert (cv2.imread(str(tmp_path / "out" / "000000.png"), cv2.IMREAD_GRAYSCALE) == pixels[0]).all()


def test_offline_deblur_says_what_is_wrong_with_a_file(tmp_path: Path) -> None:
    (tmp_path / "text.aedat4").write_text("no recording")
    done = example("offline_deblur.py", tmp_path / "text.aedat4", tmp_path / "out")
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert "text.aedat4" in done.stderr


def test_contact_sheet_shows_backends_under_one_another(tmp_path: Path) -> None:
    recording = write_recording(tmp_path / "two_frames.nire")
    out = tmp_path / "sheet.png"
    done = example("contact_sheet.py", recording, out, "--backend", "edi", "passthrough")
    assert done.returncode == 0, done.stderr
    picture = cv2.imread(str(out), cv2.IMREAD_UNCHANGED)
    assert picture.shape[:2] == (2 * 80, 5 * 100)
    assert (picture[:80, :100] == picture[80:, :100]).all()  # as captured
    done = example("contact_sheet.py", recording, out, "--part", "30", "20", "40", "50", "--times", "2")
    assert done.returncode == 0, done.stderr
    part = cv2.imread(str(out), cv2.IMREAD_UNCHANGED)
    assert part.shape[:2] == (2 * 50, 5 * 2 * 40)
    assert (part == part[::2, ::2].repeat(2, 0).repeat(2, 1)).all()
    nothing = example("contact_sheet.py", tmp_path / "missing.nire", out)
    assert nothing.returncode != 0
    assert "missing.nire" in nothing.stderr


def test_list_of_examples_names_them_all() -> None:
    listed = set(re.findall(r"\]\(([\w./]+)\)", (EXAMPLES / "README.md").read_text()))
    there = {path.name for path in EXAMPLES.iterdir() if path.name not in ("README.md", "__pycache__")}
    assert there == {name.partition("/")[0] for name in listed}
