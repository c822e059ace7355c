"""A preview server in an event loop of its own."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine
from typing import Any, TypeVar

from stream.preview.server import PreviewServer
from tests.waiting import PATIENCE_S

T = TypeVar("T")


class Served:
    """Served until closed; `url` is the page."""

    def __init__(self, address: str, bind: str = "127.0.0.1:0", control: str = "", **settings: Any) -> None:
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever)
        self._thread.start()
        self.server = PreviewServer(address, control, bind, fps=30, **settings)
        self.url = self.run(self.server.start())

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(PATIENCE_S)

    def close(self) -> None:
        self.run(self.server.close())
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join()
        self.loop.close()
