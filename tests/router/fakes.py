"""Small services that behave by the contracts, with faults as attributes."""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import grpc
import numpy as np

from lensmesh.caption.v1 import caption_pb2, caption_pb2_grpc
from lensmesh.common.v1 import common_pb2
from lensmesh.encoder.v1 import encoder_pb2, encoder_pb2_grpc
from lensmesh.search.v1 import search_pb2, search_pb2_grpc
from lensmesh_chassis.errors import InvalidInput, LensmeshError, NotBuilt, NotFound, PreconditionFailed
from lensmesh_chassis.limits import check_items
from lensmesh_chassis.reasons import Reason
from lensmesh_chassis.server import Runtime, running
from lensmesh_chassis.settings import ServiceSettings
from lensmesh_chassis.status import to_status

DIMENSION = 8
SPACE = common_pb2.VectorSpace(
    id="vs1-" + "a" * 32,
    model="fake",
    dimension=DIMENSION,
    normalized=True,
    modalities=[common_pb2.MODALITY_IMAGE, common_pb2.MODALITY_TEXT],
)
OTHER_SPACE = common_pb2.VectorSpace(
    id="vs1-" + "b" * 32,
    model="other",
    dimension=DIMENSION,
    normalized=True,
    modalities=[common_pb2.MODALITY_IMAGE, common_pb2.MODALITY_TEXT],
)


def vector(content: bytes, space: common_pb2.VectorSpace) -> common_pb2.Embedding:
    """The vector of a content in a space; a text and a picture of the same bytes have the same."""
    raw = hashlib.sha256(space.id.encode() + content).digest()[:DIMENSION]
    numbers = np.frombuffer(raw, np.uint8).astype("<f4") - 128
    numbers /= np.linalg.norm(numbers)
    return common_pb2.Embedding(
        space_id=space.id, data_type=common_pb2.DATA_TYPE_FLOAT32, dimension=DIMENSION, data=numbers.tobytes()
    )


@dataclass
class Faults:
    """What goes wrong, and what was seen."""

    fail_next: list[LensmeshError] = field(default_factory=list)
    """Raised by the next calls, one each."""
    fail_always: LensmeshError | None = None
    delay_s: float = 0.0
    gate: asyncio.Event | None = None
    """Calls wait for it."""
    calls: list[int] = field(default_factory=list)
    """Items of each call that arrived."""
    in_flight: int = 0

    @asynccontextmanager
    async def call(self, items: int) -> AsyncIterator[None]:
        """Stands around each call of the model."""
        self.calls.append(items)
        self.in_flight += 1
        try:
            if self.fail_always is not None:
                raise self.fail_always
            if self.fail_next:
                raise self.fail_next.pop(0)
            if self.gate is not None:
                await self.gate.wait()
            await asyncio.sleep(self.delay_s)
            yield
        finally:
            self.in_flight -= 1


