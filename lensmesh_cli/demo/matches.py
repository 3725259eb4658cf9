"""The demo's matches: a stored image that was photographed again, and one that was never stored."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

from lensmesh_cli.demo.samples import QUALITY, SCENE_SEED, DemoImage
from lensmesh_cli.match.show import MatchedFile

if TYPE_CHECKING:
    from PIL import Image

    from lensmesh_client import Client, IngestResult

TITLE: Final = "Which image is it, if any?"
NOTE: Final = "match: a stored image that was photographed again, and one that was never stored"
# What a hand-held camera does: it stands aside, is not quite in focus, and has grain.
_ASIDE, _BLUR, _GRAIN, _JPEG_QUALITY = 0.12, 0.004, 4.0, 60
_SEED: Final = 5
_STRANGER_PX: Final = 400
_LARGEST_PX: Final = 800


def keeps_local_features() -> bool:
    """Tell whether matches can be verified by geometry: OpenCV is installed where the mesh runs, which is here."""
    from importlib.util import find_spec

    return find_spec("cv2") is not None


async def matches(
    client: Client, collection: str, samples: Sequence[DemoImage], results: Sequence[IngestResult], folder: Path
) -> list[MatchedFile]:
    """Match both images. Return none where no stored image can be opened."""
    import asyncio

    paths = await asyncio.to_thread(_draw, samples, [result for result in results if result.ok], folder)
    if not paths:
        return []
    found = await client.match(paths, collection=collection)
    return [MatchedFile(path, one) for path, one in zip(paths, found, strict=True)]


def _draw(samples: Sequence[DemoImage], stored: Sequence[IngestResult], folder: Path) -> list[Path]:
    from lensmesh_shapes import draw, held_out_scenes

    # The largest scenes of two groups have most to be recognised by.
    chosen = sorted((samples[result.index] for result in stored), key=_details, reverse=True)
    for sample in chosen[:3]:
        again = _photographed(sample.path)
        if again is not None:
            path = folder / f"photograph-of-{sample.path.stem}.jpg"
            path.write_bytes(again)
            stranger = folder / "stranger.jpg"
            scene = held_out_scenes(len(samples) + 1, SCENE_SEED)[-1]
            draw(scene, _STRANGER_PX).save(stranger, quality=QUALITY)
            return [path, stranger]
    return []


def _details(sample: DemoImage) -> tuple[bool, int]:
    side = sample.metadata.get("side_px", 0)
    return sample.facts is not None and sample.facts.second is not None, side if isinstance(side, int) else 0


def _photographed(path: Path) -> bytes | None:
    """Return a photograph of the image as a JPEG file; None where the image cannot be opened here."""
    from PIL import Image, ImageFilter, ImageOps

    from lensmesh_chassis.files import read_file
    from lensmesh_cli.thumbnails import MAX_BYTES, MAX_PIXELS

    try:
        with Image.open(io.BytesIO(read_file(path, MAX_BYTES).data)) as opened:
            if opened.width * opened.height > MAX_PIXELS:
                return None
            image = ImageOps.exif_transpose(opened).convert("RGB")
    except Exception:  # noqa: BLE001  # Pillow raises many kinds for damaged files, and the demo goes without them
        return None
    image.thumbnail((_LARGEST_PX, _LARGEST_PX))
    seen = _seen(image).filter(ImageFilter.GaussianBlur(min(image.size) * _BLUR))
    file = io.BytesIO()
    _grainy(seen).save(file, "JPEG", quality=_JPEG_QUALITY)
    return file.getvalue()


def _seen(image: Image.Image) -> Image.Image:
    import numpy as np

    from lensmesh_shapes.perspective import seen_aside

    return seen_aside(image, np.random.default_rng(_SEED), _ASIDE)


def _grainy(image: Image.Image) -> Image.Image:
    import numpy as np
    from PIL import Image

    grain = np.random.default_rng(_SEED).normal(0, _GRAIN, (image.height, image.width, 1))
    return Image.fromarray((np.asarray(image, np.float32) + grain).clip(0, 255).astype(np.uint8))
