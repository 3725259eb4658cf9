"""The models that a peer serves: open_clip as its users write it, or the same weights computed by our backend.

Both prepare images by open_clip's own transform.
"""

from __future__ import annotations

import io
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Vectors = NDArray[np.float32]


class Model(Protocol):
    """A model that takes images and returns unit vectors."""

    def prepare(self, content: bytes) -> Any:
        """Prepare one image as the model takes it."""

    def encode(self, prepared: Sequence[Any]) -> Vectors:
        """Return the vectors, of shape (n, d)."""


class Documented:
    """The documented use: create_model_and_transforms, preprocess, encode_image, in float32, by torch."""

    def __init__(self, name: str) -> None:
        import open_clip
        import torch

        from encoder_svc.models.locate import locate
        from encoder_svc.models.sources import parse_source

        located = locate(parse_source(name), allow_download=False)
        torch.manual_seed(0)
        model, _, self.prepare_image = open_clip.create_model_and_transforms(
            located.create_name, pretrained=located.pretrained
        )
        self._model: Any = model.eval()

    def prepare(self, content: bytes) -> Any:
        return self.prepare_image(Image.open(io.BytesIO(content)))

    def encode(self, prepared: Sequence[Any]) -> Vectors:
        import torch

        with torch.inference_mode():
            features = self._model.encode_image(torch.stack(list(prepared)))
            features /= features.norm(dim=-1, keepdim=True)
        return np.asarray(features.float().numpy())


class Equal:
    """Our backend in our precision, with the settings of the environment.

    The images are prepared by open_clip's own transform.
    """

    def __init__(self) -> None:
        from encoder_svc.models.load import load_models
        from encoder_svc.settings import EncoderSettings
        from lensmesh_chassis.settings import load_settings

        settings = load_settings(EncoderSettings)
        self._compute = load_models(settings)[0].workers()[0]
        self._steps = steps_before_floats(settings.model)
        # Triton calls from several threads: one decodes while another computes.
        self._turn = threading.Lock()

    def prepare(self, content: bytes) -> Any:
        from torchvision.transforms.functional import pil_to_tensor

        image: Any = Image.open(io.BytesIO(content))
        for step in self._steps:
            image = step(image)
        return pil_to_tensor(image)

    def encode(self, prepared: Sequence[Any]) -> Vectors:
        from encoder_svc.model import EncoderInput

        with self._turn:
            rows = self._compute([EncoderInput("image", one) for one in prepared])
        vectors = np.stack([row for row in rows if isinstance(row, np.ndarray)])
        return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True), np.float32)


def steps_before_floats(name: str) -> list[Any]:
    """Return the steps of open_clip's transform that end with an image of the right size, still in bytes.

    Our backend takes bytes and normalizes them itself.
    """
    from open_clip.transform import PreprocessCfg, image_transform_v2
    from torchvision.transforms import ToTensor

    from encoder_svc.models.locate import locate
    from encoder_svc.models.sources import parse_source

    located = locate(parse_source(name), allow_download=False)
    size = {"size": located.model_config["vision_cfg"]["image_size"]}
    transform: Any = image_transform_v2(PreprocessCfg(**{**size, **located.preprocess}), is_train=False)
    steps = list(transform.transforms)
    return steps[: next(index for index, step in enumerate(steps) if isinstance(step, ToTensor))]


def open_model(name: str) -> Model:
    """Open the model that is named "equal", or any other as documented."""
    return Equal() if name == "equal" else Documented(name)


def prepare_all(model: Model, contents: Sequence[bytes], pool: ThreadPoolExecutor | None) -> list[Any]:
    """Prepare images one after another, or in the pool's threads."""
    return list((map if pool is None else pool.map)(model.prepare, contents))
