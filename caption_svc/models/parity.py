"""The answers of transformers itself to the known image in float32, and how near a served captioner comes to them.

Both the vision tower's states and the first word's scores are compared. Scores alone depend much on how frequent the
words are, and would hardly change for a tower that sees nothing.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers

from caption_svc.models.describing import Describer
from lensmesh_chassis.errors import PreconditionFailed
from lensmesh_chassis.reasons import Reason
from lensmesh_inference.backends.folder import CompiledFolder
from lensmesh_inference.backends.parity import lowest_cosine
from lensmesh_inference.backends.tower import Array
from lensmesh_inference.digest import Json, content_digest
from lensmesh_inference.images.normalize import Normalize

MIN_COSINE = 0.99
"""The lowest cosine that passes. bfloat16 stays above 0.999 in models of any size.

Below `MIN_COSINE` a captioner computes something else.
"""

_FILE = "reference.npz"


def reference(
    network: Any, pixels: torch.Tensor, normalize: Normalize, key: Json, folder: CompiledFolder
) -> tuple[Array, Array]:
    """Return the vision tower's states and the first word's scores for one image.

    They are computed by transformers' own modules in float32, or read where `folder` keeps them. `network` is a
    BlipForConditionalGeneration. `key` names all that decides its answers.
    """

    def make(into: Path) -> None:
        with torch.inference_mode():
            states = network.vision_model(pixel_values=normalize.apply(pixels, torch.float32)).last_hidden_state
            begin = torch.full((len(pixels), 1), network.config.text_config.bos_token_id)
            decoded = network.text_decoder(input_ids=begin, encoder_hidden_states=states, is_decoder=True)
        np.savez(into / _FILE, states=states.numpy(), scores=decoded.logits[:, -1].numpy())

    versions = {"torch": torch.__version__, "transformers": transformers.__version__}
    image = content_digest(pixels.numpy().tobytes())
    entry = folder.entry("caption-reference", {"format": 1, "model": key, "picture": image, "versions": versions}, make)
    try:
        with np.load(entry.path / _FILE, allow_pickle=False) as known:
            return known["states"], known["scores"]
    finally:
        entry.close()


def parity(describer: Describer, pixels: torch.Tensor, known: tuple[Array, Array]) -> float:
    """Return the lower of the two cosines between a describer's answers and those of `reference`, 1 at most."""
    states = describer.look(pixels)
    seen = states.float().cpu().numpy().copy()
    scores = describer.first_scores(states).float().cpu().numpy()
    cosines = [lowest_cosine(seen, known[0]), lowest_cosine(scores, known[1]), 1.0]
    # Unlike Python's own, this minimum of NaN and anything is NaN.
    return float(np.min(cosines))


def check_parity(cosine: float, what: str) -> None:
    """Raise ``PreconditionFailed`` for a captioner whose cosine is too low or NaN. `what` names it in the message."""
    if not cosine >= MIN_COSINE:
        raise PreconditionFailed(
            Reason.MODEL_FAILED,
            f"{what} differs from transformers in float32: cosine {cosine:.4f}, at least {MIN_COSINE} is needed. Set "
            "the precision to float32, and if it is that already, the backend to torch.",
        )
