"""Prophesee's event encodings, from bytes to packets: EVT 2.0, 2.1, 3.0 and the records of DAT files.

Nothing here knows of files or devices: whoever has the bytes feeds them, in pieces of any size. Importing this file
imports the compiler, which takes half a second: only who decodes should wait for it.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Literal

import numpy as np

from drivers.prophesee import evt_loops
from drivers.prophesee.evt_loops import (
    COUNT_IN,
    COUNT_OUT,
    CUT_AT,
    CUTS,
    DAMAGED,
    EVENTS,
    KEPT_CUTS,
    KEPT_EVENTS,
    KEPT_TRIGGERS,
    NEWEST,
    SUSPECT,
    TRIGGERS,
    UNKNOWN,
    VECTOR,
    WORDS,
    Columns,
    Ints,
    new_state,
)
from nire.errors import RecordingDamaged
from nire.types import EventBatch, Trigger

Encoding = Literal["EVT2", "EVT21", "EVT21 legacy", "EVT3", "DAT1", "DAT2", "DAT triggers"]
"""`EVT21 legacy` has the upper half of each word first, as IMX636 sends it; `EVT21` the lower one, as GenX320 does."""
PACKET_US = 2000
"""Batches end where the time passes a multiple of this, the period in which the stream carries them, or of five of it
where events are few."""

_OF_ONE_CALL = (EVENTS, CUTS, TRIGGERS, KEPT_EVENTS, KEPT_CUTS, KEPT_TRIGGERS, CUT_AT)
_MOST_EVENTS, _MOST_CUTS, _MOST_TRIGGERS = 1 << 17, 4096, 1024
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Form:
    """How an encoding is cut into words, and the compiled loop over them."""

    dtype: str
    word_bytes: int
    loop: Callable[..., int]


class EvtDecoder:
    """Decodes one stream. Bytes of a word that is not complete wait for the next call.

    Times are unwrapped. A step back by at most 1 ms is held at the newest time; a larger one ends a batch and the next
    begins earlier, because the device's clock began again. Events before the first time stamp are left out.
    """

    def __init__(self, encoding: Encoding, *, name: str, first_byte: int = 0) -> None:
        """Prepare. The loops are compiled at their first call on a machine, which takes some 2 s, and loaded later.

        Args:
            encoding: of the bytes.
            name: of the stream, for errors.
            first_byte: position of the first byte that will be fed, for errors.
        """
        self._form = _form(encoding)
        self._name = name
        self._first_byte = first_byte
        self._state = new_state()
        self._cuts = np.empty((_MOST_CUTS, 2), np.int64)
        self._triggers = np.empty((_MOST_TRIGGERS, 4), np.int64)
        self._rest = b""

    def feed(self, data: bytes) -> Iterator[EventBatch | Trigger]:
        """Decode bytes and give all that they hold; edges come after the events of their batch.

        Args:
            data: any number of bytes; a word may lie across two calls.

        Raises:
            RecordingDamaged: words of no known type lie together; all before them was given.
        """
        form, state = self._form, self._state
        data = self._rest + data if self._rest else data
        whole = len(data) // form.word_bytes * form.word_bytes
        self._rest = data[whole:]
        units = np.frombuffer(data, form.dtype, whole // np.dtype(form.dtype).itemsize)
        words = whole // form.word_bytes
        done = 0
        while done < words:
            room = min(_MOST_EVENTS, VECTOR * (words - done)) + VECTOR
            columns = (
                np.empty(room, np.int64),
                np.empty(room, np.uint16),
                np.empty(room, np.uint16),
                np.empty(room, np.uint8),
            )
            state[list(_OF_ONE_CALL)] = 0
            done = form.loop(units, done, state, PACKET_US, columns, self._cuts, self._triggers)
            yield from self._packets(columns)
            if state[DAMAGED]:
                raise self._damage()
        state[WORDS] += words

    def finish(self) -> None:
        """Say that no more bytes come.

        Raises:
            RecordingDamaged: the last word is not complete.
        """
        state = self._state
        if state[UNKNOWN]:
            _log.warning("%s: %d words of no known type were skipped", self._name, state[UNKNOWN])
        lost = int(state[COUNT_IN] - state[COUNT_OUT])
        if state[COUNT_OUT] and lost > 0:
            share = 100 * lost / int(state[COUNT_IN])
            _log.warning("%s: the sensor's rate controller left out %d events (%.1f %%)", self._name, lost, share)
        if self._rest:
            position = self._position(int(state[WORDS]))
            raise RecordingDamaged(
                f"{self._name} ends after {len(self._rest)} of the {self._form.word_bytes} bytes of a word at byte "
                f"{position}: it was cut off; all before was delivered",
                position,
            )

    def _packets(self, columns: Columns) -> Iterator[EventBatch | Trigger]:
        state = self._state
        damaged = bool(state[DAMAGED])
        places = (KEPT_EVENTS, KEPT_CUTS, KEPT_TRIGGERS) if damaged else (EVENTS, CUTS, TRIGGERS)
        count, cuts, edges = (int(state[place]) for place in places)
        t_us, x, y, p = columns
        rows = self._triggers[:edges]
        triggers = _triggers(rows)
        ends = np.searchsorted(rows[:, 3], np.arange(cuts), "right").tolist()  # edges up to each cut
        start = at = 0
        for (stop, watermark_us), end in zip(self._cuts[:cuts].tolist(), ends, strict=True):
            yield EventBatch(t_us[start:stop], x[start:stop], y[start:stop], p[start:stop], watermark_us)
            yield from triggers[at:end]
            start, at = stop, end
        if count > start or edges > at:
            # Within damage the state has run on: what was kept says how far the stream came.
            known = [int(t_us[count - 1])] if count else []
            newest_us = max(known + [edge.t_us for edge in triggers[-1:]]) if damaged else int(state[NEWEST])
            yield EventBatch(t_us[start:count], x[start:count], y[start:count], p[start:count], newest_us)
        yield from triggers[at:]

    def _damage(self) -> RecordingDamaged:
        position = self._position(int(self._state[SUSPECT]))
        return RecordingDamaged(
            f"{self._name} is damaged from byte {position}: several words there are of no type that the encoding has; "
            "all before was delivered",
            position,
        )

    def _position(self, word: int) -> int:
        return self._first_byte + word * self._form.word_bytes


def _triggers(rows: Ints) -> list[Trigger]:
    """Make edges of int64 [K, 4], field by field: one by one, a frozen dataclass takes twice as long."""
    made = [object.__new__(Trigger) for _ in range(len(rows))]
    columns = {"t_us": rows[:, 0], "channel": rows[:, 1], "rising": rows[:, 2] != 0}
    for name, column in columns.items():
        deque(map(getattr(Trigger, name).__set__, made, column.tolist()), maxlen=0)
    return made


def _form(encoding: Encoding) -> _Form:
    forms = {
        "EVT2": _Form("<u4", 4, partial(evt_loops.decode_evt2, step=1, head_at=0)),
        "EVT21": _Form("<u4", 8, partial(evt_loops.decode_evt2, step=2, head_at=1)),
        "EVT21 legacy": _Form("<u4", 8, partial(evt_loops.decode_evt2, step=2, head_at=0)),
        "EVT3": _Form("<u2", 2, evt_loops.decode_evt3),
        "DAT1": _Form("<u4", 8, partial(evt_loops.decode_dat, kind=evt_loops.EVENTS_1)),
        "DAT2": _Form("<u4", 8, partial(evt_loops.decode_dat, kind=evt_loops.EVENTS_2)),
        "DAT triggers": _Form("<u4", 8, partial(evt_loops.decode_dat, kind=evt_loops.EDGES)),
    }
    return forms[encoding]
