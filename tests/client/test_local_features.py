"""Local features of the client: what is sent, what comes back, and what is refused."""

from collections.abc import AsyncIterator

import grpc
import numpy as np
import pytest

from lensmesh.common.v1 import common_pb2
from lensmesh.encoder.v1 import encoder_pb2
from lensmesh.router.v1 import router_pb2_grpc
from lensmesh.search.v1 import search_pb2, search_pb2_grpc
from lensmesh_chassis.encode_answers import ANSWER_BYTES
from lensmesh_client import Change, Client, Item, LocalFeatureKind, LocalFeatures, Space
from lensmesh_client.errors import InvalidInput, PreconditionFailed, Reason
from lensmesh_client.local_features import features_message, features_of
from lensmesh_client.translate_stored import item, written
from lensmesh_client.vectors import embedded
from tests.client.fake_router import FakeRouter
from tests.router.fake_search import FakeSearch

SPACES = {"image": Space("vs1-x", "model", 2, True)}
ORB = LocalFeatures("orb", np.array([[1, 2], [65535, 258]], np.uint16), np.arange(64, dtype=np.uint8).reshape(2, 32))
NONE = LocalFeatures("rootsift", np.zeros((0, 2), np.uint16), np.zeros((0, 128), np.uint8))


@pytest.fixture
async def search() -> AsyncIterator[tuple[FakeSearch, Client]]:
    """A store, and a client of it."""
    store, server = FakeSearch(), grpc.aio.server()
    search_pb2_grpc.add_SearchServiceServicer_to_server(store, server)
    router_pb2_grpc.add_RouterServiceServicer_to_server(FakeRouter(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with Client(f"127.0.0.1:{port}", timeout_s=30) as client:
        yield store, client
    await server.stop(None)


def test_features_are_what_they_were() -> None:
    message = features_message(ORB, "local_features")
    assert message.kind == common_pb2.LOCAL_FEATURE_KIND_ORB
    assert message.points == bytes([1, 0, 2, 0, 255, 255, 2, 1])
    back = features_of(message)
    assert back is not None
    assert back.kind is LocalFeatureKind.ORB
    assert (back.points == ORB.points).all()
    assert (back.descriptors == ORB.descriptors).all()
    assert (back.points.dtype.name, back.descriptors.dtype.name) == ("uint16", "uint8")
    empty = features_of(features_message(NONE, ""))
    assert empty is not None
    assert (empty.points.shape, len(empty.descriptors)) == ((0, 2), 0)
    assert features_of(common_pb2.LocalFeatures(kind=9)) is None  # type: ignore[arg-type]  # of a newer release


@pytest.mark.parametrize(
    ("bad", "field"),
    [
        (LocalFeatures("surf", ORB.points, ORB.descriptors), "kind"),
        (LocalFeatures("orb", ORB.points.astype(np.float32), ORB.descriptors), "points"),
        (LocalFeatures("orb", ORB.points.reshape(-1), ORB.descriptors), "points"),
        (LocalFeatures("orb", ORB.points, ORB.descriptors[:1]), "descriptors"),
        (LocalFeatures("orb", ORB.points, ORB.descriptors.astype(np.int8)), "descriptors"),
    ],
)
def test_what_are_no_features_is_refused(bad: LocalFeatures, field: str) -> None:
    with pytest.raises(InvalidInput, match=f"items\\[0\\].local_features.{field} ") as caught:
        features_message(bad, "items[0].local_features")
    assert caught.value.reason is Reason.FEATURES_INVALID
    assert [each.field for each in caught.value.violations] == [f"items[0].local_features.{field}"]


async def test_items_keep_their_features(search: tuple[FakeSearch, Client]) -> None:
    store, client = search
    assert (await client.collections.create("kept", spaces=SPACES, local_features=True)).local_features
    await client.items.upsert([Item("a", local_features=ORB), Item("b")], collection="kept")
    assert store.items["kept"]["a"].local_features == features_message(ORB, "")
    plain = (await client.items.get(["a", "b"], collection="kept")).items
    assert [each.local_features for each in plain] == [None, None]
    assert [each.local_feature_kind for each in plain] == [LocalFeatureKind.ORB, None]
    [read] = (await client.items.get("a", collection="kept", with_local_features=True)).items
    assert read.local_features is not None
    # Written back as it came.
    await client.items.upsert(read, collection="kept")
    assert store.items["kept"]["a"].local_features == features_message(ORB, "")


async def test_a_service_that_keeps_none_is_noticed(search: tuple[FakeSearch, Client]) -> None:
    store, client = search
    store.knows_features = False
    with pytest.raises(PreconditionFailed, match="of an older release") as caught:
        await client.collections.create("kept", spaces=SPACES, local_features=True)
    assert caught.value.reason is Reason.FEATURES_NOT_KEPT
    assert not (await client.collections.create("plain", spaces=SPACES)).local_features


async def test_what_is_asked_of_an_ingest(client: Client, router: FakeRouter) -> None:
    await client.ingest(b"one")
    assert not router.calls[-1].options.local_features
    await client.ingest(b"one", local_features=True)
    assert router.calls[-1].options.local_features
    [_] = [each async for each in client.ingest_many([b"one"], local_features=True)]
    assert router.options[-1].local_features


async def test_features_of_embedded_images(client: Client, router: FakeRouter) -> None:
    plain = await client.embed(images=[b"one"])
    assert plain.local_features == ()
    assert not router.calls[-1].options.local_features
    found = await client.embed(images=[b"one", b"two"], local_features=True)
    assert router.calls[-1].options.local_features
    assert found.perceptual_hashes == ()
    first, second = found.local_features
    assert first is not None
    assert second is not None
    assert (first.kind, first.points.tolist()) == (LocalFeatureKind.ORB, [[0x6F6F] * 2] * 2)
    assert second.descriptors.tolist() == [[0x74] * 32] * 2
    told = encoder_pb2.EncodeResult(local_features=features_message(ORB, "local_features"))
    one = embedded(told, 0).local_features
    assert one is not None
    assert np.array_equal(one.points, ORB.points)
    assert embedded(encoder_pb2.EncodeResult(), 0).local_features is None
    assert [each.error async for each in client.embed_many(images=[b"one"], local_features=True)] == [None]
    assert router.stream_options[-1].local_features


async def test_no_call_asks_for_more_features_than_an_answer_holds(client: Client, router: FakeRouter) -> None:
    router.max_message_bytes = 3 * ANSWER_BYTES
    images = [bytes([number]) for number in range(1, 9)]
    found = await client.embed(images=images, local_features=True)
    assert [len(call.images) for call in router.calls if isinstance(call, encoder_pb2.EncodeImagesRequest)] == [3, 3, 2]
    assert [int(each.points[0, 0]) % 256 for each in found.local_features if each] == list(range(1, 9))


def test_what_changed_is_told() -> None:
    result = search_pb2.UpsertResult(
        outcome=search_pb2.UPSERT_OUTCOME_UPDATED, changes=[search_pb2.ITEM_CHANGE_LOCAL_FEATURES]
    )
    assert written(result).changes == (Change.LOCAL_FEATURES,)
    assert item(search_pb2.Item(id="a", local_feature_kind=9)).local_feature_kind is None  # type: ignore[arg-type]
