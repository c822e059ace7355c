"""Ask a running stream, or change what it does."""

from __future__ import annotations

import copy
import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from nire.errors import ConfigError, ShutterOutsideWindow
from stream.commands import HELP
from stream.config import parse_assignment
from stream.options import DEFAULT_CONTROL, Address, Assignments, CameraName, OwnKey, ServerKey, keys_of, leave
from stream.sockets.control import ControlClient, refusal

_SOURCE_S = 30.0
_LOOK_S = 0.1


@dataclass(slots=True)
class _Stream:
    """Who is asked: the stream's control address, one of its cameras, and the two keys where it wants them."""

    address: str
    camera: str
    own_key: Path | None
    server_key: Path | None


class _Commands(TyperGroup):
    """Commands that take the group's options too: these may stand before the command's name or after it."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        for command in self.commands.values():
            command.params += [_noting(option) for option in self.params]


def _noting(option: Any) -> Any:
    """Copy an option for a command: what is given there replaces what the group was given."""

    def note(context: Any, given: Any, value: Any) -> None:
        if context.get_parameter_source(given.name).name == "COMMANDLINE":
            setattr(context.obj, given.name, value)

    noting = copy.copy(option)
    noting.expose_value = False
    noting.callback = note
    return noting


app = typer.Typer(cls=_Commands, help=__doc__, no_args_is_help=True, add_completion=False, context_settings=HELP)


@app.callback()
def _stream(
    context: typer.Context,
    address: Address = DEFAULT_CONTROL,
    camera: CameraName = "",
    own_key: OwnKey = None,
    server_key: ServerKey = None,
) -> None:
    context.obj = _Stream(address, camera, own_key, server_key)


@app.command("status")
def ctl_status(context: typer.Context) -> None:
    """Print rates, latencies, losses, calibration and plan as JSON; of several cameras, of each."""
    _ask(context, "status")


@app.command("set-plan")
def ctl_set_plan(context: typer.Context, changes: Assignments) -> None:
    """Change the plan from the next window on, e.g. set-plan rate_hz=800 exposure_us=2000."""
    plan = {key.removeprefix("plan."): value for key, value in map(parse_assignment, changes)}
    _ask(context, "set_plan", plan=plan)


@app.command("expose")
def ctl_expose(
    context: typer.Context,
    t: Annotated[
        float | None, typer.Option("--t", help="Start of the exposure, device time, us.", show_default=False)
    ] = None,
    wall: Annotated[
        int | None,
        typer.Option("--wall", help="Middle of the exposure, robot time: ns since 1970.", show_default=False),
    ] = None,
    for_us: Annotated[float, typer.Option("--for", min=0, help="Its length, us; 0 = an instant.")] = 0.0,
    row_delay: Annotated[float, typer.Option(help="Delay from row to row, us.")] = 0.0,
) -> None:
    """Ask for one exposure; it is published on the topic that the answer names."""
    if (t is None) == (wall is None):
        raise typer.BadParameter("give either --t, device time, or --wall, robot time")
    when = {"wall_ns": wall} if t is None else {"t_us": t}
    _ask(context, "expose", **when, for_us=for_us, row_delay_us=row_delay)


@app.command("pause")
def ctl_pause(context: typer.Context) -> None:
    """Stop answering the plan, of all cameras or of one; windows go on."""
    _ask(context, "pause")


@app.command("resume")
def ctl_resume(context: typer.Context) -> None:
    """Answer the plan again."""
    _ask(context, "resume")


@app.command("set-source")
def ctl_set_source(context: typer.Context, changes: Assignments) -> None:
    """Change the driver's settings, e.g. set-source exposure_us=4000, and wait until the source has taken them."""
    settings = dict(map(parse_assignment, changes))
    with _client(context) as client:
        reply = client.ask("set_source", settings=settings)
        if reply.get("state") == "pending":
            reply = _outcome(client, reply["number"], "source_change")
    _show(reply)


