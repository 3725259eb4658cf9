"""Images and texts with known vectors: what a service that has loaded the CLIP must answer.

`python -m lensmesh_shapes.golden` makes them again: it draws the images, and computes their vectors with plain
open_clip in float32, as its documentation does. Reading them needs no torch.
"""

from __future__ import annotations

import argparse
import io
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from PIL import Image

from lensmesh_shapes import CLIP_DIR, caption, draw, held_out_scenes

Vectors = npt.NDArray[np.float32]

GOLDEN_DIR: Final = Path(__file__).resolve().parent / "golden"
_SEED: Final = 77
# Width, height and format: the model's own size, larger ones that are scaled down, and crops.
_FILES: Final = ((64, 64, "png"), (320, 240, "jpg"), (240, 400, "jpg"), (500, 500, "webp"))
_OTHER_TEXTS: Final = ("a photo of a cat", "Grüße, 日本 & <b>tags</b>", "three large stars above one small ring " * 9)


@dataclass(frozen=True)
class GoldenVectors:
    """Encoded images, texts, and for each the vector as the CLIP makes it, not normalized."""

    images: tuple[bytes, ...]
    texts: tuple[str, ...]
    image_vectors: Vectors
    text_vectors: Vectors


def read() -> GoldenVectors:
    """Read the golden inputs and vectors of the bundled CLIP."""
    described = json.loads((GOLDEN_DIR / "golden.json").read_text(encoding="utf-8"))
    images = tuple((GOLDEN_DIR / name).read_bytes() for name in described["pictures"])
    with np.load(GOLDEN_DIR / "vectors.npz", allow_pickle=False) as vectors:
        return GoldenVectors(images, tuple(described["texts"]), vectors["images"], vectors["texts"])


def compute(images: tuple[bytes, ...], texts: tuple[str, ...], folder: Path = CLIP_DIR) -> tuple[Vectors, Vectors]:
    """Compute vectors of images and of texts by open_clip alone, in float32, one by one, not normalized."""
    import open_clip
    import torch

    model, preprocess = open_clip.create_model_from_pretrained(f"local-dir:{folder}")
    tokenizer: Any = open_clip.get_tokenizer(f"local-dir:{folder}")
    model.eval()
    with torch.inference_mode():
        opened = [Image.open(io.BytesIO(content)).convert("RGB") for content in images]
        seen = [model.encode_image(preprocess(one).unsqueeze(0)) for one in opened]
        said = [model.encode_text(tokenizer([text])) for text in texts]
        return torch.cat(seen).numpy(), torch.cat(said).numpy()


def make(folder: Path = GOLDEN_DIR) -> None:
    """Draw, compute and write everything anew."""
    folder.mkdir(exist_ok=True)
    scenes = held_out_scenes(len(_FILES), _SEED)
    names = []
    for number, (scene, (width, height, kind)) in enumerate(zip(scenes, _FILES, strict=True)):
        side = max(width, height)
        left, top = (side - width) // 2, (side - height) // 2
        image = draw(scene, side).crop((left, top, left + width, top + height))
        names.append(f"{number}.{kind}")
        image.save(folder / names[-1], quality=85)
    texts = (*(caption(scene.facts) for scene in scenes[:3]), *_OTHER_TEXTS)
    images, said = compute(tuple((folder / name).read_bytes() for name in names), texts)
    (folder / "golden.json").write_text(
        json.dumps({"pictures": names, "texts": texts}, indent=2, ensure_ascii=False) + "\n", encoding="utf-8"
    )
    np.savez(folder / "vectors.npz", images=images, texts=said)


def main() -> None:
    """Make the golden files again, beside this module or in another folder."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, default=GOLDEN_DIR)
    make(parser.parse_args().folder)


if __name__ == "__main__":
    main()
