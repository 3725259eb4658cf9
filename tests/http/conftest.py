"""The front door before a router that answers what a test tells it."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any

import httpx2
import pytest

from http_svc.app import HttpApp
from http_svc.serving.listeners import HttpListeners
from http_svc.settings import HttpSettings
from lensmesh_chassis.process.server import RunningServer, running
from tests.http.fake_router import FakeRouter

QUICK: dict[str, Any] = {"listen": "127.0.0.1:0", "drain_seconds": 5}


class Door:
    """A front door, and what a test asks it with."""

    def __init__(self, stack: AsyncExitStack, router: FakeRouter) -> None:
        self._stack = stack
        self.router = router
        self.server: RunningServer
        self.client: httpx2.AsyncClient

    async def start(self, *, tracer_provider: Any | None = None, **settings: Any) -> "Door":
        """Start it, with settings of the test's own."""
        chosen = HttpSettings(**(QUICK | {"router_target": self.router.address} | settings))
        door = running(chosen, HttpApp, "http", listeners=HttpListeners, tracer_provider=tracer_provider)
        self.server = await self._stack.enter_async_context(door)
        client = httpx2.AsyncClient(base_url=f"http://{self.server.address}", timeout=30)
        self.client = await self._stack.enter_async_context(client)
        return self

    async def stop(self) -> None:
        """Drain it and stop it, as a signal does."""
        await self._stack.aclose()

    @property
    def host_and_port(self) -> tuple[str, int]:
        """Where it listens."""
        host, _, port = self.server.address.rpartition(":")
        return host, int(port)


@pytest.fixture
async def router() -> AsyncIterator[FakeRouter]:
    """A router, started."""
    fake = FakeRouter()
    await fake.start()
    yield fake
    await fake.stop()


@pytest.fixture
async def stopped_door(router: FakeRouter) -> AsyncIterator[Door]:
    """A door that a test starts itself, for settings of its own."""
    async with AsyncExitStack() as stack:
        yield Door(stack, router)


@pytest.fixture
async def door(stopped_door: Door) -> Door:
    """A door, started."""
    return await stopped_door.start()
