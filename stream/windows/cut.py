"""How windows are cut: one frozen value, made once from plan, window section and source."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Cut:
    """What a `WindowAssembler` needs to know of the plan and of the configuration.

    Attributes:
        policy: a file under stream/windows/policies/.
        margin_us: answered before the first exposure, and after the last one at the end of the stream.
        reach_us: answered after the last exposure while the stream runs; waiting for it costs latency.
        step_us: live_edge: a window ends as soon as a point of the grid with this period can be answered.
        phase_us: live_edge: phase of that grid.
        span_us: span: the length of a window, at its multiples.
    """

    policy: str
    margin_us: int = 5000
    reach_us: int = 0
    step_us: float = 2500.0
    phase_us: float = 0.0
    span_us: int = 33_000
