"""How long a bulk ingest waits, and what it says meanwhile."""

import asyncio

import pytest

from lensmesh_client import Client, IngestResult
from lensmesh_client.errors import Reason, Unavailable
from tests.client.fake_router import FakeRouter
from tests.support.waiting import until


async def test_silence_is_told_with_the_reason_of_the_store(
    client: Client, router: FakeRouter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lensmesh_client.silence.NOTICE_S", 0.05)
    router.hold, router.unwell = asyncio.Event(), "the disk of the database is full"
    told: list[tuple[str, int]] = []

    async def ingest() -> list[IngestResult]:
        return [result async for result in client.ingest_many([b"a", b"b"], on_wait=lambda *news: told.append(news))]

    running = asyncio.create_task(ingest())
    await until(lambda: len(told) >= 2)
    assert "the disk of the database is full" in told[0][0]
    assert "search" in told[0][0]
    assert told[0][1] == 2
    router.hold.set()
    assert all(result.ok for result in await running)


async def test_patience_counts_from_the_loss_not_from_its_end(client: Client, router: FakeRouter) -> None:
    """A router that waits itself for longer than the patience, and then says why, is not asked again."""
    router.hold = hold = asyncio.Event()

    def give_up() -> None:
        router.error = Unavailable(Reason.STORE_UNAVAILABLE, "the database is away", retry_after_s=0.01)
        hold.set()

    asyncio.get_running_loop().call_later(0.5, give_up)
    with pytest.raises(Unavailable, match="the database is away"):
        [_ async for _ in client.ingest_many([b"a"], patience_s=0.3)]
    assert router.streams == 1


async def test_a_stream_that_hangs_after_a_loss_uses_up_the_patience(client: Client, router: FakeRouter) -> None:
    router.error = Unavailable(Reason.STORE_UNAVAILABLE, "the database is away", retry_after_s=0.01)

    def hang(*_: object) -> None:
        router.error, router.hold = None, asyncio.Event()

    with pytest.raises(Unavailable, match="the database is away"):
        [_ async for _ in client.ingest_many([b"a"], patience_s=0.5, on_resume=hang)]
    assert router.streams == 2


async def test_an_unanswered_stream_is_not_sent_again_by_the_channel(client: Client, router: FakeRouter) -> None:
    """gRPC's own retries would multiply the router's wait by four, in silence."""
    router.error = Unavailable(Reason.STORE_UNAVAILABLE, "away", retry_after_s=0.01)
    resumed: list[int] = []
    with pytest.raises(Unavailable):
        [_ async for _ in client.ingest_many([b"a"], patience_s=0.3, on_resume=lambda _, count: resumed.append(count))]
    # The last one is not told, and may end before it has begun.
    assert router.streams <= len(resumed) + 1
