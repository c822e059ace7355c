"""The preview page in headless Chromium: the picture moves, and the controls change what comes out."""

from __future__ import annotations

import contextlib
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.stream.fake_stream import FakeStream
from tests.stream.serving import Served
from tests.stream.waiting import until

FLAGS = (
    "--headless=new --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync"
)
CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")


@pytest.fixture
def stream() -> Iterator[FakeStream]:
    stream = FakeStream()
    yield stream
    stream.close()


@pytest.fixture
def served(stream: FakeStream) -> Iterator[Served]:
    served = Served(stream.address)
    yield served
    served.close()


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    if CHROMIUM is None or DRIVER is None:
        pytest.skip("needs chromium and chromedriver (Debian packages chromium, chromium-driver)")
    webdriver = pytest.importorskip("selenium.webdriver")
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for flag in FLAGS.split():
        options.add_argument(flag)
    options.add_argument(f"--user-data-dir={tmp_path_factory.mktemp('chromium')}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
    yield driver
    driver.quit()


def digest(browser: Any, canvas: str) -> int:
    """A number that changes with the pixels of a canvas."""
    return int(
        browser.execute_script(
            """const c = document.getElementById(arguments[0]);
            const d = c.getContext("2d").getImageData(0, 0, c.width, c.height).data;
            let h = 0; for (let i = 0; i < d.length; i += 4) h = (h * 31 + d[i] + d[i + 3]) | 0; return h;""",
            canvas,
        )
    )


def drag(browser: Any, slider: str, place: int) -> None:
    browser.execute_script(
        """const e = document.getElementById(arguments[0]); e.value = arguments[1];
        e.dispatchEvent(new Event("input")); e.dispatchEvent(new Event("change"));""",
        slider,
        place,
    )


def text(browser: Any, element: str) -> str:
    return str(browser.execute_script("return document.getElementById(arguments[0]).textContent", element))


def press(browser: Any, selector: str) -> None:
    browser.execute_script("document.querySelector(arguments[0]).click()", selector)


@pytest.fixture
def page(browser: Any, served: Served) -> Iterator[Any]:
    browser.get(served.url)
    until(lambda: text(browser, "n-rate") not in ("–", "") and text(browser, "sentence"))
    yield browser
    errors = [line for line in browser.get_log("browser") if line["level"] == "SEVERE" and "ws" not in line["message"]]
    browser.get("about:blank")
    assert not errors


@pytest.mark.browser
@pytest.mark.parametrize("canvas", ["captured", "exposed"])
def test_picture_moves(page: Any, canvas: str) -> None:
    first = digest(page, canvas)
    until(lambda: digest(page, canvas) != first)


@pytest.mark.browser
def test_sliders_change_what_is_asked_and_what_comes_out(page: Any, stream: FakeStream) -> None:
    drag(page, "offset_us", 500)
    until(lambda: stream.plan.offset_us == 10_000)  # half of 20 ms: half of the exposure and the margin, made round
    drag(page, "exposure_us", 500)
    until(lambda: stream.plan.exposure_us == 10_000)
    until(lambda: text(page, "exposed-note") == "10 ms")
    assert text(page, "sentence") == "10 ms 10 ms after the middle of each captured exposure"


@pytest.mark.browser
def test_row_delay_turns_upsampling_into_a_rolling_shutter(page: Any, stream: FakeStream) -> None:
    press(page, "#plans input[value=upsample]")
    until(lambda: stream.plan.name == "upsample")
    assert page.execute_script("return document.getElementById('offset_us').disabled")
    drag(page, "row_delay_us", 250)
    until(lambda: stream.plan.name == "reshutter" and stream.plan.row_delay_us > 0)
    until(lambda: "rolling" in text(page, "exposed-note"))
    assert not page.execute_script("return document.getElementById('offset_us').disabled")


@pytest.mark.browser
def test_only_the_newest_wish_of_many_is_kept_waiting(page: Any, stream: FakeStream) -> None:
    before = len(stream.asked)
    page.execute_script(
        """const e = document.getElementById("offset_us");
        for (let v = 0; v <= 1000; v += 2) { e.value = v; e.dispatchEvent(new Event("input")); }
        e.dispatchEvent(new Event("change"));"""
    )
    until(lambda: stream.plan.offset_us == 20_000)
    assert len(stream.asked) - before < 60


@pytest.mark.browser
def test_dial_is_moved_by_keyboard_and_by_dragging(page: Any, stream: FakeStream) -> None:
    from selenium.webdriver import ActionChains, Keys

    dial = page.find_element("id", "dial")
    dial.send_keys(Keys.ARROW_RIGHT, Keys.ARROW_RIGHT)
    until(lambda: stream.plan.offset_us == 200)
    assert dial.get_attribute("aria-valuenow") == "200"
    ActionChains(page).move_to_element_with_offset(dial, -60, 30).click_and_hold().move_by_offset(
        -80, 0
    ).release().perform()
    until(lambda: stream.plan.offset_us < -1000)


@pytest.mark.browser
def test_pause_holds_the_picture_and_resume_lets_it_go(page: Any, stream: FakeStream) -> None:
    press(page, "#pause")
    until(lambda: stream.paused and text(page, "pause") == "Resume")
    until(lambda: page.execute_script("return document.getElementById('link').dataset.state") == "paused")
    press(page, "#pause")
    until(lambda: not stream.paused and text(page, "pause") == "Pause")


@pytest.mark.browser
def test_events_are_laid_over_the_picture_on_request(page: Any, stream: FakeStream) -> None:
    assert not stream.publisher.wants("events")
    press(page, "#events")
    until(lambda: page.execute_script("return document.getElementById('overlay').dataset.index > 2"))
    press(page, "#events")
    until(lambda: not stream.publisher.wants("events"))


@pytest.mark.browser
def test_numbers_of_the_stream_are_shown(page: Any) -> None:
    until(lambda: text(page, "n-thresholds") == "0.221 / 0.199")
    assert text(page, "n-offset") == "-4.51 ms"
    assert text(page, "n-late") == "2"
    assert text(page, "n-method") == "edi, cpu"
    assert float(text(page, "n-total").removesuffix(" ms")) == pytest.approx(6.1, abs=1)
    assert float(text(page, "n-captured")) == pytest.approx(25, rel=0.5)


@pytest.mark.browser
def test_lost_stream_is_said_and_found_again(browser: Any) -> None:
    stream = FakeStream()
    served = Served(stream.address)
    try:
        browser.get(served.url)
        until(lambda: browser.execute_script("return document.getElementById('link').dataset.state") == "live")
        address, control = stream.address, stream.control.address
        stream.close()
        until(lambda: "Waiting for it" in text(browser, "link"))
        stream = FakeStream(address, control)
        until(lambda: browser.execute_script("return document.getElementById('link').dataset.state") == "live")
    finally:
        browser.get("about:blank")
        served.close()
        stream.close()


@pytest.mark.browser
def test_lost_preview_server_is_said_and_found_again(browser: Any, stream: FakeStream) -> None:
    served = Served(stream.address)
    bind = served.url.removeprefix("http://").rstrip("/")
    browser.get(served.url)
    until(lambda: browser.execute_script("return document.getElementById('link').dataset.state") == "live")
    served.close()
    until(lambda: "server is away" in text(browser, "link"))
    served = Served(stream.address, bind)
    try:
        until(lambda: browser.execute_script("return document.getElementById('link').dataset.state") == "live")
    finally:
        browser.get("about:blank")
        served.close()


@pytest.mark.browser
@pytest.mark.parametrize(("width", "height"), [(390, 844), (1280, 800)])
def test_page_is_never_wider_than_its_window(page: Any, width: int, height: int) -> None:
    size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500}
    page.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    try:
        wide, high = page.execute_script("const e = document.documentElement; return [e.scrollWidth, e.scrollHeight]")
        assert wide == width
        if width > 900:
            assert high <= height
    finally:
        page.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


