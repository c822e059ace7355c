"""Many recordings in, a folder for each out: several at a time, done work is skipped, failures told with reasons."""

from __future__ import annotations

import json
import math
import shutil
import sys
import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import typer

from nire.errors import ConfigError, NireError
from stream.batch.cluster import RayCluster
from stream.batch.listing import Item, listed
from stream.batch.parts import Joining, in_parts
from stream.batch.processes import ThisMachine
from stream.batch.worker import Ending, Order
from stream.batch.workers import Place, Workers
from stream.config import Config, load_config
from stream.disk import write_whole, writing
from stream.options import LogLevel, Overrides, configure_log, leave
from stream.outputs import files_of, require_ready
from stream.progress import progress_bar
from stream.provenance import host, inputs_of, versions
from stream.run_folder import whole_run

REPORT = "batch.json"
DONE, FAILED = 0, 3


def command(
    words: Annotated[
        list[Path],
        typer.Argument(
            metavar="IN... OUT [CONFIG]",
            help="A folder of recordings, a glob, a manifest (a path a line, then a JSON object of overrides if "
            "wanted) or recordings; a folder for OUT/NAME/ and OUT/batch.json; a TOML file.",
            show_default=False,
        ),
    ],
    jobs: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=1024,
            help="Recordings at a time; without it half the cores, one on a GPU, all that a cluster has room for.",
            show_default=False,
        ),
    ] = None,
    output: Annotated[
        list[str] | None,
        typer.Option(help="Also make this output; 'nire-live outputs' lists them.", show_default=False),
    ] = None,
    split: Annotated[
        float | None,
        typer.Option(
            min=0.1,
            help="Have several jobs work on one recording, each in turn on so many seconds of it; the images stay the "
            "same.",
            show_default=False,
        ),
    ] = None,
    ray: Annotated[
        str | None,
        typer.Option(
            metavar="auto|HOST:PORT",
            help="Workers on the Ray cluster that this machine is a node of; all nodes share the storage.",
            show_default=False,
        ),
    ] = None,
    overrides: Overrides = None,
    log_level: LogLevel = "INFO",
) -> None:
    """Re-expose many recordings, several at a time; what is done and valid is skipped, failures are told at the end."""
    config, places, out = _arguments(words)
    configure_log(log_level)
    chosen = [name for name in dict.fromkeys(output or []) if name != "frames"]
    leave(run(places, out, config, overrides or (), jobs=jobs, outputs=chosen, split_s=split, ray=ray))


@dataclass(slots=True)
class _Entry:
    """A recording of the batch, as `batch.json` tells of it."""

    name: str
    recording: str
    overrides: tuple[str, ...]
    config_digest: str
    state: str = "waiting"
    reason: str = ""
    images: int = 0
    seconds: float = 0.0
    warnings: tuple[str, ...] = ()


