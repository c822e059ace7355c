"""The recurrence goes through the segments in order, both ways; a missing bin is not an empty one."""

from __future__ import annotations

import torch
from torch import Tensor

from nire.network.event_encoder import BidirectionalConvLSTM, EventEncoder
from tests.nire.network.tiny import TINY, build_inputs


def lstm() -> BidirectionalConvLSTM:
    torch.manual_seed(7)
    return BidirectionalConvLSTM(4)


def one_way(module: BidirectionalConvLSTM, segments: Tensor) -> list[Tensor]:
    """A textbook LSTM, one direction: states of [b, C, h, w]."""
    hidden, cell = torch.zeros_like(segments[:, 0]), torch.zeros_like(segments[:, 0])
    states = []
    for segment in segments.unbind(1):
        enter, keep, leave, candidate = (module.input_gates(segment) + module.hidden_gates(hidden)).chunk(4, 1)
        cell = keep.sigmoid() * cell + enter.sigmoid() * candidate.tanh()
        hidden = leave.sigmoid() * cell.tanh()
        states.append(hidden)
    return states


def test_reverse_states_are_put_back_in_order_before_fusion() -> None:
    module, segments = lstm(), torch.randn(2, 3, 4, 5, 6)
    found = module(segments)
    ahead, back = one_way(module, segments), one_way(module, segments.flip(1))[::-1]
    for m in range(3):
        expected = segments[:, m] + module.fuse(torch.cat((ahead[m], back[m]), 1))
        torch.testing.assert_close(found[:, m], expected, atol=1e-5, rtol=1e-5)


def test_every_segment_hears_of_every_other() -> None:
    module, segments = lstm(), torch.randn(1, 3, 4, 5, 6)
    for changed in range(3):
        other = segments.clone()
        other[:, changed] += 1
        differs = (module(other) - module(segments)).abs().flatten(2).amax(2)[0]
        assert (differs > 1e-6).all()


def test_missing_bin_is_not_an_empty_bin() -> None:
    torch.manual_seed(8)
    encoder = EventEncoder(TINY)
    _, voxels, _, _, observed = build_inputs(1)
    voxels[:, 1, 0] = 0
    missing = observed.clone()
    missing[:, 1, 0] = 0
    seen, unseen = encoder(voxels, observed), encoder(voxels, missing)
    assert (seen[0][:, 1] - unseen[0][:, 1]).abs().max() > 1e-4
    torch.testing.assert_close(seen[0][:, 0], unseen[0][:, 0])
