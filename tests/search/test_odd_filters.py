"""Keys and values that a careless store takes for others: every store says what the plain evaluator says."""

from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest
from google.protobuf.json_format import MessageToDict

from lensmesh.search.v1 import search_pb2, search_pb2_grpc
from lensmesh_chassis.channels import open_channel
from lensmesh_chassis.process.server import running
from lensmesh_chassis.reasons import Reason
from search_svc.app import SearchApp
from search_svc.filters import MAX_PATH_BYTES, MAX_PATH_LEVELS
from search_svc.model import FieldType, Item
from search_svc.wire.filters import read_filter
from tests.search import reference
from tests.search.conftest import settings_for
from tests.search.evaluate import passes
from tests.search.support import Stub, collection, create, item, listed, none_of, refused, upsert, where

INVALID = grpc.StatusCode.INVALID_ARGUMENT
# Quotes, brackets and operators of SQL, of JSON paths and of Qdrant's paths; names that the stores use themselves.
KEYS = [
    "a[]",
    "a[0]",
    "0",
    "*",
    "#1",
    "'",
    '"',
    '"a"',
    "\\",
    "`",
    "ü",
    "u\u0308",
    " ",
    "a b",
    "a\nb",
    "a/b",
    "x" * 300,
    "x" * 299 + "y",
    "there",
    "fields",
    "{}",
    "%s",
    "1'; --",
    "a$",
    "null",
    "\U0001f600",
]
VALUES: dict[str, Any] = {
    "one": 1,
    "fraction": 1.5,
    "text one": "1",
    "text 1.0": "1.0",
    "true": True,
    "text true": "true",
    "false": False,
    "zero": 0,
    "minus zero": -0.0,
    "nan": "NaN",
    "infinity": "Infinity",
    "empty": "",
    "nothing": [],
    "nested": [[1, "1"]],
    "object": {"1": 1},
    "null": None,
    "mixed": [1, "1", True, None],
    "day": "2026-01-31",
    "local": "2026-01-31T12:00:00",
    "utc": "2026-01-31T12:00:00Z",
    "offset": "2026-01-31T14:00:00+02:00",
    "large": 1e300,
}
NOON = "2026-01-31T12:00:00Z"
TESTS: list[dict[str, Any]] = [
    *({"equals": value} for value in VALUES.values() if isinstance(value, str | float | bool | int)),
    {"one_of": []},
    {"one_of": [1, "true"]},
    {"one_of": [False, 0, ""]},
    {"exists": True},
    {"exists": False},
    {"range": {}},
    {"range": {"at_least": -0.0, "below": 1}},
    {"range": {"above": 0, "at_most": 1}},
    {"range": {"at_least": NOON, "at_most": "2026-01-31T13:00:00+01:00"}},
    {"range": {"above": "0001-01-01T00:00:00Z"}},
]
TYPES = [
    search_pb2.FIELD_TYPE_KEYWORD,
    search_pb2.FIELD_TYPE_NUMBER,
    search_pb2.FIELD_TYPE_BOOL,
    search_pb2.FIELD_TYPE_TIME,
]
# Types in turn, so that there are indexes for and against the values. Of some: a store takes its time for each.
INDEXES = {key: TYPES[i % len(TYPES)] for i, key in enumerate(KEYS[::3])}
DOMAIN_TYPES = dict(zip(TYPES, [FieldType.KEYWORD, FieldType.NUMBER, FieldType.BOOL, FieldType.TIME], strict=True))


@pytest.fixture
async def each_stub(each_url: str) -> AsyncIterator[Stub]:
    """The service on each kind of store."""
    async with (
        running(settings_for(each_url, store_connect_seconds=60), SearchApp, "search") as server,
        open_channel(server.address) as channel,
    ):
        yield search_pb2_grpc.SearchServiceStub(channel)


