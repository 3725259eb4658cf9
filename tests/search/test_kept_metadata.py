"""What a write keeps and says it changed: metadata merged or replaced, marks of the image, the collection's uid."""

import asyncio
import json
from typing import Any

import asyncpg
import grpc
import pytest

from lensmesh.common.v1 import common_pb2
from lensmesh.search.v1 import search_pb2, search_pb2_grpc
from lensmesh_chassis.channels import open_channel
from lensmesh_chassis.process.server import running
from lensmesh_chassis.reasons import Reason
from search_svc.app import SearchApp
from search_svc.metadata import depth_of
from search_svc.wire.structs import json_to_struct
from tests.search.conftest import Serve, settings_for
from tests.search.support import Stub, create, item, listed, none_of, refused, search_request, upsert, where

INVALID = grpc.StatusCode.INVALID_ARGUMENT
MERGE = search_pb2.METADATA_POLICY_MERGE
CREATED = search_pb2.UPSERT_OUTCOME_CREATED
UPDATED = search_pb2.UPSERT_OUTCOME_UPDATED
UNCHANGED = search_pb2.UPSERT_OUTCOME_UNCHANGED


async def merge(stub: Stub, *items: search_pb2.Item) -> list[tuple[Any, list[Any]]]:
    request = search_pb2.UpsertItemsRequest(collection="pictures", items=items, metadata_policy=MERGE)
    return [(each.outcome, list(each.changes)) for each in (await stub.UpsertItems(request)).results]


async def metadata_of(stub: Stub, item_id: str) -> dict[str, Any]:
    got = await stub.GetItems(search_pb2.GetItemsRequest(collection="pictures", ids=[item_id]))
    return dict(got.items[0].metadata.items())


def nested(levels: int) -> dict[str, Any]:
    """Metadata of so many levels, lists and objects in turn."""
    value: Any = 1
    for level in range(levels - 1):
        value = [value] if level % 2 else {"x": value}
    return {"m": value}


async def test_merging_writes_the_keys_that_are_sent(stub: Stub) -> None:
    await create(stub)
    stored = item("a", [1, 0, 0, 0], {"kept": 1, "changed": {"x": 1, "y": 2}, "gone": 3})
    assert await merge(stub, stored) == [(CREATED, [])]
    change = item("a", [1, 0, 0, 0], {"changed": {"z": 3}, "gone": None, "new": True})
    assert await merge(stub, change) == [(UPDATED, [search_pb2.ITEM_CHANGE_METADATA])]
    merged = {"kept": 1, "changed": {"z": 3}, "gone": None, "new": True}
    got = await metadata_of(stub, "a")
    got["changed"] = dict(got["changed"].items())
    assert got == merged
    # Nothing that is new: by a part, by nothing, and by an equal number.
    for same in ({"kept": 1.0}, None, {"new": True, "kept": -0.0 + 1}):
        assert await merge(stub, item("a", [1, 0, 0, 0], same)) == [(UNCHANGED, [])]
    assert await merge(stub, item("a", [1, 0, 0, 0], {"kept": True})) == [(UPDATED, [search_pb2.ITEM_CHANGE_METADATA])]
    assert await upsert(stub, item("a", [1, 0, 0, 0])) == [UPDATED]
    assert await metadata_of(stub, "a") == {}


async def test_merged_metadata_keeps_the_limits(serve: Serve) -> None:
    async with serve(max_metadata_bytes=100, max_metadata_depth=3) as (stub, _):
        await create(stub)
        assert await upsert(stub, item("a", metadata={"a": "x" * 60}), item("b", metadata={"a": 1})) == [CREATED] * 2
        much = [item("new"), item("b", metadata={"b": "y" * 60}), item("a", metadata={"b": "y" * 60})]
        error = await refused(merge(stub, *much), INVALID, Reason.METADATA_TOO_LARGE, "items[2].metadata")
        assert len(error.violations) == 1
        await refused(
            merge(stub, item("a", metadata=nested(4))), INVALID, Reason.METADATA_TOO_DEEP, "items[0].metadata"
        )
        # Nothing was written, and what replaces the long part is fine.
        assert await listed(stub) == sorted(["a", "b"], key=(await listed(stub)).index)
        assert (await merge(stub, item("a", metadata={"a": "y" * 60})))[0][0] == UPDATED


