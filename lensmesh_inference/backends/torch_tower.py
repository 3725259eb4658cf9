"""A tower in torch, as it is."""

from __future__ import annotations

import torch

from lensmesh_inference.backends.device_errors import classify
from lensmesh_inference.backends.tower import Array


class TorchTower:
    """A module in eager mode. Towers of one network in one precision on one device share its weights."""

    backend = "torch"

    def __init__(self, name: str, module: torch.nn.Module, device: torch.device) -> None:
        self.name = name
        self.module = module
        self.device = device
        self.precision = str(next(module.parameters()).dtype).removeprefix("torch.")

    def run(self, batch: torch.Tensor) -> Array:
        with classify():
            return self.compute(batch).float().cpu().numpy()

    def compute(self, batch: torch.Tensor) -> torch.Tensor:
        """Do as `run` does, but leave the result on the device, in the tower's precision, for further work there."""
        with classify(), torch.inference_mode():
            output: torch.Tensor = self.module(batch.to(self.device, non_blocking=True))
            return output
