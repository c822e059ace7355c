"""The command line: names, options, exit codes; each command hands over to the room that does the work."""

from __future__ import annotations

import json
import logging
import math
import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
from rich.console import Console

from nire.errors import ConfigError, NireError, ShutterOutsideWindow
from stream.commands.arguments import without_config
from stream.config import Config, load_config, parse_assignment, read_config
from stream.processes import log as logs
from stream.sources import SourceOrder

# What only some commands need is imported by them: `nire-live ctl` must not wait for torch.

UNEXPECTED = 1
DEFAULT_CONTROL = "tcp://127.0.0.1:5557"

app = typer.Typer(
    name="nire-live",
    help="Any shutter, after the fact, live: re-expose an event camera's frames at any instant, interval or row delay.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
keys_app = typer.Typer(help="Keys for streams that are reached from other machines.", no_args_is_help=True)
ctl_app = typer.Typer(help="Ask a running stream, or change what it does.", no_args_is_help=True)
app.add_typer(keys_app, name="keys")
app.add_typer(ctl_app, name="ctl")

ConfigFile = Annotated[Path, typer.Argument(help="A TOML file; configs/ has one for each camera.", show_default=False)]
Recording = Annotated[Path, typer.Argument(help="A recording; its kind is told from its content.", show_default=False)]
ConfigRecording = Annotated[
    list[Path],
    typer.Argument(
        metavar="[CONFIG] RECORDING",
        help="A TOML file, where the defaults are not enough; a recording, its kind is told from its content.",
        show_default=False,
    ),
]
ConfigRecordingOut = Annotated[
    list[Path],
    typer.Argument(
        metavar="[CONFIG] RECORDING OUT",
        help="A TOML file, where the defaults are not enough; a recording, its kind is told from its content; "
        "a folder for frames/, frames.jsonl and run.json.",
        show_default=False,
    ),
]
Overrides = Annotated[
    list[str] | None,
    typer.Option(
        "--set", metavar="KEY=VALUE", help="Override a config key, e.g. plan.rate_hz=800.", show_default=False
    ),
]
LogLevel = Annotated[str, typer.Option("--log-level", help="DEBUG, INFO, WARNING or ERROR.")]
Preview = Annotated[bool, typer.Option("--preview", help="Also serve and open the preview page.")]
Seconds = Annotated[float | None, typer.Option(min=0.1, help="End after so many seconds.", show_default=False)]


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run a command and exit with its code: 0 done, 1 unexpected, 2 wrong use or input, 3 unanswered, 4 damaged."""
    words = _with_loop_count(list(sys.argv[1:] if arguments is None else arguments))
    try:
        app(args=words, prog_name="nire-live", standalone_mode=True)
    except NireError as error:
        print(f"nire-live: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        sys.exit(0)
    except BrokenPipeError:
        sys.exit(0)
    sys.exit(0)


def _print_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version as installed

        print(installed("nire-live"))
        raise typer.Exit


@app.callback()
def _root(
    # A callback of its own: without a command this function is not reached.
    version: Annotated[
        bool, typer.Option("--version", help="Print the version and exit.", is_eager=True, callback=_print_version)
    ] = False,
) -> None:
    pass


@app.command()
def demo(
    headless: Annotated[bool, typer.Option(help="Open no page; for machines without a display.")] = False,
    seconds: Seconds = None,
    out: Annotated[Path, typer.Option(help="Folder for images, video and summary.json.")] = Path("out/demo"),
    overrides: Overrides = None,
    log_level: LogLevel = "WARNING",
) -> None:
    """A synthetic camera through the whole pipeline, measured against its exact ground truth.

    Runs until Ctrl-C on a terminal, else 20 s.
    """
    from stream.commands.demo import run

    _configure_log(log_level)
    _exit(run(out, seconds=seconds, headless=headless, overrides=overrides or ()))


@app.command()
def devices() -> None:
    """List connected devices, and the drivers with what each needs."""
    from stream.commands.devices import show

    show(Console())


@app.command()
def check(config: ConfigFile, overrides: Overrides = None) -> None:
    """Find all that a run would refuse, else print memory, headroom and expected latency; start nothing."""
    from stream.commands.check import run

    run(read_config(config, overrides or ()), Console())


@app.command()
def live(
    config: ConfigFile,
    preview: Preview = False,
    seconds: Seconds = None,
    overrides: Overrides = None,
    log_level: LogLevel = "INFO",
) -> None:
    """Stream from a camera until Ctrl-C."""
    loaded = _load(config, overrides, log_level)
    if loaded.source.driver == "auto":
        raise ConfigError(
            f"{config}: source.driver = 'auto' tells a recording's kind; for a live stream name the camera's driver "
            "('nire-live devices' lists them)"
        )
    _exit(_supervise(loaded, SourceOrder(), preview=preview, seconds=seconds))


@app.command()
def replay(
    words: ConfigRecording,
    speed: Annotated[str, typer.Option(help="Factor on real time, or max: as fast as the pipeline goes.")] = "1",
    loop: Annotated[
        int | None, typer.Option(metavar="[N]", min=0, help="Play N times, without N for ever.", show_default=False)
    ] = None,
    preview: Preview = False,
    seconds: Seconds = None,
    overrides: Overrides = None,
    log_level: LogLevel = "INFO",
) -> None:
    """Play a recording as if it were a camera: same processes, rings and sockets."""
    config, (recording,) = without_config("replay", words, ["RECORDING"])
    loaded = _load(config, overrides, log_level)
    order = SourceOrder(recording, speed=_speed(speed), loops=1 if loop is None else loop)
    _exit(_supervise(loaded, order, preview=preview, seconds=seconds))


@app.command()
def offline(
    words: ConfigRecordingOut,
    shutters: Annotated[
        Path | None,
        typer.Option(help="Answer these shutters (one JSON object a line) instead of the plan.", show_default=False),
    ] = None,
    video: Annotated[bool, typer.Option("--video", help="Also write video.mp4.")] = False,
    overrides: Overrides = None,
    log_level: LogLevel = "INFO",
) -> None:
    """Re-expose a recording into image files; nothing is dropped."""
    config, (recording, out) = without_config("offline", words, ["RECORDING", "OUT"])
    from stream.commands.offline import run

    _exit(run(_load(config, overrides, log_level), recording, out, shutters=shutters, video=video))


@app.command()
def record(
    config: ConfigFile,
    out: Annotated[Path, typer.Argument(help="File to write: NAME.nire, .aedat4 or .mcap.", show_default=False)],
    preview: Preview = False,
    seconds: Seconds = None,
    overrides: Overrides = None,
    log_level: LogLevel = "INFO",
) -> None:
    """Stream from a camera and write what it sends to a file, until Ctrl-C."""
    from drivers.writing import writer_for

    writer_for(out)
    loaded = _load(config, overrides, log_level)
    _exit(_supervise(loaded, SourceOrder(), preview=preview, seconds=seconds, record_to=out))


@app.command()
def convert(
    recording: Recording,
    out: Annotated[Path, typer.Argument(help="File to write: NAME.nire, .aedat4 or .mcap.", show_default=False)],
    overrides: Overrides = None,
    log_level: LogLevel = "WARNING",
) -> None:
    """Write a recording of any kind as another kind; a video becomes frames and simulated events."""
    from stream.commands.convert import convert as run

    _configure_log(log_level)
    _exit(run(load_config(None, overrides or ()), recording, out, Console()))


@app.command()
def info(
    recording: Recording,
    picture: Annotated[
        Path | None, typer.Option(help="Also write a PNG: events over a frame.", show_default=False)
    ] = None,
    config: Annotated[
        Path | None, typer.Option(help="Read it by the [source] of this config.", show_default=False)
    ] = None,
    overrides: Overrides = None,
) -> None:
    """Tell what a recording holds: streams, duration, rates, exposure, estimated thresholds and time offset."""
    from stream.commands.info import describe

    describe(recording, picture, Console(), load_config(config, overrides or ()).source)


@app.command()
def preview(
    address: Annotated[str, typer.Argument(help="The stream's publishing address.")] = "tcp://127.0.0.1:5556",
    bind: Annotated[str, typer.Option(help="host:port of the page.")] = "127.0.0.1:8765",
    own_key: Annotated[Path | None, typer.Option(help="Secret key of this client.", show_default=False)] = None,
    server_key: Annotated[Path | None, typer.Option(help="Public key of the stream.", show_default=False)] = None,
    open_browser: Annotated[bool, typer.Option(help="Open the page where there is a display.")] = True,
) -> None:
    """Serve the preview page of any running stream."""
    from stream.preview.server import main as serve

    serve(address, bind=bind, keys=_keys(own_key, server_key), open_browser=open_browser)


_PASSED_ON = {"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []}


@app.command(context_settings=_PASSED_ON)
def train(context: typer.Context) -> None:
    """Train a network on rendered scenes or your own footage; the same as python -m nire.training. See --help."""
    from nire.training.__main__ import main as run

    _exit(run(context.args))


@app.command(context_settings=_PASSED_ON)
def evaluate(context: typer.Context) -> None:
    """Compare methods on scenes with ground truth, or on real recordings (leave-out, consistency). See --help."""
    on_recordings = {"leave-out": "stream.evaluation.leave_out", "consistency": "stream.evaluation.consistency"}
    protocol, *rest = context.args or [""]
    if protocol in on_recordings:
        _exit(import_module(on_recordings[protocol]).main(rest))
    from nire.training.evaluate import main as run

    _exit(run(context.args))


@app.command(context_settings=_PASSED_ON)
def bench(context: typer.Context) -> None:
    """Measure this machine: planes, ring, edi, network, wire, end_to_end, soak. See bench --help."""
    try:
        from benchmarks.__main__ import main as measure
    except ImportError as error:
        raise ConfigError(f"the benchmarks cannot be imported ({error}); run this from a source checkout") from error
    _exit(measure(context.args))


@keys_app.command("new")
def keys_new(
    name: Annotated[str, typer.Argument(help="Letters, digits, - and _.", show_default=False)],
    folder: Annotated[Path, typer.Option(help="Where to write NAME.key and NAME.key_secret.")] = Path("keys"),
) -> None:
    """Make a key pair: give NAME.key away, keep NAME.key_secret."""
    from stream.sockets.keys import new

    public, secret = new(name, folder)
    print(f"public key, to give away: {public}\nsecret key, to keep:      {secret}")


Address = Annotated[str, typer.Option(help="The stream's control address.")]
OwnKey = Annotated[Path | None, typer.Option(help="Secret key of this client.", show_default=False)]
ServerKey = Annotated[Path | None, typer.Option(help="Public key of the stream.", show_default=False)]
Assignments = Annotated[list[str], typer.Argument(metavar="KEY=VALUE...", show_default=False)]


@ctl_app.command("status")
def ctl_status(address: Address = DEFAULT_CONTROL, own_key: OwnKey = None, server_key: ServerKey = None) -> None:
    """Print rates, latencies, losses, calibration and plan as JSON."""
    _ask(address, own_key, server_key, "status")


@ctl_app.command("set-plan")
def ctl_set_plan(
    changes: Assignments, address: Address = DEFAULT_CONTROL, own_key: OwnKey = None, server_key: ServerKey = None
) -> None:
    """Change the plan from the next window on, e.g. set-plan rate_hz=800 exposure_us=2000."""
    plan = {key.removeprefix("plan."): value for key, value in map(parse_assignment, changes)}
    _ask(address, own_key, server_key, "set_plan", plan=plan)


@ctl_app.command("expose")
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


@ctl_app.command("pause")
def ctl_pause(address: Address = DEFAULT_CONTROL, own_key: OwnKey = None, server_key: ServerKey = None) -> None:
    """Stop answering the plan; windows go on."""
    _ask(address, own_key, server_key, "pause")


@ctl_app.command("resume")
def ctl_resume(address: Address = DEFAULT_CONTROL, own_key: OwnKey = None, server_key: ServerKey = None) -> None:
    """Answer the plan again."""
    _ask(address, own_key, server_key, "resume")


@ctl_app.command("set-source")
def ctl_set_source(
    changes: Assignments, address: Address = DEFAULT_CONTROL, own_key: OwnKey = None, server_key: ServerKey = None
) -> None:
    """Change the driver's settings, e.g. set-source exposure_us=4000."""
    _ask(address, own_key, server_key, "set_source", settings=dict(map(parse_assignment, changes)))


@ctl_app.command("stop")
def ctl_stop(address: Address = DEFAULT_CONTROL, own_key: OwnKey = None, server_key: ServerKey = None) -> None:
    """End the stream in order."""
    _ask(address, own_key, server_key, "stop")


def _ask(address: str, own_key: Path | None, server_key: Path | None, command: str, **fields: Any) -> None:
    from stream.sockets.control import ControlClient

    client = ControlClient(address, _keys(own_key, server_key))
    try:
        reply = client.ask(command, **fields)
    finally:
        client.close()
    print(json.dumps(reply, indent=2))
    if not reply["ok"]:
        _exit(ShutterOutsideWindow.exit_code if reply["error"] == "not_covered" else ConfigError.exit_code)


def _keys(own_key: Path | None, server_key: Path | None) -> Any:
    if own_key is None and server_key is None:
        return None
    if own_key is None or server_key is None:
        raise ConfigError("--own-key and --server-key go together: give both, or none")
    from stream.sockets.keys import ClientKeys

    return ClientKeys.load(own_key, server_key)


def _supervise(
    config: Config, order: SourceOrder, *, preview: bool, seconds: float | None, record_to: Path | None = None
) -> int:
    from stream.processes.supervisor import run

    return run(config, order, preview=preview, seconds=seconds, record_to=record_to)


def _load(config: Path | None, overrides: list[str] | None, log_level: str) -> Config:
    _configure_log(log_level)
    return load_config(config, overrides or ())


def _configure_log(level: str) -> None:
    if level.upper() not in logging.getLevelNamesMapping():
        raise ConfigError(f"--log-level {level}: expected DEBUG, INFO, WARNING or ERROR")
    logs.configure(level.upper())


def _speed(text: str) -> float:
    if text == "max":
        return math.inf
    try:
        speed = float(text)
    except ValueError:
        speed = -1.0
    if not 0.001 <= speed <= 1000:
        raise ConfigError(f"--speed {text}: expected a factor such as 0.5 or 1, or 'max'")
    return speed


def _with_loop_count(words: list[str]) -> list[str]:
    """Let `--loop` stand without a number, for ever: 0 in the option's own terms."""
    if "--loop" in words:
        at = words.index("--loop")
        if at + 1 == len(words) or not words[at + 1].isdigit():
            words.insert(at + 1, "0")
    return words


def _exit(code: int) -> None:
    raise typer.Exit(code)


if __name__ == "__main__":
    main()
