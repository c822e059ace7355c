"""What a config costs and allows, before anything is started: memory, stalls survived, expected latency."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table

from stream.config import Config
from stream.rings.ring import event_depth, events_per_packet, frame_depth

_EVENT_BYTES = 13


def describe(config: Config, console: Console) -> None:
    """Print the effective values and what follows from them."""
    ring, plan = config.ring, config.plan
    depth = event_depth(ring)
    peak_per_packet = ring.peak_rate_meps * ring.packet_us
    megabytes = depth * events_per_packet(ring) * _EVENT_BYTES / 1e6
    table = Table(title="config is good", show_header=False, title_justify="left")
    table.add_row("stream", f"{config.stream_name} (driver {config.source.driver})")
    table.add_row("backend", f"{config.reconstructor.backend} on {config.reconstructor.device}")
    table.add_row("plan", f"{plan.name}, {_plan_text(config)}")
    table.add_row("publishes on", config.publish.bind)
    table.add_row("control on", config.control.bind)
    table.add_row("keys", "CURVE" if config.security.server_key else "none (loopback only)")
    table.add_row(
        "event ring",
        f"{depth} packets of {ring.packet_us} us, at most {megabytes:.0f} MB in shared memory; survives a stall of "
        f"{ring.seconds:g} s at {ring.peak_rate_meps:g} M events/s ({peak_per_packet:.0f} events a packet)",
    )
    table.add_row("frame ring", f"{frame_depth(ring)} frames")
    table.add_row("expected latency", _latency_text(config))
    console.print(table)


def _plan_text(config: Config) -> str:
    plan = config.plan
    width = "instants" if plan.exposure_us == 0 else f"exposures of {plan.exposure_us:g} us"
    if plan.name in ("deblur", "unroll"):
        return f"{width}, one a captured frame, {plan.offset_us:+g} us from its middle"
    tilt = f", row delay {plan.row_delay_us:g} us" if plan.name == "reshutter" else ""
    return f"{width} at {plan.rate_hz:g} Hz{tilt}"


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
