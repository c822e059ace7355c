"""`nire-live devices`: what is connected, what is installed, and what to do about what is not."""

from __future__ import annotations

import io
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from rich.console import Console

from drivers.cameras import davis346, metavision, neuromorphic
from drivers.sdk import usb
from nire.install import pip_install
from stream.commands import devices


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """Nothing is connected, whatever machine this is."""
    monkeypatch.setattr(usb, "attached", list)
    for driver in (davis346, metavision, neuromorphic):
        monkeypatch.setattr(driver, "connected", list)
    return monkeypatch


def _text(width: int = 300) -> str:
    out = io.StringIO()
    devices.show(Console(file=out, width=width))
    return out.getvalue()


def test_nothing_connected_is_said_and_every_driver_listed(shown: pytest.MonkeyPatch) -> None:
    text = _text()
    assert "No event camera is on the USB" in text
    cameras, _, recordings = text.partition("\nrecordings")
    for name in ("davis346", "dv_network", "metavision", "neuromorphic", "synthetic"):
        assert f"│ {name} " in cameras
    for name in ("aedat4", "npz", "recording"):
        assert f"│ {name} " in recordings


def test_missing_packages_come_with_the_command_that_installs_them(shown: pytest.MonkeyPatch) -> None:
    for name in ("dv_processing", "neuromorphic_drivers", "metavision_hal"):
        shown.setitem(sys.modules, name, None)
    text = _text()
    assert text.count(pip_install("davis")) == 2
    assert pip_install("neuromorphic") in text
    assert "Metavision SDK or OpenEB (https://docs.prophesee.ai)" in text


def test_camera_that_may_not_be_opened_is_shown_with_the_udev_rules(shown: pytest.MonkeyPatch) -> None:
    node = Path("/dev/bus/usb/001/005")
    shown.setattr(
        usb, "attached", lambda: [usb.UsbCamera("iniVation DAVIS346", ("davis346",), "391", node, allowed=False)]
    )
    text = _text()
    assert "iniVation DAVIS346" in text
    assert "may not open it" in text
    assert "printf 'SUBSYSTEM" in text
    assert 'ATTRS{idVendor}=="152a", ATTRS{idProduct}=="84[0-1]?"' in text  # brackets are no markup
    assert "/etc/udev/rules.d/" in text


def test_what_an_sdk_sees_is_shown_and_a_broken_one_hides_nothing(shown: pytest.MonkeyPatch) -> None:
    def broken() -> list[str]:
        raise OSError("libusb is too old")

    shown.setattr(neuromorphic, "connected", lambda: ["Prophesee EVK4 00051234"])
    shown.setattr(metavision, "connected", broken)
    text = _text()
    assert "driver neuromorphic sees: Prophesee EVK4 00051234" in text
    assert "driver metavision sees: nothing, its SDK failed: OSError: libusb is too old" in text
    assert "│ synthetic " in text


def test_cameras_of_the_sdks_are_named_by_serial(monkeypatch: pytest.MonkeyPatch) -> None:
    dv = pytest.importorskip("dv_processing", reason="dv-processing is not installed")
    found = SimpleNamespace(serialNumber="00000391", cameraModel=dv.io.camera.CameraModel.DAVIS)
    monkeypatch.setattr(dv.io.camera, "discover", lambda: [found])
    assert davis346.connected() == ["DAVIS 00000391"]
