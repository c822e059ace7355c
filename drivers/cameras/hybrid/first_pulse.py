"""Which pulse on the trigger line belongs to the first frame: the search for the offset between two clocks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

NEAR = 0.25
"""Share of the frame period within which an edge may be that of a frame while the offset is being searched."""
_TELLING = 3.0
"""A guess is refused when its edges scatter this many times more than the best guess's: the pattern tells."""
_FINE_US = 5.0
"""Scatter below this tells nothing: edges are stamped to about a microsecond."""
_TRIED_FRAMES = 3
_CLOSE = 1.5  # so much more may speak against a guess if the pattern speaks for it
_LIKE_WIDTH = 0.25  # a pulse is whole when its length is the usual one, give or take this share
# What speaks against a guess: a frame without an edge counts 1.
_FAR = 0.75  # a frame whose edge is hardly near any more
_HALF_PULSE = 0.2  # a frame whose pulse is not whole
_PULSE_BEFORE, _EDGE_BEFORE = 1.1, 0.25  # a whole pulse, a lone edge before the first frame that no frame explains


@dataclass(frozen=True, slots=True)
class Prior:
    """What is known about the offset before any edge is looked at.

    Attributes:
        offset_us: edge time minus frame stamp; None = nothing is known, and the first frame belongs to the first
            pulse.
        at_most: the offset is an upper bound: of the pulses that had ended by then, the newest is meant.
        first_pulse: without an offset: how many pulses come before that of the first frame.
    """

    offset_us: float | None = None
    at_most: bool = False
    first_pulse: int = 0


@dataclass(frozen=True, slots=True, eq=False)
class Pulses:
    """What the line showed: int64 [N] openings, sorted; bool [N] whether a closing follows after the usual length."""

    openings_us: NDArray[np.int64]
    whole: NDArray[np.bool_]
    width_us: float


@dataclass(frozen=True, slots=True)
class Lock:
    """A guess: edge time minus frame stamp, how much that scatters, and what speaks against it (0 = nothing)."""

    offset_us: float
    spread_us: float
    against: float


def pulses_of(openings_us: NDArray[np.int64], closings_us: NDArray[np.int64], *, width_us: float = 0.0) -> Pulses:
    """Look at edges as pulses.

    Args:
        openings_us, closings_us: int64, sorted.
        width_us: > 0: closings do not matter, every opening is a whole pulse of this length.
    """
    after = np.searchsorted(closings_us, openings_us, side="right")
    closed = after < closings_us.size
    if width_us > 0 or not closed.any():
        return Pulses(openings_us, np.ones(openings_us.size, np.bool_), width_us)
    lengths = np.full(openings_us.size, np.inf)
    lengths[closed] = closings_us[after[closed]] - openings_us[closed]
    usual_us = float(np.median(lengths[closed]))
    return Pulses(openings_us, np.abs(lengths - usual_us) <= _LIKE_WIDTH * usual_us, usual_us)


def find_lock(pulses: Pulses, stamps_us: Sequence[float], prior: Prior, *, period_us: float) -> Lock | None:
    """Find the offset that explains some frames by some edges.

    All offsets that put a frame on an edge are tried. Steady frames and steady pulses fit at any shift by a period;
    then `prior` decides. Where the intervals vary, only the right shift has little scatter.

    Args:
        pulses: edges that may begin an exposure; some are missing, some are spurious.
        stamps_us: of consecutive frames, by their own clock.
        prior: decides among offsets that fit alike.
        period_us: typical time between frames.

    Returns:
        The lock, or None where no offset explains half of the frames.
    """
    stamps = np.asarray(stamps_us, np.float64)
    if not pulses.openings_us.size or not stamps.size:
        return None
    guesses = _guesses(pulses, stamps, prior, period_us)
    if not guesses:
        return None
    # The scatter of few edges is small by chance: only guesses that explain about as many as the best one count.
    least = min(guess.against for guess in guesses)
    best_us = min(guess.spread_us for guess in guesses if guess.against <= least + _CLOSE)
    if prior.offset_us is None or prior.at_most:
        guesses = [guess for guess in guesses if guess.against <= least + _CLOSE]
    told = [guess for guess in guesses if guess.spread_us <= _TELLING * best_us + _FINE_US]
    least = min(guess.against for guess in told)
    if prior.offset_us is None:
        return next(guess for guess in told if guess.against <= least + 1e-9)
    wanted_us = prior.offset_us
    if prior.at_most:
        likely = [guess for guess in told if guess.against <= least + 1]
        ended = [guess for guess in likely if guess.offset_us + pulses.width_us <= wanted_us + NEAR * period_us]
        return ended[-1] if ended else likely[0]
    return min(told, key=lambda guess: abs(guess.offset_us - wanted_us))


def _guesses(pulses: Pulses, stamps: NDArray[np.float64], prior: Prior, period_us: float) -> list[Lock]:
    """Offsets that explain at least half of the frames, each once, in order."""
    tolerance_us = NEAR * period_us
    offsets = np.sort((pulses.openings_us[None] - stamps[:_TRIED_FRAMES, None]).ravel())
    found: list[Lock] = []
    for offset_us in offsets:
        if found and offset_us - found[-1].offset_us < tolerance_us:
            continue
        lock = _fitted(pulses, stamps, float(offset_us), prior, tolerance_us)
        if lock is not None and not (found and abs(lock.offset_us - found[-1].offset_us) < tolerance_us):
            found.append(lock)
    return found


def _fitted(
    pulses: Pulses, stamps: NDArray[np.float64], offset_us: float, prior: Prior, tolerance_us: float
) -> Lock | None:
    """Move an offset into the middle of the edges that it finds, and judge it; None where it explains too little."""
    for _ in range(3):
        nearest, error_us = _nearest(pulses.openings_us, stamps + offset_us)
        near = np.abs(error_us) < tolerance_us
        if 2 * np.count_nonzero(near) < stamps.size:
            return None
        middle = float(np.median(error_us[near]))
        offset_us += middle
    spread_us = 1.4826 * float(np.median(np.abs(error_us[near] - middle)))
    usual_us = min(5 * spread_us + _FINE_US, 0.5 * tolerance_us)
    off = _FAR * np.clip((np.abs(error_us - middle) - usual_us) / (tolerance_us - usual_us), 0, 1)
    against = float(np.where(near, off + _HALF_PULSE * ~pulses.whole[nearest], 1).sum())
    if prior.offset_us is None:
        before = pulses.openings_us < stamps[0] + offset_us - tolerance_us
        whole = np.count_nonzero(before & pulses.whole)
        against += _PULSE_BEFORE * abs(whole - prior.first_pulse)
        against += _EDGE_BEFORE * np.count_nonzero(before & ~pulses.whole)
    return Lock(offset_us, spread_us, against)


def _nearest(
    edges_us: NDArray[np.int64], expected_us: NDArray[np.float64]
) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
    """Find the nearest edge to each time: its place, and edge minus time."""
    after = np.minimum(np.searchsorted(edges_us, expected_us), edges_us.size - 1)
    before = np.maximum(after - 1, 0)
    places = np.where(np.abs(edges_us[before] - expected_us) <= np.abs(edges_us[after] - expected_us), before, after)
    return places, edges_us[places] - expected_us
