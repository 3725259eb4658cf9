"""StreamCaption as a person watches it: pieces come while the model still works, and it stops when nobody watches."""

import asyncio

import grpc
import pytest

from lensmesh.caption.v1 import caption_pb2
from lensmesh.common.v1 import common_pb2
from lensmesh_chassis.reasons import Reason
from lensmesh_chassis.rpc.status import from_rpc_error
from tests.caption.calls import queue
from tests.caption.conftest import Serve
from tests.caption.fakes import FakeModel
from tests.caption.slow_model import SlowModel, request
from tests.support.waiting import until


async def test_the_first_word_comes_before_the_last_is_made(
    serve: Serve, slow: SlowModel, contents: list[bytes]
) -> None:
    client = await serve(slow)
    call = client.stub.StreamCaption(request(contents[1]))
    first = await anext(aiter(call))
    assert first.delta.startswith("a")
    assert slow.steps == 1
    for _ in range(40):
        slow.step.release()
    rest = [answer async for answer in call]
    assert first.delta + "".join(answer.delta for answer in rest) == rest[-1].caption.text
    assert rest[-1].caption.token_count == slow.steps > 2


async def test_generation_stops_between_tokens_when_the_client_leaves(
    serve: Serve, slow: SlowModel, contents: list[bytes]
) -> None:
    client = await serve(slow)
    call = client.stub.StreamCaption(request(contents[1]))
    await anext(aiter(call))
    call.cancel()
    await until(lambda: queue(client).held_items == 0)
    slow.step.release()
    slow.step.release()
    # The device is free again: another caption gets through, with no step more of the abandoned one.
    answer = await client.stub.CaptionImages(
        caption_pb2.CaptionImagesRequest(images=[common_pb2.Image(content=contents[0])])
    )
    assert answer.results[0].caption.token_count > 0
    assert slow.steps <= 2


async def test_two_watchers_share_the_device(serve: Serve, slow: SlowModel, contents: list[bytes]) -> None:
    client = await serve(slow)
    for _ in range(200):
        slow.step.release()

    async def watch(content: bytes) -> str:
        answers = [answer async for answer in client.stub.StreamCaption(request(content))]
        assert "".join(answer.delta for answer in answers) == answers[-1].caption.text
        return answers[-1].caption.text

    texts = await asyncio.gather(*(watch(content) for content in contents[:4]))
    assert list(texts) == [await watch(content) for content in contents[:4]]


async def test_words_of_a_batch_that_runs_again_are_told_once(
    serve: Serve, fake: FakeModel, contents: list[bytes]
) -> None:
    client = await serve(fake)
    canaries = len(fake.batches)
    fake.capacity = 1
    fake.open.clear()

    async def watch(content: bytes) -> tuple[str, str]:
        answers = [answer async for answer in client.stub.StreamCaption(request(content))]
        return "".join(answer.delta for answer in answers), answers[-1].caption.text

    watchers = [asyncio.create_task(watch(content)) for content in contents[:4]]
    # However many the device took at first, all are there.
    await until(lambda: sum(map(len, fake.batches[canaries:])) + queue(client).queued_items == 4)
    fake.open.set()
    told = await asyncio.gather(*watchers)
    assert all(deltas == text for deltas, text in told)
    assert len({text for _, text in told}) == 4
    # Some together did not fit, and all went one after another in the end.
    sizes = [len(batch) for batch in fake.batches[canaries:]]
    assert sizes.count(1) == 4
    assert max(sizes) > 1


@pytest.mark.parametrize(
    ("image", "reason"),
    [
        (common_pb2.Image(), Reason.IMAGE_MISSING),
        (common_pb2.Image(content=b"no image"), Reason.IMAGE_UNDECODABLE),
        (common_pb2.Image(uri="http://a/b.png"), Reason.URI_NOT_ALLOWED),
    ],
)
async def test_a_bad_image_fails_the_call(serve: Serve, image: common_pb2.Image, reason: Reason) -> None:
    client = await serve(model="mock")
    with pytest.raises(grpc.RpcError) as caught:
        [answer async for answer in client.stub.StreamCaption(caption_pb2.StreamCaptionRequest(image=image))]
    assert from_rpc_error(caught.value).reason is reason
