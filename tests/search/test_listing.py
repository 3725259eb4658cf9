"""Walking through a collection, and removing what a filter chooses."""

from typing import Any

import grpc

from lensmesh.search.v1 import search_pb2
from lensmesh_chassis.reasons import Reason
from tests.search.conftest import Serve
from tests.search.support import (
    Stub,
    all_of,
    any_of,
    collection,
    create,
    item,
    listed,
    named_space,
    none_of,
    refused,
    upsert,
    where,
)

INVALID = grpc.StatusCode.INVALID_ARGUMENT


async def page(stub: Stub, **fields: object) -> search_pb2.ListItemsResponse:
    return await stub.ListItems(search_pb2.ListItemsRequest(**{"collection": "pictures", **fields}))  # type: ignore[arg-type]


async def test_every_item_once_whatever_the_page_size(stub: Stub) -> None:
    await create(stub)
    names = [f"{i}" for i in range(25)] + ["é", "A", "a b"]
    await upsert(stub, *(item(name, metadata={"n": i}) for i, name in enumerate(names)))
    for size in (1, 7, 28, 1_000, 0):
        ids = await listed(stub, page_size=size)
        assert len(ids) == len(set(ids))
        assert set(ids) == set(names)
    some = where("n", range={"at_least": 5, "below": 15})
    assert sorted(await listed(stub, some, page_size=3)) == sorted(names[5:15])
    exactly = await page(stub, page_size=28)
    assert (len(exactly.items), exactly.next_page_token) == (28, "")


async def test_items_that_come_and_go_meanwhile(stub: Stub) -> None:
    await create(stub)
    await upsert(stub, *(item(f"{i}") for i in range(20)))
    first = await page(stub, page_size=10)
    seen = {each.id for each in first.items}
    gone = search_pb2.IdList(ids=[*sorted(seen)[:5], first.items[-1].id])
    await stub.DeleteItems(search_pb2.DeleteItemsRequest(collection="pictures", ids=gone))
    await upsert(stub, *(item(f"new{i}") for i in range(20)))
    rest = await listed(stub, page_token=first.next_page_token)
    assert not seen & set(rest)
    assert seen | set(rest) >= {f"{i}" for i in range(20)}


async def test_page_tokens_belong_to_one_list(stub: Stub) -> None:
    await create(stub)
    await create(stub, collection("other"))
    await upsert(stub, *(item(f"{i}", metadata={"n": i}) for i in range(5)))
    token = (await page(stub, page_size=2)).next_page_token
    wrong: list[dict[str, Any]] = [
        {"page_token": "nonsense"},
        {"page_token": "é"},
        {"page_token": token[:-2]},
        {"page_token": "A" + token},
        {"page_token": token, "filter": where("n", exists=True)},
        {"page_token": token, "collection": "other"},
    ]
    for fields in wrong:
        await refused(page(stub, **fields), INVALID, Reason.PAGE_TOKEN_INVALID, "page_token")
    one = (await page(stub, page_size=1, filter=where("n", one_of=[1, 2]))).next_page_token
    assert len((await page(stub, page_token=one, filter=where("n", one_of=[1, 2]))).items) == 1
    await refused(page(stub, page_token=one, filter=where("n", one_of=[1, 3])), INVALID, Reason.PAGE_TOKEN_INVALID)
    read = search_pb2.ReadOptions(view=search_pb2.ITEM_VIEW_ID)
    assert len((await page(stub, page_token=token, page_size=10, read=read)).items) == 3
    await refused(page(stub, page_size=1_001), INVALID, Reason.LIMIT_OUT_OF_RANGE, "page_size")


async def test_a_page_is_shortened_to_fit(stub: Stub, serve: Serve) -> None:
    await create(stub)
    await upsert(stub, *(item(f"{i:03}", metadata={"x": "y" * 1_000}) for i in range(150)))
    async with serve(max_message_bytes=65_536) as (small, _):
        first = await page(small, page_size=150)
        assert 40 < len(first.items) < 66
        assert first.ByteSize() <= 65_536
        assert sorted(await listed(small, page_size=150)) == [f"{i:03}" for i in range(150)]
    await upsert(stub, item("000", metadata={"x": [1] * 30_000}))
    async with serve(max_message_bytes=65_536) as (small, _):
        await refused(listed(small), INVALID, Reason.RESPONSE_TOO_LARGE)
        read = search_pb2.ReadOptions(view=search_pb2.ITEM_VIEW_ID)
        assert len((await page(small, read=read)).items) == 100


