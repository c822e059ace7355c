"""Settings of a training run: a TOML file, read by the standard library and checked key by key."""

from __future__ import annotations

import dataclasses
import tomllib
import typing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nire.errors import ConfigError

TASKS = (
    "deblur",
    "sharp_vfi",
    "blurry_vfi",
    "unroll",
    "unroll_deblur",
    "live_edge",
    "reshutter_long",
    "events_only",
)
"""What a training window may ask; docs/training.md says what each one shows."""


@dataclass(frozen=True, slots=True)
class ModelSettings:
    """Which network.

    Attributes:
        network: "explicit" cleans key planes; "recurrent" remembers, for events alone; "paper" is that of the paper.
        size: "nano" or "small", and "base" of the paper's.
        change: fields of the size's config that are set otherwise, for instance {"film": "learned"}.
    """

    network: str = "paper"
    size: str = "nano"
    change: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class DataSettings:
    """What is rendered.

    Attributes:
        crop_px: height and width of a window.
        batch: windows a step, of one task each.
        queries: shutters that each window answers.
        windows: that follow one another in a sample; of networks that remember only.
        steps_per_bin: steps of the renderer in one bin of the network; motion stays under half a pixel a step.
        layers: moving things before the background.
        fast_share: share of scenes that move up to a pixel a step, so that things leave the crop between two frames.
        still_share: share of windows whose background stands still.
        pattern_share: share of windows whose pixels differ in their gain, and half of those in their dark signal.
        rolled_share: share of windows of two frames that go on from one before; networks of key planes only.
        wide_sensors: whether sensors are drawn from further apart than those that evaluation draws.
        reuse: windows that are made of each rendered scene before a new one is rendered; each has its own sensor,
            task, shutters, mirroring and direction of time.
        noise: "realistic", "ideal", or "mixed".
        ideal_share: share of ideal sensors in "mixed".
        threshold_error: standard deviation of the logarithm of the thresholds' estimate over their truth.
        readout_share: share of sensors, among those with noise, whose pixels fire together when frames are read out.
        drop_share: share of windows in which a span of events is lost.
        footage_share: share of scenes that are cut out of the folder given by --data, if one is given.
        tiles, sprites: how many backgrounds and things are kept ready.
        tasks: how often each task is drawn, relative to the others.
    """

    crop_px: int = 64
    batch: int = 8
    queries: int = 4
    windows: int = 12
    steps_per_bin: int = 2
    layers: int = 2
    fast_share: float = 0.3
    still_share: float = 0.0
    pattern_share: float = 0.0
    rolled_share: float = 0.0
    wide_sensors: bool = False
    reuse: int = 2
    noise: str = "realistic"
    ideal_share: float = 0.125
    threshold_error: float = 0.12
    readout_share: float = 0.0
    drop_share: float = 0.15
    footage_share: float = 0.5
    tiles: int = 800
    sprites: int = 600
    tasks: dict[str, float] = field(default_factory=lambda: dict.fromkeys(TASKS[:-1], 1.0))


@dataclass(frozen=True, slots=True)
class LossSettings:
    """Weights of the loss's terms; 0 leaves a term out. See `nire.training.losses`.

    Attributes:
        charbonnier, gradient, ssim, psnr, perceptual: the weights; of `psnr` per decibel.
        witness: weight of how much images are worse than the best witness, for networks that have witnesses.
        perceptual_weights: file of VGG's weights, which `perceptual` needs; see `nire.training.perceptual`.
    """

    charbonnier: float = 1.0
    gradient: float = 0.5
    ssim: float = 0.0
    psnr: float = 0.0
    perceptual: float = 0.0
    witness: float = 0.0
    perceptual_weights: str = ""


@dataclass(frozen=True, slots=True)
class OptimiserSettings:
    """AdamW with a cosine schedule.

    Attributes:
        learning_rate: at its highest.
        final_share: what of it is left at the end.
        warm_up: iterations from 0 to the highest.
        iterations: of the whole run.
        weight_decay: of AdamW.
        clip_norm: longest gradient.
        ema: share of the old weights that the average keeps in each iteration.
    """

    learning_rate: float = 1e-3
    final_share: float = 0.01
    warm_up: int = 200
    iterations: int = 20_000
    weight_decay: float = 1e-4
    clip_norm: float = 1.0
    ema: float = 0.999


@dataclass(frozen=True, slots=True)
class RunSettings:
    """How it runs.

    Attributes:
        seed: of everything.
        device: "auto", "cpu" or "cuda".
        threads: of the network on a CPU, one more renders; 0 = one less than there are cores.
        bf16: run the network under bf16 autocast.
        compile: let torch.compile make the network's code: minutes at the start, then somewhat faster steps.
        checkpoint_minutes: between checkpoints.
        report_every: iterations between lines of the log.
        validate_every: iterations between validations, each with a contact sheet.
        validation_windows: batches of each validation.
    """

    seed: int = 1
    device: str = "auto"
    threads: int = 0
    bf16: bool = False
    compile: bool = False
    checkpoint_minutes: float = 3.0
    report_every: int = 50
    validate_every: int = 1000
    validation_windows: int = 7


