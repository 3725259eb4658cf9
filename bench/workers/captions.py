"""Captions in process, case by case: python -m bench.workers.captions IMAGES PLACE BATCH TOKENS [--tiny].

It runs the cases of bench/captions.py on request: transformers as documented and batched, and ours by each backend.
PLACE is a folder for the model.
"""

from __future__ import annotations

import sys
import time
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import Any

from bench.captions import make_cases, save_random_blip
from bench.worker import Asked, serve
from lensmesh_cli.load import supply
from lensmesh_cli.load.figures import CallSample, summarize


class Captions:
    """The cases, all loaded."""

    def __init__(self, images: Path, place: Path, batch: int, tokens: int, *, tiny: bool) -> None:
        self._images = supply.images(supply.read(sorted(images.glob("*.jpg"))), 0)
        self._batch = batch
        folder = save_random_blip(place / "blip", tiny=tiny)
        self._cases = make_cases(folder, place / "compiled", tokens, batch)

    def titles(self, asked: Asked) -> list[str]:
        """Return the titles of the cases, in their order."""
        return list(self._cases)

    def captions(self, asked: Asked) -> dict[str, Any]:
        """Run one case for the time asked, one batch of images after another, and at least two."""
        describe = self._cases[asked["case"]]
        begin = time.monotonic() + asked["warm"]
        samples: list[CallSample] = []
        while (began := time.monotonic()) < begin + asked["seconds"] or len(samples) < 2:
            describe(list(islice(self._images, self._batch)))
            samples.append(CallSample(began, time.monotonic(), self._batch))
        return asdict(summarize(samples, samples[0].began, time.monotonic()))


def main() -> None:
    """Serve the cases."""
    images, place, batch, tokens = sys.argv[1:5]
    captions = Captions(Path(images), Path(place), int(batch), int(tokens), tiny="--tiny" in sys.argv)
    serve({"titles": captions.titles, "captions": captions.captions})


if __name__ == "__main__":
    main()
