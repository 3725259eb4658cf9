"""Local features of ingested images: made and kept where the collection keeps them."""

import asyncio

import pytest

from lensmesh.common.v1 import common_pb2
from lensmesh.router.v1 import router_pb2
from lensmesh.search.v1 import search_pb2
from lensmesh_chassis.errors import PreconditionFailed
from lensmesh_chassis.reasons import Reason
from tests.router.conftest import Mesh
from tests.router.fake_models import local_features
from tests.router.faults import OTHER_SPACE, SPACE
from tests.router.helpers import error_of, item, reason_of
from tests.support.waiting import until

CREATED = search_pb2.UPSERT_OUTCOME_CREATED
UPDATED = search_pb2.UPSERT_OUTCOME_UPDATED
UNCHANGED = search_pb2.UPSERT_OUTCOME_UNCHANGED
ORB, ROOTSIFT = common_pb2.LOCAL_FEATURE_KIND_ORB, common_pb2.LOCAL_FEATURE_KIND_ROOTSIFT


def outcomes(results: dict[str, router_pb2.IngestResult]) -> dict[str, int]:
    return {ref: result.item.outcome for ref, result in results.items()}


async def refused(mesh: Mesh, *, local_features: bool = True) -> PreconditionFailed:
    options = router_pb2.IngestOptions(local_features=local_features)
    error = await error_of(mesh.router.Ingest(router_pb2.IngestRequest(options=options, item=item("a"))))
    assert isinstance(error, PreconditionFailed)
    return error


async def test_a_collection_that_an_ingest_makes_keeps_them_if_asked(mesh: Mesh) -> None:
    await mesh.ingest(item("a", id="a"), collection="plain")
    assert not mesh.search.collections["plain"].local_features
    assert not mesh.stored("plain")["a"].HasField("local_features")
    assert not mesh.encoder.options[-1].local_features
    results = await mesh.ingest(item("a", id="a"), item("plain", id="p"), local_features=True)
    assert outcomes(results) == {"a": CREATED, "plain": CREATED}
    assert mesh.search.collections["default"].local_features
    assert {name: each.local_features for name, each in mesh.stored().items()} == {
        "a": local_features(b"a", ORB),
        "p": local_features(b"plain", ORB),
    }
    # The collection decides from now on.
    await mesh.ingest(item("b", id="b"))
    assert mesh.stored()["b"].local_features == local_features(b"b", ORB)


async def test_what_is_there_is_kept_taken_over_or_made_up_for(mesh: Mesh) -> None:
    await mesh.ingest(item("a", id="a"), local_features=True)
    asked = len(mesh.encoder.images)
    # One of one colour has features of no points: they are there.
    assert outcomes(await mesh.ingest(item("a", id="a"))) == {"a": UNCHANGED}
    changed = await mesh.ingest(item("a", id="a", caption="mine"))
    assert list(changed["a"].item.changes) == [search_pb2.ITEM_CHANGE_CAPTION]
    assert mesh.stored()["a"].local_features == local_features(b"a", ORB), "they stay with their image"
    await mesh.ingest(item("a", id="b"))
    assert mesh.stored()["b"].local_features == local_features(b"a", ORB), "the same content under another id has them"
    assert len(mesh.encoder.images) == asked
    await mesh.ingest(item("other", id="b"))
    assert mesh.stored()["b"].local_features == local_features(b"other", ORB), "another image, other features"
    # Written by somebody who made none.
    mesh.stored()["a"].ClearField("local_features")
    mesh.stored()["a"].ClearField("local_feature_kind")
    again = await mesh.ingest(item("a", id="a"))
    assert list(again["a"].item.changes) == [search_pb2.ITEM_CHANGE_LOCAL_FEATURES]
    assert mesh.stored()["a"].local_features == local_features(b"a", ORB)
    assert outcomes(await mesh.ingest(item("a", id="a"))) == {"a": UNCHANGED}


async def test_an_item_that_lost_them_takes_those_of_the_same_content(mesh: Mesh) -> None:
    await mesh.ingest(item("a", id="a"), item("copy", b"a", id="b"), local_features=True)
    asked = len(mesh.encoder.images)
    mesh.stored()["a"].ClearField("local_features")
    mesh.stored()["a"].ClearField("local_feature_kind")
    assert outcomes(await mesh.ingest(item("a", id="a"))) == {"a": UPDATED}
    assert mesh.stored()["a"].local_features == mesh.stored()["b"].local_features == local_features(b"a", ORB)
    assert len(mesh.encoder.images) == asked


async def test_an_image_without_points_is_not_looked_at_twice(mesh: Mesh) -> None:
    await mesh.ingest(item("plain", id="a"), local_features=True)
    asked = len(mesh.encoder.images)
    assert outcomes(await mesh.ingest(item("plain", id="a"))) == {"plain": UNCHANGED}
    assert len(mesh.encoder.images) == asked