async def test_values_of_odd_keys_are_counted(each_stub: Stub) -> None:
    await create(each_stub, collection(indexes=INDEXES))
    await upsert(each_stub, *(item(name, metadata=dict.fromkeys(KEYS, value)) for name, value in VALUES.items()))
    request = search_pb2.CountFacetsRequest(collection="pictures", fields=list(INDEXES), limit=100)
    for facet in (await each_stub.CountFacets(request)).facets:
        values = [reference.elements(value, DOMAIN_TYPES[INDEXES[facet.field]]) for value in VALUES.values()]
        expected = reference.facet((facet.field,), values, 100)
        counts = [(getattr(each.value, each.value.WhichOneof("kind") or ""), each.count) for each in facet.counts]
        assert counts == [(each.value, each.count) for each in expected.counts]
        assert facet.other_count == expected.other_count


@pytest.mark.parametrize("indexed", [False, True])
async def test_odd_keys_and_values_are_told_apart(each_stub: Stub, indexed: bool) -> None:
    await create(each_stub, collection(indexes=INDEXES if indexed else {}))
    metadata = {name: dict.fromkeys(KEYS, value) | {"o": {'"[]': value}} for name, value in VALUES.items()}
    await upsert(each_stub, *(item(name, metadata=each) for name, each in metadata.items()), item("none"))
    metadata["none"] = {}
    for i, key in enumerate([*KEYS, 'o."[]', "o", "missing[]"]):
        # Each test is asked of every third key: all of all takes long, and finds no more.
        for test in TESTS[i % 3 :: 3]:
            message = where(key, **test)
            tree = read_filter(message)
            expected = {name for name, each in metadata.items() if passes(tree, Item(name), each)}
            assert set(await listed(each_stub, message)) == expected, (key, test)
            if i % 5 == 0:
                others = set(metadata) - expected
                assert set(await listed(each_stub, none_of(message))) == others, (key, test)


async def test_keys_that_no_path_leads_to_are_kept(each_stub: Stub) -> None:
    """A dot separates levels, an own field begins with $: such keys come back as they are, and no filter finds them."""
    await create(each_stub)
    kept = {"a.b": 1, "": 2, "$id": 3, "$x": 4, "a": {"": 5, "c.d": 6, "$y": 7}, "y" * (MAX_PATH_BYTES + 1): 8}
    await upsert(each_stub, item("a", metadata=kept), item("b", metadata={"a": {"b": 1, "c": {"d": 6}}}))
    got = await each_stub.GetItems(search_pb2.GetItemsRequest(collection="pictures", ids=["a"]))
    assert MessageToDict(got.items[0].metadata) == kept
    for path, ids in (("a.b", ["b"]), ("a.c.d", ["b"]), ("a.$y", ["a"]), ("$id", ["a", "b"])):
        assert sorted(await listed(each_stub, where(path, exists=True))) == ids, path
    assert await listed(each_stub, where("$id", equals=3)) == []
    long = ["a." * MAX_PATH_LEVELS + "a", "y" * (MAX_PATH_BYTES + 1)]
    for path in ["", ".", "a.", ".a", "a..b", "$x", "$id.a", "a\x00", *long]:
        request = search_pb2.ListItemsRequest(collection="pictures", filter=where(path, exists=True))
        await refused(each_stub.ListItems(request), INVALID, Reason.FILTER_INVALID, "filter.condition.field")


async def test_values_that_no_filter_can_be_about_are_refused(each_stub: Stub) -> None:
    await create(each_stub)
    for value in (float("nan"), float("inf"), 2.0**53, "a\x00", None):
        for test in ({"equals": value}, {"range": {"at_least": value}}):
            request = search_pb2.ListItemsRequest(collection="pictures", filter=where("k", **test))
            await refused(each_stub.ListItems(request), INVALID, Reason.FILTER_INVALID)
        if value is not None:
            await refused(upsert(each_stub, item("a", metadata={"k": value})), INVALID, Reason.METADATA_INVALID)
    for text in ("2026-01-31", "2026-01-31T12:00:00", "2026-01-31T24:00:00Z", "0000-01-01T00:00:00Z", "noon"):
        bounds = {"range": {"at_least": text}}
        request = search_pb2.ListItemsRequest(collection="pictures", filter=where("k", **bounds))
        await refused(each_stub.ListItems(request), INVALID, Reason.FILTER_INVALID, "filter.condition.range.at_least")
