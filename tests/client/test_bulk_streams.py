"""Embedding and captioning without end, over the machinery that an ingest has; and a caption word by word."""

import asyncio

import numpy as np
import pytest

from lensmesh_client import (
    Client,
    DeadlineExceeded,
    IngestItem,
    InvalidInput,
    Overloaded,
    PreconditionFailed,
    Reason,
)
from tests.client.fake_router import FakeRouter, unit


async def test_texts_are_embedded_across_a_broken_stream(client: Client, router: FakeRouter) -> None:
    router.cut_after = [3, 5]
    texts = [f"text {number}" for number in range(20)]
    results = [result async for result in client.embed_many(texts=texts)]
    assert sorted(result.index for result in results) == list(range(20))
    for result in results:
        assert result.embedding is not None
        assert np.allclose(result.embedding.vector, unit(texts[result.index].encode()))
    assert router.streams == 3


async def test_a_bad_input_of_a_stream_fails_alone(client: Client, router: FakeRouter) -> None:
    router.unread = {b"bad"}
    embedded = {result.index: result async for result in client.embed_many(images=[b"good", b"bad", "no-such-file"])}
    assert [embedded[index].error is None for index in range(3)] == [True, False, False]
    captioned = {result.index: result async for result in client.caption_many([b"bad", b"four"])}
    assert captioned[0].error is not None
    assert captioned[0].error.reason is Reason.IMAGE_UNDECODABLE
    assert captioned[1].caption is not None
    assert captioned[1].caption.text == "4 bytes"


async def test_captions_come_across_a_broken_stream(client: Client, router: FakeRouter) -> None:
    router.cut_after = [2]
    results = [result async for result in client.caption_many([b"image %d" % number for number in range(9)])]
    assert sorted(result.index for result in results) == list(range(9))
    assert all(result.caption for result in results)
    assert router.streams == 2


async def test_an_option_that_is_none_ends_the_stream_before_it_begins(client: Client, router: FakeRouter) -> None:
    with pytest.raises(InvalidInput, match="transparency"):
        await anext(client.caption_many([b"a"], transparency="pink"))
    with pytest.raises(InvalidInput, match="exactly one"):
        client.embed_many(texts=["a"], images=[b"a"])
    assert router.streams == 0


async def test_items_without_a_key_of_their_own_do_not_wait_for_one_another(client: Client) -> None:
    """Failed before they were sent, they have no id to be stored under."""
    items = [IngestItem(f"no-such-file-{number}") for number in range(3)]
    results = [result async for result in client.ingest_many(items)]
    assert sorted(result.index for result in results) == [0, 1, 2]
    assert not any(result.ok for result in results)


async def test_a_caption_comes_in_pieces(client: Client, router: FakeRouter) -> None:
    pieces = [piece async for piece in client.stream_caption(b"cat")]
    assert [piece.text for piece in pieces] == ["a ", "a cat"]
    assert pieces[-1].caption is not None


async def test_a_caption_that_breaks_off_raises_the_error(client: Client, router: FakeRouter) -> None:
    router.error = Overloaded(Reason.OVERLOADED, "not now", retry_after_s=0.01)
    pieces = client.stream_caption(b"cat")
    assert (await anext(pieces)).text == "a "
    with pytest.raises(Overloaded, match="not now"):
        await anext(pieces)
    with pytest.raises(InvalidInput, match="cannot be read"):
        await anext(client.stream_caption("no-such-file"))


async def test_a_caption_has_a_deadline_and_ends_with_its_client(client: Client, router: FakeRouter) -> None:
    router.hold = asyncio.Event()
    slow = client.stream_caption(b"cat", timeout_s=0.3)
    await anext(slow)
    with pytest.raises(DeadlineExceeded):
        await anext(slow)
    other = client.stream_caption(b"cat")
    await anext(other)
    waiting = asyncio.create_task(anext(other))
    await asyncio.sleep(0)
    await client.close()
    with pytest.raises(PreconditionFailed):
        await waiting
    router.hold.set()
