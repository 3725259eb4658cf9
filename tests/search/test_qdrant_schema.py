"""What Qdrant keeps beside the items: made, agreed on, brought up to date, and refused where it is newer."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from qdrant_client import AsyncQdrantClient

from lensmesh_chassis.errors import Unavailable
from lensmesh_chassis.process.server import running
from lensmesh_chassis.tls.credentials import ChannelSecurity
from search_svc.app import SERVICE, SearchApp, make_store
from search_svc.model import FieldType, Item
from search_svc.qdrant import registry
from search_svc.qdrant.address import QdrantAddress, parse_address
from search_svc.qdrant.engine import Remote
from search_svc.qdrant.layout import Tuning
from search_svc.qdrant.store import QdrantStore
from search_svc.store import StaleCollection, StoreRefused
from tests.search.conftest import settings_for
from tests.search.standin import StandIn
from tests.search.support import definition
from tests.support.waiting import until

# The version of the step after all that there are.
NEXT = registry.STEPS[-1].version + 1


@pytest.fixture
async def standin() -> AsyncIterator[StandIn]:
    """A server that listens."""
    made = StandIn()
    await made.start()
    yield made
    await made.remove()


@pytest.fixture
async def engine(qdrant_url: str) -> AsyncIterator[Remote]:
    """A way to the server beside the store's own."""
    address = parse_address(qdrant_url)
    assert isinstance(address, QdrantAddress)
    made = Remote(address, ChannelSecurity())
    yield made
    await made.close()


NEXT = len(registry.STEPS) + 1


def store_with(engine: Remote, prefix: str, *steps: registry.RegistryStep) -> QdrantStore:
    return QdrantStore(
        engine, prefix=prefix, tuning=Tuning("none", False), hnsw_ef=100, connect_s=60, steps=(*registry.STEPS, *steps)
    )


async def contents(engine: Remote) -> Any:
    """Everything that is there: names of collections, and every point with its payload."""

    async def work(client: AsyncQdrantClient) -> Any:
        names = sorted(each.name for each in (await client.get_collections()).collections)
        points = [(await client.scroll(name, limit=1_000, with_payload=True))[0] for name in names]
        return names, [[(record.id, record.payload) for record in records] for records in points]

    return await engine.run(work, timeout_s=60)


async def test_steps_are_numbered_without_gaps() -> None:
    assert [step.version for step in registry.STEPS] == list(range(1, len(registry.STEPS) + 1))


async def test_from_nothing_and_again(qdrant_url: str, engine: Remote) -> None:
    store = make_store(settings_for(qdrant_url))
    await store.open()
    before = await contents(engine)
    await store.open()
    await store.check()
    assert await contents(engine) == before
    assert store.describe().startswith("qdrant 1.")
    await store.close()


async def test_an_older_schema_is_brought_up_to_date(qdrant_url: str, engine: Remote) -> None:
    prefix = parse_address(qdrant_url).prefix
    old = store_with(engine, prefix)
    await old.open()
    await old.create_collection(definition(), timeout_s=60)
    done: list[str] = []

    async def count(client: AsyncQdrantClient, at: str) -> None:
        done.append(at)

    new = store_with(engine, prefix, registry.RegistryStep(NEXT, "one more step", count))
    await new.open()
    assert done == [prefix]
    assert await engine.run(lambda client: registry.schema_version(client, prefix), timeout_s=60) == NEXT
    assert (await new.find_collection("pictures", fresh=True, timeout_s=60)).definition == definition()
    await new.open()
    assert done == [prefix]


async def test_collections_made_before_get_an_index_of_hashes(standin: StandIn) -> None:
    address = parse_address(standin.url())
    assert isinstance(address, QdrantAddress)
    engine, prefix = Remote(address, ChannelSecurity()), address.prefix
    old = QdrantStore(
        engine, prefix=prefix, tuning=Tuning("none", False), hnsw_ef=100, connect_s=60, steps=registry.STEPS[:1]
    )
    await old.open()
    made = await old.create_collection(definition(), timeout_s=60)
    standin.forget_indexes(made.collection.key)
    await store_with(engine, prefix).open()
    assert standin.indexes(made.collection.key) == {"hash_bands"}
    await engine.close()


