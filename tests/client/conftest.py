"""A fake router, and a client that talks to it."""

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator

import pytest

from lensmesh_client import Client
from tests.client.fake_router import FakeRouter, serving


@pytest.fixture
async def router() -> AsyncIterator[FakeRouter]:
    """On a free port, without faults yet."""
    fake = FakeRouter()
    async with serving(fake):
        yield fake


@pytest.fixture
async def client(router: FakeRouter) -> AsyncIterator[Client]:
    """Of that router."""
    async with Client(router.target, timeout_s=30) as client:
        yield client


@pytest.fixture
def threaded_router() -> Iterator[FakeRouter]:
    """Served by another thread's event loop."""
    fake, ready = FakeRouter(), threading.Event()
    loop = asyncio.new_event_loop()
    stop = asyncio.Event()

    async def serve() -> None:
        async with serving(fake):
            ready.set()
            await stop.wait()

    thread = threading.Thread(target=loop.run_until_complete, args=(serve(),))
    thread.start()
    ready.wait(30)
    yield fake
    loop.call_soon_threadsafe(stop.set)
    thread.join()
    loop.close()
