"""Inputs whose float32 answers are known: a model's answers are compared with them as it is loaded.

Every model has the inputs of the bundled pack. The answers of the pack's own CLIP come with the pack. The answers of
any other model are computed by open_clip in float32 as the model is loaded, and kept on disk.
"""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from encoder_svc.model import EncoderInput, Vector, Worker
from lensmesh_chassis.errors import LensmeshError
from lensmesh_inference.backends.folder import CompiledFolder
from lensmesh_inference.backends.parity import lowest_cosine
from lensmesh_inference.digest import Json, content_digest
from lensmesh_shapes import golden as shapes

_VECTORS = "vectors.npz"


@dataclass(frozen=True)
class Golden:
    """Encoded images and texts, and open_clip's own vectors of them: float32, not normalized, a row for each."""

    images: Sequence[bytes]
    texts: Sequence[str]
    image_vectors: Vector
    text_vectors: Vector

    def parity(self, worker: Worker, prepared: Sequence[EncoderInput]) -> float:
        """Return the lowest cosine between a worker's answers and the known ones; NaN where an answer is an error.

        `prepared` holds the images and then the texts. Images are computed as one batch. Texts are computed one by one,
        each at its own length.
        """
        count = len(self.images)
        answers = list(worker(prepared[:count]))
        for text in prepared[count:]:
            answers += worker([text])
        rows = [answer for answer in answers if not isinstance(answer, LensmeshError)]
        if len(rows) < len(answers):
            return math.nan
        return lowest_cosine(np.stack(rows), np.concatenate([self.image_vectors, self.text_vectors]))

    @property
    def is_finite(self) -> bool:
        """True where all numbers of the known vectors are finite."""
        return bool(np.isfinite(self.image_vectors).all() and np.isfinite(self.text_vectors).all())


def stored() -> Golden:
    """Return the inputs and the vectors of the bundled pack."""
    known = shapes.read()
    return Golden(known.images, known.texts, known.image_vectors, known.text_vectors)


def computed(
    model: Any, transform: Callable[[Any], torch.Tensor], tokenizer: Any, key: Json, folder: CompiledFolder
) -> Golden:
    """Compute the vectors of `model`, or read them where `folder` keeps them.

    `model` is open_clip's own, in float32, and `transform` is open_clip's own preprocessing. `key` names everything
    that changes the model's vectors.
    """
    inputs = shapes.read()

    def make(into: Path) -> None:
        with torch.inference_mode():
            opened = [Image.open(io.BytesIO(content)).convert("RGB") for content in inputs.images]
            # normalize is said because CoCa's default differs from the others'.
            images = model.encode_image(torch.stack([transform(one) for one in opened]), normalize=False)
            texts = model.encode_text(tokenizer(list(inputs.texts)), normalize=False)
        np.savez(into / _VECTORS, images=images.numpy(), texts=texts.numpy())

    digests = [content_digest(one) for one in (*inputs.images, *(text.encode() for text in inputs.texts))]
    entry = folder.entry("golden", {"format": 1, "model": key, "inputs": digests, "torch": torch.__version__}, make)
    try:
        with np.load(entry.path / _VECTORS, allow_pickle=False) as vectors:
            return Golden(inputs.images, inputs.texts, vectors["images"], vectors["texts"])
    finally:
        entry.close()
