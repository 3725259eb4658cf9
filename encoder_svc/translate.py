"""Between the contract's messages and the engine's own types."""

from __future__ import annotations

from typing import Final

import numpy as np

from encoder_svc.engine import Encoded, ImageInput, Item, Served, Text
from encoder_svc.model import Space
from encoder_svc.settings import EncoderSettings
from lensmesh.common.v1 import common_pb2
from lensmesh.encoder.v1 import encoder_pb2
from lensmesh_chassis.errors import InternalFault, InvalidInput
from lensmesh_chassis.images.inputs import Fetching, check_transparency, image_content
from lensmesh_chassis.model_info import write_model_info
from lensmesh_chassis.reasons import Reason
from lensmesh_chassis.rpc.status import to_status
from lensmesh_chassis.timings import write_timings
from lensmesh_inference.images.transparency import Transparency

_MODALITIES: Final = {"image": common_pb2.MODALITY_IMAGE, "text": common_pb2.MODALITY_TEXT}
_POLICIES: Final = {
    common_pb2.TRANSPARENCY_POLICY_DROP: Transparency.DROP,
    common_pb2.TRANSPARENCY_POLICY_WHITE: Transparency.WHITE,
}
_TOLD_POLICIES: Final = {policy: number for number, policy in _POLICIES.items()}
# The contract names little-endian, whatever this machine is.
_NUMBERS: Final = {common_pb2.DATA_TYPE_FLOAT32: "<f4", common_pb2.DATA_TYPE_FLOAT16: "<f2"}


def read_data_type(data_type: common_pb2.DataType.ValueType) -> common_pb2.DataType.ValueType:
    """FLOAT32 where unspecified; raises OPTION_INVALID for a number that the contract does not know."""
    if data_type == common_pb2.DATA_TYPE_UNSPECIFIED:
        return common_pb2.DATA_TYPE_FLOAT32
    if data_type not in _NUMBERS:
        raise InvalidInput(
            Reason.OPTION_INVALID,
            f"options.data_type is {data_type}: use DATA_TYPE_FLOAT32, DATA_TYPE_FLOAT16 or leave it out.",
            field="options.data_type",
            metadata={"value": data_type},
        )
    return data_type


def read_transparency(policy: common_pb2.TransparencyPolicy.ValueType) -> Transparency | None:
    """None where unspecified; raises OPTION_INVALID for a number that the contract does not know."""
    check_transparency(policy)
    return _POLICIES.get(policy)


async def read_image(image: common_pb2.Image, field: str, fetcher: Fetching) -> Item:
    """An image; raises for one without bytes."""
    return ImageInput(await image_content(image, field, fetcher), f"{field}.{image.WhichOneof('source')}")


async def read_stream_item(item: encoder_pb2.EncodeStreamItem, field: str, fetcher: Fetching) -> Item:
    """An image or a text; raises IMAGE_MISSING for an item that is neither."""
    if item.WhichOneof("input") == "text":
        return Text(item.text, f"{field}.text")
    return await read_image(item.image, f"{field}.image", fetcher)


def write_result(encoded: Encoded, options: encoder_pb2.EncodeOptions) -> encoder_pb2.EncodeResult:
    """One item's vector, in the numbers and the form that were asked for."""
    data_type = read_data_type(options.data_type)
    with np.errstate(over="ignore"):
        numbers = encoded.vector.astype(_NUMBERS[data_type])
    if not np.isfinite(numbers).all():
        raise InternalFault(
            Reason.MODEL_FAILED,
            "A number of this vector is too large for FLOAT16: ask for FLOAT32 or the unit-length space.",
        )
    embedding = common_pb2.Embedding(space_id=encoded.space.id, data_type=data_type, dimension=len(numbers))
    if options.readable:
        embedding.floats.extend(numbers.tolist())
    else:
        embedding.data = numbers.tobytes()
    return encoder_pb2.EncodeResult(
        embedding=embedding,
        truncated=encoded.truncated,
        timings=write_timings(encoded.timing),
        low_content=encoded.low_content,
        fully_transparent=encoded.fully_transparent,
    )


def write_error(error: BaseException) -> encoder_pb2.EncodeResult:
    """One item's failure."""
    return encoder_pb2.EncodeResult(error=to_status(error))


def write_limits(settings: EncoderSettings) -> common_pb2.Limits:
    """What this service accepts."""
    return common_pb2.Limits(
        max_message_bytes=settings.max_message_bytes,
        max_items=settings.max_items,
        max_image_bytes=settings.max_image_bytes,
        max_image_pixels=settings.max_image_pixels,
        max_image_side_ratio=settings.image_limits.max_side_ratio,
        max_text_chars=settings.max_text_chars,
        uri_schemes=settings.fetch_policy(settings.max_image_bytes).schemes,
    )


def write_model(served: Served) -> encoder_pb2.ServedModel:
    """One model as it is now."""
    facts = served.model.facts
    age_s = served.canary.age_s if served.canary is not None else None
    info = write_model_info(facts, served.model.devices(), age_s)
    return encoder_pb2.ServedModel(
        model=info,
        spaces=[_write_space(space) for space in facts.spaces],
        context_tokens=facts.context_tokens,
    )


def _write_space(space: Space) -> common_pb2.VectorSpace:
    return common_pb2.VectorSpace(
        id=space.id,
        model=space.model,
        weights_digest=space.weights_digest,
        dimension=space.dimension,
        normalized=space.normalized,
        modalities=[_MODALITIES[modality] for modality in space.modalities],
        transparency=_TOLD_POLICIES[space.transparency],
    )
