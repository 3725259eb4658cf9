"""Vectors between the contracts' messages and numpy: imported where vectors are given or asked for."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import ArrayLike

from lensmesh.common.v1 import common_pb2
from lensmesh.encoder.v1 import encoder_pb2
from lensmesh_chassis.errors import InvalidInput, LensmeshError
from lensmesh_chassis.reasons import Reason
from lensmesh_chassis.rpc.status import from_status
from lensmesh_client import translate, types
from lensmesh_client.local_features import LocalFeatures


def embedding(vector: ArrayLike, space_id: str) -> common_pb2.Embedding:
    """Make the message of a vector of shape (d,): float32 little-endian bytes."""
    try:
        numbers = np.asarray(vector, dtype="<f4")
    except Exception as error:  # a caller's own array raises what it likes
        raise InvalidInput(
            Reason.VECTOR_INVALID, f"embedding is no vector of numbers: {error}", field="embedding"
        ) from error
    if numbers.ndim != 1:
        raise InvalidInput(
            Reason.VECTOR_INVALID,
            f"embedding has shape {numbers.shape}: give one vector, shape (d,)",
            field="embedding",
        )
    return common_pb2.Embedding(
        space_id=space_id, data_type=common_pb2.DATA_TYPE_FLOAT32, dimension=len(numbers), data=numbers.tobytes()
    )


def halved(message: common_pb2.Embedding) -> common_pb2.Embedding:
    """Return the same vector in float16: half as large, and near enough to measure by."""
    data = np.frombuffer(message.data, "<f4").astype("<f2").tobytes()
    return common_pb2.Embedding(
        space_id=message.space_id, data_type=common_pb2.DATA_TYPE_FLOAT16, dimension=message.dimension, data=data
    )


def vector(message: common_pb2.Embedding) -> types.Vectors:
    """Return the numbers: float32, shape (d,), writable; (0,) where they were not asked for."""
    if message.floats:
        return np.array(message.floats, dtype=np.float32)
    kind = "<f2" if message.data_type == common_pb2.DATA_TYPE_FLOAT16 else "<f4"
    return np.frombuffer(message.data, dtype=kind).astype(np.float32)


def embedded(message: encoder_pb2.EncodeResult, index: int) -> types.EmbedResult:
    """Translate one embedding of a stream."""
    return types.EmbedResult(
        index,
        types.Embedding(vector(message.embedding), message.embedding.space_id),
        truncated=message.truncated,
        low_content=message.low_content,
        fully_transparent=message.fully_transparent,
        timings=translate.timings(message.timings),
        perceptual_hash=translate.perceptual_hash(message),
        local_features=translate.local_features(message),
    )


def embeddings(answers: Iterable[encoder_pb2.EncodeResult | LensmeshError]) -> types.Embeddings:
    """Translate answers in the order of the input; rows without a vector are NaN."""
    rows: list[types.Vectors | None] = []
    errors: dict[int, LensmeshError] = {}
    truncated: list[bool] = []
    times: list[types.Timings] = []
    low_content: list[bool] = []
    fully_transparent: list[bool] = []
    hashes: list[types.PerceptualHash | None] = []
    features: list[LocalFeatures | None] = []
    space_id = ""
    for index, answer in enumerate(answers):
        row = None
        if isinstance(answer, LensmeshError):
            errors[index] = answer
        elif answer.WhichOneof("outcome") == "embedding":
            row, space_id = vector(answer.embedding), answer.embedding.space_id
        else:
            errors[index] = from_status(answer.error)
        rows.append(row)
        told = encoder_pb2.EncodeResult() if isinstance(answer, LensmeshError) else answer
        truncated.append(told.truncated)
        low_content.append(told.low_content)
        fully_transparent.append(told.fully_transparent)
        hashes.append(translate.perceptual_hash(told))
        features.append(translate.local_features(told))
        times.append(translate.timings(told.timings))
    dimension = next((len(row) for row in rows if row is not None), 0)
    vectors = np.full((len(rows), dimension), np.nan, dtype=np.float32)
    for index, row in enumerate(rows):
        if row is not None:
            vectors[index] = row
    return types.Embeddings(
        vectors,
        space_id,
        errors,
        tuple(truncated),
        tuple(times),
        tuple(low_content),
        tuple(fully_transparent),
        tuple(hashes) if any(hashes) else (),
        tuple(features) if any(features) else (),
    )
