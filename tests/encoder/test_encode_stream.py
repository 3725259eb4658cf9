"""EncodeStream: out of order, item by item, bounded, cancelled, drained."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator

import grpc
import pytest

from lensmesh.common.v1 import common_pb2
from lensmesh.encoder.v1 import encoder_pb2
from lensmesh_chassis.errors import InvalidInput, PreconditionFailed, Unavailable
from lensmesh_chassis.reasons import Reason
from lensmesh_chassis.rpc.status import from_rpc_error
from lensmesh_inference.batching.batcher import Lane
from tests.encoder.helpers import HeldModel, Served, failure, image, serving, vector
from tests.support.waiting import until

Item = encoder_pb2.EncodeStreamItem
Request = encoder_pb2.EncodeStreamRequest
# Enum values that the contract does not know, as a newer caller may send them.
UNKNOWN_TYPE = encoder_pb2.EncodeOptions(data_type=9)  # type: ignore[arg-type]  # a number where the stubs want a name
UNKNOWN_PRIORITY = encoder_pb2.EncodeOptions(priority=9)  # type: ignore[arg-type]  # a number where the stubs want a name


async def collect(served: Served, *requests: Request) -> dict[str, encoder_pb2.EncodeResult]:
    """Answers by ref; each ref at most once."""

    async def send() -> AsyncIterator[Request]:
        for request in requests:
            yield request

    results: dict[str, encoder_pb2.EncodeResult] = {}
    async for response in served.stub.EncodeStream(send()):
        assert response.results
        for result in response.results:
            assert result.ref not in results
            results[result.ref] = result.result
    return results


async def test_a_thousand_items_are_answered_each_once_by_ref() -> None:
    requests = [
        Request(
            items=[
                Item(ref=f"{k}-{i}", text=f"text {k} {i}") if i % 2 else Item(ref=f"{k}-{i}", image=image(i))
                for i in range(50)
            ]
        )
        for k in range(20)
    ]
    async with serving() as served:
        results = await collect(served, *requests)
        batch = await served.stub.EncodeTexts(encoder_pb2.EncodeTextsRequest(texts=["text 3 7"]))
    assert len(results) == 1000
    assert all(result.HasField("embedding") for result in results.values())
    assert results["3-7"].embedding == batch.results[0].embedding


async def test_a_bad_item_fails_alone_and_never_ends_the_stream() -> None:
    items = [
        Item(ref="good", text="a cat"),
        Item(ref="empty text", text=""),
        Item(ref="no input"),
        Item(ref="uri", image=common_pb2.Image(uri="file:///etc/passwd")),
        Item(ref="not an image", image=common_pb2.Image(content=b"hello")),
        Item(ref="long", text="x" * 10_001),
        Item(ref="nul", text="a\0"),
    ]
    async with serving() as served:
        results = await collect(served, Request(items=items), Request(items=[Item(ref="after", image=image())]))
    reasons = {ref: failure(result.error).reason for ref, result in results.items() if result.HasField("error")}
    assert reasons == {
        "empty text": Reason.TEXT_EMPTY,
        "no input": Reason.IMAGE_MISSING,
        "uri": Reason.URI_NOT_ALLOWED,
        "not an image": Reason.IMAGE_UNDECODABLE,
        "long": Reason.TEXT_TOO_LONG,
        "nul": Reason.TEXT_INVALID,
    }
    assert results["good"].HasField("embedding")
    assert results["after"].HasField("embedding")
    assert failure(results["long"].error).violations[0].field == "items[5].text"


async def test_options_of_the_first_message_hold_for_all() -> None:
    async with serving() as served:
        raw = (await served.stub.GetInfo(encoder_pb2.GetInfoRequest())).models[0].spaces[1]
        options = encoder_pb2.EncodeOptions(data_type=common_pb2.DATA_TYPE_FLOAT16, space_id=raw.id)
        results = await collect(served, Request(options=options), Request(items=[Item(ref="a", text="x")]), Request())
    assert results["a"].embedding.space_id == raw.id
    assert results["a"].embedding.data_type == common_pb2.DATA_TYPE_FLOAT16
    assert len(vector(results["a"].embedding)) == 512


async def test_an_empty_stream_ends_well() -> None:
    async with serving() as served:
        assert await collect(served) == {}


@pytest.mark.parametrize(
    ("requests", "reason"),
    [
        ([Request(), Request(options=encoder_pb2.EncodeOptions())], Reason.OPTIONS_REPEATED),
        ([Request(items=[Item(text="x")] * 4)], Reason.TOO_MANY_ITEMS),
        ([Request(options=UNKNOWN_TYPE)], Reason.OPTION_INVALID),
        ([Request(options=UNKNOWN_PRIORITY)], Reason.OPTION_INVALID),
        ([Request(items=[Item(image=common_pb2.Image(content=b"x" * 70_000))])], Reason.MESSAGE_TOO_LARGE),
    ],
)
async def test_counts_and_options_end_the_stream(requests: list[Request], reason: Reason) -> None:
    async with serving(max_items=3, max_message_bytes=64 * 1024) as served:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await collect(served, *requests)
    error = from_rpc_error(caught.value)
    assert (type(error), error.reason) == (InvalidInput, reason)


async def test_what_was_read_before_a_wrong_message_is_answered() -> None:
    seen: list[str] = []

    async def send() -> AsyncIterator[Request]:
        yield Request(items=[Item(ref=str(n), text="x") for n in range(10)])
        yield Request(options=encoder_pb2.EncodeOptions())

    async with serving() as served:

        async def receive() -> None:
            async for response in served.stub.EncodeStream(send()):
                seen.extend(result.ref for result in response.results)

        with pytest.raises(grpc.aio.AioRpcError):
            await receive()
    assert sorted(seen, key=int) == [str(n) for n in range(10)]


async def test_a_space_that_is_not_served_ends_the_stream() -> None:
    async with serving() as served:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await collect(served, Request(options=encoder_pb2.EncodeOptions(space_id="vs1-x"), items=[Item(text="x")]))
    error = from_rpc_error(caught.value)
    assert (type(error), error.reason) == (PreconditionFailed, Reason.SPACE_NOT_SERVED)


async def test_a_server_that_cannot_keep_up_stops_reading_and_refuses_nothing() -> None:
    model, sent = HeldModel(), 0

    async def send() -> AsyncIterator[Request]:
        nonlocal sent
        for number in range(3000):
            sent += 1
            yield Request(items=[Item(ref=str(number), image=image(number % 7))])

    async with serving(model, stream_items=16, max_queue_items=8, max_batch=2, cache_bytes=0) as served:
        model.free.clear()
        refs: set[str] = set()

        async def receive() -> None:
            async for response in served.stub.EncodeStream(send()):
                for result in response.results:
                    assert result.result.HasField("embedding"), result
                    refs.add(result.ref)

        receiving = asyncio.create_task(receive())
        batcher = served.engine.served[0].batcher
        await until(lambda: batcher.held_items == 4)
        # What is on the way in gRPC's own buffers is bounded by its flow control, not by us.
        await asyncio.sleep(0.3)
        assert batcher.held_items == 4
        assert sent < 3000
        model.free.set()
        await asyncio.wait_for(receiving, 120)
    assert len(refs) == 3000


async def test_an_interactive_call_overtakes_a_stream() -> None:
    model = HeldModel()

    async def send() -> AsyncIterator[Request]:
        for number in range(200):
            yield Request(items=[Item(ref=str(number), text=f"bulk {number}")])

    async with serving(model, max_batch=4, max_queue_items=64) as served:
        model.free.clear()
        stream = served.stub.EncodeStream(send())
        await until(lambda: served.engine.served[0].batcher.queued_items >= 20)
        call = asyncio.ensure_future(served.stub.EncodeTexts(encoder_pb2.EncodeTextsRequest(texts=["now"])))
        await until(lambda: served.engine.served[0].batcher.queued_in(Lane.INTERACTIVE) == 1)
        computed = model.computed
        model.free.set()
        await call
        # Only the batch that was in the device comes before the one that the interactive text leads.
        assert model.done[computed:].index(hashlib.sha256(b"now").digest()) <= 4
        stream.cancel()


async def test_cancelling_a_stream_of_a_thousand_images_empties_every_queue() -> None:
    model = HeldModel()

    async def send() -> AsyncIterator[Request]:
        for k in range(20):
            yield Request(items=[Item(ref=f"{k}-{i}", image=image(i)) for i in range(50)])

    async with serving(model, max_batch=8, cache_bytes=0) as served:
        batcher, pool = served.engine.served[0].batcher, served.engine.pool
        call = served.stub.EncodeStream(send())
        answered = 0
        async for response in call:
            answered += len(response.results)
            if answered >= 100:
                break
        model.free.clear()
        model.inside.clear()
        await until(model.inside.is_set)
        await until(lambda: batcher.queued_items > 0)
        assert call.cancel()
        # A second is the bound; a busy machine gets more.
        await until(lambda: batcher.queued_items == 0 and batcher.held_items == 0 and pool.waiting == 0)
        computed = model.computed
        model.free.set()
        await served.stub.EncodeTexts(encoder_pb2.EncodeTextsRequest(texts=["still here"]))
        # The batch that was in the device, and the text.
        assert model.computed <= computed + 8 + 1


async def test_draining_answers_what_was_read_then_says_so() -> None:
    model, more = HeldModel(), asyncio.Event()

    async def send() -> AsyncIterator[Request]:
        yield Request(items=[Item(ref=str(n), text=f"text {n}") for n in range(30)])
        await more.wait()

    async with serving(model) as served:
        model.free.clear()
        refs: set[str] = set()

        async def receive() -> None:
            async for response in served.stub.EncodeStream(send()):
                refs.update(result.ref for result in response.results)

        receiving = asyncio.create_task(receive())
        await until(lambda: served.engine.served[0].batcher.held_items == 30)
        served.server.runtime.draining.set()
        model.free.set()
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await asyncio.wait_for(receiving, 60)
        more.set()
    error = from_rpc_error(caught.value)
    assert (type(error), error.reason) == (Unavailable, Reason.DRAINING)
    assert refs == {str(n) for n in range(30)}