class FakeEncoder(encoder_pb2_grpc.EncoderServiceServicer):
    """Encodes by digest. A picture that begins with "bad" is none."""

    name = "lensmesh.encoder.v1.EncoderService"

    def __init__(self, *spaces: common_pb2.VectorSpace, max_items: int = 256) -> None:
        self.spaces = spaces or (SPACE,)
        self.max_items = max_items
        self.faults = Faults()
        self.images: list[bytes] = []
        self.texts: list[str] = []
        self.options: list[encoder_pb2.EncodeOptions] = []
        self.request_ids: list[str] = []
        self.time_left_s: list[float] = []
        self.item_errors: dict[bytes, list[LensmeshError]] = {}
        """Errors that an item's next tries have."""

    def add(self, server: grpc.aio.Server) -> None:
        encoder_pb2_grpc.add_EncoderServiceServicer_to_server(self, server)

    async def GetInfo(self, request: Any, context: Any) -> encoder_pb2.GetInfoResponse:
        return encoder_pb2.GetInfoResponse(
            models=[
                encoder_pb2.ServedModel(
                    model=common_pb2.ModelInfo(name=space.model, kind=common_pb2.MODEL_KIND_MOCK),
                    spaces=[space],
                    context_tokens=77,
                )
                for space in self.spaces
            ],
            limits=common_pb2.Limits(
                max_items=self.max_items,
                max_message_bytes=32 << 20,
                max_image_bytes=20 << 20,
                max_image_pixels=50_000_000,
                max_text_chars=10_000,
            ),
            server=common_pb2.ServerInfo(version="1", instance="fake-encoder"),
        )

    async def EncodeImages(self, request: encoder_pb2.EncodeImagesRequest, context: Any) -> Any:
        check_items(len(request.images), self.max_items, "images")
        self._note(request.options, context)
        async with self.faults.call(len(request.images)):
            space = self._space(request.options)
            self.images += [image.content for image in request.images]
            return encoder_pb2.EncodeImagesResponse(
                results=[self._image(index, image, space) for index, image in enumerate(request.images)]
            )

    async def EncodeTexts(self, request: encoder_pb2.EncodeTextsRequest, context: Any) -> Any:
        check_items(len(request.texts), self.max_items, "texts")
        self._note(request.options, context)
        async with self.faults.call(len(request.texts)):
            space = self._space(request.options)
            self.texts += request.texts
            return encoder_pb2.EncodeTextsResponse(
                results=[self._text(index, text, space) for index, text in enumerate(request.texts)]
            )

    def EncodeStream(self, request_iterator: Any, context: Any) -> Any:
        raise NotBuilt(Reason.NOT_IMPLEMENTED, "the router makes batch calls", metadata={"field": "EncodeStream"})

    async def ClassifyImages(self, request: Any, context: Any) -> Any:
        raise NotBuilt(Reason.NOT_IMPLEMENTED, "ClassifyImages is not built yet", metadata={"field": "ClassifyImages"})

    def _note(self, options: encoder_pb2.EncodeOptions, context: Any) -> None:
        self.options.append(options)
        self.request_ids += [value for key, value in context.invocation_metadata() if key == "x-request-id"]
        self.time_left_s.append(context.time_remaining())

    def _space(self, options: encoder_pb2.EncodeOptions) -> common_pb2.VectorSpace:
        for space in self.spaces:
            if options.space_id in ("", space.id):
                return space
        raise PreconditionFailed(Reason.SPACE_NOT_SERVED, f"not served: {options.space_id}")

    def _image(self, index: int, image: common_pb2.Image, space: common_pb2.VectorSpace) -> encoder_pb2.EncodeResult:
        field_path = f"images[{index}].content"
        if errors := self.item_errors.get(image.content):
            return encoder_pb2.EncodeResult(error=to_status(errors.pop(0)))
        if image.content.startswith(b"bad"):
            error = InvalidInput(Reason.IMAGE_UNDECODABLE, f"{field_path} is no picture", field=field_path)
            return encoder_pb2.EncodeResult(error=to_status(error))
        return self._result(image.content, space)

    def _text(self, index: int, text: str, space: common_pb2.VectorSpace) -> encoder_pb2.EncodeResult:
        if not text:
            error = InvalidInput(Reason.TEXT_EMPTY, f"texts[{index}] is empty", field=f"texts[{index}]")
            return encoder_pb2.EncodeResult(error=to_status(error))
        return self._result(text.encode(), space)

    @staticmethod
    def _result(content: bytes, space: common_pb2.VectorSpace) -> encoder_pb2.EncodeResult:
        return encoder_pb2.EncodeResult(
            embedding=vector(content, space), timings=common_pb2.Timings(compute_us=5, total_us=10, batch_size=1)
        )


