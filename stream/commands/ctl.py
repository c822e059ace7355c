"""Ask a running stream, or change what it does."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Annotated, Any

import typer

from nire.errors import ConfigError, ShutterOutsideWindow
from stream.commands import HELP
from stream.config import parse_assignment
from stream.options import DEFAULT_CONTROL, Address, Assignments, OwnKey, ServerKey, keys_of, leave
from stream.sockets.control import ControlClient, refusal

_SOURCE_S = 30.0
_LOOK_S = 0.1

app = typer.Typer(help=__doc__, no_args_is_help=True, add_completion=False, context_settings=HELP)


@app.command("status")
def ctl_status(address: Address = DEFAULT_CONTROL, own_key: OwnKey = None, server_key: ServerKey = None) -> None:
    """Print rates, latencies, losses, calibration and plan as JSON."""
    _ask(address, own_key, server_key, "status")


@app.command("set-plan")
def ctl_set_plan(
    changes: Assignments, address: Address = DEFAULT_CONTROL, own_key: OwnKey = None, server_key: ServerKey = None
) -> None:
    """Change the plan from the next window on, e.g. set-plan rate_hz=800 exposure_us=2000."""
    plan = {key.removeprefix("plan."): value for key, value in map(parse_assignment, changes)}
    _ask(address, own_key, server_key, "set_plan", plan=plan)


@app.command("expose")
def ctl_expose(
    t: Annotated[float, typer.Option("--t", help="Start of the exposure, device time, us.", show_default=False)],
    for_us: Annotated[float, typer.Option("--for", min=0, help="Its length, us; 0 = an instant.")] = 0.0,
    row_delay: Annotated[float, typer.Option(help="Delay from row to row, us.")] = 0.0,
    address: Address = DEFAULT_CONTROL,
    own_key: OwnKey = None,
    server_key: ServerKey = None,
) -> None:
    """Ask for one exposure; it is published on the topic that the answer names."""
    _ask(address, own_key, server_key, "expose", t_us=t, for_us=for_us, row_delay_us=row_delay)


@app.command("pause")
def ctl_pause(address: Address = DEFAULT_CONTROL, own_key: OwnKey = None, server_key: ServerKey = None) -> None:
    """Stop answering the plan; windows go on."""
    _ask(address, own_key, server_key, "pause")


@app.command("resume")
def ctl_resume(address: Address = DEFAULT_CONTROL, own_key: OwnKey = None, server_key: ServerKey = None) -> None:
    """Answer the plan again."""
    _ask(address, own_key, server_key, "resume")


@app.command("set-source")
def ctl_set_source(
    changes: Assignments, address: Address = DEFAULT_CONTROL, own_key: OwnKey = None, server_key: ServerKey = None
) -> None:
    """Change the driver's settings, e.g. set-source exposure_us=4000, and wait until the source has taken them."""
    settings = dict(map(parse_assignment, changes))
    with ControlClient(address, keys_of(own_key, server_key)) as client:
        reply = client.ask("set_source", settings=settings)
        if reply.get("state") == "pending":
            reply = _outcome(client, reply["number"])
    _show(reply)


@app.command("stop")
def ctl_stop(address: Address = DEFAULT_CONTROL, own_key: OwnKey = None, server_key: ServerKey = None) -> None:
    """End the stream in order."""
    _ask(address, own_key, server_key, "stop")


def _ask(address: str, own_key: Path | None, server_key: Path | None, command: str, **fields: Any) -> None:
    with ControlClient(address, keys_of(own_key, server_key)) as client:
        reply = client.ask(command, **fields)
    _show(reply)


def _outcome(client: ControlClient, number: int) -> dict[str, Any]:
    """Wait until the source has been opened again, or could not be; as a reply."""
    end_s = time.monotonic() + _SOURCE_S
    while time.monotonic() < end_s:
        change = client.ask("status")["source_change"]
        if change is None or change["number"] != number:
            return refusal("refused", "the stream was asked for other settings meanwhile; 'ctl status' says which hold")
        if change["state"] == "failed":
            return refusal("refused", change["error"])
        if change["state"] == "done":
            return {"ok": True, "number": number, "state": "done"}
        time.sleep(_LOOK_S)
    return refusal("refused", f"the source has not taken the settings within {_SOURCE_S:g} s: 'ctl status' shows it")


def _show(reply: dict[str, Any]) -> None:
    print(json.dumps(reply, indent=2))
    if not reply["ok"]:
        leave(ShutterOutsideWindow.exit_code if reply["error"] == "not_covered" else ConfigError.exit_code)
