"""Collections: made, described, listed, removed."""

import asyncio
from typing import Any

import grpc

from lensmesh.common.v1 import common_pb2
from lensmesh.search.v1 import search_pb2
from lensmesh_chassis.reasons import Reason
from tests.search.conftest import Serve
from tests.search.support import OTHER_SPACE_ID, Stub, collection, create, item, named_space, refused, upsert

INVALID = grpc.StatusCode.INVALID_ARGUMENT


async def names(stub: Stub, page_size: int = 0) -> list[str]:
    result: list[str] = []
    token = ""
    while True:
        page = await stub.ListCollections(search_pb2.ListCollectionsRequest(page_size=page_size, page_token=token))
        result += [each.name for each in page.collections]
        token = page.next_page_token
        if not token:
            return result


async def test_defaults_are_filled_in(stub: Stub) -> None:
    wanted = collection(
        "a-b_2", named_space("image"), named_space("1", flat=True, stored_as=common_pb2.DATA_TYPE_FLOAT32)
    )
    wanted.field_indexes.add(field="camera.iso", type=search_pb2.FIELD_TYPE_NUMBER)
    made = await create(stub, wanted)
    assert made.spaces[0].index.stored_as == common_pb2.DATA_TYPE_FLOAT16
    assert (made.spaces[0].index.hnsw.m, made.spaces[0].index.hnsw.ef_construction) == (16, 128)
    assert made.spaces[1].index.WhichOneof("kind") == "flat"
    assert made.spaces[1].index.stored_as == common_pb2.DATA_TYPE_FLOAT32
    assert made.spaces[0].space == wanted.spaces[0].space
    assert made.field_indexes == wanted.field_indexes
    assert made.create_time.seconds > 0
    described = await stub.GetCollection(search_pb2.GetCollectionRequest(name="a-b_2"))
    assert described.collection == made


async def test_same_definition_again_answers_what_is_there(stub: Stub) -> None:
    made = await create(stub)
    await upsert(stub, item("a", [1, 0, 0, 0]))
    again = collection()
    again.spaces[0].index.stored_as = common_pb2.DATA_TYPE_FLOAT16
    again.spaces[0].index.hnsw.m = 16
    again.spaces[0].space.model = "another name of the same model"
    answer = await create(stub, again)
    assert (answer.create_time, answer.item_count) == (made.create_time, 1)


async def test_another_definition_is_refused(stub: Stub) -> None:
    await create(stub)
    others = [
        collection("pictures", named_space(dimension=5)),
        collection("pictures", named_space(space={"id": OTHER_SPACE_ID})),
        collection("pictures", named_space(space={"normalized": False})),
        collection("pictures", named_space("caption")),
        collection("pictures", named_space(flat=True)),
        collection("pictures", named_space(hnsw=search_pb2.HnswIndex(m=8))),
        collection("pictures", named_space(stored_as=common_pb2.DATA_TYPE_FLOAT32)),
        collection("pictures", named_space(), named_space("second")),
        collection("pictures", indexes={"artist": search_pb2.FIELD_TYPE_KEYWORD}),
    ]
    for other in others:
        await refused(create(stub, other), grpc.StatusCode.ALREADY_EXISTS, Reason.COLLECTION_EXISTS, "collection.name")


def changed(**spaces: Any) -> search_pb2.Collection:
    return collection("pictures", named_space(**spaces))


async def test_the_limit_of_dimensions_is_named(stub: Stub) -> None:
    error = await refused(create(stub, changed(dimension=5_000)), INVALID, Reason.COLLECTION_INVALID)
    assert "4,000" in error.message
    bad = changed(dimension=5_000, stored_as=common_pb2.DATA_TYPE_FLOAT32)
    error = await refused(create(stub, bad), INVALID, Reason.COLLECTION_INVALID)
    assert "2,000" in error.message


async def test_the_largest_dimensions_work(stub: Stub) -> None:
    spaces = [
        named_space("half", 4_000),
        named_space("full", 2_000, stored_as=common_pb2.DATA_TYPE_FLOAT32),
        named_space("flat", 16_000, flat=True, stored_as=common_pb2.DATA_TYPE_FLOAT32),
    ]
    assert len((await create(stub, collection("large", *spaces))).spaces) == 3


async def test_odd_paths_can_be_indexed(stub: Stub) -> None:
    paths = ["it's", 'a "quoted" one', "back\\slash", "ünïcode.😀", "%s", "$$.x"[2:] + "x", "a b.c-d"]
    wanted = collection(indexes=dict.fromkeys([path.lstrip(".") for path in paths], search_pb2.FIELD_TYPE_KEYWORD))
    assert (await create(stub, wanted)).field_indexes == wanted.field_indexes


