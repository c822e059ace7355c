"""Serve the preview page of any running stream."""

from __future__ import annotations

from typing import Annotated

import typer

from stream.options import DEFAULT_IMAGES, OwnKey, ServerKey, keys_of
from stream.preview.server import main as serve


def command(
    address: Annotated[str, typer.Argument(help="The stream's publishing address.")] = DEFAULT_IMAGES,
    bind: Annotated[str, typer.Option(help="host:port of the page.")] = "127.0.0.1:8765",
    own_key: OwnKey = None,
    server_key: ServerKey = None,
    open_browser: Annotated[bool, typer.Option(help="Open the page where there is a display.")] = True,
) -> None:
    """Serve the preview page of any running stream."""
    serve(address, bind=bind, keys=keys_of(own_key, server_key), open_browser=open_browser)
