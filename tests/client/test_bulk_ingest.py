"""ingest_many under stress: every input is answered exactly once, whatever becomes of the streams."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from lensmesh_client import Client, IngestItem, IngestResult
from lensmesh_client.bulk import WRITE_MET_THE_END
from lensmesh_client.errors import (
    DeadlineExceeded,
    InternalFault,
    InvalidInput,
    LensmeshError,
    Overloaded,
    PreconditionFailed,
    Reason,
    Unavailable,
)
from tests.client.fake_router import FakeRouter, serving
from tests.support.waiting import until


def images(count: int) -> list[IngestItem]:
    return [IngestItem(b"image %d" % index, ref=f"r{index}") for index in range(count)]


async def all_of(results: AsyncIterator[IngestResult]) -> list[IngestResult]:
    return [result async for result in results]


def each_once(results: list[IngestResult], count: int) -> None:
    assert Counter(result.index for result in results) == Counter(range(count))
    assert all(result.ref == f"r{result.index}" for result in results)


async def test_every_item_is_answered_once(client: Client, router: FakeRouter) -> None:
    results = await all_of(client.ingest_many(images(100), collection="c", captions="required", prompt="a"))
    each_once(results, 100)
    assert all(result.ok and result.outcome == "created" for result in results)
    assert router.streams == 1
    assert router.options[0].collection == "c"
    assert router.options[0].caption_options.prompt == "a"


async def test_nothing_in_nothing_out(client: Client, router: FakeRouter) -> None:
    assert await all_of(client.ingest_many([])) == []
    assert router.streams == 0


@pytest.mark.parametrize("fault", ["cut_after", "drain_after", "end_after"])
async def test_a_broken_stream_is_resumed(client: Client, router: FakeRouter, fault: str) -> None:
    setattr(router, fault, [10, 2, 25])
    resumed: list[tuple[LensmeshError, int]] = []
    results = await all_of(client.ingest_many(images(100), on_resume=lambda *told: resumed.append(told)))
    each_once(results, 100)
    assert router.streams == 4
    # A server may end a stream just when all that was sent so far is answered: then nothing has to be sent again.
    assert len(resumed) == 3 or fault == "end_after"
    assert all(type(error) is Unavailable for error, _ in resumed)
    assert len({name for name, _ in router.stored}) == 100
    # Only the answer that a cut lost makes an item be stored again, and that changes nothing.
    assert len(router.stored) == (103 if fault == "cut_after" else 100)


async def test_a_router_that_goes_and_comes_back(router: FakeRouter) -> None:
    later = FakeRouter()
    stop, gone = asyncio.Event(), asyncio.Event()
    first = FakeRouter()

    async def first_router() -> None:
        async with serving(first):
            await stop.wait()
        gone.set()

    async def paced() -> AsyncIterator[IngestItem]:
        for index, item in enumerate(images(60)):
            if index == 30:
                stop.set()
                await gone.wait()
            yield item

    serve = asyncio.create_task(first_router())
    await until(lambda: bool(first.target))
    port = int(first.target.rsplit(":", 1)[1])
    async with Client(first.target) as client:
        results = asyncio.create_task(all_of(client.ingest_many(paced())))
        await gone.wait()
        async with serving(later, port=port):
            each_once(await results, 60)
    await serve
    assert {name for name, _ in first.stored} | {name for name, _ in later.stored} == {
        result.id for result in results.result()
    }


async def test_messages_fit_the_advertised_limits(client: Client, router: FakeRouter) -> None:
    router.max_items, router.max_message_bytes = 7, 20_000
    items = [IngestItem(bytes([index]) * 3_000, ref=f"r{index}") for index in range(50)]
    each_once(await all_of(client.ingest_many(items)), 50)
    assert max(router.messages) <= 7
    assert max(router.message_bytes) <= 20_000


async def test_an_item_no_message_can_hold_fails_alone(client: Client, router: FakeRouter) -> None:
    router.max_message_bytes = 20_000
    items = [*images(3), IngestItem(b"x" * 30_000, ref="r3")]
    results = await all_of(client.ingest_many(items))
    each_once(results, 4)
    error = next(result.error for result in results if result.index == 3)
    assert isinstance(error, InvalidInput)
    assert error.reason is Reason.MESSAGE_TOO_LARGE
    assert "20000" in error.message
    assert router.streams == 1


async def test_bad_items_fail_alone(client: Client, router: FakeRouter, tmp_path: Path) -> None:
    router.unread = {b"noise"}
    there = tmp_path / "there.jpg"
    there.write_bytes(b"there")
    results = await all_of(client.ingest_many([there, tmp_path / "missing.jpg", b"noise", str(there)]))
    by_index = {result.index: result for result in results}
    assert len(results) == 4
    assert by_index[0].ok
    assert by_index[3].ok
    missing, noise = by_index[1].error, by_index[2].error
    assert isinstance(missing, InvalidInput)
    assert missing.reason is Reason.IMAGE_MISSING
    assert "missing.jpg" in missing.message
    assert isinstance(noise, InvalidInput)
    assert noise.reason is Reason.IMAGE_UNDECODABLE


async def test_an_item_refused_for_the_moment_is_sent_again(client: Client, router: FakeRouter) -> None:
    router.busy_times = {b"image 1": 2, b"image 2": 5}
    results = await all_of(client.ingest_many(images(4), attempts=3))
    each_once(results, 4)
    failed = [result for result in results if not result.ok]
    assert [result.index for result in failed] == [2]
    assert isinstance(failed[0].error, Overloaded)
    assert failed[0].error.retry_after_s == pytest.approx(0.01)


async def test_items_of_one_id_keep_their_order(client: Client, router: FakeRouter) -> None:
    router.busy_times = {b"old": 2}
    items = [IngestItem(b"old", id="a", caption="old"), IngestItem(b"new", id="a", caption="new"), IngestItem(b"b")]
    results = await all_of(client.ingest_many(items))
    assert len(results) == 3
    assert [caption for name, caption in router.stored if name == "a"] == ["old", "new"]


async def test_what_is_read_ahead_is_bounded(client: Client, router: FakeRouter) -> None:
    router.hold = asyncio.Event()
    taken = 0

    def endless() -> Iterator[bytes]:
        nonlocal taken
        for taken in range(1, 1_000):
            yield b"image %d" % taken

    results = client.ingest_many(endless(), window_items=20)
    first = asyncio.create_task(anext(results))
    await until(lambda: router.in_flight > 0)
    # Twenty in the window, and one read that waits for room.
    await until(lambda: taken >= 21)
    await asyncio.sleep(0.1)
    assert taken == 21
    router.hold.set()
    await first
    await results.aclose()


async def test_bytes_are_bounded_too(client: Client, router: FakeRouter) -> None:
    router.hold = asyncio.Event()
    taken = 0

    def endless() -> Iterator[bytes]:
        nonlocal taken
        for taken in range(1, 1_000):
            yield bytes([taken % 256]) * 10_000

    results = client.ingest_many(endless(), window_bytes=55_000)
    first = asyncio.create_task(anext(results))
    await until(lambda: taken >= 6)
    await asyncio.sleep(0.1)
    assert taken == 6
    router.hold.set()
    await first
    await results.aclose()


async def test_an_asynchronous_input_that_pauses(client: Client, router: FakeRouter) -> None:
    go_on = asyncio.Event()

    async def paced() -> AsyncIterator[IngestItem]:
        for index, item in enumerate(images(4)):
            if index == 2:
                await go_on.wait()
            yield item

    results = client.ingest_many(paced())
    # The first two are answered while the input sleeps.
    early = [await anext(results), await anext(results)]
    go_on.set()
    each_once(early + await all_of(results), 4)


async def test_an_error_of_the_input_comes_after_its_answers(client: Client) -> None:
    def broken() -> Iterator[bytes]:
        yield b"one"
        yield b"two"
        raise RuntimeError("disk gone")

    results = client.ingest_many(broken())
    assert {(await anext(results)).index, (await anext(results)).index} == {0, 1}
    with pytest.raises(RuntimeError, match="disk gone"):
        await anext(results)


async def test_a_refused_call_is_raised_at_once(client: Client, router: FakeRouter) -> None:
    router.error = PreconditionFailed(Reason.SPACE_MISMATCH, "other space")
    with pytest.raises(PreconditionFailed) as caught:
        await all_of(client.ingest_many(images(3)))
    assert caught.value.reason is Reason.SPACE_MISMATCH
    assert not router.stored
    # One, or a few where a write met the stream's end and gRPC told of that instead of the refusal.
    assert router.streams <= 5


async def test_patience_ends(client: Client, router: FakeRouter) -> None:
    router.error = Unavailable(Reason.DRAINING, "always draining", retry_after_s=0.01)
    with pytest.raises(Unavailable, match="always draining"):
        await all_of(client.ingest_many(images(3), patience_s=1.0))
    assert router.streams > 1


async def test_patience_ends_with_the_reason_that_was_told(client: Client, router: FakeRouter) -> None:
    router.error = Unavailable(Reason.DRAINING, "always draining", retry_after_s=0.01)

    def hide(error: LensmeshError, waiting: int) -> None:
        # From now on gRPC tells of a write that met the stream's end, as it may at any time.
        if error.message == "always draining":
            router.error = InternalFault(Reason.UNKNOWN, WRITE_MET_THE_END)

    with pytest.raises(Unavailable, match="always draining"):
        await all_of(client.ingest_many(images(3), patience_s=1.0, on_resume=hide))
    assert router.error.reason is Reason.UNKNOWN


async def test_the_whole_has_a_deadline(client: Client, router: FakeRouter) -> None:
    router.hold = asyncio.Event()
    with pytest.raises(DeadlineExceeded):
        await all_of(client.ingest_many(images(3), timeout_s=0.2))
    router.hold.set()


async def test_nobody_there_is_said_at_once() -> None:
    async with Client("127.0.0.1:1") as client:
        with pytest.raises(Unavailable, match="lensmesh up") as caught:
            await all_of(client.ingest_many(images(3)))
    assert "127.0.0.1:1" in caught.value.message
