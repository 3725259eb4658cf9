"""Digests that name things: contents, weights, vector spaces.

Everything here is part of the contract and may never change.

The weights digest is the SHA-256 of, for each tensor in the order of its name's UTF-8 bytes:

    length of the name's UTF-8 bytes     4 bytes, unsigned, little-endian
    the name, UTF-8
    count of dimensions                  4 bytes, unsigned, little-endian
    each dimension                       8 bytes, unsigned, little-endian
    the numbers, row-major               4 bytes each, IEEE 754 binary32, little-endian

The tensors are those of the loaded model's ``state_dict()``, converted to float32 from whatever the file held, before
any cast to another precision. So neither the file's format nor the hardware nor the precision of the service changes
it.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import numpy as np
import rfc8785

if TYPE_CHECKING:
    import torch

Json: TypeAlias = bool | int | float | str | Sequence["Json"] | Mapping[str, "Json"] | None

SPACE_ID_PREFIX: Final = "vs1-"


def content_digest(content: bytes) -> str:
    """Return the hexadecimal SHA-256 of some bytes."""
    return hashlib.sha256(content).hexdigest()


def canonical_json(value: Json) -> bytes:
    """Return the one spelling of a JSON value that RFC 8785 allows, in UTF-8."""
    return rfc8785.dumps(value)


def json_digest(value: Json) -> str:
    """Return the hexadecimal SHA-256 of a JSON value's canonical form."""
    return content_digest(canonical_json(value))


def weights_digest(tensors: Mapping[str, torch.Tensor | np.ndarray[Any, Any]]) -> str:
    """Return the hexadecimal SHA-256 of named tensors (of torch or numpy), encoded as this module's docstring says."""
    digest = hashlib.sha256()
    for name, tensor in sorted(tensors.items(), key=lambda item: item[0].encode()):
        numbers = _float32(tensor)
        encoded = name.encode()
        digest.update(struct.pack("<I", len(encoded)) + encoded)
        digest.update(struct.pack(f"<I{numbers.ndim}Q", numbers.ndim, *numbers.shape))
        digest.update(numbers.data.cast("B") if numbers.size else b"")
    return digest.hexdigest()


def space_id(
    *,
    architecture: Json,
    dimension: int,
    normalized: bool,
    preprocessing: Json,
    quantization: str,
    weights_digest: str,
) -> str:
    """Return the contract's ``VectorSpace.id``.

    It is equal for two processes with the same model, and different for any two models.
    """
    facts: Json = {
        "architecture": architecture,
        "dimension": dimension,
        "normalized": normalized,
        "preprocessing": preprocessing,
        "quantization": quantization,
        "weights_digest": weights_digest,
    }
    return SPACE_ID_PREFIX + json_digest(facts)[:32]


def _float32(tensor: torch.Tensor | np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    array = tensor if isinstance(tensor, np.ndarray) else tensor.detach().cpu().float().numpy()
    # ascontiguousarray would give a scalar one dimension.
    return np.asarray(array, dtype="<f4", order="C")
