"""Live drivers over the stubs of their SDKs, as sources that can be opened again; skipped where an SDK is absent."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pytest

from drivers.detect import open_driver
from drivers.source import Source
from tests.drivers.packets.made import UntilLost


class Stubbed(UntilLost):
    """A source whose SDK is replaced while it is open; it ends where the script of its device ends."""

    def __init__(self, install: Callable[[pytest.MonkeyPatch], Any], source: Source) -> None:
        super().__init__(source)
        self._install = install
        self._patch = pytest.MonkeyPatch()

    def __enter__(self) -> Self:
        self._install(self._patch)
        return super().__enter__()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        super().__exit__(kind, error, trace)
        self._patch.undo()


def davis346(*, color: bool = False) -> Source:
    from tests.drivers.cameras import stub_davis

    bus = stub_davis.StubBus({"00000": stub_davis.moving_bar()}, color=color, comes_back=True)
    return Stubbed(bus.install, open_driver("davis346", triggers="both"))


def neuromorphic(kind: str) -> Source:
    from tests.drivers.cameras import stub_neuromorphic

    package = stub_neuromorphic.StubPackage({"S0": (kind, stub_neuromorphic.moving_dot(kind))})
    return Stubbed(package.install, open_driver("neuromorphic", device=kind))


def metavision(raw: Path | None = None) -> Source:
    from tests.drivers.cameras import stub_metavision

    steps = stub_metavision.moving_dot()
    sdk = stub_metavision.StubSdk({"00001": steps}, raw=steps)
    if raw is None:
        return Stubbed(sdk.install, open_driver("metavision"))
    raw.write_bytes(b"% evt 3.0\n% end\n")
    return Stubbed(sdk.install, open_driver("metavision", path=raw))
