"""What the kernel lists: which cameras, and whether this user may open them."""

from __future__ import annotations

from pathlib import Path

import pytest

from drivers.sdk import usb


def _plug(root: Path, name: str, number: int, vendor: str, product: str, serial: str = "", mode: int = 0o600) -> None:
    folder = root / "sys" / name
    folder.mkdir(parents=True)
    words = {"idVendor": vendor, "idProduct": product, "busnum": "1", "devnum": str(number), "serial": serial}
    for key, word in words.items():
        if word:
            (folder / key).write_text(word + "\n")
    node = root / "dev" / "001" / f"{number:03d}"
    node.parent.mkdir(parents=True, exist_ok=True)
    node.touch()
    node.chmod(mode)


def test_cameras_are_told_from_other_devices(tmp_path: Path) -> None:
    _plug(tmp_path, "1-1", 5, "152a", "841a", "00000391")
    _plug(tmp_path, "1-2", 6, "04b4", "00f5")
    _plug(tmp_path, "1-3", 7, "046d", "c52b", "mouse")
    _plug(tmp_path, "1-4", 8, "152a", "8499")
    (tmp_path / "sys" / "1-1:1.0").mkdir()  # an interface, not a device
    found = usb.attached(tmp_path / "sys", tmp_path / "dev")
    assert [(camera.model, camera.serial, camera.drivers[0]) for camera in found] == [
        ("iniVation DAVIS346", "00000391", "davis346"),
        ("Prophesee EVK4", "", "neuromorphic"),
        ("iniVation device 152a:8499", "", "davis346"),
    ]
    assert found[0].node == tmp_path / "dev" / "001" / "005"


def test_machine_without_usb_has_none(tmp_path: Path) -> None:
    assert usb.attached(tmp_path / "sys", tmp_path / "dev") == []


def test_camera_that_may_not_be_opened_gets_the_udev_rules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _plug(tmp_path, "1-1", 5, "152a", "841a", "00000391")
    monkeypatch.setattr(usb.os, "access", lambda *_: False)  # tests may run as root
    monkeypatch.setattr(usb, "SYSFS", tmp_path / "sys")
    cameras = usb.attached(tmp_path / "sys", tmp_path / "dev")
    hint = usb.permission_hint(cameras)
    assert "iniVation DAVIS346" in hint
    assert "65-event-cameras.rules" in hint
    assert 'ATTRS{idVendor}=="152a"' in hint
    assert "udevadm trigger" in hint


def test_why_a_driver_found_nothing_goes_by_what_the_usb_shows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(usb, "attached", list)
    assert "none is on the USB" in usb.why_absent("davis346")
    camera = usb.UsbCamera("iniVation DAVIS346", ("davis346", "neuromorphic"), "1", tmp_path, allowed=True)
    monkeypatch.setattr(usb, "attached", lambda: [camera])
    assert "another program" in usb.why_absent("davis346")
    assert "none is on the USB" in usb.why_absent("metavision")
    closed = usb.UsbCamera("iniVation DAVIS346", ("davis346",), "1", tmp_path, allowed=False)
    monkeypatch.setattr(usb, "attached", lambda: [closed])
    assert "udev" in usb.why_absent("davis346")
    assert usb.permission_hint([camera]) == ""
