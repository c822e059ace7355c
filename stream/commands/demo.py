"""The demonstration: a synthetic camera through the real pipeline, and a subscriber that measures what comes out."""

from __future__ import annotations

import json
import socket
import sys
import threading
from collections import deque
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from drivers.cameras.synthetic import GroundTruth, scene_of
from nire.metrics import psnr, ssim
from nire.shutter import Shutter
from stream.clock import now_ns
from stream.config import Config, load_config
from stream.disk import write_whole, writing
from stream.evaluation.synthetic import methods_compared
from stream.images import write_png
from stream.options import LogLevel, Overrides, Seconds, configure_log, leave
from stream.outputs.beside import side_by_side
from stream.outputs.video import Video
from stream.progress import progress_bar
from stream.sockets import wire
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
_REPORT_NS = 2_000_000_000
_CAPTURES_KEPT = 8

Image = NDArray[np.uint8]


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


@dataclass(frozen=True, slots=True, eq=False)
class _Sample:
    """One exposed frame, the captured frame nearest to it, and its shutter."""

    exposed: Image
    captured: Image
    shutter: Shutter


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
    config = load_config(None, [*_DEFAULTS, *_free_ports(), *overrides])
    if seconds is None and not sys.stdin.isatty():
        seconds = _SECONDS
    with writing(f"to {out}"):
        out.mkdir(parents=True, exist_ok=True)
    until = "until Ctrl-C" if seconds is None else f"for {seconds:g} s"
    console.print(f"synthetic camera -> rings -> {config.reconstructor.backend} -> {config.publish.bind}, {until}")
    collector = _Collector(config, console)
    collector.start()
    code = supervise(config, SourceOrder(), preview=not headless, seconds=seconds)
    collector.finish()
    if code != 0 or not collector.samples:
        console.print(f"the pipeline ended with code {code} and {collector.received} exposed frames")
        return code or 1
    truth = scene_of(**config.source.settings)
    summary = _measure(config, collector, truth)
    summary["methods"] = _methods(config)
    write_whole(out / "summary.json", json.dumps(summary, indent=2) + "\n")
    _show(summary, Console())
    _write_images(collector, truth, out)
    _say_where(out, Console(), _write_video(collector, out))
    return 0


class _Collector(threading.Thread):
    """A subscriber beside the pipeline: counts everything, keeps a bounded sample of it."""

    def __init__(self, config: Config, console: Console) -> None:
        super().__init__(name="demo-subscriber", daemon=True)
        self.samples: list[_Sample] = []
        self.film: list[_Sample] = []
        self.received = 0
        self.asked = 0
        self.latencies_ns: list[int] = []
        self.last_header: dict[str, Any] = {}
        self.fps = 0.0
        self._console = console
        self._plan = config.plan
        self._tag = config.plan.name
        self._first_index: int | None = None
        self._stop_requested = threading.Event()
        self._waiting: deque[wire.Message] = deque()
        self._captured: deque[wire.Message] = deque(maxlen=_CAPTURES_KEPT)
        self._stride, self._seen = 1, 0
        self._first_ns = self._last_ns = 0
        topics = [wire.frame_topic(self._tag), wire.CAPTURED_TOPIC]
        self._subscriber = Subscriber(config.publish.bind, topics, high_water_mark=4096)

    def run(self) -> None:
        report_ns = now_ns() + _REPORT_NS
        while not self._stop_requested.is_set():
            message = self._subscriber.recv(timeout_ms=100)
            if message is not None:
                self._take(message)
            if now_ns() > report_ns and self.received:
                self._report()
                report_ns += _REPORT_NS
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

    def _take(self, message: wire.Message) -> None:
        if message.topic == wire.CAPTURED_TOPIC:
            self._captured.append(message)
            self._settle(_mid_us(message))
            return
        stamps = message.header["stamps"]
        self.received += 1
        self._first_index = message.header["index"] if self._first_index is None else self._first_index
        self.asked = message.header["index"] - self._first_index + 1
        self._first_ns = self._first_ns or now_ns()
        self._last_ns = now_ns()
        self.latencies_ns.append(stamps["published_ns"] - stamps["received_ns"])
        self.last_header = message.header
        self.fps = (self.received - 1) / max(1e-9, (self._last_ns - self._first_ns) * 1e-9)
        self._waiting.append(message)

    def _settle(self, captured_until_us: float) -> None:
        """Pair exposed frames with the nearest captured one, as soon as no nearer one can come."""
        while self._waiting and _mid_us(self._waiting[0]) <= captured_until_us:
            self._keep(self._waiting.popleft())

    def _keep(self, exposed: wire.Message) -> None:
        mid_us = _mid_us(exposed)
        nearest = min(self._captured, key=lambda frame: abs(_mid_us(frame) - mid_us))
        sample = _Sample(np.array(exposed.pixels), np.array(nearest.pixels), _shutter_of(exposed))
        if len(self.film) < _FILMED:
            self.film.append(sample)
        if self._seen % self._stride == 0:
            self.samples.append(sample)
        self._seen += 1
        # Keep an even sample of a run of any length: when it is full, every second one goes.
        if len(self.samples) > 2 * _MEASURED:
            self.samples = self.samples[::2]
            self._stride *= 2

    def _report(self) -> None:
        header = self.last_header
        recent, late = self.latencies_ns[-1000:], header["late_windows"]
        self._console.print(
            f"  {self.received} exposed frames, {self.fps:.0f} of {self.asked_hz:.0f} a second, "
            f"latency {np.median(recent) / 1e6:.1f} ms, "
            f"lost: {header['lost_events']} events, {header['lost_frames']} frames, {late} late windows",
            soft_wrap=True,
        )


