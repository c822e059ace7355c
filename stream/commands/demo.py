"""The demonstration: a synthetic camera through the real pipeline, and a subscriber that measures what comes out."""

from __future__ import annotations

import json
import math
import sys
import threading
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from rich.console import Console
from rich.table import Table

from drivers.cameras.synthetic import GroundTruth, scene_of
from nire.metrics import psnr, ssim
from stream.clock import now_ns
from stream.config import Config, load_config
from stream.disk import write_whole, writing
from stream.evaluation.pairs import Pair, Pairing, Stretch
from stream.evaluation.synthetic import methods_compared
from stream.images import write_png
from stream.options import LogLevel, Overrides, Seconds, configure_log, leave
from stream.outputs.beside import side_by_side
from stream.outputs.video import Video
from stream.progress import progress_bar
from stream.sockets import wire
from stream.sockets.ports import free_ports
from stream.sockets.subscriber import Subscriber
from stream.sources import SourceOrder

_SECONDS = 20.0
_DEFAULTS = (
    'source.driver="synthetic"',
    "source.settings.frame_rate_hz=25",
    "source.settings.exposure_us=20000",
    'plan.name="upsample"',
    "plan.rate_hz=400",
)
_COMPARED = ("edi", "neural")
_MEASURED = 100
_FILMED = 200
_HOLE_US = 500_000
_REPORT_NS = 2_000_000_000
_LOSSES = ("lost_events", "lost_frames", "late_windows")


def command(
    headless: Annotated[bool, typer.Option(help="Open no page; for machines without a display.")] = False,
    seconds: Seconds = None,
    out: Annotated[Path, typer.Option(help="Folder for images, video and summary.json.")] = Path("out/demo"),
    overrides: Overrides = None,
    log_level: LogLevel = "WARNING",
) -> None:
    """A synthetic camera through the whole pipeline, measured against its exact ground truth.

    Runs until Ctrl-C on a terminal, else 20 s.
    """
    configure_log(log_level)
    leave(run(out, seconds=seconds, headless=headless, overrides=overrides or ()))


@dataclass(frozen=True, slots=True)
class _Nearness:
    """How near a pair is to the truth: PSNR in dB, and SSIM."""

    captured_db: float
    exposed_db: float
    captured_ssim: float
    exposed_ssim: float


def run(out: Path, *, seconds: float | None, headless: bool, overrides: Iterable[str] = ()) -> int:
    """Run the demonstration and leave images, a video and `summary.json` in `out`.

    Args:
        out: folder, made if need be.
        seconds: None = until Ctrl-C on a terminal, else 20.
        headless: serve and open no page.
        overrides: `section.key=value`, of any key.

    Returns:
        Exit code 0, or what the pipeline ended with.

    Raises:
        ConfigError: a bad override, or a folder that cannot be made.
    """
    from stream.processes.supervisor import run as supervise

    console = Console(stderr=True)
    config = load_config(None, [*_DEFAULTS, *free_ports(), *overrides])
    if seconds is None and not sys.stdin.isatty():
        seconds = _SECONDS
    with writing(f"to {out}"):
        out.mkdir(parents=True, exist_ok=True)
    truth = scene_of(**config.source.settings)
    way = f"synthetic camera -> rings -> {config.reconstructor.backend} -> {config.publish.bind}"
    console.print(f"{way}, {_until(seconds, out)}", soft_wrap=True)
    collector = _Collector(config, console)
    collector.start()
    code = supervise(
        config,
        SourceOrder(),
        preview=not headless,
        seconds=seconds,
        on_tick=lambda board: collector.report(now_ns()),
    )
    collector.finish()
    if code != 0 or not collector.samples:
        console.print(f"the pipeline ended with code {code} and {collector.received} exposed frames")
        return code or 1
    found = _nearness(collector.samples, truth)
    summary = _measure(config, collector, found)
    summary["methods"] = _methods(config)
    write_whole(out / "summary.json", json.dumps(summary, indent=2) + "\n")
    _show(summary, Console())
    _write_images(collector.samples[_shown(collector.samples, found)], truth, out)
    _say_where(out, Console(), _write_video(collector, out))
    return 0


def _until(seconds: float | None, out: Path) -> str:
    """Say when the demonstration ends."""
    if seconds is None:
        return f"until Ctrl-C: pictures, the film and the numbers are written to {out} then"
    return f"for {seconds:g} s"


