"""Large messages are serialized and parsed to the same as small ones, and others have their turns meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import grpc
import pytest
from google.protobuf.message import Message

from lensmesh.router.v1 import router_pb2
from lensmesh.search.v1 import search_pb2, search_pb2_grpc
from lensmesh_chassis.channels import open_channel
from lensmesh_chassis.messages import packing
from lensmesh_chassis.messages.packing import copy_all, pack_message
from lensmesh_chassis.messages.piecewise import PiecewiseChannel
from lensmesh_chassis.rpc.client_calls import BeginCall, CallEnd, ClientInterceptor, InterceptedChannel, OutgoingCall
from lensmesh_chassis.rpc.handlers import RpcMethod

T = TypeVar("T")
# A field of each wire type that no contract has yet, as a newer caller would send them.
NEWER = b"\xf8\x3f\xac\x02" + b"\xf9\x3f12345678" + b"\xfa\x3f\x03abc" + b"\xfd\x3f1234"


def hits(count: int, fields: int) -> search_pb2.SearchResponse:
    response = search_pb2.SearchResponse()
    for number in range(count):
        hit = response.hits.add(score=number / 7)
        hit.legs.add(name="leg", rank=number)
        hit.item.id = f"item {number}"
        hit.item.vectors["space"].data = bytes(number)
        for field in range(fields):
            hit.item.metadata.fields[f"field {field}"].number_value = field
    return response


def batch() -> router_pb2.BatchSearchResponse:
    response = router_pb2.BatchSearchResponse()
    response.results.add().error.code = 3
    # A message that is there and empty.
    response.results.add().response.SetInParent()
    response.results.add().response.hits.extend(hits(40, 2).hits)
    return response


def upsert() -> search_pb2.UpsertItemsRequest:
    items = [hit.item for hit in hits(50, 3).hits]
    return search_pb2.UpsertItemsRequest(
        collection="c", items=items, metadata_policy=search_pb2.METADATA_POLICY_REPLACE
    )


def batch_search() -> search_pb2.BatchSearchRequest:
    request = search_pb2.BatchSearchRequest()
    for number in range(30):
        search = request.searches.add(collection=str(number), limit=number)
        search.filter.any.filters.add().condition.field = "year"
        search.legs.add(name="leg").embedding.data = b"1234"
    return request


@pytest.mark.parametrize("message", [hits(3, 1), hits(40, 2), batch(), upsert(), batch_search()], ids=type)
async def test_a_message_in_pieces_is_the_same_message(message: Message) -> None:
    message.MergeFromString(NEWER)
    packed = await pack_message(message)
    assert type(message).FromString(packed) == message
    assert len(packed) == message.ByteSize()


async def turns_during(work: Awaitable[T]) -> tuple[T, int]:
    """What work gives, and how often others had their turn meanwhile."""
    turns = 0

    async def others() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    task = asyncio.create_task(others())
    await asyncio.sleep(0)
    before = turns
    result = await work
    found = turns - before
    task.cancel()
    return result, found


async def test_others_have_their_turns_while_a_large_message_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    # Every piece takes longer than a slice: how fast this machine is has no part in the counts.
    monkeypatch.setattr(packing, "_SLICE_S", 0.0)
    large = hits(300, 500)
    packed, turns = await turns_during(pack_message(large))
    assert turns > large.ByteSize() / (2 * packing._PIECE_BYTES)
    assert search_pb2.SearchResponse.FromString(packed) == large
    copy = search_pb2.SearchResponse()
    _, turns = await turns_during(copy_all(large.hits, copy.hits))
    assert turns >= 300
    assert copy == large


class Echo(search_pb2_grpc.SearchServiceServicer):
    """Gives back as hits what it is sent as items."""

    async def UpsertItems(self, request: Any, context: Any) -> Any:
        await context.abort(grpc.StatusCode.FAILED_PRECONDITION, f"{len(request.items)} items")

    async def GetItems(self, request: search_pb2.GetItemsRequest, context: Any) -> search_pb2.GetItemsResponse:
        if request.collection == "silent":
            await asyncio.Event().wait()
        if request.collection == "metadata":
            names = [f"{key}={value}" for key, value in context.invocation_metadata() if key.startswith("x-")]
            return search_pb2.GetItemsResponse(missing_ids=names)
        items = [hit.item for hit in hits(len(request.ids), 400).hits]
        return search_pb2.GetItemsResponse(items=items, missing_ids=request.ids)


class Counting:
    """Counts the calls that it stands around, and the tasks that they are made in."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, str]] = []
        self.tasks: set[object] = set()
        self.codes: list[grpc.StatusCode | None] = []

    def around(self, method: RpcMethod) -> BeginCall:
        def begin(making: OutgoingCall) -> Callable[[CallEnd], None]:
            self.seen.append((method.type, method.path))
            self.tasks.add(asyncio.current_task())
            making.metadata.append(("x-count", str(len(self.seen))))
            return lambda end: self.codes.append(end.code)

        return begin


@asynccontextmanager
async def stub(around: Sequence[ClientInterceptor] = ()) -> AsyncIterator[Any]:
    server = grpc.aio.server()
    echo: Any = Echo  # what it does not have is not called
    search_pb2_grpc.add_SearchServiceServicer_to_server(echo(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    channel = open_channel(f"127.0.0.1:{port}")
    try:
        piecewise: Any = PiecewiseChannel(InterceptedChannel(channel, around))
        yield search_pb2_grpc.SearchServiceStub(piecewise)
    finally:
        await channel.close()
        await server.stop(None)


async def test_a_stub_of_a_piecewise_channel_is_as_any_other() -> None:
    async with stub() as search:
        ids = [str(number) for number in range(200)]
        answer = await search.GetItems(search_pb2.GetItemsRequest(collection="c", ids=ids), timeout=60)
        assert [item.id for item in answer.items] == [f"item {number}" for number in range(200)]
        assert answer.missing_ids == ids
        with pytest.raises(grpc.aio.AioRpcError, match="50 items"):
            await search.UpsertItems(upsert())
        with pytest.raises(grpc.aio.AioRpcError) as late:
            await search.GetItems(search_pb2.GetItemsRequest(collection="silent"), timeout=0.01)
        assert late.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        cancelled = asyncio.create_task(search.GetItems(search_pb2.GetItemsRequest(collection="silent")))
        await asyncio.sleep(0)
        cancelled.cancel()
        with pytest.raises(asyncio.CancelledError):
            await cancelled


async def test_what_stands_around_a_piecewise_channel_makes_its_calls_in_the_callers_task() -> None:
    outer, inner = Counting(), Counting()
    method = "/lensmesh.search.v1.SearchService/"
    async with stub([outer, inner]) as search:
        answer = await search.GetItems(search_pb2.GetItemsRequest(collection="metadata"), timeout=60)
        assert list(answer.missing_ids) == ["x-count=1", "x-count=1"]
        with pytest.raises(grpc.aio.AioRpcError):
            await search.UpsertItems(upsert())
    for one in (outer, inner):
        assert one.seen == [("unary", f"{method}GetItems"), ("unary", f"{method}UpsertItems")]
        assert one.tasks == {asyncio.current_task()}
        assert one.codes == [grpc.StatusCode.OK, grpc.StatusCode.FAILED_PRECONDITION]
