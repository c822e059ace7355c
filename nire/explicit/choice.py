"""Which engine runs the network, in what precision, where that is left open: the fastest here, measured and kept.

A busy machine slows one engine more than another. So each is timed in turn, round after round, and its best time
counts, which load adds the least to. What was measured is kept with the choice: an engine that is much faster at a
later start was timed on a busy machine, and all are timed again.
"""

from __future__ import annotations

import copy
import json
import logging
import math
import os
import time
from collections.abc import Mapping
from dataclasses import replace

import torch

from nire.engines import Job
from nire.engines.cache import Cache, key_of
from nire.errors import ConfigError, EngineError
from nire.explicit.engines import Cleaner, check_cleaner, open_cleaner
from nire.explicit.evidence import Evidence, still_evidence
from nire.explicit.network import KeyPlaneNetwork
from nire.install import processor

_log = logging.getLogger(__name__)
_ENGINES = ("openvino", "eager")
# Each is timed for so long, and in so many rounds at least.
_MEASURED_S, _FEWEST = 0.5, 3
# Twice in a row: the threads of the engine before may still spin in the first run.
_IN_A_ROW = 2
# What warming up may take, and then timing, s: a start that takes minutes is taken for one that hangs.
_PATIENCE_S = 5.0
# A kept time that is beaten by so much was taken on a busy machine. Quiet machines repeat a best time within a tenth.
_BEATEN = 0.7
# torch takes windows of any size. Of a large sensor it first gets a small window: a pixel of a large one takes no less,
# because less of it fits into caches. Where that is so many times another engine's time, it cannot win.
_SMALL_PX, _TRIALS, _HOPELESS = 100_000, 2, 2.0
_KEPT = "seconds.json"

_Candidate = tuple[str, str]
"""Engine and precision."""


def open_fastest(network: KeyPlaneNetwork, job: Job) -> Cleaner:
    """Make the engine that takes the least time for a window; what was measured is kept on disk.

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
    among = " ".join(map("/".join, candidates))
    versions = {"torch": torch.__version__, "cores": os.cpu_count(), "processor": processor()}
    cache = Cache(job.cache / "choice", key_of(network, height=job.height, width=job.width, among=among, **versions))
    evidence = still_evidence(network.config, job.height, job.width)
    made: dict[_Candidate, Cleaner] = {}
    kept_s = _kept(cache, candidates)
    if kept_s:
        best = min(kept_s, key=kept_s.__getitem__)
        made[best] = _opened(best, copy.deepcopy(network), job)
        now_s = _best_seconds(made, evidence, measured_s=0.0)[best]
        if now_s > _BEATEN * kept_s[best]:
            return made[best]
        _log.info("engine: %s in %s took %.1f ms when it was chosen, %.1f now", *best, 1e3 * kept_s[best], 1e3 * now_s)
    _log.info(
        "engines for %d x %d are made and timed (%s): the first image comes later this once, and the choice is kept",
        job.width,
        job.height,
        among,
    )
    for candidate in candidates:
        if candidate not in made:
            made[candidate] = _opened(candidate, copy.deepcopy(network), job)
    taken_s = _best_seconds(made, evidence, measured_s=_MEASURED_S, at_least_s=_at_least(candidates, network, job))
    best = min(taken_s, key=taken_s.__getitem__)
    told = ", ".join(f"{name} in {precision}: {1e3 * s:.1f} ms" for (name, precision), s in taken_s.items())
    _log.info("engine: %s in %s, the fastest here for a window (%s)", *best, told)
    try:
        cache.put(_KEPT, json.dumps({"/".join(candidate): s for candidate, s in taken_s.items()}).encode())
    except OSError as problem:
        _log.warning("the choice of an engine cannot be kept (%s) and is made again at the next start", problem)
    return made[best]


def _kept(cache: Cache, candidates: list[_Candidate]) -> dict[_Candidate, float]:
    """Read what was measured, s; empty where nothing was, or the fastest does not run any more."""
    path = cache.path(_KEPT)
    if path is None:
        return {}
    try:
        seconds = {tuple(name.split("/")): float(s) for name, s in json.loads(path.read_bytes()).items()}
    except (OSError, ValueError, AttributeError, TypeError) as problem:
        _log.warning("%s cannot be read (%s): the engines are timed again", path, problem)
        return {}
    return seconds if seconds and min(seconds, key=seconds.__getitem__) in candidates else {}


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


def _at_least(candidates: list[_Candidate], network: KeyPlaneNetwork, job: Job) -> dict[_Candidate, float]:
    """Tell what torch takes for a window of a large sensor at least, by a small one, s; nothing for a small sensor."""
    times = math.isqrt(job.height * job.width // _SMALL_PX)
    if times < 2:
        return {}
    height, width = network.config.padded(job.height // times, job.width // times)
    small = replace(job, height=height, width=width)
    evidence, larger = still_evidence(network.config, height, width), job.height * job.width / (height * width)
    least_s = {}
    for candidate in (each for each in candidates if each[0] == "eager"):
        cleaner = _opened(candidate, copy.deepcopy(network), small)
        least_s[candidate] = larger * min(_seconds(cleaner, evidence) for _ in range(_TRIALS))
    return least_s


def _best_seconds(
    made: Mapping[_Candidate, Cleaner],
    evidence: Evidence,
    *,
    measured_s: float,
    at_least_s: Mapping[_Candidate, float] | None = None,
) -> dict[_Candidate, float]:
    """Time a window by each engine in turn, round after round, after one to warm up; each one's best time, s.

    An engine may take minutes for a window of a large sensor. So none is run again that would take too long by its run
    before, once another one is timed; one that is never timed is left out.

    Args:
        made: engines, at least one; those that are likely to be fast come first.
        evidence: of a window.
        measured_s: for each of them, on average; at least some rounds are made.
        at_least_s: what is known before of some of them.
    """
    (first, cleaner), *others = made.items()
    # Its first run may compile what the others share.
    last_s = {first: _seconds(cleaner, evidence)}
    warming_s = 0.0
    for candidate, cleaner in others:
        least_s = (at_least_s or {}).get(candidate, 0.0)
        if least_s > _HOPELESS * min(last_s.values()):
            _log.info("engine: %s in %s would take %.1f s for a window, and is left out", *candidate, least_s)
        elif warming_s < _PATIENCE_S:
            last_s[candidate] = _seconds(cleaner, evidence)
            warming_s += last_s[candidate]
    best_s: dict[_Candidate, float] = {}
    rounds, spent_s = 0, 0.0
    while rounds < _FEWEST or spent_s < measured_s * len(last_s):
        for candidate in [candidate for candidate in last_s for _ in range(_IN_A_ROW)]:
            would_end_s = last_s[candidate] + (spent_s if candidate in best_s else 0.0)
            if best_s and would_end_s > _PATIENCE_S:
                continue
            last_s[candidate] = seconds = _seconds(made[candidate], evidence)
            best_s[candidate] = min(best_s.get(candidate, math.inf), seconds)
            spent_s += seconds
        rounds += 1
    return best_s


def _seconds(cleaner: Cleaner, evidence: Evidence) -> float:
    began = time.perf_counter()
    cleaner(evidence)
    return time.perf_counter() - began
