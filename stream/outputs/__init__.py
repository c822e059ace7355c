"""Outputs: what lies in this folder is one, a file each, with `create` for runs or `follow` for running streams."""

from __future__ import annotations

import difflib
import importlib
import inspect
import pkgutil
from collections.abc import Iterable
from pathlib import Path
from types import ModuleType, TracebackType
from typing import Any, Protocol, Self

from nire.errors import ConfigError
from nire.types import ExposedFrame
from stream.disk import writing


class Output(Protocol):
    """Takes exposed frames.

    The module of an output over a recording (`offline --output NAME`) has `create(out: Path, *, in_order: bool) ->
    Output`: `out` is the run's folder, and where frames do not come `in_order` of their indices, one may come again.
    The module of an output of a running stream (`send NAME`) has `follow(target: str) -> Output`, and `TARGET`: where
    it sends to unless told otherwise. What a module may also have:

    - `missing() -> str`: what to install, "" where nothing is missing.
    - `FILES`: names of what it makes in the folder, so that the next run there may replace it.
    - `create(..., fps: float | None = None)`: images a second, where somebody asks for that.
    - `create(..., plain: bool = False)`: show the values as they are, without the level and gamma of `stream.display`.

    And what an output may also have:

    - `captured(frame: Frame)`: takes captured frames, each before the exposed ones around it.
    - `summary() -> str`: a line for the terminal, once all is written.
    - `take(message: Message)`, of a running stream: takes what comes on the topics that its module names in `TOPICS`.
    """

    def write(self, frame: ExposedFrame, *, index: int) -> None:
        """Take the frame number `index` of the run.

        Raises:
            ConfigError: it cannot be written.
        """
        ...

    def __enter__(self) -> Self:
        """Begin."""
        ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Finish, also after an error."""
        ...


def output_names() -> list[str]:
    """Names of all outputs, sorted: what lies in this folder. Nothing is imported."""
    return sorted(module.name for module in pkgutil.iter_modules(__path__))


def output_module(name: str) -> ModuleType:
    """Import an output by its name, or by a dotted one for code outside this repository.

    Raises:
        ConfigError: there is no such output.
    """
    if "." not in name and name not in output_names():
        raise _unknown(name, output_names())
    try:
        return importlib.import_module(name if "." in name else f"{__name__}.{name}")
    except ModuleNotFoundError as error:
        raise ConfigError(f"the output {name!r} cannot be imported: {error}") from error


def lacks(module: ModuleType) -> str:
    """Tell what an output needs that is not there; "" where nothing is missing."""
    return str(module.missing()) if hasattr(module, "missing") else ""


def files_of(names: Iterable[str]) -> list[str]:
    """Names of what outputs make in the run's folder, as far as they say so.

    Raises:
        ConfigError: there is no such output.
    """
    return [file for name in names for file in getattr(output_module(name), "FILES", ())]


def require_ready(name: str, *, follows: bool = False) -> ModuleType:
    """Import an output that has all it needs.

    Args:
        name: a file in this folder, or a dotted module name.
        follows: it is to follow a running stream, rather than a run over a recording.

    Raises:
        ConfigError: there is no such output, or not of this kind, or it lacks something.
    """
    if "." not in name and name not in output_names():
        ability = "follow" if follows else "create"
        raise _unknown(name, [other for other in output_names() if hasattr(output_module(other), ability)])
    module = output_module(name)
    if follows and not hasattr(module, "follow"):
        raise ConfigError(f"the output {name!r} is of runs over a recording: nire-live offline ... --output {name}")
    if not follows and not hasattr(module, "create"):
        raise ConfigError(f"the output {name!r} is of running streams: nire-live send {name}")
    if missing := lacks(module):
        raise ConfigError(f"the output {name!r} needs {missing}")
    return module


def open_output(name: str, out: Path, *, in_order: bool, fps: float | None = None, plain: bool = False) -> Output:
    """Make an output of a run.

    Args:
        name: a file in this folder, or a dotted module name.
        out: the run's folder.
        in_order: frames come in the order of their indices, each once.
        fps: images a second of a film; None = as the output finds right.
        plain: films show the values as they are.

    Raises:
        ConfigError: there is no such output, or it cannot be written here.
    """
    module = require_ready(name)
    with writing(f"to {out}"):
        out.mkdir(parents=True, exist_ok=True)
    taken = inspect.signature(module.create).parameters
    wishes: dict[str, Any] = {key: value for key, value in (("fps", fps), ("plain", plain)) if key in taken}
    made: Output = module.create(out, in_order=in_order, **wishes)
    return made


def follow_output(name: str, target: str = "") -> Output:
    """Make an output of a running stream.

    Args:
        name: a file in this folder, or a dotted module name.
        target: where to send to; "" = as the output finds right.

    Raises:
        ConfigError: there is no such output, or it cannot send there.
    """
    module = require_ready(name, follows=True)
    made: Output = module.follow(target or module.TARGET)
    return made


def topics_of(name: str) -> tuple[str, ...]:
    """Topics of a running stream that an output takes beside the images of the plan."""
    return tuple(getattr(output_module(name), "TOPICS", ()))


def _unknown(name: str, names: list[str]) -> ConfigError:
    near = difflib.get_close_matches(name, names, n=1)
    hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(names)}"
    return ConfigError(f"there is no output {name!r}; {hint}")
