"""The preview page in headless Chromium: the picture moves, and the controls change what comes out."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, get_args

import pytest

from nire.calibrate import GOOD_MISFIT
from stream.config_sections import PlanConfig
from stream.preview.server import PAGE
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
    """The page of somebody who has agreed to change the stream for everyone."""
    browser.get_log("browser")  # what was said of pages before
    browser.get(served.url)
    browser.execute_script("sessionStorage.setItem('nire-live-operates', 'yes')")
    until(lambda: text(browser, "n-rate") not in ("–", "") and text(browser, "sentence"))
    until(lambda: browser.find_element("id", "dial").get_attribute("aria-valuemax") == "20000")
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
def test_events_take_the_place_of_frames_that_there_are_none(page: Any, stream: FakeStream) -> None:
    stream.figures["rates"] = {"events": 2_412_000.0}
    assert text(page, "captured-title") == "Captured"
    stream.has_frames = False
    until(lambda: text(page, "captured-title") == "Events" and text(page, "captured-note") == "of 10 ms")
    first = digest(page, "captured")
    until(lambda: digest(page, "captured") != first)
    until(lambda: (text(page, "n-captured"), text(page, "n-captured-unit")) == ("2.4 M", "events/s in"))
    usable = {plan: page.execute_script(_ENABLED, plan) for plan in ("deblur", "unroll", "upsample", "reshutter")}
    assert usable == {"deblur": False, "unroll": False, "upsample": True, "reshutter": True}
    # Those over the image are a choice as before.
    assert blank(page, "overlay")
    press(page, "#events")
    until(lambda: not blank(page, "overlay"))
    press(page, "#events")
    first = digest(page, "captured")
    until(lambda: digest(page, "captured") != first)
    # Nobody can ask for what needs frames, by the keyboard neither.
    page.find_element("tag name", "body").send_keys("1")
    page.find_element("tag name", "body").send_keys("3")
    until(lambda: stream.plan.name == "upsample")
    assert [ask["plan"]["name"] for ask in stream.asked if "name" in ask.get("plan", {})] == ["upsample"]
    stream.has_frames = True
    until(lambda: text(page, "captured-title") == "Captured" and text(page, "captured-note") != "of 10 ms")


def test_page_and_calibration_agree_what_a_misfit_is() -> None:
    (told,) = re.findall(r"const GOOD_MISFIT = ([0-9.]+);", (PAGE / "figures.js").read_text(encoding="utf-8"))
    assert float(told) == GOOD_MISFIT


@pytest.mark.browser
def test_last_events_stay_when_a_stream_without_frames_ends(page: Any, stream: FakeStream) -> None:
    stream.has_frames = False
    until(lambda: text(page, "captured-note") == "of 10 ms")
    stream.close()
    until(lambda: page.execute_script("return document.getElementById('link').dataset.state") in ("lost", "ended"))
    assert text(page, "captured-title") == "Events"
    assert not blank(page, "captured")


_ENABLED = "return document.querySelector(`#plans input[value=${arguments[0]}]`).matches(':enabled')"


def blank(page: Any, canvas: str) -> bool:
    """Nothing is drawn on a canvas, or it is not shown."""
    return bool(
        page.execute_script(
            """const c = document.getElementById(arguments[0]);
            return c.hidden || c.getContext("2d").getImageData(0, 0, c.width, c.height).data.every(v => v === 0);""",
            canvas,
        )
    )


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
def test_hold_stops_the_picture_in_this_browser_only(page: Any, stream: FakeStream) -> None:
    page.find_element("tag name", "body").send_keys(" ")
    until(lambda: text(page, "pause") == "Go on")
    until(lambda: held(page))
    first, frames = digest(page, "exposed"), stream.exposed
    until(lambda: stream.exposed > frames + 20)
    assert digest(page, "exposed") == first
    assert not stream.paused
    assert text(page, "link") == "fake camera"
    press(page, "#pause")
    until(lambda: digest(page, "exposed") != first)


def held(page: Any) -> bool:
    """No picture comes for as long as ten would take."""
    return bool(
        page.execute_async_script(
            """const done = arguments[0], canvas = document.getElementById("exposed"), before = canvas.dataset.index;
            setTimeout(() => done(canvas.dataset.index === before), 400);"""
        )
    )


@pytest.mark.browser
def test_pause_for_everyone_is_asked_first(page: Any, stream: FakeStream) -> None:
    press(page, "#stream")
    press(page, "#pause-all")
    assert "for everyone" in text(page, "confirm-title")
    press(page, "#confirm [value=no]")
    press(page, "#pause-all")
    press(page, "#confirm-yes")
    until(lambda: stream.paused and text(page, "pause-all") == "Go on for everyone")
    assert sum(request["command"] == "pause" for request in stream.asked) == 1
    until(lambda: page.execute_script("return document.getElementById('link').dataset.state") == "paused")
    press(page, "#pause-all")
    until(lambda: not stream.paused)


@pytest.fixture
def asked(browser: Any, served: Served) -> Any:
    """The page of somebody who has not been asked yet."""
    browser.get(served.url)
    browser.execute_script("sessionStorage.clear()")
    browser.refresh()
    # The range of the dial is that of the camera, which is known from two captured frames on.
    until(lambda: browser.find_element("id", "dial").get_attribute("aria-valuemax") == "20000")
    return browser


@contextmanager
def another_tab(browser: Any, url: str) -> Iterator[None]:
    """The same page, open beside this one, which stays in front."""
    first = browser.current_window_handle
    browser.switch_to.new_window("tab")
    second = browser.current_window_handle
    browser.get(url)
    until(lambda: text(browser, "sentence"))
    browser.switch_to.window(first)
    try:
        yield
    finally:
        browser.switch_to.window(second)
        browser.close()
        browser.switch_to.window(first)


@pytest.mark.browser
def test_nobody_is_asked_who_is_alone_with_the_stream(asked: Any, stream: FakeStream) -> None:
    drag(asked, "offset_us", 500)
    until(lambda: stream.plan.offset_us == 10_000)
    assert asked.execute_script("return document.getElementById('ask').hidden")


@pytest.mark.browser
def test_first_change_for_everyone_is_shown_and_waits_for_a_word(
    asked: Any, served: Served, stream: FakeStream
) -> None:
    with another_tab(asked, served.url):
        first_change_waits(asked, stream)


def first_change_waits(browser: Any, stream: FakeStream) -> None:
    statuses = stream.statuses
    until(lambda: stream.statuses > statuses + 2)  # the page has heard that another one is there
    drag(browser, "offset_us", 500)
    assert not browser.execute_script("return document.getElementById('ask').hidden")
    assert "10 ms after" in text(browser, "sentence")
    press(browser, "#ask-no")
    assert "at the middle" in text(browser, "sentence")
    drag(browser, "offset_us", 250)
    drag(browser, "exposure_us", 500)
    assert stream.plan.offset_us == 0
    press(browser, "#ask-yes")
    until(lambda: stream.plan.exposure_us == 10_000)
    assert stream.plan.offset_us == 5_000
    drag(browser, "offset_us", 500)
    until(lambda: stream.plan.offset_us == 10_000)  # agreed to once, for this tab


@pytest.mark.browser
def test_page_with_the_token_to_look_changes_nothing(browser: Any, stream: FakeStream) -> None:
    served = Served(stream.address, observers_token="look")
    try:
        browser.get(f"{served.url}?token=look")
        until(lambda: text(browser, "sentence"))
        assert browser.execute_script("return document.getElementById('stream').hidden")
        assert not browser.execute_script("return document.getElementById('read-only').hidden")
        controls = "return [...document.querySelectorAll('.shutter input')].every((e) => e.matches(':disabled'))"
        assert browser.execute_script(controls)
        browser.find_element("id", "dial").send_keys("\ue014")
        press(browser, "#wipe")
        until(lambda: browser.execute_script("return document.getElementById('exposed').dataset.index > 5"))
        assert {request["command"] for request in stream.asked} <= {"status"}
    finally:
        browser.get("about:blank")
        served.close()


@pytest.mark.browser
def test_captured_and_exposed_are_of_the_same_moment(page: Any) -> None:
    page.execute_script(
        """window.pairs = [];
        new MutationObserver(() => window.pairs.push([exposed, captured].map((e) => Number(e.dataset.mid_us))))
          .observe(document.getElementById("exposed"), { attributeFilter: ["data-index"] });"""
    )
    until(lambda: page.execute_script("return window.pairs.length") > 20)
    # Under the plan deblur each captured frame has one exposed one, at its middle.
    assert {a - b for a, b in page.execute_script("return window.pairs")} == {0}


@pytest.mark.browser
def test_wipe_lays_exposed_over_captured_along_a_line(page: Any) -> None:
    press(page, "#wipe")
    boxes = page.execute_script(
        """return [...document.querySelectorAll(".film")].map((e) => {
          const b = e.getBoundingClientRect(); return [b.left, b.top, b.width]; })"""
    )
    assert boxes[0] == boxes[1]
    wiper = page.find_element("id", "wiper")
    before = clip_of(page)
    for _ in range(5):
        wiper.send_keys("\ue014")
    assert wiper.get_attribute("aria-valuenow") == "60"
    assert clip_of(page) - before == pytest.approx(boxes[0][2] / 10, abs=1)
    press(page, "#wipe")
    assert page.execute_script("return getComputedStyle(document.querySelector('.exposed .layer')).clipPath") == "none"


def clip_of(page: Any) -> float:
    """How far from the left the exposed film begins, pixels."""
    return float(
        page.execute_script(
            "return parseFloat(document.querySelector('.exposed .layer').style.clipPath.match(/ ([-0-9.]+)px\\)/)[1])"
        )
    )


POINT = """const film = document.querySelector(arguments[0]), box = film.getBoundingClientRect();
const [clientX, clientY] = [box.left + arguments[1] * box.width, box.top + arguments[2] * box.height].map(Math.round);
const at = { clientX, clientY, bubbles: true };
film.dispatchEvent(new PointerEvent("pointermove", at));
if (arguments[3]) film.dispatchEvent(new WheelEvent("wheel", { ...at, deltaY: arguments[3], cancelable: true }));"""


@pytest.mark.browser
def test_pixel_under_the_cursor_has_the_values_of_the_stream_at_any_zoom(page: Any) -> None:
    page.execute_script(POINT, ".captured .film", 0.5015, 0.502, 0)
    until(lambda: "captured" in text(page, "readout-text"))
    pixel = text(page, "readout-text").partition("   ")[0]
    assert re.fullmatch(r"x 17[0-6], y 1(2[7-9]|3[0-3])", pixel)
    page.execute_script(POINT, ".captured .film", 0.5015, 0.502, -1500)
    assert "×" in text(page, "zoom")
    assert page.execute_script("return document.querySelector('.exposed .layer').style.transform")
    page.execute_script(POINT, ".exposed .film", 0.5015, 0.502, 0)
    assert text(page, "readout-text").startswith(f"{pixel}   ")
    press(page, "#pause")
    until(lambda: held(page))
    values = text(page, "readout-text")
    press(page, "#level")
    until(lambda: page.execute_script("return document.getElementById('level').ariaPressed") == "false")
    assert text(page, "readout-text") == values
    page.find_element("tag name", "body").send_keys("0")
    assert text(page, "zoom") == ""


@pytest.mark.browser
def test_message_of_a_refusal_is_as_wide_as_the_window_allows(page: Any) -> None:
    size = {"width": 390, "height": 844, "deviceScaleFactor": 1, "mobile": True}
    page.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    try:
        wide = page.execute_script(
            """const e = document.getElementById("toast");
            e.textContent = "words of a refusal ".repeat(9);
            e.showPopover();
            const wide = e.getBoundingClientRect().width; e.hidePopover(); return wide"""
        )
        assert wide > 340
    finally:
        page.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


@pytest.mark.browser
def test_dark_stream_is_seen_at_once_and_as_it_is_on_request(page: Any, stream: FakeStream) -> None:
    stream.dim = 0.15
    mean = """const c = document.getElementById("captured");
    const d = c.getContext("2d").getImageData(0, 0, c.width, c.height).data;
    let sum = 0; for (let i = 0; i < d.length; i += 4) sum += d[i]; return (4 * sum) / d.length;"""
    until(lambda: page.execute_script(mean) > 70)
    press(page, "#level")
    until(lambda: page.execute_script(mean) < 30)


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
    assert text(page, "n-misfit") == "35 %"
    assert text(page, "n-late") == "2"
    assert text(page, "n-method") == "double integral (edi)"
    assert float(text(page, "n-total").removesuffix(" ms")) == pytest.approx(6.1, abs=1)
    assert float(text(page, "n-captured")) == pytest.approx(25, rel=0.5)


@pytest.mark.browser
def test_method_is_told_with_its_reason_and_how_far_wall_times_may_be_off(page: Any, stream: FakeStream) -> None:
    reason = "neural does not keep up: a window takes it 90 ms, one comes every 40 ms"
    stream.figures = {"backend_reason": reason, "wall_ns": 1, "wall_uncertainty_us": 520.0}
    until(lambda: text(page, "n-why") == reason)
    assert text(page, "n-wall") == "± 0.52 ms"
    stream.figures = {"wall_ns": 1, "wall_uncertainty_us": 141_432_000.0}
    until(lambda: text(page, "n-wall") == "off by up to 2 minutes: the source is late")
    stream.figures = {"wall_ns": 1}
    until(lambda: text(page, "n-wall") == "as recorded")


@pytest.mark.browser
@pytest.mark.parametrize(
    ("backend", "engine", "words"),
    [
        ("neural", "openvino", "network nano by OpenVINO"),
        ("flow", "opencv", "optical flow (flow)"),
        ("events_only", "eager", "events alone, by torch"),
        ("events_only", "physics", "events alone, no network"),
        ("my.method", "numpy", "my.method, numpy"),
        ("edi", "", "double integral (edi)"),
    ],
)
def test_method_is_told_in_words(page: Any, backend: str, engine: str, words: str) -> None:
    said = page.execute_async_script(
        """const [backend, engine, done] = arguments, set = { size: "nano", weights: "" };
        import("/page/method.js").then(({ methodWords }) => done(methodWords(backend, engine, set)))""",
        backend,
        engine,
    )
    assert said == words


@pytest.mark.browser
@pytest.mark.parametrize("width", [390, 1280])
@pytest.mark.parametrize("sheet", ["keys-sheet", "stream-sheet"])
def test_sheets_cut_nothing_off(page: Any, width: int, sheet: str) -> None:
    size = {"width": width, "height": 844, "deviceScaleFactor": 1, "mobile": width < 500}
    page.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    try:
        wide, shown = page.execute_script(
            """const e = document.getElementById(arguments[0]); e.showModal();
            const wide = [e.scrollWidth, e.clientWidth]; e.close(); return wide""",
            sheet,
        )
        assert wide == shown
    finally:
        page.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


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
        nobody_answers = "return document.querySelector('.shutter').inert"
        assert browser.execute_script(nobody_answers)
        stream = FakeStream(address, control)
        until(lambda: browser.execute_script("return document.getElementById('link').dataset.state") == "live")
        assert not browser.execute_script(nobody_answers)
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
@pytest.mark.parametrize("path", ["", "cameras"])
def test_address_of_a_stream_that_was_started_again_is_told_apart_from_a_server_that_is_away(
    browser: Any, path: str
) -> None:
    stream = FakeStream(cameras=("left", "right") if path else ())
    served = Served(stream.address, observers_token="first")
    bind = served.url.removeprefix("http://").rstrip("/")
    try:
        browser.get(f"{served.url}{path}?token=first")
        until(lambda: browser.execute_script("return document.getElementById('link').dataset.state") == "live")
        served.close()
        served = Served(stream.address, bind, observers_token="second")
        until(lambda: "no longer valid" in text(browser, "link"))
        assert "in the terminal" in text(browser, "link")
    finally:
        browser.get("about:blank")
        served.close()
        stream.close()


@pytest.mark.browser
@pytest.mark.parametrize("wipe", [False, True])
@pytest.mark.parametrize(("width", "height"), [(390, 844), (1280, 800)])
def test_page_is_never_wider_than_its_window(
    page: Any, stream: FakeStream, width: int, height: int, wipe: bool
) -> None:
    stream.figures = {
        "replay": {"at_us": 1_000_000, "length_us": 4_000_000, "speed": 1.0, "held": False},
        "recording": {"path": "/data/a.nire", "seconds": 36_000.0, "events": 1, "frames": 2},
    }
    until(lambda: not page.execute_script("return document.getElementById('recording').hidden"))
    size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500}
    page.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    try:
        if wipe:
            press(page, "#wipe")
        wide, high = page.execute_script("const e = document.documentElement; return [e.scrollWidth, e.scrollHeight]")
        assert wide == width
        if width > 900:
            assert high <= height
    finally:
        page.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


@contextmanager
def window(page: Any, width: int, height: int) -> Iterator[None]:
    """A window of another size; a small one is a phone's."""
    size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 900}
    page.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    try:
        yield
    finally:
        page.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