class _Collector(threading.Thread):
    """A subscriber beside the pipeline: counts everything, keeps a bounded sample of it."""

    def __init__(self, config: Config, console: Console) -> None:
        super().__init__(name="demo-subscriber", daemon=True)
        self.samples: list[Pair] = []
        self.received = 0
        self.asked = 0
        self.latencies_ns: list[int] = []
        self.last_header: dict[str, Any] = {}
        self.starting: dict[str, int] = {}
        """What had been lost when the first image came."""
        self.fps = 0.0
        self._console = console
        self._plan = config.plan
        self._tag = config.plan.name
        self._first_index: int | None = None
        self._stop_requested = threading.Event()
        rate_hz = float(config.source.settings["frame_rate_hz"])
        self._pairing = Pairing(1e6 / rate_hz if rate_hz else math.inf)
        self._stretch = Stretch(at_most=_FILMED, hole_us=_HOLE_US)
        self._stride, self._seen = 1, 0
        self._first_ns = self._last_ns = 0
        self._reported_ns, self._reported = now_ns(), 0
        self._is_start_told = False
        topics = [wire.frame_topic(self._tag), wire.CAPTURED_TOPIC]
        self._subscriber = Subscriber(config.publish.bind, topics, high_water_mark=4096)

    def run(self) -> None:
        while not self._stop_requested.is_set():
            message = self._subscriber.recv(timeout_ms=100)
            if message is not None:
                self.take(message, now_ns())
        self._subscriber.close()

    def finish(self) -> None:
        """Stop receiving."""
        self._stop_requested.set()
        self.join(timeout=10)

    @property
    def asked_hz(self) -> float:
        """What the plan asks for, a second; with one image a captured frame, what comes."""
        plan = self._plan
        return self.fps if plan.name in ("deblur", "unroll") else plan.rate_hz

    @property
    def film(self) -> Sequence[Pair]:
        """The longest stretch without a hole: what came while the pipeline started is followed by one."""
        return self._stretch.longest

    @property
    def unpaired(self) -> int:
        """Exposed frames whose captured frame did not come."""
        return self._pairing.left_out

    def take(self, message: wire.Message, received_ns: int) -> None:
        """Count a message, and keep what it completes."""
        if message.topic == wire.CAPTURED_TOPIC:
            self._keep(self._pairing.captured(message))
            return
        stamps, index = message.header["stamps"], message.header["index"]
        if self._first_index is None:
            self._first_index = index
            self._first_ns = self._reported_ns = received_ns
            self.starting = {name: message.header[name] for name in _LOSSES}
        self.received += 1
        self.asked = index - self._first_index + 1
        self._last_ns = received_ns
        self.latencies_ns.append(stamps["published_ns"] - stamps["received_ns"])
        self.last_header = message.header
        self.fps = (self.received - 1) / max(1e-9, (self._last_ns - self._first_ns) * 1e-9)
        self._keep(self._pairing.exposed(message))

    def _keep(self, pairs: Iterable[Pair]) -> None:
        for pair in pairs:
            self._stretch.add(pair)
            if self._seen % self._stride == 0:
                self.samples.append(pair)
            self._seen += 1
            # Keep an even sample of a run of any length: when it is full, every second one goes.
            if len(self.samples) > 2 * _MEASURED:
                self.samples = self.samples[::2]
                self._stride *= 2

    def report(self, at_ns: int) -> None:
        """Say every other second what came since the last time; once, that nothing comes yet.

        To be called as long as images are expected: while a pipeline ends, none come.
        """
        if at_ns < self._reported_ns + _REPORT_NS:
            return
        seconds, lately = (at_ns - self._reported_ns) * 1e-9, self.latencies_ns[self._reported :]
        self._reported_ns, self._reported = at_ns, len(self.latencies_ns)
        if self.received:
            rate_hz = len(lately) / seconds
            asked_hz = rate_hz if self._plan.name in ("deblur", "unroll") else self._plan.rate_hz
            latency = f"latency {np.median(lately) / 1e6:.1f} ms" if lately else "none came lately"
            self._say(
                f"{self.received} exposed frames, {rate_hz:.0f} of {asked_hz:.0f} a second, {latency}, "
                f"lost: {_lost(self.last_header, self.starting)}"
            )
        elif not self._is_start_told:
            self._is_start_told = True
            self._say("warming up: a first start compiles loops for this machine, which takes about a minute")

    def _say(self, text: str) -> None:
        self._console.print(f"  {text}", soft_wrap=True)


def _lost(counts: Mapping[str, int], before: Mapping[str, int]) -> str:
    """Say what was lost since an earlier count."""
    events, frames, windows = (counts[name] - before.get(name, 0) for name in _LOSSES)
    return f"{events} events, {frames} frames, {windows} late windows"


