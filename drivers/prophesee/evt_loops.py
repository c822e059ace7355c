"""The compiled loops over Prophesee's words, from bits to columns of events: EVT 3.0, EVT 2.0 and 2.1, DAT records.

Compiled, because most words only change what those after them mean, and numpy would need a pass over all words for each
value that is carried along. All in one file with the numbers that they share: what numba keeps from an earlier process
is thrown away when this file changes, but not when another one does.
"""

from __future__ import annotations

import numpy as np
from numba.cpython.unsafe.numbers import trailing_zeros
from numpy.typing import NDArray

from nire.compiled import compiled

Ints = NDArray[np.int64]
Int = int | np.int64
"""What numbers are inside compiled code."""
Columns = tuple[Ints, NDArray[np.uint16], NDArray[np.uint16], NDArray[np.uint8]]
"""t_us, x, y, p of one length."""

# Places in the state of a stream: an array, because compiled code takes no dataclass.
EVENTS, CUTS, TRIGGERS = 0, 1, 2  # filled so far in the outputs of this call
KEPT_EVENTS, KEPT_CUTS, KEPT_TRIGGERS = 3, 4, 5  # of them, those before the present cluster of unknown words
NEWEST, LIMIT = 6, 7  # the newest time, and the end of the packet in which it lies, microseconds
HIGH, TURNS = 8, 9  # the high part of the time as written, and how often it began again
LOW, ROW, BASE, SIGN = 10, 11, 12, 13  # EVT 3: low part of the time, y, x of the next vector and its polarity
CLAMPED = 14  # times that were held
WORDS = 15  # words of earlier calls
UNKNOWN, SUSPECT, STRANGE, DAMAGED = 16, 17, 18, 19  # words of no known type: all, first of a cluster, its size; 0 or 1
COUNTING, PENDING, SHIFT = 20, 21, 22  # the counter that is being reported, as far as it was read
COUNT_IN, COUNT_OUT = 23, 24  # events before and after the sensor's rate controller, as the sensor counted them
CUT_AT = 25  # events before the newest cut of this call
SIZE = 26

NONE = -1
VECTOR = 32
"""Room to leave at the end of the columns: no word holds more events."""

CLAMP_US = 1000
EVENTS_1, EVENTS_2, EDGES = 0, 1, 2
"""Kinds of DAT records: events of version 1 (x in 9 bits, y in 8), of version 2 (14 bits each), trigger edges."""

# Few events wait for a cut that is due for several packets: each batch costs as much as hundreds of events.
_FEW, _PATIENCE = 2048, 5
# Types of words. EVT 3.0 and EVT 2 share the last four.
_Y, _OTHER_Y, _X, _BASE_X, _VECT_12, _VECT_8, _TIME_LOW, _CONTINUED_4 = 0, 1, 2, 3, 4, 5, 6, 7
_OFF, _ON, _IMU = 0x0, 0x1, 0xD
_TIME_HIGH, _TRIGGER, _OTHERS, _CONTINUED = 0x8, 0xA, 0xE, 0xF
_IN_CD_COUNT, _OUT_CD_COUNT = 0x14, 0x16
# Rare words of unknown type may come with a newer sensor; this many of them this close together are damage.
_CLUSTER_WORDS, _CLUSTER_UNKNOWN = 64, 4
_MOST_BITS = 48


def new_state() -> Ints:
    """Make the state of a stream that has not begun: int64 [SIZE]."""
    state = np.zeros(SIZE, np.int64)
    state[[NEWEST, LIMIT, HIGH, ROW, BASE, SUSPECT]] = NONE
    return state


