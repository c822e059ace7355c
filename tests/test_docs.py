"""The documents tell the truth: links lead somewhere, examples run, names exist, tables are those of the code."""

from __future__ import annotations

import importlib
import re
import sys
import tomllib
import typing
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
from pydantic import BaseModel

from drivers.cameras.synthetic import open_source as open_camera
from drivers.packets.cleaning import cleaned
from drivers.recordings.recording.source import RecordingWriter
from nire.errors import ConfigError, DeviceLost, DeviceNotFound, NireError, ShutterOutsideWindow
from nire.metrics import psnr
from nire.shutter import Shutter
from nire.types import EventBatch, ExposedFrame, Film, Frame, Gap, Query
from stream.backends import open_reconstructor
from stream.commands import command_names
from stream.config import Config, load_config
from stream.session.session import Session
from stream.sources import SourceOrder, open_source
from stream.windows.policies import policy_names
from tests.contract import test_sources as contract
from tests.nire.windows import random_events, random_frame, window_of
from tests.stream import packets

ROOT = Path(__file__).resolve().parents[1]
DOCUMENTS = sorted((ROOT / "docs").glob("*.md"))
PAGES = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md")),
    *DOCUMENTS,
    ROOT / "examples" / "README.md",
    *sorted((ROOT / "nire" / "weights").glob("*.md")),
]
CODE = re.compile(r'^```(\w*)(?: title="(\S+)")?\n(.*?)^```$', re.MULTILINE | re.DOTALL)
FILE = re.compile(r"`((?:nire|drivers|stream|tests|benchmarks|examples|configs|docs)/[\w/.-]+\.\w+)`")


def _identify(path: Path) -> str:
    return path.name


def _text(name: str) -> str:
    return (ROOT / "docs" / name).read_text(encoding="utf-8")


def _prose(text: str) -> str:
    return CODE.sub("", text)


# Links and names


