"""What a user types, and mistypes: exit codes, messages without traceback, help that is enough."""

from __future__ import annotations

import json
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest

from tests.golden import example
from tests.stream.command import CONFIG, FREE_PORTS, ROOT, Done, call, run

COMMANDS = {
    "demo": ["--headless", "--seconds", "--out", "out/demo", "--set"],
    "devices": [],
    "check": ["--set"],
    "config": ["NAME", "my.toml"],
    "live": ["--preview", "--seconds", "--set", "--log-level", "INFO"],
    "replay": ["[CONFIG] RECORDING", "--speed", "--loop", "--preview", "--set", "default: 1"],
    "offline": ["[CONFIG] RECORDING OUT", "--shutters", "--video", "--set", "frames.jsonl"],
    "batch": ["IN... OUT [CONFIG]", "--jobs", "--output", "--set", "batch.json"],
    "record": ["--seconds", "NAME.nire"],
    "convert": ["NAME.nire", ".aedat4", "--set"],
    "info": ["--picture"],
    "preview": ["--bind", "127.0.0.1:8765", "tcp://127.0.0.1:5556"],
    "ctl": ["status", "set-plan", "expose", "pause", "resume", "set-source", "stop"],
    "ctl status": ["--address", "--own-key", "--server-key"],
    "ctl expose": ["--t", "--for", "--row-delay", "tcp://127.0.0.1:5557"],
    "ctl set-plan": ["rate_hz=800"],
    "keys new": ["--folder", "default: keys"],
    "bench": ["planes", "end_to_end", "--json"],
}


@pytest.fixture
def recording(tmp_path: Path) -> Path:
    return example.write_recording(tmp_path / "golden.nire")


@pytest.fixture
def out(tmp_path: Path) -> Iterator[Path]:
    return tmp_path / "out"


# The golden example


def test_golden_example_through_the_command(recording: Path, out: Path, tmp_path: Path) -> None:
    shutters = example.write_shutters(tmp_path / "shutters.jsonl")
    done = run("offline", CONFIG, recording, out, "--shutters", shutters)
    assert done.code == 3, done.err
    assert done.out.startswith("3 exposed frames in ")
    (line,) = done.err.splitlines()  # nothing else: no warning of a library, no progress
    assert "line 4" in line
    assert "[-5000, 65000]" in line
    assert sorted(path.name for path in (out / "frames").iterdir()) == ["000000.png", "000001.png", "000002.png"]
    own = cv2.imread(str(out / "frames" / "000001.png"), cv2.IMREAD_UNCHANGED)
    assert own.dtype == np.uint8
    assert own.shape == (80, 100)
    assert np.abs(own.astype(int) - example.frames()[0].pixels[..., 0]).max() <= 1
    _check_index(out)
    _check_report(json.loads((out / "run.json").read_text()))


def _check_index(out: Path) -> None:
    records = [json.loads(line) for line in (out / "frames.jsonl").read_text().splitlines()]
    expected = [json.loads(line) for line in example.SHUTTERS.splitlines()][:3]
    for index, (record, asked) in enumerate(zip(records, expected, strict=True)):
        assert set(record) == {"index", "file", "tag", "t_a_us", "t_b_us", "row_delay_us", "window", "backend"}
        assert record["index"] == index
        assert record["file"] == f"frames/{index:06d}.png"
        assert {key: record[key] for key in asked} == asked
        assert record["backend"] == "edi"
        assert isinstance(record["window"], int)


def _check_report(report: dict[str, object]) -> None:
    assert report["config"]["plan"]["name"] == "upsample"  # type: ignore[index]
    assert report["versions"]["nire-live"]  # type: ignore[index]
    assert report["counts"]["events"] == 10  # type: ignore[index]
    assert report["counts"]["frames"] == 2  # type: ignore[index]
    assert report["counts"]["exposed"] >= 3  # type: ignore[index]
    assert report["losses"]["lost_events"] == 0  # type: ignore[index]
    assert report["losses"]["lost_frames"] == 0  # type: ignore[index]
    assert report["calibration"]["threshold_positive"] > 0  # type: ignore[index]
    assert report["damage"] is None


