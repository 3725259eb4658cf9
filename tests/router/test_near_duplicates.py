"""Images that look the same as others: stored, marked or left out, in the order in which they come."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from google.protobuf import struct_pb2

from lensmesh.common.v1 import common_pb2
from lensmesh.router.v1 import router_pb2
from lensmesh.search.v1 import search_pb2
from lensmesh_chassis.errors import InvalidInput, Overloaded
from lensmesh_chassis.reasons import Reason
from router_svc.ingest.near_duplicates import NearOrder
from router_svc.ingest.near_lookup import NearItem, NearQuery
from tests.router.conftest import Mesh
from tests.router.fake_models import perceptual_hash
from tests.router.helpers import error_of, item, reason_of, request
from tests.support.waiting import until

STORE = router_pb2.NEAR_DUPLICATE_ACTION_STORE
MARK = router_pb2.NEAR_DUPLICATE_ACTION_MARK
SKIP = router_pb2.NEAR_DUPLICATE_ACTION_SKIP
CREATED = search_pb2.UPSERT_OUTCOME_CREATED
UPDATED = search_pb2.UPSERT_OUTCOME_UPDATED
UNCHANGED = search_pb2.UPSERT_OUTCOME_UNCHANGED
SKIPPED = search_pb2.UPSERT_OUTCOME_SKIPPED
FIELD = "near_duplicate_of"


def near(action: router_pb2.NearDuplicateAction.ValueType = STORE, **fields: object) -> router_pb2.NearDuplicateOptions:
    return router_pb2.NearDuplicateOptions(action=action, **fields)  # type: ignore[arg-type]  # a message's own fields


def look(name: str, bits: int = 0, more: str = "") -> bytes:
    """An image; those of one name look the same, but for so many bits."""
    return f"look {name} {bits} {more}".encode()


def told(result: router_pb2.IngestResult) -> tuple[int, str, int]:
    """What became of an item, and what it looks like."""
    done = result.item
    return done.outcome, done.near_duplicate.id, done.near_duplicate.distance


def marks(mesh: Mesh) -> dict[str, object]:
    return {
        name: stored.metadata[FIELD] if FIELD in stored.metadata.fields else ""
        for name, stored in mesh.stored().items()
    }


async def test_hashes_are_kept_where_near_duplicates_are_looked_for(mesh: Mesh) -> None:
    await mesh.ingest(item("a", look("cat"), id="a"))
    assert not mesh.stored()["a"].HasField("perceptual_hash")
    assert not mesh.encoder.options[-1].perceptual_hash
    results = await mesh.ingest(
        item("a", look("cat"), id="a"), item("b", look("dog"), id="b"), near_duplicates=near(STORE)
    )
    assert told(results["a"]) == (UPDATED, "", 0), "what is there without a hash gets its own"
    assert told(results["b"]) == (CREATED, "", 0)
    assert {name: stored.perceptual_hash for name, stored in mesh.stored().items()} == {
        "a": perceptual_hash(look("cat")),
        "b": perceptual_hash(look("dog")),
    }
    asked = len(mesh.encoder.images)
    again = await mesh.ingest(item("a", look("cat"), id="a"), near_duplicates=near(STORE))
    assert told(again["a"]) == (UNCHANGED, "", 0)
    without = await mesh.ingest(item("b", look("dog"), id="b", caption="mine"))
    assert told(without["b"]) == (UPDATED, "", 0)
    assert mesh.stored()["b"].HasField("perceptual_hash"), "it stays with its image"
    copied = await mesh.ingest(item("c", look("dog"), id="c"))
    assert told(copied["c"]) == (CREATED, "", 0)
    assert mesh.stored()["c"].HasField("perceptual_hash"), "the same content under another id takes it"
    assert len(mesh.encoder.images) == asked
    await mesh.ingest(item("b", look("bird"), id="b"))
    assert not mesh.stored()["b"].HasField("perceptual_hash"), "it is of another image"


@pytest.mark.parametrize("action", [STORE, MARK, SKIP])
async def test_a_near_duplicate_of_what_is_stored(mesh: Mesh, action: router_pb2.NearDuplicateAction.ValueType) -> None:
    await mesh.ingest(item("a", look("cat"), id="a"), item("z", look("cat", 1), id="z"), near_duplicates=near(STORE))
    results = await mesh.ingest(
        item("b", look("cat", 5), id="b"), item("c", look("dog"), id="c"), near_duplicates=near(action)
    )
    assert told(results["b"]) == (SKIPPED if action == SKIP else CREATED, "z", 4)
    assert told(results["c"]) == (CREATED, "", 0)
    assert set(mesh.stored()) == {"a", "z", "c"} | (set() if action == SKIP else {"b"})
    if action != SKIP:
        assert marks(mesh)["b"] == ("z" if action == MARK else "")


async def test_what_is_left_out_is_not_captioned_and_has_its_id(mesh: Mesh) -> None:
    await mesh.ingest(item("a", look("cat"), id="a"), near_duplicates=near(SKIP))
    answer = await mesh.router.Ingest(
        router_pb2.IngestRequest(
            options=router_pb2.IngestOptions(near_duplicates=near(SKIP)), item=item("b", look("cat", 2), id="mine")
        )
    )
    assert (answer.item.id, answer.item.outcome, answer.item.caption.text) == ("mine", SKIPPED, "")
    assert not answer.item.HasField("caption_error")


@pytest.mark.parametrize("action", [MARK, SKIP])
async def test_near_duplicates_of_one_stream_are_decided_in_its_order(
    mesh: Mesh, action: router_pb2.NearDuplicateAction.ValueType
) -> None:
    """All of them are encoded and looked up before the first is in the store."""
    mesh.encoder.faults.delay_s = 0.05
    items = [item(str(n), look(f"n{n % 7}", n // 7), id=f"i{n:03}") for n in range(70)]
    results = await mesh.ingest(*items, near_duplicates=near(action))
    for n in range(70):
        outcome, other, distance = told(results[str(n)])
        if n < 7:
            assert (outcome, other) == (CREATED, ""), n
        elif action == SKIP:
            # Compared with the first of its kind alone: those between were left out.
            assert (outcome, other, distance) == (SKIPPED, f"i{n % 7:03}", n // 7)
        else:
            assert (outcome, other, distance) == (CREATED, f"i{n - 7:03}", 1)
    assert len(mesh.stored()) == (7 if action == SKIP else 70)
    if action == MARK:
        assert {name: mark for name, mark in marks(mesh).items() if mark} == {
            f"i{n:03}": f"i{n - 7:03}" for n in range(7, 70)
        }


async def test_slow_first_ones_still_come_first(mesh: Mesh) -> None:
    """The first image is tried again and again, while those behind it are encoded at once."""
    first = look("cat", 0, "slow")
    mesh.encoder.item_errors[first] = [Overloaded(Reason.OVERLOADED, "not now", retry_after_s=0.3)] * 2
    results = await mesh.ingest(item("1", first, id="z"), item("2", look("cat", 3), id="a"), near_duplicates=near(SKIP))
    assert told(results["1"]) == (CREATED, "", 0)
    assert told(results["2"]) == (SKIPPED, "z", 3)


@pytest.mark.parametrize("how", ["has no near-duplicates", "is none, or is there already"])
async def test_what_needs_no_decision_lets_nobody_overtake(how: str) -> None:
    order = NearOrder(31)
    first, between, last = order.enter(), order.enter(), order.enter()
    if how == "has no near-duplicates":
        between.pass_on()
    else:
        between.leave()
    copy = NearQuery("copy", perceptual_hash(look("cat", 3)))
    asked = asyncio.Event()

    async def nothing_stored() -> NearItem | None:
        asked.set()
        return None

    looking = asyncio.create_task(last.nearest(copy, nothing_stored))
    await asked.wait()
    await asyncio.sleep(0)
    await first.accept(NearQuery("first", perceptual_hash(look("cat"))))
    first.end(stored=True)
    assert await looking == NearItem(3, "first")


async def test_nobody_is_a_near_duplicate_of_what_could_not_be_stored(mesh: Mesh) -> None:
    refused = struct_pb2.Struct()
    refused.update({"refuse": "x"})
    results = await mesh.ingest(
        item("1", look("cat"), id="1", metadata=refused),
        item("2", look("cat", 2), id="2"),
        item("3", look("cat", 3), id="3"),
        item("4", b"bad one", id="4"),
        near_duplicates=near(SKIP),
    )
    assert reason_of(results["1"].error) == Reason.METADATA_INVALID
    assert told(results["2"]) == (CREATED, "", 0)
    assert told(results["3"]) == (SKIPPED, "2", 1)
    assert reason_of(results["4"].error) == Reason.IMAGE_UNDECODABLE
    assert set(mesh.stored()) == {"2"}


async def test_an_item_that_is_there_stays_and_is_not_its_own_near_duplicate(mesh: Mesh) -> None:
    await mesh.ingest(item("a", look("cat"), id="a"), item("b", look("cat", 4), id="b"))
    results = await mesh.ingest(
        item("a", look("cat"), id="a"), item("b", look("cat", 4), id="b"), near_duplicates=near(SKIP)
    )
    assert [told(results[ref]) for ref in "ab"] == [(UPDATED, "", 0)] * 2
    changed = await mesh.ingest(item("a", look("cat", 3), id="a"), near_duplicates=near(MARK))
    assert told(changed["a"]) == (UPDATED, "b", 1)
    assert marks(mesh)["a"] == "b"
    other = await mesh.ingest(item("a", look("dog"), id="a"), near_duplicates=near(MARK))
    assert told(other["a"]) == (UPDATED, "", 0)
    assert mesh.stored()["a"].metadata.fields[FIELD].HasField("null_value"), "the mark goes with its image"


@pytest.mark.parametrize("policy", [search_pb2.METADATA_POLICY_MERGE, search_pb2.METADATA_POLICY_REPLACE])
async def test_a_mark_stays_with_its_image(mesh: Mesh, policy: search_pb2.MetadataPolicy.ValueType) -> None:
    await mesh.ingest(item("a", look("cat"), id="a"), item("b", look("cat", 4), id="b"), near_duplicates=near(MARK))
    again = await mesh.ingest(item("b", look("cat", 4), id="b"), near_duplicates=near(MARK), metadata_policy=policy)
    assert told(again["b"]) == (UNCHANGED, "", 0)
    more = struct_pb2.Struct()
    more.update({"artist": "x"})
    await mesh.ingest(
        item("b", look("cat", 4), id="b", metadata=more), near_duplicates=near(MARK), metadata_policy=policy
    )
    assert dict(mesh.stored()["b"].metadata) == {"artist": "x", FIELD: "a"}


async def test_distance_and_field_are_the_callers(mesh: Mesh) -> None:
    options = near(MARK, max_distance=3, field="copy_of")
    await mesh.ingest(
        item("a", look("cat"), id="a"),
        item("b", look("cat", 3), id="b"),
        item("c", look("cat", 9), id="c"),
        near_duplicates=options,
    )
    assert {name: dict(stored.metadata) for name, stored in mesh.stored().items()} == {
        "a": {},
        "b": {"copy_of": "a"},
        "c": {},
    }
    exact = await mesh.ingest(item("d", look("cat", 9, "again"), id="d"), near_duplicates=near(SKIP, max_distance=0))
    assert told(exact["d"]) == (SKIPPED, "c", 0)


async def test_images_that_say_little_have_no_near_duplicates(mesh: Mesh) -> None:
    results = await mesh.ingest(
        item("a", b"plain x", id="a"), item("b", b"plain x", id="b"), near_duplicates=near(SKIP)
    )
    assert [told(results[ref]) for ref in "ab"] == [(CREATED, "", 0)] * 2


async def test_the_same_file_many_times_is_one_item(mesh: Mesh) -> None:
    await mesh.ingest(item("first", look("cat"), id="first"), near_duplicates=near(SKIP))
    results = await mesh.ingest(*(item(str(n), look("cat", 1)) for n in range(30)), near_duplicates=near(SKIP))
    assert {told(result) for result in results.values()} == {(SKIPPED, "first", 1)}
    assert set(mesh.stored()) == {"first"}


async def test_a_stream_that_is_left_holds_nobody_up(mesh: Mesh) -> None:
    gate = mesh.encoder.faults.gate = asyncio.Event()

    async def messages() -> AsyncIterator[router_pb2.IngestStreamRequest]:
        yield request([item("a", look("cat"), id="a")], near_duplicates=near(SKIP))
        await asyncio.Event().wait()

    call = mesh.router.IngestStream(messages())
    reading = asyncio.create_task(anext(aiter(call)))
    await until(lambda: mesh.encoder.faults.in_flight > 0, "the encoder has it")
    call.cancel()
    await asyncio.gather(reading, return_exceptions=True)
    gate.set()
    results = await mesh.ingest(item("b", look("cat"), id="b"), near_duplicates=near(SKIP))
    assert told(results["b"]) == (CREATED, "", 0)


async def test_an_encoder_of_before_is_told_of(mesh: Mesh) -> None:
    mesh.encoder.makes_hashes = False
    results = await mesh.ingest(item("a", look("cat"), id="a"), near_duplicates=near(SKIP))
    assert reason_of(results["a"].error) == Reason.NOT_IMPLEMENTED
    assert mesh.stored() == {}


@pytest.mark.parametrize(
    ("options", "field"),
    [
        (router_pb2.NearDuplicateOptions(action=9), "action"),  # type: ignore[arg-type]  # as a newer caller may send it
        (near(SKIP, max_distance=32), "max_distance"),
        (near(MARK, field="a b"), "field"),
        (near(MARK, field="x" * 65), "field"),
        (near(SKIP, field="x"), "field"),
    ],
)
async def test_options_out_of_range_are_refused(
    mesh: Mesh, options: router_pb2.NearDuplicateOptions, field: str
) -> None:
    call = mesh.router.Ingest(
        router_pb2.IngestRequest(options=router_pb2.IngestOptions(near_duplicates=options), item=item("a"))
    )
    error = await error_of(call)
    assert isinstance(error, InvalidInput)
    assert (error.reason, error.violations[0].field) == (
        Reason.OPTION_INVALID,
        f"options.near_duplicates.{field}",
    )
    assert mesh.stored() == {}


async def test_marks_and_tags_have_fields_of_their_own(mesh: Mesh) -> None:
    options = router_pb2.IngestOptions(
        near_duplicates=near(MARK, field="tags_digest"), tags=router_pb2.TagOptions(labels=["a cat", "a dog"])
    )
    error = await error_of(mesh.router.Ingest(router_pb2.IngestRequest(options=options, item=item("a"))))
    assert (error.reason, error.violations[0].field) == (Reason.OPTION_INVALID, "options.near_duplicates.field")


async def test_images_are_searched_by_their_hashes(mesh: Mesh) -> None:
    items = [item(name, look("cat", bits), id=name) for name, bits in (("a", 0), ("b", 6))]
    await mesh.ingest(*items, item("dog", look("dog"), id="dog"), near_duplicates=near(STORE))
    content = common_pb2.Image(content=look("cat", 1, "asked"))
    by_image = router_pb2.Query(image=content, by_hash=True)
    by_hash = router_pb2.Query(perceptual_hash=perceptual_hash(content.content))
    for query in (by_image, by_hash):
        answer = await mesh.router.Search(router_pb2.SearchRequest(queries=[query]))
        assert [(hit.item.id, round((1 - hit.score) * 256)) for hit in answer.hits] == [("a", 1), ("b", 5)]
    by_vector = router_pb2.Query(image=common_pb2.Image(content=look("dog")), name="vector")
    by_image.name = "look"
    both = await mesh.router.Search(router_pb2.SearchRequest(queries=[by_vector, by_image]))
    assert {hit.item.id: [leg.name for leg in hit.legs] for hit in both.hits} == {
        "a": ["vector", "look"],
        "b": ["vector", "look"],
        "dog": ["vector"],
    }


async def test_searches_by_hash_that_cannot_be(mesh: Mesh) -> None:
    await mesh.ingest(item("a", look("cat"), id="a"))
    request = router_pb2.SearchRequest(queries=[router_pb2.Query(text="a cat", by_hash=True)])
    error = await error_of(mesh.router.Search(request))
    assert (error.reason, error.violations[0].field) == (Reason.QUERY_INVALID, "queries[0].by_hash")
    mesh.encoder.makes_hashes = False
    image = common_pb2.Image(content=look("cat"))
    request = router_pb2.SearchRequest(queries=[router_pb2.Query(image=image, by_hash=True)])
    error = await error_of(mesh.router.Search(request))
    assert error.reason == Reason.NOT_IMPLEMENTED
