"""Counts what a recording holds in one pass over it, in bounded memory."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, field

from nire.types import EventBatch, Frame, Gap, ImuBatch, SourcePacket, Transfer, Trigger
from stream.losses import Losses

_MOST = 1000  # different exposures, channels and reasons that are told apart


@dataclass(slots=True)
class TriggerCount:
    """Edges of one channel: how many each way, and the first and last rising one (device time, microseconds)."""

    rising: int = 0
    falling: int = 0
    first_rising_us: int = 0
    last_rising_us: int = 0

    def add(self, edge: Trigger) -> None:
        """Count an edge."""
        if not edge.rising:
            self.falling += 1
            return
        self.first_rising_us = edge.t_us if self.rising == 0 else self.first_rising_us
        self.last_rising_us = edge.t_us
        self.rising += 1

    @property
    def rate_hz(self) -> float:
        """Rising edges a second; 0 where there are fewer than two."""
        span_us = self.last_rising_us - self.first_rising_us
        return 1e6 * (self.rising - 1) / span_us if self.rising > 1 and span_us > 0 else 0.0


@dataclass(slots=True)
class Census:
    """Running totals.

    Attributes:
        events, brighter: how many, and how many of them with p = 1.
        first_us, last_us: device time that events and frames span.
        frames: how many.
        losses: what is missing between them.
        first_mid_us, last_mid_us: middle of the first and of the last frame.
        exposures_us: their different lengths.
        exposures_unknown: frames with one time stamp only.
        channels, transfers, row_delays_us: what the frames are.
        gaps, gaps_us, reasons: how many, their length together, and how often each reason was given.
        epochs: lives of the device clock.
        triggers: by channel.
        imu, first_imu_us, last_imu_us: samples, and their span.
    """

    events: int = 0
    brighter: int = 0
    first_us: float = math.inf
    last_us: float = -math.inf
    frames: int = 0
    losses: Losses = field(default_factory=Losses)
    first_mid_us: float = 0.0
    last_mid_us: float = 0.0
    exposures_us: set[int] = field(default_factory=set)
    exposures_unknown: int = 0
    channels: set[int] = field(default_factory=set)
    transfers: set[Transfer] = field(default_factory=set)
    row_delays_us: set[float] = field(default_factory=set)
    gaps: int = 0
    gaps_us: int = 0
    reasons: Counter[str] = field(default_factory=Counter)
    epochs: set[int] = field(default_factory=set)
    triggers: dict[int, TriggerCount] = field(default_factory=dict)
    imu: int = 0
    first_imu_us: int = 0
    last_imu_us: int = 0

    @property
    def is_empty(self) -> bool:
        """Tell whether there was nothing but promises and gaps."""
        return not (self.events or self.frames or self.triggers or self.imu)

    def add(self, packet: SourcePacket) -> None:
        """Count a packet."""
        if isinstance(packet, EventBatch | Frame | Gap):
            self.losses.add(packet)
        if isinstance(packet, EventBatch):
            self._add_events(packet)
        elif isinstance(packet, Frame):
            self._add_frame(packet)
        elif isinstance(packet, Gap):
            self._add_gap(packet)
        elif isinstance(packet, Trigger):
            if packet.channel in self.triggers or len(self.triggers) < _MOST:
                self.triggers.setdefault(packet.channel, TriggerCount()).add(packet)
        elif isinstance(packet, ImuBatch):
            self._add_imu(packet)

    def _add_events(self, batch: EventBatch) -> None:
        self.epochs.add(batch.epoch)
        if len(batch) == 0:
            return
        self.events += len(batch)
        self.brighter += int(batch.p.sum(dtype=int))
        self.first_us = min(self.first_us, float(batch.t_us[0]))
        self.last_us = max(self.last_us, float(batch.t_us[-1]))

    def _add_frame(self, frame: Frame) -> None:
        self.first_mid_us = frame.mid_us if self.frames == 0 else self.first_mid_us
        self.last_mid_us = frame.mid_us
        self.frames += 1
        self.first_us, self.last_us = min(self.first_us, frame.first_us), max(self.last_us, frame.last_us)
        self.exposures_unknown += not frame.exposure_known
        self.channels.add(frame.pixels.shape[2])
        self.transfers.add(frame.transfer)
        if len(self.exposures_us) < _MOST:
            self.exposures_us.add(frame.exposure_end_us - frame.exposure_start_us)
        if len(self.row_delays_us) < _MOST:
            self.row_delays_us.add(frame.row_delay_us)

    def _add_gap(self, gap: Gap) -> None:
        self.gaps += 1
        self.gaps_us += gap.t1_us - gap.t0_us
        if gap.reason in self.reasons or len(self.reasons) < _MOST:
            self.reasons[gap.reason] += 1

    def _add_imu(self, batch: ImuBatch) -> None:
        if not batch.t_us.size:
            return
        self.first_imu_us = int(batch.t_us[0]) if self.imu == 0 else self.first_imu_us
        self.last_imu_us = int(batch.t_us[-1])
        self.imu += len(batch.t_us)