def _measure(config: Config, collector: _Collector, truth: GroundTruth) -> dict[str, Any]:
    captured_db, exposed_db, ssims = [], [], []
    with progress_bar("comparing with the ground truth") as bar:
        for count, sample in enumerate(collector.samples):
            expected = truth.pixels(sample.shutter)
            captured_db.append(psnr(sample.captured, expected))
            exposed_db.append(psnr(sample.exposed, expected))
            ssims.append((ssim(sample.captured, expected), ssim(sample.exposed, expected)))
            bar.at(count + 1, len(collector.samples))
    header = collector.last_header
    latencies_ms = np.array(collector.latencies_ns) / 1e6
    return {
        "psnr_captured": round(float(np.mean(captured_db)), 3),
        "psnr_exposed": round(float(np.mean(exposed_db)), 3),
        "ssim_captured": round(float(np.mean([pair[0] for pair in ssims])), 4),
        "ssim_exposed": round(float(np.mean([pair[1] for pair in ssims])), 4),
        "measured_instants": len(collector.samples),
        "exposed_frames": collector.received,
        "exposed_fps": round(collector.fps, 1),
        "asked_fps": round(collector.asked_hz, 1),
        "left_out_frames": collector.asked - collector.received,
        "latency_ms_p50": round(float(np.percentile(latencies_ms, 50)), 3),
        "latency_ms_p99": round(float(np.percentile(latencies_ms, 99)), 3),
        "lost_events": header["lost_events"],
        "lost_frames": header["lost_frames"],
        "late_windows": header["late_windows"],
        "backend": header["backend"],
        "plan": config.plan.model_dump(),
    }


def _methods(config: Config) -> dict[str, dict[str, float]]:
    """Compare what the fast method and the network give of the same windows, where nothing hurries them."""
    with progress_bar("comparing edi and the network"):
        return {name: asdict(quality) for name, quality in methods_compared(config, _COMPARED).items()}


def _write_images(collector: _Collector, truth: GroundTruth, out: Path) -> None:
    """Leave the sharpest comparison: the instant at which captured and exposed frame differ most from each other."""
    sample = min(collector.samples[1:-1] or collector.samples, key=lambda s: psnr(s.captured, s.exposed))
    write_png(out / "captured.png", sample.captured)
    write_png(out / "exposed.png", sample.exposed)
    write_png(out / "truth.png", truth.pixels(sample.shutter))
    write_png(out / "comparison.png", side_by_side(sample.captured, sample.exposed))


def _write_video(collector: _Collector, out: Path) -> str:
    """Leave the first exposed frames in slow motion, beside the nearest captured ones; tells of its pace."""
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
        f"{summary['latency_ms_p99']:.1f} ms (p99); lost: {summary['lost_events']} events, {summary['lost_frames']} "
        f"frames, {summary['late_windows']} windows late",
        soft_wrap=True,
    )


def _say_where(out: Path, console: Console, video: str) -> None:
    where = f"look at {out / 'comparison.png'} and {out / 'demo.mp4'} ({video}); numbers in {out / 'summary.json'}"
    console.print(where, soft_wrap=True)


def _mid_us(message: wire.Message) -> float:
    return float(message.header["stamps"]["device_us"])


def _shutter_of(message: wire.Message) -> Shutter:
    header = message.header
    return Shutter.rolling(
        header["t_a_us"], header["t_b_us"], row_delay_us=header["row_delay_us"], height=header["shape"][0]
    )


def _free_ports() -> list[str]:
    """Overrides for the sockets whose usual port somebody else has: a demonstration should just run."""
    usual = Config()
    found = []
    for key, address in (("publish.bind", usual.publish.bind), ("control.bind", usual.control.bind)):
        port = int(address.rpartition(":")[2])
        if not _is_free(port):
            found.append(f'{key}="tcp://127.0.0.1:{_any_free_port()}"')
    if not _is_free(int(usual.preview.bind.rpartition(":")[2])):
        found.append(f'preview.bind="127.0.0.1:{_any_free_port()}"')
    return found


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


def _any_free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