@pytest.mark.browser
@pytest.mark.parametrize("wipe", [False, True])
@pytest.mark.parametrize(("width", "height"), [(1024, 700), (1280, 760), (844, 390)])
def test_pictures_and_controls_are_in_the_window_together(
    page: Any, stream: FakeStream, width: int, height: int, wipe: bool
) -> None:
    stream.figures = {
        "replay": {"at_us": 1_000_000, "length_us": 4_000_000, "speed": 1.0, "held": False},
        "backend_reason": "neural does not keep up: a window takes it 218 ms, one comes every 51 ms, 2 made at once",
    }
    until(lambda: text(page, "n-why") and not page.execute_script("return document.getElementById('replay').hidden"))
    with window(page, width, height):
        if wipe:
            press(page, "#wipe")
        outside = page.execute_script(
            """const all = [...document.querySelectorAll(".bar .button, .views *, .shutter input, .plans *, #dial")];
            const boxes = all.map((e) => [e, e.getBoundingClientRect()]).filter(([, box]) => box.width > 0);
            return boxes.filter(([, box]) => box.bottom > innerHeight || box.right > innerWidth).map(([e]) => e.id)"""
        )
        cut = page.execute_script(
            """const all = [...document.querySelectorAll("figcaption .button, .plans span")];
            return all.filter((e) => e.scrollWidth > e.clientWidth
              || e.getBoundingClientRect().right > e.closest("figcaption, .plans").getBoundingClientRect().right + 1)
              .map((e) => e.textContent)"""
        )
    assert outside == []
    assert cut == []


