"""Recordings to files: every window, every query; damage, disorder and missing frames told as the contract says."""

from __future__ import annotations

import errno
import json
import logging
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from drivers.recordings.recording.source import RecordingWriter
from drivers.source import SourceInfo
from nire.errors import ConfigError, SourceError
from nire.metrics import psnr
from nire.types import EventBatch, ExposedFrame, Frame, Geometry, SourcePacket
from stream import disk
from stream.commands import offline
from stream.config import load_config
from stream.outputs.frames import FrameFolder
from tests.drivers.recordings import aedat4_writer
from tests.golden import example
from tests.stream import packets

SETTINGS = ("reconstructor.device=cpu", "source.time_offset_us=0", "reconstructor.contrast_threshold=[0.2, 0.2]")


def recorded(
    path: Path, content: Sequence[SourcePacket], *, geometry: Geometry = packets.GEOMETRY, has_frames: bool = True
) -> Path:
    with RecordingWriter(path, geometry, source=SourceInfo("test", geometry, has_frames=has_frames)) as writer:
        for packet in content:
            writer.write(packet)
    return path


def run(recording: Path, out: Path, *settings: str, **options: Any) -> int:
    return offline.run(load_config(None, [*SETTINGS, *settings]), recording, out, **options)


def images(out: Path) -> dict[str, np.ndarray]:
    return {path.name: cv2.imread(str(path), cv2.IMREAD_UNCHANGED) for path in sorted((out / "frames").iterdir())}


def records(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / "frames.jsonl").read_text().splitlines()]


def report(out: Path) -> dict[str, Any]:
    text = (out / "run.json").read_text()
    value: dict[str, Any] = json.loads(text, parse_constant=lambda word: pytest.fail(f"{word} is no JSON"))
    return value


@pytest.fixture
def recording(tmp_path: Path) -> Path:
    return recorded(tmp_path / "six.nire", packets.usual())


# Plans


@pytest.mark.parametrize(
    ("plan", "count"), [("deblur", 6), ("unroll", 6), ("upsample", 105), ("reshutter", 105)], ids=str
)
def test_every_plan_writes_all_its_frames_in_order(recording: Path, tmp_path: Path, plan: str, count: int) -> None:
    out = tmp_path / "out"
    assert run(recording, out, f"plan.name={plan}", "plan.rate_hz=500") == 0
    found = records(out)
    # Four periods and an exposure of 40 and 20 ms at 500 Hz, with both ends on the grid: 110, where all are answered.
    assert len(found) >= count
    assert [record["index"] for record in found] == list(range(len(found)))
    assert [record["file"] for record in found] == [f"frames/{name}" for name in images(out)]
    times = [record["t_a_us"] for record in found]
    assert times == sorted(set(times))
    assert {record["tag"] for record in found} == {plan}
    assert report(out)["counts"]["exposed"] == len(found)
    if plan in ("upsample", "reshutter"):
        assert {time % 2000 for time in times} == {0}
        assert set(np.diff(times)) == {2000}


@pytest.mark.parametrize(
    "setting", ["plan.exposure_us=900000", "plan.rate_hz=0.01", "plan.offset_us=900000"], ids=lambda text: text[5:]
)
def test_plan_that_makes_no_image_ends_as_a_shutter_that_nobody_answers(
    recording: Path, tmp_path: Path, setting: str, caplog: pytest.LogCaptureFixture
) -> None:
    assert (
        run(recording, tmp_path / "out", "plan.name=" + ("deblur" if "offset" in setting else "upsample"), setting) == 3
    )
    assert records(tmp_path / "out") == []
    assert caplog.text.count("makes no image of any window") == 1


