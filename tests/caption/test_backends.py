"""The vision tower on each backend, several workers, and the check at start that what they see is right."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers

from caption_svc.model import Caption, CaptionerInput
from caption_svc.models.blip import BlipCaptioner, load_blip
from caption_svc.models.decoder import Decoder
from caption_svc.models.describing import Describer, Language
from caption_svc.models.parity import MIN_COSINE, check_parity, parity, reference
from caption_svc.models.vision import VisionTower
from caption_svc.models.vocabulary import Vocabulary
from caption_svc.models.weights import load_parts
from lensmesh_chassis.errors import PreconditionFailed
from lensmesh_chassis.reasons import Reason
from lensmesh_inference.backends.folder import CompiledFolder
from lensmesh_inference.backends.tower import Array
from lensmesh_inference.batching.faults import DeviceLost, OutOfMemory
from lensmesh_inference.images.decoder import ImageDecoder
from lensmesh_inference.images.limits import ImageLimits
from lensmesh_inference.images.normalize import Normalize
from lensmesh_inference.models import ModelKind
from lensmesh_inference.options import ComputeOptions
from tests.caption.fakes import ON_CPU

hub: Any = transformers


def load(folder: Path, compute: ComputeOptions) -> BlipCaptioner:
    return load_blip(folder, name="tiny", kind=ModelKind.LOCAL, compute=compute)


def jobs(model: BlipCaptioner, contents: Sequence[bytes]) -> list[CaptionerInput]:
    decoder, plan = ImageDecoder(ImageLimits()), model.plan("", 12, 1)
    return [CaptionerInput(model.prepare(content, decoder, "image"), plan) for content in contents]


def texts(model: BlipCaptioner, contents: Sequence[bytes], worker: int = 0) -> list[str]:
    answers = model.workers()[worker](jobs(model, contents))
    return [answer.text for answer in answers if isinstance(answer, Caption)]


def test_openvino_says_the_same(tiny_folder: Path, contents: list[bytes], tmp_path: Path) -> None:
    pytest.importorskip("openvino")
    compiled = CompiledFolder(tmp_path / "compiled")
    by_openvino = load(
        tiny_folder, ComputeOptions(device="cpu", backend="openvino", precision="float32", folder=compiled)
    )
    assert (by_openvino.facts.backend, by_openvino.facts.precision) == ("openvino", "float32")
    assert by_openvino.facts.parity_cosine == pytest.approx(1, abs=1e-4)
    expected = texts(load(tiny_folder, ON_CPU), contents)
    assert texts(by_openvino, contents) == expected
    # Of another batch size than any before, and alone.
    assert [*texts(by_openvino, contents[:3]), *texts(by_openvino, contents[3:4])] == expected[:4]
    assert len(set(expected)) >= 4


def test_a_restart_needs_no_reference(
    tiny_folder: Path, contents: list[bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compute = ComputeOptions(
        device="cpu", backend="torch", precision="float32", folder=CompiledFolder(tmp_path / "compiled")
    )
    first = load(tiny_folder, compute)

    def computed(*_: object, **__: object) -> None:
        raise AssertionError("transformers' own tower was asked again")

    monkeypatch.setattr(hub.BlipVisionModel, "forward", computed)
    again = load(tiny_folder, compute)
    assert again.facts == first.facts
    assert texts(again, contents[:2]) == texts(first, contents[:2])
    # The lever is the right one: without the folder the reference is made.
    with pytest.raises(AssertionError, match="asked again"):
        load(tiny_folder, ON_CPU)


def test_workers_that_share_the_cpu_say_the_same(tiny_folder: Path, contents: list[bytes]) -> None:
    model = load(tiny_folder, ComputeOptions(device="cpu:2", backend="torch", precision="float32", threads=2))
    assert len(model.workers()) == 2
    assert [device.id for device in model.devices()] == ["cpu"]
    expected = texts(model, contents)
    with ThreadPoolExecutor(2) as threads:
        answers = [threads.submit(texts, model, contents, worker) for worker in (0, 1, 0, 1)]
        assert [answer.result() for answer in answers] == [expected] * 4


class Spoilt:
    """A tower that sees something else, or fails."""

    name, backend, precision = "caption-vision", "openvino", "int8"

    def __init__(self, states: Array, error: Exception | None = None) -> None:
        self.states = states
        self.error = error

    def run(self, batch: torch.Tensor) -> Array:
        if self.error is not None:
            raise self.error
        return self.states.copy()


@pytest.fixture
def parts(tiny_folder: Path) -> Any:
    return load_parts(tiny_folder)


def describer(parts: Any, tower: Any) -> Describer:
    text = parts.network.config.text_config
    language = Language(Vocabulary(parts.tokenizer), text.bos_token_id, text.sep_token_id)
    return Describer("tiny", tower, Decoder(parts.network.text_decoder), language)


def test_a_tower_that_sees_something_else_is_refused(parts: Any) -> None:
    pixels = torch.randint(0, 256, (1, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(3))
    known = reference(parts.network, pixels, Normalize(), "key", CompiledFolder(None))
    assert parity(describer(parts, Spoilt(known[0])), pixels, known) > 0.9999
    noise = np.random.default_rng(0).normal(size=known[0].shape).astype(np.float32)
    for seen in (noise, -known[0], known[0] + np.float32(np.nan)):
        cosine = parity(describer(parts, Spoilt(seen)), pixels, known)
        assert not cosine >= MIN_COSINE
        with pytest.raises(PreconditionFailed, match="Set the precision to float32") as caught:
            check_parity(cosine, "tiny by openvino in int8")
        assert caught.value.reason is Reason.MODEL_FAILED


def test_the_tower_is_transformers_own(parts: Any) -> None:
    pixels = torch.rand(3, 3, 32, 32, generator=torch.Generator().manual_seed(4)) * 4 - 2
    with torch.inference_mode():
        expected = parts.network.vision_model(pixel_values=pixels).last_hidden_state
        torch.testing.assert_close(VisionTower(parts.network.vision_model)(pixels), expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (MemoryError(), OutOfMemory),
        (torch.OutOfMemoryError("CUDA out of memory"), OutOfMemory),
        (RuntimeError("CUDA error: device-side assert triggered"), DeviceLost),
        (RuntimeError("this image"), RuntimeError),
    ],
)
def test_what_the_device_reports_is_told_apart(
    parts: Any, tiny_folder: Path, contents: list[bytes], error: Exception, kind: type[Exception]
) -> None:
    batch = jobs(load(tiny_folder, ON_CPU), contents[:2])
    with pytest.raises(kind):
        describer(parts, Spoilt(np.zeros((2, 17, 32), np.float32), error)).caption(batch)