@pytest.mark.browser
def test_one_film_is_much_larger_than_two(page: Any) -> None:
    wide = """const film = document.getElementById("captured");
      const box = film.getBoundingClientRect();
      return [Math.min(box.width, box.height * film.width / film.height), box.width]"""
    with window(page, 1440, 900):
        beside, _ = page.execute_script(wide)
        press(page, "#wipe")
        one, film = page.execute_script(wide)
    assert one > 1.3 * beside
    assert film < 1.05 * one  # little of it is gray


@pytest.mark.browser
def test_every_control_has_a_name(page: Any) -> None:
    nameless = page.execute_script(
        """const named = (e) => e.ariaLabel || e.ariaHidden || e.labels?.length || e.textContent.trim();
        const all = document.querySelectorAll("button, input, select, summary, canvas, fieldset, section, aside, svg");
        return [...all].filter((e) => !named(e)).map((e) => e.id)"""
    )
    assert nameless == []


@pytest.mark.browser
def test_keys_do_what_their_list_says(page: Any, stream: FakeStream) -> None:
    body = page.find_element("tag name", "body")
    body.send_keys("?")
    assert page.execute_script("return document.getElementById('keys-sheet').open")
    assert len(page.find_elements("css selector", ".keys kbd")) > 12
    page.execute_script("document.getElementById('keys-sheet').close()")
    for key, button in [("w", "wipe"), ("e", "events"), ("l", "level"), ("m", "slow")]:
        before = page.find_element("id", button).get_attribute("aria-pressed")
        body.send_keys(key)
        assert page.find_element("id", button).get_attribute("aria-pressed") != before
    body.send_keys("4")
    until(lambda: stream.plan.name == "reshutter")
    body.send_keys("+")
    assert text(page, "zoom").startswith("1.5×")


