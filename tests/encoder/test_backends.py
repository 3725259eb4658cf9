"""The encoder on its backends: parity whatever the tower, int8 in a space of its own, several workers, a warm cache."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import open_clip
import pytest
import torch
from PIL import Image

from encoder_svc.evaluate import compare, image_vectors, scenes, text_vectors
from encoder_svc.model import EncoderInput
from encoder_svc.models import openclip_load as loading
from encoder_svc.models.golden import Golden, stored
from encoder_svc.models.load import load_model
from encoder_svc.settings import EncoderSettings
from lensmesh_chassis.errors import InternalFault, PreconditionFailed
from lensmesh_chassis.reasons import Reason
from lensmesh_inference.backends import openvino_tower
from lensmesh_inference.backends.tower import TowerSpec
from lensmesh_inference.devices import cpu_has_bfloat16
from tests.encoder.tiny import write_folder, write_hugging_face_folder

TEXTS = ["a photo of a cat", "ein Gruß, 日本語 & <b>tags</b>", "word " * 100]


def photographs() -> list[bytes]:
    """Images that are larger and smaller than the towers' own size."""
    files = []
    for number, size in enumerate([(300, 200), (90, 333), (20, 20)]):
        noise = np.random.default_rng(number).integers(0, 256, (9, 13, 3), dtype=np.uint8)
        file = io.BytesIO()
        Image.fromarray(noise).resize(size, Image.Resampling.BICUBIC).save(file, "JPEG", quality=95)
        files.append(file.getvalue())
    return files


def by_open_clip(name: str, contents: list[bytes]) -> tuple[np.ndarray, np.ndarray]:
    """Unit vectors as open_clip's documentation computes them."""
    model, preprocess = open_clip.create_model_from_pretrained(name)
    tokenizer = open_clip.get_tokenizer(name)
    model.eval()
    with torch.no_grad():
        opened = [Image.open(io.BytesIO(content)).convert("RGB") for content in contents]
        images = [model.encode_image(preprocess(one).unsqueeze(0), normalize=True) for one in opened]
        texts = [model.encode_text(tokenizer([text]), normalize=True) for text in TEXTS]
    return torch.cat(images).numpy(), torch.cat(texts).numpy()


@pytest.mark.parametrize(
    ("kind", "backend"),
    [
        ("custom", "torch"),
        ("mobileclip", "torch"),
        ("hugging-face", "torch"),
        ("clip", "openvino"),
        ("coca", "openvino"),
        ("mobileclip", "openvino"),
    ],
)
def test_any_tower_on_any_backend_is_open_clips(kind: str, backend: str, tmp_path: Path) -> None:
    folder = tmp_path / kind
    write_hugging_face_folder(folder) if kind == "hugging-face" else write_folder(folder, kind)
    settings = EncoderSettings.model_validate({"backend": backend, "precision": "float32"})
    model = load_model(f"local-dir:{folder}", settings)
    contents = photographs()
    assert model.facts.backend == backend
    assert model.facts.parity_cosine is not None
    assert 0.9999 < model.facts.parity_cosine <= 1
    images, texts = by_open_clip(f"local-dir:{folder}", contents)
    assert (image_vectors(model, contents, settings) * images).sum(axis=1).min() > 0.9995
    assert (text_vectors(model, TEXTS) * texts).sum(axis=1).min() > 0.99999


def test_int8_has_a_space_of_its_own_and_finds_as_much(tmp_path: Path) -> None:
    """A sample of what `python -m encoder_svc.evaluate` measures in full."""
    settings = EncoderSettings(model="shapes", precision="int8", compiled_dir=str(tmp_path))
    report = compare(settings, *scenes(100))
    exact, asked = report["float32"], report["asked"]
    assert asked["backend"] == "openvino+torch"
    # The text tower takes what is fastest here, as without int8.
    images, texts = asked["precision"].split("+")
    assert images == "int8"
    assert texts in ({"float32", "bfloat16"} if cpu_has_bfloat16() else {"float32"})
    assert asked["space"] != exact["space"]
    assert 0.995 <= asked["parity_cosine"] < 0.999_99
    assert report["cosine"]["mean"] > 0.995
    # One scene of the hundred.
    assert asked["recall_at_1"] >= exact["recall_at_1"] - 0.01


def test_int8_needs_a_cpu_and_its_own_backend() -> None:
    with pytest.raises(PreconditionFailed, match="openvino on CPUs"):
        load_model("shapes", EncoderSettings(precision="int8", backend="torch"))


def test_a_calibration_folder_without_images_is_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("no image")
    with pytest.raises(PreconditionFailed, match=r"calibration_dir .* at least 16"):
        load_model("shapes", EncoderSettings(precision="int8", calibration_dir=str(tmp_path)))


def test_a_restart_converts_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    converted: list[str] = []
    real = openvino_tower.convert

    def convert(network: TowerSpec) -> object:
        converted.append(network.name)
        return real(network)

    monkeypatch.setattr(openvino_tower, "convert", convert)
    settings = EncoderSettings(backend="openvino", precision="float32", compiled_dir=str(tmp_path / "compiled"))
    name = f"local-dir:{write_folder(tmp_path / 'clip')}"
    first = load_model(name, settings).facts
    assert converted == ["image", "text"]
    assert load_model(name, settings).facts == first
    assert converted == ["image", "text"]


def test_two_workers_share_the_cores_and_the_weights() -> None:
    model = load_model("shapes", EncoderSettings(device="cpu:2", threads=2, backend="torch", precision="float32"))
    workers = model.workers()
    assert len(workers) == 2
    assert [device.threads for device in model.devices()] == [1, 1]
    prepared = [model.prepare_text(text) for text in TEXTS[:1]]
    one, two = (worker(prepared)[0] for worker in workers)
    np.testing.assert_allclose(np.asarray(one), np.asarray(two), atol=1e-6)
    images = [pair[0] for pair in model._pairs]  # type: ignore[attr-defined]
    assert images[0].module is images[1].module


def test_a_model_that_is_not_open_clips_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    known = stored()
    other = Golden(known.images, known.texts, known.image_vectors[::-1], known.text_vectors)
    monkeypatch.setattr(loading, "stored", lambda: other)
    with pytest.raises(PreconditionFailed, match=r"at least 0\.9995 is required\. Set precision to float32"):
        load_model("shapes", EncoderSettings(backend="torch", precision="float32"))


def test_an_error_of_the_worker_is_no_parity() -> None:
    fault = InternalFault(Reason.MODEL_FAILED, "It answered NaN.")
    golden = stored()
    prepared = [EncoderInput("image", None)] * len(golden.images) + [EncoderInput("text", None)] * len(golden.texts)
    assert np.isnan(golden.parity(lambda batch: [fault] * len(batch), prepared))
