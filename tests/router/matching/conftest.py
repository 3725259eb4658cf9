"""A router in front of a mock encoder and a real search service, on both stores."""

from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from google.protobuf import json_format, struct_pb2

from encoder_svc.app import EncoderApp
from encoder_svc.settings import EncoderSettings
from lensmesh.common.v1 import common_pb2
from lensmesh.encoder.v1 import encoder_pb2, encoder_pb2_grpc
from lensmesh.router.v1 import router_pb2, router_pb2_grpc
from lensmesh.search.v1 import search_pb2, search_pb2_grpc
from lensmesh_chassis.channels import open_channel
from lensmesh_chassis.process.server import running
from router_svc.app import RouterApp
from router_svc.settings import RouterSettings
from search_svc.app import SearchApp
from search_svc.settings import SearchSettings
from tests.support.postgres import PostgresForTests

FREE = "127.0.0.1:0"


@pytest.fixture(scope="package")
def postgres() -> Iterator[PostgresForTests]:
    """A server that the folder's tests share."""
    server = PostgresForTests()
    yield server
    server.remove()


@pytest.fixture
async def postgres_url(postgres: PostgresForTests) -> str:
    """An empty database."""
    admin = await asyncpg.connect(postgres.url)
    await admin.execute("DROP SCHEMA IF EXISTS lensmesh CASCADE")
    await admin.close()
    return postgres.url


@pytest.fixture
def local_url(tmp_path: Path) -> str:
    """An empty Qdrant in its local mode."""
    return f"qdrant+local:{tmp_path / 'local'}"


@pytest.fixture(params=["local_url", "postgres_url"])
def store_url(request: pytest.FixtureRequest) -> str:
    """An empty store of each kind."""
    url: str = request.getfixturevalue(request.param)
    return url


class MatchMesh:
    """Stubs of a mesh, and short ways to fill and to ask it."""

    router: Any
    encoder: Any
    search: Any

    async def start(self, stack: AsyncExitStack, store_url: str, **settings: Any) -> "MatchMesh":
        encoder = await stack.enter_async_context(
            running(EncoderSettings(listen=FREE, model="mock"), EncoderApp, "encoder")
        )
        search = await stack.enter_async_context(
            running(SearchSettings(listen=FREE, store_url=store_url), SearchApp, "search")
        )
        chosen = {"encoder_targets": encoder.address, "caption_targets": "", "search_targets": search.address}
        router = await stack.enter_async_context(
            running(RouterSettings(listen=FREE, **(chosen | settings)), RouterApp, "router")
        )
        channel = await stack.enter_async_context(open_channel(router.address))
        self.router = router_pb2_grpc.RouterServiceStub(channel)
        self.encoder = encoder_pb2_grpc.EncoderServiceStub(channel)
        self.search = search_pb2_grpc.SearchServiceStub(channel)
        return self

    async def ingest(
        self, collection: str, images: dict[str, bytes], *, featured: bool = False, **metadata: dict[str, Any]
    ) -> None:
        """Store images with their perceptual hashes, and local features where `featured`; `metadata` by id."""
        options = router_pb2.IngestOptions(
            collection=collection,
            captions=router_pb2.CAPTION_POLICY_NONE,
            near_duplicates=router_pb2.NearDuplicateOptions(),
            local_features=featured,
        )
        items = []
        for item_id, content in images.items():
            item = router_pb2.IngestItem(ref=item_id, id=item_id, image=common_pb2.Image(content=content))
            json_format.ParseDict(metadata.get(item_id, {}), item.metadata)
            items.append(item)
        stream = self.router.IngestStream(iter([router_pb2.IngestStreamRequest(options=options, items=items)]))
        results = [result async for response in stream for result in response.results]
        assert [result.error for result in results if result.HasField("error")] == []

    async def vectors(self, contents: Sequence[bytes]) -> list[common_pb2.Embedding]:
        """The vectors that the encoder makes."""
        images = [common_pb2.Image(content=content) for content in contents]
        answer = await self.encoder.EncodeImages(encoder_pb2.EncodeImagesRequest(images=images))
        return [result.embedding for result in answer.results]

    async def put(
        self,
        collection: str,
        vectors: dict[str, common_pb2.Embedding],
        hashes: Mapping[str, bytes] | None = None,
        /,
        **entry: str,
    ) -> None:
        """Store vectors, and hashes by id, in a collection that is made for them; `entry` by id is such metadata."""
        info = await self.encoder.GetInfo(encoder_pb2.GetInfoRequest())
        made = search_pb2.Collection(name=collection)
        made.spaces.add(name="image", space=info.models[0].spaces[0])
        await self.search.CreateCollection(search_pb2.CreateCollectionRequest(collection=made))
        items = []
        for item_id, vector in vectors.items():
            item = search_pb2.Item(id=item_id)
            item.vectors["image"].CopyFrom(vector)
            if hashes and item_id in hashes:
                item.perceptual_hash.CopyFrom(common_pb2.PerceptualHash(hash=hashes[item_id], quality=100))
            if item_id in entry:
                item.metadata.fields["entry"].CopyFrom(struct_pb2.Value(string_value=entry[item_id]))
            items.append(item)
        if items:
            await self.search.UpsertItems(search_pb2.UpsertItemsRequest(collection=collection, items=items))

    async def match(self, collection: str, *contents: bytes, **fields: Any) -> list[router_pb2.MatchResult]:
        """Results of MatchImages."""
        images = [common_pb2.Image(content=content) for content in contents]
        request = router_pb2.MatchImagesRequest(collection=collection, images=images, **fields)
        return list((await self.router.MatchImages(request, timeout=60)).results)


@pytest.fixture
async def match_mesh(store_url: str) -> AsyncIterator[MatchMesh]:
    """A mesh on each kind of store."""
    async with AsyncExitStack() as stack:
        yield await MatchMesh().start(stack, store_url)


@pytest.fixture
async def local_match_mesh(local_url: str) -> AsyncIterator[MatchMesh]:
    """A mesh on Qdrant's local mode alone, for what does not depend on the store."""
    async with AsyncExitStack() as stack:
        yield await MatchMesh().start(stack, local_url)
