"""The contract's messages that describe a service's models and limits."""

import functools
from collections.abc import Iterable
from typing import Final

from lensmesh.common.v1 import common_pb2
from lensmesh_inference.devices import DeviceFacts
from lensmesh_inference.models import ModelFacts, ModelKind
from lensmesh_serving.settings import ModelServiceSettings

_KINDS: Final = {
    ModelKind.LOCAL: common_pb2.MODEL_KIND_LOCAL,
    ModelKind.DEMONSTRATION: common_pb2.MODEL_KIND_DEMONSTRATION,
    ModelKind.MOCK: common_pb2.MODEL_KIND_MOCK,
}


def write_model_info(
    info: common_pb2.ModelInfo, facts: ModelFacts, devices: Iterable[DeviceFacts], canary_age_s: float | None
) -> None:
    """Write into an empty message; without a canary's age where no canary has passed yet."""
    info.CopyFrom(_write_facts(facts))
    for device in devices:
        _write_device(info.devices.add(), device)
    if canary_age_s is not None:
        age = info.canary_age
        age.seconds, age.nanos = int(canary_age_s), int(canary_age_s % 1 * 1e9)


@functools.cache
def _write_facts(facts: ModelFacts) -> common_pb2.ModelInfo:
    """Write what does not change, once: GetInfo is called often, and a copy takes a tenth of the time."""
    return common_pb2.ModelInfo(
        name=facts.name,
        weights_digest=facts.weights_digest,
        kind=_KINDS[facts.kind],
        requested_device=facts.requested_device,
        backend=facts.backend,
        precision=facts.precision,
        parity_cosine=facts.parity_cosine,
    )


def _write_device(message: common_pb2.Device, device: DeviceFacts) -> None:
    message.id, message.name, message.threads = device.id, device.name, device.threads
    message.memory_total_bytes, message.memory_used_bytes = device.memory_total, device.memory_used


def write_limits(settings: ModelServiceSettings) -> common_pb2.Limits:
    """Write what a service accepts."""
    return common_pb2.Limits(
        max_message_bytes=settings.max_message_bytes,
        max_items=settings.max_items,
        max_image_bytes=settings.max_image_bytes,
        max_image_pixels=settings.max_image_pixels,
        max_image_side_ratio=settings.image_limits.max_side_ratio,
        max_text_chars=settings.max_text_chars,
        uri_schemes=settings.fetch_policy(settings.max_image_bytes).schemes,
    )
