"""Ramps towards events: light between two events of a pixel is on its way to the second.

A sensor tells of a change when it is complete. So the change that an event tells of is spread evenly over a ramp that
ends with it. It begins at the event before it in its pixel, at most `RAMP_SHARE` of the window earlier, at most half as
long before as the event after it comes later, and not before the end of missing events.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from nire.types import EventBatch, Gap

RAMP_SHARE = 1 / 8
"""Longest ramp, as share of the window: from further away an event tells little."""


def ramp_lengths(events: EventBatch, width: int, reach_us: float, gaps: Sequence[Gap] = ()) -> NDArray[np.float64]:
    """Find how long the ramp towards each event is, us.

    Args:
        events: in the order of time.
        width: of the sensor, pixels.
        reach_us: longest ramp.
        gaps: spans whose events are missing.

    Returns:
        float64 [N], 0..`reach_us`.
    """
    t_us = events.t_us.astype(np.float64)
    lengths = np.full(len(t_us), reach_us)
    cells = events.y.astype(np.int64) * width + events.x
    order = np.argsort(cells, kind="stable")
    is_next = np.diff(cells[order]) == 0
    earlier, later = order[:-1][is_next], order[1:][is_next]
    between_us = t_us[later] - t_us[earlier]
    lengths[later] = np.minimum(lengths[later], between_us)
    ends_us = np.sort(np.array([gap.t1_us for gap in gaps], np.float64))
    hole = np.searchsorted(ends_us, t_us, side="right")
    if len(ends_us):
        since_us = t_us - ends_us[hole - 1]
        lengths = np.where(hole > 0, np.minimum(lengths, since_us), lengths)
    # The next event of a pixel tells how fast it goes on, unless events are missing in between.
    goes_on = hole[earlier] == hole[later]
    slower = earlier[goes_on]
    lengths[slower] = np.minimum(lengths[slower], between_us[goes_on] / 2)
    return lengths
