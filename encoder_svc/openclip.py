"""Any open_clip model: loaded in float32, named by its digest, computed in the numbers that the device is good at."""

from __future__ import annotations

import logging
import re
import threading
from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
import open_clip
import torch
from open_clip.transform import PreprocessCfg, image_transform_v2
from PIL import Image

from encoder_svc.locate import Located, locate, make_tokenizer
from encoder_svc.model import Kind, ModelFacts, Prepared, Vector, Worker, both_spaces
from encoder_svc.sources import Form, Source, model_error
from lensmesh_chassis.errors import InternalFault, LensmeshError
from lensmesh_chassis.reasons import Reason
from lensmesh_inference.devices import (
    DeviceFacts,
    choose_device,
    choose_precision,
    describe_device,
    parse_devices,
    threads_each,
)
from lensmesh_inference.digest import Json, json_digest, weights_digest
from lensmesh_inference.pictures.decoder import LibraryTransform, PictureDecoder
from lensmesh_inference.pictures.normalize import Normalize
from lensmesh_inference.pictures.transform import Transform, UnknownTransformError, normalize_of_open_clip

_PRECISIONS: Final = {torch.float32: "fp32", torch.bfloat16: "bf16", torch.float16: "fp16"}
# SimpleTokenizer remembers every word it ever saw: strangers' words must not fill the memory.
_MAX_REMEMBERED_WORDS: Final = 50_000
# open_clip's tokenizer needs the square of a word's length: 10,000 random letters without a space cost it 6 s. No
# context is as long as what a thousand letters leave.
_LONG_WORD: Final = re.compile(r"(\S{1000})\S+")
_RANDOM_SEED: Final = 0
_log = logging.getLogger(__name__)


class OpenClipModel:
    """An open_clip model on one device. Both towers give float32 vectors, not normalized."""

    def __init__(
        self,
        facts: ModelFacts,
        model: torch.nn.Module,
        transform: Transform | LibraryTransform,
        normalize: Normalize,
        tokenizer: Any,
        device: torch.device,
        dtype: torch.dtype,
    ) -> None:
        self.facts = facts
        self._model: Any = model
        self._transform = transform
        self._normalize = normalize
        self._tokenizer = tokenizer
        self._device = device
        self._dtype = dtype
        # Tokenizers keep state between calls: Rust ones refuse a second thread, open_clip's own remembers words.
        self._tokenizing = threading.Lock()
        self._special_words = dict(getattr(tokenizer, "cache", {}))

    def prepare_image(self, content: bytes, decoder: PictureDecoder, field: str) -> Prepared:
        return Prepared("image", decoder.prepare(content, self._transform, field))

    def prepare_text(self, text: str) -> Prepared:
        context = self.facts.context_tokens
        text, shortened = _LONG_WORD.subn(r"\1", text)
        with self._tokenizing:
            tokens = self._tokenizer([text], context_length=context)[0]
            longer = self._tokenizer([text], context_length=context + 1)[0]
            if len(getattr(self._tokenizer, "cache", ())) > _MAX_REMEMBERED_WORDS:
                self._tokenizer.cache = dict(self._special_words)
        # With one more place, a text that fits is the same and gets one more padding; one that was cut has a word where
        # its end mark stood. In "clips" mode the last place holds the class token in any case.
        if getattr(self._tokenizer, "tokenizer_mode", "") == "clips":
            cut = bool((tokens[:-1] != longer[: context - 1]).any())
        else:
            padding = getattr(getattr(self._tokenizer, "tokenizer", None), "pad_token_id", None) or 0
            cut = bool((tokens != longer[:context]).any()) or int(longer[context]) != padding
        return Prepared("text", tokens, truncated=cut or bool(shortened))

    def workers(self) -> Sequence[Worker]:
        # Forward passes change nothing in the model: workers on the CPU share its weights.
        return [self.compute] * len(parse_devices(self.facts.requested_device))

    def compute(self, batch: Sequence[Prepared]) -> Sequence[Vector | LensmeshError]:
        stacked = torch.stack([item.data for item in batch])
        with torch.inference_mode():
            # normalize is said because CoCa's default differs from the others'.
            if batch[0].modality == "image":
                pixels = self._normalize.apply(stacked.to(self._device), self._dtype)
                output = self._model.encode_image(pixels, normalize=False)
            else:
                output = self._model.encode_text(stacked.to(self._device), normalize=False)
            rows = output.float().cpu().numpy()
        return [
            row if np.isfinite(row).all() else InternalFault(Reason.MODEL_FAILED, f"{self.facts.name} answered NaN.")
            for row in rows
        ]

    def devices(self) -> Sequence[DeviceFacts]:
        return [describe_device(self._device)]