def run(
    places: Sequence[Path],
    out: Path,
    config: Path | None = None,
    overrides: Sequence[str] = (),
    *,
    jobs: int | None = None,
    outputs: Sequence[str] = (),
    split_s: float | None = None,
    ray: str | None = None,
) -> int:
    """Re-expose each recording into a folder of its own under `out`, as `offline` does, and report in `batch.json`.

    Args:
        places: folders of recordings, globs, manifests, or recordings.
        out: folder, made if need be.
        config: a TOML file; None = the defaults.
        overrides: `section.key=value` for all; those of a manifest's line lie over them.
        jobs: recordings at a time; None = half the cores, one on a GPU, or all that a cluster has room for.
        outputs: what to make beside images and their lines, by name.
        split_s: several jobs work on a recording that is longer, each in turn on so many seconds; None = on none.
        ray: address of a Ray cluster whose nodes do the work, "auto" or HOST:PORT; None = processes of this machine.

    Returns:
        Exit code: 0 all are done, 3 some failed or are damaged.

    Raises:
        ConfigError: nothing can be started: a wrong config, manifest, place or output, `out` cannot be written, or
            there is no such cluster.
    """
    if split_s is not None and outputs:
        raise ConfigError(
            f"--split with --output {outputs[0]}: parts are joined image by image, which other outputs cannot be. "
            "Leave one of the two out"
        )
    items = listed(places, beside=out)
    for name in outputs:
        require_ready(name)
    configs = [_config_of(item, config, overrides) for item in items]
    orders = [
        Order(item.name, item.recording, out / item.name, own, tuple(outputs))
        for item, own in zip(items, configs, strict=True)
    ]
    entries = {
        order.name: _Entry(order.name, str(order.recording), item.overrides, order.config.digest())
        for item, order in zip(items, orders, strict=True)
    }
    with _place(ray, {config.reconstructor.device for config in configs}, out) as place:
        with writing(f"to {out}"):
            out.mkdir(parents=True, exist_ok=True)
        book = _Book(out, entries)
        waiting = [order for order in orders if not book.skips(order)]
        print(f"{len(orders)} recordings, {len(orders) - len(waiting)} of them done already")
        if waiting:
            try:
                _work(waiting, book, place, jobs or max(place.usual_jobs(), 1 if split_s is None else 2), split_s)
            except KeyboardInterrupt:
                book.interrupted()
        book.close()
    return book.tell()


def _place(ray: str | None, devices: set[str], out: Path) -> Place:
    return ThisMachine(devices) if ray is None else RayCluster(ray, devices, out)


def _work(wholes: Sequence[Order], book: _Book, place: Place, jobs: int, split_s: float | None) -> None:
    orders = [part for whole in wholes for part in ([whole] if split_s is None else in_parts(whole, split_s, jobs))]
    sizes = {order.label: max(1, _bytes(order.recording)) / (order.part.count if order.part else 1) for order in orders}
    shares = dict.fromkeys(sizes, 0.0)
    joining = Joining()
    with Workers(place, min(jobs, len(orders))) as workers:
        print(_estimate(workers, wholes[0], sum(sizes.values()), min(jobs, len(orders))), flush=True)
        with progress_bar("batch") as bar:

            def reached(order: Order, share: float) -> None:
                shares[order.label] = share
                bar.at(sum(sizes[label] * done for label, done in shares.items()), sum(sizes.values()))

            for order, ending in workers.work(orders, reached):
                if whole := joining.take(order, ending):
                    book.ended(*whole)
                reached(order, 1.0)


def _estimate(workers: Workers, first: Order, all_bytes: float, count: int) -> str:
    """Try the first recording for a second, and say what all will take, by their sizes."""
    ((_, ending),) = workers.work([replace(first, is_trial=True)])
    if ending.cost is None:
        return f"{count} at a time; how long it takes is not known before: {first.recording} does not tell"
    cost = ending.cost
    recorded_s = cost.duration_us / 1e6 * all_bytes / max(1, _bytes(first.recording))
    disk_bytes = cost.disk_bytes * recorded_s
    free_bytes = shutil.disk_usage(first.out.parent).free
    room = "" if disk_bytes < free_bytes else ", which is more than there is: free some, or choose another place"
    return (
        f"{count} at a time; by a trial of {first.recording.name} about {_duration(cost.time_s * recorded_s / count)} "
        f"and {_size(disk_bytes)} of {_size(free_bytes)} free{room}"
    )


