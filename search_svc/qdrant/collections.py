"""Collections in Qdrant: making, counting, listing and removing them."""

from collections.abc import Sequence
from contextlib import suppress

from qdrant_client import AsyncQdrantClient

from search_svc.definitions import check_same
from search_svc.model import Collection, CountedCollection, Definition
from search_svc.qdrant import indexing, registry
from search_svc.qdrant.faults import CollectionGone, translated
from search_svc.qdrant.layout import Tuning, new_key, payload_indexes, vector_params

# Longest time to take back what a call that failed had begun.
_CLEANING_S = 1


async def create(
    client: AsyncQdrantClient, prefix: str, definition: Definition, tuning: Tuning, *, local: bool
) -> CountedCollection:
    """Make the collection, or return what is there if that is the same."""
    there = await registry.find(client, prefix, definition.name)
    if there is not None and not await client.collection_exists(there.key):
        # Somebody removed it by Qdrant's own means, and left its name.
        await registry.remove(client, prefix, there)
        there = None
    if there is None:
        there = await _make(client, prefix, definition, tuning, local=local)
    check_same(there.definition, definition)
    return await counted(client, there)


async def _make(
    client: AsyncQdrantClient, prefix: str, definition: Definition, tuning: Tuning, *, local: bool
) -> Collection:
    """Make a new collection, or return the one that another process made meanwhile."""
    key = new_key(prefix, definition.name)
    try:
        await client.create_collection(
            key,
            vectors_config=vector_params(definition, tuning),
            optimizers_config=indexing.optimizers(definition),
            on_disk_payload=tuning.on_disk or None,
        )
        if not local:
            for field, schema in payload_indexes(definition):
                await client.create_payload_index(key, field, field_schema=schema, wait=True)
    except BaseException:
        with suppress(Exception):
            await client.delete_collection(key, timeout=_CLEANING_S)
        raise
    # From here on it may bear the name: what fails leaves it where it is.
    made = await registry.add(client, prefix, key, definition)
    if made.key != key:
        await client.delete_collection(key)
    return made


async def counted(client: AsyncQdrantClient, collection: Collection) -> CountedCollection:
    """Return the collection with its count, which is counted and never estimated, and how far its indexes are."""
    count = (await client.count(collection.key, exact=True)).count
    return CountedCollection(collection, count, await indexing.statuses(client, collection))


async def page(client: AsyncQdrantClient, prefix: str, *, after: str, count: int) -> Sequence[CountedCollection]:
    """Return up to `count` collections by name, beginning behind `after`."""
    found: list[CountedCollection] = []
    for collection in await registry.everything(client, prefix):
        if collection.definition.name > after and len(found) < count:
            # One that is gone by now is none.
            with suppress(CollectionGone), translated():
                found.append(await counted(client, collection))
    return found


async def remove(client: AsyncQdrantClient, prefix: str, name: str) -> int:
    """Remove the collection and return how many items went with it; 0 where there is none."""
    collection = await registry.find(client, prefix, name)
    if collection is None:
        return 0
    try:
        with translated():
            count = (await client.count(collection.key, exact=True)).count
    except CollectionGone:
        # Another removes it, or one that did so died between the two steps.
        count = 0
    # The name first: what is found is whole.
    await registry.remove(client, prefix, collection)
    gone = await client.delete_collection(collection.key)
    return count if gone else 0
