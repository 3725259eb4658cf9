"""Facets: how many items have which values."""

from typing import Any

import grpc

from lensmesh.search.v1 import search_pb2
from lensmesh_chassis.reasons import Reason
from tests.search.conftest import Serve
from tests.search.support import Stub, collection, create, item, refused, upsert, where

INVALID = grpc.StatusCode.INVALID_ARGUMENT
INDEXES = {
    "tags": search_pb2.FIELD_TYPE_KEYWORD,
    "camera.iso": search_pb2.FIELD_TYPE_NUMBER,
    "raw": search_pb2.FIELD_TYPE_BOOL,
    "taken": search_pb2.FIELD_TYPE_TIME,
}


async def count(stub: Stub, *fields: str, **options: Any) -> list[tuple[list[tuple[Any, int]], int]]:
    request = search_pb2.CountFacetsRequest(**{"collection": "pictures", "fields": fields, **options})
    facets = (await stub.CountFacets(request)).facets
    assert [facet.field for facet in facets] == list(fields)
    return [
        ([(getattr(c.value, c.value.WhichOneof("kind") or ""), c.count) for c in facet.counts], facet.other_count)
        for facet in facets
    ]


async def test_values_are_counted_by_item(stub: Stub) -> None:
    await create(stub, collection(indexes=INDEXES))
    time = "2026-01-01T00:00:00Z"
    await upsert(
        stub,
        item("a", metadata={"tags": ["x", "y", "x"], "camera": {"iso": 100}, "raw": True, "taken": time}),
        item("b", metadata={"tags": "x", "camera": {"iso": [100, 200]}, "raw": False, "taken": "soon"}),
        item("c", metadata={"tags": ["B", "é"], "camera": {"iso": 9}, "raw": True}),
        item("d", metadata={"tags": [], "camera": 5, "raw": None}),
        item("e", metadata={"tags": [1, None, ["x"]]}),
        item("f"),
    )
    assert await count(stub, "tags", "camera.iso", "raw", "taken") == [
        ([("x", 2), ("B", 1), ("y", 1), ("é", 1)], 3),
        ([(100, 2), (9, 1), (200, 1)], 3),
        ([(True, 2), (False, 1)], 3),
        ([(time, 1)], 5),
    ]
    # An item counts as other only if none of its values is listed.
    assert await count(stub, "tags", limit=1) == [([("x", 2)], 4)]
    assert await count(stub, "camera.iso", limit=2) == [([(100, 2), (9, 1)], 3)]
    assert await count(stub, "tags", filter=where("raw", equals=True)) == [
        ([("B", 1), ("x", 1), ("y", 1), ("é", 1)], 0)
    ]
    assert await count(stub, "tags", filter=where("no", exists=True)) == [([], 0)]


async def test_bad_requests(stub: Stub) -> None:
    await create(stub, collection(indexes=INDEXES))
    await refused(count(stub, "artist"), grpc.StatusCode.FAILED_PRECONDITION, Reason.FIELD_NOT_INDEXED, "fields[0]")
    await refused(count(stub), INVALID, Reason.QUERY_INVALID, "fields")
    await refused(count(stub, *["tags"] * 17), INVALID, Reason.QUERY_INVALID, "fields")
    await refused(count(stub, "tags", "$id"), INVALID, Reason.QUERY_INVALID, "fields[1]")
    await refused(count(stub, "tags", limit=1_001), INVALID, Reason.LIMIT_OUT_OF_RANGE, "limit")
    await refused(count(stub, "tags", filter=search_pb2.Filter()), INVALID, Reason.FILTER_INVALID, "filter")


async def test_an_answer_too_large_says_which_limit_fits(stub: Stub, serve: Serve) -> None:
    await create(stub, collection(indexes=INDEXES))
    await upsert(stub, *(item(f"{i}", metadata={"tags": f"{i:03}" + "y" * 1_000}) for i in range(200)))
    async with serve(max_message_bytes=65_536) as (small, _):
        error = await refused(count(small, "tags", limit=200), INVALID, Reason.RESPONSE_TOO_LARGE, "limit")
        fits = int(error.metadata["fits"])
        assert fits > 10
        assert len((await count(small, "tags", limit=fits))[0][0]) == fits
