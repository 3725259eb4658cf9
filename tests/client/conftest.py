"""A fake router, and a client that talks to it."""

from collections.abc import AsyncIterator, Iterator

import pytest

from lensmesh_client import Client
from tests.client.fake_router import FakeRouter, serving, serving_in_thread


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
    with serving_in_thread() as fake:
        yield fake