def test_plan_of_which_images_reach_out_of_their_windows_says_how_many(
    recording: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert run(recording, tmp_path / "out", "plan.exposure_us=60000", "plan.rate_hz=250") == 3
    written = records(tmp_path / "out")
    told = json.loads((tmp_path / "out" / "run.json").read_text())["losses"]["uncovered"]
    holes = [round((b["t_a_us"] - a["t_a_us"]) / 4000) - 1 for a, b in pairwise(written)]
    assert 0 < sum(holes) <= told <= sum(holes) + 5
    assert f"{told} of " in caplog.text


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (["reconstructor.backend=edi"], "made by edi\n"),
        (
            ["reconstructor.backend=neural", "reconstructor.engine=eager"],
            "made by neural, weights nano, engine eager\n",
        ),
    ],
)
def test_method_and_weights_that_were_used_are_said(
    recording: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], settings: list[str], words: str
) -> None:
    assert run(recording, tmp_path / "out", "plan.name=deblur", *settings) == 0
    assert words in capsys.readouterr().out


def test_deblur_is_one_instant_in_the_middle_of_each_captured_frame(recording: Path, tmp_path: Path) -> None:
    assert run(recording, tmp_path / "out", "plan.name=deblur") == 0
    middles = [frame.mid_us for frame in packets.frames()]
    assert [(r["t_a_us"], r["t_b_us"]) for r in records(tmp_path / "out")] == [(t, t) for t in middles]


def test_two_runs_give_the_same_files(recording: Path, tmp_path: Path) -> None:
    for name in ("a", "b"):
        assert run(recording, tmp_path / name) == 0
    first, second = images(tmp_path / "a"), images(tmp_path / "b")
    assert first.keys() == second.keys()
    assert all((first[name] == second[name]).all() for name in first)
    assert records(tmp_path / "a") == records(tmp_path / "b")


def files(out: Path) -> set[str]:
    return {str(path.relative_to(out)) for path in out.rglob("*") if path.is_file()}


