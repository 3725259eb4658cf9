"""What each method sends and gives back, and how its failures look."""

import asyncio
import io
import socket
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lensmesh_chassis.channels import server_options
from lensmesh_client import Client, Health, IngestItem, ModelKind
from lensmesh_client.errors import (
    AlreadyExists,
    Cancelled,
    DeadlineExceeded,
    InternalFault,
    InvalidInput,
    LensmeshError,
    NotBuilt,
    NotFound,
    Overloaded,
    PermissionDenied,
    PreconditionFailed,
    Reason,
    Unavailable,
)
from tests.client.fake_router import FakeRouter, serving, unit
from tests.support.waiting import until


async def test_search_by_text(client: Client, router: FakeRouter) -> None:
    found = await client.search("a cat", collection="c", limit=3, filter=["year>=1870", "artist=Monet"], min_score=0.1)
    request = router.calls[0]
    assert request.queries[0].text == "a cat"
    assert (request.collection, request.limit) == ("c", 3)
    assert request.min_score == pytest.approx(0.1)
    assert len(request.filter.all.filters) == 2
    hit = found.hits[0]
    assert (hit.id, hit.score, found.encode_us, found.store_us) == ("one", 0.75, 5, 6)
    assert hit.caption is not None
    assert hit.caption.text == "a cat"
    assert hit.metadata == {"year": 1870, "artist": "Monet", "tags": ["a", 1.5, None, True], "place": {"x": 1}}
    assert isinstance(hit.metadata["year"], int)
    assert hit.content_digest == "0102"
    assert hit.create_time == datetime(2024, 1, 2, 3, 4, 5, tzinfo=UTC)
    assert hit.vectors == {}


async def test_a_call_that_a_router_leaves_behind_is_sent_again_once(client: Client, router: FakeRouter) -> None:
    await client.embed(texts=["a cat"])
    before = len(router.calls)
    router.cut_off = 1
    await client.embed(texts=["a cat"])
    assert len(router.calls) == before + 2
    router.cut_off = 2
    with pytest.raises(Cancelled):
        await client.embed(texts=["a cat"])
    assert len(router.calls) == before + 4


async def test_search_by_item_image_and_vector(client: Client, router: FakeRouter, tmp_path: Path) -> None:
    await client.search(item_id="one")
    path = tmp_path / "cat.jpg"
    path.write_bytes(b"cat")
    await client.search(image=path, exact=True)
    found = await client.search(embedding=[1.0, 0, 0, 0], space_id="vs1-x", with_vectors=True)
    by_item, by_image, by_vector = router.calls
    assert by_item.queries[0].item_id == "one"
    assert by_image.queries[0].image.content == b"cat"
    assert by_image.tuning.exact
    assert by_vector.queries[0].embedding.dimension == 4
    assert by_vector.queries[0].embedding.space_id == "vs1-x"
    vector = found.hits[0].vectors["image"]
    assert vector.dtype == np.float32
    np.testing.assert_array_equal(vector, [1, 2, 3, 4])


async def test_search_takes_exactly_one_query(client: Client, router: FakeRouter) -> None:
    for text, item_id in ((None, None), ("a", "b")):
        with pytest.raises(InvalidInput) as caught:
            await client.search(text, item_id=item_id)
        assert caught.value.reason is Reason.QUERY_INVALID
    with pytest.raises(InvalidInput) as caught:
        await client.search(embedding=np.zeros((2, 4)))
    assert caught.value.reason is Reason.VECTOR_INVALID
    assert router.calls == []


async def test_embed_keeps_order_and_cuts_calls(client: Client, router: FakeRouter) -> None:
    router.max_items = 10
    texts = [f"text {index}" for index in range(95)]
    found = await client.embed(texts=texts)
    assert found.vectors.shape == (95, 4)
    assert found.vectors.dtype == np.float32
    assert found.space_id == "vs1-x"
    np.testing.assert_allclose(found.vectors, [unit(text.encode()) for text in texts], rtol=1e-6)
    assert len(router.calls) == 10
    assert max(len(call.texts) for call in router.calls) == 10
    np.testing.assert_array_equal(np.asarray(found), found.vectors)