# Qdrant makes no such promise: docs/stores.md.
@pytest.mark.parametrize("store_url", ["postgresql"], indirect=True)
async def test_merges_at_the_same_time_lose_nothing(stub: Stub) -> None:
    await create(stub)
    keys = [f"k{number}" for number in range(12)]
    await asyncio.gather(*(merge(stub, item("a", metadata={key: 1})) for key in keys))
    assert sorted(await metadata_of(stub, "a")) == sorted(keys)


async def test_what_changed_is_said(stub: Stub) -> None:
    await create(stub)
    caption = common_pb2.Caption(text="a", confidence=0.5, model="m")

    def made(**changes: Any) -> search_pb2.Item:
        fields: dict[str, Any] = {"caption": caption, "image_uri": "file:///a", "content_digest": bytes(32)} | changes
        return item("a", fields.pop("vector", [1, 0, 0, 0]), fields.pop("metadata", {"k": 1}), **fields)

    request = search_pb2.UpsertItemsRequest(collection="pictures")
    for change, expected in (
        ({}, []),
        ({"content_digest": bytes([1]) * 32}, [search_pb2.ITEM_CHANGE_CONTENT]),
        ({"vector": [0, 1, 0, 0]}, [search_pb2.ITEM_CHANGE_VECTORS]),
        ({"vector": None}, [search_pb2.ITEM_CHANGE_VECTORS]),
        ({"caption": common_pb2.Caption(text="a", confidence=0.25, model="m")}, [search_pb2.ITEM_CHANGE_CAPTION]),
        ({"caption": None}, [search_pb2.ITEM_CHANGE_CAPTION]),
        ({"metadata": {"k": "1"}}, [search_pb2.ITEM_CHANGE_METADATA]),
        ({"image_uri": "file:///b"}, [search_pb2.ITEM_CHANGE_IMAGE_URI]),
        (
            {"vector": [0, 1, 0, 0], "content_digest": bytes([1]) * 32, "metadata": {}},
            [search_pb2.ITEM_CHANGE_CONTENT, search_pb2.ITEM_CHANGE_VECTORS, search_pb2.ITEM_CHANGE_METADATA],
        ),
    ):
        await upsert(stub, made())
        request.items.clear()
        request.items.append(made(**change))
        result = (await stub.UpsertItems(request)).results[0]
        assert (list(result.changes), result.outcome) == (expected, UPDATED if expected else UNCHANGED)


async def test_low_content_is_kept_and_filtered(stub: Stub) -> None:
    await create(stub)
    await upsert(stub, item("low", low_content=True), item("rich", metadata={"low_content": True}))
    got = await stub.GetItems(search_pb2.GetItemsRequest(collection="pictures", ids=["low", "rich"]))
    assert [each.low_content for each in got.items] == [True, False]
    for chosen, ids in (
        (where("$low_content", equals=True), {"low"}),
        (where("$low_content", equals=False), {"rich"}),
        (where("$low_content", one_of=[True, False, "x"]), {"low", "rich"}),
        (where("$low_content", equals="true"), set()),
        (where("$low_content", exists=True), {"low", "rich"}),
        (none_of(where("$low_content", equals=True)), {"rich"}),
    ):
        assert set(await listed(stub, chosen)) == ids
    assert await upsert(stub, item("low", low_content=False)) == [UPDATED]
    assert await listed(stub, where("$low_content", equals=True)) == []


async def test_items_without_a_caption_are_found(stub: Stub) -> None:
    await create(stub)
    await upsert(stub, item("a", caption=common_pb2.Caption(text="")), item("b"), item("c", metadata={"caption": "x"}))
    assert set(await listed(stub, where("$caption", exists=False))) == {"b", "c"}


async def test_a_collection_has_a_uid_of_its_own(stub: Stub) -> None:
    first = await create(stub)
    assert first.uid == (await create(stub)).uid
    assert (await stub.GetCollection(search_pb2.GetCollectionRequest(name="pictures"))).collection.uid == first.uid
    await stub.DeleteCollection(search_pb2.DeleteCollectionRequest(name="pictures"))
    assert len({"", first.uid, (await create(stub)).uid}) == 3


