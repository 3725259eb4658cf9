"""The domain's answers as messages of the contract."""

from __future__ import annotations

from google.protobuf.duration_pb2 import Duration

from caption_svc.captioner import Kind
from caption_svc.engine import Described
from caption_svc.serving import Served
from caption_svc.settings import CaptionSettings
from lensmesh.caption.v1 import caption_pb2
from lensmesh.common.v1 import common_pb2
from lensmesh_chassis.timings import write_timings
from lensmesh_inference.devices import DeviceFacts

_KINDS = {
    Kind.LOCAL: common_pb2.MODEL_KIND_LOCAL,
    Kind.DEMONSTRATION: common_pb2.MODEL_KIND_DEMONSTRATION,
    Kind.MOCK: common_pb2.MODEL_KIND_MOCK,
}


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
    """One picture's caption with its timings."""
    return caption_pb2.CaptionResult(
        caption=caption_message(described, label),
        timings=write_timings(described.timing),
    )


def model_message(served: Served) -> common_pb2.ModelInfo:
    """One model as GetInfo shows it, with its devices' memory and its canary's age as of now."""
    facts, age_s = served.captioner.model.facts, served.canary.age_s
    message = common_pb2.ModelInfo(
        name=facts.name,
        weights_digest=facts.weights_digest,
        kind=_KINDS[facts.kind],
        devices=[_device_message(device) for device in served.captioner.model.devices()],
        requested_device=facts.requested_device,
        backend=facts.backend,
        precision=facts.precision,
        parity_cosine=facts.parity_cosine,
    )
    if age_s is not None:
        message.canary_age.CopyFrom(Duration(seconds=int(age_s), nanos=int(age_s % 1 * 1e9)))
    return message


def limits_message(settings: CaptionSettings) -> common_pb2.Limits:
    """What the service accepts."""
    return common_pb2.Limits(
        max_message_bytes=settings.max_message_bytes,
        max_items=settings.max_items,
        max_image_bytes=settings.max_image_bytes,
        max_image_pixels=settings.max_image_pixels,
        max_text_chars=settings.max_text_chars,
        max_caption_tokens=settings.max_caption_tokens,
        uri_schemes=settings.fetch_policy(settings.max_image_bytes).schemes,
    )


def _device_message(device: DeviceFacts) -> common_pb2.Device:
    return common_pb2.Device(
        id=device.id,
        name=device.name,
        threads=device.threads,
        memory_total_bytes=device.memory_total,
        memory_used_bytes=device.memory_used,
    )
