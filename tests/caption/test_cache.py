"""The captioner does no work twice: images, plans, and captions word by word."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from caption_svc.cached import CaptionCodec, scope_of
from caption_svc.model import Caption, Plan
from lensmesh.caption.v1 import caption_pb2
from lensmesh.common.v1 import common_pb2
from tests.caption.calls import ask, items, queue
from tests.caption.conftest import Client, Serve
from tests.caption.fakes import FakeModel
from tests.caption.slow_model import SlowModel, request
from tests.support.waiting import until

MISS = common_pb2.CACHE_OUTCOME_MISS
HIT = common_pb2.CACHE_OUTCOME_HIT
COALESCED = common_pb2.CACHE_OUTCOME_COALESCED
ON = {"cache_bytes": 1024**2}


def outcomes(response: caption_pb2.CaptionImagesResponse) -> list[common_pb2.CacheOutcome.ValueType]:
    return [result.timings.cache for result in response.results]


async def test_what_comes_again_is_answered_without_the_model(
    serve: Serve, fake: FakeModel, contents: list[bytes]
) -> None:
    client = await serve(fake, **ON)
    first = await ask(client, contents[:2])
    batches = len(fake.batches)
    again = await ask(client, [contents[1], contents[0]])
    assert len(fake.batches) == batches
    assert (outcomes(first), outcomes(again)) == ([MISS] * 2, [HIT] * 2)
    assert [one.caption for one in again.results] == [one.caption for one in reversed(first.results)]
    assert all((one.timings.batch_size, one.timings.compute_us) == (0, 0) for one in again.results)


async def test_other_parameters_are_another_caption(serve: Serve, fake: FakeModel, contents: list[bytes]) -> None:
    client = await serve(fake, **ON)
    for options in ({}, {"prompt": "a"}, {"max_tokens": 3}, {"beam_count": 2}):
        assert outcomes(await ask(client, contents[:1], **options)) == [MISS]
        assert outcomes(await ask(client, contents[:1], **options)) == [HIT]


async def test_the_name_of_a_plan_in_the_cache_is_made_once(
    serve: Serve, fake: FakeModel, contents: list[bytes]
) -> None:
    served = (await serve(fake, **ON)).app.models.default
    one, other = (served.item(content, replace(PLAN), field="image") for content in contents[:2])
    assert one.scope is other.scope


async def test_a_stream_of_equal_images_is_captioned_once(serve: Serve, fake: FakeModel, contents: list[bytes]) -> None:
    client = await serve(fake, **ON)
    batches = len(fake.batches)
    requests = [caption_pb2.CaptionStreamRequest(items=items(contents[:2], 40))]
    results = [result async for answer in client.stub.CaptionStream(iter(requests)) for result in answer.results]
    assert sum(len(batch) for batch in fake.batches[batches:]) == 2
    assert len({one.result.caption.text for one in results}) == 2
    assert [one.result.timings.cache for one in results].count(MISS) == 2


async def watch(client: Client, content: bytes) -> list[caption_pb2.StreamCaptionResponse]:
    return [answer async for answer in client.stub.StreamCaption(request(content))]


async def test_a_known_caption_comes_in_one_piece(serve: Serve, slow: SlowModel, contents: list[bytes]) -> None:
    client = await serve(slow, **ON)
    for _ in range(100):
        slow.step.release()
    first = await watch(client, contents[1])
    steps = slow.steps
    again = await watch(client, contents[1])
    assert slow.steps == steps
    assert len(first) > 3
    assert [answer.WhichOneof("piece") for answer in again] == ["delta", "caption"]
    assert again[0].delta == again[1].caption.text == first[-1].caption.text


async def test_who_watches_the_same_image_later_gets_it_too_when_the_first_one_leaves(
    serve: Serve, slow: SlowModel, contents: list[bytes]
) -> None:
    client = await serve(slow, **ON)
    leaving = client.stub.StreamCaption(request(contents[1]))
    await anext(aiter(leaving))
    staying = asyncio.create_task(watch(client, contents[1]))
    await until(lambda: queue(client).held_items == 2)
    leaving.cancel()
    await until(lambda: queue(client).held_items == 1)
    for _ in range(100):
        slow.step.release()
    answers = await staying
    assert [answer.WhichOneof("piece") for answer in answers] == ["delta", "caption"]
    uncached = await serve(slow)
    assert (await watch(uncached, contents[1]))[-1].caption == answers[1].caption


async def test_a_caption_that_everybody_left_is_not_kept(serve: Serve, slow: SlowModel, contents: list[bytes]) -> None:
    """It ended in the middle of a sentence."""
    client = await serve(slow, **ON)
    call = client.stub.StreamCaption(request(contents[1]))
    await anext(aiter(call))
    call.cancel()
    await until(lambda: queue(client).held_items == 0)
    for _ in range(100):
        slow.step.release()
    steps = slow.steps
    answers = await watch(client, contents[1])
    assert slow.steps > steps + 2
    assert answers[-1].caption.token_count > 2


PLAN = Plan("a", (5,), 20, 1)


@pytest.mark.parametrize(
    "other",
    [replace(PLAN, prompt="the"), replace(PLAN, max_tokens=21), replace(PLAN, beams=2)],
)
def test_whatever_changes_a_caption_changes_its_scope(other: Plan) -> None:
    facts = FakeModel().facts
    mine = scope_of(facts, PLAN)
    assert mine == scope_of(facts, replace(PLAN))
    assert scope_of(facts, other) != mine
    others = [
        replace(facts, name="b"),
        replace(facts, weights_digest="f" * 64),
        replace(facts, backend="b"),
        replace(facts, precision="int8"),
    ]
    assert len({mine, *(scope_of(changed, PLAN) for changed in others)}) == 5


def test_captions_are_kept_as_they_are() -> None:
    caption = Caption("ein Fuchs 🦊 \u2028 \x00", 0.1 + 0.2, 7, True)
    assert CaptionCodec().load(CaptionCodec().dump(caption)) == caption


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"null",
        b"\xff",
        b"{}",
        b'{"text":"a","confidence":0.5,"token_count":"1","truncated":false}',
        b'{"text":"a","confidence":0.5,"token_count":1}',
    ],
)
def test_bytes_that_are_no_caption_are_none(payload: bytes) -> None:
    assert CaptionCodec().load(payload) is None
