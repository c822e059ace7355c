"""The preview page in headless Chromium: the picture moves, and the controls change what comes out."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import pytest

from tests.stream.chromium import digest, drag, press, text
from tests.stream.fake_stream import FakeStream
from tests.stream.serving import Served
from tests.waiting import until


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
    until(lambda: page.execute_script("return document.getElementById('offset_us').disabled"))
    drag(page, "row_delay_us", 250)
    until(lambda: stream.plan.name == "reshutter" and stream.plan.row_delay_us > 0)
    until(lambda: "rolling" in text(page, "exposed-note"))
    assert not page.execute_script("return document.getElementById('offset_us').disabled")


@pytest.mark.browser
def test_only_the_newest_wish_of_many_is_kept_waiting(page: Any, stream: FakeStream) -> None:
    def plans() -> int:
        return sum(request["command"] == "set_plan" for request in stream.asked)

    before = plans()
    page.execute_script(
        """const e = document.getElementById("offset_us");
        for (let v = 0; v <= 1000; v += 2) { e.value = v; e.dispatchEvent(new Event("input")); }
        e.dispatchEvent(new Event("change"));"""
    )
    until(lambda: stream.plan.offset_us == 20_000)
    assert plans() - before < 60


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
    assert b"events\0" not in stream.subscriptions
    press(page, "#events")
    until(lambda: page.execute_script("return document.getElementById('overlay').dataset.index > 2"))
    press(page, "#events")
    until(lambda: b"events\0" not in stream.subscriptions)


@pytest.mark.browser
def test_plan_does_not_jump_back_to_a_status_from_before_the_answer(page: Any, stream: FakeStream) -> None:
    page.execute_script(
        """window.seen = [];
        new MutationObserver(() => window.seen.push(document.getElementById("sentence").textContent))
          .observe(document.getElementById("sentence"), { childList: true });"""
    )
    drag(page, "offset_us", 500)
    until(lambda: stream.plan.offset_us == 10_000)
    count = stream.statuses
    until(lambda: stream.statuses > count + 3)
    assert set(page.execute_script("return window.seen")) == {
        "One instant 10 ms after the middle of each captured exposure"
    }


@pytest.mark.browser
def test_slow_motion_shows_every_exposed_frame_of_a_piece(page: Any, stream: FakeStream) -> None:
    press(page, "#plans input[value=upsample]")
    until(lambda: stream.plan.name == "upsample")
    press(page, "#slow")
    until(lambda: "slowed down" in text(page, "exposed-note"))
    assert page.execute_script("return document.getElementById('events').disabled")
    page.execute_script(
        """window.seen = new Set();
        new MutationObserver((all) => window.seen.add(Number(all[0].target.dataset.index)))
          .observe(document.getElementById("exposed"), { attributeFilter: ["data-index"] });"""
    )
    until(lambda: page.execute_script("return window.seen.size") > 30)
    seen = sorted(page.execute_script("return [...window.seen]"))
    steps = [later - earlier for earlier, later in itertools.pairwise(seen)]
    assert sum(step == 1 for step in steps) > 0.7 * len(steps)
    press(page, "#slow")
    until(lambda: "slowed down" not in text(page, "exposed-note"))


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
