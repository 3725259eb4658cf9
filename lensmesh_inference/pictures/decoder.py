"""Who decodes for the models of a process. Imports torch with the first picture that a real model is to see."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, TypeAlias

from PIL import Image

from lensmesh_inference.pictures.limits import ImageLimits
from lensmesh_inference.pictures.pillow import decode_image
from lensmesh_inference.pictures.transform import Transform

if TYPE_CHECKING:
    import torch

# A library's own way from an upright RGB picture to uint8 of shape (3, height, width), for what `Transform` cannot say.
LibraryTransform: TypeAlias = "Callable[[Image.Image], torch.Tensor]"


class PictureDecoder:
    """Decodes what is within its limits. Its methods block and may be called from many threads at once."""

    def __init__(self, limits: ImageLimits, *, scaled: bool = True) -> None:
        self.limits = limits
        self._scaled = scaled

    def prepare(self, content: bytes, transform: Transform | LibraryTransform, field: str = "image") -> torch.Tensor:
        """One picture as a model takes it, uint8 of shape (3, height, width).

        Raises ``InvalidInput`` for a bad one, naming `field`.
        """
        if not isinstance(transform, Transform):
            return transform(self.check(content, field))
        from lensmesh_inference.pictures.prepare import prepare

        return prepare(content, transform, self.limits, field, scaled=self._scaled)

    def check(self, content: bytes, field: str = "image") -> Image.Image:
        """The whole picture, upright and RGB, decoded without torch. Raises ``InvalidInput`` naming `field`."""
        return decode_image(content, self.limits, field)
