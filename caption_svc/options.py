"""CaptionOptions, checked: what a call or a stream asks of the model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from caption_svc.engine import ServedCaptioner
from caption_svc.model import Caption, CaptionerInput, Plan
from caption_svc.settings import CaptionSettings
from lensmesh.caption.v1 import caption_pb2
from lensmesh.common.v1 import common_pb2
from lensmesh_chassis.errors import InvalidInput
from lensmesh_chassis.images.inputs import check_transparency
from lensmesh_chassis.limits import check_no_nul
from lensmesh_chassis.reasons import Reason
from lensmesh_chassis.telemetry import spans
from lensmesh_inference.images.transparency import Transparency
from lensmesh_inference.items import EngineItem
from lensmesh_inference.registry import ModelRegistry
from lensmesh_serving.call import ModelCall, deadline_of, lane_of

MAX_BEAMS = 8


@dataclass(frozen=True, kw_only=True)
class CaptionCall(ModelCall[ServedCaptioner]):
    """The checked options of one call or stream: the plan by which each of its images is described."""

    plan: Plan

    @property
    def label(self) -> str:
        """The text of `Caption.model`."""
        return self.served.model.facts.label

    @property
    def attributes(self) -> Mapping[str, str]:
        return {**super().attributes, spans.MODEL: self.label, spans.ITEM_KIND: "image"}

    def item(self, content: bytes, field: str) -> EngineItem[CaptionerInput, Caption]:
        """Return the engine's item for one image; `field` is its dotted path in the request."""
        return self.served.item(content, self.plan, field=field)


async def read_options(
    options: caption_pb2.CaptionOptions,
    models: ModelRegistry[ServedCaptioner],
    settings: CaptionSettings,
    context: Any,
    *,
    streamed: bool = False,
    most_beams: int = MAX_BEAMS,
) -> CaptionCall:
    """Check the options and find the model. Bad options fail the whole call, before anything is decoded.

    Raises ``InvalidInput`` naming the field and its limit, and ``PreconditionFailed`` for a model that is not served.
    """
    check_transparency(options.transparency)
    served = models.named(options.model)
    lane = lane_of(options.priority, streamed=streamed)
    if options.max_tokens > settings.max_caption_tokens:
        raise _invalid("max_tokens", options.max_tokens, settings.max_caption_tokens, "0 means the default")
    if options.beam_count > most_beams:
        why = "0 means 1" if most_beams > 1 else "with beams no word is final until the end; use CaptionImages"
        raise _invalid("beam_count", options.beam_count, most_beams, why)
    if len(options.prompt) > settings.max_text_chars:
        raise InvalidInput(
            Reason.TEXT_TOO_LONG,
            f"options.prompt has {len(options.prompt)} characters, the limit is {settings.max_text_chars}: shorten it",
            field="options.prompt",
            metadata={"chars": len(options.prompt), "max_text_chars": settings.max_text_chars},
        )
    check_no_nul(options.prompt, "options.prompt")
    max_tokens = options.max_tokens or settings.usual_caption_tokens
    deadline = deadline_of(context)
    plan = await served.plan(options.prompt, max_tokens, options.beam_count or 1)
    if options.transparency == common_pb2.TRANSPARENCY_POLICY_WHITE:
        plan = replace(plan, transparency=Transparency.WHITE)
    return CaptionCall(served=served, lane=lane, deadline=deadline, plan=plan)


def _invalid(name: str, value: int, limit: int, hint: str) -> InvalidInput:
    return InvalidInput(
        Reason.OPTION_INVALID,
        f"options.{name} is {value}, the limit is {limit}: {hint}",
        field=f"options.{name}",
        metadata={"value": value, "limit": limit},
    )
