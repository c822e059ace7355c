"""Which engine runs the network, in what precision, where that is left open: the fastest here, measured once."""

from __future__ import annotations

import copy
import logging
import os
import statistics
import time
from dataclasses import replace

import torch

from nire.engines import Job
from nire.engines.cache import Cache, key_of
from nire.errors import ConfigError, EngineError
from nire.explicit.engines import Cleaner, check_cleaner, example, open_cleaner
from nire.explicit.evidence import Evidence
from nire.explicit.network import KeyPlaneNetwork
from nire.install import processor

_log = logging.getLogger(__name__)
_ENGINES = ("openvino", "eager")
# Each is timed for so long, and at least so often.
_MEASURED_S, _FEWEST = 0.5, 3

_Candidate = tuple[str, str]


def open_fastest(network: KeyPlaneNetwork, job: Job) -> Cleaner:
    """Make the engine that takes the least time for a window; the choice is kept on disk.

    Args:
        network: is the engine's from now on.
        job: what for; a precision that it names is kept to.

    Raises:
        ConfigError: no engine has the precision.
    """
    candidates = _candidates(job)
    if not candidates:
        return open_cleaner("eager", network, job)
    if len(candidates) == 1:
        return _opened(candidates[0], network, job)
    among = " ".join("/".join(candidate) for candidate in candidates)
    versions = {"torch": torch.__version__, "cores": os.cpu_count(), "processor": processor()}
    cache = Cache(job.cache / "choice", key_of(network, height=job.height, width=job.width, among=among, **versions))
    kept = cache.path("fastest")
    if kept is not None:
        name, _, precision = kept.read_text().partition("/")
        if (name, precision) in candidates:
            return _opened((name, precision), network, job)
    made = {candidate: _opened(candidate, copy.deepcopy(network), job) for candidate in candidates}
    evidence = example(network, job)
    taken_s = {candidate: _seconds(cleaner, evidence) for candidate, cleaner in made.items()}
    best = min(taken_s, key=taken_s.__getitem__)
    told = ", ".join(f"{name} in {precision}: {1e3 * s:.1f} ms" for (name, precision), s in taken_s.items())
    _log.info("engine: %s in %s, the fastest here for a window (%s)", *best, told)
    try:
        cache.put("fastest", "/".join(best).encode())
    except OSError as problem:
        _log.warning("the choice of an engine cannot be kept (%s) and is made again at the next start", problem)
    return made[best]


def _candidates(job: Job) -> list[_Candidate]:
    """List the engines that run here, each in the precisions that this processor computes in."""
    if job.device.type != "cpu":
        return []
    precisions: tuple[str, ...] = (job.precision,)
    if job.precision == "auto":
        has_bf16 = job.precision_of("eager", ("fp32", "bf16")) == "bf16"
        precisions = ("fp32", "bf16") if has_bf16 else ("fp32",)
    return [(name, precision) for name in _ENGINES for precision in precisions if _runs(name, precision, job)]


def _runs(name: str, precision: str, job: Job) -> bool:
    try:
        check_cleaner(name, replace(job, precision=precision))
    except (ConfigError, EngineError) as reason:
        _log.info("engine %s is passed over: %s", name, reason)
        return False
    return True


def _opened(candidate: _Candidate, network: KeyPlaneNetwork, job: Job) -> Cleaner:
    name, precision = candidate
    return open_cleaner(name, network, replace(job, precision=precision))


def _seconds(cleaner: Cleaner, evidence: Evidence) -> float:
    """Time a window: the median of what fits into the time, after one to warm up."""
    cleaner(evidence)
    taken: list[float] = []
    while sum(taken) < _MEASURED_S or len(taken) < _FEWEST:
        began = time.perf_counter()
        cleaner(evidence)
        taken.append(time.perf_counter() - began)
    return statistics.median(taken)
