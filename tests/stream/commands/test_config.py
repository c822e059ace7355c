"""`nire-live config`: what comes along is listed, and printed as it is."""

from __future__ import annotations

from pathlib import Path

import pytest

from nire import install
from stream.commands import config
from tests.stream.command import ROOT, call

FILES = sorted((ROOT / "configs").glob("*.toml"))


def test_every_config_is_listed_with_what_it_is_for(capsys: pytest.CaptureFixture[str]) -> None:
    done = call(capsys, "config")
    assert done.code == 0, done.err
    lines = done.out.splitlines()
    assert [line.split()[0] for line in lines] == [path.stem for path in FILES]
    for line in lines:
        said = line.partition(" ")[2].strip()
        assert said[0].isupper()
        assert said.endswith((".", ")")), f"the first line of {line.split()[0]} is no sentence of its own: {said}"
        assert len(line) <= 120


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
@pytest.mark.parametrize("suffix", ["", ".toml"])
def test_config_is_printed_as_it_is(capsys: pytest.CaptureFixture[str], path: Path, suffix: str) -> None:
    done = call(capsys, "config", path.stem + suffix)
    assert done.code == 0, done.err
    assert done.out == path.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("davis364", "did you mean 'davis346'?"),
        ("evk4.tml", "did you mean 'evk4'?"),
        ("zz", "there are davis346"),
    ],
)
def test_unknown_name_is_refused_with_the_nearest(capsys: pytest.CaptureFixture[str], name: str, words: str) -> None:
    done = call(capsys, "config", name)
    assert done.code == 2
    assert f"there is no config {name!r}" in done.err
    assert words in done.err
    assert done.out == ""


def test_installed_package_reads_its_own_copy(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(install, "__file__", str(tmp_path / "nire" / "install.py"))
    monkeypatch.setattr(config, "__file__", str(tmp_path / "stream" / "commands" / "config.py"))
    (tmp_path / "stream" / "_configs").mkdir(parents=True)
    (tmp_path / "stream" / "_configs" / "mine.toml").write_text("[plan]\n\n# For me:\n#   and more\n", encoding="utf-8")
    assert call(capsys, "config").out == "mine  For me\n"
