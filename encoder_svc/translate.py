"""The translation between the contract's messages and the service's own types."""

from __future__ import annotations

import functools
from typing import Final

from encoder_svc.engine import ImageInput, Input, ServedEncoder, TextInput
from encoder_svc.model import Embedded, EncoderFacts, Scoring, Space
from encoder_svc.options import NUMBERS, POLICIES, EncodeCall
from lensmesh.common.v1 import common_pb2
from lensmesh.encoder.v1 import encoder_pb2
from lensmesh_chassis.images.inputs import Fetching, image_content
from lensmesh_chassis.rpc.status import to_status
from lensmesh_inference.items import Completed, Failed
from lensmesh_serving.model_info import write_model_info
from lensmesh_serving.timings import write_timings

_MODALITIES: Final = {"image": common_pb2.MODALITY_IMAGE, "text": common_pb2.MODALITY_TEXT}
_SCORINGS: Final = {
    Scoring.SOFTMAX: encoder_pb2.LABEL_SCORING_SOFTMAX,
    Scoring.SIGMOID: encoder_pb2.LABEL_SCORING_SIGMOID,
}
_TOLD_POLICIES: Final = {policy: number for number, policy in POLICIES.items()}


async def read_image(image: common_pb2.Image, field: str, fetcher: Fetching) -> Input:
    """Read an image. Raises IMAGE_MISSING for one without a source, and what `fetcher` raises."""
    return ImageInput(await image_content(image, field, fetcher), f"{field}.{image.WhichOneof('source')}")


async def read_stream_item(item: encoder_pb2.EncodeStreamItem, field: str, fetcher: Fetching) -> Input:
    """Read an image or a text. Raises IMAGE_MISSING for an item that is neither."""
    if item.WhichOneof("input") == "text":
        return TextInput(item.text, f"{field}.text")
    return await read_image(item.image, f"{field}.image", fetcher)


def write_result(call: EncodeCall, completed: Completed[Embedded]) -> encoder_pb2.EncodeResult:
    """Write one item's vector, in the data type and the form that were asked for."""
    value = completed.value
    numbers = value.vector.astype(NUMBERS[call.data_type], copy=False)
    result = encoder_pb2.EncodeResult(
        truncated=value.truncated,
        timings=write_timings(completed.timing),
        low_content=value.low_content,
        fully_transparent=value.fully_transparent,
    )
    if value.perceptual_hash is not None:
        perceptual = result.perceptual_hash
        perceptual.hash, perceptual.quality = value.perceptual_hash.hash, value.perceptual_hash.quality
        perceptual.unframed = value.perceptual_hash.unframed
    if value.local_features is not None:
        features = result.local_features
        features.kind = common_pb2.LOCAL_FEATURE_KIND_ORB
        features.points, features.descriptors = value.local_features.points, value.local_features.descriptors
    if value.thumbnail is not None:
        thumbnail = result.thumbnail
        thumbnail.content = value.thumbnail.content
        thumbnail.width_px, thumbnail.height_px = value.thumbnail.width, value.thumbnail.height
    # In its place: a message that is given to another is copied.
    embedding = result.embedding
    embedding.space_id, embedding.data_type, embedding.dimension = call.space.id, call.data_type, len(numbers)
    if call.readable:
        embedding.floats.extend(numbers.tolist())
    else:
        embedding.data = numbers.tobytes()
    return result


def write_error(failed: Failed) -> encoder_pb2.EncodeResult:
    """Write one item's failure."""
    return encoder_pb2.EncodeResult(error=to_status(failed.error))


def write_model(model: encoder_pb2.ServedModel, served: ServedEncoder) -> None:
    """Write one model as it is now into an empty message."""
    facts = served.model.facts
    model.CopyFrom(_write_facts(facts))
    write_model_info(model.model, facts, served.model.devices(), served.canary_age_s)


@functools.cache
def _write_facts(facts: EncoderFacts) -> encoder_pb2.ServedModel:
    """Write what does not change, once."""
    scale = facts.logit_scale
    return encoder_pb2.ServedModel(
        spaces=[_write_space(space) for space in facts.spaces],
        context_tokens=facts.context_tokens,
        logit_scale=None if scale is None else scale.factor,
        logit_bias=None if scale is None else scale.bias,
        label_scoring=encoder_pb2.LABEL_SCORING_UNSPECIFIED if scale is None else _SCORINGS[scale.scoring],
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