async def test_a_newer_schema_is_refused_and_unchanged(qdrant_url: str, engine: Remote) -> None:
    prefix = parse_address(qdrant_url).prefix

    async def nothing(client: AsyncQdrantClient, at: str) -> None:
        return

    newer = store_with(engine, prefix, registry.RegistryStep(NEXT, "from the future", nothing))
    await newer.open()
    await newer.create_collection(definition(), timeout_s=60)
    before = await contents(engine)
    store = make_store(settings_for(qdrant_url))
    with pytest.raises(StoreRefused, match=f"version {NEXT}, and this release knows versions up to {NEXT - 1}"):
        await store.open()
    await store.close()
    async with running(settings_for(qdrant_url, store_check_seconds=0.1), SearchApp, "search") as server:
        assert f"schema version {NEXT}" in server.runtime.health.reason()
        assert await contents(engine) == before
        # Taken back, as an operator would from a snapshot: the service recovers by itself.
        await engine.run(lambda client: client.delete_collection(prefix), timeout_s=60)

        async def serves() -> bool:
            return server.runtime.health.is_serving(SERVICE)

        await until(serves)


async def test_a_server_too_old_is_refused(standin: StandIn) -> None:
    standin.version = "1.16.3"
    store = make_store(settings_for(standin.url()))
    with pytest.raises(StoreRefused, match=r"Qdrant 1\.16\.3 is too old: 1\.17 or newer"):
        await store.open()
    await store.close()
    assert standin.created == []


async def test_a_registry_taken_away_is_made_again(qdrant_url: str, engine: Remote) -> None:
    store = make_store(settings_for(qdrant_url))
    await store.open()
    await engine.run(lambda client: client.delete_collection(parse_address(qdrant_url).prefix), timeout_s=60)
    with pytest.raises(Unavailable):
        await store.create_collection(definition(), timeout_s=60)
    await store.check()
    assert (await store.create_collection(definition(), timeout_s=60)).item_count == 0
    await store.close()


async def test_a_collection_removed_by_qdrants_own_means_can_be_made_again(qdrant_url: str, engine: Remote) -> None:
    store = make_store(settings_for(qdrant_url))
    await store.open()
    made = (await store.create_collection(definition(), timeout_s=60)).collection
    await engine.run(lambda client: client.delete_collection(made.key), timeout_s=60)
    with pytest.raises(StaleCollection):
        await store.upsert(made, [Item("a")], timeout_s=60)
    assert await store.list_collections(after="", count=10, timeout_s=60) == []
    again = (await store.create_collection(definition(), timeout_s=60)).collection
    assert again.key != made.key
    assert len(await store.upsert(again, [Item("a")], timeout_s=60)) == 1
    await store.close()


async def test_replicas_that_race_leave_one_collection(qdrant_url: str, engine: Remote) -> None:
    stores = [make_store(settings_for(qdrant_url)) for _ in range(4)]
    for store in stores:
        await store.open()
    made = await asyncio.gather(*(store.create_collection(definition(), timeout_s=60) for store in stores))
    assert len({each.collection.key for each in made}) == 1
    names, _ = await contents(engine)
    prefix = parse_address(qdrant_url).prefix
    assert [name for name in names if name.startswith(f"{prefix}.")] == [
        f"{prefix}.job_parts",
        f"{prefix}.jobs",
        made[0].collection.key,
    ]
    for store in stores:
        await store.close()


async def test_settings_and_definitions_reach_the_server(standin: StandIn) -> None:
    settings = settings_for(standin.url(), qdrant_quantization="int8", qdrant_on_disk=True)
    store = make_store(settings)
    await store.open()
    await store.create_collection(definition(indexes={"iso": FieldType.NUMBER}), timeout_s=60)
    await store.create_collection(definition("flat", hnsw=False), timeout_s=60)
    await store.close()
    made, flat = (each.vectors_config.params_map.map["image"] for each in standin.created[-2:])
    assert (made.on_disk, made.hnsw_config.m, made.hnsw_config.ef_construct, made.hnsw_config.on_disk) == (
        True,
        16,
        128,
        True,
    )
    assert made.quantization_config.scalar.always_ram
    assert standin.created[-2].on_disk_payload
    # No graph, so that every search is exact.
    assert (flat.hnsw_config.HasField("m"), flat.hnsw_config.m) == (True, 0)
    indexed = standin.indexes(standin.created[-2].collection_name)
    assert indexed == {"digest", "hash_bands", "words.text_0.words", 'fields."iso".numbers', 'fields."iso".values'}


@pytest.mark.parametrize("quantization", ["int8", "binary"])
async def test_the_collection_is_made_with_the_quantization_that_is_set(standin: StandIn, quantization: str) -> None:
    settings = settings_for(standin.url(), qdrant_quantization=quantization)
    store = make_store(settings)
    await store.open()
    await store.create_collection(definition(), timeout_s=60)
    await store.close()
    config = standin.created[-1].vectors_config.params_map.map["image"].quantization_config
    assert config.WhichOneof("quantization") == {"int8": "scalar", "binary": "binary"}[quantization]