async def test_many_makers_at_once(stub: Stub) -> None:
    answers = await asyncio.gather(*(create(stub) for _ in range(20)))
    assert len({answer.create_time.ToNanoseconds() for answer in answers}) == 1
    others = await asyncio.gather(
        *(create(stub, collection("other", named_space(dimension=i % 2 + 1))) for i in range(10)),
        return_exceptions=True,
    )
    failed = [error for error in others if isinstance(error, grpc.aio.AioRpcError)]
    assert len(failed) == 5
    assert {error.code() for error in failed} == {grpc.StatusCode.ALREADY_EXISTS}


async def test_listed_by_name_in_pages(stub: Stub) -> None:
    for name in ("b", "c", "a", "a-1", "a_1", "ab"):
        await create(stub, collection(name))
    expected = sorted(["b", "c", "a", "a-1", "a_1", "ab"])
    assert await names(stub) == expected
    assert await names(stub, page_size=1) == expected
    assert await names(stub, page_size=6) == expected
    await refused(
        stub.ListCollections(search_pb2.ListCollectionsRequest(page_size=1_001)),
        INVALID,
        Reason.LIMIT_OUT_OF_RANGE,
        "page_size",
    )
    await refused(
        stub.ListCollections(search_pb2.ListCollectionsRequest(page_token="nonsense")),
        INVALID,
        Reason.PAGE_TOKEN_INVALID,
        "page_token",
    )


async def test_deleting_tells_how_many_items_went(stub: Stub) -> None:
    await create(stub)
    await upsert(stub, item("a", [1, 0, 0, 0]), item("b"))
    assert (await stub.DeleteCollection(search_pb2.DeleteCollectionRequest(name="pictures"))).deleted_count == 2
    assert (await stub.DeleteCollection(search_pb2.DeleteCollectionRequest(name="pictures"))).deleted_count == 0
    assert (await stub.DeleteCollection(search_pb2.DeleteCollectionRequest(name="No Name"))).deleted_count == 0
    await refused(
        stub.GetCollection(search_pb2.GetCollectionRequest(name="pictures")),
        grpc.StatusCode.NOT_FOUND,
        Reason.COLLECTION_NOT_FOUND,
    )
    await create(stub, collection("pictures", named_space(dimension=3)))
    assert await upsert(stub, item("a", [1, 0, 0])) == [search_pb2.UPSERT_OUTCOME_CREATED]


async def test_a_collection_made_anew_elsewhere_is_noticed(serve: Serve) -> None:
    async with serve() as (one, _), serve() as (other, _):
        await create(one)
        await upsert(one, item("a", [1, 0, 0, 0]))
        await other.DeleteCollection(search_pb2.DeleteCollectionRequest(name="pictures"))
        await create(other, collection("pictures", named_space(dimension=2)))
        assert await upsert(one, item("a", [1, 0])) == [search_pb2.UPSERT_OUTCOME_CREATED]
        await other.DeleteCollection(search_pb2.DeleteCollectionRequest(name="pictures"))
        await refused(upsert(one, item("a", [1, 0])), grpc.StatusCode.NOT_FOUND, Reason.COLLECTION_NOT_FOUND)


async def test_unknown_collections(stub: Stub) -> None:
    for name in ("nothing", "Not A Name", "a\x00", "x" * 100):
        calls: list[Any] = [
            stub.GetCollection(search_pb2.GetCollectionRequest(name=name)),
            stub.UpsertItems(search_pb2.UpsertItemsRequest(collection=name, items=[item("a")])),
            stub.GetItems(search_pb2.GetItemsRequest(collection=name, ids=["a"])),
            stub.ListItems(search_pb2.ListItemsRequest(collection=name)),
            stub.DeleteItems(search_pb2.DeleteItemsRequest(collection=name, ids=search_pb2.IdList(ids=["a"]))),
            stub.Search(search_pb2.SearchRequest(collection=name)),
            stub.CountFacets(search_pb2.CountFacetsRequest(collection=name, fields=["a"])),
        ]
        for call in calls:
            await refused(call, grpc.StatusCode.NOT_FOUND, Reason.COLLECTION_NOT_FOUND)


async def test_an_empty_name_is_no_name(stub: Stub) -> None:
    await refused(stub.ListItems(search_pb2.ListItemsRequest()), INVALID, Reason.COLLECTION_INVALID, "collection")
    await refused(
        stub.DeleteCollection(search_pb2.DeleteCollectionRequest()), INVALID, Reason.COLLECTION_INVALID, "name"
    )
