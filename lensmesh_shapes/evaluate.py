"""`python -m lensmesh_shapes.evaluate`: held-out figures of the committed models, as JSON.

Both models are loaded as any user would load them: open_clip's `local-dir:`, with its own
preprocessing, and transformers' `from_pretrained`, with its own processor.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn.functional import normalize

from lensmesh_shapes import CAPTIONER_DIR, CLIP_DIR, draw, facts_of, held_out_scenes, same_facts
from lensmesh_shapes.captions import caption, sample_wording
from lensmesh_shapes.data import IMAGE_PX, stored
from lensmesh_shapes.facts import Scene

CAPTION_TOKENS = 16
FILE_SIZES_PX = (96, 640)


def images(scenes: Sequence[Scene], as_files: bool, seed: int = 5) -> list[Image.Image]:
    """Draw the scenes at the models' size, or at mixed sizes as image files give them back."""
    if not as_files:
        return [draw(scene, IMAGE_PX) for scene in scenes]
    rng = np.random.default_rng(seed)
    made = []
    for number, scene in enumerate(scenes):
        image = draw(scene, int(rng.integers(FILE_SIZES_PX[0], FILE_SIZES_PX[1] + 1)))
        codec = ("PNG", "JPEG", "WEBP")[number % 3]
        # PNG loses nothing, so there is nothing to store and read back.
        made.append(image if codec == "PNG" else stored(image, codec, 85))
    return made


def _chunks(items: Sequence[Any], length: int = 100) -> Iterator[Sequence[Any]]:
    return (items[start : start + length] for start in range(0, len(items), length))


def retrieval(folder: Path, drawn: Sequence[Image.Image], texts: Sequence[str]) -> dict[str, float]:
    """Return text-to-image recall at 1 and 5, where text n states the facts of image n alone."""
    import open_clip

    model, preprocess = open_clip.create_model_from_pretrained(f"local-dir:{folder}")
    tokenizer = open_clip.get_tokenizer(f"local-dir:{folder}")
    with torch.inference_mode():
        seen = [model.encode_image(torch.stack([preprocess(one) for one in some])) for some in _chunks(drawn)]
        said = [model.encode_text(tokenizer(list(some))) for some in _chunks(texts)]
    return recalls(normalize(torch.cat(said)) @ normalize(torch.cat(seen)).T)


def recalls(scores: Tensor) -> dict[str, float]:
    """Compute recall from scores [texts, images], where the right image has the text's own number."""
    ranks = (scores > scores.diagonal()[:, None]).sum(dim=1).tolist()
    return {f"recall_at_{top}": sum(rank < top for rank in ranks) / len(ranks) for top in (1, 5)}


def captions(folder: Path, drawn: Sequence[Image.Image]) -> list[str]:
    """Return the captioner's words for each image."""
    from transformers import BlipForConditionalGeneration, BlipProcessor

    model = BlipForConditionalGeneration.from_pretrained(folder)
    processor: Any = BlipProcessor.from_pretrained(folder)
    told: list[str] = []
    with torch.inference_mode():
        for some in _chunks(drawn):
            inputs = processor(images=list(some), return_tensors="pt")
            ids = model.generate(**inputs, max_new_tokens=CAPTION_TOKENS)
            told += processor.batch_decode(ids, skip_special_tokens=True)
    return told


def caption_accuracy(scenes: Sequence[Scene], told: Sequence[str]) -> float:
    """Return the share of captions that state every fact of their scene."""
    pairs = zip(scenes, told, strict=True)
    right = [same_facts(scene.facts, facts_of(text)) for scene, text in pairs]
    return sum(right) / len(right)


def figures(clip: Path | None, captioner: Path | None, scene_count: int, caption_count: int) -> dict[str, Any]:
    """Compute all held-out figures, of drawings at the models' size and of files at mixed sizes."""
    scenes = held_out_scenes(scene_count)
    rng = np.random.default_rng(11)
    wordings = {
        "canonical": [caption(scene.facts) for scene in scenes],
        "varied": [sample_wording(scene.facts, rng) for scene in scenes],
    }
    report: dict[str, Any] = {"held_out_scenes": scene_count, "captioned_scenes": caption_count}
    for name, as_files in (("drawn", False), ("files", True)):
        drawn = images(scenes, as_files)
        report[name] = {}
        if clip is not None:
            for wording, texts in wordings.items():
                report[name][f"retrieval_{wording}"] = retrieval(clip, drawn, texts)
        if captioner is not None:
            told = captions(captioner, drawn[:caption_count])
            report[name]["captions_right"] = caption_accuracy(scenes[:caption_count], told)
    return report


def main() -> None:
    """Parse the command line and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clip", type=Path, default=CLIP_DIR)
    parser.add_argument("--captioner", type=Path, default=CAPTIONER_DIR)
    parser.add_argument("--only", choices=("clip", "captioner"))
    parser.add_argument("--scenes", type=int, default=1000)
    parser.add_argument("--captions", type=int, default=1000)
    options = parser.parse_args()
    report = figures(
        None if options.only == "captioner" else options.clip,
        None if options.only == "clip" else options.captioner,
        options.scenes,
        options.captions,
    )
    sys.stdout.write(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
