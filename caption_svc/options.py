"""CaptionOptions, checked: what a call or a stream asks of the model."""

from __future__ import annotations

from dataclasses import dataclass, replace

from caption_svc.captioner import Plan
from caption_svc.engine import Captioner
from caption_svc.serving import Serving
from caption_svc.settings import CaptionSettings
from lensmesh.caption.v1 import caption_pb2
from lensmesh.common.v1 import common_pb2
from lensmesh_chassis.errors import InvalidInput
from lensmesh_chassis.images.inputs import check_transparency, wants_bulk
from lensmesh_chassis.reasons import Reason
from lensmesh_inference.batching.batcher import Lane
from lensmesh_inference.images.transparency import Transparency

MAX_BEAMS = 8


@dataclass(frozen=True)
class Order:
    """Who describes, how, and in which lane."""

    captioner: Captioner
    plan: Plan
    lane: Lane


async def read_options(
    options: caption_pb2.CaptionOptions,
    serving: Serving,
    settings: CaptionSettings,
    *,
    streamed: bool = False,
    most_beams: int = MAX_BEAMS,
) -> Order:
    """Check the options and find the model.

    Raises ``InvalidInput`` naming the field and its limit, ``PreconditionFailed`` for a model that is not served.
    """
    check_transparency(options.transparency)
    captioner = serving.select(options.model)
    lane = Lane.BULK if wants_bulk(options.priority, streamed=streamed) else Lane.INTERACTIVE
    if options.max_tokens > settings.max_caption_tokens:
        raise _invalid("max_tokens", options.max_tokens, settings.max_caption_tokens, "0 means the default")
    if options.beam_count > most_beams:
        why = "0 means 1" if most_beams > 1 else "a beam has no word until all are done; use CaptionImages for beams"
        raise _invalid("beam_count", options.beam_count, most_beams, why)
    if len(options.prompt) > settings.max_text_chars:
        raise InvalidInput(
            Reason.TEXT_TOO_LONG,
            f"options.prompt has {len(options.prompt)} characters, the limit is {settings.max_text_chars}: shorten it",
            field="options.prompt",
            metadata={"chars": len(options.prompt), "max_text_chars": settings.max_text_chars},
        )
    max_tokens = options.max_tokens or settings.usual_caption_tokens
    plan = await captioner.plan(options.prompt, max_tokens, options.beam_count or 1)
    on_white = options.transparency == common_pb2.TRANSPARENCY_POLICY_WHITE
    return Order(captioner, replace(plan, transparency=Transparency.WHITE) if on_white else plan, lane)


def _invalid(name: str, value: int, limit: int, hint: str) -> InvalidInput:
    return InvalidInput(
        Reason.OPTION_INVALID,
        f"options.{name} is {value}, the limit is {limit}: {hint}",
        field=f"options.{name}",
        metadata={"value": value, "limit": limit},
    )
