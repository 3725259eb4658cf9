"""Many callers at once, callers that leave, and callers in a hurry."""

import asyncio
import random
from collections.abc import Awaitable

import asyncpg
import grpc
import numpy as np
import pytest

from lensmesh.search.v1 import search_pb2
from lensmesh_chassis.errors import DeadlineExceeded
from lensmesh_chassis.reasons import Reason
from search_svc.app import make_store
from search_svc.filters import All, Equals, Not, Some
from search_svc.model import Item, View
from search_svc.store import StaleCollection, Store
from tests.search.conftest import Serve, settings_for
from tests.search.support import (
    Stub,
    collection,
    create,
    definition,
    domain_item,
    item,
    listed,
    named_space,
    search_request,
    until,
    upsert,
)


async def test_overlapping_writers_never_stand_in_each_others_way(store: Store) -> None:
    made = (await store.create_collection(definition(), timeout_s=60)).collection
    vector = np.array([1.0, 0, 0, 0])

    async def write(seed: int) -> None:
        order = random.Random(seed)
        for round_ in range(4):
            names = [f"i{i}" for i in range(40)]
            order.shuffle(names)
            items = [domain_item(name, vector + seed, f'{{"n": {seed + round_}}}') for name in names[:30]]
            await store.upsert(made, items, timeout_s=60)
            if seed % 4 == 0:
                await store.delete_matching(made, Equals(("n",), (float(seed + round_),)), timeout_s=60)
            if seed % 4 == 1:
                await store.delete_ids(made, names[20:], timeout_s=60)

    await asyncio.gather(*(write(seed) for seed in range(12)))
    page = await store.list_items(
        made, filter=None, after="", count=100, view=View.FULL, max_bytes=1 << 20, timeout_s=60
    )
    # Whole items only: each still there has the vector that came with its metadata.
    assert all(found.vectors.get("image") is not None for found in page.items)


async def test_readers_see_whole_items_while_they_are_replaced(stub: Stub) -> None:
    await create(stub)
    done = asyncio.Event()

    async def write() -> None:
        for i in range(30):
            await upsert(stub, *(item(f"{k}", [1, i, 0, 0], {"n": i}) for k in range(20)))
        done.set()

    async def read() -> None:
        while not done.is_set():
            response = await stub.Search(search_request([1, 0, 0, 0], limit=100))
            assert len({hit.item.metadata["n"] for hit in response.hits}) <= 1

    await upsert(stub, *(item(f"{k}", [1, 0, 0, 0], {"n": 0}) for k in range(20)))
    await asyncio.gather(write(), read(), read())


async def test_a_collection_deleted_under_its_users(stub: Stub, store: Store) -> None:
    stale = (await store.create_collection(definition(), timeout_s=60)).collection

    codes: set[object] = set()

    async def use(seed: int) -> None:
        for i in range(10):
            for call in (upsert(stub, item(f"{seed}-{i}", [1, 0, 0, 0])), stub.Search(search_request([1, 0, 0, 0]))):
                codes.add(await _outcome(call))

    async def replace() -> None:
        for _ in range(8):
            await stub.DeleteCollection(search_pb2.DeleteCollectionRequest(name="pictures"))
            await create(stub)

    await asyncio.gather(replace(), *(use(seed) for seed in range(4)))
    assert codes <= {grpc.StatusCode.OK, grpc.StatusCode.NOT_FOUND}
    with pytest.raises(StaleCollection):
        await store.upsert(stale, [Item("a")], timeout_s=60)
    await upsert(stub, item("last"))


