"""The numbers of the clock's lives."""

from __future__ import annotations

from drivers.packets.cleaning import cleaned
from drivers.packets.epochs import Epochs
from nire.types import EventBatch, Gap
from tests.drivers.packets.made import Given, events


def test_no_number_comes_twice_over_sources_that_each_count_from_zero() -> None:
    epochs, found = Epochs(), []
    for lives in ([0, 1], [0], [0, 1, 2]):
        found += [epochs.numbered(events([5], epoch=life)).epoch for life in lives]
        epochs.source_began_again()
    assert found == [0, 1, 2, 3, 4, 5]


def test_packet_whose_number_is_right_is_handed_on_untouched() -> None:
    batch = events([5], epoch=3)
    assert Epochs().numbered(batch) is batch


def test_gap_of_a_reset_has_the_number_of_the_packets_behind_it_also_where_the_source_counts_lives() -> None:
    packets = list(cleaned(Given([events([5]), events([9000], epoch=1), events([20], epoch=1)])))
    numbers = [(type(packet), packet.epoch) for packet in packets if isinstance(packet, EventBatch | Gap)]
    assert numbers[-2:] == [(Gap, 2), (EventBatch, 2)]
