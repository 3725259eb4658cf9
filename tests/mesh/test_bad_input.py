"""What callers get wrong, through the router as they would send it: each has its own status, reason and fix."""

import asyncio
import math
from collections.abc import Awaitable

import grpc
import pytest
from google.protobuf import struct_pb2

from lensmesh.common.v1 import common_pb2
from lensmesh.encoder.v1 import encoder_pb2, encoder_pb2_grpc
from lensmesh.router.v1 import router_pb2, router_pb2_grpc
from lensmesh.search.v1 import search_pb2, search_pb2_grpc
from lensmesh_chassis.errors import LensmeshError
from lensmesh_chassis.reasons import Reason
from lensmesh_chassis.rpc.status import from_rpc_error, from_status
from tests.mesh import images

LIMIT_BYTES = 20 * 1024**2

GOOD = {
    "one pixel": images.plain(size=(1, 1)),
    "animated": images.animated_gif(),
    "CMYK": images.cmyk(),
    "16 bit": images.sixteen_bit(),
    "palette with alpha": images.palette_with_alpha(),
    "rotated": images.rotated_jpeg(),
    "WebP": images.plain(kind="WEBP"),
    "BMP": images.plain(kind="BMP"),
    "TIFF": images.plain(kind="TIFF"),
}
BAD = {
    "empty": (b"", Reason.IMAGE_EMPTY),
    "truncated": (images.plain(size=(400, 300), kind="JPEG")[:-300], Reason.IMAGE_TRUNCATED),
    "text": (b"hello, I am no image", Reason.IMAGE_UNDECODABLE),
    "huge header": (images.announcing(30_000, 30_000), Reason.IMAGE_TOO_MANY_PIXELS),
    "too many bytes": (images.plain() + bytes(LIMIT_BYTES), Reason.IMAGE_TOO_LARGE),
}