# Help


def test_without_a_command_the_help_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    done = call(capsys)
    text = done.out + done.err
    assert all(name.split()[0] in text for name in COMMANDS)


def test_version_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    done = call(capsys, "--version")
    assert done.code == 0
    assert re.fullmatch(r"\d+\.\d+\.\d+\S*\n", done.out)


def test_library_run_as_a_module_is_the_command() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "nire_live", "--version"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert re.fullmatch(r"\d+\.\d+\.\d+\S*\n", done.stdout)


@pytest.mark.parametrize("command", COMMANDS)
def test_help_names_options_and_defaults(capsys: pytest.CaptureFixture[str], command: str) -> None:
    done = call(capsys, *command.split(), "--help")
    assert done.code == 0
    text = re.sub(r"[│\s]+", " ", done.out)
    missing = [word for word in COMMANDS[command] if word not in text]
    assert not missing, done.out


def test_mistyped_command_names_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    done = call(capsys, "ofline")
    assert done.code == 2
    assert "offline" in done.err


# Commands that only look


STREAMS = sorted(path for path in (ROOT / "configs").glob("*.toml") if not path.name.startswith("train_"))


@pytest.mark.parametrize("config", STREAMS, ids=lambda path: path.name)
def test_every_shipped_config_is_good(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, config: Path
) -> None:
    monkeypatch.setattr("drivers.detect.missing_sdk", lambda *_, **__: "")
    done = call(capsys, "check", config, *FREE_PORTS)
    assert done.code == 0, done.err
    assert "config is good" in done.out
    assert "expected latency" in done.out


def test_check_shows_what_was_set(capsys: pytest.CaptureFixture[str]) -> None:
    done = call(capsys, "check", CONFIG, *FREE_PORTS, "--set", "plan.rate_hz=123", "--set", "plan.exposure_us=2000")
    assert "exposures of 2000 us at 123 Hz" in done.out


def test_devices_lists_every_driver_and_its_state(capsys: pytest.CaptureFixture[str]) -> None:
    done = call(capsys, "devices")
    assert done.code == 0
    for name in ("aedat4", "npz", "recording", "synthetic"):
        assert name in done.out
    assert "ready" in done.out


# Wrong use: exit code 2 and a message that helps


def refused(done: Done, *words: str) -> None:
    assert done.code == 2, done.err
    assert "Traceback" not in done.err
    for word in words:
        assert word in done.err, done.err


@pytest.mark.parametrize("command", [["offline", CONFIG], ["info"]], ids=["offline", "info"])
def test_input_that_is_no_recording_is_refused(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, out: Path, command: list[str]
) -> None:
    (tmp_path / "empty.aedat4").touch()
    (tmp_path / "text.aedat4").write_text("hello, this is no recording")
    (tmp_path / "binary.npz").write_bytes(bytes(range(256)) * 20)
    np.savez(tmp_path / "foreign.npz", a=np.zeros(3))
    more = [out] if command[0] == "offline" else []
    refused(call(capsys, *command, tmp_path / "none.aedat4", *more), "there is no file", "none.aedat4")
    refused(call(capsys, *command, tmp_path, *more), "is a folder")
    refused(call(capsys, *command, tmp_path / "empty.aedat4", *more), "is empty")
    for name in ("text.aedat4", "binary.npz", "foreign.npz"):
        refused(call(capsys, *command, tmp_path / name, *more), name, "no recording")
    assert not out.exists()


@pytest.mark.parametrize("suffix", [".aedat4", ".npz", ".mp4", ""])
def test_recording_with_a_wrong_suffix_opens(
    capsys: pytest.CaptureFixture[str], recording: Path, out: Path, suffix: str
) -> None:
    renamed = recording.rename(recording.with_name("other" + suffix))
    done = call(capsys, "offline", CONFIG, renamed, out)
    assert done.code == 0, done.err
    assert len(list((out / "frames").iterdir())) >= 20