async def test_metadata_is_as_deep_as_the_limit(stub: Stub) -> None:
    await create(stub)
    limits = (await stub.GetInfo(search_pb2.GetInfoRequest())).limits
    assert (limits.max_metadata_depth, limits.max_filter_values) == (16, 10_000)
    assert await upsert(stub, item("a", [1, 0, 0, 0], nested(16))) == [CREATED]
    deep = [item("b"), item("c", metadata=nested(17)), item("d", metadata={"l": [[[[nested(13)]]]]})]
    await refused(upsert(stub, *deep), INVALID, Reason.METADATA_TOO_DEEP, "items[1].metadata", "items[2].metadata")
    assert await listed(stub) == ["a"]


async def test_a_policy_that_is_unknown_is_refused(stub: Stub) -> None:
    await create(stub)
    request = search_pb2.UpsertItemsRequest(collection="pictures", items=[item("a")])
    request.metadata_policy = 7  # type: ignore[assignment]  # a number of no meaning
    await refused(stub.UpsertItems(request), INVALID, Reason.OPTION_INVALID, "metadata_policy")


@pytest.mark.parametrize("number", [2.0**53, -(2.0**53), 2.0**63, 1e20])
async def test_integers_that_were_changed_on_the_way_are_refused(stub: Stub, number: float) -> None:
    await create(stub)
    error = await refused(
        upsert(stub, item("a", metadata={"k": [number]})), INVALID, Reason.METADATA_INVALID, "items[0].metadata"
    )
    assert "string" in error.message
    assert await upsert(stub, item("a", metadata={"k": [2.0**53 - 1, 1e300, str(2**60)], "z": -0.0})) == [CREATED]
    assert await upsert(stub, item("a", metadata={"k": [2.0**53 - 1, 1e300, str(2**60)], "z": 0})) == [UNCHANGED]
    for test in (
        {"equals": number},
        {"one_of": ["x", number]},
        {"range": {"above": number}},
    ):
        await refused(
            stub.ListItems(search_pb2.ListItemsRequest(collection="pictures", filter=where("k", **test))),
            INVALID,
            Reason.FILTER_INVALID,
        )


def test_what_was_stored_too_deep_comes_back_readable() -> None:
    message = search_pb2.BatchSearchResponse()
    struct = message.results.add().response.hits.add().item.metadata
    json_to_struct(json.dumps({"deep": nested(60), "flat": 1}), struct)
    back = search_pb2.BatchSearchResponse.FromString(message.SerializeToString())
    metadata = back.results[0].response.hits[0].item.metadata
    assert metadata["flat"] == 1
    inner: Any = metadata["deep"]
    while not isinstance(inner, str):
        inner = inner[0] if hasattr(inner, "values") and not hasattr(inner, "fields") else next(iter(inner.values()))
    assert 30 < depth_of(json.loads(inner)) < 60


async def test_a_row_that_was_stored_too_deep_is_answered_by_every_call(database_url: str) -> None:
    async with (
        running(settings_for(database_url), SearchApp, "search") as server,
        open_channel(server.address) as channel,
    ):
        stub: Stub = search_pb2_grpc.SearchServiceStub(channel)
        await create(stub)
        await upsert(stub, item("deep", [1, 0, 0, 0]), item("flat", [0, 1, 0, 0], {"n": 1}))
        connection = await asyncpg.connect(database_url)
        await connection.execute(
            "UPDATE lensmesh.items_1 SET metadata = $1::text::jsonb WHERE id = 'deep'",
            json.dumps({"n": 1, **nested(500)}),
        )
        await connection.close()
        asked = search_request([1, 0, 0, 0], limit=2)
        batch = search_pb2.BatchSearchRequest(searches=[asked])
        answers: list[Any] = [
            [hit.item for hit in (await stub.Search(asked)).hits],
            [hit.item for hit in (await stub.BatchSearch(batch)).results[0].response.hits],
            (await stub.ListItems(search_pb2.ListItemsRequest(collection="pictures"))).items,
            (await stub.GetItems(search_pb2.GetItemsRequest(collection="pictures", ids=["deep", "flat"]))).items,
        ]
        for items in answers:
            assert {each.id: each.metadata["n"] for each in items} == {"deep": 1, "flat": 1}
        # Merged into, it is too deep still; replaced, it is an item like others.
        await refused(
            merge(stub, item("deep", [1, 0, 0, 0], {"new": 1})), INVALID, Reason.METADATA_TOO_DEEP, "items[0].metadata"
        )
        assert await upsert(stub, item("deep", [1, 0, 0, 0], {"n": 2})) == [UPDATED]
