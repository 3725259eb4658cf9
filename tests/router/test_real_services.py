"""The router in front of the real services: mock models, a real PostgreSQL, and a real kill -9."""

import asyncio
import io
import os
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import grpc
import pytest
from PIL import Image, ImageDraw, ImageOps

from bench.files import load_photographs
from caption_svc.app import CaptionApp
from caption_svc.settings import CaptionSettings
from encoder_svc.app import EncoderApp
from encoder_svc.settings import EncoderSettings
from lensmesh.caption.v1 import caption_pb2, caption_pb2_grpc
from lensmesh.common.v1 import common_pb2
from lensmesh.encoder.v1 import encoder_pb2, encoder_pb2_grpc
from lensmesh.router.v1 import router_pb2, router_pb2_grpc
from lensmesh.search.v1 import search_pb2, search_pb2_grpc
from lensmesh_chassis.channels import open_channel
from lensmesh_chassis.process.server import running
from lensmesh_chassis.reasons import Reason
from lensmesh_chassis.rpc.status import from_rpc_error
from router_svc.app import RouterApp
from router_svc.settings import RouterSettings
from search_svc.app import SearchApp
from search_svc.settings import SearchSettings
from tests.support.postgres import PostgresForTests

FREE = "127.0.0.1:0"


def png_of(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def png(number: int) -> bytes:
    """A PNG like no other."""
    return png_of(Image.new("RGB", (16, 16), (number % 256, number // 256, 77)))


class EncoderProcess:
    """A real encoder with a mock model, which can be killed and started again where it was."""

    def __init__(self) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.address = f"127.0.0.1:{probe.getsockname()[1]}"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("LENSMESH_")},
            "PYTHONPATH": os.pathsep.join(sys.path),
            "LENSMESH_ENCODER_LISTEN": self.address,
            "LENSMESH_ENCODER_MODEL": "mock",
        }
        self._process = subprocess.Popen([sys.executable, "-m", "encoder_svc"], env=environment)

    def kill(self) -> None:
        """As `kill -9`."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()


@pytest.fixture
def encoder() -> Iterator[EncoderProcess]:
    process = EncoderProcess()
    process.start()
    yield process
    process.kill()


@pytest.fixture
def database() -> Iterator[str]:
    server = PostgresForTests()
    yield server.url
    server.remove()


@asynccontextmanager
async def routed(encoder: str, database: str) -> AsyncIterator[grpc.aio.Channel]:
    """A channel to a router before the encoder at that address."""
    async with (
        running(CaptionSettings(listen=FREE, model="mock"), CaptionApp, "caption") as caption,
        running(SearchSettings(listen=FREE, store_url=database), SearchApp, "search") as search,
        running(
            RouterSettings(
                listen=FREE,
                encoder_targets=encoder,
                caption_targets=caption.address,
                search_targets=search.address,
            ),
            RouterApp,
            "router",
        ) as server,
        open_channel(server.address) as channel,
    ):
        yield channel


@pytest.fixture
async def router(encoder: EncoderProcess, database: str) -> AsyncIterator[Any]:
    async with routed(encoder.address, database) as channel:
        yield router_pb2_grpc.RouterServiceStub(channel)


async def ingest(router: Any, items: list[router_pb2.IngestItem]) -> AsyncIterator[router_pb2.IngestResult]:
    """Answers as they come."""
    messages = [router_pb2.IngestStreamRequest(items=items[start : start + 20]) for start in range(0, len(items), 20)]
    async for response in router.IngestStream(iter(messages), timeout=240):
        for result in response.results:
            yield result


def items(count: int) -> list[router_pb2.IngestItem]:
    return [
        router_pb2.IngestItem(ref=str(number), image=common_pb2.Image(content=png(number))) for number in range(count)
    ]


async def test_an_encoder_killed_during_an_ingest_of_500(router: Any, encoder: EncoderProcess) -> None:
    results: dict[str, router_pb2.IngestResult] = {}
    killed = False
    async for result in ingest(router, items(500)):
        assert result.ref not in results
        results[result.ref] = result
        if len(results) >= 100 and not killed:
            killed = True
            await asyncio.to_thread(encoder.kill)
            encoder.start()
    assert len(results) == 500
    outcomes = [result.item.outcome for result in results.values()]
    assert outcomes == [search_pb2.UPSERT_OUTCOME_CREATED] * 500, [
        result.error for result in results.values() if result.HasField("error")
    ][:3]
    assert all(result.item.HasField("caption") for result in results.values())
    again = [result.item.outcome async for result in ingest(router, items(500))]
    assert again == [search_pb2.UPSERT_OUTCOME_UNCHANGED] * 500


async def test_images_are_stored_found_and_reused(router: Any) -> None:
    first = {result.ref: result async for result in ingest(router, items(30))}
    assert all(result.HasField("item") for result in first.values())
    query = router_pb2.Query(image=common_pb2.Image(content=png(7)))
    found = await router.Search(router_pb2.SearchRequest(queries=[query], limit=3))
    assert found.hits[0].item.id == first["7"].item.id
    assert found.hits[0].score == pytest.approx(1, abs=2e-3)
    batch = router_pb2.BatchSearchRequest(
        searches=[
            router_pb2.SearchRequest(queries=[query]),
            router_pb2.SearchRequest(queries=[router_pb2.Query(text="")]),
        ]
    )
    good, bad = (await router.BatchSearch(batch)).results
    assert good.response.hits[0].item.id == first["7"].item.id
    assert bad.HasField("error")
    copies = [router_pb2.IngestItem(ref="copy", id="copy", image=common_pb2.Image(content=png(7)))]
    [copy] = [result async for result in ingest(router, copies)]
    assert copy.item.outcome == search_pb2.UPSERT_OUTCOME_CREATED
    assert copy.item.encode.total_us == 0
    assert copy.item.caption == first["7"].item.caption
    # Pages of the real store: the copy and its original tie.
    whole = await router.Search(router_pb2.SearchRequest(queries=[query], limit=100))
    assert len(whole.hits) == 31
    paged = []
    for offset in range(0, 35, 7):
        page = await router.Search(router_pb2.SearchRequest(queries=[query], limit=7, offset=offset))
        paged += [(hit.item.id, hit.score) for hit in page.hits]
    assert paged == [(hit.item.id, hit.score) for hit in whole.hits]
    status = await router.GetStatus(router_pb2.GetStatusRequest())
    assert {service.health for service in status.services} == {router_pb2.HEALTH_SERVING}
    assert status.limits.max_items == 256
    assert status.limits.max_image_pixels == 50_000_000
    assert status.limits.max_image_side_ratio == 200


def circle(*, flat: bool) -> common_pb2.Image:
    """A red circle on clear ground with a hidden pattern; `flat`: on white."""
    image = Image.linear_gradient("L").resize((64, 64)).convert("RGBA")
    image.putalpha(0)
    ImageDraw.Draw(image).ellipse((10, 10, 54, 54), fill=(230, 10, 20, 255))
    if flat:
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
    return common_pb2.Image(content=png_of(image))


async def told(
    channel: grpc.aio.Channel, image: common_pb2.Image, policy: common_pb2.TransparencyPolicy.ValueType
) -> str:
    """The caption that a router's own CaptionImages gives."""
    options = caption_pb2.CaptionOptions(transparency=policy)
    request = caption_pb2.CaptionImagesRequest(images=[image], options=options)
    stub: Any = caption_pb2_grpc.CaptionerServiceStub(channel)
    [result] = (await stub.CaptionImages(request)).results
    return str(result.caption.text)


async def test_a_collection_on_white_and_what_is_of_one_colour_in_it(database: str) -> None:
    white, drop = common_pb2.TRANSPARENCY_POLICY_WHITE, common_pb2.TRANSPARENCY_POLICY_DROP
    clear = common_pb2.Image(content=png_of(Image.new("RGBA", (16, 16), (9, 200, 9, 0))))

    async def put(
        transparency: common_pb2.TransparencyPolicy.ValueType, **images: common_pb2.Image
    ) -> dict[str, router_pb2.IngestResult]:
        options = router_pb2.IngestOptions(collection="pages", transparency=transparency)
        sent = [router_pb2.IngestItem(ref=name, id=name, image=image) for name, image in images.items()]
        stream = stub.IngestStream(iter([router_pb2.IngestStreamRequest(options=options, items=sent)]), timeout=120)
        return {result.ref: result async for response in stream for result in response.results}

    async def found(**test: bool) -> list[tuple[str, float]]:
        query = router_pb2.Query(image=circle(flat=True))
        request = router_pb2.SearchRequest(collection="pages", queries=[query])
        for value in test.values():
            request.filter.condition.field = "$low_content"
            request.filter.condition.equals.bool_value = value
        return [(hit.item.id, hit.score) for hit in (await stub.Search(request)).hits]

    async with (
        running(EncoderSettings(listen=FREE, model="mock"), EncoderApp, "encoder") as encoder,
        routed(encoder.address, database) as channel,
    ):
        stub: Any = router_pb2_grpc.RouterServiceStub(channel)
        results = await put(white, circle=circle(flat=False), plain=common_pb2.Image(content=png(5)), clear=clear)
        assert {name: result.item.low_content for name, result in results.items()} == {
            "circle": False, "plain": True, "clear": True
        }, results  # fmt: skip
        assert [name for name, result in results.items() if result.item.fully_transparent] == ["clear"]
        # Captions tell of what the collection's vectors tell of, unless another policy is asked for.
        shown, hidden = [
            await told(channel, circle(flat=flat), policy) for flat, policy in ((True, white), (False, drop))
        ]
        assert results["circle"].item.caption.text == shown != hidden
        best, score = (await found())[0]
        assert best == "circle"
        assert score == pytest.approx(1, abs=2e-3)
        assert {name for name, _ in await found(low_content=False)} == {"circle"}
        assert {name for name, _ in await found(low_content=True)} == {"plain", "clear"}
        with pytest.raises(grpc.aio.AioRpcError) as error:
            await put(drop, other=circle(flat=True))
        assert from_rpc_error(error.value).reason == Reason.SPACE_MISMATCH
        # A policy of its own for the caption stands.
        options = router_pb2.IngestOptions(
            collection="pages", caption_options=caption_pb2.CaptionOptions(transparency=drop)
        )
        one = router_pb2.IngestItem(id="told otherwise", image=circle(flat=False))
        answer = await stub.Ingest(router_pb2.IngestRequest(options=options, item=one))
        assert answer.item.caption.text == hidden


async def test_a_policy_goes_through_the_router_and_what_was_seen_comes_back(database: str) -> None:
    white, drop = common_pb2.TRANSPARENCY_POLICY_WHITE, common_pb2.TRANSPARENCY_POLICY_DROP
    clear = common_pb2.Image(content=png_of(Image.new("RGBA", (16, 16), (9, 200, 9, 0))))
    images = [circle(flat=False), circle(flat=True), clear]

    async def encoded(policy: common_pb2.TransparencyPolicy.ValueType) -> list[encoder_pb2.EncodeResult]:
        options = encoder_pb2.EncodeOptions(transparency=policy)
        answer = await stub.EncodeImages(encoder_pb2.EncodeImagesRequest(images=images, options=options), timeout=120)
        items = [encoder_pb2.EncodeStreamItem(ref=str(place), image=image) for place, image in enumerate(images)]
        stream = stub.EncodeStream(iter([encoder_pb2.EncodeStreamRequest(options=options, items=items)]), timeout=120)
        streamed = {result.ref: result.result async for response in stream for result in response.results}
        for place, result in enumerate(answer.results):
            other = streamed[str(place)]
            assert other.embedding == result.embedding
            assert (other.low_content, other.fully_transparent) == (result.low_content, result.fully_transparent)
        return list(answer.results)

    async with (
        running(EncoderSettings(listen=FREE, model="mock"), EncoderApp, "encoder") as encoder,
        routed(encoder.address, database) as channel,
    ):
        stub: Any = encoder_pb2_grpc.EncoderServiceStub(channel)
        dropped, shown = [await encoded(policy) for policy in (drop, white)]
    for results in (dropped, shown):
        assert [result.fully_transparent for result in results] == [False, False, True]
    assert shown[0].embedding == shown[1].embedding
    assert dropped[0].embedding.data != dropped[1].embedding.data
    assert shown[0].embedding.space_id != dropped[0].embedding.space_id
    assert [result.low_content for result in shown] == [False, False, True]


async def test_local_features_lie_with_their_items(database: str) -> None:
    photograph = common_pb2.Image(content=png_of(load_photographs()[0].resize((320, 240))))
    plain = common_pb2.Image(content=png(5))

    async def put(**images: common_pb2.Image) -> dict[str, int]:
        options = router_pb2.IngestOptions(collection="kept", local_features=True)
        sent = [router_pb2.IngestItem(ref=name, id=name, image=image) for name, image in images.items()]
        stream = stub.IngestStream(iter([router_pb2.IngestStreamRequest(options=options, items=sent)]), timeout=120)
        return {result.ref: result.item.outcome async for response in stream for result in response.results}

    async with (
        running(EncoderSettings(listen=FREE, model="mock"), EncoderApp, "encoder") as encoder,
        routed(encoder.address, database) as channel,
    ):
        stub: Any = router_pb2_grpc.RouterServiceStub(channel)
        search: Any = search_pb2_grpc.SearchServiceStub(channel)
        created, unchanged = search_pb2.UPSERT_OUTCOME_CREATED, search_pb2.UPSERT_OUTCOME_UNCHANGED
        assert await put(scene=photograph, plain=plain) == {"scene": created, "plain": created}
        assert await put(scene=photograph, plain=plain, copy=photograph) == {
            "scene": unchanged, "plain": unchanged, "copy": created
        }  # fmt: skip
        read = search_pb2.ReadOptions(local_features=True)
        request = search_pb2.GetItemsRequest(collection="kept", ids=["scene", "copy", "plain"], read=read)
        scene, copy, flat = (await search.GetItems(request)).items
        assert scene.local_feature_kind == common_pb2.LOCAL_FEATURE_KIND_ORB
        assert len(scene.local_features.points) // 4 == len(scene.local_features.descriptors) // 32 > 100
        assert copy.local_features == scene.local_features
        assert (flat.HasField("local_features"), flat.local_features.points) == (True, b"")


async def test_near_duplicates_are_found_whatever_way_they_were_made(database: str) -> None:
    scenes = [load_photographs()[number].resize((320, 240)) for number in (0, 2, 3)]

    def saved(image: Image.Image, format_: str = "JPEG", **options: Any) -> common_pb2.Image:
        buffer = io.BytesIO()
        image.save(buffer, format_, **options)
        return common_pb2.Image(content=buffer.getvalue())

    def copies(scene: Image.Image) -> list[common_pb2.Image]:
        return [
            saved(scene, quality=30),
            saved(scene.reduce(2), "WEBP", quality=60),
            saved(ImageOps.expand(scene, 12, "white"), quality=80),
        ]

    async def put(action: router_pb2.NearDuplicateAction.ValueType, **images: common_pb2.Image) -> dict[str, Any]:
        options = router_pb2.IngestOptions(
            collection="near", near_duplicates=router_pb2.NearDuplicateOptions(action=action)
        )
        sent = [router_pb2.IngestItem(ref=name, id=name, image=image) for name, image in images.items()]
        stream = stub.IngestStream(iter([router_pb2.IngestStreamRequest(options=options, items=sent)]), timeout=120)
        return {result.ref: result.item async for response in stream for result in response.results}

    async with (
        running(EncoderSettings(listen=FREE, model="mock"), EncoderApp, "encoder") as encoder,
        routed(encoder.address, database) as channel,
    ):
        stub: Any = router_pb2_grpc.RouterServiceStub(channel)
        originals = {f"s{number}": saved(scene, "PNG") for number, scene in enumerate(scenes)}
        await put(router_pb2.NEAR_DUPLICATE_ACTION_STORE, **originals)
        made = {
            f"s{number}-{place}": image
            for number, scene in enumerate(scenes)
            for place, image in enumerate(copies(scene))
        }
        skipped = await put(router_pb2.NEAR_DUPLICATE_ACTION_SKIP, **made)
        assert {name: done.near_duplicate.id for name, done in skipped.items()} == {name: name[:2] for name in made}
        assert {done.outcome for done in skipped.values()} == {search_pb2.UPSERT_OUTCOME_SKIPPED}
        marked = await put(router_pb2.NEAR_DUPLICATE_ACTION_MARK, **made)
        assert {done.outcome for done in marked.values()} == {search_pb2.UPSERT_OUTCOME_CREATED}
        request = router_pb2.SearchRequest(
            collection="near", queries=[router_pb2.Query(image=copies(scenes[1])[0], by_hash=True)]
        )
        assert {hit.item.id for hit in (await stub.Search(request)).hits} == {"s1", "s1-0", "s1-1", "s1-2"}
        request.filter.condition.field = "near_duplicate_of"
        request.filter.condition.exists = False
        assert [hit.item.id for hit in (await stub.Search(request)).hits] == ["s1"]
