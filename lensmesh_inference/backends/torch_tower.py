"""Towers in torch, as they are."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from lensmesh_inference.backends.mishaps import told_apart
from lensmesh_inference.backends.tower import Array, Network, Place, in_precision


class TorchTower:
    """A module in eager mode. Towers of one network in one precision on one device share its weights."""

    backend = "torch"

    def __init__(self, name: str, module: torch.nn.Module, device: torch.device) -> None:
        self.name = name
        self.module = module
        self.device = device
        self.precision = str(next(module.parameters()).dtype).removeprefix("torch.")

    def run(self, batch: torch.Tensor) -> Array:
        with told_apart():
            return self.compute(batch).float().cpu().numpy()

    def compute(self, batch: torch.Tensor) -> torch.Tensor:
        """As `run`, left in the tower's numbers on its device, for who goes on there."""
        with told_apart(), torch.inference_mode():
            output: torch.Tensor = self.module(batch.to(self.device, non_blocking=True))
            return output


def open_torch(network: Network, precision: str, places: Sequence[Place], *, record: bool = True) -> list[TorchTower]:
    """The tower in "float32", "bfloat16" or "float16", for each place; on GPUs with recorded graphs, if `record`."""
    modules: dict[torch.device, torch.nn.Module] = {}
    towers: list[TorchTower] = []
    for place in places:
        if place.device not in modules:
            modules[place.device] = in_precision(network.module, getattr(torch, precision), place.device)
        module = modules[place.device]
        if place.device.type == "cuda" and record:
            # Imported here: it needs the class above.
            from lensmesh_inference.backends.cuda_tower import CudaTower

            towers.append(CudaTower(network, module, place))
        else:
            towers.append(TorchTower(network.name, module, place.device))
    return towers