async def refused(call: Awaitable[object]) -> LensmeshError:
    """The typed error of a call that must fail."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    error = from_rpc_error(caught.value)
    assert error.message
    assert "Traceback" not in (caught.value.details() or "")
    return error


def ingest_stream(
    channel: grpc.aio.Channel, items: list[router_pb2.IngestItem], collection: str
) -> "asyncio.Future[dict[str, router_pb2.IngestResult]]":
    """One stream with one message; the results by ref."""

    async def collect() -> dict[str, router_pb2.IngestResult]:
        call = router_pb2_grpc.RouterServiceStub(channel).IngestStream(
            iter([router_pb2.IngestStreamRequest(options=router_pb2.IngestOptions(collection=collection), items=items)])
        )
        return {result.ref: result async for answer in call for result in answer.results}

    return asyncio.ensure_future(collect())


async def test_bad_images_fail_alone_in_a_stream(channel: grpc.aio.Channel) -> None:
    contents = {**GOOD, **{name: content for name, (content, _) in BAD.items()}}
    items = [
        router_pb2.IngestItem(ref=name, image=common_pb2.Image(content=content)) for name, content in contents.items()
    ]
    items.append(router_pb2.IngestItem(ref="address", image=common_pb2.Image(uri="http://example.org/a.jpg")))
    items.append(router_pb2.IngestItem(ref="nothing"))
    items.append(
        router_pb2.IngestItem(
            ref="damaged", image=common_pb2.Image(content=images.plain("blue")), content_digest=bytes(32)
        )
    )
    results = await ingest_stream(channel, items, "stream-of-all")
    assert set(results) == {item.ref for item in items}
    for name in GOOD:
        assert results[name].WhichOneof("outcome") == "item", results[name]
        assert results[name].item.caption.text
    expected = {name: reason for name, (_, reason) in BAD.items()}
    expected |= {"address": Reason.URI_NOT_ALLOWED, "nothing": Reason.IMAGE_MISSING, "damaged": Reason.DIGEST_MISMATCH}
    assert {name: from_status(results[name].error).reason for name in expected} == expected
    stored = await search_pb2_grpc.SearchServiceStub(channel).ListItems(
        search_pb2.ListItemsRequest(collection="stream-of-all")
    )
    assert len(stored.items) == len(GOOD)


async def test_bad_images_fail_alone_in_a_batch(channel: grpc.aio.Channel) -> None:
    contents = [images.plain(), *(content for content, _ in BAD.values())]
    request = encoder_pb2.EncodeImagesRequest(images=[common_pb2.Image(content=content) for content in contents[:-1]])
    answer = await encoder_pb2_grpc.EncoderServiceStub(channel).EncodeImages(request)
    assert answer.results[0].embedding.dimension == 512
    reasons = [from_status(result.error).reason for result in answer.results[1:]]
    assert reasons == [reason for _, reason in list(BAD.values())[:-1]]


async def test_texts(channel: grpc.aio.Channel) -> None:
    stub = encoder_pb2_grpc.EncoderServiceStub(channel)
    texts = ["a red circle", "", "word " * 500, "x" * 10_001, "a\0b"]
    results = (await stub.EncodeTexts(encoder_pb2.EncodeTextsRequest(texts=texts))).results
    assert results[0].embedding.dimension == 512
    assert from_status(results[1].error).reason == Reason.TEXT_EMPTY
    assert results[2].truncated
    assert from_status(results[3].error).reason == Reason.TEXT_TOO_LONG
    assert from_status(results[4].error).reason == Reason.TEXT_INVALID


@pytest.mark.parametrize(
    ("request_", "reason"),
    [
        (encoder_pb2.EncodeTextsRequest(), Reason.NO_ITEMS),
        (encoder_pb2.EncodeTextsRequest(texts=["a"] * 257), Reason.TOO_MANY_ITEMS),
        (
            encoder_pb2.EncodeTextsRequest(texts=["a"], options=encoder_pb2.EncodeOptions(space_id="vs1-none")),
            Reason.SPACE_NOT_SERVED,
        ),
    ],
)
async def test_counts_and_options_fail_the_call(
    channel: grpc.aio.Channel, request_: encoder_pb2.EncodeTextsRequest, reason: Reason
) -> None:
    error = await refused(encoder_pb2_grpc.EncoderServiceStub(channel).EncodeTexts(request_))
    assert error.reason == reason


async def test_labels(channel: grpc.aio.Channel) -> None:
    encoder = encoder_pb2_grpc.EncoderServiceStub(channel)
    picked = [common_pb2.Image(content=images.plain())]
    many = [f"{n}" for n in range(10_001)]
    cases: list[tuple[list[str], list[str], Reason, str]] = [
        ([], [], Reason.NO_ITEMS, "labels"),
        (["cat"], [], Reason.OPTION_INVALID, "labels"),
        (["cat", ""], [], Reason.TEXT_EMPTY, "labels[1]"),
        (["cat", "dog", "cat"], [], Reason.OPTION_INVALID, "labels[2]"),
        (many, [], Reason.TOO_MANY_ITEMS, "labels"),
        (["cat", "dog"], ["a photo"], Reason.OPTION_INVALID, "templates[0]"),
        (["cat", "dog"], ["{}{}"], Reason.OPTION_INVALID, "templates[0]"),
    ]
    for labels, templates, reason, field in cases:
        request = encoder_pb2.ClassifyImagesRequest(images=picked, labels=labels, templates=templates)
        error = await refused(encoder.ClassifyImages(request))
        assert (error.reason, [violation.field for violation in error.violations]) == (reason, [field])
    # As many as there may be, of both.
    embedding = (await encoder.EncodeImages(encoder_pb2.EncodeImagesRequest(images=picked))).results[0].embedding
    request = encoder_pb2.ClassifyImagesRequest(embeddings=[embedding] * 256, labels=many[:-1])
    everything = await encoder.ClassifyImages(request)
    assert {len(result.scores.probabilities) for result in everything.results} == {10_000}
    request.top = 3
    few = await encoder.ClassifyImages(request)
    assert [len(result.scores.best) for result in few.results] == [3] * 256


async def test_a_message_a_little_over_the_limit_is_told_so(channel: grpc.aio.Channel) -> None:
    size = 34 * 1024**2
    images = [common_pb2.Image(content=bytes(size // 2)) for _ in range(2)]
    error = await refused(
        encoder_pb2_grpc.EncoderServiceStub(channel).EncodeImages(encoder_pb2.EncodeImagesRequest(images=images))
    )
    assert error.reason == Reason.MESSAGE_TOO_LARGE
    assert str(32 * 1024**2) in error.message


def search_for(leg: search_pb2.SearchLeg) -> search_pb2.SearchRequest:
    """A search of one leg."""
    return search_pb2.SearchRequest(collection="bad-input", legs=[leg])


async def test_searches(channel: grpc.aio.Channel) -> None:
    item = router_pb2.IngestItem(ref="a", id="a", image=common_pb2.Image(content=images.plain()))
    assert (await ingest_stream(channel, [item], "bad-input"))["a"].HasField("item")
    search = search_pb2_grpc.SearchServiceStub(channel)
    collection = await search.GetCollection(search_pb2.GetCollectionRequest(name="bad-input"))
    space = collection.collection.spaces[0].space.id

    def vector(*numbers: float, space_id: str = space) -> common_pb2.Embedding:
        return common_pb2.Embedding(space_id=space_id, dimension=len(numbers), floats=numbers)

    broken = search_pb2.Filter(condition=search_pb2.Condition(field="a"))
    upsert = search_pb2.UpsertItemsRequest(
        collection="bad-input", items=[search_pb2.Item(id="b"), search_pb2.Item(id="b")]
    )
    number = struct_pb2.Value(string_value="not a time")
    backwards = search_pb2.Filter(condition=search_pb2.Condition(field="a", range=search_pb2.Range(at_least=number)))
    cases: list[tuple[Awaitable[object], Reason]] = [
        (search.Search(search_for(search_pb2.SearchLeg(embedding=vector(*[math.nan] * 512)))), Reason.VECTOR_INVALID),
        (search.Search(search_for(search_pb2.SearchLeg(embedding=vector(1.0, 2.0)))), Reason.VECTOR_DIMENSION_MISMATCH),
        (
            search.Search(search_for(search_pb2.SearchLeg(embedding=vector(*[1.0] * 512, space_id="vs1-other")))),
            Reason.SPACE_MISMATCH,
        ),
        (search.Search(search_for(search_pb2.SearchLeg(item_id="nobody"))), Reason.ITEM_NOT_FOUND),
        (search.Search(search_for(search_pb2.SearchLeg(item_id="a", space="nowhere"))), Reason.SPACE_UNKNOWN),
        (search.Search(search_pb2.SearchRequest(collection="bad-input")), Reason.QUERY_INVALID),
        (search.GetCollection(search_pb2.GetCollectionRequest(name="nothing")), Reason.COLLECTION_NOT_FOUND),
        (search.UpsertItems(upsert), Reason.ITEM_ID_DUPLICATE),
        (search.ListItems(search_pb2.ListItemsRequest(collection="bad-input", filter=broken)), Reason.FILTER_INVALID),
        (
            search.ListItems(search_pb2.ListItemsRequest(collection="bad-input", filter=backwards)),
            Reason.FILTER_INVALID,
        ),
        (
            search.ListItems(search_pb2.ListItemsRequest(collection="bad-input", page_token="garbage")),
            Reason.PAGE_TOKEN_INVALID,
        ),
        (search.Search(search_for(search_pb2.SearchLeg(caption_text="& |"))), Reason.QUERY_INVALID),
        (
            search.CountFacets(search_pb2.CountFacetsRequest(collection="bad-input", fields=["artist"])),
            Reason.FIELD_NOT_INDEXED,
        ),
    ]
    reasons = [(await refused(call)).reason for call, _ in cases]
    assert reasons == [reason for _, reason in cases]


async def test_options_in_a_later_message_end_the_stream_after_what_was_read(channel: grpc.aio.Channel) -> None:
    item = encoder_pb2.EncodeStreamItem(ref="a", text="a red circle")
    options = encoder_pb2.EncodeOptions(readable=True)
    request = encoder_pb2.EncodeStreamRequest(options=options, items=[item])
    call = encoder_pb2_grpc.EncoderServiceStub(channel).EncodeStream(iter([request, request]))
    results: list[encoder_pb2.EncodeStreamResult] = []

    async def read() -> None:
        async for answer in call:
            results.extend(answer.results)

    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await read()
    assert from_rpc_error(caught.value).reason == Reason.OPTIONS_REPEATED
    assert [result.ref for result in results] == ["a"]
    assert len(results[0].result.embedding.floats) == 512
