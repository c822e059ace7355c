"""Several cameras on one machine: names, and what their configurations agree on."""

from __future__ import annotations

from pathlib import Path

import pytest

from nire.errors import ConfigError
from stream.cameras import OF_THE_MACHINE, camera_names, load_cameras
from stream.config import DEFAULTS_VARIABLE, Config, load_config
from tests.stream.command import FREE_PORTS, call

CAMERA = '[source]\ndriver = "synthetic"\n'


@pytest.fixture(autouse=True)
def _shipped_defaults(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(DEFAULTS_VARIABLE, raising=False)


def write(folder: Path, **texts: str) -> list[Path]:
    """A file for each name, with its text."""
    paths = [folder / f"{name}.toml" for name in texts]
    for path, text in zip(paths, texts.values(), strict=True):
        path.write_text(text, encoding="utf-8")
    return paths


def faults_of(*paths: Path, overrides: tuple[str, ...] = ()) -> list[str]:
    with pytest.raises(ConfigError) as refused:
        load_cameras(paths, overrides)
    return str(refused.value).splitlines()


def test_camera_is_called_by_its_source_name_else_by_its_file(tmp_path: Path) -> None:
    configs = load_cameras(write(tmp_path, left=CAMERA, b=f'{CAMERA}name = "right"\n'))
    assert camera_names(configs) == ("left", "right")
    assert [config.stream_name for config in configs] == ["left", "right"]


def test_camera_alone_has_the_config_of_its_file_and_no_name(tmp_path: Path) -> None:
    (path,) = write(tmp_path, left=CAMERA)
    configs = load_cameras([path], ["plan.rate_hz=100"])
    assert configs == (load_config(path, ["plan.rate_hz=100"]),)
    assert camera_names(configs) == ("",)


def test_two_cameras_of_one_name_are_refused_with_both_files(tmp_path: Path) -> None:
    paths = write(tmp_path, a=f'{CAMERA}name = "same"\n', same=CAMERA)
    (fault,) = faults_of(*paths)
    assert all(str(path) in fault for path in paths)
    assert "'same'" in fault
    assert "source.name" in fault


def test_file_that_is_given_twice_is_refused(tmp_path: Path) -> None:
    (path,) = write(tmp_path, a=CAMERA)
    assert faults_of(path, path) == [f"{path} is given more than once: a camera has a file of its own"]


@pytest.mark.parametrize("name", ["my camera", "frame", "..", "ünder", "x" * 65])
def test_name_that_is_no_topic_is_refused(tmp_path: Path, name: str) -> None:
    good, bad = write(tmp_path, **{"good": CAMERA, name: CAMERA})
    (fault,) = faults_of(good, bad)
    assert str(bad) in fault
    assert repr(name) in fault
    assert "source.name" in fault


@pytest.mark.parametrize(
    ("key", "values"),
    [
        ("reconstructor.device", ('"cpu"', '"cuda"')),
        ("publish.bind", ('"tcp://127.0.0.1:6000"', '"tcp://127.0.0.1:6001"')),
        ("control.bind", ('"tcp://127.0.0.1:6000"', '"tcp://127.0.0.1:6001"')),
        ("preview.fps", ("20.0", "25.0")),
    ],
)
def test_files_that_disagree_about_the_machine_are_refused_with_key_values_and_files(
    tmp_path: Path, key: str, values: tuple[str, str]
) -> None:
    section, _, name = key.partition(".")
    left, right = (f"{CAMERA}[{section}]\n{name} = {value}\n" for value in values)
    paths = write(tmp_path, left=left, right=right, third=CAMERA)
    (fault,) = faults_of(*paths)
    assert fault.startswith(key)
    assert all(value.replace('"', "'") in fault for value in values)
    assert [str(path) in fault for path in paths] == [True, True, False]


def test_what_one_file_states_of_the_machine_holds_for_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(DEFAULTS_VARIABLE, "reconstructor.device=cuda preview.fps=12")
    stated = '[publish]\nbind = "tcp://127.0.0.1:6000"\n[reconstructor]\ndevice = "cpu"\n'
    configs = load_cameras(write(tmp_path, left=CAMERA, right=CAMERA + stated))
    assert [config.publish.bind for config in configs] == ["tcp://127.0.0.1:6000"] * 2
    assert [config.reconstructor.device for config in configs] == ["cpu"] * 2
    assert [config.preview.fps for config in configs] == [12, 12]


def test_what_is_of_a_camera_may_differ_and_overrides_hold_for_all(tmp_path: Path) -> None:
    left, right = f"{CAMERA}[plan]\nrate_hz = 100\n", f"{CAMERA}[plan]\nrate_hz = 200\n"
    configs = load_cameras(
        write(tmp_path, left=left, right=right), ["reconstructor.backend=edi", "control.bind=ipc:///c"]
    )
    assert [config.plan.rate_hz for config in configs] == [100, 200]
    assert {(config.reconstructor.backend, config.control.bind) for config in configs} == {("edi", "ipc:///c")}


def test_keys_of_the_machine_exist() -> None:
    for key in OF_THE_MACHINE:
        section, _, name = key.partition(".")
        assert name in type(getattr(Config(), section)).model_fields


def test_clock_that_is_nobodys_own_is_refused(tmp_path: Path) -> None:
    paths = write(tmp_path, a=f'{CAMERA}clock_of = "b"\n', b=f'{CAMERA}clock_of = "a"\n', c=CAMERA)
    assert [str(path) in fault for path, fault in zip(paths, faults_of(*paths), strict=False)] == [True, True]
    good = write(tmp_path, a=CAMERA, b=f'{CAMERA}clock_of = "a"\n', c=f'{CAMERA}clock_of = "a"\n')
    assert [config.source.clock_of for config in load_cameras(good)] == ["", "a", "a"]


@pytest.mark.parametrize("driver", ["davis346", "neuromorphic", "metavision"])
def test_two_files_that_open_one_device_are_refused(tmp_path: Path, driver: str) -> None:
    text = f'[source]\ndriver = "{driver}"\n'
    paths = write(tmp_path, left=text, right=text)
    (fault,) = faults_of(*paths)
    assert driver in fault
    assert "source.settings.serial" in fault
    assert all(str(path) in fault for path in paths)
    apart = write(tmp_path, left=f'{text}settings.serial = "1"\n', right=f'{text}settings.serial = "2"\n')
    assert camera_names(load_cameras(apart)) == ("left", "right")


def test_check_tells_the_faults_of_all_cameras_together(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    left = f"{CAMERA}[reconstructor]\nbackend = 'no_such'\n"
    right = f"{CAMERA}settings.no_such_setting = 1\n"
    done = call(capsys, "check", *write(tmp_path, left=left, right=right), *FREE_PORTS)
    assert done.code == 2
    lines = done.err.splitlines()
    assert any("left: " in line and "'no_such'" in line for line in lines)
    assert any("right: " in line and "no_such_setting" in line for line in lines)


def test_check_prints_each_camera_and_the_memory_of_all(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plain = f"{CAMERA}[reconstructor]\nbackend = 'edi'\n[ring]\nseconds = 0.1\n"
    done = call(capsys, "check", *write(tmp_path, left=plain, right=plain), *FREE_PORTS)
    assert done.code == 0, done.err
    assert "2 cameras under one supervisor" in done.out
    assert "left, right" in done.out
    assert done.out.count("config is good") == 2
