"""The tower that costs nothing, in process, over images that are prepared already: python -m bench.bare.forward.

It is made first, in the folder of the Encoder's model, whose settings are in the environment.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np
import torch

from bench.bare.tower import make_tower
from bench.processor import process_s
from bench.worker import Asked, serve
from encoder_svc.model import EncoderInput
from encoder_svc.models.load import load_models
from encoder_svc.settings import EncoderSettings
from lensmesh_chassis.settings import load_settings

MODEL_PX = 224


class Tower:
    """The Encoder's own model, and its largest batch."""

    def __init__(self, settings: EncoderSettings) -> None:
        self._compute = load_models(settings)[0].workers()[0]
        pixels = np.random.default_rng(7).integers(0, 256, (settings.max_batch, 3, MODEL_PX, MODEL_PX), np.uint8)
        self._batch = [EncoderInput("image", torch.from_numpy(one)) for one in pixels]

    def forward(self, asked: Asked) -> dict[str, float]:
        """Measure the milliseconds of processor time of one image."""
        self._run(self._batch, asked["warm"])
        spent = process_s(0)
        count = self._run(self._batch, asked["seconds"])
        return {"cpu_ms": 1e3 * (process_s(0) - spent) / count}

    def _run(self, batch: Sequence[EncoderInput], seconds: float) -> int:
        end, count = time.monotonic() + seconds, 0
        while count == 0 or time.monotonic() < end:
            self._compute(batch)
            count += len(batch)
        return count


def main() -> None:
    """Make the tower, and serve."""
    settings = load_settings(EncoderSettings)
    make_tower(settings.model)
    serve({"forward": Tower(settings).forward})


if __name__ == "__main__":
    main()