async def test_features_of_a_kind_that_is_made_no_more_are_made_anew(mesh: Mesh) -> None:
    await mesh.ingest(item("a", id="a"), local_features=True)
    mesh.encoder.feature_kind = ROOTSIFT

    async def renewed() -> bool:
        return (await mesh.ingest(item("a", id="a")))["a"].item.outcome == UPDATED

    await until(renewed)
    assert mesh.stored()["a"].local_features == local_features(b"a", ROOTSIFT)
    assert outcomes(await mesh.ingest(item("a", id="a"))) == {"a": UNCHANGED}


async def test_they_are_made_once_for_an_image_of_several_spaces(unstarted: Mesh) -> None:
    unstarted.encoders = [type(unstarted.encoder)(SPACE, OTHER_SPACE)]
    mesh = await unstarted.start()
    mesh.search.make("two", ("image", SPACE), ("second", OTHER_SPACE))
    mesh.search.collections["two"].local_features = True
    await mesh.ingest(item("a", id="a"), collection="two")
    assert {each.space_id: each.local_features for each in mesh.encoder.options} == {
        SPACE.id: True,
        OTHER_SPACE.id: False,
    }
    assert mesh.stored("two")["a"].local_features == local_features(b"a", ORB)
    # One vector is missing, and it is not the one that features are made beside.
    mesh.stored("two")["a"].ClearField("local_features")
    mesh.stored("two")["a"].ClearField("local_feature_kind")
    del mesh.stored("two")["a"].vectors["second"]
    await mesh.ingest(item("a", id="a"), collection="two")
    assert mesh.stored("two")["a"].local_features == local_features(b"a", ORB)
    assert set(mesh.stored("two")["a"].vectors) == {"image", "second"}


async def test_a_collection_that_keeps_none_refuses_who_asks(mesh: Mesh) -> None:
    mesh.search.make("default", ("image", SPACE))
    error = await refused(mesh)
    assert error.reason is Reason.FEATURES_NOT_KEPT
    assert [each.field for each in error.violations] == ["options.local_features"]
    assert "ingest into a new collection" in error.message
    assert mesh.stored() == {}
    assert outcomes(await mesh.ingest(item("a"))) == {"a": CREATED}


async def test_a_search_service_of_an_older_release_is_noticed(mesh: Mesh) -> None:
    mesh.search.knows_features = False
    assert (await refused(mesh)).reason is Reason.FEATURES_NOT_KEPT
    assert outcomes(await mesh.ingest(item("a"))) == {"a": CREATED}
    assert not mesh.encoder.options[-1].local_features


@pytest.mark.parametrize("told", [True, False])
async def test_an_encoder_that_makes_none_is_noticed(unstarted: Mesh, told: bool) -> None:
    unstarted.encoder.makes_features = False
    if told:
        unstarted.encoder.feature_kind = common_pb2.LOCAL_FEATURE_KIND_UNSPECIFIED
    mesh = await unstarted.start()
    error = await refused(mesh)
    assert error.reason is Reason.LOCAL_FEATURES_UNSUPPORTED
    assert "lensmesh[match]" in error.message
    assert mesh.stored() == {}
    # Nothing is asked of it where the collection keeps none.
    assert outcomes(await mesh.ingest(item("a"), collection="plain")) == {"a": CREATED}


async def test_a_collection_made_anew_without_them_is_noticed_in_a_stream(mesh: Mesh) -> None:
    await mesh.ingest(item("a", id="a"), local_features=True)
    gate = mesh.encoder.faults.gate = asyncio.Event()
    seen = len(mesh.encoder.faults.calls)
    ingest = asyncio.create_task(mesh.ingest(item("b", id="b")))

    async def is_encoded() -> bool:
        return len(mesh.encoder.faults.calls) > seen

    await until(is_encoded)
    mesh.search.collections["default"].local_features = False
    mesh.search.collections["default"].uid = "another"
    gate.set()
    assert outcomes(await ingest) == {"b": CREATED}
    assert not mesh.stored()["b"].HasField("local_features")


async def test_features_count_in_what_a_stream_holds(unstarted: Mesh) -> None:
    """A stream that may hold 80,000 bytes has three items on their way, each of which has 28,672 for its features."""
    mesh = await unstarted.start(stream_in_flight_bytes=80_000)
    await mesh.ingest(item("first"), collection="kept", local_features=True)
    await mesh.ingest(item("first"), collection="plain")
    for name, expected in (("plain", 12), ("kept", 3)):
        gate = mesh.encoder.faults.gate = asyncio.Event()
        calls = mesh.encoder.faults.calls = []
        ingest = asyncio.create_task(mesh.ingest(*(item(f"{name} {n}") for n in range(12)), collection=name))

        async def are_on_their_way(calls: list[int] = calls, expected: int = expected) -> bool:
            return sum(calls) >= expected

        await until(are_on_their_way)
        # Long enough for others to follow, if they could.
        await asyncio.sleep(0.1)
        assert sum(calls) == expected
        gate.set()
        assert set(outcomes(await ingest).values()) == {CREATED}


async def test_a_refused_item_says_why(mesh: Mesh) -> None:
    await mesh.ingest(item("a", id="a"), local_features=True)
    mesh.encoder.makes_features = False
    results = await mesh.ingest(item("b", id="b"))
    assert reason_of(results["b"].error) == Reason.LOCAL_FEATURES_UNSUPPORTED