@dataclass(frozen=True, slots=True)
class Settings:
    """A whole training run; one table of the TOML file for each field."""

    model: ModelSettings = field(default_factory=ModelSettings)
    data: DataSettings = field(default_factory=DataSettings)
    loss: LossSettings = field(default_factory=LossSettings)
    optimiser: OptimiserSettings = field(default_factory=OptimiserSettings)
    run: RunSettings = field(default_factory=RunSettings)


def read_settings(path: Path) -> Settings:
    """Read and check a TOML file.

    Raises:
        ConfigError: the file is not there or no TOML, or a key is unknown, of another type or out of range.
    """
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ConfigError(
            f"{path}: there is no such file; `nire-live config train_nano` prints one to start from"
        ) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: is no TOML: {error}") from error
    return parse_settings(document, str(path))


def parse_settings(document: dict[str, Any], name: str = "settings") -> Settings:
    """Check a parsed document; `name` begins every message.

    Raises:
        ConfigError: a key is unknown, of another type or out of range, or a file that it names is missing.
    """
    settings: Settings = _table(Settings, document, name)
    kinds = ("paper", "explicit", "recurrent")
    _require(
        settings.model.network in kinds,
        f"{name}: model.network = {settings.model.network!r}, expected one of {', '.join(kinds)}",
    )
    data = settings.data
    _require(data.crop_px >= 16, f"{name}: data.crop_px = {data.crop_px}, expected at least 16")
    for key in ("batch", "queries", "steps_per_bin", "reuse", "tiles", "sprites"):
        _require(getattr(data, key) >= 1, f"{name}: data.{key} = {getattr(data, key)}, expected at least 1")
    for key in (each.name for each in dataclasses.fields(data) if each.name.endswith("_share")):
        _require(0 <= getattr(data, key) <= 1, f"{name}: data.{key} = {getattr(data, key)}, expected 0 to 1")
    _require(data.layers >= 0, f"{name}: data.layers = {data.layers}, expected at least 0")
    noises = ("realistic", "ideal", "mixed")
    _require(data.noise in noises, f"{name}: data.noise = {data.noise!r}, expected one of {', '.join(noises)}")
    for task, weight in data.tasks.items():
        _require(_is_number(weight), f"{name}: data.tasks.{task} = {weight!r}, expected a number")
        _require(task in TASKS, f"{name}: data.tasks has {task!r}, expected some of {', '.join(TASKS)}")
        _require(
            weight >= 0,
            f"{name}: data.tasks.{task} = {weight!r}, expected at least 0",
        )
    _require(sum(data.tasks.values()) > 0, f"{name}: data.tasks asks for nothing; give a task a positive weight")
    wanted, vgg = settings.loss.perceptual, settings.loss.perceptual_weights
    _require(wanted >= 0, f"{name}: loss.perceptual = {wanted}, expected at least 0")
    _require(
        wanted == 0 or Path(vgg).is_file(),
        f"{name}: loss.perceptual = {wanted} needs VGG's weights, but loss.perceptual_weights = {vgg!r} is no file; "
        "they are not shipped: name torchvision's vgg16 as .pth or .safetensors, or set loss.perceptual = 0",
    )
    optimiser = settings.optimiser
    _require(optimiser.iterations >= 1, f"{name}: optimiser.iterations must be at least 1")
    _require(0 <= optimiser.ema < 1, f"{name}: optimiser.ema = {optimiser.ema}, expected a share below 1")
    return settings


def _table(kind: type[Any], document: dict[str, Any], where: str) -> Any:
    """Make one dataclass of one table."""
    hints = typing.get_type_hints(kind)
    unknown = sorted(set(document) - set(hints))
    _require(not unknown, f"{where}: unknown key {', '.join(unknown)}; the keys are {', '.join(hints)}")
    values: dict[str, Any] = {}
    for key, value in document.items():
        hint = hints[key]
        if dataclasses.is_dataclass(hint):
            _require(isinstance(value, dict), f"{where}: {key} must be a table")
            values[key] = _table(typing.cast("type[Any]", hint), value, f"{where}: {key}")
            continue
        expected = typing.get_origin(hint) or hint
        if expected is float and isinstance(value, int) and not isinstance(value, bool):
            value = float(value)
        _require(
            isinstance(value, expected) and not (expected is int and isinstance(value, bool)),
            f"{where}: {key} = {value!r}, expected {expected.__name__}",
        )
        values[key] = value
    return kind(**values)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise ConfigError(message)
