"""What part of the time each of several sessions on one device may take: at least its own, and what others leave."""

from __future__ import annotations

from collections.abc import Iterable

# What was spent is looked at over so long: several windows of a camera, and soon enough when one asks for less.
_PERIOD_NS = 1_000_000_000


class Shares:
    """Measures how much of the time each session takes, and divides it.

    What one leaves is there for the others; it has its own part back within a second once it needs it.
    """

    def __init__(self, names: Iterable[str], now_ns: int) -> None:
        """Begin with nothing spent.

        Args:
            names: of the sessions; one that is alone has all the time.
            now_ns: host monotonic time.
        """
        self._spent_ns = dict.fromkeys(names, 0)
        self._loads = dict.fromkeys(self._spent_ns, 0.0)
        self._since_ns = now_ns

    def spent(self, name: str, taken_ns: int, now_ns: int) -> None:
        """Count what a session has taken, ns."""
        self._spent_ns[name] += taken_ns
        elapsed_ns = now_ns - self._since_ns
        if elapsed_ns >= _PERIOD_NS:
            self._loads = {each: ns / elapsed_ns for each, ns in self._spent_ns.items()}
            self._spent_ns = dict.fromkeys(self._spent_ns, 0)
            self._since_ns = now_ns

    def of(self, name: str) -> float:
        """The part of the time that a session may take, in (0, 1]: that of one among equals, or what is left over."""
        others = sum(load for each, load in self._loads.items() if each != name)
        return max(1 / len(self._loads), 1 - others)
