"""Serve the preview page: its files, and a WebSocket with images, numbers and the way back for wishes."""

from __future__ import annotations

import asyncio
import hmac
import secrets
import signal
import socket
import webbrowser
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

from aiohttp import web

from stream.config import is_loopback
from stream.config_sections import CAMERA_NAME, PreviewConfig
from stream.desktop import has_display
from stream.preview import metrics
from stream.preview.binding import bound, host_and_port
from stream.preview.browser import Browser
from stream.preview.downloads import Downloads
from stream.preview.feed import Feed
from stream.sockets.keys import ClientKeys

PAGE = Path(__file__).parent / "page"
_COOKIE = "nire-live-token"
_OPERATOR, _OBSERVER = "operator", "observer"
_MAX_REQUEST_BYTES = 1 << 14
_HEADERS = {
    "Content-Security-Policy": "default-src 'self'; img-src 'self' blob: data:; frame-ancestors 'none'",
    "Cache-Control": "no-cache",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


def main(
    publish_address: str,
    control_address: str = "",
    bind: str = PreviewConfig().bind,
    *,
    fps: float = PreviewConfig().fps,
    keys: ClientKeys | None = None,
    token: str = "",
    open_browser: bool = False,
    say: Callable[[str], None] | None = print,
) -> None:
    """Serve until SIGINT, SIGTERM or SIGHUP; also the target of a spawned process.

    Args:
        publish_address: of the stream to show.
        control_address: of the stream; "" = as its status says.
        bind: host:port; port 0 takes any free one.
        fps: images a second sent to a browser.
        keys: where the stream has keys.
        token: asked for beyond loopback; "" = one is made.
        open_browser: open the page where there is a display.
        say: told the address once the page is served; None = nobody.

    Raises:
        ConfigError: the address cannot be bound, or the stream's address is no ZMQ address.
    """
    # A signal that comes before the event loop can take it must not tear the loop's making apart.
    early: list[int] = []
    before = {number: signal.signal(number, lambda signum, _: early.append(signum)) for number in _endings()}
    try:
        asyncio.run(
            _serve_until_signal(
                publish_address, control_address, bind, fps, keys, token, open_browser, say, list(before), early
            )
        )
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


async def _serve_until_signal(
    publish_address: str,
    control_address: str,
    bind: str,
    fps: float,
    keys: ClientKeys | None,
    token: str,
    open_browser: bool,
    say: Callable[[str], None] | None,
    endings: list[signal.Signals],
    early: list[int],
) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in endings:
        loop.add_signal_handler(number, stop.set)
    if early:
        stop.set()
    server = PreviewServer(publish_address, control_address, bind, fps=fps, keys=keys, token=token)
    try:
        address = await server.start()
        if say is not None:
            say(f"preview: {address}")
            say(f"preview, to look only: {server.observers_address}")
        # Without a display webbrowser starts a text browser in the terminal, and waits for it.
        if open_browser and has_display():
            await asyncio.to_thread(webbrowser.open, address)
        await stop.wait()
    finally:
        await server.close()


class PreviewServer:
    """The page and its WebSocket, inside a running event loop."""

    def __init__(
        self,
        publish_address: str,
        control_address: str,
        bind: str,
        *,
        fps: float,
        keys: ClientKeys | None = None,
        token: str = "",
        observers_token: str = "",
    ) -> None:
        """Prepare; see `main` for the arguments.

        Args:
            observers_token: with it in the address, a page only looks; "" = one is made.

        Raises:
            ConfigError: `bind` is no host:port.
        """
        self.observers_address = ""
        self._host, _ = host_and_port(bind)
        self._bind = bind
        self._loopback = is_loopback(bind)
        self._token = token or ("" if self._loopback else secrets.token_urlsafe(24))
        self._observers_token = observers_token or secrets.token_urlsafe(9 if self._loopback else 24)
        self._period_s = 1 / fps
        self._feed = Feed(publish_address, control_address, keys)
        self._feed_of = partial(Feed, publish_address, control_address, keys)
        self._feeds: dict[str, Feed] = {"": self._feed}
        """By camera, those that a browser shows; and the one of the whole stream."""
        self._clients: set[Browser] = set()
        self._runner: web.AppRunner | None = None
        self._pump: asyncio.Task[None] | None = None

    async def start(self) -> str:
        """Bind and serve.

        Returns:
            The address of the page, with the token where one is needed.

        Raises:
            ConfigError: the address cannot be bound.
        """
        # One connection now, so that an impossible address is an error here and not a silent page.
        self._feed.follow(("status",))
        self._feed.follow(())
        app = web.Application(middlewares=[self._guard], client_max_size=_MAX_REQUEST_BYTES)
        app.router.add_get("/", partial(self._page, "index.html"))
        app.router.add_get("/cameras", partial(self._page, "cameras.html"))
        app.router.add_get("/ws", self._socket)
        app.router.add_get("/metrics", self._metrics)
        Downloads(self._clients).add_to(app)
        app.router.add_static("/page/", PAGE)
        self._runner = web.AppRunner(app, access_log=None, handle_signals=False, shutdown_timeout=1.0)
        await self._runner.setup()
        for each in bound(self._bind):
            await web.SockSite(self._runner, each).start()
        self._pump = asyncio.create_task(self._run())
        port = self._runner.addresses[0][1]
        host = socket.gethostname() if self._host in ("0.0.0.0", "::") else self._host
        host = f"[{host}]" if ":" in host else host
        page = f"http://{host}:{port}/"
        self.observers_address = f"{page}?token={self._observers_token}"
        return page + (f"?token={self._token}" if self._token else "")

    async def close(self) -> None:
        """Stop serving; safe to call twice."""
        if self._pump is not None:
            self._pump.cancel()
            await asyncio.gather(self._pump, return_exceptions=True)
        for feed in list(self._feeds.values()):
            feed.drain()
        for client in list(self._clients):
            await client.tell_state()  # how it ended
            await client.socket.close()
        if self._runner is not None:
            await self._runner.cleanup()
        for feed in list(self._feeds.values()):
            await feed.close()

    async def _run(self) -> None:
        """Take what is newest at the preview's rate and wake the browsers."""
        loop = asyncio.get_running_loop()
        due_s = loop.time()
        while True:
            for feed in list(self._feeds.values()):
                feed.follow({kind for client in self._clients if client.feed is feed for kind in client.kinds})
                feed.drain()
            for client in self._clients:
                client.wake.set()
            # The work belongs to the period; what is missed on a busy machine is not caught up.
            due_s = max(due_s + self._period_s, loop.time())
            await asyncio.sleep(due_s - loop.time())

    @web.middleware
    async def _guard(
        self, request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        try:
            self._check(request)
        except ValueError:  # of an address, a cookie or a header that is none
            raise web.HTTPBadRequest(text="this is no request of a browser\n") from None
        response = await handler(request)
        if not response.prepared:
            response.headers.update(_HEADERS)
            if self._token:  # its files are asked for without it
                response.set_cookie(_COOKIE, self._shown(request), httponly=True, samesite="Strict")
        return response

    def _check(self, request: web.Request) -> None:
        """Let in who may look.

        Raises:
            HTTPForbidden: everybody else.
            ValueError: the request makes no sense.
        """
        host = urlsplit(f"//{request.host}")
        # A foreign page in the same browser must not reach the stream, neither through a name that it points at
        # this machine nor by opening our WebSocket.
        if self._loopback and not is_loopback(f"{host.hostname}:0"):
            raise web.HTTPForbidden(text="open this page as 127.0.0.1 or localhost\n")
        origin = request.headers.get("Origin")
        if origin is not None and urlsplit(origin).netloc != request.host:
            raise web.HTTPForbidden(text="this page talks to itself only\n")
        if self._role(request) is None:
            raise web.HTTPForbidden(text="open the address that nire-live printed, with its ?token=...\n")

    def _role(self, request: web.Request) -> str | None:
        """Who asks: the operator, an observer, or nobody that is known. On loopback the operator has no token."""
        shown = self._shown(request)
        if _same(shown, self._observers_token):
            return _OBSERVER
        return _OPERATOR if _same(shown, self._token) else None

    def _shown(self, request: web.Request) -> str:
        """The token of a request: in its address, else, where one is needed, in its cookie."""
        return request.query.get("token") or (request.cookies.get(_COOKIE, "") if self._token else "")

    async def _page(self, name: str, request: web.Request) -> web.StreamResponse:
        return web.FileResponse(PAGE / name)

    async def _metrics(self, request: web.Request) -> web.StreamResponse:
        text = await metrics.scraped(self._feed.publish_address, self._feed.keys)
        return web.Response(text=text, headers={"Content-Type": metrics.CONTENT_TYPE})

    async def _socket(self, request: web.Request) -> web.StreamResponse:
        camera = request.query.get("camera", "")
        if camera and not CAMERA_NAME.fullmatch(camera):
            raise web.HTTPNotFound(text="no camera has such a name\n")
        connection = web.WebSocketResponse(heartbeat=10, max_msg_size=_MAX_REQUEST_BYTES, compress=False)
        await connection.prepare(request)
        feed = self._feeds.setdefault(camera, self._feeds.get(camera) or self._feed_of(camera))
        is_near = is_loopback(f"{request.remote}:0")
        client = Browser(
            connection,
            feed,
            self._period_s,
            operates=self._role(request) == _OPERATOR,
            is_alone=lambda: is_near and len(self._clients) == 1,
        )
        self._clients.add(client)
        try:
            await client.serve()
        finally:
            self._clients.discard(client)
            if camera and not any(other.feed is feed for other in self._clients):
                del self._feeds[camera]
                await feed.close()
        return connection


def _same(shown: str, token: str) -> bool:
    """Compare without telling by the time it takes how much is right."""
    return hmac.compare_digest(shown.encode(errors="surrogateescape"), token.encode())


def _endings() -> list[signal.Signals]:
    """Signals that end the page; nohup, and the supervisor of a stream, want it to outlive the terminal."""
    hangs_up = signal.getsignal(signal.SIGHUP) != signal.SIG_IGN
    return [signal.SIGINT, signal.SIGTERM, *([signal.SIGHUP] if hangs_up else [])]