async def test_a_caller_that_leaves_writes_nothing(stub: Stub, database_url: str) -> None:
    await create(stub)
    await upsert(stub, item("a"))
    locker = await asyncpg.connect(database_url)
    watcher = await asyncpg.connect(database_url)
    table = await locker.fetchval("SELECT relname FROM pg_class WHERE relname LIKE 'items%' AND relkind = 'r'")

    async def waiting() -> bool:
        count = await watcher.fetchval(
            "SELECT count(*) FROM pg_stat_activity"
            " WHERE application_name = 'lensmesh-search' AND wait_event_type = 'Lock'"
        )
        return bool(count == 1)

    async def nobody_waits() -> bool:
        return not await waiting()

    async with locker.transaction():
        await locker.execute(f"LOCK TABLE lensmesh.{table}")
        call = stub.UpsertItems(search_pb2.UpsertItemsRequest(collection="pictures", items=[item("b")]))
        task = asyncio.ensure_future(_outcome(call))
        await until(waiting)
        call.cancel()
        # The server's query ends too, though what it waits for is still locked.
        await until(nobody_waits)
        assert await task == grpc.StatusCode.CANCELLED
    assert await listed(stub) == ["a"]
    await locker.close()
    await watcher.close()


async def _outcome(call: Awaitable[object]) -> object:
    try:
        await call
    except asyncio.CancelledError:
        return grpc.StatusCode.CANCELLED
    except grpc.aio.AioRpcError as error:
        return error.code()
    return grpc.StatusCode.OK


async def test_the_deadline_is_the_databases_too(store: Store, database_url: str) -> None:
    made = (await store.create_collection(definition(), timeout_s=60)).collection
    locker = await asyncpg.connect(database_url)
    async with locker.transaction():
        await locker.execute(f"LOCK TABLE lensmesh.items_{made.key}")
        with pytest.raises(DeadlineExceeded) as caught:
            await store.upsert(made, [Item("a")], timeout_s=0.3)
        assert caught.value.reason is Reason.DEADLINE_EXCEEDED
        waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
        assert await locker.fetchval(waiting) == 0
    assert len(await store.upsert(made, [Item("a")], timeout_s=60)) == 1
    await locker.close()


async def test_a_deadline_passes_while_all_connections_are_taken(serve: Serve, database_url: str) -> None:
    async with serve(pool_size=1) as (stub, server):
        await create(stub)
        locker = await asyncpg.connect(database_url)
        table = await locker.fetchval("SELECT relname FROM pg_class WHERE relname LIKE 'items%' AND relkind = 'r'")
        async with locker.transaction():
            await locker.execute(f"LOCK TABLE lensmesh.{table}")
            request = search_pb2.ListItemsRequest(collection="pictures")
            calls = [stub.ListItems(request, timeout=0.5) for _ in range(5)]
            for call in calls:
                with pytest.raises(grpc.aio.AioRpcError) as caught:
                    await call
                assert caught.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED
            # A busy store is not a lost one.
            assert server.runtime.health.reason() == ""
        assert await listed(stub) == []
        await locker.close()


async def test_a_large_call_leaves_the_event_loop_free(stub: Stub) -> None:
    await create(stub, collection("pictures", named_space("image", flat=True)))
    fat = {"values": [float(i) for i in range(2_000)]}
    items = [item(f"{i}", [1, i, 0, 0], fat) for i in range(300)]
    busy = asyncio.create_task(upsert(stub, *items))
    answered = 0
    while not busy.done():
        await stub.GetInfo(search_pb2.GetInfoRequest())
        answered += 1
    assert len(await busy) == 300
    # Were it all done on the loop, at most the calls before and after would be answered.
    assert answered > 3


async def test_whole_trees_of_filters_are_planned(store: Store) -> None:
    made = (await store.create_collection(definition(), timeout_s=60)).collection
    await store.upsert(made, [Item("a")], timeout_s=60)
    tree = Some(tuple(All(tuple(Not(Equals((f"f{i}", f"g{k}"), ("x",))) for k in range(30))) for i in range(30)))
    page = await store.list_items(made, filter=tree, after="", count=9, view=View.ID, max_bytes=99, timeout_s=60)
    assert [found.id for found in page.items] == ["a"]


async def test_opening_at_the_same_time(database_url: str) -> None:
    stores = [make_store(settings_for(database_url)) for _ in range(5)]
    await asyncio.gather(*(each.open() for each in stores))
    assert {each.describe() for each in stores} == {stores[0].describe()}
    for each in stores:
        await each.close()
