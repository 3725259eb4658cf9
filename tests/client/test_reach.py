"""Every call of the contracts is reachable from both clients, documented, and has an example on the client's page."""

import asyncio
import inspect
import re
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from lensmesh.router.v1 import router_pb2
from lensmesh_chassis.contract import services
from lensmesh_client import (
    Client,
    CountsByTime,
    Embedding,
    Item,
    LensmeshError,
    NamedSpace,
    Reason,
    Search,
    Space,
    SyncClient,
)
from lensmesh_client.collections import CollectionCalls
from lensmesh_client.items import ItemCalls
from lensmesh_client.jobs import JobCalls

PAGE = Path(__file__).resolve().parents[2] / "docs" / "client.md"
METHODS: dict[str, MethodDescriptor] = {
    f"/{service.full_name}/{method.name}": method for service in services() for method in service.methods
}
VECTOR = Embedding([1.0, 0.0], "vs1-x")  # type: ignore[arg-type]  # numpy makes an array of it
SPACE = Space("vs1-x", "model", 2, True)
# Each public method with arguments, beside those that need no call. A group's methods have its name before them.
CALLS: Mapping[str, tuple[tuple[Any, ...], dict[str, Any]]] = {
    "status": ((), {}),
    "ingest": ((b"cat",), {}),
    "ingest_many": (([b"cat", b"dog"],), {}),
    "search": (("a cat",), {}),
    "search_many": ((["a cat", Search(image=b"cat")],), {}),
    "match": ((b"cat",), {"entry_fields": "artist"}),
    "image": (("ab" * 32,), {}),
    "embed_many": ((), {"texts": ["a cat"]}),
    "classify": ((b"cat", ["cat", "dog"]), {}),
    "caption": ((b"cat",), {}),
    "caption_many": (([b"cat"],), {}),
    "stream_caption": ((b"cat",), {}),
    "collections.create": (("named",), {"spaces": {"image": SPACE}, "fields": {"year": "number"}}),
    "collections.get": ((), {}),
    "collections.list": ((), {}),
    "collections.build_index": ((), {}),
    "collections.delete": (("named",), {}),
    "items.upsert": ((Item("one", {"image": VECTOR}),), {}),
    "items.get": (("one",), {}),
    "items.list": ((), {"filter": "year>2020"}),
    "items.delete": (("one",), {}),
    "items.facets": (("year",), {}),
    "items.aggregate": (({"ingested": CountsByTime()},), {}),
    "items.search": (("one",), {}),
    "items.search_many": (([Search(embedding=VECTOR)],), {}),
    "jobs.start_delete": (("year>2020",), {}),
    "jobs.start_rebuild": ((), {"spaces": "image", "hnsw_m": 24}),
    "jobs.start_calibrate": (({"one": VECTOR},), {}),
    "jobs.start_find_duplicates": ((), {"filter": "year>2020", "max_distance": 9}),
    "jobs.read_duplicates": (("one",), {}),
    "jobs.get": (("one",), {}),
    "jobs.list": ((), {"states": "running", "kind": "delete_items"}),
    "jobs.cancel": (("one",), {}),
    "jobs.watch": (("one",), {}),
    "jobs.wait": (("one",), {}),
}
# The same methods again, where one method stands for several calls of the contracts.
MORE: list[tuple[str, tuple[Any, ...], dict[str, Any]]] = [
    ("embed", (), {"texts": "a cat"}),
    ("embed", (), {"images": b"cat"}),
    ("info", ("encoder",), {}),
    ("info", ("caption",), {}),
    ("info", ("search",), {}),
]
EVERY = [*((name, args, kwargs) for name, (args, kwargs) in CALLS.items()), *MORE]


class Recorder(grpc.GenericRpcHandler):
    """Answers every call of the contracts with an empty message, or with a result for each item of the request."""

    def __init__(self) -> None:
        self.asked: set[str] = set()

    def service(self, handler_call_details: Any) -> Any:
        name = handler_call_details.method
        method = METHODS[name]
        self.asked.add(name)
        ask, answer = GetMessageClass(method.input_type), GetMessageClass(method.output_type)

        async def one(request: Message, context: Any) -> Message:
            return self._answer(request, answer())

        async def all_of(requests: AsyncIterator[Message], context: Any) -> AsyncIterator[Message]:
            async for request in requests:
                yield self._answer(request, answer())

        async def some(request: Message, context: Any) -> AsyncIterator[Message]:
            yield answer()

        kinds: dict[tuple[bool, bool], tuple[Callable[..., Any], Any]] = {
            (False, False): (grpc.unary_unary_rpc_method_handler, one),
            (False, True): (grpc.unary_stream_rpc_method_handler, some),
            (True, True): (grpc.stream_stream_rpc_method_handler, all_of),
        }
        made, handler = kinds[method.client_streaming, method.server_streaming]
        return made(handler, request_deserializer=ask.FromString, response_serializer=answer.SerializeToString)

    @staticmethod
    def _answer(request: Message, answer: Any) -> Message:
        if isinstance(answer, router_pb2.GetStatusResponse):
            answer.default_collection = "default"
        if "results" in answer.DESCRIPTOR.fields_by_name:
            names = [
                name for name in ("items", "images", "texts", "searches", "aggregations") if hasattr(request, name)
            ]
            for item in getattr(request, names[0]):
                result = answer.results.add()
                if hasattr(item, "ref"):
                    result.ref = item.ref
        return answer  # type: ignore[no-any-return]  # a message, of whichever method