@pytest.mark.browser
def test_appearance_is_chosen_and_kept(page: Any, served: Served) -> None:
    def choose(appearance: str) -> str:
        page.execute_script(
            "const e = document.getElementById('theme'); e.value = arguments[0]; e.dispatchEvent(new Event('change'))",
            appearance,
        )
        return str(page.execute_script("return getComputedStyle(document.body).backgroundColor"))

    dark, light = choose("dark"), choose("light")
    assert dark == "rgb(13, 16, 19)"
    assert light == "rgb(243, 244, 245)"
    page.get(served.url)
    assert page.execute_script("return getComputedStyle(document.body).backgroundColor") == light
    page.execute_script("localStorage.clear()")


@pytest.mark.browser
def test_every_figure_says_what_it_is(page: Any) -> None:
    silent = page.execute_script(
        """const figures = document.querySelectorAll("#readout, .numbers dd, .numbers .value, .numbers svg, #n-method");
        return [...figures].filter((e) => !e.closest("[data-tip]")?.dataset.tip).map((e) => e.id)"""
    )
    assert silent == []
    page.execute_script(
        "document.getElementById('n-late').parentElement.dispatchEvent(new PointerEvent('pointerenter'))"
    )
    until(lambda: not page.execute_script("return document.getElementById('tip').hidden"))
    assert "skipped" in text(page, "tip")


