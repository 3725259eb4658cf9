"""The normalization that a tower was trained with, as numbers for each channel. This module imports no torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    import torch

PerChannel: TypeAlias = tuple[float, float, float]


@dataclass(frozen=True)
class Normalize:
    """The formula (x * rescale - mean) / std for each of red, green and blue; x is a byte, 0 to 255.

    Images wait as bytes, a quarter of their size in float32. They are normalized as a batch, in the model's forward
    pass.
    """

    mean: PerChannel = (0.0, 0.0, 0.0)
    std: PerChannel = (1.0, 1.0, 1.0)
    rescale: float = 1 / 255

    @property
    def scale(self) -> PerChannel:
        """The factor of each channel: normalization is one multiplication by it and one addition of `shift`."""
        red, green, blue = (self.rescale / std for std in self.std)
        return red, green, blue

    @property
    def shift(self) -> PerChannel:
        """The number that is added to each channel after the multiplication by `scale`."""
        red, green, blue = (-mean / std for mean, std in zip(self.mean, self.std, strict=True))
        return red, green, blue

    def apply(self, batch: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
        """Normalize a batch of images, uint8 of shape (n, 3, height, width), to `dtype` on the batch's own device.

        The numbers are computed in float32 whatever the dtype, as the libraries do.
        """
        numbers = batch.float()
        scale, shift = (numbers.new_tensor(values).view(1, 3, 1, 1) for values in (self.scale, self.shift))
        return numbers.mul_(scale).add_(shift).to(dtype)
