"""Which precisions this machine computes in: a test in an emulated one takes a hundred times as long."""

from __future__ import annotations

import pytest
import torch

in_bf16 = pytest.mark.skipif(
    not torch.ops.mkldnn._is_mkldnn_bf16_supported(), reason="needs a processor that computes in bf16"
)
