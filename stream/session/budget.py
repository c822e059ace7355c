"""What gives way under load: how many windows may wait or be answered at once, how many queries one can afford."""

from __future__ import annotations

import math
from collections.abc import Callable

from nire.types import ContentWindow
from stream.windows.cut import Cut

_SMOOTHING = 0.2
# Complete windows that may wait: two, so that a slow one does not cost the next; where all are slow, the newest only,
# because it would wait for the older one, and be old itself by then.
_PATIENCE, _OVERLOADED_PATIENCE = 2, 1
# Fewer queries than this measure the overhead of a window, not the cost of a query.
_FEWEST = 4
# Where a build leaves too little of one window's time, one of several windows takes the time of all. But several make
# gaps in what is shown: not more of them than needed for this part of the images that would be the most.
_ENOUGH, _MOST_WINDOWS = 0.5, 1000
# Of the time from one window to the next, what windows may take that catch up.
_KEPT_UP = 0.95
# A window that alone takes so many times that time is one of few that are answered at all: it is to be fresh, and alone
# it is done sooner than beside another one.
_FAR_BEHIND = 4.0
# A window that takes no more of that time is done before another one comes: no thread makes it earlier.
_QUICK = 0.5
# At the live edge a window answers what has passed since the one before it. It may take this part of that time, so that
# the next one is shorter; and this many times its build, for queries to be worth one.
_SHRINKING, _BUILDS = 0.7, 2.0


