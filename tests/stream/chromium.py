"""Headless Chromium, and what the tests of the page do in it."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

FLAGS = (
    "--headless=new --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync"
)
CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")


@contextmanager
def open_browser(profile: Path) -> Iterator[Any]:
    """A browser with an empty profile; skips the test where there is none."""
    if CHROMIUM is None or DRIVER is None:
        pytest.skip("needs chromium and chromedriver (Debian packages chromium, chromium-driver)")
    webdriver = pytest.importorskip("selenium.webdriver")
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for flag in FLAGS.split():
        options.add_argument(flag)
    options.add_argument(f"--user-data-dir={profile}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
    try:
        yield driver
    finally:
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
