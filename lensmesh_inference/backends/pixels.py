"""A vision tower that takes images as bytes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor


class PixelTower(torch.nn.Module):
    """A vision tower that takes uint8 images.

    They need a quarter of float32's memory in the queue and on the way to a GPU.
    """

    scale: Tensor
    shift: Tensor

    def __init__(self, vision: Any, scale: Sequence[float], shift: Sequence[float]) -> None:
        """Wrap `vision`, which takes x * scale + shift for each of three channels, where x is a byte."""
        super().__init__()
        self.vision = vision
        self._numbers = {"scale": tuple(scale), "shift": tuple(shift)}
        for name, numbers in self._numbers.items():
            self.register_buffer(name, torch.tensor(numbers).view(1, -1, 1, 1), persistent=False)

    def forward(self, pixels: Tensor) -> Tensor:
        """Compute `pixels`, uint8 of shape (n, 3, height, width)."""
        # In place: fresh memory for each step costs as much as the step.
        scaled = pixels.float().mul_(self.scale).add_(self.shift)
        features: Tensor = self.vision(scaled.to(next(self.vision.parameters()).dtype))
        return features

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> PixelTower:
        # Casting the module to bfloat16 must not round the scaling, too: 1/255 has more digits.
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        for name, numbers in self._numbers.items():
            setattr(self, name, torch.tensor(numbers, device=getattr(self, name).device).view(1, -1, 1, 1))
        return self