async def test_embed_tells_of_each_bad_item(client: Client, router: FakeRouter, tmp_path: Path) -> None:
    router.unread = {b"noise"}
    found = await client.embed(images=[b"one", b"noise", tmp_path / "missing.png", bytearray(b"two")])
    assert sorted(found.errors) == [1, 2]
    assert found.errors[2].violations[0].field == "images[2]"
    assert np.isnan(found.vectors[1:3]).all()
    np.testing.assert_allclose(found.vectors[[0, 3]], [unit(b"one"), unit(b"two")], rtol=1e-6)
    with pytest.raises(InvalidInput):
        found.checked()


async def test_embed_says_what_was_cut(client: Client) -> None:
    assert (await client.embed(texts=["short", "long " * 50])).truncated == (False, True)


async def test_one_text_is_no_list_of_letters(client: Client, router: FakeRouter) -> None:
    assert (await client.embed(texts="cat")).vectors.shape == (1, 4)
    assert list(router.calls[0].texts) == ["cat"]
    assert (await client.embed(texts=[])).vectors.shape == (0, 0)
    with pytest.raises(InvalidInput):
        await client.embed()


async def test_embed_waits_out_an_overload(client: Client, router: FakeRouter) -> None:
    router.error = Overloaded(Reason.OVERLOADED, "full", retry_after_s=0.05)
    task = asyncio.create_task(client.embed(texts=["a"]))
    await until(lambda: bool(router.calls))
    router.error = None
    assert len(await task) == 1


async def test_caption(client: Client, router: FakeRouter) -> None:
    router.unread = {b"noise"}
    first, second = await client.caption([b"four", b"noise"], prompt="a", max_tokens=9, beams=2)
    assert first.caption is not None
    assert first.caption.text == "4 bytes"
    assert second.caption is None
    assert isinstance(second.error, InvalidInput)
    options = router.calls[0].options
    assert (options.prompt, options.max_tokens, options.beam_count) == ("a", 9, 2)


async def test_a_pil_image_goes_as_png(client: Client, router: FakeRouter) -> None:
    await client.caption(Image.new("CMYK", (3, 2)))
    sent = Image.open(io.BytesIO(router.calls[0].images[0].content))
    assert (sent.format, sent.mode, sent.size) == ("PNG", "RGB", (3, 2))


async def test_ingest_one(client: Client, router: FakeRouter) -> None:
    result = await client.ingest(IngestItem(b"cat", id="a", ref="mine", metadata={"n": 1}, caption="a cat"))
    assert (result.id, result.ref, result.outcome, result.store_us) == ("a", "mine", "created", 7)
    item = router.calls[0].item
    assert item.metadata["n"] == 1
    assert len(item.content_digest) == 32


@pytest.mark.parametrize("value", [2**60, float("nan"), {"deep": [2**60]}, object()])
async def test_metadata_that_json_cannot_hold(client: Client, router: FakeRouter, value: object) -> None:
    with pytest.raises(InvalidInput) as caught:
        await client.ingest(IngestItem(b"cat", metadata={"n": value}))
    assert caught.value.reason is Reason.METADATA_INVALID
    assert router.calls == []


async def test_a_word_nobody_knows(client: Client) -> None:
    with pytest.raises(InvalidInput, match="best-effort"):
        await client.ingest(b"cat", captions="maybe")


async def test_status(client: Client) -> None:
    status = await client.status()
    assert status.server.version == "1.2.3"
    assert status.limits.max_items == 256
    assert not status.serving
    service = status.services[0]
    assert (service.kind, service.health, service.reason) == ("encoder", Health.UNREACHABLE, "connection refused")
    assert service.models[0].kind is ModelKind.MOCK
    assert service.spaces[0].dimension == 4


@pytest.mark.parametrize(
    "error",
    [
        InvalidInput(Reason.FILTER_INVALID, "bad", field="filter.all"),
        NotFound(Reason.COLLECTION_NOT_FOUND, "no such collection"),
        AlreadyExists(Reason.COLLECTION_EXISTS, "taken"),
        PreconditionFailed(Reason.SPACE_MISMATCH, "other space", metadata={"space": "vs1-y"}),
        Overloaded(Reason.OVERLOADED, "full", retry_after_s=1.5),
        Unavailable(Reason.STORE_UNAVAILABLE, "no database", retry_after_s=0.5),
        NotBuilt(Reason.NOT_IMPLEMENTED, "later", metadata={"field": "fusion"}),
        PermissionDenied(Reason.PERMISSION_DENIED, "not you"),
        InternalFault(Reason.INTERNAL, "our fault"),
    ],
    ids=lambda error: type(error).__name__,
)
async def test_each_kind_of_error_has_its_class(client: Client, router: FakeRouter, error: LensmeshError) -> None:
    router.error = error
    with pytest.raises(LensmeshError) as caught:
        await client.search("a cat")
    got = caught.value
    assert type(got) is type(error)
    assert (got.reason, got.retry_after_s) == (error.reason, error.retry_after_s)
    assert got.message == error.message
    assert [violation.field for violation in got.violations] == [violation.field for violation in error.violations]
    assert error.metadata.items() <= got.metadata.items()