@pytest.mark.browser
def test_every_plan_says_what_it_gives(page: Any, stream: FakeStream) -> None:
    hints = """return Object.fromEntries([...document.querySelectorAll("#plans input")].map(
      (e) => [e.value, e.getAttribute("aria-description")]))"""
    told = page.execute_script(hints)
    assert told.keys() == set(get_args(PlanConfig.model_fields["name"].annotation))
    assert len(set(told.values())) == len(told)
    hover = """const plan = document.querySelector(`#plans input[value=${arguments[0]}]`);
      plan.parentElement.dispatchEvent(new PointerEvent("pointerenter"))"""
    for plan, hint in told.items():
        page.execute_script(hover, plan)
        until(lambda hint=hint: text(page, "tip") == hint)
    stream.has_frames = False
    until(lambda: "does not have" in page.execute_script(hints)["unroll"])
    assert page.execute_script(hints)["upsample"] == told["upsample"]


@pytest.mark.browser
def test_list_of_keys_begins_with_what_the_page_shows_and_what_to_try(page: Any) -> None:
    page.find_element("tag name", "body").send_keys("?")
    words = page.find_element("id", "about-page").text
    assert words.count(".") == 3
    assert "Captured" in words
    assert "Try Slow motion" in words
    page.execute_script("document.getElementById('keys-sheet').close()")


