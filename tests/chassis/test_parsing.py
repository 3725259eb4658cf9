"""Bytes become messages: piece by piece where they are many, and with a cause where they do not."""

import asyncio
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from google.protobuf import struct_pb2
from google.protobuf.message import DecodeError

from lensmesh.search.v1 import search_pb2
from lensmesh_chassis.errors import InvalidInput
from lensmesh_chassis.limits import check_filters
from lensmesh_chassis.messages import parsing
from lensmesh_chassis.messages.parsing import parse_in_pieces, parse_message
from lensmesh_chassis.reasons import Reason


def filter_of(count: int) -> search_pb2.Filter:
    values = [struct_pb2.Value(string_value=str(i)) for i in range(count)]
    condition = search_pb2.Condition(field="x", one_of=struct_pb2.ListValue(values=values))
    return search_pb2.Filter(any=search_pb2.FilterList(filters=[search_pb2.Filter(condition=condition)]))


def upsert(count: int) -> search_pb2.UpsertItemsRequest:
    request = search_pb2.UpsertItemsRequest(collection="c")
    for i in range(count):
        item = request.items.add(id=str(i), low_content=True, content_digest=bytes(40))
        item.vectors["image"].floats.extend([0.5] * 40)
        item.metadata.update({"a": [1, "x" * 50, {"b": None}]})
    return request


@pytest.mark.parametrize(
    "message",
    [
        search_pb2.ListItemsRequest(filter=filter_of(2_000), collection="c", page_size=7),
        upsert(60),
        search_pb2.BatchSearchRequest(
            searches=[search_pb2.SearchRequest(limit=i, filter=filter_of(50 * i)) for i in range(9)]
        ),
    ],
    ids=["one long list", "many items", "lists in lists"],
)
def test_pieces_make_the_same_message(message: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parsing, "PIECE_BYTES", 500)
    data = message.SerializeToString()
    assert parse_in_pieces(type(message), data) == message
    for broken in (data[:-1], data + b"\x0b", data + b"\x08", data + b"\x09123", data + b"\xff" * 11):
        with pytest.raises(DecodeError):
            parse_in_pieces(type(message), broken)


def deep(levels: int) -> bytes:
    """A request whose metadata nests so deeply that no library writes it."""

    def field(number: int, body: bytes) -> bytes:
        size, length = len(body), b""
        while size > 0x7F:
            length += bytes([size & 0x7F | 0x80])
            size >>= 7
        return bytes([number << 3 | 2]) + length + bytes([size]) + body

    value = b"\x20\x01"
    for _ in range(levels):
        value = field(5, field(1, field(1, b"x") + field(2, value)))
    return field(2, field(4, field(1, field(1, b"x") + field(2, value))))


@pytest.mark.parametrize(
    ("data", "cause"),
    [
        (deep(40), "nests deeper"),
        (b"\x0a\x02\xff\xfe", "not UTF-8"),
        (b"\x0a\x05a", "break off or are of another message"),
    ],
)
async def test_bytes_that_are_no_message_have_a_cause(data: bytes, cause: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        await parse_message(search_pb2.UpsertItemsRequest, data)
    assert caught.value.reason is Reason.MESSAGE_MALFORMED
    assert "lensmesh.search.v1.UpsertItemsRequest" in caught.value.message
    assert cause in caught.value.message


@pytest.fixture
def threads_alternate() -> Iterator[None]:
    """Let another thread run at the first moment, so that a fast machine's turns are as many as a slow one's."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    yield
    sys.setswitchinterval(before)


@pytest.mark.usefixtures("threads_alternate")
async def test_a_large_message_does_not_hold_the_event_loop() -> None:
    data = search_pb2.ListItemsRequest(filter=filter_of(300_000)).SerializeToString()
    parsed = asyncio.create_task(parse_message(search_pb2.ListItemsRequest, data))
    turns = 0
    while not parsed.done():
        await asyncio.sleep(0)
        turns += 1
    assert len((await parsed).filter.any.filters[0].condition.one_of.values) == 300_000
    # Without pieces the loop would come to itself twice, however long it takes.
    assert turns > len(data) / (2 * parsing.PIECE_BYTES)


@pytest.mark.parametrize("count", [100, 101, 200_000])
def test_the_values_of_all_filters_are_counted(count: int) -> None:
    half = {f"searches[{i}].filter": filter_of(count // 2) for i in range(2)}
    half["searches[2].filter"] = filter_of(count % 2)
    if count == 100:
        check_filters(half, 100)
        return
    with pytest.raises(InvalidInput, match="max_filter_values") as caught:
        check_filters(half, 100)
    assert caught.value.reason is Reason.FILTER_INVALID


def test_filters_of_many_parts_are_refused_after_a_short_look() -> None:
    parts = search_pb2.FilterList(filters=[search_pb2.Filter()] * 101)
    with pytest.raises(InvalidInput, match="101 filters"):
        check_filters({"filter": search_pb2.Filter(all=parts)}, 100)
