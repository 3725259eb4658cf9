"""The service's vectors are open_clip's own: the same weights called directly, whatever the tower."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import open_clip
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

import lensmesh_shapes
from lensmesh.common.v1 import common_pb2
from lensmesh.encoder.v1 import encoder_pb2
from tests.encoder.helpers import Served, serving, vector
from tests.encoder.tiny import write_folder

TEXTS = [
    "a photo of a cat",
    "two small red squares left of a blue circle",
    "word " * 100,
    "ein Gruß, 日本語 & <b>tags</b>",
]
Vectors = npt.NDArray[np.float32]


@pytest.fixture(scope="module")
def paths(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Files of several formats, sizes and modes, none of a model's own size."""
    folder = tmp_path_factory.mktemp("images")
    noise = np.random.default_rng(3).integers(0, 256, (40, 60, 3), dtype=np.uint8)
    smooth = Image.fromarray(noise).resize((300, 200), Image.Resampling.BICUBIC)
    smooth.save(folder / "a.jpg", quality=90)
    smooth.resize((90, 333)).save(folder / "b.png")
    smooth.convert("P").save(folder / "c.gif")
    smooth.convert("CMYK").save(folder / "d.jpg")
    smooth.convert("L").save(folder / "e.webp")
    Image.new("RGB", (1, 1), (200, 30, 90)).save(folder / "f.bmp")
    return sorted(folder.iterdir())


def direct(name: str, paths: list[Path], pretrained: str | None = None, **options: Any) -> tuple[Vectors, Vectors]:
    """Image and text vectors as open_clip's documentation computes them, in float32, one by one.

    Images are made RGB before they are resized: open_clip's transform would resize a palette's indices.
    """

    def load(path: Path) -> Image.Image:
        with Image.open(path) as opened:
            return opened.convert("RGB")

    model, preprocess = open_clip.create_model_from_pretrained(name, pretrained=pretrained, **options)
    tokenizer = open_clip.get_tokenizer(name)
    model.eval()
    with torch.no_grad():
        images = [model.encode_image(preprocess(load(path)).unsqueeze(0), normalize=True) for path in paths]
        texts = [model.encode_text(tokenizer([text]), normalize=True) for text in TEXTS]
    return torch.cat(images).numpy(), torch.cat(texts).numpy()


async def served_vectors(served: Served, paths: list[Path]) -> tuple[Vectors, Vectors]:
    images = [common_pb2.Image(content=path.read_bytes()) for path in paths]
    image_results = (await served.stub.EncodeImages(encoder_pb2.EncodeImagesRequest(images=images))).results
    text_results = (await served.stub.EncodeTexts(encoder_pb2.EncodeTextsRequest(texts=TEXTS))).results
    assert text_results[2].truncated
    assert not text_results[0].truncated
    return (
        np.stack([vector(result.embedding) for result in image_results]),
        np.stack([vector(result.embedding) for result in text_results]),
    )


def lowest_cosine(ours: tuple[Vectors, Vectors], theirs: tuple[Vectors, Vectors]) -> float:
    for mine, other in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(np.linalg.norm(mine, axis=1), 1, atol=1e-5)
        assert mine.shape == other.shape
    return min(float((mine * other).sum(axis=1).min()) for mine, other in zip(ours, theirs, strict=True))


async def test_the_shapes_pack(paths: list[Path]) -> None:
    async with serving(model="shapes", precision="float32") as served:
        info = await served.stub.GetInfo(encoder_pb2.GetInfoRequest())
        ours = await served_vectors(served, paths)
    assert info.models[0].model.kind == common_pb2.MODEL_KIND_DEMONSTRATION
    assert lowest_cosine(ours, direct(f"local-dir:{lensmesh_shapes.CLIP_DIR}", paths)) >= 0.999_99


@pytest.mark.parametrize("kind", ["clip", "siglip", "coca"])
async def test_every_kind_of_tower(kind: str, tmp_path: Path, paths: list[Path]) -> None:
    name = f"local-dir:{write_folder(tmp_path / kind, kind)}"
    async with serving(model=name, precision="float32") as served:
        info = await served.stub.GetInfo(encoder_pb2.GetInfoRequest())
        ours = await served_vectors(served, paths)
    assert info.models[0].spaces[0].dimension == 24
    assert info.models[0].context_tokens == {"clip": 77, "siglip": 16, "coca": 76}[kind]
    assert lowest_cosine(ours, direct(name, paths)) >= 0.999_99


async def test_vit_b_32_at_full_size(tmp_path: Path, paths: list[Path]) -> None:
    """Random weights in a folder as the hub has it."""
    torch.manual_seed(5)
    weights = open_clip.create_model("ViT-B-32").state_dict()
    save_file({name: tensor.half() for name, tensor in weights.items()}, tmp_path / "open_clip_model.safetensors")
    preprocess = {"mean": open_clip.OPENAI_DATASET_MEAN, "std": open_clip.OPENAI_DATASET_STD}
    described = {"model_cfg": open_clip.get_model_config("ViT-B-32"), "preprocess_cfg": preprocess}
    (tmp_path / "open_clip_config.json").write_text(json.dumps(described))
    name = f"local-dir:{tmp_path}"
    # Converting a network of this size for OpenVINO would take a minute.
    async with serving(model=name, backend="torch", precision="float32") as served:
        ours = await served_vectors(served, paths[:3])
    assert ours[0].shape == (3, 512)
    assert lowest_cosine(ours, direct(name, paths[:3])) >= 0.999_99


async def test_bfloat16(tmp_path: Path, paths: list[Path]) -> None:
    name = f"local-dir:{write_folder(tmp_path / 'clip')}"
    async with serving(model=name, precision="bfloat16") as served:
        info = await served.stub.GetInfo(encoder_pb2.GetInfoRequest())
        ours = await served_vectors(served, paths)
    async with serving(model=name, precision="float32") as served:
        exact = await served.stub.GetInfo(encoder_pb2.GetInfoRequest())
    assert info.models[0].model.precision == "bfloat16"
    # Precision is no part of a space: both processes may write to one collection.
    assert info.models[0].spaces == exact.models[0].spaces
    assert lowest_cosine(ours, direct(name, paths)) >= 0.9995


async def test_batched_and_alone_are_the_same(paths: list[Path]) -> None:
    async with serving(model="shapes", precision="float32", max_batch=1) as served:
        alone = await served_vectors(served, paths)
    async with serving(model="shapes", precision="float32", max_batch=32) as served:
        batched = await served_vectors(served, paths)
    assert lowest_cosine(alone, batched) >= 0.999_99