@compiled
def decode_evt3(
    words: NDArray[np.uint16], start: int, state: Ints, packet_us: int, columns: Columns, cuts: Ints, triggers: Ints
) -> int:
    """Decode words until their end, until an output is full, or until state[DAMAGED].

    Events before the first time, row or vector base are left out: what they refer to was sent before the recording.

    Args:
        words: uint16 [N].
        start: the word to begin at.
        state: int64 [SIZE], changed; EVENTS, CUTS and TRIGGERS are 0 at the call.
        packet_us: cuts fall where the time passes a multiple of this, or of five of it where events are few.
        columns: filled from 0 to state[EVENTS].
        cuts: int64 [C, 2], filled to state[CUTS]: events before the cut, and the watermark there, microseconds.
        triggers: int64 [K, 4], filled to state[TRIGGERS]: time, channel, rising, cuts before it.

    Returns:
        The word to go on from.
    """
    t_us, xs, ys, ps = columns
    most_events, most_cuts, most_triggers = t_us.size - VECTOR, cuts.shape[0], triggers.shape[0]
    n, row, base, sign = state[EVENTS], state[ROW], state[BASE], state[SIGN]
    high, low, turns, time_us, limit_us = state[HIGH], state[LOW], state[TURNS], state[NEWEST], state[LIMIT]
    known = time_us >= 0
    k = start
    while k < words.size and n <= most_events:
        word = np.int64(words[k])
        kind, value = word >> 12, word & 0xFFF
        if kind == _X:
            if known and row >= 0:
                t_us[n] = time_us
                xs[n] = value & 0x7FF
                ys[n] = row
                ps[n] = value >> 11
                n += 1
        elif kind in (_VECT_12, _VECT_8):
            if base >= 0:
                mask = value if kind == _VECT_12 else value & 0xFF
                if known and row >= 0:
                    while mask:
                        t_us[n] = time_us
                        xs[n] = base + lowest_one(mask)
                        ys[n] = row
                        ps[n] = sign
                        n += 1
                        mask &= mask - 1
                # Bounded, so that endless vectors of a damaged file do not come round to the sensor's first column.
                base = min(base + (12 if kind == _VECT_12 else 8), 0xFFF)
        elif kind == _Y:
            row = value & 0x7FF
        elif kind == _BASE_X:
            base = value & 0x7FF
            sign = value >> 11
        elif kind in (_TIME_LOW, _TIME_HIGH):
            if kind == _TIME_LOW:
                low = value
            elif value != high:
                low = 0  # the old low part belongs to the old high part, the new one follows
                turns += high - value >= 1 << 11
                high = value
            now_us = (turns << 24) | (high << 12) | low
            if time_us <= now_us < limit_us:
                time_us = now_us
            elif high >= 0:
                if state[CUTS] >= most_cuts:
                    break
                state[EVENTS], state[NEWEST], state[LIMIT] = n, time_us, limit_us
                time_us = at_time(state, now_us, packet_us, cuts)
                limit_us = state[LIMIT]
                known = True
        elif kind == _TRIGGER:
            if state[TRIGGERS] >= most_triggers:
                break
            if known:
                take_trigger(state, triggers, time_us, value >> 8, value & 1)
        elif kind == _OTHERS:
            begin_count(state, value)
        elif kind == _CONTINUED:
            continue_count(state, value, 12)
        elif kind == _CONTINUED_4:
            continue_count(state, value & 0xF, 4)
            end_count(state)
        else:
            if kind == _OTHER_Y:
                row = NONE  # the row of another kind of event: those that follow are no changes of light
            state[EVENTS] = n
            if is_damage(state, state[WORDS] + k):
                break
        k += 1
    state[EVENTS], state[ROW], state[BASE], state[SIGN] = n, row, base, sign
    state[HIGH], state[LOW], state[TURNS], state[NEWEST], state[LIMIT] = high, low, turns, time_us, limit_us
    return k


