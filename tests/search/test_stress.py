"""Many callers at once, callers that leave, and callers in a hurry."""

import asyncio
import random

import grpc
import numpy as np
import pytest

from lensmesh.search.v1 import search_pb2
from search_svc.app import make_store
from search_svc.filters import All, Equals, Not, Some
from search_svc.model import Item, View
from search_svc.store import StaleCollection, Store
from tests.search.conftest import settings_for
from tests.search.support import (
    Stub,
    collection,
    create,
    definition,
    domain_item,
    item,
    named_space,
    outcome,
    search_request,
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
        full = search_pb2.ReadOptions(view=search_pb2.ITEM_VIEW_FULL, readable=True)
        while not done.is_set():
            response = await stub.Search(search_request([1, 0, 0, 0], limit=100, read=full))
            for hit in response.hits:
                x, y, *_ = hit.item.vectors["image"].floats
                assert y / x == pytest.approx(hit.item.metadata["n"], rel=0.01)

    await upsert(stub, *(item(f"{k}", [1, 0, 0, 0], {"n": 0}) for k in range(20)))
    await asyncio.gather(write(), read(), read())


async def test_a_collection_deleted_under_its_users(stub: Stub, store: Store) -> None:
    stale = (await store.create_collection(definition(), timeout_s=60)).collection

    codes: set[object] = set()

    async def use(seed: int) -> None:
        for i in range(10):
            for call in (upsert(stub, item(f"{seed}-{i}", [1, 0, 0, 0])), stub.Search(search_request([1, 0, 0, 0]))):
                codes.add(await outcome(call))

    async def replace() -> None:
        for _ in range(8):
            await stub.DeleteCollection(search_pb2.DeleteCollectionRequest(name="pictures"))
            await create(stub)

    await asyncio.gather(replace(), *(use(seed) for seed in range(4)))
    assert codes <= {grpc.StatusCode.OK, grpc.StatusCode.NOT_FOUND}
    with pytest.raises(StaleCollection):
        await store.upsert(stale, [Item("a")], timeout_s=60)
    await upsert(stub, item("last"))


async def test_a_large_call_leaves_the_event_loop_free(stub: Stub) -> None:
    await create(stub, collection("pictures", named_space("image", flat=True)))
    fat = {"values": [float(i) for i in range(2_000)]}
    items = [item(f"{i}", [1, i, 0, 0], fat) for i in range(100)]
    busy = asyncio.create_task(upsert(stub, *items))
    answered = 0
    while not busy.done():
        await stub.GetInfo(search_pb2.GetInfoRequest())
        answered += 1
    assert len(await busy) == 100
    # Were it all done on the loop, at most the calls before and after would be answered.
    assert answered > 3


async def test_whole_trees_of_filters_are_planned(store: Store) -> None:
    made = (await store.create_collection(definition(), timeout_s=60)).collection
    await store.upsert(made, [Item("a")], timeout_s=60)
    tree = Some(tuple(All(tuple(Not(Equals((f"f{i}", f"g{k}"), ("x",))) for k in range(30))) for i in range(30)))
    page = await store.list_items(made, filter=tree, after="", count=9, view=View.ID, max_bytes=99, timeout_s=60)
    assert [found.id for found in page.items] == ["a"]


async def test_opening_at_the_same_time(store_url: str) -> None:
    stores = [make_store(settings_for(store_url)) for _ in range(5)]
    await asyncio.gather(*(each.open() for each in stores))
    assert {each.describe() for each in stores} == {stores[0].describe()}
    for each in stores:
        await each.close()
