"""A router in front of small fake services."""

import functools
from collections.abc import AsyncIterator, Iterable
from contextlib import AsyncExitStack
from typing import Any

import grpc
import pytest

from lensmesh.caption.v1 import caption_pb2_grpc
from lensmesh.encoder.v1 import encoder_pb2_grpc
from lensmesh.router.v1 import router_pb2, router_pb2_grpc
from lensmesh.search.v1 import search_pb2_grpc
from lensmesh_chassis.channels import open_channel
from lensmesh_chassis.process.server import RunningServer, running
from router_svc.app import RouterApp
from router_svc.media.store import MediaStore
from router_svc.settings import RouterSettings
from tests.router.fakes import Fake, FakeCaptioner, FakeEncoder, FakeSearch, Host
from tests.router.helpers import request

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
        self.host_settings: dict[str, Any] = {}
        self.host_name = "127.0.0.1"
        self.away: set[int] = set()
        """Ids of fakes that are not there when the router starts; their ports are."""
        self.media_store: MediaStore | None = None
        """In place of what the setting `media_url` names."""
        self.more_captioners: list[str] = []
        """Targets of other captioners, after the first."""
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

    def target(self, fake: Any) -> str:
        """What the router is told of a fake's place."""
        return f"{self.host_name}:{self.host(fake).address.rpartition(':')[2]}"

    async def start(self, **settings: Any) -> "Mesh":
        fakes: list[Fake] = [*self.encoders, self.captioner, self.search]
        for fake in fakes:
            host = self.hosts[id(fake)] = Host(fake, **self.host_settings)
            await host.start()
            self._stack.push_async_callback(host.kill)
            if id(fake) in self.away:
                await host.kill()
        chosen = {
            "encoder_targets": ",".join(map(self.target, self.encoders)),
            "caption_targets": ",".join([self.target(self.captioner), *self.more_captioners]),
            "search_targets": self.target(self.search),
        }
        build = functools.partial(RouterApp, media_store=self.media_store)
        router = running(RouterSettings(**(QUICK | chosen | settings)), build, "router")
        self.server = await self._stack.enter_async_context(router)
        self.channel = await self._stack.enter_async_context(open_channel(self.server.address))
        self.router = router_pb2_grpc.RouterServiceStub(self.channel)
        self.encoder_service = encoder_pb2_grpc.EncoderServiceStub(self.channel)
        self.captioner_service = caption_pb2_grpc.CaptionerServiceStub(self.channel)
        self.search_service = search_pb2_grpc.SearchServiceStub(self.channel)
        return self

    async def stop(self) -> None:
        """End the router in good order, and the fakes."""
        await self._stack.aclose()

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


@pytest.fixture
async def unstarted() -> AsyncIterator[Mesh]:
    """A mesh to be changed before it starts."""
    async with AsyncExitStack() as stack:
        yield Mesh(stack)


@pytest.fixture
async def mesh(unstarted: Mesh) -> Mesh:
    """A mesh of one encoder, one captioner and one store."""
    return await unstarted.start()
