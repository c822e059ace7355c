"""Sleeping on a word of shared memory until another process changes it: Linux's futex.

The kernel compares the word as it puts the caller to sleep, so no wake-up is missed, and it forgets a sleeper that
dies. The low half of a word counts, which is where a little-endian processor has it.
"""

from __future__ import annotations

import ctypes
import math
import platform
import time

# The call's number; that of ARM is also that of RISC-V and others that came later.
_NUMBERS = {"x86_64": 202, "aarch64": 98, "riscv64": 98}
_NUMBER = _NUMBERS.get(platform.machine())
_WAIT, _WAKE = 0, 1
_ALL = 2**31 - 1
# Where the number is not known: how long a sleeper takes to see a change.
_LOOK_S = 0.001
_syscall = ctypes.CDLL(None, use_errno=True).syscall
_syscall.restype = ctypes.c_long


class _Timespec(ctypes.Structure):
    _fields_ = (("seconds", ctypes.c_long), ("nanoseconds", ctypes.c_long))


def wait(address: int, value: int, seconds: float) -> None:
    """Sleep until the word is woken, at most for some time; not at all where it is no longer what it was.

    A signal ends it too: whoever waits looks again.

    Args:
        address: of the word; its memory is shared.
        value: that it had.
        seconds: at most.
    """
    if _NUMBER is None:
        time.sleep(min(seconds, _LOOK_S))
        return
    part, whole = math.modf(max(0.0, seconds))
    limit = _Timespec(int(whole), int(part * 1e9))
    _syscall(
        ctypes.c_long(_NUMBER),
        ctypes.c_void_p(address),
        ctypes.c_int(_WAIT),
        ctypes.c_uint32(value & 0xFFFF_FFFF),
        ctypes.byref(limit),
        None,
        ctypes.c_int(0),
    )


def wake(address: int) -> None:
    """Wake all that sleep on a word."""
    if _NUMBER is not None:
        _syscall(
            ctypes.c_long(_NUMBER), ctypes.c_void_p(address), ctypes.c_int(_WAKE), ctypes.c_int(_ALL), None, None, 0
        )