def test_only_the_files_of_an_earlier_run_are_replaced(recording: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert run(recording, out, "plan.rate_hz=500", outputs=["video"]) == 0
    assert run(recording, out, "plan.name=deblur") == 0
    assert files(out) == {"run.json", "frames.jsonl", *(f"frames/{n:06d}.png" for n in range(6))}
    assert report(out)["state"] == "done"


@pytest.mark.parametrize("name", ["frames/000003.png", "frames/900000.png", "frames.jsonl", "run.json", "notes.txt"])
def test_files_of_somebody_else_are_refused_and_kept_even_when_overwriting(
    recording: Path, tmp_path: Path, name: str
) -> None:
    out = tmp_path / "out"
    (out / "frames").mkdir(parents=True)
    (out / name).write_text('{"state": "done", "versions": {"other": 1}, "file": "frames/000003.png"}')
    with pytest.raises(ConfigError, match=rf"no run of 'offline' wrote: {name}.*--overwrite"):
        run(recording, out, "plan.name=deblur")
    assert files(out) == {name}
    assert run(recording, out, "plan.name=deblur", overwrite=True) == 0
    written = {"run.json", "frames.jsonl", *(f"frames/{n:06d}.png" for n in range(6))}
    assert files(out) == written | {name}
    assert ((out / name).read_bytes().startswith(b'{"state": "done", "versions"')) == (name not in written)


def test_folder_of_somebody_else_with_the_name_of_ours_is_kept(recording: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert run(recording, out, "plan.name=deblur") == 0
    (out / "earlier").mkdir()
    (out / "earlier" / "run.json").write_text("mine")
    assert run(recording, out, "plan.name=deblur", overwrite=True) == 0
    assert (out / "earlier" / "run.json").read_text() == "mine"
    assert len(records(out)) == 6


@pytest.mark.parametrize("moved", [0, 1, 3, 6, 7])
def test_run_that_was_killed_while_setting_aside_the_one_before_loses_nothing_of_it(
    recording: Path, tmp_path: Path, moved: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    assert run(recording, out, "plan.name=deblur") == 0
    whole = images(out)
    with monkeypatch.context() as patch:
        put, left = Path.replace, [moved]

        def until_killed(path: Path, target: Path) -> Path:
            if not left[0]:
                raise KeyboardInterrupt
            left[0] -= 1
            return put(path, target)

        patch.setattr(Path, "replace", until_killed)
        with pytest.raises(KeyboardInterrupt):
            run(recording, out, "plan.name=deblur")
    with monkeypatch.context() as patch:
        patch.setattr(offline.FrameFolder, "write", lambda *_, **__: (_ for _ in ()).throw(ConfigError("full")))
        with pytest.raises(ConfigError, match="full"):
            run(recording, out, "plan.name=deblur")
    assert images(out / "earlier").keys() == whole.keys()
    assert report(out / "earlier")["state"] == "done"
    assert run(recording, out, "plan.name=deblur") == 0
    assert files(out) == {"run.json", "frames.jsonl", *(f"frames/{name}" for name in whole)}


def test_file_of_an_earlier_run_that_names_others_leads_nowhere(recording: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert run(recording, out, "plan.name=deblur") == 0
    (tmp_path / "precious.txt").write_text("mine")
    told = report(out) | {"files": ["../precious.txt", "frames", "/etc/hostname", 3]}
    (out / "run.json").write_text(json.dumps(told))
    with (out / "frames.jsonl").open("a") as lines:
        lines.write(json.dumps({"file": "../precious.txt"}) + "\n")
    assert run(recording, out, "plan.name=deblur") == 0
    assert (tmp_path / "precious.txt").read_text() == "mine"
    (out / "run.json").write_text('{"made_by": "nire-live", "files": 7, "versions": 7}')
    assert run(recording, out, "plan.name=deblur") == 0


def test_run_that_breaks_off_leaves_what_it_had_and_the_run_before_it(
    recording: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert run(recording, out, "plan.name=deblur") == 0
    whole = images(out)
    written = offline.FrameFolder.write

    def until_full(folder: FrameFolder, frame: ExposedFrame, *, index: int) -> None:
        if index == 3:
            raise disk.refused(OSError(errno.ENOSPC, "No space left on device"), out)
        written(folder, frame, index=index)

    with monkeypatch.context() as patch:
        patch.setattr(offline.FrameFolder, "write", until_full)
        with pytest.raises(ConfigError, match=r"No space left on device. Free some room"):
            run(recording, out, "plan.rate_hz=500")
    assert "unfinished: 3 exposed frames so far" in capsys.readouterr().err
    assert [record["file"] for record in records(out)] == [f"frames/{name}" for name in images(out)]
    assert len(images(out)) == 3
    assert report(out)["state"] == "unfinished"
    before = images(out / "earlier")
    assert before.keys() == whole.keys()
    assert all((before[name] == whole[name]).all() for name in whole)
    assert run(recording, out, "plan.name=deblur") == 0
    assert files(out) == {"run.json", "frames.jsonl", *(f"frames/{name}" for name in whole)}


def test_colour_frames_come_out_in_colour(tmp_path: Path) -> None:
    geometry = Geometry(16, 12, 3)
    pixels = np.zeros((12, 16, 3), np.uint8)
    pixels[..., 0], pixels[..., 2] = 200, 30
    content = [EventBatch.empty(0)]
    for i in range(2):
        content += [EventBatch.empty(i * 40_000 + 20_000), Frame(i, pixels, i * 40_000, i * 40_000 + 20_000)]
    path = recorded(tmp_path / "colour.nire", content, geometry=geometry)
    assert run(path, tmp_path / "out", "plan.name=deblur") == 0
    for image in images(tmp_path / "out").values():
        assert (image[..., ::-1] == pixels).all()


def film(path: Path) -> tuple[int, float, tuple[int, int]]:
    """Images, images a second, and (width, height)."""
    video = cv2.VideoCapture(str(path))
    count, size = 0, (0, 0)
    while (result := video.read())[0]:
        count, size = count + 1, (result[1].shape[1], result[1].shape[0])
    rate_hz = video.get(cv2.CAP_PROP_FPS)
    video.release()
    return count, rate_hz, size


def test_films_are_written_beside_the_frames_and_their_pace_is_said(
    recording: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert run(recording, out, "plan.rate_hz=500", outputs=["video", "beside", "gif"]) == 0
    count, height, width = len(records(out)), packets.GEOMETRY.height // 2 * 2, packets.GEOMETRY.width // 2 * 2
    assert film(out / "video.mp4") == (count, 30, (width, height))
    assert film(out / "beside.mp4") == (count, 30, (2 * packets.GEOMETRY.width + 4, height))
    told = capsys.readouterr().out
    assert f"{count} images in {out / 'video.mp4'}, 30 images a second, 16.7 times slower" in told
    assert (out / "video.gif").read_bytes().startswith(b"GIF89a")
    assert run(recording, out, "plan.name=deblur", outputs=["video"]) == 0
    assert film(out / "video.mp4")[:2] == (6, 25)
    assert "25 images a second, real time" in capsys.readouterr().out
    assert run(recording, out, "plan.name=deblur", outputs=["video"], fps=50) == 0
    assert film(out / "video.mp4")[:2] == (6, 50)
    assert "2 times faster" in capsys.readouterr().out
    assert not (out / "beside.mp4").exists()


def test_shutters_are_filmed_too(tmp_path: Path) -> None:
    recording = example.write_recording(tmp_path / "golden.nire")
    shutters = tmp_path / "s.jsonl"
    shutters.write_text("".join(json.dumps({"t_a_us": t, "t_b_us": t}) + "\n" for t in range(0, 60_000, 10_000)))
    assert run(recording, tmp_path / "out", shutters=shutters, outputs=["video"]) == 0
    assert film(tmp_path / "out" / "video.mp4")[0] == 6


# Shutters


def test_own_shutter_of_every_frame_gives_the_frame(recording: Path, tmp_path: Path) -> None:
    asked = [
        {"t_a_us": frame.exposure_start_us, "t_b_us": frame.exposure_end_us, "tag": "own"} for frame in packets.frames()
    ]
    shutters = tmp_path / "own.jsonl"
    shutters.write_text("\n".join(map(json.dumps, asked)))
    assert run(recording, tmp_path / "out", shutters=shutters) == 0
    found = images(tmp_path / "out")
    for frame, image in zip(packets.frames(), found.values(), strict=True):
        assert psnr(image[..., None], frame.pixels) >= 50


def test_shutters_are_answered_in_any_order_and_twice(tmp_path: Path) -> None:
    recording = example.write_recording(tmp_path / "golden.nire")
    shutters = tmp_path / "s.jsonl"
    times = [60_000, 0, 30_000, 30_000, -5000, 65_000]
    shutters.write_text("".join(json.dumps({"t_a_us": t, "t_b_us": t}) + "\n" for t in times))
    assert run(recording, tmp_path / "out", shutters=shutters) == 0
    found = records(tmp_path / "out")
    assert [(record["index"], record["t_a_us"], record["tag"]) for record in found] == [
        (index, t, "") for index, t in enumerate(times)
    ]
    pictures = images(tmp_path / "out")
    assert (pictures["000002.png"] == pictures["000003.png"]).all()


@pytest.mark.parametrize("t_us", [-5001, 65_001, -1e15, 1e18])
def test_shutter_just_outside_gets_no_frame_and_the_rest_is_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], t_us: float
) -> None:
    recording = example.write_recording(tmp_path / "golden.nire")
    shutters = tmp_path / "s.jsonl"
    shutters.write_text(f'{{"t_a_us": {t_us}, "t_b_us": {t_us}}}\n{{"t_a_us": 1, "t_b_us": 2}}\n')
    assert run(recording, tmp_path / "out", shutters=shutters) == 3
    error = capsys.readouterr().err
    assert "line 1" in error
    assert "line 2" not in error
    assert "[-5000, 65000]" in error
    assert list(images(tmp_path / "out")) == ["000001.png"]


def test_rows_of_a_rolling_shutter_that_leave_the_covered_span_are_not_answered(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recording = example.write_recording(tmp_path / "golden.nire")
    shutters = tmp_path / "s.jsonl"
    # 79 rows below the first: the last row is at 65,000 with the first delay, a microsecond later with the second.
    shutters.write_text(
        '{"t_a_us": 57100, "t_b_us": 57100, "row_delay_us": 100}\n'
        '{"t_a_us": 57101, "t_b_us": 57101, "row_delay_us": 100}\n'
    )
    assert run(recording, tmp_path / "out", shutters=shutters) == 3
    assert "line 2" in capsys.readouterr().err
    assert list(images(tmp_path / "out")) == ["000000.png"]


def test_shutter_wider_than_any_window_says_so(
    recording: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutters = tmp_path / "s.jsonl"
    first, last = packets.frames()[0], packets.frames()[-1]
    shutters.write_text(json.dumps({"t_a_us": first.exposure_start_us, "t_b_us": last.exposure_end_us}))
    assert run(recording, tmp_path / "out", shutters=shutters) == 3
    width_us = last.exposure_end_us - first.exposure_start_us
    assert f"with all its rows it is {width_us} us wide, and no window is wider than" in capsys.readouterr().err


def test_bad_shutters_file_is_refused_before_anything_is_made(recording: Path, tmp_path: Path) -> None:
    shutters = tmp_path / "s.jsonl"
    shutters.write_text('{"t_a_us": 1, "t_b_us": 2}\n{"t_a_us": 2, "t_b_us": 1}\n')
    with pytest.raises(ConfigError, match="line 2: t_b_us = 1 lies before"):
        run(recording, tmp_path / "out", shutters=shutters)
    assert not (tmp_path / "out").exists()


# Damage


def test_everything_before_the_damage_of_an_aedat4_file_is_delivered(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pixels = np.full((24, 32), 100, np.uint8)
    content = []
    for i in range(5):
        content.append((0, aedat4_writer.event_packet(range(i * 40_000, i * 40_000 + 39_000, 1000))))
        frame = aedat4_writer.frame_packet(pixels, i * 40_000, exposure=(i * 40_000, i * 40_000 + 20_000))
        content.append((1, frame))
    path = tmp_path / "whole.aedat4"
    aedat4_writer.write(path, content)
    assert run(path, tmp_path / "whole", "plan.name=deblur") == 0
    data = path.read_bytes()
    cut = tmp_path / "cut.aedat4"
    cut.write_bytes(data[: len(data) - 60])
    capsys.readouterr()
    assert run(cut, tmp_path / "cut", "plan.name=deblur") == 4
    error = capsys.readouterr().err
    assert "damaged" in error
    assert "at byte" in error
    whole, before = images(tmp_path / "whole"), images(tmp_path / "cut")
    assert 3 <= len(before) <= len(whole) == 5
    assert all((whole[name] == before[name]).all() for name in list(before)[:-1])
    assert "byte" in report(tmp_path / "cut")["damage"]


@pytest.mark.parametrize("share", [0.3, 0.6, 0.95])
def test_damaged_recording_gives_what_came_before_with_shutters_too(
    recording: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], share: float
) -> None:
    cut = tmp_path / "cut.nire"
    data = recording.read_bytes()
    cut.write_bytes(data[: int(len(data) * share)])
    shutters = tmp_path / "s.jsonl"
    first = packets.frames()[0]
    own = {"t_a_us": first.exposure_start_us, "t_b_us": first.exposure_end_us}
    shutters.write_text(json.dumps(own) + '\n{"t_a_us": 9e9, "t_b_us": 9e9}\n')
    assert run(cut, tmp_path / "out", shutters=shutters) == 4
    assert "line 2" in capsys.readouterr().err
    assert list(images(tmp_path / "out")) == ["000000.png"]


# No frames, one frame


def test_recording_without_frames_says_so_and_what_can_be_done(tmp_path: Path) -> None:
    for announced in (True, False):
        path = recorded(tmp_path / f"{announced}.nire", [packets.events()], has_frames=announced)
        with pytest.raises(SourceError, match=r"no frames.*events_only") as refusal:
            run(path, tmp_path / "out", "reconstructor.backend=edi")
        assert refusal.value.exit_code == 2


def test_single_frame_is_answered_alone_and_said_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    content = [packet for packet in packets.usual() if not (isinstance(packet, Frame) and packet.index > 0)]
    path = recorded(tmp_path / "one.nire", content)
    with caplog.at_level(logging.INFO):
        assert run(path, tmp_path / "out", "plan.rate_hz=1000") == 0
    assert len(records(tmp_path / "out")) >= 20
    assert sum("single" in message for message in caplog.messages) == 1


def test_recording_without_events_still_gives_frames(tmp_path: Path) -> None:
    path = recorded(tmp_path / "frames.nire", packets.frames())
    assert run(path, tmp_path / "out", "plan.name=deblur") == 0
    for frame, image in zip(packets.frames(), images(tmp_path / "out").values(), strict=True):
        assert np.abs(image.astype(int) - frame.pixels[..., 0]).max() <= 1


# Disorder


def _moved(batch: EventBatch, rows: slice, **columns: Any) -> EventBatch:
    arrays = {name: getattr(batch, name).copy() for name in ("t_us", "x", "y", "p")}
    for name, change in columns.items():
        arrays[name][rows] = change(arrays[name][rows])
    return EventBatch(**arrays, watermark_us=batch.watermark_us)


def _with(change: Any) -> list[SourcePacket]:
    """The usual packets, one batch of the middle changed."""
    content: list[SourcePacket] = list(packets.usual())
    at = next(i for i in range(len(content) // 2, len(content)) if isinstance(content[i], EventBatch))
    content[at] = change(content[at])
    return content


def test_events_a_little_out_of_order_are_clamped_and_counted(tmp_path: Path) -> None:
    content = _with(lambda batch: _moved(batch, slice(20, 25), t_us=lambda t: t - 400))
    assert run(recorded(tmp_path / "a.nire", content), tmp_path / "out") == 0
    losses = report(tmp_path / "out")["losses"]
    assert losses["events_clamped"] >= 5
    assert losses["clock_resets"] == 0


def test_clock_that_goes_back_further_is_a_new_epoch_and_the_run_goes_on(tmp_path: Path) -> None:
    first, second = packets.usual(), packets.usual()  # the same clock readings twice
    assert run(recorded(tmp_path / "a.nire", [*first, *second]), tmp_path / "out", "plan.name=deblur") == 0
    losses = report(tmp_path / "out")["losses"]
    assert losses["clock_resets"] == 1
    found = images(tmp_path / "out")
    assert len(found) == 12
    names = list(found)
    for a, b in zip(names[:6], names[6:], strict=True):
        assert (found[a] == found[b]).all()


def test_few_events_off_the_sensor_are_dropped_and_counted(tmp_path: Path) -> None:
    content = _with(lambda batch: _moved(batch, slice(0, 3), x=lambda x: x + 5000))
    assert run(recorded(tmp_path / "a.nire", content), tmp_path / "out") == 0
    assert report(tmp_path / "out")["losses"]["events_outside"] == 3


def test_many_events_off_the_sensor_are_damage(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    content = _with(lambda batch: _moved(batch, slice(0, 90), y=lambda y: y + 500))
    assert run(recorded(tmp_path / "a.nire", content), tmp_path / "out") == 4
    assert "outside the sensor" in capsys.readouterr().err
    assert records(tmp_path / "out")


# Configs that belong to something else


def test_config_of_a_camera_plays_a_recording(recording: Path, tmp_path: Path) -> None:
    camera = ("source.driver=synthetic", "source.settings.frame_rate_hz=30")
    assert run(recording, tmp_path / "camera", *camera) == 0
    assert run(recording, tmp_path / "auto") == 0
    assert records(tmp_path / "camera") == records(tmp_path / "auto")


def test_driver_that_reads_another_format_is_refused(recording: Path, tmp_path: Path) -> None:
    for driver in ("aedat4", "npz"):
        with pytest.raises(SourceError, match=f"(?i)is no {driver} recording") as refusal:
            run(recording, tmp_path / "out", f"source.driver={driver}")
        assert refusal.value.exit_code == 2
    assert not (tmp_path / "out").exists()
