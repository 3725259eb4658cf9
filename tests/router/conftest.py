"""A router in front of small fake services."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import AsyncExitStack
from typing import Any

import grpc
import pytest
from google.rpc import error_details_pb2, status_pb2

from lensmesh.caption.v1 import caption_pb2_grpc
from lensmesh.encoder.v1 import encoder_pb2_grpc
from lensmesh.router.v1 import router_pb2, router_pb2_grpc
from lensmesh.search.v1 import search_pb2_grpc
from lensmesh_chassis.channels import open_channel
from lensmesh_chassis.errors import LensmeshError
from lensmesh_chassis.server import RunningServer, running
from lensmesh_chassis.status import from_rpc_error
from router_svc.app import RouterApp
from router_svc.settings import RouterSettings
from tests.router.fakes import Fake, FakeCaptioner, FakeEncoder, FakeSearch, Host

QUICK: dict[str, Any] = {
    "listen": "127.0.0.1:0",
    "wait_seconds": 30,
    "caption_wait_seconds": 0,
    "refresh_seconds": 0.2,
    "collection_cache_seconds": 0,
    "drain_seconds": 10,
}


class Mesh:
    """One router, and the fakes behind it."""

    def __init__(self, stack: AsyncExitStack) -> None:
        self._stack = stack
        self.encoders = [FakeEncoder()]
        self.captioner = FakeCaptioner()
        self.search = FakeSearch()
        self.hosts: dict[int, Host] = {}
        self.server: RunningServer
        self.router: Any
        self.encoder_service: Any
        self.captioner_service: Any
        self.search_service: Any
        self.channel: grpc.aio.Channel

    @property
    def encoder(self) -> FakeEncoder:
        return self.encoders[0]

    def host(self, fake: Any) -> Host:
        """Where a fake lives."""
        return self.hosts[id(fake)]

    async def start(self, **settings: Any) -> "Mesh":
        fakes: list[Fake] = [*self.encoders, self.captioner, self.search]
        for fake in fakes:
            host = self.hosts[id(fake)] = Host(fake)
            await host.start()
            self._stack.push_async_callback(host.kill)
        chosen = {
            "encoder_targets": ",".join(self.host(fake).address for fake in self.encoders),
            "caption_targets": self.host(self.captioner).address,
            "search_targets": self.host(self.search).address,
        }
        router = running(RouterSettings(**(QUICK | chosen | settings)), RouterApp, "router")
        self.server = await self._stack.enter_async_context(router)
        self.channel = await self._stack.enter_async_context(open_channel(self.server.address))
        self.router = router_pb2_grpc.RouterServiceStub(self.channel)
        self.encoder_service = encoder_pb2_grpc.EncoderServiceStub(self.channel)
        self.captioner_service = caption_pb2_grpc.CaptionerServiceStub(self.channel)
        self.search_service = search_pb2_grpc.SearchServiceStub(self.channel)
        return self

    def stored(self, collection: str = "default") -> dict[str, Any]:
        """What the store holds."""
        return self.search.items.get(collection, {})

    async def ingest(self, *items: router_pb2.IngestItem, **options: Any) -> dict[str, router_pb2.IngestResult]:
        """Answers of one stream that carries all items in one message, by ref."""
        return await self.ingest_messages([request(items, **options)])

    async def ingest_messages(
        self, messages: Iterable[router_pb2.IngestStreamRequest]
    ) -> dict[str, router_pb2.IngestResult]:
        results: dict[str, router_pb2.IngestResult] = {}
        async for response in self.router.IngestStream(iter(messages), timeout=60):
            for result in response.results:
                assert result.ref not in results, "answered twice"
                results[result.ref] = result
        return results


def item(ref: str, content: bytes | None = None, **fields: Any) -> router_pb2.IngestItem:
    """One picture; its content is its ref unless given."""
    made = router_pb2.IngestItem(ref=ref, **fields)
    made.image.content = ref.encode() if content is None else content
    return made


def request(items: Iterable[router_pb2.IngestItem], **options: Any) -> router_pb2.IngestStreamRequest:
    """One message of a stream."""
    return router_pb2.IngestStreamRequest(
        options=router_pb2.IngestOptions(**options) if options else None, items=list(items)
    )


def reason_of(status: status_pb2.Status) -> str:
    """ErrorInfo.reason of a status."""
    info = error_details_pb2.ErrorInfo()
    assert any(detail.Unpack(info) for detail in status.details if detail.Is(info.DESCRIPTOR))
    return str(info.reason)


def retry_s(status: status_pb2.Status) -> float | None:
    """RetryInfo of a status."""
    retry = error_details_pb2.RetryInfo()
    for detail in status.details:
        if detail.Unpack(retry):
            return float(retry.retry_delay.ToTimedelta().total_seconds())
    return None


def fields_of(status: status_pb2.Status) -> list[str]:
    """Paths that a status complains about."""
    bad = error_details_pb2.BadRequest()
    for detail in status.details:
        if detail.Unpack(bad):
            return [violation.field for violation in bad.field_violations]
    return []


async def error_of(call: Awaitable[Any]) -> LensmeshError:
    """The typed error that a call fails with."""
    with pytest.raises(grpc.RpcError) as caught:
        await call
    return from_rpc_error(caught.value)


async def until(true: Callable[[], bool], what: str) -> None:
    """Waits for a state, far longer than it needs."""
    for _ in range(3000):
        if true():
            return
        await asyncio.sleep(0.01)
    pytest.fail(f"never came: {what}")


@pytest.fixture
async def unstarted() -> AsyncIterator[Mesh]:
    """A mesh to be changed before it starts."""
    async with AsyncExitStack() as stack:
        yield Mesh(stack)


@pytest.fixture
async def mesh(unstarted: Mesh) -> Mesh:
    """A mesh of one encoder, one captioner and one store."""
    return await unstarted.start()
