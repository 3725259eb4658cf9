"""Towers on a GPU: 16-bit numbers, copies from pinned memory, and a captured CUDA graph for each bucket of batches.

A graph is launched as one, where eager torch launches each of a tower's several hundred kernels from Python: with small
batches that is most of the time. torch.compile would also fuse some of them, but takes minutes at each start.
"""

from __future__ import annotations

import logging
import time
from typing import Any

import torch

from lensmesh_inference.backends.buckets import fill, fitting, shapes
from lensmesh_inference.backends.device_errors import classify
from lensmesh_inference.backends.torch_tower import TorchTower
from lensmesh_inference.backends.tower import Array, Placement, TowerSpec
from lensmesh_inference.batching.faults import DeviceLost, OutOfMemory

_log = logging.getLogger(__name__)


class CapturedGraph:
    """The graph of one shape, with the memory that it reads and writes."""

    def __init__(self, module: torch.nn.Module, shape: tuple[int, ...], dtype: torch.dtype, pool: Any) -> None:
        device = next(module.parameters()).device
        self._host_in = torch.zeros(shape, dtype=dtype, pin_memory=True)
        self._input = torch.zeros(shape, dtype=dtype, device=device)
        self._graph = torch.cuda.CUDAGraph()
        side = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        side.wait_stream(torch.cuda.current_stream(device))
        with torch.inference_mode(), torch.cuda.stream(side):
            # Libraries choose and allocate at first use, which cannot be recorded.
            for _ in range(2):
                module(self._input)
        torch.cuda.current_stream(device).wait_stream(side)
        with torch.inference_mode(), torch.cuda.graph(self._graph, pool=pool):
            self._output = module(self._input).float()
        self._host_out = torch.empty(self._output.shape, pin_memory=True)

    def __call__(self, batch: torch.Tensor) -> Array:
        fill(self._host_in, batch)
        with torch.cuda.device(self._input.device):
            self._input.copy_(self._host_in, non_blocking=True)
            self._graph.replay()
            self._host_out.copy_(self._output, non_blocking=True)
            torch.cuda.current_stream().synchronize()
        # A copy: the next batch writes to the same place.
        rows: Array = self._host_out[: len(batch)].numpy().copy()
        return rows


class CudaTower(TorchTower):
    """A module whose usual batches are captured. Other batches are computed one kernel after the other."""

    def __init__(self, spec: TowerSpec, module: torch.nn.Module, place: Placement) -> None:
        super().__init__(spec.name, module, place.device)
        self._most_rows = place.max_batch
        self._longest = spec.longest
        self._recorded: dict[tuple[int, ...], CapturedGraph] = {}
        began = time.monotonic()
        with torch.cuda.device(place.device):
            pool = torch.cuda.graph_pool_handle()
            try:
                with classify():
                    for shape in shapes(spec.example, self._most_rows, self._longest):
                        self._recorded[shape] = CapturedGraph(module, shape, spec.example.dtype, pool)
            except (RuntimeError, OutOfMemory, DeviceLost) as error:
                # Some networks ask the device in the middle of a forward, which cannot be recorded. That reads like
                # a lost device; one that really is lost fails at the next forward.
                _log.warning("%s tower: no CUDA graphs on %s: %s", spec.name, place.device, str(error)[:300])
                self._recorded.clear()
        seconds = time.monotonic() - began
        _log.info("%s tower: %d CUDA graphs in %.1f s", spec.name, len(self._recorded), seconds)

    def run(self, batch: torch.Tensor) -> Array:
        shape = fitting(batch, self._most_rows, self._longest)
        recorded = self._recorded.get(shape) if shape is not None else None
        if recorded is None:
            return super().run(batch)
        with classify():
            return recorded(batch)
