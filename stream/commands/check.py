"""What a run would refuse, all of it, and what a good config costs and allows, before anything is started."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

from rich.console import Console
from rich.table import Table

from drivers import detect
from drivers.source import Source, SourceInfo
from nire.errors import ConfigError, NireError
from nire.types import Geometry
from stream import backends
from stream.blocks import most_bytes
from stream.cameras import camera_names, read_cameras
from stream.config import AUTO, Config, check_addresses, check_security
from stream.options import ConfigFiles, Overrides
from stream.preview.binding import require_bindable
from stream.processes.board import require_free
from stream.rings.ring import (
    event_depth,
    event_file_bytes,
    event_memory_bytes,
    frame_depth,
    frame_memory_bytes,
    require_room,
)
from stream.session.plan import policy_of, require_grid, require_together
from stream.sockets.control import ControlServer
from stream.sockets.publisher import Publisher
from stream.sources import check_sdk, check_settings, frames_of

_LARGE_SENSOR, _SHM_BLOCK = Geometry(1280, 720), 64 << 20  # of which Docker's --shm-size is told
_Check = Callable[[], object]
"""Raises what it finds."""


def command(configs: ConfigFiles, overrides: Overrides = None) -> None:
    """Find all that a run would refuse, else print memory, headroom and expected latency; start nothing.

    Several files are checked as cameras of one machine, as `live` runs them.
    """
    run(read_cameras(configs, overrides or ()), Console())


def run(configs: Sequence[Config], console: Console) -> None:
    """Look for all that a run would refuse; where there is nothing, print what the configs cost and allow.

    Args:
        configs: of one camera or several, as `read_cameras` returns them.
        console: to print on.

    Raises:
        ConfigError: there is something; its message has a line for each finding.
    """
    faults: list[str] = []
    has_frames: list[bool] = []
    for config, name in zip(configs, camera_names(configs), strict=True):
        own: list[str] = []
        has_frames.append(_reconstruction(config, _source(config, own), own))
        own += _faults(partial(require_free, config.stream_name))
        faults += [f"{name}: {fault}" if name else fault for fault in own]
    shared = configs[0]  # what holds for the machine is alike in all
    faults += _faults(
        lambda: require_room(shared.ring, others=[config.ring for config in configs[1:]]),
        lambda: require_bindable(shared.preview.bind),
    )
    # A socket that strangers could reach is not opened, not even for a moment.
    faults += _faults(lambda: check_security(shared), lambda: check_addresses(shared)) or _socket_faults(shared)
    if faults:
        raise ConfigError("\n".join(dict.fromkeys(faults)))
    for config, with_frames in zip(configs, has_frames, strict=True):
        describe(config, console, has_frames=with_frames)
    if len(configs) > 1:
        needed_mb = sum(event_memory_bytes(config.ring) for config in configs) / 1e6
        console.print(
            f"{len(configs)} cameras under one supervisor, on one socket: {', '.join(camera_names(configs))}. Their "
            f"event rings take at most {needed_mb:.0f} MB together."
        )


_MEANT = {AUTO: "auto: the network where it keeps up with the plan, else edi"}


def describe(config: Config, console: Console, *, has_frames: bool = True) -> None:
    """Print the effective values and what follows from them.

    Args:
        config: a good one.
        console: to print on.
        has_frames: False for a source that is known to have none.
    """
    ring, plan = config.ring, config.plan
    depth = event_depth(ring)
    peak_per_packet = ring.peak_rate_meps * ring.packet_us
    taken_mb, file_mb = event_memory_bytes(ring) / 1e6, event_file_bytes(ring) / 1e6
    backend = config.reconstructor.backend_for(has_frames=has_frames)
    device = config.reconstructor.device
    table = Table(title="config is good", show_header=False, title_justify="left")
    table.add_row("stream", f"{config.stream_name} (driver {config.source.driver})")
    table.add_row("backend", f"{_MEANT.get(backend, backend)}, on {device}")
    if engine := backends.engine_of(config, backend):
        chosen = " (the one that auto takes here)" if config.reconstructor.engine == "auto" else ""
        table.add_row("engine", f"{engine}{chosen}")
    table.add_row("plan", f"{plan.name}, {_plan_text(config)}")
    table.add_row("publishes on", config.publish.bind)
    table.add_row("control on", config.control.bind)
    table.add_row("keys", "CURVE" if config.security.server_key else "none (loopback only)")
    table.add_row(
        "event ring",
        f"{depth} packets of {ring.packet_us} us, at most {taken_mb:.0f} MB in shared memory (of a sparse file of "
        f"{file_mb:.0f} MB); survives a stall of "
        f"{ring.seconds:g} s at {ring.peak_rate_meps:g} M events/s ({peak_per_packet:.0f} events a packet)",
    )
    table.add_row(
        "frame ring",
        f"{frame_depth(ring)} frames, at most {frame_memory_bytes(ring, _LARGE_SENSOR) / 1e6:.0f} MB in shared memory "
        f"({_LARGE_SENSOR.width} x {_LARGE_SENSOR.height}, gray)",
    )
    table.add_row(
        "windows",
        f"at most {most_bytes(ring.peak_rate_meps, ring.seconds) / 1e6:.0f} MB of events in the consumer, after such a "
        "stall",
    )
    table.add_row("expected latency", _latency_text(config))
    table.add_row("in a container", _container_text(config))
    console.print(table)


def _source(config: Config, faults: list[str]) -> Source | None:
    """Make the source, not opened, and add what is wrong with it; None where it cannot be made yet."""
    sources: list[Source | None] = [None]
    wanted = config.source

    def check_recording() -> None:
        path = wanted.settings.get("path")
        if isinstance(path, str) and path:
            detect.read_head(Path(path))

    checks: list[_Check] = [lambda: sources.append(check_settings(wanted)), lambda: check_sdk(wanted)]
    if "." not in wanted.driver:  # what `path` is to somebody else's driver is not known
        checks.append(check_recording)
    faults += _faults(*checks)
    return sources[-1]


def _reconstruction(config: Config, source: Source | None, faults: list[str]) -> bool:
    """Add what is wrong with backend, policy and plan; where frames may come or not, only what is wrong with both.

    Returns:
        Whether the source has frames, as far as it is known.
    """
    found = {has_frames: list(_reconstruction_faults(config, has_frames)) for has_frames in frames_of(source)}
    good = next((has_frames for has_frames, wrong in found.items() if not wrong), None)
    if good is not None:
        return good
    has_frames, wrong = next(iter(found.items()))
    faults += wrong
    return has_frames


def _reconstruction_faults(config: Config, has_frames: bool) -> Iterator[str]:
    backend = config.reconstructor.backend_for(has_frames=has_frames)
    yield from _faults(
        lambda: backends.check_device(config, backend),
        lambda: backends.check_backend_settings(config, backend),
        lambda: backends.check_weights(config, backend),
        lambda: backends.engine_of(config, backend),
    )
    yield from _policy_faults(config, backend, has_frames=has_frames)


def _policy_faults(config: Config, backend: str, *, has_frames: bool) -> list[str]:
    """List what a session says of policy, plan, source and method; no more than they tell before they are made."""
    try:
        method = backends.reconstructor_type(backend)
    except ConfigError as error:
        return [str(error)]
    given_frames = has_frames and (method is None or method.needs_frames)
    policy = policy_of(config.plan, config.window.policy, has_frames=given_frames)
    info = SourceInfo(config.source.driver, Geometry(1, 1), has_frames=has_frames)
    checks: list[_Check] = [lambda: require_grid(config.plan, policy)]
    if method is not None:
        checks.insert(0, lambda: require_together(policy, info, method))
    return _faults(*checks)


def _socket_faults(config: Config) -> list[str]:
    """Bind both sockets together, as the consumer does, and let them go again."""
    with contextlib.ExitStack() as stack:
        return _faults(
            partial(_hold, stack, config.publish.bind, partial(Publisher, config.publish, config.security)),
            partial(_hold, stack, config.control.bind, partial(ControlServer, config.control, config.security)),
        )


def _hold(stack: contextlib.ExitStack, address: str, opened: Callable[[], Publisher | ControlServer]) -> None:
    """Bind a socket until the stack is closed; a file that exists is left alone, ZMQ would take it from its owner."""
    if not (address.startswith("ipc://") and Path(address.removeprefix("ipc://")).exists()):
        stack.enter_context(opened())


def _faults(*checks: _Check) -> list[str]:
    """Run all checks, and list what they raise, a line each."""
    found: list[str] = []
    for check in checks:
        try:
            check()
        except NireError as error:
            found += str(error).splitlines()
    return found


def _plan_text(config: Config) -> str:
    plan = config.plan
    width = "instants" if plan.exposure_us == 0 else f"exposures of {plan.exposure_us:g} us"
    if plan.name in ("deblur", "unroll"):
        return f"{width}, one a captured frame, {plan.offset_us:+g} us from its middle"
    tilt = f", row delay {plan.row_delay_us:g} us" if plan.name == "reshutter" else ""
    return f"{width} at {plan.rate_hz:g} Hz{tilt}"


def _container_text(config: Config) -> str:
    """What Docker has to be told, on one line."""
    ring = config.ring
    blocks = math.ceil((event_memory_bytes(ring) + frame_memory_bytes(ring, _LARGE_SENSOR)) / _SHM_BLOCK)
    usb = "--volume /dev/bus/usb:/dev/bus/usb --device-cgroup-rule 'c 189:* rmw'"
    return f"--shm-size={blocks * _SHM_BLOCK >> 20}m; for a camera on USB also {usb}"


def _latency_text(config: Config) -> str:
    learning = "" if config.source.time_offset_us != "auto" else " (+ 10 ms while the time offset is being learned)"
    wait_us = config.ring.packet_us
    if config.window.policy == "span":
        return (
            f"an instant waits for the end of its window, up to {config.window.span_us / 1000:g} ms, "
            f"{wait_us / 1000:g} ms and the computation"
        )
    if config.plan.name in ("deblur", "unroll"):
        return f"read-out of the frame, one event packet ({wait_us / 1000:g} ms) and the computation{learning}"
    return (
        f"an instant between two frames waits for the second one: up to one frame period, its read-out, "
        f"{wait_us / 1000:g} ms and the computation{learning}"
    )
