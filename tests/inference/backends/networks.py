"""Small networks for the tests of backends."""

from __future__ import annotations

import torch
from torch import Tensor

from lensmesh_inference.backends.pixels import PixelTower
from lensmesh_inference.backends.tower import Placement, TowerSpec

PLACE = Placement(torch.device("cpu"), 1)


class Pooling(torch.nn.Module):
    """A vision tower as small as they come."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = torch.nn.Conv2d(3, 8, 4, 4)
        self.out = torch.nn.Linear(8, 6)

    def forward(self, pixels: Tensor) -> Tensor:
        pooled: Tensor = torch.relu(self.patches(pixels)).mean(dim=(2, 3))
        features: Tensor = self.out(pooled)
        return features


class Moody(Pooling):
    """What no tracer can follow: its way depends on what it sees."""

    def forward(self, pixels: Tensor) -> Tensor:
        if float(pixels.mean()) > 0:
            pixels = pixels * 2
        return super().forward(pixels)


def network(vision: type[Pooling] = Pooling, digest: str = "seven") -> TowerSpec:
    torch.manual_seed(7)
    module = PixelTower(vision(), (0.0145, 0.0150, 0.0142), (-1.79, -1.75, -1.48)).eval()
    return TowerSpec("image", module, digest, torch.randint(0, 256, (4, 3, 16, 16), dtype=torch.uint8))
