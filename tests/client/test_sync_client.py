"""The blocking face: a fake router in a thread of its own, the test without a loop."""

import asyncio
from collections.abc import Iterator

import pytest

from lensmesh_client import SyncClient
from lensmesh_client.errors import NotFound, Reason
from tests.client.fake_router import FakeRouter


@pytest.fixture
def router(threaded_router: FakeRouter) -> FakeRouter:
    """Served by another thread's event loop."""
    return threaded_router


@pytest.fixture
def client(router: FakeRouter) -> Iterator[SyncClient]:
    """Of that router."""
    with SyncClient(router.target) as client:
        yield client


def test_calls_block_and_return(client: SyncClient) -> None:
    assert client.search("a cat").hits[0].id == "one"
    assert client.embed(texts=["a", "b"]).vectors.shape == (2, 4)
    assert client.caption([b"four"])[0].caption is not None
    assert client.ingest(b"cat").ok
    assert client.status().server.instance == "fake"
    assert "nearest" in (SyncClient.search.__doc__ or "")


def test_bulk_is_a_plain_generator(client: SyncClient, router: FakeRouter) -> None:
    router.drain_after = [5]
    results = list(client.ingest_many(b"image %d" % index for index in range(40)))
    assert sorted(result.index for result in results) == list(range(40))


def test_leaving_a_bulk_early_ends_it(client: SyncClient, router: FakeRouter) -> None:
    for _ in client.ingest_many((b"image %d" % index for index in range(10_000)), window_items=10):
        break
    assert len(router.stored) < 10_000
    assert client.status().server.instance == "fake"


def test_errors_come_through(client: SyncClient, router: FakeRouter) -> None:
    router.error = NotFound(Reason.ITEM_NOT_FOUND, "no such item")
    with pytest.raises(NotFound) as caught:
        client.search(item_id="x")
    assert caught.value.reason is Reason.ITEM_NOT_FOUND


def test_it_works_inside_a_running_loop(router: FakeRouter) -> None:
    async def cell() -> str:
        with SyncClient(router.target) as client:
            return client.search("a cat").hits[0].id

    assert asyncio.run(cell()) == "one"


def test_closing_twice_is_fine(router: FakeRouter) -> None:
    client = SyncClient(router.target)
    client.status()
    client.close()
    client.close()
