"""The in-process limit: the best loop that one writes offline, over the Encoder's own model. No server, no queue.

python -m bench.workers.limit FOLDER, with the Encoder's settings in the environment. Files, decoding, backend,
precision and largest batch are the same as the Encoder's. Decoding overlaps with the model.
"""

from __future__ import annotations

import itertools
import sys
import time
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from bench.worker import Asked, serve
from encoder_svc.model import EncoderInput
from encoder_svc.models.load import load_models
from encoder_svc.settings import EncoderSettings
from lensmesh_chassis.settings import load_settings
from lensmesh_cli.load import supply
from lensmesh_cli.load.figures import CallSample, summarize
from lensmesh_inference.images.pool import open_pool

# Batches that are decoded ahead of the model.
AHEAD = 2


class Limit:
    """A model and a pool of threads that decode for it."""

    def __init__(self, folder: Path, settings: EncoderSettings) -> None:
        self._settings = settings
        self._contents = supply.read(sorted(folder.glob("*.jpg")))
        self._model = load_models(settings)[0]
        decode = open_pool(settings.decode_options, self._model.devices())
        self._decoder = decode.decoder
        self._pool = ThreadPoolExecutor(decode.threads)
        self._salt = itertools.count()

    def facts(self, asked: Asked) -> dict[str, str]:
        """Return what computes, and in which precision."""
        facts = self._model.facts
        return {"model": facts.name, "backend": facts.backend, "precision": facts.precision}

    def images(self, asked: Asked) -> dict[str, Any]:
        """Send images through the model for the time asked."""
        begin = time.monotonic() + asked["warm"]
        end = begin + asked["seconds"]
        images = supply.images(self._contents, next(self._salt))
        batch, samples = self._settings.max_batch, []
        waiting: deque[Future[EncoderInput]] = deque()
        while time.monotonic() < end:
            self._decode(images, waiting, AHEAD * batch)
            items = [waiting.popleft().result() for _ in range(batch)]
            self._decode(images, waiting, AHEAD * batch)
            began = time.monotonic()
            vectors = np.stack([row for row in self._model.workers()[0](items) if isinstance(row, np.ndarray)])
            vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
            samples.append(CallSample(began, time.monotonic(), len(vectors)))
        for job in waiting:
            job.cancel()
        return asdict(summarize(samples, begin, end))

    def _decode(self, images: Iterator[bytes], waiting: deque[Future[EncoderInput]], depth: int) -> None:
        while len(waiting) < depth:
            waiting.append(self._pool.submit(self._model.prepare_image, next(images), self._decoder, "image"))


def main() -> None:
    """Serve the limit of one model."""
    limit = Limit(Path(sys.argv[1]), load_settings(EncoderSettings))
    serve({"images": limit.images, "facts": limit.facts})


if __name__ == "__main__":
    main()
