"""What a browser may take along: the image that it shows, with the camera's values, and a film of the last seconds."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Iterable
from pathlib import Path

from aiohttp import web

from nire.errors import NireError
from stream.preview.browser import Browser
from stream.preview.images import png
from stream.preview.moments import Picture
from stream.preview.reel import Shot, write_clip


class Downloads:
    """Answers for the browsers that are there; each is named by what its WebSocket was told."""

    def __init__(self, browsers: Iterable[Browser]) -> None:
        """Look at `browsers`, which may change."""
        self._browsers = browsers
        self._one_at_a_time = asyncio.Lock()

    def add_to(self, app: web.Application) -> None:
        """Serve /picture/exposed.png, /picture/captured.png and /clip.mp4, each with ?view=NAME."""
        app.router.add_get("/picture/{kind:exposed|captured}.png", self._picture)
        app.router.add_get("/clip.mp4", self._clip)

    async def _picture(self, request: web.Request) -> web.StreamResponse:
        """The image that is shown, as PNG with the values of the wire."""
        moment = self._browser(request).shown
        picture = moment.exposed if request.match_info["kind"] == "exposed" else moment.captured
        file = png(picture.message.pixels) if picture is not None else None
        if picture is None or file is None:
            raise web.HTTPNotFound(text="there is no such image on the page yet\n")
        return _attached(file, "image/png", f"nire-{picture.kind}-{_moment_of(picture)}.png")

    async def _clip(self, request: web.Request) -> web.StreamResponse:
        """What was shown in the last seconds, as a film."""
        shots = self._browser(request).reel.shots()
        async with self._one_at_a_time:  # a film takes a core for a second or two
            try:
                file = await asyncio.to_thread(_film, shots)
            except NireError as error:
                raise web.HTTPServiceUnavailable(text=f"{error}\n") from None
        if not file:
            raise web.HTTPNotFound(text="nothing has been shown on the page yet\n")
        return _attached(file, "video/mp4", "nire-clip.mp4")

    def _browser(self, request: web.Request) -> Browser:
        """Find whose page asks.

        Raises:
            HTTPNotFound: nobody's.
        """
        for browser in self._browsers:
            if browser.name == request.query.get("view"):
                return browser
        raise web.HTTPNotFound(text="this page is not open any more\n")


def _film(shots: list[Shot]) -> bytes:
    with tempfile.TemporaryDirectory(prefix="nire-") as folder:
        path = Path(folder) / "clip.mp4"
        return path.read_bytes() if write_clip(shots, path) else b""


def _moment_of(picture: Picture) -> str:
    return f"{picture.message.header.get('index', 0):06d}-{picture.mid_us:.0f}us"


def _attached(file: bytes, kind: str, name: str) -> web.Response:
    return web.Response(body=file, content_type=kind, headers={"Content-Disposition": f'attachment; filename="{name}"'})
