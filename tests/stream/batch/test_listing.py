"""Which recordings a batch is of, and what their folders are called."""

from __future__ import annotations

from pathlib import Path

import pytest

from nire.errors import ConfigError
from stream.batch.listing import Item, listed
from tests.golden import example


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "in").mkdir()
    for name in ("b.nire", "a.nire"):
        example.write_recording(tmp_path / "in" / name)
    return tmp_path / "in"


def names(place: Path | str, folder: Path) -> list[str]:
    return [item.name for item in listed([Path(place)], beside=folder.parent / "out")]


def test_folder_gives_its_recordings_and_damaged_ones_but_nothing_else(folder: Path) -> None:
    (folder / "notes.txt").write_text("the second one is best")
    (folder / "zeros.nire").write_bytes(bytes(100))
    (folder / "empty.aedat4").touch()
    (folder / "pictures").mkdir()
    assert names(folder, folder) == ["a", "b", "empty", "zeros"]


def test_output_folder_within_the_folder_is_no_recording(folder: Path) -> None:
    out = folder / "out.nire"
    example.write_recording(out)
    assert [item.name for item in listed([folder], beside=out)] == ["a", "b"]


def test_glob_gives_what_it_matches_in_order(folder: Path) -> None:
    (folder / "deep").mkdir()
    example.write_recording(folder / "deep" / "c.nire")
    assert names(f"{folder}/*.nire", folder) == ["a", "b"]
    assert names(f"{folder}/**/*.nire", folder) == ["a", "b", "c"]


def test_manifest_gives_paths_and_overrides_and_keeps_what_is_not_there(folder: Path) -> None:
    manifest = folder / "list.txt"
    manifest.write_text(
        "# the good ones\n\n"
        "b.nire\n"
        '  a.nire {"plan.rate_hz": 500, "reconstructor": {"backend": "edi", "contrast_threshold": [0.2, 0.2]}}  \n'
        f"{folder}/with a space.nire\n"
    )
    assert listed([manifest], beside=folder / "out") == [
        Item(folder / "b.nire", "b"),
        Item(
            folder / "a.nire",
            "a",
            ("plan.rate_hz=500", 'reconstructor.backend="edi"', "reconstructor.contrast_threshold=[0.2, 0.2]"),
        ),
        Item(folder / "with a space.nire", "with a space"),
    ]


def test_paths_of_a_manifest_are_found_beside_it_or_where_the_command_is_called(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    manifest = tmp_path / "list.txt"
    manifest.write_text("a.nire\nin/b.nire\n")
    assert [item.recording.resolve() for item in listed([manifest], beside=tmp_path / "out")] == [
        folder / "a.nire",
        folder / "b.nire",
    ]


@pytest.mark.parametrize("line", ['a.nire {"plan.rate_hz": }', "a.nire {plan.rate_hz=500}"])
def test_manifest_with_overrides_that_are_no_json_names_its_line(folder: Path, line: str) -> None:
    manifest = folder / "list.txt"
    manifest.write_text(f"b.nire\n{line}\n")
    with pytest.raises(ConfigError, match=r"list.txt, line 2: .* is no JSON object of overrides"):
        listed([manifest], beside=folder / "out")


def test_recordings_of_one_name_get_folders_of_their_own(folder: Path) -> None:
    other = folder / "other"
    other.mkdir()
    for name in ("a.nire", "a.raw", "b-2.nire"):
        example.write_recording(other / name)
    manifest = folder / "list.txt"
    manifest.write_text("a.nire\nother/a.nire\nother/a.raw\nb.nire\nother/b-2.nire\n")
    assert names(manifest, folder) == ["in-a.nire", "other-a.nire", "a.raw", "b", "b-2"]
    manifest.write_text('b.nire\nb.nire {"plan.rate_hz": 500}\n')
    first, second = names(manifest, folder)
    assert first != second


def test_nothing_to_do_is_refused(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "no.txt").write_bytes(b"\xff\xfe\x00")
    for place, words in (
        ("empty", "there are no recordings in"),
        ("*.raw", "there are no recordings in"),
        ("gone", "there is no .*gone"),
        ("no.txt", "neither a recording nor a manifest"),
    ):
        with pytest.raises(ConfigError, match=words):
            listed([tmp_path / place], beside=tmp_path / "out")