@pytest.mark.browser
def test_question_of_the_page_itself_that_came_too_soon_is_no_message(browser: Any, stream: FakeStream) -> None:
    stream.refusals = {"status": "ask again in a second"}
    served = Served(stream.address, control=stream.control.address)
    try:
        browser.get(served.url)
        assert stream.wait_for("status")
        until(lambda: text(browser, "sentence"))
        statuses = stream.statuses
        until(lambda: stream.statuses > statuses + 2)
        assert text(browser, "toast") == ""
    finally:
        browser.get("about:blank")
        served.close()


@pytest.mark.browser
def test_less_than_asked_for_is_said_with_the_reason(page: Any, stream: FakeStream) -> None:
    stream.figures = {"asked_hz": 400.0, "delivered_hz": 100.0, "reduced_queries": 0, "exposed": 0, "uptime_s": 1.0}
    until(lambda: text(page, "n-asked") == " of 400")
    stream.figures |= {"reduced_queries": 300, "exposed": 100, "uptime_s": 2.0}
    until(lambda: text(page, "n-reason") == "This machine has time for 25 % of the images")
    points = "return document.querySelector('#curve-rate polyline').getAttribute('points').split(' ').length"
    until(lambda: page.execute_script(points) > 3)


@pytest.mark.browser
def test_page_without_a_stream_says_so_and_one_that_ended_keeps_its_last_images(browser: Any) -> None:
    served = Served("tcp://127.0.0.1:9")
    browser.get(served.url)
    until(lambda: "No stream yet" in text(browser, "veil"))
    served.close()
    stream = FakeStream()
    served = Served(stream.address)
    try:
        browser.get(served.url)
        until(lambda: browser.execute_script("return document.getElementById('exposed').dataset.index > 2"))
        stream.figures = {"state": "ended"}
        until(lambda: "has ended" in text(browser, "veil"))
        stream.close()
        until(lambda: held(browser))
        last = digest(browser, "exposed")
        until(lambda: "has ended" in text(browser, "link") and text(browser, "n-rate") == "–")
        assert digest(browser, "exposed") == last
    finally:
        browser.get("about:blank")
        served.close()
        stream.close()


