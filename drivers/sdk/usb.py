"""Event cameras on the USB, told from the kernel's own list: which are there, and whether this user may open them."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

SYSFS = Path("/sys/bus/usb/devices")
DEV = Path("/dev/bus/usb")
RULES = (
    'SUBSYSTEM=="usb", ATTRS{idVendor}=="152a", ATTRS{idProduct}=="84[0-1]?", MODE="0666"',
    'SUBSYSTEM=="usb", ATTRS{idVendor}=="04b4", ATTRS{idProduct}=="00f[4-5]", MODE="0666"',
    'SUBSYSTEM=="usb", ATTRS{idVendor}=="31f7", ATTRS{idProduct}=="000[3-4]", MODE="0666"',
)
"""udev rules that let every user open iniVation, Prophesee and CenturyArks cameras."""

# Vendor, product -> what it is, and the drivers here that can open it. From the udev rules of neuromorphic-drivers and
# libcaer's table of devices; unlisted products of iniVation are named by their vendor.
_MODELS = {
    ("152a", "841a"): ("iniVation DAVIS346", ("davis346", "neuromorphic")),
    ("152a", "841b"): ("iniVation DAVIS (FX2)", ("davis346",)),
    ("152a", "841d"): ("iniVation DAVIS (FX3)", ("davis346",)),
    ("152a", "8419"): ("iniVation DVXplorer", ("neuromorphic",)),
    ("04b4", "00f4"): ("Prophesee EVK3 or EVK4", ("neuromorphic", "metavision")),
    ("04b4", "00f5"): ("Prophesee EVK4", ("neuromorphic", "metavision")),
    ("31f7", "0003"): ("CenturyArks SilkyEvCam", ("neuromorphic", "metavision")),
    ("31f7", "0004"): ("CenturyArks SilkyEvCam HD", ("metavision",)),
}


@dataclass(frozen=True, slots=True)
class UsbCamera:
    """An event camera that the kernel sees.

    Attributes:
        model: for people.
        drivers: of this project that open it, the preferred one first.
        serial: as the device's descriptor says, "" where it does not.
        node: its file under /dev/bus/usb.
        allowed: this process may read and write the node.
    """

    model: str
    drivers: tuple[str, ...]
    serial: str
    node: Path
    allowed: bool


def attached(sysfs: Path = SYSFS, dev: Path = DEV) -> list[UsbCamera]:
    """List the event cameras on the USB; empty where there is no USB.

    Args:
        sysfs, dev: where the kernel lists devices, and their nodes.
    """
    found = []
    for folder in sorted(sysfs.iterdir()) if sysfs.is_dir() else ():
        vendor, product = _word(folder, "idVendor"), _word(folder, "idProduct")
        model = _MODELS.get((vendor, product))
        if model is None and vendor == "152a" and product.startswith("84"):
            model = (f"iniVation device 152a:{product}", ("davis346",))
        bus, number = _word(folder, "busnum"), _word(folder, "devnum")
        if model is None or not bus.isdigit() or not number.isdigit():
            continue
        node = dev / f"{int(bus):03d}" / f"{int(number):03d}"
        found.append(UsbCamera(*model, _word(folder, "serial"), node, os.access(node, os.R_OK | os.W_OK)))
    return found


def permission_hint(cameras: list[UsbCamera]) -> str:
    """Say what to do about cameras that this user may not open; "" where there is none."""
    closed = [camera for camera in cameras if not camera.allowed]
    if not closed:
        return ""
    names = ", ".join(f"{camera.model} at {camera.node}" for camera in closed)
    rules = "\\n".join(RULES)
    return (
        f"{names}: connected, but this user may not open it. Install the udev rules, then plug it in again:\n"
        f"  printf '{rules}\\n' | sudo tee /etc/udev/rules.d/65-event-cameras.rules\n"
        "  sudo udevadm control --reload-rules && sudo udevadm trigger"
    )


def why_absent(driver: str) -> str:
    """Explain why a driver found no device: what the USB shows of it, or that nothing is connected."""
    mine = [camera for camera in attached() if driver in camera.drivers]
    if not mine:
        return "none is on the USB: check cable, port and power ('nire-live devices' lists what is connected)"
    hint = permission_hint(mine)
    return hint or "the USB shows one: is another program using it?"


def _word(folder: Path, name: str) -> str:
    try:
        return (folder / name).read_text(encoding="utf-8").strip()
    except OSError:
        return ""