class FakeCaptioner(caption_pb2_grpc.CaptionerServiceServicer):
    """Describes by the content's bytes. A picture that begins with "mute" has no description."""

    name = "lensmesh.caption.v1.CaptionerService"

    def __init__(self, max_items: int = 64) -> None:
        self.max_items = max_items
        self.faults = Faults()
        self.images: list[bytes] = []

    def add(self, server: grpc.aio.Server) -> None:
        caption_pb2_grpc.add_CaptionerServiceServicer_to_server(self, server)

    async def GetInfo(self, request: Any, context: Any) -> caption_pb2.GetInfoResponse:
        return caption_pb2.GetInfoResponse(
            models=[common_pb2.ModelInfo(name="teller", weights_digest="0" * 64)],
            limits=common_pb2.Limits(
                max_items=self.max_items, max_message_bytes=32 << 20, max_image_bytes=10 << 20, max_caption_tokens=100
            ),
            server=common_pb2.ServerInfo(version="1", instance="fake-captioner"),
        )

    async def CaptionImages(self, request: caption_pb2.CaptionImagesRequest, context: Any) -> Any:
        check_items(len(request.images), self.max_items, "images")
        async with self.faults.call(len(request.images)):
            self.images += [image.content for image in request.images]
            return caption_pb2.CaptionImagesResponse(
                results=[self._describe(index, image) for index, image in enumerate(request.images)]
            )

    def CaptionStream(self, request_iterator: Any, context: Any) -> Any:
        raise NotBuilt(Reason.NOT_IMPLEMENTED, "the router makes batch calls", metadata={"field": "CaptionStream"})

    async def StreamCaption(self, request: caption_pb2.StreamCaptionRequest, context: Any) -> AsyncIterator[Any]:
        async with self.faults.call(1):
            for word in ("a", " fake"):
                yield caption_pb2.StreamCaptionResponse(delta=word)
            yield caption_pb2.StreamCaptionResponse(caption=self._describe(0, request.image).caption)

    def _describe(self, index: int, image: common_pb2.Image) -> caption_pb2.CaptionResult:
        if image.content.startswith(b"mute"):
            path = f"images[{index}].content"
            error = InvalidInput(Reason.MODEL_FAILED, f"{path} left the model speechless", field=path)
            return caption_pb2.CaptionResult(error=to_status(error))
        return caption_pb2.CaptionResult(
            caption=common_pb2.Caption(
                text=f"a picture of {image.content.decode(errors='replace')[:20]}",
                confidence=0.5,
                token_count=4,
                model="teller@000000000000",
            ),
            timings=common_pb2.Timings(total_us=20, batch_size=1),
        )


