"""transformers' batched generate() on a device: python -m bench.workers.generate IMAGES MODEL DEVICE PRECISION."""

from __future__ import annotations

import io
import itertools
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
import transformers
from PIL import Image

from bench.worker import Asked, serve
from lensmesh_cli.load import supply
from lensmesh_cli.load.figures import CallSample, summarize

hub: Any = transformers


class Generate:
    """A captioner."""

    def __init__(self, images: Path, model: str, device: str, precision: str) -> None:
        self._contents = supply.read(sorted(images.glob("*.jpg")))
        self._device, self._dtype = torch.device(device), getattr(torch, precision)
        network = hub.BlipForConditionalGeneration.from_pretrained(model, dtype=self._dtype)
        self._model = network.to(self._device).eval()
        self._processor = hub.BlipProcessor.from_pretrained(model)
        self._salt = itertools.count()

    def captions(self, asked: Asked) -> dict[str, Any]:
        """Describe batches of `batch` images, of `tokens` tokens each, for the time asked."""
        images = supply.images(self._contents, next(self._salt))
        begin = time.monotonic() + asked["warm"]
        end = begin + asked["seconds"]
        samples: list[CallSample] = []
        while (began := time.monotonic()) < end or len(samples) < 2:
            opened = [Image.open(io.BytesIO(next(images))).convert("RGB") for _ in range(asked["batch"])]
            inputs = self._processor(images=opened, return_tensors="pt").to(self._device, self._dtype)
            with torch.inference_mode():
                sequences = self._model.generate(**inputs, max_new_tokens=asked["tokens"], do_sample=False)
            self._processor.batch_decode(sequences, skip_special_tokens=True)
            samples.append(CallSample(began, time.monotonic(), len(opened)))
        return asdict(summarize(samples, begin, time.monotonic()))


def main() -> None:
    """Serve one model."""
    model = Generate(Path(sys.argv[1]), *sys.argv[2:5])
    serve({"captions": model.captions})


if __name__ == "__main__":
    main()