@compiled
def decode_evt2(
    halves: NDArray[np.uint32],
    start: int,
    state: Ints,
    packet_us: int,
    columns: Columns,
    cuts: Ints,
    triggers: Ints,
    *,
    step: int,
    head_at: int,
) -> int:
    """Decode words until their end, a full output or state[DAMAGED]; as `decode_evt3`.

    Args:
        halves: uint32 [N * step].
        start, state, packet_us, columns, cuts, triggers: as there.
        step: 32-bit halves in a word: 1 is EVT 2.0, 2 is EVT 2.1.
        head_at: which half has the type; the other one is the vector.
    """
    t_us, xs, ys, ps = columns
    most_events, most_cuts, most_triggers = t_us.size - VECTOR, cuts.shape[0], triggers.shape[0]
    n, high, turns, time_us, limit_us = state[EVENTS], state[HIGH], state[TURNS], state[NEWEST], state[LIMIT]
    words = halves.size // step
    k = start
    while k < words and n <= most_events:
        head = np.int64(halves[k * step + head_at])
        kind = head >> 28
        if kind in (_OFF, _ON, _TRIGGER):
            if high >= 0:
                now_us = (turns << 34) | (high << 6) | ((head >> 22) & 0x3F)
                if kind == _TRIGGER and state[TRIGGERS] >= most_triggers:
                    break
                if now_us < time_us or now_us >= limit_us:
                    if state[CUTS] >= most_cuts:
                        break
                    state[EVENTS], state[NEWEST] = n, time_us
                    now_us = at_time(state, now_us, packet_us, cuts)
                    limit_us = state[LIMIT]
                time_us = now_us
                if kind == _TRIGGER:
                    take_trigger(state, triggers, time_us, (head >> 8) & 0x1F, head & 1)
                elif step == 1:
                    t_us[n], xs[n], ys[n], ps[n] = time_us, (head >> 11) & 0x7FF, head & 0x7FF, kind
                    n += 1
                else:
                    x, y, mask = (head >> 11) & 0x7FF, head & 0x7FF, np.int64(halves[k * step + 1 - head_at])
                    while mask:
                        t_us[n], xs[n], ys[n], ps[n] = time_us, x + lowest_one(mask), y, kind
                        n += 1
                        mask &= mask - 1
        elif kind == _TIME_HIGH:
            value = head & 0xFFFFFFF
            now_us = ((turns + (high - value >= 1 << 27)) << 34) | (value << 6)
            if 0 <= time_us < now_us:  # where nothing happens, the time goes on all the same
                if now_us >= limit_us:
                    if state[CUTS] >= most_cuts:
                        break
                    state[EVENTS], state[NEWEST] = n, time_us
                    now_us = at_time(state, now_us, packet_us, cuts)
                    limit_us = state[LIMIT]
                time_us = now_us
            turns += high - value >= 1 << 27
            high = value
        elif kind == _OTHERS and step == 2:
            begin_count(state, head & 0xFFFF)
            continue_count(state, np.int64(halves[k * step + 1 - head_at]), 32)
            end_count(state)
        elif kind != _OTHERS and kind != _CONTINUED and kind != _IMU:
            state[EVENTS] = n
            if is_damage(state, state[WORDS] + k):
                break
        k += 1
    state[EVENTS], state[HIGH], state[TURNS], state[NEWEST], state[LIMIT] = n, high, turns, time_us, limit_us
    return k


@compiled
def decode_dat(
    halves: NDArray[np.uint32],
    start: int,
    state: Ints,
    packet_us: int,
    columns: Columns,
    cuts: Ints,
    triggers: Ints,
    *,
    kind: int,
) -> int:
    """Decode records until their end or until an output is full; as `decode_evt3`.

    Args:
        halves: uint32 [2 * N], time and data in turns.
        start: the record to begin at.
        state, packet_us, columns, cuts, triggers: as there.
        kind: EVENTS_1, EVENTS_2 or EDGES.
    """
    t_us, xs, ys, ps = columns
    most_events, most_cuts, most_triggers = t_us.size - VECTOR, cuts.shape[0], triggers.shape[0]
    n, high, turns, time_us, limit_us = state[EVENTS], state[HIGH], state[TURNS], state[NEWEST], state[LIMIT]
    k = start
    while k < halves.size // 2 and n <= most_events:
        value, data = np.int64(halves[2 * k]), np.int64(halves[2 * k + 1])
        now_us = ((turns + (high - value >= 1 << 31)) << 32) | value
        if kind == EDGES and state[TRIGGERS] >= most_triggers:
            break
        if now_us < time_us or now_us >= limit_us:
            if state[CUTS] >= most_cuts:
                break
            state[EVENTS], state[NEWEST] = n, time_us
            now_us = at_time(state, now_us, packet_us, cuts)
            limit_us = state[LIMIT]
        time_us = now_us
        turns += high - value >= 1 << 31
        high = value
        if kind == EDGES:
            take_trigger(state, triggers, time_us, data >> 26, data & 1)
        else:
            if kind == EVENTS_1:
                xs[n], ys[n], ps[n] = data & 0x1FF, (data >> 9) & 0xFF, (data >> 17) & 1
            else:
                xs[n], ys[n], ps[n] = data & 0x3FFF, (data >> 14) & 0x3FFF, (data >> 28) & 1
            t_us[n] = time_us
            n += 1
        k += 1
    state[EVENTS], state[HIGH], state[TURNS], state[NEWEST], state[LIMIT] = n, high, turns, time_us, limit_us
    return k


