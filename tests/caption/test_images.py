"""A captioner whose processor resizes as ours cannot: transformers' own code does it."""

from __future__ import annotations

import io
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from PIL import Image

from caption_svc.models.blip import load_blip
from lensmesh_inference.images.decoder import ImageDecoder
from lensmesh_inference.images.limits import ImageLimits
from lensmesh_inference.models import ModelKind
from tests.caption.fakes import ON_CPU

LANCZOS = 1
hub: Any = transformers


def test_a_filter_that_only_pillow_has(
    tiny_folder: Path, tmp_path: Path, contents: list[bytes], caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "lanczos"
    shutil.copytree(tiny_folder, folder)
    for path in folder.glob("*processor_config.json"):
        described = json.loads(path.read_text())
        described.get("image_processor", described)["resample"] = LANCZOS
        path.write_text(json.dumps(described))
    model = load_blip(folder, name="tiny", kind=ModelKind.LOCAL, compute=ON_CPU)
    assert "transformers' own code" in caplog.text
    processor = hub.AutoImageProcessor.from_pretrained(folder, backend="pil")
    for content in contents[:3]:
        pixels = model.prepare(content, ImageDecoder(ImageLimits()), "image")
        with Image.open(io.BytesIO(content)) as image:
            numbers = processor(image.convert("RGB"), do_rescale=False, do_normalize=False, return_tensors="pt")
        assert pixels.dtype == torch.uint8
        assert torch.equal(pixels.float(), numbers["pixel_values"][0].float())