def test_config_that_is_none_is_refused(capsys: pytest.CaptureFixture[str], recording: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken.toml"
    broken.write_text("[plan\nname = ")
    refused(call(capsys, "offline", tmp_path / "none.toml", recording, tmp_path / "o"), "none.toml", "nire-live config")
    refused(call(capsys, "offline", tmp_path, recording, tmp_path / "o"), "cannot read")
    refused(call(capsys, "offline", broken, recording, tmp_path / "o"), "broken.toml is no TOML")
    refused(call(capsys, "offline", recording, recording, tmp_path / "o"), "is no TOML")
    assert not (tmp_path / "o").exists()


def test_recording_in_the_place_of_a_config_is_said_to_be_one(
    capsys: pytest.CaptureFixture[str], recording: Path
) -> None:
    """It was: 'utf-8' codec can't decode byte."""
    refused(call(capsys, "live", recording), "is no TOML file but a recording", f"nire-live replay {recording}")


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ("plan.ratehz=800", ["plan.ratehz", "plan.rate_hz"]),
        ("rate_hz=800", ["plan.rate_hz"]),
        ("paln.rate_hz=800", ["'plan'"]),
        ("plan.rate_hz=-3", ["plan.rate_hz", "greater than 0"]),
        ("plan.name=debur", ["deblur, unroll, upsample or reshutter"]),
        ("plan.rate_hz", ["KEY=VALUE"]),
        ("=3", ["KEY=VALUE"]),
        ("nonsense", ["KEY=VALUE"]),
        ("plan=3", ["[plan]"]),
        ("plan.rate_hz.x=3", ["is a value"]),
        ("source.driver=aedat44", ["'aedat4'"]),
        ("source.driver=no.such.module", ["cannot be imported"]),
        ("source.driver=stream.cli", ["no driver", "open_source"]),
        ("source.settings.gap=none", ["no setting 'gap'"]),
        ("reconstructor.backend=eddi", ["eddi", "edi, events_only, flow, neural, passthrough"]),
        ("reconstructor.device=gpu", ["auto, cpu or cuda:N"]),
        ("publish.bind=tcp://0.0.0.0:5556", ["other machines", "nire-live keys new"]),
        ("control.bind=tcp://*:5557", ["other machines", "nire-live keys new"]),
        ("publish.bind=nonsense", ["tcp://127.0.0.1:5556"]),
        ("publish.bind=tcp://127.0.0.1:99999", ["tcp://127.0.0.1:5556"]),
        ("security.server_key=x", ["security.authorized_keys"]),
    ],
)
def test_setting_that_cannot_be_is_refused_before_anything_is_written(
    capsys: pytest.CaptureFixture[str], recording: Path, out: Path, setting: str, words: list[str]
) -> None:
    refused(call(capsys, "offline", CONFIG, recording, out, "--set", setting), *words)
    assert not out.exists()


@pytest.mark.parametrize("speed", ["fast", "0", "-1", "nan", "inf", "1e9", ""])
def test_speed_that_is_none_is_refused(capsys: pytest.CaptureFixture[str], recording: Path, speed: str) -> None:
    refused(call(capsys, "replay", CONFIG, recording, "--speed", speed), "--speed", "max")


def test_options_out_of_range_are_refused(capsys: pytest.CaptureFixture[str], recording: Path) -> None:
    refused(call(capsys, "replay", CONFIG, recording, "--seconds", "-1"), "--seconds")
    refused(call(capsys, "replay", CONFIG, recording, "--loop", "twice"), "twice")
    refused(call(capsys, "replay", CONFIG, recording, "--loop", "-2"))
    refused(call(capsys, "replay", CONFIG, recording, "--log-level", "LOUD"), "LOUD", "WARNING")
    refused(call(capsys, "replay", CONFIG), "recording")
    refused(call(capsys, "live", CONFIG), "source.driver = 'auto'", "nire-live devices")