@compiled
def at_time(state: Ints, time_us: Int, packet_us: Int, cuts: Ints) -> Int:
    """Take a time that is older than the newest, or beyond the packet: hold it, or cut.

    Args:
        state: int64 [SIZE], changed; EVENTS, NEWEST must be up to date, CUTS below the size of `cuts`.
        time_us: as the device says.
        packet_us: cuts lie at multiples of this, or of five of it where events are few.
        cuts: int64 [C, 2], filled: events before the cut, watermark.

    Returns:
        The time to use, microseconds.
    """
    newest_us = state[NEWEST]
    if time_us < newest_us and newest_us - time_us <= CLAMP_US:
        state[CLAMPED] += 1
        return newest_us
    # Where the clock began again, what follows is no longer bound by the promise: the cleaning sees it go back.
    enough = state[EVENTS] - state[CUT_AT] >= _FEW or time_us < newest_us
    if newest_us >= 0 and (enough or time_us // (_PATIENCE * packet_us) != newest_us // (_PATIENCE * packet_us)):
        row = state[CUTS]
        cuts[row, 0] = state[EVENTS]
        cuts[row, 1] = max(time_us, newest_us)
        state[CUTS] = row + 1
        state[CUT_AT] = state[EVENTS]
    state[LIMIT] = (time_us // packet_us + 1) * packet_us
    state[NEWEST] = time_us
    return time_us


@compiled
def lowest_one(mask: Int) -> Int:
    """Find the lowest bit that is set in a number > 0."""
    return trailing_zeros(mask)  # type: ignore[call-arg]  # one instruction; its first argument is the compiler's


@compiled
def take_trigger(state: Ints, triggers: Ints, time_us: Int, channel: Int, rising: Int) -> None:
    """Write an edge: int64 [K, 4] of time, channel, rising, cuts before it."""
    row = state[TRIGGERS]
    triggers[row, 0] = time_us
    triggers[row, 1] = channel
    triggers[row, 2] = rising
    triggers[row, 3] = state[CUTS]
    state[TRIGGERS] = row + 1


@compiled
def is_damage(state: Ints, word: Int) -> bool:
    """Count a word of no known type; True where too many lie together for rare ones that may be skipped.

    Args:
        state: int64 [SIZE], changed; EVENTS must be up to date.
        word: its place in the stream.
    """
    state[UNKNOWN] += 1
    if state[SUSPECT] < 0 or word - state[SUSPECT] >= _CLUSTER_WORDS:
        state[SUSPECT] = word
        state[STRANGE] = 0
        state[KEPT_EVENTS], state[KEPT_CUTS], state[KEPT_TRIGGERS] = state[EVENTS], state[CUTS], state[TRIGGERS]
    state[STRANGE] += 1
    if state[STRANGE] >= _CLUSTER_UNKNOWN:
        state[DAMAGED] = 1
    return bool(state[DAMAGED] != 0)


@compiled
def begin_count(state: Ints, subtype: Int) -> None:
    """Begin to read a counter of the sensor, if it is one of the two that are kept."""
    state[COUNTING] = subtype if subtype in (_IN_CD_COUNT, _OUT_CD_COUNT) else 0
    state[PENDING] = 0
    state[SHIFT] = 0


@compiled
def continue_count(state: Ints, value: Int, bits: Int) -> None:
    """Take the next bits of a counter, lowest first."""
    if state[SHIFT] < _MOST_BITS:
        state[PENDING] |= value << state[SHIFT]
        state[SHIFT] += bits


@compiled
def end_count(state: Ints) -> None:
    """Add the counter that was read to its total."""
    if state[COUNTING] == _IN_CD_COUNT:
        state[COUNT_IN] += state[PENDING]
    elif state[COUNTING] == _OUT_CD_COUNT:
        state[COUNT_OUT] += state[PENDING]
    state[COUNTING] = 0
