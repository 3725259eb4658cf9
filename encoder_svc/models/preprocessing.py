"""The preprocessing of images for an open_clip model: our own fast code, and the library's to compare with."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from open_clip.transform import PreprocessCfg, image_transform_v2
from PIL import Image

from lensmesh_inference.images.decoder import LibraryTransform
from lensmesh_inference.images.normalize import Normalize
from lensmesh_inference.images.transform import Transform, UnknownTransformError, normalize_of_open_clip

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Preprocessing:
    """The steps from an image to a tower's input.

    `transform` makes uint8 of shape (3, height, width), `normalize` is what the tower then does with it, and `library`
    is open_clip's own code for both.
    """

    height: int
    width: int
    transform: Transform | LibraryTransform
    normalize: Normalize
    library: Callable[[Image.Image], torch.Tensor]


def preprocessing_of(config: Mapping[str, Any]) -> Preprocessing:
    """Return the preprocessing that `config` describes; it has the fields of open_clip's `PreprocessCfg`."""
    size = config["size"]
    height, width = (size, size) if isinstance(size, int) else size
    library = image_transform_v2(PreprocessCfg(**config), is_train=False)
    return Preprocessing(int(height), int(width), _transform(config, library), normalize_of_open_clip(config), library)


def _transform(config: Mapping[str, Any], library: Any) -> Transform | LibraryTransform:
    try:
        return Transform.from_open_clip(config)
    except UnknownTransformError as error:
        _log.warning("images are resized by open_clip's own code, which is slower: %s", error)
    # All but its normalization: an image of real numbers from 0 to 1, made of bytes.
    steps = library.transforms[:-1]

    def resize(image: Image.Image) -> torch.Tensor:
        result: Any = image
        for step in steps:
            result = step(result)
        return torch.as_tensor(result * 255).round().to(torch.uint8)

    return resize
