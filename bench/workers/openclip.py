"""open_clip as everyone writes it: python -m bench.workers.openclip FOLDER MODEL [PRECISION].

One image after another, opened by Pillow, transformed by the model's own transform, encoded in float32.
"""

from __future__ import annotations

import io
import itertools
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import open_clip
import torch
from PIL import Image

from bench.worker import Asked, serve
from encoder_svc.models.locate import locate, make_tokenizer
from encoder_svc.models.sources import parse_source
from lensmesh_cli.load import supply
from lensmesh_cli.load.figures import CallSample, summarize


class OpenClip:
    """A model, with random weights unless its name says where others are."""

    def __init__(self, folder: Path, name: str, precision: str) -> None:
        self._contents = supply.read(sorted(folder.glob("*.jpg")))
        located = locate(parse_source(name), allow_download=False)
        torch.manual_seed(0)
        self._model, _, self._preprocess = open_clip.create_model_and_transforms(
            located.create_name,
            pretrained=located.pretrained,
            precision={"float32": "fp32", "bfloat16": "bf16"}[precision],
        )
        self._model.eval()
        self._dtype = getattr(torch, precision)
        self._tokenizer: Any = make_tokenizer(located, allow_download=False)
        self._salt = itertools.count()

    def images(self, asked: Asked) -> dict[str, Any]:
        """Encode images for the time asked."""
        images = supply.images(self._contents, next(self._salt))

        def one() -> None:
            image = self._preprocess(Image.open(io.BytesIO(next(images)))).unsqueeze(0).to(self._dtype)
            with torch.no_grad():
                features = self._model.encode_image(image)
                features /= features.norm(dim=-1, keepdim=True)

        return _timed(asked, one, 1)

    def texts(self, asked: Asked) -> dict[str, Any]:
        """Encode texts in batches of `batch`."""
        texts, batch = supply.texts(next(self._salt) * 10_007 + 5_000_003), asked["batch"]

        def one() -> None:
            tokens = self._tokenizer([next(texts) for _ in range(batch)])
            with torch.no_grad():
                features = self._model.encode_text(tokens)
                features /= features.norm(dim=-1, keepdim=True)

        return _timed(asked, one, batch)


def _timed(asked: Asked, work: Any, items: int) -> dict[str, Any]:
    begin = time.monotonic() + asked["warm"]
    end, samples = begin + asked["seconds"], []
    while (began := time.monotonic()) < end:
        work()
        samples.append(CallSample(began, time.monotonic(), items))
    return asdict(summarize(samples, begin, end))


def main() -> None:
    """Serve one model."""
    precision = sys.argv[3] if len(sys.argv) > 3 else "float32"
    model = OpenClip(Path(sys.argv[1]), sys.argv[2], precision)
    serve({"images": model.images, "texts": model.texts})


if __name__ == "__main__":
    main()
