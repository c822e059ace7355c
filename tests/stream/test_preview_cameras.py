"""The preview page of several cameras in headless Chromium: side by side, and each on a page of its own."""

from __future__ import annotations

import urllib.error
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest

from tests.stream.chromium import drag, text
from tests.stream.fake_stream import FakeStream
from tests.stream.serving import Served
from tests.waiting import until


@pytest.fixture
def stream() -> Iterator[FakeStream]:
    stream = FakeStream(cameras=("left", "right"))
    yield stream
    stream.close()


@pytest.fixture
def served(stream: FakeStream) -> Iterator[Served]:
    served = Served(stream.address)
    yield served
    served.close()


@pytest.fixture
def page(browser: Any, served: Served) -> Iterator[Any]:
    """Whatever the address of the page leads to, in a window for two films."""
    before = browser.get_window_size()
    browser.set_window_size(1280, 900)
    browser.get_log("browser")  # what was said of pages before
    browser.get(served.url)
    yield browser
    errors = [line for line in browser.get_log("browser") if line["level"] == "SEVERE" and "ws" not in line["message"]]
    browser.get("about:blank")
    browser.set_window_size(before["width"], before["height"])
    assert not errors


def look(page: Any, camera: str, part: str = "") -> Any:
    """What a tile says, or the pixels of its picture; None where it is not there."""
    return page.execute_script(
        """const part = document.querySelector(`[data-camera="${arguments[0]}"] ${arguments[1]}`);
        if (part === null) return null;
        if (part.tagName !== "CANVAS") return part.textContent;
        const d = part.getContext("2d").getImageData(0, 0, part.width, part.height).data;
        let h = 0; for (let i = 0; i < d.length; i += 4) h = (h * 31 + d[i] + d[i + 3]) | 0; return h;""",
        camera,
        part,
    )


@pytest.mark.browser
def test_cameras_are_side_by_side_with_names_pictures_and_figures(page: Any) -> None:
    for camera in ("left", "right"):
        until(lambda camera=camera: look(page, camera, "canvas") is not None)
        first = look(page, camera, "canvas")
        until(lambda camera=camera, first=first: look(page, camera, "canvas") != first)
        assert look(page, camera, ".name") == camera
        until(lambda camera=camera: "fake camera, deblur" in look(page, camera, ".note"))
        until(lambda camera=camera: "a second" in look(page, camera, "[data-figure=rate]"))
        assert look(page, camera, "[data-figure=lost]") == "nothing"
    assert page.current_url.endswith("/cameras")
    tops = page.execute_script(
        "return [...document.querySelectorAll('.camera')].slice(0, 2).map((t) => t.getBoundingClientRect().top)"
    )
    assert tops[0] == tops[1]


@pytest.mark.browser
def test_camera_without_frames_shows_its_events_until_something_is_exposed(page: Any, stream: FakeStream) -> None:
    stream.has_frames, stream.paused = False, True
    until(lambda: "paused" in (look(page, "left", ".note") or ""))
    for _ in range(3):
        first = look(page, "left", "canvas")
        until(lambda first=first: look(page, "left", "canvas") != first)
    stream.paused = False
    until(lambda: "paused" not in look(page, "left", ".note"))
    first = look(page, "left", "canvas")
    until(lambda: look(page, "left", "canvas") != first)


@pytest.mark.browser
def test_camera_that_has_failed_says_so(page: Any) -> None:
    until(lambda: "failed" in (look(page, "absent", ".note") or ""))


@pytest.mark.browser
def test_tile_leads_to_the_page_of_its_camera_and_back(page: Any, stream: FakeStream) -> None:
    until(lambda: look(page, "right", "canvas") is not None)
    page.execute_script("document.querySelector('[data-camera=\"right\"]').click()")
    until(lambda: "right: fake camera" in (page.execute_script("return document.body.innerText") or ""))
    page.execute_script("sessionStorage.setItem('nire-live-operates', 'yes')")
    until(lambda: page.find_element("id", "dial").get_attribute("aria-valuemax") == "20000")
    drag(page, "offset_us", 500)
    assert stream.wait_for("set_plan")["camera"] == "right"
    assert text(page, "cameras") == "All cameras"
    page.execute_script("document.getElementById('cameras').click()")
    until(lambda: look(page, "left", ".name") == "left")


def test_page_follows_a_camera_only_while_somebody_looks(served: Served, stream: FakeStream) -> None:
    # A server connects once when it starts, to see that its address serves; on a busy machine that is still there.
    until(lambda: not stream.subscriptions)
    with pytest.raises(urllib.error.HTTPError, match="404"):
        urllib.request.urlopen(f"{served.url}ws?camera=a%20b")
    assert list(served.server._feeds) == [""]
