"""The collection of collections: one small point for each, and one that holds the schema's version.

Replicas that know nothing of one another have to agree on who makes a collection. The point of a name is written
"insert only", so that Qdrant decides. A replica that finds another point there afterwards was second, and takes what is
there.
"""

import uuid
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from qdrant_client import AsyncQdrantClient, models

from search_svc.calibration import Calibration, Calibrations, from_json, joined
from search_svc.definitions import definition_from_json, definition_to_json
from search_svc.model import Collection, Definition
from search_svc.qdrant.faults import CollectionGone, There, translated
from search_svc.qdrant.layout import HASH_BANDS, HASH_INDEX, jobs_collection, parts_collection, point_id
from search_svc.qdrant.predicates import any_of
from search_svc.store import StoreRefused
from search_svc.times import time_text

# Names of collections begin with a letter, so this point is none's.
_SCHEMA = "#schema"
_PAGE = 256
STRONG = models.WriteOrdering.STRONG


@dataclass(frozen=True)
class RegistryStep:
    """A step that leads from version - 1 to version, given the client and the prefix.

    Several processes may do it at once, and one that died may have done half: done again, it must end the same.
    """

    version: int
    title: str
    work: Callable[[AsyncQdrantClient, str], Awaitable[None]]


async def _make_registry(client: AsyncQdrantClient, prefix: str) -> None:
    try:
        with translated():
            # Its points are payload alone, but not every release makes a collection without any vector.
            unused = models.VectorParams(size=1, distance=models.Distance.DOT, hnsw_config=models.HnswConfigDiff(m=0))
            await client.create_collection(prefix, vectors_config={"unused": unused})
    except There:
        return


async def _nothing(client: AsyncQdrantClient, prefix: str) -> None:
    """Change nothing. Older releases would write items without what is new, and this keeps them out."""


async def _index_hashes(client: AsyncQdrantClient, prefix: str) -> None:
    for collection in await everything(client, prefix):
        # One that is gone by now needs none.
        with suppress(CollectionGone), translated():
            await client.create_payload_index(collection.key, HASH_BANDS, field_schema=HASH_INDEX, wait=True)


async def _make_jobs(client: AsyncQdrantClient, prefix: str) -> None:
    await _make_registry(client, jobs_collection(prefix))


async def _make_parts(client: AsyncQdrantClient, prefix: str) -> None:
    await _make_registry(client, parts_collection(prefix))


# A step that was released is never changed: what is new comes as the next one.
STEPS = (
    RegistryStep(1, "the collection of collections", _make_registry),
    RegistryStep(2, "words in new collections", _nothing),
    RegistryStep(3, "indexes of perceptual hashes", _index_hashes),
    RegistryStep(4, "the collection of jobs", _make_jobs),
    RegistryStep(5, "local features in new collections", _nothing),
    RegistryStep(6, "the collection of jobs' large results", _make_parts),
)


async def prepare(client: AsyncQdrantClient, prefix: str, steps: Sequence[RegistryStep]) -> None:
    """Bring the schema up to date; change nothing where it is.

    Raises:
        StoreRefused: it is newer than `steps`.
    """
    version = await schema_version(client, prefix)
    if version > steps[-1].version:
        raise StoreRefused(
            f"the collections {prefix}.* have schema version {version}, and this release knows versions up to"
            f" {steps[-1].version}: start the release that made them, or a newer one"
        )
    for step in steps:
        if step.version > version:
            await step.work(client, prefix)
            await _write(client, prefix, _SCHEMA, {"version": step.version, "title": step.title})


async def schema_version(client: AsyncQdrantClient, prefix: str) -> int:
    """Return the version of the schema that is there; 0 where there is none."""
    payload = await _read(client, prefix, _SCHEMA)
    return int(payload["version"]) if payload else 0


async def find(client: AsyncQdrantClient, prefix: str, name: str) -> Collection | None:
    """Return the collection of that name, or None."""
    payload = await _read(client, prefix, name)
    return _collection(payload) if payload else None


