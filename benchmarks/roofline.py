"""How near the network comes to what a machine can do at most: operations and bytes counted, ceilings measured.

No operation is done faster than the processor multiplies, and none faster than memory brings what it reads and takes
what it writes. The roofline is the larger of the two, summed over the operations as torch runs them: nothing is fused,
so an engine that keeps values in caches may beat it.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

_RUNS = 7
_SIDE = 2048
_COPIED_MB = 256


class Traffic(TorchDispatchMode):
    """Counts the bytes that operations read and write; views move none."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.bytes = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        if not func.is_view and "view" not in func.name():
            tensors = [leaf for leaf in tree_leaves((args, kwargs or {}, made)) if isinstance(leaf, Tensor)]
            self.bytes += sum(tensor.numel() * tensor.element_size() for tensor in tensors)
        return made


def counted(work: Callable[[], object]) -> tuple[float, float]:
    """Count what a work on the meta device would do: multiply-adds and bytes, both 1e9."""
    with FlopCounterMode(display=False) as arithmetic:
        work()
    with Traffic() as traffic:
        work()
    return arithmetic.get_total_flops() / 2e9, traffic.bytes / 1e9


def ceilings(device: torch.device, dtype: torch.dtype, side: int = _SIDE) -> tuple[float, float]:
    """Measure what this machine does at most: 1e9 multiply-adds a second (a large product) and 1e9 bytes (a copy).

    Args:
        device: where.
        dtype: of the product.
        side: of its square matrices; a GPU needs larger ones than a CPU to be busy.
    """
    a, b = (torch.rand(side, side, device=device).to(dtype) for _ in range(2))
    source = torch.rand(_COPIED_MB * 250_000, device=device)
    target = torch.empty_like(source)
    multiply_s, copy_s = (_shortest(work, device) for work in (lambda: a @ b, lambda: target.copy_(source)))
    return side**3 / multiply_s / 1e9, 2 * 4 * source.numel() / copy_s / 1e9


def _shortest(work: Callable[[], object], device: torch.device) -> float:
    durations = []
    for _ in range(_RUNS):
        start = time.perf_counter()
        work()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        durations.append(time.perf_counter() - start)
    return min(durations)