def load(source: Source, *, device: str, precision: str, threads: int, allow_download: bool) -> OpenClipModel:
    """Load one model.

    Takes seconds, blocks, and raises ``PreconditionFailed`` for what cannot be served as configured.
    """
    torch.set_num_threads(threads_each(threads, parse_devices(device)))
    chosen = choose_device(device)
    dtype = choose_precision(chosen, precision)
    located = locate(source, allow_download=allow_download)
    tokenizer = make_tokenizer(located, allow_download=allow_download)
    reference = _create(located, torch.float32, weights=True)
    # Named by its float32 tensors, whatever it computes in: the same model has one space on every machine.
    digest = weights_digest(reference.state_dict())
    model = reference if dtype == torch.float32 else _create(located, dtype, weights=False)
    if model is not reference:
        model.load_state_dict(reference.state_dict())
    model = model.to(chosen).eval()
    transform, normalize = _preprocessing(model.visual.preprocess_cfg)
    facts = _facts(source, located, model, tokenizer, digest, device, dtype)
    _log.info("%s: %s on %s, digest %s", source.name, facts.precision, chosen, digest[:12])
    return OpenClipModel(facts, model, transform, normalize, tokenizer, chosen, dtype)


def _preprocessing(config: Mapping[str, Any]) -> tuple[Transform | LibraryTransform, Normalize]:
    normalize = normalize_of_open_clip(config)
    try:
        return Transform.from_open_clip(config), normalize
    except UnknownTransformError as error:
        _log.warning("pictures are resized by open_clip's own code, which is slower: %s", error)
    # All but its normalization: a picture of real numbers from 0 to 1, made of bytes.
    steps = image_transform_v2(PreprocessCfg(**config), is_train=False).transforms[:-1]

    def library(picture: Image.Image) -> torch.Tensor:
        result: Any = picture
        for step in steps:
            result = step(result)
        return torch.as_tensor(result * 255).round().to(torch.uint8)

    return library, normalize


def _create(located: Located, dtype: torch.dtype, *, weights: bool) -> Any:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(_RANDOM_SEED)
        try:
            return open_clip.create_model(
                located.create_name,
                pretrained=located.pretrained,
                load_weights=weights,
                precision=_PRECISIONS[dtype],
                force_quick_gelu=located.quick_gelu,
                force_preprocess_cfg=dict(located.preprocess),
                pretrained_text=False,
                require_pretrained=weights and not located.random,
            )
        except Exception as error:
            # What open_clip raises for a file that does not fit the architecture is a page of tensor names.
            raise model_error(f"{located.create_name} cannot be loaded: {str(error)[:500]}") from error


def _facts(
    source: Source, located: Located, model: Any, tokenizer: Any, digest: str, device: str, dtype: torch.dtype
) -> ModelFacts:
    context = int(tokenizer.context_length)
    image = {**model.visual.preprocess_cfg, "size": _both_sides(model.visual.preprocess_cfg["size"])}
    text: Json = {
        "tokenizer": type(tokenizer).__name__,
        "vocabulary": _vocabulary_digest(tokenizer),
        "context": context,
    }
    height, width = image["size"]
    spaces = both_spaces(
        source.name,
        architecture=located.model_config,
        dimension=_dimension(model, context),
        preprocessing={"image": image, "text": text},
        weights_digest=digest,
    )
    return ModelFacts(
        name=source.name,
        kind=Kind.DEMONSTRATION if source.form is Form.SHAPES else Kind.LOCAL,
        weights_digest=digest,
        spaces=spaces,
        context_tokens=context,
        backend="torch",
        precision=str(dtype).removeprefix("torch."),
        requested_device=device,
        image_bytes=3 * height * width,
    )


def _dimension(model: Any, context: int) -> int:
    # Asked of the model, not of its configuration: towers without a projection have their own width.
    with torch.inference_mode():
        weight = next(model.parameters())
        tokens = torch.zeros(1, context, dtype=torch.long, device=weight.device)
        return int(model.encode_text(tokens, normalize=False).shape[-1])


def _both_sides(size: int | Sequence[int]) -> list[int]:
    return [size, size] if isinstance(size, int) else [int(side) for side in size]


def _vocabulary_digest(tokenizer: Any) -> str:
    inner = getattr(tokenizer, "tokenizer", None)
    vocabulary: dict[str, Json] = inner.get_vocab() if inner is not None else tokenizer.encoder
    return json_digest(vocabulary)