async def test_the_deadline_is_grpcs_own(client: Client, router: FakeRouter) -> None:
    router.hold = asyncio.Event()
    with pytest.raises(DeadlineExceeded):
        await client.search("a cat", timeout_s=0.1)
    router.hold.set()


async def test_far_over_the_message_limit_is_explained() -> None:
    router = FakeRouter()
    async with serving(router, server_options(64 * 1024)), Client(router.target) as client:
        with pytest.raises(Overloaded, match="larger than the transport takes") as caught:
            await client.ingest(b"x" * 1_000_000)
        assert caught.value.reason is Reason.MESSAGE_TOO_LARGE
    # The same on the way out: more than this client itself would send.
    async with serving(router), Client(router.target, max_message_bytes=64 * 1024) as client:
        with pytest.raises(Overloaded) as caught:
            await client.ingest(b"x" * 1_000_000)
        assert caught.value.reason is Reason.MESSAGE_TOO_LARGE


async def test_nobody_there_says_how_to_start_one() -> None:
    async with Client("127.0.0.1:1") as client:
        with pytest.raises(Unavailable, match="lensmesh up"):
            await client.status()


async def test_a_closed_client_opens_again(client: Client) -> None:
    await client.status()
    await client.close()
    assert (await client.status()).server.instance == "fake"


SILENT: dict[str, Callable[[Client], Awaitable[object]]] = {
    "ingest": lambda mesh: mesh.ingest(b"x", timeout_s=0.2),
    "ingest_many": lambda mesh: anext(mesh.ingest_many([b"x"], timeout_s=0.2)),
    "search": lambda mesh: mesh.search(image=__file__, timeout_s=0.2),
    "embed": lambda mesh: mesh.embed(texts=["x"], timeout_s=0.2),
    "caption": lambda mesh: mesh.caption([b"x"], timeout_s=0.2),
}


@pytest.mark.parametrize("name", SILENT)
async def test_a_deadline_holds_for_the_question_for_limits_too(name: str) -> None:
    """Which is asked first: of a router that takes the connection and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        async with Client(f"127.0.0.1:{port}", timeout_s=300) as client, asyncio.timeout(15):
            with pytest.raises(DeadlineExceeded):
                await SILENT[name](client)


@pytest.mark.parametrize("seconds", [float("inf"), 1e300])
async def test_a_time_without_end_sets_none(client: Client, seconds: float) -> None:
    assert (await client.search("a cat", timeout_s=seconds)).hits
    assert [result.ok async for result in client.ingest_many([b"a"], timeout_s=seconds, patience_s=seconds)] == [True]


WRONG: dict[str, Callable[[Client], Awaitable[object]]] = {
    "nan": lambda mesh: mesh.search("a cat", timeout_s=float("nan")),
    "text": lambda mesh: mesh.status(timeout_s="5"),  # type: ignore[arg-type]
    "of a stream": lambda mesh: anext(mesh.ingest_many([b"x"], timeout_s=float("nan"))),
    "patience": lambda mesh: anext(mesh.ingest_many([b"x"], patience_s="5")),  # type: ignore[arg-type]
    "no texts": lambda mesh: mesh.embed(texts=5),  # type: ignore[arg-type]
    "no items": lambda mesh: anext(mesh.ingest_many(5)),  # type: ignore[arg-type]
    "target": lambda mesh: Client("caf\udce9").status(),
    "empty target": lambda mesh: Client("").status(),
    "no target": lambda mesh: Client(5).status(),  # type: ignore[arg-type]
}


@pytest.mark.parametrize("name", WRONG)
async def test_arguments_of_a_wrong_type_are_told_so(client: Client, router: FakeRouter, name: str) -> None:
    with pytest.raises(InvalidInput):
        await WRONG[name](client)
    assert router.calls == []
