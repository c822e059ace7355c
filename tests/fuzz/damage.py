"""Damage to bytes: what disks, cables and cut transfers do to files and messages, drawn by hypothesis."""

from __future__ import annotations

import os
import struct

from hypothesis import strategies as st

EXAMPLES = int(os.environ.get("NIRE_FUZZ_EXAMPLES", "40"))
"""Examples for each parser; a long hunt sets the variable to thousands."""

# Sizes, counts and offsets are little-endian numbers of 2, 4 and 8 bytes: those at the borders do the most harm.
_NUMBERS = [
    struct.pack(kind, value)
    for kind, values in {
        "<H": (0, 1, 0x7FFF, 0x8000, 0xFFFF),
        "<I": (0, 1, 8, 0xFFFF, 0x10000, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 0xFFFFFFF8),
        "<Q": (0, 0x7FFFFFFFFFFFFFFF, 0x8000000000000000, 0xFFFFFFFFFFFFFFFF, 1 << 40),
    }.items()
    for value in values
]


@st.composite
def damaged(draw: st.DrawFn, whole: bytes) -> bytes:
    """The bytes with one to four damages: overwritten, cut out, put in, moved, or ended early."""
    data = bytearray(whole)
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, max(0, len(data) - 1)))
        kind = draw(st.sampled_from(("number", "number", "bytes", "flip", "cut", "insert", "repeat", "end")))
        if kind in ("number", "bytes"):
            new = draw(st.sampled_from(_NUMBERS)) if kind == "number" else draw(st.binary(min_size=1, max_size=24))
            data[at : at + len(new)] = new
        elif kind == "flip" and data:
            data[at] ^= 1 << draw(st.integers(0, 7))
        elif kind == "cut":
            del data[at : at + draw(st.integers(1, 40))]
        elif kind == "insert":
            data[at:at] = draw(st.binary(max_size=24))
        elif kind == "repeat":
            data[at:at] = data[at : at + draw(st.integers(1, 200))]
        elif kind == "end":
            del data[at:]
    return bytes(data)
