"""A translation of what torch and OpenVINO raise: no memory, a lost device, or the batch's own fault."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from lensmesh_inference.batching.faults import DeviceLost, OutOfMemory

# Neither library has a class for every case. OpenVINO raises RuntimeError with the text of a C++ exception; so does
# torch where the CPU has no memory, and for whatever CUDA calls say.
_NO_MEMORY = ("bad_alloc", "can't allocate memory", "cannot allocate memory", "out of memory", "alloc_failed")
_LOST = ("cuda error", "cublas_status", "cudnn_status", "device-side assert")


@contextmanager
def classify() -> Iterator[None]:
    """Raise ``OutOfMemory`` or ``DeviceLost`` in place of an error that means this."""
    try:
        yield
    except (torch.OutOfMemoryError, MemoryError) as error:
        raise OutOfMemory(str(error)) from error
    except RuntimeError as error:
        text = str(error).lower()
        if any(words in text for words in _NO_MEMORY):
            raise OutOfMemory(str(error)) from error
        if any(words in text for words in _LOST):
            raise DeviceLost(str(error)) from error
        raise