@pytest.mark.browser
def test_every_control_has_a_name(page: Any) -> None:
    nameless = page.execute_script(
        """const named = (e) => e.ariaLabel || e.ariaHidden || e.labels?.length || e.textContent.trim();
        const all = document.querySelectorAll("button, input, canvas, fieldset, section, aside");
        return [...all].filter((e) => !named(e)).map((e) => e.id)"""
    )
    assert nameless == []


# ---- over the whole pipeline


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
        code = process.wait(40)
    assert code == 0, (tmp_path / "log").read_text()


@pytest.mark.browser
@pytest.mark.system
def test_page_shows_and_steers_the_whole_pipeline(browser: Any, pipeline: str) -> None:
    until(lambda: opened(browser, pipeline), 60)
    until(lambda: text(browser, "n-rate") not in ("–", "0", "") and text(browser, "sentence"), 60)
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
    assert float(text(browser, "n-thresholds").split("/")[0]) > 0
    press(browser, "#pause")
    until(lambda: browser.execute_script("return document.getElementById('link').dataset.state") == "paused")
    browser.get("about:blank")


def opened(browser: Any, url: str) -> bool:
    from selenium.common.exceptions import WebDriverException

    try:
        browser.get(url)
    except WebDriverException:
        return False
    return bool(browser.title == "nire-live")
