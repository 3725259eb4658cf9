"""Translation of vectors: bytes or readable floats on the wire, inside numpy arrays as their space stores them.

Bytes are little-endian.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from lensmesh.common.v1 import common_pb2
from lensmesh_chassis.errors import InvalidInput
from lensmesh_chassis.reasons import Reason
from search_svc.model import NamedSpace, Numbers, StoredAs
from search_svc.wire.findings import Findings

# Little-endian on the wire, whatever the machine.
_WIRE_TYPES: dict[int, np.dtype[Any]] = {
    common_pb2.DATA_TYPE_FLOAT32: np.dtype("<f4"),
    common_pb2.DATA_TYPE_FLOAT16: np.dtype("<f2"),
}
STORED_AS = {common_pb2.DATA_TYPE_FLOAT32: StoredAs.FLOAT32, common_pb2.DATA_TYPE_FLOAT16: StoredAs.FLOAT16}
DATA_TYPES: dict[StoredAs, common_pb2.DataType.ValueType] = {
    stored: data_type for data_type, stored in STORED_AS.items()
}
# Squares of lengths beyond these leave float32, in which stores compute cosines.
_SHORTEST, _LONGEST = 1e-18, 1e18
HALF_MAX = 65_504


def read_vector(
    embedding: common_pb2.Embedding, named: NamedSpace, field: str, findings: Findings, *, query: bool = False
) -> Numbers | None:
    """Return the vector as its space stores it (a query always with unit length).

    None where it is wrong: see `findings`.
    """
    if not embedding.space_id:
        findings.invalid(Reason.VECTOR_INVALID, f"{field}.space_id", "is empty: say which space the vector is of")
        return None
    try:
        numbers = _numbers(embedding)
    except ValueError as error:
        findings.invalid(Reason.VECTOR_INVALID, field, str(error))
        return None
    if embedding.space_id != named.space.id:
        findings.unfit(
            Reason.SPACE_MISMATCH,
            f"{field}.space_id",
            f"the vector is of space {embedding.space_id}, and {named.name} takes space {named.space.id}"
            f" ({named.space.model or 'model not named'}): encode with that model, or use another collection",
            space=embedding.space_id,
            expected_space=named.space.id,
        )
        return None
    return _stored(numbers, named, field, findings, unit=query or named.space.normalized)


def _numbers(embedding: common_pb2.Embedding) -> NDArray[np.float64]:
    """Return the numbers as sent, in full precision; finite.

    Raises:
        ValueError: with what is wrong.
    """
    if bool(embedding.data) == bool(embedding.floats):
        raise ValueError("set exactly one of data and floats")
    if embedding.floats:
        numbers = np.array(embedding.floats, dtype=np.float64)
        if embedding.dimension not in (0, len(numbers)):
            raise ValueError(f"floats has {len(numbers)} numbers, and dimension says {embedding.dimension}")
    else:
        wire_type = _WIRE_TYPES.get(embedding.data_type)
        if wire_type is None:
            raise ValueError("data_type says neither FLOAT32 nor FLOAT16: set it to what data holds")
        size, expected = wire_type.itemsize, embedding.dimension * wire_type.itemsize
        if len(embedding.data) != expected:
            raise ValueError(
                f"data has {len(embedding.data)} bytes; {embedding.dimension} numbers of {size} bytes are {expected}"
            )
        # A signalling NaN is reported below, not by a warning.
        with np.errstate(invalid="ignore"):
            numbers = np.frombuffer(embedding.data, dtype=wire_type).astype(np.float64)
    if not np.isfinite(numbers).all():
        raise ValueError(f"number {int(np.flatnonzero(~np.isfinite(numbers))[0])} is NaN or infinite")
    return numbers


def _stored(
    numbers: NDArray[np.float64], named: NamedSpace, field: str, findings: Findings, *, unit: bool
) -> Numbers | None:
    if len(numbers) != named.space.dimension:
        findings.invalid(
            Reason.VECTOR_DIMENSION_MISMATCH,
            field,
            f"has {len(numbers)} numbers, and {named.name} has {named.space.dimension} dimensions",
            dimension=len(numbers),
            expected_dimension=named.space.dimension,
        )
        return None
    length = float(np.linalg.norm(numbers))
    if length == 0:
        findings.invalid(Reason.VECTOR_INVALID, field, "is all zeros, which have no direction")
        return None
    if unit:
        # In double precision, which holds the square of every number that can be sent.
        numbers = numbers / length
    elif named.stored_as is StoredAs.FLOAT16 and np.abs(numbers).max() > HALF_MAX:
        findings.invalid(
            Reason.VECTOR_INVALID,
            field,
            f"has numbers beyond {HALF_MAX:,}, the largest of FLOAT16, as which {named.name} is stored",
        )
        return None
    elif not _SHORTEST <= length <= _LONGEST:
        findings.invalid(
            Reason.VECTOR_INVALID, field, f"has length {length:.3g}: it must be between {_SHORTEST} and {_LONGEST}"
        )
        return None
    # Vectors that are equal have equal bytes: a negative zero is a zero.
    numbers = numbers + 0.0
    stored: Numbers = numbers.astype(np.float16) if named.stored_as is StoredAs.FLOAT16 else numbers.astype(np.float32)
    if not unit and not stored.any():
        findings.invalid(Reason.VECTOR_INVALID, field, f"is all zeros once stored as {named.stored_as.name}")
        return None
    return stored


def write_vector(
    embedding: common_pb2.Embedding,
    named: NamedSpace,
    numbers: Numbers | None,
    data_type: common_pb2.DataType.ValueType,
    *,
    readable: bool,
) -> None:
    """Fill an Embedding; without numbers with space, type and dimension. `data_type` unspecified: as stored.

    Raises:
        InvalidInput: a stored number is too large for FLOAT16.
    """
    data_type = data_type or DATA_TYPES[named.stored_as]
    embedding.space_id = named.space.id
    embedding.data_type = data_type
    embedding.dimension = named.space.dimension
    if numbers is None:
        return
    with np.errstate(over="ignore"):
        sent = numbers.astype(_WIRE_TYPES[data_type])
    if not np.isfinite(sent).all():
        raise InvalidInput(
            Reason.OPTION_INVALID,
            f"the space {named.name} has numbers beyond {HALF_MAX:,}, the largest of FLOAT16: read it as FLOAT32",
            field="read.data_type",
        )
    if readable:
        embedding.floats.extend(sent.tolist())
    else:
        embedding.data = sent.tobytes()
