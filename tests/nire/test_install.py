"""How an extra is installed: the command fits a checkout, another folder, and an installed package."""

from __future__ import annotations

import re
import shlex
import sys
import tomllib
from pathlib import Path

import pytest

from drivers.source import missing_package, require_sdk
from nire import install
from nire.errors import SdkMissing

ROOT = Path(__file__).parents[2]
EXTRAS = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]


def test_in_the_checkout_the_command_is_short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    assert install.checkout() == ROOT.resolve()
    assert install.pip_install("davis") == "pip install -e '.[davis]'"


def test_from_another_folder_the_command_names_the_checkout(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    assert shlex.split(install.pip_install("davis")) == ["pip", "install", "-e", f"{ROOT.resolve()}[davis]"]


def test_where_a_package_is_installed_the_command_names_the_package(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(install, "__file__", str(tmp_path / "site-packages" / "nire" / "install.py"))
    assert install.checkout() is None
    assert install.pip_install("davis") == "pip install 'nire-live[davis]'"


@pytest.mark.parametrize("packaged", [False, True])
def test_message_about_a_missing_sdk_has_the_command(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, packaged: bool
) -> None:
    monkeypatch.chdir(ROOT)
    if packaged:
        monkeypatch.setattr(install, "__file__", str(tmp_path / "nire" / "install.py"))
    command = re.escape("pip install 'nire-live[davis]'" if packaged else "pip install -e '.[davis]'")
    with pytest.raises(SdkMissing, match=f"To fix it: {command}$"):
        require_sdk("no_such_sdk", package="no-such-sdk", extra="davis")
    assert re.fullmatch(f"no-such-sdk: {command}", missing_package("no_such_sdk", package="no-such-sdk", extra="davis"))
    monkeypatch.setitem(sys.modules, "h5py", None)
    from drivers.recordings import hdf5, metavision_hdf5

    for driver in (hdf5, metavision_hdf5):
        assert driver.missing_sdk() == "h5py: " + install.pip_install("hdf5")


def test_no_message_writes_the_command_itself_and_every_extra_that_is_named_exists() -> None:
    sources = [path for name in ("nire", "drivers", "stream") for path in (ROOT / name).rglob("*.py")]
    texts = {path: path.read_text(encoding="utf-8") for path in sources if path.name != "install.py"}
    assert not [path for path, text in texts.items() if "nire-live[" in text]
    named = {extra for text in texts.values() for extra in re.findall(r"pip_install\(['\"](\w+)['\"]\)", text)}
    assert {"hdf5", "int8"} <= named <= set(EXTRAS)