class FakeSearch(search_pb2_grpc.SearchServiceServicer):
    """A store in memory. An item whose metadata has "refuse" is refused by name."""

    name = "lensmesh.search.v1.SearchService"

    def __init__(self, max_items: int = 1000) -> None:
        self.max_items = max_items
        self.faults = Faults()
        self.collections: dict[str, search_pb2.Collection] = {}
        self.items: dict[str, dict[str, search_pb2.Item]] = {}
        self.writes: list[list[str]] = []
        self.searches: list[search_pb2.SearchRequest] = []

    def add(self, server: grpc.aio.Server) -> None:
        search_pb2_grpc.add_SearchServiceServicer_to_server(self, server)

    def make(self, name: str, *spaces: tuple[str, common_pb2.VectorSpace]) -> None:
        """A collection that is there already."""
        self.collections[name] = search_pb2.Collection(
            name=name, spaces=[search_pb2.NamedSpace(name=space_name, space=space) for space_name, space in spaces]
        )
        self.items[name] = {}

    async def GetInfo(self, request: Any, context: Any) -> search_pb2.GetInfoResponse:
        return search_pb2.GetInfoResponse(
            store="memory 1",
            limits=common_pb2.Limits(
                max_items=self.max_items,
                max_message_bytes=32 << 20,
                max_metadata_bytes=65536,
                max_page_size=1000,
                max_hits=1000,
                max_offset=10000,
            ),
            server=common_pb2.ServerInfo(version="1", instance="fake-search"),
        )

    async def CreateCollection(self, request: search_pb2.CreateCollectionRequest, context: Any) -> Any:
        async with self.faults.call(1):
            if request.collection.name.startswith("9"):
                raise InvalidInput(Reason.COLLECTION_INVALID, "a name begins with a letter", field="collection.name")
            made = self.collections.setdefault(request.collection.name, request.collection)
            self.items.setdefault(made.name, {})
            return search_pb2.CreateCollectionResponse(collection=made)

    async def GetCollection(self, request: search_pb2.GetCollectionRequest, context: Any) -> Any:
        async with self.faults.call(1):
            return search_pb2.GetCollectionResponse(collection=self._collection(request.name))

    async def ListCollections(self, request: Any, context: Any) -> search_pb2.ListCollectionsResponse:
        return search_pb2.ListCollectionsResponse(collections=list(self.collections.values()))

    async def DeleteCollection(self, request: search_pb2.DeleteCollectionRequest, context: Any) -> Any:
        self.collections.pop(request.name, None)
        return search_pb2.DeleteCollectionResponse(deleted_count=len(self.items.pop(request.name, {})))

    async def UpsertItems(self, request: search_pb2.UpsertItemsRequest, context: Any) -> Any:
        check_items(len(request.items), self.max_items, "items")
        async with self.faults.call(len(request.items)):
            self._collection(request.collection)
            self._refuse_bad(request.items)
            there = self.items[request.collection]
            results = []
            for item in request.items:
                outcome = search_pb2.UPSERT_OUTCOME_CREATED
                if item.id in there:
                    same = there[item.id] == item
                    outcome = search_pb2.UPSERT_OUTCOME_UNCHANGED if same else search_pb2.UPSERT_OUTCOME_UPDATED
                there[item.id] = item
                results.append(search_pb2.UpsertResult(id=item.id, outcome=outcome))
            self.writes.append([item.id for item in request.items])
            return search_pb2.UpsertItemsResponse(results=results)

    async def GetItems(self, request: search_pb2.GetItemsRequest, context: Any) -> Any:
        async with self.faults.call(len(request.ids)):
            self._collection(request.collection)
            there = self.items[request.collection]
            return search_pb2.GetItemsResponse(
                items=[seen(there[item_id], request.read) for item_id in request.ids if item_id in there],
                missing_ids=[item_id for item_id in request.ids if item_id not in there],
            )

    async def DeleteItems(self, request: search_pb2.DeleteItemsRequest, context: Any) -> Any:
        there = self.items[request.collection]
        return search_pb2.DeleteItemsResponse(
            deleted_count=sum(there.pop(item_id, None) is not None for item_id in request.ids.ids)
        )

    async def ListItems(self, request: search_pb2.ListItemsRequest, context: Any) -> Any:
        async with self.faults.call(1):
            self._collection(request.collection)
            assert request.filter.condition.field == "$content_digest"
            digests = {value.string_value for value in request.filter.condition.one_of.values}
            return search_pb2.ListItemsResponse(
                items=[
                    seen(item, request.read)
                    for item in self.items[request.collection].values()
                    if item.content_digest.hex() in digests
                ]
            )

    async def Search(self, request: search_pb2.SearchRequest, context: Any) -> search_pb2.SearchResponse:
        async with self.faults.call(1):
            return self._search(request)

    async def BatchSearch(self, request: search_pb2.BatchSearchRequest, context: Any) -> Any:
        async with self.faults.call(len(request.searches)):
            results = []
            for index, search in enumerate(request.searches):
                try:
                    results.append(search_pb2.BatchSearchResult(response=self._search(search)))
                except LensmeshError as error:
                    path = f"searches[{index}]."
                    named = type(error)(error.reason, error.message, field=path + error.violations[0].field)
                    results.append(search_pb2.BatchSearchResult(error=to_status(named)))
            return search_pb2.BatchSearchResponse(results=results)

    async def CountFacets(self, request: Any, context: Any) -> search_pb2.CountFacetsResponse:
        return search_pb2.CountFacetsResponse(facets=[search_pb2.Facet(field=name) for name in request.fields])

    def _collection(self, name: str) -> search_pb2.Collection:
        if name not in self.collections:
            raise NotFound(Reason.COLLECTION_NOT_FOUND, f"no collection {name!r}", metadata={"collection": name})
        return self.collections[name]

    @staticmethod
    def _refuse_bad(items: Sequence[search_pb2.Item]) -> None:
        bad = [index for index, item in enumerate(items) if "refuse" in item.metadata.fields]
        if bad:
            index = bad[0]
            raise InvalidInput(
                Reason.METADATA_INVALID, f"items[{index}].metadata is refused", field=f"items[{index}].metadata"
            )

    def _search(self, request: search_pb2.SearchRequest) -> search_pb2.SearchResponse:
        self.searches.append(request)
        collection = self._collection(request.collection)
        [leg] = request.legs
        space = leg.space or collection.spaces[0].name
        if leg.HasField("item_id"):
            if leg.item_id not in self.items[collection.name]:
                raise NotFound(
                    Reason.ITEM_NOT_FOUND, f"legs[0].item_id: no item {leg.item_id!r}", field="legs[0].item_id"
                )
            asked = self.items[collection.name][leg.item_id].vectors[space]
        else:
            asked = leg.embedding
        wanted = next(named.space for named in collection.spaces if named.name == space)
        if asked.space_id != wanted.id:
            raise PreconditionFailed(
                Reason.SPACE_MISMATCH, f"legs[0].embedding is of {asked.space_id}", field="legs[0].embedding"
            )
        hits = [
            search_pb2.Hit(item=seen(item, request.read), score=cosine(asked, item.vectors[space]))
            for item in self.items[collection.name].values()
            if space in item.vectors and item.id != leg.item_id
        ]
        hits.sort(key=lambda hit: -hit.score)
        return search_pb2.SearchResponse(hits=hits[: request.limit or 10])


