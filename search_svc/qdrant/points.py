"""Translation of items to points, and back."""

import base64
import json
from datetime import datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray
from qdrant_client import models

from search_svc.hashes import PerceptualHash, bands_of
from search_svc.local_features import FeatureKind, LocalFeatures
from search_svc.model import Caption, Definition, Item, NamedSpace, Numbers, StoredAs, StoredItem, View
from search_svc.qdrant.fields import fields_of, words_payload
from search_svc.qdrant.layout import FEATURE_DIGEST, FEATURES, HASH_BANDS, point_id
from search_svc.times import time_text


def to_point(item: Item, *, created: datetime, updated: datetime, definition: Definition) -> models.PointStruct:
    """Return the point for an item."""
    payload: dict[str, Any] = {
        "id": item.id,
        "metadata": item.metadata,
        "image_uri": item.image_uri,
        "spaces": list(item.vectors),
        "create_time": time_text(created),
        "update_time": time_text(updated),
        "fields": fields_of(item),
    }
    if words := words_payload(item, definition):
        payload["words"] = words
    if item.content_digest:
        payload["digest"] = item.content_digest.hex()
    if item.low_content:
        payload["low_content"] = True
    if item.perceptual_hash is not None:
        perceptual = item.perceptual_hash
        payload["hash"] = {
            "whole": perceptual.hash.hex(),
            "quality": perceptual.quality,
            "unframed": perceptual.unframed.hex(),
        }
        if perceptual.all:
            payload[HASH_BANDS] = bands_of(perceptual.all)
    if item.local_features is not None:
        payload["feature_kind"] = int(item.local_features.kind)
        payload[FEATURE_DIGEST] = item.local_features.digest.hex()
        payload[FEATURES] = base64.b64encode(item.local_features.content).decode()
    if item.caption is not None:
        caption = item.caption
        payload["caption"] = {
            "text": caption.text,
            "confidence": caption.confidence,
            "token_count": caption.token_count,
            "truncated": caption.truncated,
            "model": caption.model,
        }
    raw = [named for named in definition.spaces if named.name in item.vectors and not named.space.normalized]
    if raw:
        payload["raw"] = {
            named.name: base64.b64encode(item.vectors[named.name].astype(_little(named)).tobytes()).decode()
            for named in raw
        }
    vectors = {name: vector.astype(np.float32).tolist() for name, vector in item.vectors.items()}
    # Checked already; checking each number again would take most of the time.
    return models.PointStruct.model_construct(id=point_id(item.id), vector=vectors, payload=payload)


def from_record(record: models.Record, definition: Definition, view: View) -> StoredItem:
    """Return the item of a point. Its vectors have their numbers where the view has."""
    payload = record.payload or {}
    caption = payload.get("caption")
    kind = FeatureKind(payload["feature_kind"]) if "feature_kind" in payload else None
    content = payload.get(FEATURES)
    return StoredItem(
        id=payload["id"],
        vectors=_vectors(record, definition) if View.NUMBERS in view else dict.fromkeys(payload["spaces"]),
        caption=None if caption is None else Caption(**caption),
        metadata=payload["metadata"],
        image_uri=payload["image_uri"],
        content_digest=bytes.fromhex(payload.get("digest", "")),
        low_content=payload.get("low_content", False),
        perceptual_hash=hash_of(payload),
        create_time=datetime.fromisoformat(payload["create_time"]),
        update_time=datetime.fromisoformat(payload["update_time"]),
        feature_kind=kind,
        local_features=None
        if kind is None or content is None
        else LocalFeatures.joined(kind, base64.b64decode(content)),
    )


def hash_of(payload: dict[str, Any]) -> PerceptualHash | None:
    """Return the perceptual hash in a payload, None where there is none."""
    kept = payload.get("hash")
    if kept is None:
        return None
    return PerceptualHash(bytes.fromhex(kept["whole"]), kept["quality"], bytes.fromhex(kept["unframed"]))


def vector_of(record: models.Record, named: NamedSpace) -> Numbers | None:
    """Return one vector of a point as its space stores it, None where it has none."""
    raw = (record.payload or {}).get("raw", {})
    if named.name in raw:
        return _as_stored(np.frombuffer(base64.b64decode(raw[named.name]), dtype=_little(named)), named)
    vectors = record.vector
    if not isinstance(vectors, dict) or named.name not in vectors:
        return None
    # A float16 comes back as the float32 that it is: nothing is lost here.
    return _as_stored(np.asarray(vectors[named.name], dtype=np.float32), named)


def _vectors(record: models.Record, definition: Definition) -> dict[str, Numbers | None]:
    found = {named.name: vector_of(record, named) for named in definition.spaces}
    return {name: numbers for name, numbers in found.items() if numbers is not None}


def size_of(record: models.Record) -> int:
    """Return about how many bytes a point brought."""
    payload = record.payload or {}
    vectors = record.vector if isinstance(record.vector, dict) else {}
    texts = sum(len(value) for value in payload.values() if isinstance(value, str))
    # Of base64.
    texts -= len(payload.get(FEATURES, "")) // 4
    texts += len(json.dumps(payload.get("caption"))) + sum(map(len, payload.get("raw", {}).values()))
    return texts + sum(4 * len(numbers) for numbers in vectors.values() if isinstance(numbers, list))


def _as_stored(numbers: NDArray[Any], named: NamedSpace) -> Numbers:
    return numbers.astype(np.float16) if named.stored_as is StoredAs.FLOAT16 else numbers.astype(np.float32)


def _little(named: NamedSpace) -> np.dtype[Any]:
    """Return the little-endian type of raw vectors' numbers in the payload, whatever the machine."""
    return np.dtype("<f2" if named.stored_as is StoredAs.FLOAT16 else "<f4")