def test_output_that_cannot_be_written_is_refused(
    capsys: pytest.CaptureFixture[str], recording: Path, tmp_path: Path
) -> None:
    for place in (recording, recording / "below", Path("/proc/nothing")):
        refused(call(capsys, "offline", CONFIG, recording, place), "cannot write", str(place))
        refused(call(capsys, "demo", "--headless", "--seconds", "1", "--out", place), "cannot write", str(place))
    refused(call(capsys, "info", recording, "--picture", tmp_path / "none" / "x.png"), "cannot write")


# Without a config


def test_recording_is_reexposed_without_a_config(
    capsys: pytest.CaptureFixture[str], recording: Path, tmp_path: Path
) -> None:
    for name, arguments in (("bare", [recording]), ("given", [CONFIG, recording])):
        done = call(capsys, "offline", *arguments, tmp_path / name, "--set", "plan.rate_hz=500")
        assert done.code == 0, done.err
    bare, given = (sorted((tmp_path / name / "frames").iterdir()) for name in ("bare", "given"))
    assert [file.read_bytes() for file in bare] == [file.read_bytes() for file in given]
    assert (tmp_path / "bare" / "frames.jsonl").read_text() == (tmp_path / "given" / "frames.jsonl").read_text()


def test_arguments_in_the_wrong_order_or_number_get_one_sentence(
    capsys: pytest.CaptureFixture[str], recording: Path, out: Path
) -> None:
    right = f"the config comes first: nire-live offline {CONFIG} {recording} {out}"
    refused(call(capsys, "offline", recording, CONFIG, out), right)
    refused(call(capsys, "offline", recording, out, CONFIG), right)
    refused(call(capsys, "offline", recording, CONFIG), f"the config comes first: nire-live offline {CONFIG}")
    refused(call(capsys, "replay", recording, CONFIG), f"first: nire-live replay {CONFIG} {recording}")
    refused(call(capsys, "offline", CONFIG, recording), "the output folder is missing after", "[CONFIG] RECORDING OUT")
    refused(call(capsys, "offline", recording), "the output folder is missing after")
    refused(call(capsys, "offline", CONFIG), "the recording is missing after")
    refused(call(capsys, "offline", CONFIG, recording, out, out), "is one argument too many")
    refused(call(capsys, "offline"), "[CONFIG] RECORDING OUT")
    refused(call(capsys, "replay"), "[CONFIG] RECORDING")
    assert not out.exists()


def test_client_commands_say_what_is_wrong(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        address = f"tcp://127.0.0.1:{unused.getsockname()[1]}"
        refused(call(capsys, "ctl", "status", "--address", address), "nobody answers", address)
        refused(call(capsys, "ctl", "--address", address, "status"), "nobody answers", address)
    refused(call(capsys, "ctl", "status", "--address", "nonsense"), "no ZMQ address")
    refused(call(capsys, "ctl", "set-plan", "nonsense"), "KEY=VALUE")
    refused(call(capsys, "ctl", "set-plan"), "KEY=VALUE")
    refused(call(capsys, "ctl", "expose"), "--t")
    refused(call(capsys, "ctl", "expose", "--t", "soon"), "--t", "number")
    refused(call(capsys, "ctl", "status", "--own-key", tmp_path / "a"), "--server-key")
    refused(call(capsys, "ctl", "--own-key", tmp_path / "a", "status"), "--server-key")
    key, other = tmp_path / "a", tmp_path / "b"
    refused(call(capsys, "ctl", "--own-key", key, "status", "--server-key", other), str(key))
    nearer = call(capsys, "ctl", "--address", "nonsense", "status", "--address", "tcp://127.0.0.1:9")
    refused(nearer, "nobody answers", "tcp://127.0.0.1:9")
    refused(call(capsys, "preview", "nonsense", "--no-open-browser"), "no ZMQ address")
    refused(call(capsys, "preview", "--bind", "here", "--no-open-browser"), "HOST:PORT")
    refused(call(capsys, "bench", "nonsense"), "end_to_end")
    refused(call(capsys, "keys", "new", "a/b", "--folder", tmp_path), "a/b")