@app.command("play")
def ctl_play(context: typer.Context, changes: Assignments) -> None:
    """Play a replay otherwise: play speed=0.5, held=true, step=true (on to the next frame), at_us=1500000."""
    _ask(context, "play", play=dict(map(parse_assignment, changes)))


@app.command("record")
def ctl_record(
    context: typer.Context,
    file: Annotated[
        str, typer.Argument(help="NAME.nire, .aedat4 or .mcap, in the folder where the stream was started.")
    ],
) -> None:
    """Begin to record what the source sends; 'record-stop' ends it."""
    with _client(context) as client:
        reply = client.ask("record", file=file)
        if reply.get("state") == "pending":
            reply = _recorded(client)
    _show(reply)


@app.command("record-stop")
def ctl_record_stop(context: typer.Context) -> None:
    """End the recording; the stream goes on."""
    _ask(context, "record_stop")


@app.command("set-reconstructor")
def ctl_set_reconstructor(context: typer.Context, changes: Assignments) -> None:
    """Change the method, e.g. set-reconstructor backend=neural size=nano; the present one goes on until it is ready."""
    settings = {key.removeprefix("reconstructor."): value for key, value in map(parse_assignment, changes)}
    with _client(context) as client:
        reply = client.ask("set_reconstructor", settings=settings)
        if reply.get("state") == "pending":
            reply = _outcome(client, reply["number"], "method_change")
    _show(reply)


@app.command("set-events")
def ctl_set_events(
    context: typer.Context, events_ms: Annotated[float, typer.Argument(help="Span of the images, ms.")]
) -> None:
    """Change how long the images of the topic `events` collect events."""
    _ask(context, "set_events", events_ms=events_ms)


@app.command("stop")
def ctl_stop(context: typer.Context) -> None:
    """End the stream in order; with --camera only that camera."""
    _ask(context, "stop")


def _client(context: typer.Context) -> ControlClient:
    stream: _Stream = context.obj
    return ControlClient(stream.address, keys_of(stream.own_key, stream.server_key), camera=stream.camera)


def _ask(context: typer.Context, command: str, **fields: Any) -> None:
    with _client(context) as client:
        reply = client.ask(command, **fields)
    _show(reply)


def _outcome(client: ControlClient, number: int, wish: str) -> dict[str, Any]:
    """Wait until what was wished for is carried out, or could not be; as a reply. `wish`: where the status tells it."""
    end_s = time.monotonic() + _SOURCE_S
    while time.monotonic() < end_s:
        change = client.ask("status")[wish]
        if change is None or change["number"] != number:
            return refusal("refused", "the stream was asked for other settings meanwhile; 'ctl status' says which hold")
        if change["state"] == "failed":
            return refusal("refused", change["error"])
        if change["state"] == "done":
            return {"ok": True, "number": number, "state": "done"}
        time.sleep(_LOOK_S)
    return refusal("refused", f"the settings are not taken within {_SOURCE_S:g} s: 'ctl status' shows how it went")


def _recorded(client: ControlClient) -> dict[str, Any]:
    """Wait until the recorder writes, or cannot; as a reply."""
    end_s = time.monotonic() + _SOURCE_S
    while time.monotonic() < end_s:
        recording = client.ask("status")["recording"] or {}
        if recording.get("error"):
            return refusal("refused", recording["error"])
        if recording.get("state") in ("ready", "running"):
            return {"ok": True, "state": "done", "path": recording["path"]}
        time.sleep(_LOOK_S)
    return refusal("refused", f"the recording has not begun within {_SOURCE_S:g} s: 'ctl status' shows how it went")


def _show(reply: dict[str, Any]) -> None:
    print(json.dumps(reply, indent=2))
    if not reply["ok"]:
        leave(ShutterOutsideWindow.exit_code if reply["error"] == "not_covered" else ConfigError.exit_code)
