"""The preview page over the whole pipeline: a synthetic camera, all processes, a browser."""

from __future__ import annotations

import contextlib
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.stream.chromium import digest, drag, press, text
from tests.waiting import PATIENCE_S, until

CONFIG = """
[source]
driver = "synthetic"
[source.settings]
width = 128
height = 96
frame_rate_hz = 25
exposure_us = 20000
[plan]
name = "deblur"
[publish]
bind = "tcp://127.0.0.1:{0}"
[control]
bind = "tcp://127.0.0.1:{1}"
[preview]
bind = "127.0.0.1:{2}"
"""


def free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


@pytest.fixture
def pipeline(tmp_path: Path) -> Iterator[str]:
    """A synthetic camera through all processes, with its page; gives the page's address."""
    ports = free_ports(3)
    (tmp_path / "stream.toml").write_text(CONFIG.format(*ports))
    command = [sys.executable, "-m", "stream.cli", "live", str(tmp_path / "stream.toml"), "--preview"]
    root = Path(__file__).parents[2]
    with (tmp_path / "log").open("w") as log:
        process = subprocess.Popen(command, cwd=root, stdout=log, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL)
    try:
        yield f"http://127.0.0.1:{ports[2]}/"
    finally:
        process.send_signal(signal.SIGINT)
        code = process.wait(PATIENCE_S)
    assert code == 0, (tmp_path / "log").read_text()


@pytest.mark.browser
@pytest.mark.system
def test_page_shows_and_steers_the_whole_pipeline(browser: Any, pipeline: str) -> None:
    until(lambda: opened(browser, pipeline))
    until(lambda: text(browser, "n-rate") not in ("–", "0", "") and text(browser, "sentence"))
    browser.execute_script("sessionStorage.setItem('nire-live-operates', 'yes')")
    for canvas in ("captured", "exposed"):
        first = digest(browser, canvas)
        until(lambda canvas=canvas, first=first: digest(browser, canvas) != first)
    drag(browser, "exposure_us", 500)
    until(lambda: text(browser, "exposed-note") == "10 ms")
    press(browser, "#plans input[value=reshutter]")
    drag(browser, "row_delay_us", 250)
    until(lambda: "rolling" in text(browser, "exposed-note"))
    press(browser, "#events")
    until(lambda: browser.execute_script("return document.getElementById('overlay').dataset.index > 0"))
    until(lambda: text(browser, "n-thresholds") != "–")
    press(browser, "#pause-all")
    press(browser, "#confirm-yes")
    until(lambda: browser.execute_script("return document.getElementById('link').dataset.state") == "paused")
    browser.get("about:blank")


def opened(browser: Any, url: str) -> bool:
    from selenium.common.exceptions import WebDriverException

    try:
        browser.get(url)
    except WebDriverException:
        return False
    return bool(browser.title == "nire-live")
