"""What could be a source on this machine: cameras that are connected, the drivers, and what each of those lacks."""

from __future__ import annotations

import importlib
from types import ModuleType

from rich.console import Console
from rich.table import Table
from rich.text import Text

from drivers.detect import driver_module, driver_names
from drivers.sdk import usb


def command() -> None:
    """List connected devices, and the drivers with what each needs."""
    show(Console())


def show(console: Console) -> None:
    """Print the cameras on the USB and those that the installed SDKs see, then the drivers and what each lacks."""
    modules = {name: _module(name) for name in driver_names()}
    _show_cameras(console, usb.attached())
    _show_seen(console, modules)
    files = {name: module for name, module in modules.items() if hasattr(module, "recognise")}
    _show_drivers(console, {name: it for name, it in modules.items() if name not in files}, "cameras and streams")
    _show_drivers(console, files, "recordings")


def _show_cameras(console: Console, cameras: list[usb.UsbCamera]) -> None:
    if not cameras:
        console.print("No event camera is on the USB of this machine.")
        return
    table = Table("camera", "serial", "drivers", "state", title="on the USB", title_justify="left")
    for camera in cameras:
        state = "ready" if camera.allowed else "this user may not open it"
        table.add_row(camera.model, camera.serial or "-", ", ".join(camera.drivers), state)
    console.print(table)
    if hint := usb.permission_hint(cameras):
        console.print(hint, highlight=False, soft_wrap=True, markup=False)


def _show_seen(console: Console, modules: dict[str, ModuleType | ImportError]) -> None:
    """Print what the SDKs see: also cameras that are not on the USB, and the serial numbers to use in a config."""
    for name, module in modules.items():
        for camera in _connected(module):
            console.print(f"driver {name} sees: {camera}", markup=False)


def _connected(module: ModuleType | ImportError) -> list[str]:
    """Ask a driver what its SDK sees; a driver without `connected() -> list[str]` has nothing to say."""
    if not hasattr(module, "connected"):
        return []
    try:
        return list(module.connected())
    except Exception as error:  # noqa: BLE001 - a broken SDK must not hide what the others see
        return [f"nothing, its SDK failed: {type(error).__name__}: {error}"]


def _show_drivers(console: Console, modules: dict[str, ModuleType | ImportError], title: str) -> None:
    table = Table("driver", "what it is", "state", title=title, title_justify="left")
    for name, module in modules.items():
        if isinstance(module, ImportError):
            table.add_row(name, "", Text(f"cannot be imported: {module}"))
        else:
            table.add_row(name, (module.__doc__ or "").splitlines()[0].rstrip("."), Text(_state(module)))
    console.print(table)


def _module(name: str) -> ModuleType | ImportError:
    try:
        return importlib.import_module(driver_module(name))
    except ImportError as error:
        return error


def _state(module: ModuleType) -> str:
    """Ask the driver what it lacks: `missing_sdk() -> str`, "" when nothing; a driver without it needs nothing."""
    missing = module.missing_sdk() if hasattr(module, "missing_sdk") else ""
    return f"missing: {missing}" if missing else "ready"
