"""The backend torch: eager towers, and on GPUs towers with CUDA graphs."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from lensmesh_inference.backends.cuda_tower import CudaTower
from lensmesh_inference.backends.torch_tower import TorchTower
from lensmesh_inference.backends.tower import Placement, TowerSpec, in_precision


def open_torch(
    spec: TowerSpec, precision: str, places: Sequence[Placement], *, record: bool = True
) -> list[TorchTower]:
    """Open the tower in "float32", "bfloat16" or "float16", for each place; on GPUs with CUDA graphs, if `record`."""
    modules: dict[torch.device, torch.nn.Module] = {}
    towers: list[TorchTower] = []
    for place in places:
        if place.device not in modules:
            modules[place.device] = in_precision(spec.module, getattr(torch, precision), place.device)
        module = modules[place.device]
        if place.device.type == "cuda" and record:
            towers.append(CudaTower(spec, module, place))
        else:
            towers.append(TorchTower(spec.name, module, place.device))
    return towers