async def add(client: AsyncQdrantClient, prefix: str, key: str, definition: Definition) -> Collection:
    """Register a collection that was just made, or return the one that has the name already."""
    payload = {
        "name": definition.name,
        "key": key,
        "definition": definition_to_json(definition),
        "create_time": time_text(datetime.now(UTC)),
        "uid": str(uuid.uuid4()),
    }
    await _write(client, prefix, definition.name, payload, mode=models.UpdateMode.INSERT_ONLY)
    there = await find(client, prefix, definition.name)
    if there is None:
        # Removed by another in the moment between.
        raise CollectionGone
    return there


async def calibrations(client: AsyncQdrantClient, prefix: str, names: Sequence[str]) -> dict[str, Calibrations]:
    """Return what is known of cosines in the collections of these names, by their keys; one that is gone is missing."""
    records = await client.retrieve(prefix, [point_id(name) for name in names], with_payload=["key", "calibrations"])
    payloads = [record.payload for record in records if record.payload and "key" in record.payload]
    return {payload["key"]: from_json(payload.get("calibrations", "")) for payload in payloads}


async def save_calibrations(
    client: AsyncQdrantClient, prefix: str, collection: Collection, space: str, measured: Sequence[Calibration]
) -> Calibrations:
    """Keep what cosines in a space mean, with this very collection. Return all that is known then."""
    name = collection.definition.name
    payload = await _read(client, prefix, name)
    if payload is None or payload.get("key") != collection.key:
        raise CollectionGone
    text = joined(payload.get("calibrations", ""), space, measured)
    chosen = models.Filter(must=[models.HasIdCondition(has_id=[point_id(name)]), any_of("key", [collection.key])])
    await client.set_payload(prefix, {"calibrations": text}, points=chosen, wait=True, ordering=STRONG)
    return from_json(text)


async def remove(client: AsyncQdrantClient, prefix: str, collection: Collection) -> None:
    """Take the name from this very collection, and not from another that may have it by now."""
    chosen = models.Filter(
        must=[
            models.HasIdCondition(has_id=[point_id(collection.definition.name)]),
            any_of("key", [collection.key]),
        ]
    )
    await client.delete(prefix, points_selector=models.FilterSelector(filter=chosen), wait=True, ordering=STRONG)


async def redefine(client: AsyncQdrantClient, prefix: str, collection: Collection, changed: Definition) -> None:
    """Keep another definition of this very collection."""
    chosen = models.Filter(
        must=[
            models.HasIdCondition(has_id=[point_id(collection.definition.name)]),
            any_of("key", [collection.key]),
        ]
    )
    await client.set_payload(
        prefix, {"definition": definition_to_json(changed)}, points=chosen, wait=True, ordering=STRONG
    )


async def everything(client: AsyncQdrantClient, prefix: str) -> list[Collection]:
    """Return all collections by name."""
    found: list[Collection] = []
    offset: Any = None
    while True:
        records, offset = await client.scroll(prefix, limit=_PAGE, offset=offset, with_payload=True)
        found += [_collection(record.payload) for record in records if record.payload and "key" in record.payload]
        if offset is None:
            return sorted(found, key=lambda collection: collection.definition.name)


async def _read(client: AsyncQdrantClient, prefix: str, name: str) -> dict[str, Any] | None:
    try:
        with translated():
            records = await client.retrieve(prefix, [point_id(name)], with_payload=True)
    except CollectionGone:
        return None
    return records[0].payload if records else None


async def _write(
    client: AsyncQdrantClient,
    prefix: str,
    name: str,
    payload: dict[str, Any],
    mode: models.UpdateMode = models.UpdateMode.UPSERT,
) -> None:
    point = models.PointStruct(id=point_id(name), vector={}, payload=payload)
    await client.upsert(prefix, [point], wait=True, ordering=STRONG, update_mode=mode)


def _collection(payload: dict[str, Any]) -> Collection:
    definition = definition_from_json(payload["name"], payload["definition"])
    # Collections of older versions have none of their own: their key is as good, and every replica derives the same.
    uid = payload.get("uid") or point_id(payload["key"])
    known = from_json(payload.get("calibrations", ""))
    return Collection(payload["key"], definition, datetime.fromisoformat(payload["create_time"]), uid, known)