@asynccontextmanager
async def recording() -> AsyncIterator[tuple[Recorder, str]]:
    """A server that knows every call, and its address."""
    recorder, server = Recorder(), grpc.aio.server()
    server.add_generic_rpc_handlers([recorder])
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        yield recorder, f"127.0.0.1:{port}"
    finally:
        await server.stop(None)


def found(client: object, name: str) -> Callable[..., Any]:
    """A method of a client, or of its group."""
    for part in name.split("."):
        client = getattr(client, part)
    assert callable(client)
    return client


async def test_every_call_of_the_contracts_is_reached() -> None:
    async with recording() as (recorder, target), Client(target) as client:
        for name, args, kwargs in EVERY:
            made = found(client, name)(*args, **kwargs)
            if inspect.isasyncgen(made):
                assert [each async for each in made] or name in ("items.list", "jobs.list", "jobs.read_duplicates")
            else:
                await made
    assert recorder.asked == set(METHODS)


async def test_every_call_of_the_contracts_is_reached_without_an_event_loop() -> None:
    def use(target: str) -> None:
        with SyncClient(target) as client:
            for name, args, kwargs in EVERY:
                made = found(client, name)(*args, **kwargs)
                if inspect.isgenerator(made):
                    assert list(made) or name in ("items.list", "jobs.list", "jobs.read_duplicates")

    async with recording() as (recorder, target):
        await asyncio.to_thread(use, target)
    assert recorder.asked == set(METHODS)


def public(kind: type) -> Iterator[tuple[str, Callable[..., Any]]]:
    """Methods that callers use, inherited ones too."""
    for name, value in inspect.getmembers(kind, inspect.isfunction):
        if not name.startswith("_"):
            yield name, value


def all_methods() -> dict[str, Callable[..., Any]]:
    """Of the client and of its groups."""
    groups = (("", Client), ("collections.", CollectionCalls), ("items.", ItemCalls), ("jobs.", JobCalls))
    return {f"{prefix}{name}": method for prefix, kind in groups for name, method in public(kind)}


def test_the_table_above_has_every_method() -> None:
    assert {name for name, _, _ in EVERY} == set(all_methods()) - {"close"}


def test_the_blocking_client_has_the_same_methods() -> None:
    client = SyncClient("127.0.0.1:1")
    for name, method in all_methods().items():
        blocking = found(client, name)
        arguments = [*inspect.signature(method).parameters][1:]
        assert [*inspect.signature(blocking).parameters] == arguments, name
    assert {name for name, _ in public(SyncClient)} == {name for name, _ in public(Client)}


@pytest.mark.parametrize("name", sorted(all_methods()))
def test_a_method_tells_its_arguments_results_and_errors(name: str) -> None:
    method = all_methods()[name]
    text = inspect.getdoc(method) or ""
    arguments = [*inspect.signature(method).parameters][1:]
    if name != "close":
        assert "\nReturns:\n" in text
        assert "\nRaises:\n" in text
    told = re.findall(r"^    (\w+): ", text.partition("\nArgs:\n")[2].partition("\nReturns:\n")[0], re.MULTILINE)
    assert told == arguments


def test_the_page_has_an_example_of_every_method_and_a_row_for_every_call() -> None:
    page = PAGE.read_text()
    examples = "\n".join(re.findall(r"^```python\n(.*?)^```", page, re.MULTILINE | re.DOTALL))
    assert [name for name in all_methods() if f"client.{name}(" not in examples] == []
    rows = dict(re.findall(r"^\| (`.*) \| (`.*`) \|$", page, re.MULTILINE))
    named = {word for row in rows for word in re.findall(r"\b[A-Z]\w+", row)}
    assert {method.name for method in METHODS.values()} <= named
    told = {name.rpartition(".")[2] for row in rows.values() for name in re.findall(r"`([\w.]+)`", row)}
    assert told == {name.rpartition(".")[2] for name in all_methods()} - {"close"}


async def test_wrong_arguments_are_refused_before_anything_is_sent() -> None:
    async with recording() as (_, target), Client(target) as client:
        refused: list[tuple[Any, Reason]] = [
            (client.items.delete(), Reason.OPTION_INVALID),
            (client.items.search(), Reason.QUERY_INVALID),
            (client.items.search_many([Search("a text")]), Reason.QUERY_INVALID),
            (client.items.upsert(Item("a", content_digest="xyz")), Reason.DIGEST_INVALID),
            (client.items.upsert(Item("a", {"image": Embedding(["no"], "x")})), Reason.VECTOR_INVALID),  # type: ignore[arg-type]  # its very point
            (client.items.get([7]), Reason.ITEM_ID_INVALID),  # type: ignore[list-item]  # its very point
            (client.collections.create("a", fields={"b": "colour"}), Reason.OPTION_INVALID),
            (client.collections.create("a", spaces=[NamedSpace("b", SPACE, hnsw_m=-1)]), Reason.OPTION_INVALID),
            (client.collections.create("a"), Reason.SPACE_NOT_SERVED),
            (client.classify(b"cat", ["cat", "cat"]), Reason.OPTION_INVALID),
            (client.info("database"), Reason.OPTION_INVALID),
        ]
        for call, reason in refused:
            with pytest.raises(LensmeshError) as caught:
                await call
            assert caught.value.reason is reason, caught.value
        with pytest.raises(LensmeshError):
            client.embed_many()
        [nothing] = await client.search_many([Search()])
        assert nothing.error is not None
        assert nothing.error.reason is Reason.QUERY_INVALID