def change(page: Any, element: str, value: str) -> None:
    page.execute_script(
        "const e = document.getElementById(arguments[0]); e.value = arguments[1]; e.dispatchEvent(new Event('change'))",
        element,
        value,
    )


@pytest.mark.browser
def test_replay_is_played_otherwise_and_a_camera_is_not(page: Any, stream: FakeStream) -> None:
    assert page.execute_script("return document.getElementById('replay').hidden")
    stream.figures = {"replay": {"at_us": 1_000_000, "length_us": 4_000_000, "speed": 1.0, "held": False}}
    until(lambda: text(page, "replay-time") == "1.00 / 4.00 s")
    page.find_element("tag name", "body").send_keys("k")
    assert stream.wait_for("play")["play"] == {"held": True}
    until(lambda: page.find_element("id", "replay-hold").get_attribute("aria-pressed") == "true")
    press(page, "#replay-step")
    until(lambda: stream.wait_for("play")["play"] == {"step": True})
    drag(page, "replay-at", 750)
    until(lambda: stream.wait_for("play")["play"] == {"at_us": 3_000_000})
    change(page, "replay-speed", "0.25")
    until(lambda: stream.wait_for("play")["play"] == {"speed": 0.25})


@pytest.mark.browser
def test_stream_is_recorded_and_that_is_seen(page: Any, stream: FakeStream) -> None:
    press(page, "#stream")
    change(page, "record-file", "walk.aedat4")
    press(page, "#record")
    assert "walk.aedat4" in text(page, "confirm-text")
    assert not any(request["command"] == "record" for request in stream.asked)
    press(page, "#confirm-yes")
    until(lambda: text(page, "recording").split() == ["Recording", "00:03"])
    assert "/data/walk.aedat4" in text(page, "record-note")
    press(page, "#record")
    press(page, "#confirm-yes")
    until(lambda: page.execute_script("return document.getElementById('recording').hidden"))
    assert stream.wait_for("record")["file"] == "walk.aedat4"


@pytest.mark.browser
def test_method_and_source_are_changed_after_a_word_and_failures_are_told(page: Any, stream: FakeStream) -> None:
    stream.figures = {"reconstructor": {"backend": "edi", "size": "nano", "engine": "auto"}}
    press(page, "#stream")
    until(lambda: page.execute_script("return document.getElementById('backend').value") == "edi")
    change(page, "backend", "flow")
    press(page, "#method-change")
    press(page, "#confirm-yes")
    wanted = {"backend": "flow", "size": "nano", "engine": "auto"}
    assert stream.wait_for("set_reconstructor")["settings"] == wanted
    stream.figures["method_change"] = {"number": 7, "state": "failed", "error": "no such method"}
    until(lambda: text(page, "method-note") == "no such method")
    change(page, "source-settings", "exposure_us=4000 color=gray flip=true")
    press(page, "#source-change")
    press(page, "#confirm-yes")
    assert stream.wait_for("set_source")["settings"] == {"exposure_us": 4000, "color": "gray", "flip": True}
    change(page, "source-settings", "what")
    press(page, "#source-change")
    assert "KEY=VALUE" in text(page, "source-note")
    assert not page.execute_script("return document.getElementById('confirm').open")


def value(page: Any, element: str) -> str:
    return str(page.execute_script("return document.getElementById(arguments[0]).value", element))