def _nearness(pairs: Sequence[Pair], truth: GroundTruth) -> list[_Nearness]:
    found = []
    with progress_bar("comparing with the ground truth") as bar:
        for count, pair in enumerate(pairs):
            expected = truth.pixels(pair.shutter)
            captured, exposed = pair.captured, pair.exposed
            decibels = psnr(captured, expected), psnr(exposed, expected)
            found.append(_Nearness(*decibels, ssim(captured, expected), ssim(exposed, expected)))
            bar.at(count + 1, len(pairs))
    return found


def _measure(config: Config, collector: _Collector, found: Sequence[_Nearness]) -> dict[str, Any]:
    header = collector.last_header
    latencies_ms = np.array(collector.latencies_ns) / 1e6
    return {
        "psnr_captured": round(float(np.mean([each.captured_db for each in found])), 3),
        "psnr_exposed": round(float(np.mean([each.exposed_db for each in found])), 3),
        "ssim_captured": round(float(np.mean([each.captured_ssim for each in found])), 4),
        "ssim_exposed": round(float(np.mean([each.exposed_ssim for each in found])), 4),
        "measured_instants": len(found),
        "unpaired_frames": collector.unpaired,
        "exposed_frames": collector.received,
        "exposed_fps": round(collector.fps, 1),
        "asked_fps": round(collector.asked_hz, 1),
        "left_out_frames": collector.asked - collector.received,
        "latency_ms_p50": round(float(np.percentile(latencies_ms, 50)), 3),
        "latency_ms_p99": round(float(np.percentile(latencies_ms, 99)), 3),
        **{name: header[name] for name in _LOSSES},
        "while_starting": collector.starting,
        "backend": header["backend"],
        "plan": config.plan.model_dump(),
    }


def _methods(config: Config) -> dict[str, dict[str, float]]:
    """Compare what the fast method and the network give of the same windows, where nothing hurries them."""
    with progress_bar("comparing edi and the network"):
        return {name: asdict(quality) for name, quality in methods_compared(config, _COMPARED).items()}


def _shown(pairs: Sequence[Pair], found: Sequence[_Nearness]) -> int:
    """Choose the comparison: an instant within the captured frame's own exposure at which exposing gained most.

    Where frames have no exposure to lie in, any instant, with its nearest frame.
    """
    own = [index for index, pair in enumerate(pairs) if pair.is_of_exposure] or range(len(pairs))
    return max(own, key=lambda index: found[index].exposed_db - found[index].captured_db)


def _write_images(pair: Pair, truth: GroundTruth, out: Path) -> None:
    """Leave the two images of a moment, alone and side by side, and the truth."""
    write_png(out / "captured.png", pair.captured)
    write_png(out / "exposed.png", pair.exposed)
    write_png(out / "truth.png", truth.pixels(pair.shutter))
    write_png(out / "comparison.png", side_by_side(pair.captured, pair.exposed))


def _write_video(collector: _Collector, out: Path) -> str:
    """Leave exposed frames in slow motion, beside the nearest captured ones; tells of its pace."""
    video = Video(out / "demo.mp4")
    with video, progress_bar("writing the video") as bar:
        for count, filmed in enumerate(collector.film):
            video.append(side_by_side(filmed.captured, filmed.exposed), filmed.shutter.mid_us)
            bar.at(count + 1, len(collector.film))
    return video.summary()


def _show(summary: dict[str, Any], console: Console) -> None:
    table = Table(
        "",
        "captured (nearest)",
        f"exposed live ({summary['backend']})",
        *(f"{name}, unhurried" for name in summary["methods"]),
        title="against the synthetic camera's ground truth",
        title_justify="left",
    )
    for label, key, digits in (("PSNR, dB", "psnr", 2), ("SSIM", "ssim", 3)):
        live = f"[bold]{summary[f'{key}_exposed']:.{digits}f}[/]"
        methods = (f"{quality[key]:.{digits}f}" for quality in summary["methods"].values())
        table.add_row(label, f"{summary[f'{key}_captured']:.{digits}f}", live, *methods)
    console.print(table)
    console.print(
        f"{summary['exposed_fps']:.0f} exposed frames a second of {summary['asked_fps']:.0f} asked for "
        f"({summary['left_out_frames']} left out), latency {summary['latency_ms_p50']:.1f} ms (median), "
        f"{summary['latency_ms_p99']:.1f} ms (p99); lost: {_lost(summary, summary['while_starting'])}",
        soft_wrap=True,
    )
    if any(summary["while_starting"].values()):
        console.print(f"while starting, before the first image: {_lost(summary['while_starting'], {})}", soft_wrap=True)


def _say_where(out: Path, console: Console, video: str) -> None:
    where = f"look at {out / 'comparison.png'} and {out / 'demo.mp4'} ({video}); numbers in {out / 'summary.json'}"
    console.print(where, soft_wrap=True)
