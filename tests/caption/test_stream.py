"""Bulk streams: answered as ready, ended by wrong messages, emptied by a client that leaves, and drained."""

import asyncio
from collections.abc import AsyncIterator

import grpc
import pytest

from lensmesh.caption.v1 import caption_pb2
from lensmesh.common.v1 import common_pb2
from lensmesh_chassis.reasons import Reason
from lensmesh_chassis.rpc.status import from_rpc_error
from tests.caption.calls import items, queue
from tests.caption.conftest import Serve
from tests.caption.fakes import FakeModel
from tests.support.waiting import until

Request = caption_pb2.CaptionStreamRequest


async def test_every_item_is_answered_once_under_its_ref(serve: Serve, fake: FakeModel, contents: list[bytes]) -> None:
    client = await serve(fake, max_batch=4, stream_items=10)
    requests = [Request(items=items(contents, 20, 20 * number)) for number in range(5)]
    requests.insert(2, Request())
    refs = [result.ref async for answer in client.stub.CaptionStream(iter(requests)) for result in answer.results]
    assert sorted(refs, key=int) == [str(number) for number in range(100)]
    assert max(len(batch) for batch in fake.batches) <= 4


async def test_an_empty_stream_has_no_answers(serve: Serve, fake: FakeModel) -> None:
    client = await serve(fake)
    assert [answer async for answer in client.stub.CaptionStream(iter([]))] == []


async def test_reading_stops_while_the_device_is_held_up(serve: Serve, fake: FakeModel, contents: list[bytes]) -> None:
    client = await serve(fake, max_batch=2, stream_items=6)
    fake.open.clear()
    sent = 0

    async def requests() -> AsyncIterator[Request]:
        nonlocal sent
        for item in items(contents, 200):
            sent += 1
            # A message fills gRPC's own window, so that what the service does not read stays with the client.
            item.image.content += bytes(200_000)
            yield Request(items=[item])

    call = client.stub.CaptionStream(requests())
    await until(lambda: queue(client).held_items == 6)
    await asyncio.sleep(0.1)
    assert queue(client).held_items == 6
    assert sent < 100
    fake.open.set()
    assert sum([len(answer.results) async for answer in call]) == 200


@pytest.mark.parametrize("repeated", [True, False])
async def test_wrong_messages_end_the_stream_after_what_was_read(
    serve: Serve, fake: FakeModel, contents: list[bytes], repeated: bool
) -> None:
    client = await serve(fake, max_items=5)
    wrong = Request(options=caption_pb2.CaptionOptions()) if repeated else Request(items=items(contents, 6))
    call = client.stub.CaptionStream(iter([Request(items=items(contents, 3)), wrong]))
    refs: list[str] = []

    async def read() -> None:
        async for answer in call:
            refs.extend(result.ref for result in answer.results)

    with pytest.raises(grpc.RpcError) as caught:
        await read()
    assert sorted(refs) == ["0", "1", "2"]
    assert from_rpc_error(caught.value).reason is (Reason.OPTIONS_REPEATED if repeated else Reason.TOO_MANY_ITEMS)


async def test_a_client_that_leaves_takes_its_work_along(serve: Serve, fake: FakeModel, contents: list[bytes]) -> None:
    client = await serve(fake, max_batch=4, stream_items=1000, max_queue_items=5000)
    fake.open.clear()
    requests = [Request(items=items(contents, 50, 50 * number)) for number in range(20)]
    call = client.stub.CaptionStream(iter(requests))
    reading = asyncio.ensure_future(anext(aiter(call)))
    await until(lambda: queue(client).held_items == 1000)
    await until(lambda: len(fake.batches) > 1)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reading
    await until(lambda: queue(client).held_items == 0 and queue(client).queued_items == 0)
    # The batch that the device is in hears of it too.
    await until(lambda: all(job.abandoned.is_set() for job in fake.batches[-1]))
    fake.open.set()
    batches = len(fake.batches)
    answer = await client.stub.CaptionImages(
        caption_pb2.CaptionImagesRequest(images=[common_pb2.Image(content=contents[0])])
    )
    assert answer.results[0].caption.text
    assert len(fake.batches) == batches + 1


async def test_draining_answers_what_was_read(serve: Serve, fake: FakeModel, contents: list[bytes]) -> None:
    client = await serve(fake, max_batch=4)
    fake.open.clear()
    more = asyncio.Event()

    async def requests() -> AsyncIterator[Request]:
        yield Request(items=items(contents, 10))
        await more.wait()

    call = client.stub.CaptionStream(requests())
    refs: list[str] = []

    async def read() -> None:
        async for answer in call:
            refs.extend(result.ref for result in answer.results)

    reading = asyncio.create_task(read())
    await until(lambda: queue(client).held_items == 10)
    client.server.runtime.draining.set()
    fake.open.set()
    with pytest.raises(grpc.RpcError) as caught:
        await reading
    assert len(refs) == 10
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
    assert from_rpc_error(caught.value).reason is Reason.DRAINING
    more.set()


async def test_unspecified_priority_is_bulk_in_streams_only(
    serve: Serve, fake: FakeModel, contents: list[bytes]
) -> None:
    client = await serve(fake, max_batch=1)
    fake.open.clear()
    options = caption_pb2.CaptionOptions(prompt="bulk")
    stream = client.stub.CaptionStream(iter([Request(options=options, items=items(contents, 3))]))
    reading = asyncio.ensure_future(anext(aiter(stream)))
    await until(lambda: queue(client).queued_items == 2)
    image = common_pb2.Image(content=contents[0])
    request = caption_pb2.CaptionImagesRequest(images=[image], options=caption_pb2.CaptionOptions(prompt="waiting"))
    asked = asyncio.ensure_future(client.stub.CaptionImages(request))
    await until(lambda: queue(client).queued_items == 3)
    fake.open.set()
    await asked
    await reading
    order = [batch[0].plan.prompt for batch in fake.batches[1:]]
    # It came last and overtook those of the stream that had not begun.
    assert order[:2] == ["bulk", "waiting"]
    stream.cancel()
