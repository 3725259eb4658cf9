"""The layout of our Qdrant collections: names, ids, vectors, payload keys and indexes.

A collection `pictures` is a Qdrant collection `lensmesh.pictures.1f2e3d4c`, named anew each time it is made, so that
one that was replaced is never taken for its successor. A point is an item:

    id          UUID of version 5, derived from the item's id
    vectors     by the name of their space; raw (not normalized) ones have their own numbers in the payload too
    payload     the keys below; `fields` is what filters and facets ask, `words` what queries in words do: see fields.py
"""

import uuid
from collections.abc import Iterator
from dataclasses import dataclass

from qdrant_client import models

from search_svc.model import Definition, FieldType, NamedSpace, StoredAs
from search_svc.qdrant.address import Quantization
from search_svc.qdrant.fields import Slot, WordSlot, slot_key, words_key
from search_svc.words.texts import text_paths

# Any UUID will do, as long as it is always the same.
_NAMESPACE = uuid.UUID("6c656e73-6d65-5368-8000-000000000001")
# What is read back of an item; `fields` and `words` never are.
CONTENT = (
    "id",
    "metadata",
    "caption",
    "image_uri",
    "digest",
    "low_content",
    "hash",
    "feature_kind",
    "spaces",
    "raw",
    "create_time",
    "update_time",
)
# Read where it is asked for: some 20 kB.
FEATURES = "features"
# Read by writers, who see by it whether features are the same.
FEATURE_DIGEST = "feature_digest"
HASH_BANDS = "hash_bands"
HASH_INDEX = models.PayloadSchemaType.INTEGER
_INDEXES: dict[FieldType, tuple[tuple[Slot, models.PayloadSchemaType], ...]] = {
    FieldType.KEYWORD: ((Slot.TEXTS, models.PayloadSchemaType.KEYWORD),),
    FieldType.TEXT: ((Slot.TEXTS, models.PayloadSchemaType.KEYWORD),),
    FieldType.BOOL: ((Slot.BOOLS, models.PayloadSchemaType.KEYWORD),),
    FieldType.NUMBER: (
        (Slot.NUMBERS, models.PayloadSchemaType.KEYWORD),
        (Slot.VALUES, models.PayloadSchemaType.FLOAT),
    ),
    FieldType.TIME: (
        (Slot.TIME_TEXTS, models.PayloadSchemaType.KEYWORD),
        (Slot.TIMES, models.PayloadSchemaType.DATETIME),
    ),
}


@dataclass(frozen=True)
class Tuning:
    """Settings of how new collections keep their vectors on a server."""

    quantization: Quantization
    on_disk: bool


def point_id(item_id: str) -> str:
    """Return the id of an item's point."""
    return str(uuid.uuid5(_NAMESPACE, item_id))


def jobs_collection(prefix: str) -> str:
    """Return the name of the Qdrant collection of jobs. Those of items have one part more."""
    return f"{prefix}.jobs"


def parts_collection(prefix: str) -> str:
    """Return the name of the Qdrant collection of jobs' large results."""
    return f"{prefix}.job_parts"


def new_key(prefix: str, name: str) -> str:
    """Make a name for a new Qdrant collection."""
    return f"{prefix}.{name}.{uuid.uuid4().hex[:8]}"


def vector_params(definition: Definition, tuning: Tuning) -> dict[str, models.VectorParams]:
    """Return the named vectors of a collection.

    A normalized space is compared by dot product, which is the cosine there and leaves the numbers as they are. A raw
    space is compared by cosine, for which Qdrant scales the numbers that it keeps.
    """
    return {
        named.name: models.VectorParams(
            size=named.space.dimension,
            distance=models.Distance.DOT if named.space.normalized else models.Distance.COSINE,
            datatype=models.Datatype.FLOAT16 if named.stored_as is StoredAs.FLOAT16 else models.Datatype.FLOAT32,
            hnsw_config=_hnsw(named, tuning),
            quantization_config=_quantization(tuning),
            on_disk=tuning.on_disk,
        )
        for named in definition.spaces
    }


def _hnsw(named: NamedSpace, tuning: Tuning) -> models.HnswConfigDiff:
    if named.hnsw is None:
        # No links, no graph: every search is exact.
        return models.HnswConfigDiff(m=0)
    return models.HnswConfigDiff(
        m=named.hnsw.m, ef_construct=named.hnsw.ef_construction, on_disk=tuning.on_disk or None
    )


def _quantization(tuning: Tuning) -> models.QuantizationConfig | None:
    # Small enough to stay in memory, whatever becomes of the vectors that they stand for.
    match tuning.quantization:
        case "int8":
            return models.ScalarQuantization(
                scalar=models.ScalarQuantizationConfig(type=models.ScalarType.INT8, always_ram=True)
            )
        case "binary":
            return models.BinaryQuantization(binary=models.BinaryQuantizationConfig(always_ram=True))
        case "none":
            return None


def payload_indexes(definition: Definition) -> Iterator[tuple[str, models.PayloadSchemaType]]:
    """Yield the keys of the payload that are indexed, and as what."""
    # The same content under another id is looked up at every ingest.
    yield "digest", models.PayloadSchemaType.KEYWORD
    for place, _ in enumerate(text_paths(definition)):
        # Runs and beginnings are looked for among items that have the words.
        yield words_key(place, WordSlot.WORDS), models.PayloadSchemaType.KEYWORD
    # Near hashes are looked up at every ingest that asks for it, see search_svc/hashes.py.
    yield HASH_BANDS, HASH_INDEX
    for index in definition.field_indexes:
        for slot, schema in _INDEXES[index.type]:
            yield slot_key(index.path, slot), schema