@pytest.mark.browser
@pytest.mark.parametrize("at_once", [True, False])
def test_refused_method_is_told_below_its_form_which_goes_back_to_what_runs(
    page: Any, stream: FakeStream, at_once: bool
) -> None:
    stream.figures = {"reconstructor": {"backend": "edi", "size": "nano", "engine": "auto"}}
    why = "no trained weights of size 'small' come with this version"
    if at_once:
        stream.refusals = {"set_reconstructor": why}
    press(page, "#stream")
    until(lambda: value(page, "backend") == "edi")
    for element, chosen in (("backend", "neural"), ("size", "small"), ("engine", "openvino")):
        change(page, element, chosen)
    press(page, "#method-change")
    press(page, "#confirm-yes")
    wanted = {"backend": "neural", "size": "small", "engine": "openvino"}
    assert stream.wait_for("set_reconstructor")["settings"] == wanted
    if not at_once:
        stream.figures["method_change"] = {"number": 7, "state": "failed", "error": why}
    until(lambda: text(page, "method-note") == why)
    assert [value(page, element) for element in ("backend", "size", "engine")] == ["edi", "nano", "auto"]
    assert text(page, "toast") == ""
    count = stream.statuses
    until(lambda: stream.statuses > count + 3)
    assert text(page, "method-note") == why
    change(page, "backend", "flow")
    assert text(page, "method-note") == ""


@pytest.mark.browser
@pytest.mark.parametrize(
    ("command", "field", "wish", "button", "note"),
    [
        ("set_source", "source-settings", "exposure=banana", "source-change", "source-note"),
        ("record", "record-file", "there.nire", "record", "record-note"),
    ],
)
def test_refusal_is_told_below_the_field_that_it_is_of(
    page: Any, stream: FakeStream, command: str, field: str, wish: str, button: str, note: str
) -> None:
    stream.refusals = {command: "that cannot be"}
    press(page, "#stream")
    change(page, field, wish)
    press(page, f"#{button}")
    press(page, "#confirm-yes")
    until(lambda: text(page, note) == "that cannot be")
    count = stream.statuses
    until(lambda: stream.statuses > count + 3)
    assert text(page, note) == "that cannot be"
    assert value(page, field) == wish
    change(page, field, "")
    assert text(page, note) == ""


@pytest.mark.browser
def test_engines_are_offered_for_the_backend_that_has_them(page: Any, stream: FakeStream) -> None:
    stream.figures = {"reconstructor": {"backend": "neural", "size": "nano", "engine": "my.engine"}}
    options = "return [...document.getElementById(arguments[0]).options].map((each) => each.value)"
    until(lambda: value(page, "engine") == "my.engine")
    assert page.execute_script(options, "engine") == ["auto", "eager", "openvino", "my.engine"]
    assert page.execute_script(options, "size") == ["nano", "small"]
    change(page, "backend", "edi")
    assert value(page, "engine") == "auto"
    assert page.execute_script("return ['size', 'engine'].every((each) => document.getElementById(each).disabled)")


@pytest.mark.browser
def test_colours_of_events_are_of_this_browser_and_their_time_is_for_everyone(page: Any, stream: FakeStream) -> None:
    stream.figures = {"events_ms": 10.0}
    press(page, "#events")
    until(lambda: page.execute_script("return document.getElementById('overlay').dataset.index > 2"))
    change(page, "colours", "white-black")
    gray = """const c = document.getElementById("overlay");
    const d = c.getContext("2d").getImageData(0, 0, c.width, c.height).data;
    let lit = 0, coloured = 0;
    for (let i = 0; i < d.length; i += 4) if (d[i + 3]) { lit += 1; coloured += d[i] !== d[i + 1]; }
    return lit > 50 && coloured === 0"""
    until(lambda: page.execute_script(gray))
    until(lambda: page.execute_script("return document.getElementById('events_ms').value") == "10")
    change(page, "events_ms", "40")
    assert stream.wait_for("set_events")["events_ms"] == 40


@pytest.mark.browser
def test_what_is_saved_is_named_by_this_page(page: Any) -> None:
    page.execute_script("document.getElementById('save-clip').addEventListener('click', (e) => e.preventDefault())")
    press(page, "#save-clip")
    assert re.search(r"/clip\.mp4\?view=\S{16,}$", page.find_element("id", "save-clip").get_attribute("href"))