class _Book:
    """What became of each recording, on disk at any moment."""

    def __init__(self, out: Path, entries: dict[str, _Entry]) -> None:
        self._out = out
        self._entries = entries
        self._write("unfinished")

    def skips(self, order: Order) -> bool:
        """Tell whether a recording is done and valid already, and note it."""
        report = whole_run(order.out)
        if report is None or report.get("shutters") or report.get("files") != files_of(order.outputs):
            return False
        try:
            inputs = inputs_of(order.config, order.recording, has_frames=bool(report.get("has_frames")))
        except NireError:
            return False
        if any(report.get(key) != value for key, value in inputs.items()):
            return False
        self._note(order.name, state="skipped", images=report["counts"]["exposed"])
        return True

    def ended(self, order: Order, ending: Ending) -> None:
        """Note how one ended, and say so."""
        report = None if ending.reason else whole_run(order.out)
        images = report["counts"]["exposed"] if report else 0
        reason = ending.reason
        if not reason and report is None:
            reason = f"its worker has done it, but here there is no whole run in {order.out}: is it on shared storage?"
        self._note(
            order.name,
            state="failed" if reason else "done",
            reason=reason,
            images=images,
            seconds=round(ending.seconds, 3),
            warnings=ending.warnings,
        )
        ended = sum(entry.state != "waiting" for entry in self._entries.values())
        told = f"failed: {reason}" if reason else f"{images} images in {_duration(ending.seconds)}"
        print(f"[{ended}/{len(self._entries)}] {order.name}: {told}", flush=True)

    def interrupted(self) -> None:
        """Note that what is not done was not tried to the end."""
        for entry in self._entries.values():
            if entry.state == "waiting":
                entry.state, entry.reason = "failed", "interrupted before it was done"

    def close(self) -> None:
        """Note that nothing more will come."""
        self._write("done")

    def tell(self) -> int:
        """Name what failed, with reasons; returns the exit code."""
        failed = [entry for entry in self._entries.values() if entry.state == "failed"]
        good = len(self._entries) - len(failed)
        print(f"{good} of {len(self._entries)} recordings are done in {self._out}; {self._out / REPORT} tells of each")
        for entry in failed:
            print(f"failed: {entry.name} ({entry.recording}): {entry.reason}", file=sys.stderr)
        return FAILED if failed else DONE

    def _note(self, name: str, **values: Any) -> None:
        for key, value in values.items():
            setattr(self._entries[name], key, value)
        self._write("unfinished")

    def _write(self, state: str) -> None:
        entries = [asdict(entry) for entry in self._entries.values()]
        counts = {kind: sum(entry["state"] == kind for entry in entries) for kind in ("done", "skipped", "failed")}
        report = {
            "state": state,
            "written_unix_s": round(time.time(), 3),
            "counts": counts,
            "recordings": entries,
            "versions": versions(),
            "host": host(),
        }
        write_whole(self._out / REPORT, json.dumps(report, indent=2) + "\n")


def _arguments(words: Sequence[Path]) -> tuple[Path | None, list[Path], Path]:
    """Tell config, places and output folder apart; the config is the one that is TOML."""
    usage = "nire-live batch IN... OUT [CONFIG]"
    configs = [word for word in words if word.suffix.lower() == ".toml"]
    others = [word for word in words if word not in configs]
    if len(configs) > 1:
        raise ConfigError(f"{configs[0]} and {configs[1]} are two configs, expected at most one: {usage}")
    if len(others) < 2:
        missing = (
            f"the output folder is missing after {others[0]}" if others else "recordings and output folder are missing"
        )
        raise ConfigError(f"{missing}: {usage}")
    if others[-1].is_file():
        raise ConfigError(f"{others[-1]} is a file, expected the output folder: {usage}")
    return (configs[0] if configs else None), others[:-1], others[-1]


def _config_of(item: Item, config: Path | None, overrides: Iterable[str]) -> Config:
    try:
        return load_config(config, [*overrides, *item.overrides])
    except ConfigError as error:
        if item.overrides:
            raise ConfigError(f"{item.recording} with {', '.join(item.overrides)}: {error}") from error
        raise


def _bytes(recording: Path) -> int:
    paths = recording.rglob("*") if recording.is_dir() else [recording]
    return sum(path.stat().st_size for path in paths if path.is_file())


def _duration(seconds: float) -> str:
    if seconds < 100:
        return f"{seconds:.3g} s"
    minutes = math.ceil(seconds / 60)
    return f"{minutes} min" if minutes < 100 else f"{minutes // 60} h {minutes % 60} min"


def _size(count: float) -> str:
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.1f} MB"
