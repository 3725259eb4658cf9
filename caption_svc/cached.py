"""Captions in the cache."""

from __future__ import annotations

import json
from dataclasses import asdict

from pydantic import TypeAdapter, ValidationError

from caption_svc.model import Caption, CaptionerFacts, Plan
from lensmesh_inference.digest import json_digest
from lensmesh_inference.images.transparency import Transparency

_CAPTION: TypeAdapter[Caption] = TypeAdapter(Caption)


def scope_of(facts: CaptionerFacts, plan: Plan) -> str:
    """Return the name under which the cache keeps the captions that a model makes by a plan.

    Backend and precision are part of it, because they may change a word. So may the model's configuration, beside its
    weights.
    """
    how = json_digest(
        {
            "model": facts.name,
            "answers": facts.answers_digest,
            "backend": facts.backend,
            "precision": facts.precision,
            "prompt": plan.prompt,
            "max_tokens": plan.max_tokens,
            "beams": plan.beams,
            # As it was before there was a choice, where the alpha channel is dropped.
            **({} if plan.transparency is Transparency.DROP else {"transparency": plan.transparency.value}),
        }
    )
    return f"cap1-{facts.weights_digest[:32]}:{how[:32]}"


class CaptionCodec:
    """A codec for captions: JSON in UTF-8."""

    def dump(self, value: Caption) -> bytes:
        """Return the payload of a caption."""
        return json.dumps(asdict(value), ensure_ascii=False, separators=(",", ":")).encode()

    def load(self, payload: bytes) -> Caption | None:
        """Return the caption of a payload, or None for bytes that are no caption."""
        try:
            return _CAPTION.validate_json(payload, strict=True)
        except ValidationError:
            return None
