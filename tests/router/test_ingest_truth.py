"""Whatever is written belongs to the image it is written for, whoever changes the store between any two calls."""

import asyncio
import hashlib
import random
from dataclasses import dataclass, field
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from lensmesh.caption.v1 import caption_pb2
from lensmesh.common.v1 import common_pb2
from lensmesh.encoder.v1 import encoder_pb2
from lensmesh.router.v1 import router_pb2
from lensmesh.search.v1 import search_pb2
from lensmesh_chassis.process.health import HealthState
from router_svc.call_scope import CallScope
from router_svc.ingest.dependencies import Dependencies, IngestScopes
from router_svc.ingest.items import Intake
from router_svc.ingest.metadata import same_value
from router_svc.ingest.options import ResolvedOptions
from router_svc.ingest.plan import PlanOptions
from router_svc.ingest.session import Session
from router_svc.media.media import Media
from router_svc.settings import RouterSettings
from router_svc.upstreams.images import PackedImage
from router_svc.upstreams.methods import UpstreamMethod
from tests.router.fakes import OTHER_SPACE, SPACE, FakeSearch, vector

CONTENTS = [f"content {n}".encode() for n in range(3)]
BY_DIGEST = {hashlib.sha256(content).digest(): content for content in CONTENTS}
SPACES = {"image": SPACE, "second": OTHER_SPACE}
IDS = ["a", "b", "c", "d"]


def caption_of(content: bytes, writer: str) -> common_pb2.Caption:
    return common_pb2.Caption(text=f"{writer} says {content.decode()}", model="" if writer == "caller" else "teller@0")


def is_plain(content: bytes) -> bool:
    return content == CONTENTS[0]


def stored(item_id: str, content: bytes, chance: random.Random) -> search_pb2.Item:
    """An item as somebody else wrote it: right in itself."""
    item = search_pb2.Item(
        id=item_id,
        content_digest=hashlib.sha256(content).digest(),
        image_uri=f"s3://{content.decode()}" if chance.random() < 0.5 else "",
        low_content=is_plain(content),
    )
    for name in chance.sample(sorted(SPACES), chance.randrange(1, 3)):
        item.vectors[name].CopyFrom(vector(content, SPACES[name]))
    if chance.random() < 0.6:
        item.caption.CopyFrom(caption_of(content, chance.choice(["caller", "teller"])))
    return item


@dataclass
class Changing:
    """The stores of a mesh: between any two calls, somebody else writes or deletes."""

    chance: random.Random
    search: FakeSearch = field(default_factory=FakeSearch)
    written: list[search_pb2.Item] = field(default_factory=list)

    async def call_patiently(self, method: UpstreamMethod[Any, Any], request: Any, scope: CallScope) -> Any:
        there = self.search.items["c"]
        for _ in range(self.chance.randrange(3)):
            item_id = self.chance.choice(IDS)
            if self.chance.random() < 0.2:
                there.pop(item_id, None)
            else:
                there[item_id] = stored(item_id, self.chance.choice(CONTENTS), self.chance)
        await asyncio.sleep(0)
        if method.name == "UpsertItems":
            self.written += request.items
        return await getattr(self.search, method.name)(request, None)


class Models:
    """Encoders and captioners that are right."""

    @property
    def images(self) -> "Models":
        return self

    def size_of(self, image: PackedImage) -> int:
        return len(image.packed)

    async def run(self, images: Any, options: Any, scope: CallScope) -> Any:
        await asyncio.sleep(0)
        contents = [bytes(image.content) for image in images]
        if isinstance(options, caption_pb2.CaptionOptions):
            return [caption_pb2.CaptionResult(caption=caption_of(content, "teller")) for content in contents]
        space = next(space for space in SPACES.values() if space.id == options.space_id)
        return [
            encoder_pb2.EncodeResult(embedding=vector(content, space), low_content=is_plain(content))
            for content in contents
        ]

    def stored_at_once(self) -> int:
        return 1000


def asked(chance: random.Random) -> ResolvedOptions:
    names = tuple(chance.sample(sorted(SPACES), chance.randrange(1, 3)))
    ids = {name: SPACES[name].id for name in names}
    return ResolvedOptions(
        "c",
        PlanOptions(names, chance.random() < 0.7, same_value=same_value),
        ids,
        False,
        caption_pb2.CaptionOptions(),
        {space_id: encoder_pb2.EncodeOptions(space_id=space_id) for space_id in ids.values()},
        search_pb2.METADATA_POLICY_MERGE,
        None,
        (),
    )


def a_session(stores: Any, chosen: ResolvedOptions) -> Session:
    settings, models, nobody = RouterSettings(batch_items=3), Models(), None
    media = Media(settings, HealthState(), CollectorRegistry())
    dependencies = Dependencies(settings, models, models, stores, models, nobody, nobody, nobody, media)  # type: ignore[arg-type]
    return Session(dependencies, nobody, chosen, IngestScopes.of_a_call(CallScope()))  # type: ignore[arg-type]


@pytest.mark.parametrize("seed", range(60))
async def test_what_is_written_belongs_to_its_digest(seed: int) -> None:
    chance = random.Random(seed)
    stores = Changing(chance)
    stores.search.make("c", *SPACES.items())
    items = [
        router_pb2.IngestItem(
            ref=str(n), id=chance.choice([*IDS, ""]), image=common_pb2.Image(content=chance.choice(CONTENTS))
        )
        for n in range(12)
    ]
    for item in items:
        if chance.random() < 0.3:
            item.caption = caption_of(item.image.content, "caller").text
    async with a_session(stores, asked(chance)) as session:
        # Small images given as bytes: nothing is hashed in a thread, and nothing fetched.
        incoming = await Intake(1 << 20, None, None, CallScope()).read(items)  # type: ignore[arg-type]
        done = await asyncio.gather(*map(session.ingest, incoming))
    assert [one.id for one in done] == [one.wanted and one.wanted.id for one in incoming]
    assert stores.written
    for written in stores.written:
        content = BY_DIGEST[written.content_digest]
        for name, embedding in written.vectors.items():
            assert embedding == vector(content, SPACES[name]), f"{written.id} has a vector of another image"
        if written.HasField("caption"):
            assert written.caption in [caption_of(content, writer) for writer in ("caller", "teller")]
        assert written.low_content == is_plain(content)
        assert written.image_uri in ("", f"s3://{content.decode()}")
