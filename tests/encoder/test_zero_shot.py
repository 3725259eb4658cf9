"""ClassifyImages beside open_clip's own arithmetic, and what the bundled model sees in drawn scenes."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import open_clip
import pytest
import torch
from PIL import Image

import lensmesh_shapes
from lensmesh.common.v1 import common_pb2
from lensmesh.encoder.v1 import encoder_pb2
from lensmesh_shapes.facts import COLOURS, SHAPES
from tests.encoder.helpers import png, rows, serving
from tests.encoder.tiny import write_folder

LABELS = ["cat", "dog", "bird"]
Request = encoder_pb2.ClassifyImagesRequest


def scene_file(scene: lensmesh_shapes.Scene) -> bytes:
    file = io.BytesIO()
    lensmesh_shapes.draw(scene, 64).save(file, "PNG")
    return file.getvalue()


async def test_open_clips_own_zero_shot_arithmetic_and_what_the_shapes_model_sees() -> None:
    scenes = [scene for scene in lensmesh_shapes.held_out_scenes(600, 11) if scene.facts.second is None]
    assert len(scenes) >= 20
    files = [scene_file(scene) for scene in scenes]
    labels = [f"{colour} {shape}" for colour in COLOURS for shape in SHAPES]
    templates = ["a small {}", "a large {}", "two small {}s", "three large {}s"]
    folder = f"local-dir:{lensmesh_shapes.CLIP_DIR}"
    model, preprocess = open_clip.create_model_from_pretrained(folder)
    tokenizer = open_clip.get_tokenizer(folder)
    with torch.inference_mode():
        classifier = open_clip.build_zero_shot_classifier(
            model, tokenizer, labels, [lambda word, one=one: one.replace("{}", word) for one in templates]
        )
        drawn = torch.stack([preprocess(Image.open(io.BytesIO(file))) for file in files])
        logits = model.logit_scale.exp() * model.encode_image(drawn, normalize=True) @ classifier
        expected = logits.softmax(dim=-1).numpy()
    async with serving(model="shapes", precision="float32", backend="torch") as served:
        answer = await served.stub.ClassifyImages(
            Request(images=[common_pb2.Image(content=file) for file in files], labels=labels, templates=templates)
        )
        by_colour = await served.stub.ClassifyImages(
            Request(
                images=[common_pb2.Image(content=file) for file in files],
                labels=COLOURS,
                templates=[f"a {{}} {shape}" for shape in SHAPES],
            )
        )
    ours = rows(answer)
    # Of probabilities up to 1: what another order of the same sums makes of them.
    assert np.abs(ours - expected).max() < 1e-4
    right = [labels.index(f"{scene.facts.first.colour} {scene.facts.first.shape}") for scene in scenes]
    assert np.mean(ours.argmax(axis=1) == right) >= 0.95
    colours = [COLOURS.index(scene.facts.first.colour) for scene in scenes]
    assert np.mean(rows(by_colour).argmax(axis=1) == colours) >= 0.95


async def test_a_siglip_model_gives_each_label_its_own_probability(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "siglip", "siglip")
    model, preprocess = open_clip.create_model_from_pretrained(f"local-dir:{folder}")
    tokenizer = open_clip.get_tokenizer(f"local-dir:{folder}")
    file = png(3)
    with torch.inference_mode():
        seen = model.encode_image(preprocess(Image.open(io.BytesIO(file)).convert("RGB")).unsqueeze(0), normalize=True)
        said = model.encode_text(tokenizer([f"a photo of {label}" for label in LABELS]), normalize=True)
        expected = torch.sigmoid(seen @ said.T * model.logit_scale.exp() + model.logit_bias).numpy()
    async with serving(model=f"local-dir:{folder}", precision="float32", backend="torch") as served:
        info = (await served.stub.GetInfo(encoder_pb2.GetInfoRequest())).models[0]
        answer = await served.stub.ClassifyImages(Request(images=[common_pb2.Image(content=file)], labels=LABELS))
    assert info.label_scoring == encoder_pb2.LABEL_SCORING_SIGMOID
    assert info.logit_bias == pytest.approx(model.logit_bias.item())
    np.testing.assert_allclose(rows(answer), expected, rtol=1e-3)