def cosine(one: common_pb2.Embedding, other: common_pb2.Embedding) -> float:
    """Of two vectors of unit length."""
    return float(np.frombuffer(one.data, "<f4") @ np.frombuffer(other.data, "<f4"))


def seen(item: search_pb2.Item, read: search_pb2.ReadOptions) -> search_pb2.Item:
    """An item in the view that was asked for."""
    view = search_pb2.Item()
    view.CopyFrom(item)
    if read.view != search_pb2.ITEM_VIEW_FULL:
        for embedding in view.vectors.values():
            embedding.ClearField("data")
    return view


Fake = FakeEncoder | FakeCaptioner | FakeSearch


class Host:
    """One fake on a port of its own, which it keeps when it is killed and started again."""

    def __init__(self, fake: Fake) -> None:
        self.fake = fake
        self.address = "127.0.0.1:0"
        self.runtime: Runtime[Any] | None = None
        self._stack = AsyncExitStack()

    async def start(self) -> None:
        settings = ServiceSettings(listen=self.address, drain_seconds=0, instance=self.fake.name)
        server = await self._stack.enter_async_context(running(settings, self._app(), "fake"))
        self.address, self.runtime = server.address, server.runtime

    async def kill(self) -> None:
        """Drops every call and every connection."""
        await self._stack.aclose()

    def _app(self) -> Callable[[Runtime[Any]], Any]:
        fake = self.fake

        class App:
            def __init__(self, runtime: Runtime[Any]) -> None:
                pass

            def register(self, server: grpc.aio.Server) -> Sequence[str]:
                fake.add(server)
                return [fake.name]

            async def start(self) -> None:
                pass

            async def stop(self) -> None:
                pass

        return App
