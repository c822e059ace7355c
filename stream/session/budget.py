"""How many queries a window can afford: a running estimate of what a build and a query cost."""

from __future__ import annotations

_SMOOTHING = 0.2
# Fewer queries than this measure the overhead of a window, not the cost of a query.
_FEWEST = 4
# Of the time from one window to the next, what windows may take that catch up.
_KEPT_UP = 0.95
# At the live edge a window answers what has passed since the one before it. It may take this part of that time, so that
# the next one is shorter; and this many times its build, for queries to be worth one.
_SHRINKING, _BUILDS = 0.7, 2.0


class Budget:
    """Costs measured window by window, publication included; forgets old ones, so load that goes is noticed."""

    def __init__(self) -> None:
        """Know nothing: the first window is answered in full."""
        self._build_ns = 0.0
        self._query_ns = 0.0
        self._window_ns = 0.0

    def spent(self, *, build_ns: float, expose_ns: float, queries: int) -> None:
        """Learn what a window cost."""
        self._build_ns = _follow(self._build_ns, build_ns)
        self._query_ns = _follow(self._query_ns, expose_ns / max(queries, _FEWEST))
        self._window_ns = _follow(self._window_ns, build_ns + expose_ns)

    def keeps_up(self, *, period_ns: float) -> bool:
        """Tell whether windows that come so often leave time to catch up, as far as is known.

        One that just takes the time it has never does: what came late once would stay late.
        """
        return self._window_ns <= _KEPT_UP * period_ns

    def at_edge_ns(self, *, span_ns: float) -> float:
        """Tell how long a window of the live edge may take that answers so much time."""
        return max(_SHRINKING * span_ns, _BUILDS * self._build_ns)

    def keep(self, wanted: int, *, budget_ns: float) -> int:
        """Number of queries, at least 1 and at most `wanted`, that fit the budget beside a build."""
        if self._query_ns == 0 or self._build_ns + wanted * self._query_ns <= budget_ns:
            return wanted
        return max(1, min(wanted, int((budget_ns - self._build_ns) / self._query_ns)))


def _follow(old: float, new: float) -> float:
    return new if old == 0 else (1 - _SMOOTHING) * old + _SMOOTHING * new
