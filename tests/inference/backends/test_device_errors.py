"""Errors of torch and OpenVINO, told apart."""

from __future__ import annotations

import pytest
import torch

from lensmesh_inference.backends.device_errors import classify
from lensmesh_inference.batching.faults import DeviceLost, OutOfMemory


@pytest.mark.parametrize(
    ("raised", "seen"),
    [
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."), OutOfMemory),
        (MemoryError(), OutOfMemory),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes."), OutOfMemory),
        (RuntimeError("Exception from src/inference/src/cpp/infer_request.cpp:223:\nstd::bad_alloc"), OutOfMemory),
        (RuntimeError("CUDA error: an illegal memory access was encountered"), DeviceLost),
        (RuntimeError("cuDNN error: CUDNN_STATUS_EXECUTION_FAILED"), DeviceLost),
        (RuntimeError("The size of tensor a (3) must match the size of tensor b (4)"), RuntimeError),
        (ValueError("CUDA error"), ValueError),
    ],
)
def test_what_it_is(raised: Exception, seen: type[Exception]) -> None:
    with pytest.raises(seen) as caught, classify():
        raise raised
    assert type(caught.value) is seen


def test_a_real_one() -> None:
    with pytest.raises(OutOfMemory), classify():
        torch.empty(1 << 60, dtype=torch.uint8)
