"""The description that names an open_clip model's vector spaces: all that changes vectors, and nothing else."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch

from encoder_svc.model import EncoderFacts, LogitScale, spaces_of
from encoder_svc.models.locate import Located
from encoder_svc.models.sources import Form, Source
from lensmesh_inference.digest import json_digest
from lensmesh_inference.images.transparency import Transparency
from lensmesh_inference.models import ModelKind
from lensmesh_inference.tokenization import is_uncased_bert, tokenization


def preprocessing_facts(config: Mapping[str, Any], tokenizer: Any) -> dict[str, Any]:
    """Return the facts that decide how images and texts become a model's inputs.

    `config` has the fields of open_clip's `PreprocessCfg`.
    """
    size = config["size"]
    sides = [size, size] if isinstance(size, int) else [int(side) for side in size]
    return {
        "image": {**config, "size": sides},
        "text": {
            "tokenizer": type(tokenizer).__name__,
            "context": int(tokenizer.context_length),
            **_word_facts(tokenizer),
        },
    }


def describe(
    source: Source,
    located: Located,
    model: Any,
    preprocessing: dict[str, Any],
    *,
    digest: str,
    quantization: str,
    device: str,
    image_bytes: int,
) -> EncoderFacts:
    """Return a model's facts as they are before its backends are chosen.

    The caller sets `backend`, `precision` and `parity_cosine` once the backends are known.
    """
    context = int(preprocessing["text"]["context"])
    spaces = spaces_of(
        source.name,
        architecture=located.model_config,
        dimension=_dimension(model, context),
        preprocessing={
            Transparency.DROP: preprocessing,
            Transparency.WHITE: {**preprocessing, "transparency": Transparency.WHITE.value},
        },
        weights_digest=digest,
        quantization=quantization,
    )
    return EncoderFacts(
        name=source.name,
        kind=ModelKind.DEMONSTRATION if source.form is Form.SHAPES else ModelKind.LOCAL,
        weights_digest=digest,
        spaces=spaces,
        context_tokens=context,
        backend="",
        precision="",
        requested_device=device,
        image_bytes=image_bytes,
        logit_scale=_logit_scale(model),
    )


def _logit_scale(model: Any) -> LogitScale | None:
    factor, bias = getattr(model, "logit_scale", None), getattr(model, "logit_bias", None)
    if factor is None:
        return None
    # Kept as a logarithm; some models have it with one dimension.
    scale = LogitScale(float(factor.detach().float().exp()), None if bias is None else float(bias.detach().float()))
    known = math.isfinite(scale.factor) and math.isfinite(scale.bias or 0)
    return scale if known and scale.factor > 0 else None


def _dimension(model: Any, context: int) -> int:
    # Asked of the model, not of its configuration: towers without a projection have their own width.
    with torch.inference_mode():
        return int(model.encode_text(torch.zeros(1, context, dtype=torch.long), normalize=False).shape[-1])


def _word_facts(tokenizer: Any) -> dict[str, str]:
    inner = getattr(tokenizer, "tokenizer", None)
    if inner is None:
        # open_clip's own, whose merges make its vocabulary.
        return {"vocabulary": json_digest(tokenizer.encoder)}
    vocabulary: dict[str, int] = inner.get_vocab()
    facts = tokenization(inner)
    # Spaces of before had no such key. Those of one kind keep it so: the kind that the bundled pack is of.
    said = {} if is_uncased_bert(facts, vocabulary) else {"tokenization": json_digest(facts)}
    return {"vocabulary": json_digest(vocabulary), **said}
