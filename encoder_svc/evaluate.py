"""A report, as JSON, of what a backend and a precision cost: `python -m encoder_svc.evaluate --precision int8`.

The model is loaded twice, as the service loads it: once as asked for and once by torch in float32. The report holds the
cosines between the vectors of both, over images. For the bundled model it also holds how well each of the two finds
held-out scenes by their captions, as recall.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np

from encoder_svc.model import EncoderInput, EncoderModel, Vector
from encoder_svc.models.load import load_model
from encoder_svc.settings import EncoderSettings
from lensmesh_chassis.errors import LensmeshError
from lensmesh_inference.images.decoder import ImageDecoder
from lensmesh_shapes import caption, draw, held_out_scenes

_BATCH: Final = 32
_SCENE_PX: Final = 256
_SUFFIXES: Final = frozenset({".jpg", ".jpeg", ".png", ".webp"})


def compare(settings: EncoderSettings, images: Sequence[bytes], texts: Sequence[str]) -> dict[str, Any]:
    """Return the figures of the settings' model, beside those of the same model by torch in float32.

    Text n belongs to image n alone. Without texts the report has cosines and no recall.
    """
    exact = settings.model_copy(update={"backend": "torch", "precision": "float32"})
    report: dict[str, Any] = {"model": settings.model, "pictures": len(images)}
    seen: dict[str, Vector] = {}
    for name, chosen in (("float32", exact), ("asked", settings)):
        model = load_model(settings.model, chosen)
        facts = model.facts
        seen[name] = image_vectors(model, images, settings)
        report[name] = {
            "backend": facts.backend,
            "precision": facts.precision,
            "space": facts.spaces[0].id,
            "parity_cosine": facts.parity_cosine,
        }
        if texts:
            report[name] |= recalls(text_vectors(model, texts), seen[name])
    cosines = (seen["float32"] * seen["asked"]).sum(axis=1)
    report["cosine"] = {"lowest": float(cosines.min()), "mean": float(cosines.mean())}
    return report


def image_vectors(model: EncoderModel, images: Sequence[bytes], settings: EncoderSettings) -> Vector:
    """Return a unit vector for each image, a row each. Raises a ``LensmeshError`` for a bad image."""
    decoder = ImageDecoder(settings.image_limits)
    return _vectors(model, (model.prepare_image(content, decoder, "image") for content in images))


def text_vectors(model: EncoderModel, texts: Sequence[str]) -> Vector:
    """Return a unit vector for each text, a row each."""
    return _vectors(model, map(model.prepare_text, texts))


def recalls(texts: Vector, images: Vector) -> dict[str, float]:
    """Return the shares of texts, 0 to 1, whose own image is the nearest, and is among the five nearest.

    Row n of `texts` and row n of `images` are a pair's unit vectors.
    """
    scores = texts @ images.T
    ranks = (scores > scores.diagonal()[:, None]).sum(axis=1)
    return {f"recall_at_{top}": float((ranks < top).mean()) for top in (1, 5)}


def scenes(count: int) -> tuple[list[bytes], list[str]]:
    """Draw held-out scenes of the bundled pack; return them as JPEG files, with their captions."""
    drawn = held_out_scenes(count)
    files = []
    for scene in drawn:
        file = io.BytesIO()
        draw(scene, _SCENE_PX).save(file, "JPEG", quality=90)
        files.append(file.getvalue())
    return files, [caption(scene.facts) for scene in drawn]


def _vectors(model: EncoderModel, prepared: Iterator[EncoderInput]) -> Vector:
    (worker, *_) = model.workers()
    rows: list[Vector] = []
    items = list(prepared)
    for start in range(0, len(items), _BATCH):
        for answer in worker(items[start : start + _BATCH]):
            if isinstance(answer, LensmeshError):
                raise answer
            rows.append(answer)
    vectors = np.stack(rows)
    unit: Vector = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return unit


def main() -> None:
    """Parse the command line and print the report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="shapes", help="as in LENSMESH_ENCODER_MODEL")
    parser.add_argument("--backend", default="auto")
    parser.add_argument("--precision", default="int8")
    parser.add_argument("--calibration-dir", default="", help="typical images to calibrate int8 on")
    parser.add_argument(
        "--pictures", dest="images", type=Path, help="folder of images to compare on, instead of held-out scenes"
    )
    parser.add_argument("--scenes", type=int, default=1000)
    options = parser.parse_args()
    settings = EncoderSettings(
        model=options.model,
        backend=options.backend,
        precision=options.precision,
        calibration_dir=options.calibration_dir,
    )
    if options.images is None:
        images, texts = scenes(options.scenes)
    else:
        files = sorted(path for path in options.images.rglob("*") if path.suffix.lower() in _SUFFIXES)
        images, texts = [path.read_bytes() for path in files], []
    # nncf shows its progress on standard output, where the figures are to be alone.
    with contextlib.redirect_stdout(sys.stderr):
        # Captions of drawn scenes say something to the bundled model alone.
        report = compare(settings, images, texts if options.model == "shapes" else [])
    sys.stdout.write(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
