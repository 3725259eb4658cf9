"""Any BLIP captioner of transformers: the real ones and the bundled shapes model alike."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeAlias

import torch
from PIL import Image

from caption_svc.model import CaptionerFacts, Plan, Worker
from caption_svc.models.decoder import Decoder
from caption_svc.models.describing import Describer, Language
from caption_svc.models.parity import check_parity, parity, reference
from caption_svc.models.vision import VisionTower
from caption_svc.models.vocabulary import Vocabulary
from caption_svc.models.weights import Parts, load_parts
from lensmesh_chassis.errors import InvalidInput
from lensmesh_chassis.reasons import Reason
from lensmesh_inference.backends.choice import open_towers
from lensmesh_inference.backends.pixels import PixelTower
from lensmesh_inference.backends.tower import Placement, Tower, TowerSpec, in_precision
from lensmesh_inference.devices import (
    DeviceFacts,
    choose_devices,
    choose_precision,
    describe_device,
    parse_devices,
    threads_each,
)
from lensmesh_inference.digest import content_digest, weights_digest
from lensmesh_inference.golden import golden_png
from lensmesh_inference.images.decoder import ImageDecoder, LibraryTransform
from lensmesh_inference.images.limits import ImageLimits
from lensmesh_inference.images.transform import Transform, UnknownTransformError, normalize_of_processor
from lensmesh_inference.images.transparency import Transparency
from lensmesh_inference.models import ModelKind
from lensmesh_inference.options import ComputeOptions
from lensmesh_inference.tokenization import tokenization

_log = logging.getLogger(__name__)

ImageTransform: TypeAlias = "Transform | LibraryTransform"


class BlipCaptioner:
    """A loaded captioner; a `CaptionModel`.

    Each of its workers belongs to one thread. All else may be called from any thread.
    """

    def __init__(
        self,
        facts: CaptionerFacts,
        describers: Sequence[Describer],
        devices: Sequence[torch.device],
        transform: ImageTransform,
        words: Vocabulary,
        positions: int,
    ) -> None:
        self.facts = facts
        self._describers = describers
        self._devices = devices
        self._transform = transform
        self._words = words
        self._positions = positions
        self.input_bytes: int = _golden(transform).nbytes

    def devices(self) -> Sequence[DeviceFacts]:
        """Return each device once, however many workers share it."""
        return [describe_device(device) for device in dict.fromkeys(self._devices)]

    def plan(self, prompt: str, max_tokens: int, beams: int) -> Plan:
        """Tokenize the prompt, and cut `max_tokens` to the positions that the decoder has left after it.

        Raises ``InvalidInput`` for a prompt that leaves none.
        """
        ids = self._words.encode(prompt)
        left = self._positions - len(ids)
        if left < 1:
            raise InvalidInput(
                Reason.TEXT_TOO_LONG,
                f"options.prompt has {len(ids)} tokens, {self.facts.name} takes {self._positions - 1}: shorten it.",
                field="options.prompt",
                metadata={"tokens": len(ids), "max_tokens": self._positions - 1},
            )
        return Plan(prompt, ids, min(max_tokens, left), beams)

    def prepare(
        self, content: bytes, decoder: ImageDecoder, field: str, transparency: Transparency = Transparency.DROP
    ) -> torch.Tensor:
        """Return an image's pixels, uint8 of shape (3, height, width).

        They are as the model's own processor makes them before it normalizes.
        """
        return decoder.prepare(content, self._transform, field, transparency=transparency).pixels

    def workers(self) -> Sequence[Worker]:
        """Return one worker for each device, or as many as share the CPU."""
        return [describer.caption for describer in self._describers]


def load_blip(folder: Path, *, name: str, kind: ModelKind, compute: ComputeOptions) -> BlipCaptioner:
    """Load a captioner from a folder and compare it with transformers' own float32 answers.

    Raises ``NotFound`` or ``PreconditionFailed`` for a folder, device, backend or precision that cannot be used.
    """
    workers = parse_devices(compute.device)
    threads = threads_each(compute.threads, workers)
    torch.set_num_threads(threads)
    devices = choose_devices(compute.device)
    parts = load_parts(folder)
    network, text = parts.network, parts.network.config.text_config
    digest = weights_digest(network.state_dict())
    processor = parts.image_processor.to_dict()
    normalize, transform = normalize_of_processor(processor), _transform(parts, processor)
    # All that decides what the network answers to pixels.
    key = content_digest(json.dumps([digest, network.config.to_dict(), repr(normalize)], default=str).encode())
    golden = _golden(transform)[None]
    known = reference(network, golden, normalize, key, compute.folder)
    module = PixelTower(VisionTower(network.vision_model), normalize.scale, normalize.shift).eval()
    vision = TowerSpec("caption-vision", module, key, torch.cat([golden, golden.flip(-1)]))
    # On a GPU the decoder takes the states where they are, and a tower of this size has little to gain from graphs.
    places = [Placement(device, threads, max_batch=0) for device in devices]
    towers = open_towers(vision, compute.backend, compute.precision, places, compute.folder)
    language = Language(Vocabulary(parts.tokenizer), text.bos_token_id, text.sep_token_id)
    decoders = _decoders(network.text_decoder, towers, devices)
    describers = [Describer(name, tower, decoder, language) for tower, decoder in zip(towers, decoders, strict=True)]
    cosine = min(parity(describer, golden, known) for describer in dict(zip(devices, describers, strict=True)).values())
    check_parity(cosine, f"{name} by {towers[0].backend} in {towers[0].precision}")
    facts = CaptionerFacts(
        name=name,
        weights_digest=digest,
        kind=kind,
        backend=towers[0].backend,
        precision=towers[0].precision,
        requested_device=compute.device,
        parity_cosine=cosine,
        answers_digest=content_digest(
            json.dumps(
                [key, processor, parts.tokenizer.get_vocab(), tokenization(parts.tokenizer)],
                sort_keys=True,
                default=str,
            ).encode()
        ),
    )
    return BlipCaptioner(facts, describers, devices, transform, language.words, text.max_position_embeddings)


def _decoders(network: Any, towers: Sequence[Tower], devices: Sequence[torch.device]) -> list[Decoder]:
    """Make one decoder for each tower, in the tower's precision.

    Decoders of one device share their weights.
    """
    made: dict[torch.device, Decoder] = {}
    for tower, device in zip(towers, devices, strict=True):
        if device not in made:
            dtype = choose_precision(device, tower.precision)
            made[device] = Decoder(in_precision(network, dtype, device))
    return [made[device] for device in devices]


def _transform(parts: Parts, config: dict[str, Any]) -> ImageTransform:
    try:
        return Transform.from_processor(config)
    except UnknownTransformError as error:
        _log.warning("images are resized by transformers' own code, which is slower: %s", error)
    processor = parts.image_processor

    def library(image: Image.Image) -> torch.Tensor:
        pixels = processor(images=image, do_rescale=False, do_normalize=False, return_tensors="pt")["pixel_values"]
        return torch.as_tensor(pixels[0]).round().to(torch.uint8)

    return library


def _golden(transform: ImageTransform) -> torch.Tensor:
    return ImageDecoder(ImageLimits()).prepare(golden_png(), transform, "golden image").pixels
