"""For all tests: where the real recordings are, a small scene, a small camera, and the skips in a few lines."""

from __future__ import annotations

import gc
import os
import re
import textwrap
from collections import Counter
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any

import pytest

from drivers.cameras.synthetic import SyntheticCamera, open_source
from nire.simulation.scene import LayeredScene, make_scene
from stream.config import DEFAULTS_VARIABLE


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Look for no garbage in what test files import, neither now nor in any test: torch alone is a million objects."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep what engines prepare out of the user's cache, in child processes too."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="session", autouse=True)
def _fast_method() -> Iterator[None]:
    """Let the fast method answer where a test names none, in child processes too: images that no load can change."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(DEFAULTS_VARIABLE, "reconstructor.backend=edi")
        yield


@pytest.fixture
def shipped_defaults(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take the defaults as users have them."""
    monkeypatch.delenv(DEFAULTS_VARIABLE)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of the real recordings: $NIRE_DATA, or ../shared/data beside the repository; skips where there is none."""
    beside = Path(__file__).resolve().parents[2] / "shared" / "data"
    folder = Path(os.environ.get("NIRE_DATA", beside))
    if not (folder / "recordings").is_dir():
        pytest.skip(f"no real recordings in {folder}: set NIRE_DATA to a folder that has recordings/")
    return folder


@pytest.fixture(scope="session")
def small_scene() -> LayeredScene:
    """The default scene at 64 x 48, moving."""
    return make_scene("default", width=64, height=48, seed=3)


@pytest.fixture
def small_camera() -> Callable[..., SyntheticCamera]:
    """Make a synthetic camera of 64 x 48 pixels that delivers 0.2 s as fast as asked; settings may be overridden."""

    def make(**settings: Any) -> SyntheticCamera:
        return open_source(**{"width": 64, "height": 48, "seed": 3, "seconds": 0.2, "live": False, **settings})

    return make


# Skips


_LINES, _COLUMNS = 3, 120


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say what was skipped and why, in at most three lines; `pytest -rs` shows each."""
    skipped = terminalreporter.getreports("skipped")
    reasons = Counter(short_reason(report.longrepr[2]) for report in skipped if isinstance(report.longrepr, tuple))
    if reasons and not set("asA") & set(terminalreporter.config.getoption("reportchars")):
        terminalreporter.write_line(summed_up(reasons))


def short_reason(reason: str) -> str:
    """Cut a reason for a skip to what many tests share: no remedy, no path, no name of a test's own."""
    reason = re.sub(r"^Skipped: ", "", reason)
    if missing := re.match(r"could not import '([^']+)'", reason):
        return f"no module {missing[1]}"
    reason = re.split(r"[:;,(]", reason)[0]
    return re.sub(r" in \S*/\S*| which is not here", "", reason).strip()


def summed_up(reasons: Counter[str]) -> str:
    """Make a sentence of counted reasons, the most frequent first; what does not fit into its lines is counted."""
    told = [f"{count} x {reason}" for reason, count in reasons.most_common()]
    for rest in range(len(told)):
        others = [f"{rest} more reasons"] if rest else []
        text = f"{reasons.total()} skipped: " + ", ".join(told[: len(told) - rest] + others)
        lines = textwrap.wrap(text, _COLUMNS, break_on_hyphens=False)
        if len(lines) <= _LINES:
            return "\n".join(lines)
    return f"{reasons.total()} skipped"