async def test_deleting_by_filter(stub: Stub) -> None:
    await create(stub)
    await upsert(stub, *(item(f"{i}", [1, i, 0, 0], {"n": i}) for i in range(10)))

    async def delete(chosen: search_pb2.Filter) -> int:
        response = await stub.DeleteItems(search_pb2.DeleteItemsRequest(collection="pictures", filter=chosen))
        return response.deleted_count

    assert await delete(where("n", range={"below": 3})) == 3
    assert await delete(where("n", range={"below": 3})) == 0
    assert await delete(any_of()) == 0
    await refused(delete(search_pb2.Filter()), INVALID, Reason.FILTER_INVALID, "filter")
    assert len(await listed(stub)) == 7
    assert await delete(all_of()) == 7
    assert await listed(stub) == []


async def test_filters_by_own_fields(stub: Stub) -> None:
    await create(stub, collection("pictures", named_space()))
    digest = bytes(range(32))
    await upsert(stub, item("a", content_digest=digest), item("b"))
    with_caption = item("c")
    with_caption.caption.text = "a dog"
    await upsert(stub, with_caption)
    time = (await page(stub)).items[0].create_time.ToJsonString()
    cases = [
        (where("$id", one_of=["a", "c", "x"]), "ac"),
        (where("$id", exists=True), "abc"),
        (where("$content_digest", equals=digest.hex()), "a"),
        (where("$content_digest", equals=digest.hex().upper()), "a"),
        (where("$content_digest", exists=False), "bc"),
        (where("$content_digest", equals=""), ""),
        (where("$caption", equals="a dog"), "c"),
        (none_of(where("$caption", equals="a dog")), "ab"),
        (where("$caption", exists=True), "c"),
        (where("$create_time", equals=time), "ab"),
        (where("$create_time", range={"above": time}), "c"),
        (where("$update_time", range={"at_most": "2020-01-01T00:00:00Z"}), ""),
        (where("$create_time", range={"at_least": 1}), ""),
        (where("$create_time", exists=True), "abc"),
        (where("metadata", range={}), ""),
    ]
    for chosen, expected in cases:
        assert "".join(sorted(await listed(stub, chosen))) == expected, chosen


async def test_bad_filters(stub: Stub) -> None:
    await create(stub)
    deep = where("a", exists=True)
    for _ in range(8):
        deep = all_of(deep)
    assert await listed(stub, deep) == []
    condition = search_pb2.Condition(field="a")
    listing = where("a", exists=True)
    listing.condition.equals.list_value.values.add(number_value=1)
    cases = [
        (search_pb2.Filter(), "filter"),
        (all_of(where("a", exists=True), search_pb2.Filter()), "filter.all.filters[1]"),
        (none_of(search_pb2.Filter()), "filter.not"),
        (search_pb2.Filter(condition=condition), "filter.condition"),
        (where("", exists=True), "filter.condition.field"),
        (where("a..b", exists=True), "filter.condition.field"),
        (where(".a", exists=True), "filter.condition.field"),
        (where("$size", exists=True), "filter.condition.field"),
        (where("$id.x", exists=True), "filter.condition.field"),
        (where("a\x00", exists=True), "filter.condition.field"),
        (where("a", equals=None), "filter.condition.equals"),
        (where("a", equals="\x00"), "filter.condition.equals"),
        (where("a", equals=float("nan")), "filter.condition.equals"),
        (where("a", one_of=["x", None]), "filter.condition.one_of.values[1]"),
        (where("a", range={"above": "yesterday"}), "filter.condition.range.above"),
        (where("a", range={"above": "2026-02-30T00:00:00Z"}), "filter.condition.range.above"),
        (where("a", range={"above": True}), "filter.condition.range.above"),
        (where("a", range={"above": 1, "below": "2026-01-01T00:00:00Z"}), "filter.condition.range"),
        (where("$create_time", equals="today"), "filter.condition.equals"),
        (listing, "filter.condition.equals"),
        (all_of(deep), "filter" + ".all.filters[0]" * 8),
        (any_of(*[where("a", exists=True)] * 65), "filter.any.filters"),
        (all_of(*[all_of(*[where("a", exists=True)] * 64)] * 17), "filter"),
    ]
    for chosen, field in cases:
        await refused(page(stub, filter=chosen), INVALID, Reason.FILTER_INVALID, field)
