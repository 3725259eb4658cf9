"""The domain's answers as messages of the contract."""

from __future__ import annotations

from caption_svc.engine import Described
from caption_svc.serving import Served
from caption_svc.settings import CaptionSettings
from lensmesh.caption.v1 import caption_pb2
from lensmesh.common.v1 import common_pb2
from lensmesh_chassis.model_info import write_model_info
from lensmesh_chassis.timings import write_timings


def caption_message(described: Described, label: str) -> common_pb2.Caption:
    """`label` is ModelFacts.label."""
    caption = described.caption
    return common_pb2.Caption(
        text=caption.text,
        confidence=caption.confidence,
        token_count=caption.token_count,
        truncated=caption.truncated,
        model=label,
    )


def result_message(described: Described, label: str) -> caption_pb2.CaptionResult:
    """One image's caption with its timings."""
    return caption_pb2.CaptionResult(
        caption=caption_message(described, label),
        timings=write_timings(described.timing),
    )


def model_message(served: Served) -> common_pb2.ModelInfo:
    """One model as GetInfo shows it, with its devices' memory and its canary's age as of now."""
    model = served.captioner.model
    return write_model_info(model.facts, model.devices(), served.canary.age_s)


def limits_message(settings: CaptionSettings) -> common_pb2.Limits:
    """What the service accepts."""
    return common_pb2.Limits(
        max_message_bytes=settings.max_message_bytes,
        max_items=settings.max_items,
        max_image_bytes=settings.max_image_bytes,
        max_image_pixels=settings.max_image_pixels,
        max_image_side_ratio=settings.image_limits.max_side_ratio,
        max_text_chars=settings.max_text_chars,
        max_caption_tokens=settings.max_caption_tokens,
        uri_schemes=settings.fetch_policy(settings.max_image_bytes).schemes,
    )
