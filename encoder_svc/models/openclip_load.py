"""The loading of an open_clip model: it is found, read, named, given to backends and compared with open_clip."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Final

import open_clip
import torch
from timm.models import reparameterize_model

from encoder_svc.model import EncoderInput
from encoder_svc.models.calibration import calibration
from encoder_svc.models.description import describe, preprocessing_facts
from encoder_svc.models.golden import Golden, computed, stored
from encoder_svc.models.locate import Located, locate, make_tokenizer
from encoder_svc.models.openclip import Inputs, OpenClipModel
from encoder_svc.models.preprocessing import preprocessing_of
from encoder_svc.models.sources import Form, Source
from encoder_svc.models.tokens import Tokens
from encoder_svc.models.towers import CausalTextTower, ImageTower, text_tower, used_tokens
from lensmesh_chassis.errors import PreconditionFailed
from lensmesh_chassis.reasons import Reason
from lensmesh_inference.backends.choice import open_towers
from lensmesh_inference.backends.parity import required
from lensmesh_inference.backends.pixels import PixelTower
from lensmesh_inference.backends.quantization import RECIPE
from lensmesh_inference.backends.tower import Placement, Tower, TowerSpec
from lensmesh_inference.backends.versions import versions
from lensmesh_inference.devices import choose_devices, parse_devices, threads_each
from lensmesh_inference.digest import Json, json_digest, weights_digest
from lensmesh_inference.images.decoder import ImageDecoder
from lensmesh_inference.images.limits import ImageLimits
from lensmesh_inference.models import model_error
from lensmesh_inference.options import ComputeOptions

_RANDOM_SEED: Final = 0
# Rows of the batches that backends are measured with, and for causal towers how many texts, the shortest ones.
_EXAMPLE_ROWS: Final = 8
_EXAMPLE_TEXTS: Final = 4
_log = logging.getLogger(__name__)


def load(source: Source, compute: ComputeOptions, *, calibration_dir: str, allow_download: bool) -> OpenClipModel:
    """Load one model. Blocks for seconds, and for minutes where something has to be compiled first.

    Raises ``PreconditionFailed`` for a model that cannot be served as configured.
    """
    places = _places(compute)
    located = locate(source, allow_download=allow_download)
    tokenizer = make_tokenizer(located, allow_download=allow_download)
    model = _create(located)
    # Named by its float32 tensors, whatever it computes in: the same model has one space on every machine.
    digest = weights_digest(model.state_dict())
    described = preprocessing_facts(model.visual.preprocess_cfg, tokenizer)
    key: Json = {
        "weights": digest,
        "architecture": located.model_config,
        "preprocessing": described,
        "versions": versions("lensmesh", "open_clip_torch", "timm", "transformers"),
    }
    texts = text_tower(model)
    preprocessing = preprocessing_of(model.visual.preprocess_cfg)
    if source.form is Form.SHAPES:
        golden = stored()
    else:
        golden = computed(model, preprocessing.library, tokenizer, key, compute.folder)
    # Last: the tokenizer is theirs from now on.
    inputs = Inputs(preprocessing, Tokens(tokenizer), used_tokens(texts))
    if not golden.is_finite:
        raise model_error(f"{source.name} answers NaN even by open_clip itself in float32: its weights are damaged.")
    prepared, words = _prepared(inputs, golden)

    learnt, quantization = None, "none"
    if compute.precision == "int8":
        decoder = ImageDecoder(ImageLimits())
        learnt = calibration(calibration_dir, lambda content: inputs.image(content, decoder).data)
        quantization = f"int8.{RECIPE}/{learnt.name}"
    facts = describe(
        source,
        located,
        model,
        described,
        digest=digest,
        quantization=quantization,
        device=compute.device,
        image_bytes=prepared[0].data.nbytes,
    )
    seeing = _image_network(model, inputs, json_digest(key), prepared)
    reading = _text_network(texts, inputs, json_digest(key), words)
    images = open_towers(seeing, compute.backend, compute.precision, places, compute.folder, learnt)
    # Texts are few and short, and their towers lose more by int8: they keep the numbers that are chosen for them.
    numbers = "auto" if compute.precision == "int8" else compute.precision
    pairs = list(zip(images, open_towers(reading, compute.backend, numbers, places, compute.folder), strict=True))
    facts = replace(facts, backend=_all(pairs, "backend"), precision=_all(pairs, "precision"))
    served = OpenClipModel(facts, inputs, places, pairs)
    served.facts = replace(facts, parity_cosine=_parity(served, golden, [*prepared, *words]))
    return served


def _places(compute: ComputeOptions) -> list[Placement]:
    threads = threads_each(compute.threads, parse_devices(compute.device))
    # Of each thread that computes: torch has no other way to say it.
    torch.set_num_threads(threads)
    return [Placement(device, threads, compute.max_batch) for device in choose_devices(compute.device)]


def _create(located: Located) -> Any:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(_RANDOM_SEED)
        try:
            model = open_clip.create_model(
                located.create_name,
                pretrained=located.pretrained,
                force_quick_gelu=located.quick_gelu,
                force_preprocess_cfg=dict(located.preprocess),
                pretrained_text=False,
                require_pretrained=not located.random,
            )
        except Exception as error:
            # What open_clip raises for a file that does not fit the architecture is a page of tensor names.
            raise model_error(f"{located.create_name} cannot be loaded: {str(error)[:500]}") from error
    return model.eval()


def _prepared(inputs: Inputs, golden: Golden) -> tuple[list[EncoderInput], list[EncoderInput]]:
    decoder = ImageDecoder(ImageLimits())
    prepared = [inputs.image(content, decoder) for content in golden.images]
    return prepared, [inputs.text(text) for text in golden.texts]


def _image_network(model: Any, inputs: Inputs, digest: str, prepared: Sequence[EncoderInput]) -> TowerSpec:
    normalize = inputs.preprocessing.normalize
    # Convolutional stems are trained with branches that can be folded into one (MobileCLIP): the same numbers, faster.
    reparameterize_model(model.visual, inplace=True)
    module = PixelTower(ImageTower(model), normalize.scale, normalize.shift).eval()
    return TowerSpec("image", module, digest, _example(prepared))


def _text_network(tower: torch.nn.Module, inputs: Inputs, digest: str, words: Sequence[EncoderInput]) -> TowerSpec:
    if not isinstance(tower, CausalTextTower):
        return TowerSpec("text", tower.eval(), digest, _example(words))
    short = sorted(words, key=lambda word: word.length)[:_EXAMPLE_TEXTS]
    longest = max(2, short[-1].length)
    return TowerSpec("text", tower.eval(), digest, _example(short)[:, :longest], longest=inputs.tokens.context)


def _example(prepared: Sequence[EncoderInput]) -> torch.Tensor:
    rows = [item.data for item in prepared]
    return torch.stack([rows[number % len(rows)] for number in range(_EXAMPLE_ROWS)])


def _all(pairs: Sequence[tuple[Tower, Tower]], what: str) -> str:
    """Return the attribute `what` of all towers, as one word.

    Where the towers differ it names each value that occurs, that of images first: "int8+float32".
    """
    return "+".join(dict.fromkeys(str(getattr(tower, what)) for pair in pairs for tower in pair))


def _parity(served: OpenClipModel, golden: Golden, prepared: Sequence[EncoderInput]) -> float:
    """Return the lowest cosine between any worker's answers and open_clip's in float32, 1 at most.

    Raises ``PreconditionFailed`` where it is too low for the precision.
    """
    name, precision = served.facts.name, served.facts.precision
    lowest = min(golden.parity(worker, prepared) for worker in served.workers())
    least = min(required(one) for one in precision.split("+"))
    if not lowest >= least:
        fix = "Set precision to float32, or backend to torch."
        if "int8" in precision:
            fix = "Put more typical images into calibration_dir, or set precision to auto."
        raise PreconditionFailed(
            Reason.MODEL_FAILED,
            f"{name} by {served.facts.backend} in {precision} differs from open_clip in float32: its lowest cosine is "
            f"{lowest:.5f}, at least {least} is required. {fix}",
            field="precision",
        )
    _log.info("%s: %s, %s, lowest cosine to open_clip in float32 %.6f", name, served.facts.backend, precision, lowest)
    return min(1.0, lowest)