class Budget:
    """Costs measured window by window, publication included; forgets old ones, so load that goes is noticed."""

    def __init__(self, share: Callable[[], float] = lambda: 1.0, most_at_once: Callable[[], int] = lambda: 1) -> None:
        """Know nothing: the first window is answered in full.

        Args:
            share: tells what part of the time there is for these windows, in (0, 1]; others take the rest.
            most_at_once: tells how many windows can be answered beside one another.
        """
        self._share, self._most_at_once = share, most_at_once
        self._build_ns = 0.0
        self._query_ns = 0.0
        self._window_ns = 0.0
        self._alone_ns = 0.0
        self._newest_ns = (0.0, 0.0)
        self._period_ns = math.inf

    @property
    def is_known(self) -> bool:
        """A window was measured."""
        return self._window_ns > 0

    @property
    def at_once(self) -> int:
        """How many windows are answered beside one another.

        One, where images take longer than what they are made from: images can be fewer, and leave one by one; those of
        several windows would wait for one another. One as well where few windows are answered at all.
        """
        is_far_behind = self._alone_ns > _FAR_BEHIND * self._share() * self._period_ns
        return 1 if is_far_behind or self._window_ns > 2 * self._build_ns else self._most_at_once()

    def there_ns(self, *, period_ns: float) -> float:
        """Tell how long a window may take, where they come so often."""
        return self._share() * self.at_once * period_ns

    def needs_ns(self, wanted: int) -> float:
        """Tell what a window with so many queries takes."""
        return self._build_ns + wanted * self._query_ns

    def newest_ns(self, wanted: int) -> float:
        """Tell what a window with so many queries takes by the newest one alone."""
        build_ns, query_ns = self._newest_ns
        return build_ns + wanted * query_ns

    def spent(self, *, build_ns: float, expose_ns: float, queries: int, beside: int = 1) -> None:
        """Learn what a window cost.

        Args:
            build_ns, expose_ns: time that passed.
            queries: how many were answered.
            beside: how many windows shared the cores meanwhile, itself included.
        """
        self._newest_ns = (build_ns, expose_ns / max(queries, _FEWEST))
        self._build_ns = _follow(self._build_ns, build_ns)
        self._query_ns = _follow(self._query_ns, expose_ns / max(queries, _FEWEST))
        self._window_ns = _follow(self._window_ns, build_ns + expose_ns)
        self._alone_ns = _follow(self._alone_ns, (build_ns + expose_ns) / beside)

    def keeps_up(self, *, period_ns: float) -> bool:
        """Tell whether windows that come so often leave time to catch up, as far as is known.

        One that just takes the time it has never does: what came late once would stay late.
        """
        return self._window_ns <= _KEPT_UP * period_ns

    def is_quick(self, wanted: int, *, period_ns: float) -> bool:
        """Tell whether a window with so many queries takes little of the time until the next one, as far as is known.

        Args:
            wanted: how many.
            period_ns: from one window to the next.
        """
        return self.is_known and self.needs_ns(wanted) <= _QUICK * period_ns

    def patience(self, newest: ContentWindow, cut: Cut) -> int:
        """Number of complete windows that may wait, the newest one included."""
        self._period_ns = period_ns(newest, cut)
        there_ns = self.there_ns(period_ns=self._period_ns)
        return _PATIENCE if self.keeps_up(period_ns=there_ns) else _OVERLOADED_PATIENCE

    def chosen(self, wanted: int, window: ContentWindow, cut: Cut, *, time_budget_ms: float) -> list[int]:
        """Choose which of a window's queries are answered, by their places; those left out are holes in the index.

        Args:
            wanted: how many there are, in the order of time.
            window: that they are asked of.
            cut: how it was cut.
            time_budget_ms: that it may take; 0 = its share of the time until the next one comes.
        """
        if time_budget_ms > 0:
            keep = self.keep(wanted, budget_ns=time_budget_ms * 1e6)
        elif cut.policy == "live_edge":
            span_ns = 1e3 * (window.answers_us[1] - window.answers_us[0])
            keep = self.keep(wanted, budget_ns=self.at_edge_ns(span_ns=self._share() * span_ns))
        else:
            keep = self._kept_of_several(wanted, period_ns=self.there_ns(period_ns=_distance_ns(window)))
        # The middle of each share: the first instants of a window lie beside a captured frame and need us least.
        return [int((k + 0.5) * wanted / keep) for k in range(keep)]

    def at_edge_ns(self, *, span_ns: float) -> float:
        """Tell how long a window of the live edge may take that answers so much time."""
        return max(_SHRINKING * span_ns, _BUILDS * self._build_ns)

    def keep(self, wanted: int, *, budget_ns: float) -> int:
        """Number of queries, at least 1 and at most `wanted`, that fit the budget beside a build."""
        if self._query_ns == 0 or self.needs_ns(wanted) <= budget_ns:
            return wanted
        return max(1, min(wanted, int((budget_ns - self._build_ns) / self._query_ns)))

    def _kept_of_several(self, wanted: int, *, period_ns: float) -> int:
        """Number of queries that one of as many windows is worth answering as give enough of them in the same time."""
        needs_ns = self.needs_ns(wanted)
        if needs_ns <= period_ns:
            return wanted
        period_ns = max(period_ns, needs_ns / _MOST_WINDOWS)
        rates: dict[int, float] = {}
        for windows in range(1, math.ceil(needs_ns / period_ns) + 1):
            kept = self.keep(wanted, budget_ns=windows * period_ns)
            # A window that is not done in its time takes that of the next ones too.
            rates.setdefault(kept, kept / max(windows, math.ceil(self.needs_ns(kept) / period_ns)))
        enough = _ENOUGH * max(rates.values())
        return next(kept for kept, rate in rates.items() if rate >= enough)


def _follow(old: float, new: float) -> float:
    return new if old == 0 else (1 - _SMOOTHING) * old + _SMOOTHING * new


def period_ns(window: ContentWindow, cut: Cut) -> float:
    """Find how long it takes until the next window of the same cut comes, ns; infinity where nothing tells."""
    return 1e3 * cut.step_us if cut.policy == "live_edge" else _distance_ns(window)


def _distance_ns(window: ContentWindow) -> float:
    """Find how long it takes until the next window comes, ns; infinity where its frames do not tell."""
    if len(window.frames) == 2:
        return (window.frames[1].mid_us - window.frames[0].mid_us) * 1e3
    if not window.frames:
        return (window.answers_us[1] - window.answers_us[0]) * 1e3
    return float("inf")
