"""Words of shared memory that processes see in one order, on processors that reorder loads and stores (ARM) as well.

Python has no such words. These compile to the processor's own: an acquiring load, a releasing store and a fence; on
x86-64 the first two are plain moves. Addresses are those of 8 aligned bytes.
"""

from __future__ import annotations

from typing import Any

from numba import types
from numba.extending import intrinsic

from nire.compiled import compiled


# What numba asks for of an operation: its types, and a function that makes its code.
def _loading(_typing: Any, _address: Any) -> Any:
    def generate(context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        return builder.load_atomic(_pointer(context, builder, arguments[0]), "acquire", 8)

    return types.int64(types.int64), generate


def _storing(_typing: Any, _address: Any, _value: Any) -> Any:
    def generate(context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        builder.store_atomic(arguments[1], _pointer(context, builder, arguments[0]), "release", 8)
        return context.get_dummy_value()

    return types.void(types.int64, types.int64), generate


def _fencing(_typing: Any) -> Any:
    def generate(context: Any, builder: Any, _signature: Any, _arguments: Any) -> Any:
        builder.fence("seq_cst")
        return context.get_dummy_value()

    return types.void(), generate


def _pointer(context: Any, builder: Any, address: Any) -> Any:
    return builder.inttoptr(address, context.get_value_type(types.int64).as_pointer())


_load: Any = intrinsic(_loading)
_store: Any = intrinsic(_storing)
_fence: Any = intrinsic(_fencing)


@compiled
def load(address: int) -> int:
    """Read a word; what is read after it is not older."""
    word: int = _load(address)
    return word


@compiled
def store(address: int, value: int) -> None:
    """Write a word; whoever reads it sees all that was written before."""
    _store(address, value)


@compiled
def fence() -> None:
    """Keep what comes before in memory before what comes after, reads and writes."""
    _fence()