@pytest.mark.parametrize("document", DOCUMENTS, ids=_identify)
def test_links_lead_to_files_and_headings_that_exist(document: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", _prose(document.read_text(encoding="utf-8"))):
        if "://" in target:
            continue
        name, _, heading = target.partition("#")
        file = (document.parent / name).resolve() if name else document
        assert file.exists(), f"{document.name} links to {target}"
        if heading:
            assert heading in _headings(file), f"{document.name} links to {target}"


def _headings(file: Path) -> set[str]:
    lines = re.findall(r"^#+ (.*)$", _prose(file.read_text(encoding="utf-8")), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", line.lower()).replace(" ", "-") for line in lines}


@pytest.mark.parametrize("document", PAGES, ids=_identify)
def test_files_that_are_named_exist(document: Path) -> None:
    invented = {"drivers/cameras/mycam.py", "nire/backends/mine.py", "stream/outputs/NAME.py"}
    named = set(FILE.findall(document.read_text(encoding="utf-8"))) - invented
    assert not [name for name in named if not (ROOT / name).exists()]


def test_every_folder_of_the_packages_has_its_line_in_the_architecture() -> None:
    folders = _text("architecture.md").partition("## Folders")[2].partition("\n## ")[0]
    listed = set(re.findall(r"^\| `([\w/]+)/` \|", folders, re.MULTILINE))
    packages = {path.parent for name in ("nire", "drivers", "stream") for path in (ROOT / name).rglob("__init__.py")}
    assert listed == {package.relative_to(ROOT).as_posix() for package in packages}


def test_functions_of_the_paper_map_exist() -> None:
    rows = re.findall(r"^\| (?:Eq\.|Sec\.|Table) .*\|$", _text("paper-map.md"), re.MULTILINE)
    pairs = [pair for row in rows for pair in re.findall(r"`(\w+(?:/\w+)+)\.py` ((?:`[\w.]+`(?:, )?)+)", row)]
    assert len(pairs) > len(rows) > 30
    for module, names in pairs:
        for name in re.findall(r"`([\w.]+)`", names):
            value: Any = importlib.import_module(module.replace("/", "."))
            for part in name.split("."):
                value = getattr(value, part)


# Language

# Words that tell how it was, which only the changelog does. "before" and "yet" are left out: they also order things in
# time and say what is missing.
HISTORY = re.compile(
    r"\b(now|nowadays|formerly|previously|originally|no longer|so far|until now|as (?:it was|before|ever)|than before"
    r"|(?:first|earlier|old) design|(?<!is )(?<!are )(?<!be )used to)\b",
    re.IGNORECASE,
)
# Paths that are there on one machine only, and words for code that nobody outside would know.
PRIVATE = re.compile(r"/(?:home|root|Users|work|mnt)/|\.\./shared\b|/tmp/(?!nire-)\w")
JARGON = re.compile(r"\b(?:house|rooms?)\b", re.IGNORECASE)
SENTENCE_WORDS = 8


@pytest.mark.parametrize("page", PAGES, ids=_identify)
def test_pages_tell_what_is_and_not_how_it_was(page: Path) -> None:
    assert not HISTORY.findall(_prose(page.read_text(encoding="utf-8")))


@pytest.mark.parametrize("page", [*PAGES, ROOT / "CHANGELOG.md"], ids=_identify)
def test_pages_name_nothing_that_is_on_one_machine_only(page: Path) -> None:
    assert not PRIVATE.findall(page.read_text(encoding="utf-8"))


@pytest.mark.parametrize("page", PAGES, ids=_identify)
def test_pages_call_code_what_everybody_calls_it(page: Path) -> None:
    # To have room is English; rooms that hold code are not.
    prose = re.sub(r"\b(?:less|more|no|leaves?|has|have) room\b", "", _prose(page.read_text(encoding="utf-8")))
    assert not JARGON.findall(prose)


def test_no_sentence_stands_on_the_pages_twice() -> None:
    seen: dict[str, str] = {}
    twice = []
    for page in PAGES:
        for sentence in _sentences(page.read_text(encoding="utf-8")):
            if sentence in seen:
                twice.append(f"{seen[sentence]}, {page.name}: {sentence}")
            seen.setdefault(sentence, page.name)
    assert not twice, "\n".join(twice)


def test_sentences_are_found_in_prose_lists_and_tables_but_not_in_code() -> None:
    text = (
        "A sentence of [nine](there.md) words, `three` of them marked. Short one.\n\n"
        "- the same nine words can be in an item; and here\n\n"
        "| a cell | that has at least nine words in it, too |\n|---|---|\n\n"
        "```sh\nnire-live with many words behind it that are code and no sentence\n```\n"
    )
    assert list(_sentences(text)) == [
        "a sentence of nine words three of them marked",
        "the same nine words can be in an item and here",
        "that has at least nine words in it too",
    ]


def _sentences(text: str) -> Iterator[str]:
    """Sentences, items and cells of more than eight words, without marks, in small letters."""
    plain = re.sub(r"\]\([^)]*\)", "]", _prose(text))
    for line in plain.splitlines():
        for part in re.split(r"(?<=[.!?:])\s+|\|", line):
            words = re.findall(r"[a-z0-9_./'=-]*[a-z0-9]", part.lower())
            if len(words) > SENTENCE_WORDS:
                yield " ".join(words)


# The table of config keys


def _config_rows(model: type[BaseModel] = Config, prefix: str = "") -> Iterator[str]:
    """One markdown row for each key of the configuration."""
    for name, field in model.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from _config_rows(field.annotation, f"{name}.")
            continue
        default = field.get_default(call_default_factory=True)
        yield f"| `{prefix}{name}` | `{_as_toml(default)}` | {_range(prefix + name, field)} | {field.description} |"


def _as_toml(value: Any) -> str:
    """Write a default as TOML."""
    if isinstance(value, str):
        return f'"{value}"'
    return f"{value:g}" if isinstance(value, float) else str(value)


# What a model checks in code instead of by a bound: written here, and tried below.
CHECKED_IN_CODE = {
    "source.exposure_us": ("0 .. 10000000", 0.0, 10e6),
    "source.arrival_us": ("0 .. 1000000", 0.0, 1e6),
    "source.time_offset_us": ("-1000000 .. 1000000", -1e6, 1e6),
    "reconstructor.contrast_threshold": ("two of 0.01 .. 2", [0.01, 0.01], [2.0, 2.0]),
}


# Names that are the files of a folder.
FOLDERS = {"window.policy": ["auto", *policy_names()]}


def _range(key: str, field: Any) -> str:
    words = [f"`{word}`" for word in FOLDERS.get(key) or _words(field.annotation)]
    bounds = {
        name: getattr(item, name) for item in field.metadata for name in ("ge", "gt", "le") if hasattr(item, name)
    }
    if bounds:
        low = f"{bounds['ge']:.10g}" if "ge" in bounds else f"above {bounds['gt']:.10g}"
        words.append(f"{low} .. {bounds['le']:.10g}")
    if key in CHECKED_IN_CODE:
        words.append(CHECKED_IN_CODE[key][0])
    return ", ".join(words)


def _words(annotation: Any) -> list[str]:
    if typing.get_origin(annotation) is Literal:
        return list(typing.get_args(annotation))
    return [word for part in typing.get_args(annotation) for word in _words(part)]


def test_table_of_config_keys_is_that_of_the_models() -> None:
    expected = list(_config_rows())
    written = re.findall(r"^\| `\w+\.\w+` .*$", _text("configuration.md"), re.MULTILINE)
    assert written == expected, "the table should be:\n" + "\n".join(expected)


@pytest.mark.parametrize(("key", "shown"), CHECKED_IN_CODE.items())
def test_ranges_that_models_check_in_code_are_as_written(key: str, shown: tuple[str, Any, Any]) -> None:
    _, low, high = shown
    for value in (low, high):
        load_config(None, [f"{key}={value}"])
    for value in (_beyond(low, -0.001), _beyond(high, 0.001)):
        with pytest.raises(ConfigError, match=key):
            load_config(None, [f"{key}={value}"])


def _beyond(value: Any, by: float) -> Any:
    return [value[0] + by, value[1]] if isinstance(value, list) else value + by


@pytest.mark.parametrize("document", DOCUMENTS, ids=_identify)
def test_toml_in_the_documents_is_a_valid_config(document: Path) -> None:
    for kind, _, block in CODE.findall(document.read_text(encoding="utf-8")):
        if kind == "toml":
            values = tomllib.loads(block)
            Config.model_validate(values)


# The table of errors


def test_exit_codes_are_those_of_the_errors() -> None:
    rows = re.findall(r"^\| ((?:`\w+`(?:, )?)+) \| (\d) \|", _text("architecture.md"), re.MULTILINE)
    codes = {name: int(code) for names, code in rows for name in re.findall(r"`(\w+)`", names)}
    expected = {kind.__name__: kind.exit_code for kind in _below(NireError)}
    assert codes == expected


def _below(kind: type[NireError]) -> Iterator[type[NireError]]:
    for child in kind.__subclasses__():
        if child.__module__ == "nire.errors":
            yield child
            yield from _below(child)


# Examples


@pytest.fixture
def examples(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The files of the two "adding" pages, importable by dotted name as they say."""
    for document in ("adding-a-camera.md", "adding-a-backend.md"):
        for _, file, block in CODE.findall(_text(document)):
            if file:
                (tmp_path / file).parent.mkdir(exist_ok=True)
                (tmp_path / file).write_text(block, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    yield
    for name in [name for name in sys.modules if name.partition(".")[0] == "mylab"]:
        del sys.modules[name]


CAMERA = ("source.driver=mylab.mycam", "source.settings.seconds=0.12", "plan.rate_hz=200")


def _exposed(*overrides: str) -> list[ExposedFrame]:
    """Run the example's camera through cleaning and a session."""
    config = load_config(None, [*CAMERA, *overrides])
    with open_source(config.source, SourceOrder()) as source:
        reconstructor = open_reconstructor(config, source.info.geometry)
        session = Session(config, source.info, reconstructor, freshest=False, clock=lambda: 0)
        packets = (packet for packet in cleaned(source) if isinstance(packet, EventBatch | Frame | Gap))
        return [*session.feed(packets), *session.finish()]


@pytest.mark.usefixtures("examples")
@pytest.mark.parametrize(
    "promise",
    [
        contract.test_events_are_sorted_and_never_before_the_watermark,
        contract.test_frame_comes_after_the_events_of_its_exposure,
        contract.test_columns_have_the_types_of_the_contract,
        contract.test_no_event_lies_inside_a_gap,
        contract.test_closing_twice_is_allowed_and_reading_again_too,
        contract.test_leaving_in_the_middle_is_allowed,
    ],
    ids=lambda promise: promise.__name__,
)
def test_example_of_a_camera_keeps_the_promises_of_a_source(promise: Any) -> None:
    promise(open_source(load_config(None, CAMERA).source, SourceOrder()))


@pytest.mark.usefixtures("examples")
def test_example_of_a_camera_is_seen_sharp_through_a_session() -> None:
    fixed = "reconstructor.contrast_threshold=[0.25,0.25]"
    sharp, captured = _exposed(fixed), _exposed(fixed, "reconstructor.backend=passthrough")
    assert len(sharp) > 15
    assert min(_quality(frame) for frame in sharp) > 40
    assert np.mean([_quality(frame) for frame in captured]) < 30


def _quality(frame: ExposedFrame) -> float:
    device = importlib.import_module("mylab.mycam").Device
    light = device.light(int(frame.shutter.mid_us)).round().astype(np.uint8)
    return psnr(frame.pixels, np.tile(light, (frame.pixels.shape[0], 1))[..., None])


@pytest.mark.usefixtures("examples")
def test_example_of_a_camera_tells_loss_and_absence_as_the_page_says(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(DeviceNotFound, match="B2"), open_source(_source("serial=B2"), SourceOrder()):
        pass
    with pytest.raises(ConfigError, match="did you mean 'exposure_us'"):
        open_source(_source("exposure=4000"), SourceOrder())
    module = importlib.import_module("mylab.mycam")
    poll = module.Device.poll
    monkeypatch.setattr(module.Device, "poll", lambda device: (*poll(device)[:3], True))
    with open_source(_source("seconds=0.01"), SourceOrder()) as source:
        assert [(gap.t0_us, gap.t1_us) for gap in source if isinstance(gap, Gap)][:2] == [(0, 2000), (2000, 4000)]
    contract.test_no_event_lies_inside_a_gap(open_source(_source("seconds=0.01"), SourceOrder()))
    monkeypatch.setattr(module.Device, "poll", _unplugged)
    with pytest.raises(DeviceLost, match="went away"), open_source(_source("seconds=0.01"), SourceOrder()) as source:
        list(source)


def _source(setting: str) -> Any:
    return load_config(None, ["source.driver=mylab.mycam", f"source.settings.{setting}"]).source


def _unplugged(device: Any) -> None:
    raise OSError("cable")


@pytest.mark.usefixtures("examples")
def test_example_of_a_backend_runs_in_a_session_and_fades() -> None:
    config = load_config(None, ["reconstructor.backend=mylab.crossfade", "plan.rate_hz=100"])
    reconstructor = open_reconstructor(config, packets.GEOMETRY)
    session = Session(config, packets.INFO, reconstructor, freshest=False, clock=lambda: 0)
    exposed = [*session.feed(packets.usual()), *session.finish()]
    first, second = packets.frames(2)
    between = next(f for f in exposed if f.shutter.mid_us == (first.mid_us + second.mid_us) / 2)
    assert {f.backend for f in exposed} == {"crossfade"}
    np.testing.assert_allclose(between.pixels, (first.pixels.astype(float) + second.pixels) / 2, atol=0.51)


@pytest.mark.usefixtures("examples")
def test_example_of_a_backend_keeps_the_promises_of_the_page() -> None:
    backend = open_reconstructor(load_config(None, ["reconstructor.backend=mylab.crossfade"]), packets.GEOMETRY)
    frames = (random_frame(1, 0, 100_000, 120_000, row_delay_us=50.0), random_frame(2, 1, 140_000, 160_000))
    events = random_events(3, 500, 90_000, 170_000)
    for window in (window_of(frames, events), window_of(frames[:1], events)):
        content = backend.build(window)
        film = Film(packets.GEOMETRY.height, packets.GEOMETRY.width)
        own = [Query(film, frame.shutter, "own") for frame in window.frames]
        assert backend.expose(content, own).dtype == np.uint8
        np.testing.assert_allclose(backend.expose(content, own[:1])[0], frames[0].pixels, atol=3)
    bounded = replace(window_of(frames, events), covered_us=(95_000.0, 165_000.0))
    late = Query(film, Shutter.instant(900_000.0, film.height), "late")
    with pytest.raises(ShutterOutsideWindow):
        backend.expose(backend.build(bounded), [late])


def test_examples_of_the_python_page_run_one_after_the_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "my.nire"
    with (
        open_camera(width=64, height=48, seed=3, seconds=0.3, live=False) as camera,
        RecordingWriter(path, camera.info.geometry, source=camera.info) as writer,
    ):
        for packet in camera:
            writer.write(packet)
    path.rename("my.aedat4")  # the kind is told from the content
    names: dict[str, Any] = {}
    blocks = [block for kind, _, block in CODE.findall(_text("python.md")) if kind == "python"]
    assert len(blocks) > 4
    for block in blocks:
        exec(compile(block, "docs/python.md", "exec"), names)
    assert len(list((tmp_path / "out" / "sharp").iterdir())) == len(names["frames"])
    assert names["instant"].shape == (48, 64)


@pytest.mark.parametrize("document", PAGES, ids=_identify)
def test_python_in_the_documents_compiles(document: Path) -> None:
    for kind, _, block in CODE.findall(document.read_text(encoding="utf-8")):
        if kind == "python":
            compile(block, document.name, "exec")


# Figures


def test_commands_in_the_documents_are_commands_that_exist() -> None:
    known = command_names()
    for document in PAGES:
        for command in re.findall(r"nire-live ([a-z]+)\b", document.read_text(encoding="utf-8")):
            assert command in known, f"{document.name}: nire-live {command}"
