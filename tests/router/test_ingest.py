"""Images come in, once, with what is asked for."""

import hashlib
from collections.abc import AsyncIterator

import pytest
from google.protobuf import struct_pb2

from lensmesh.common.v1 import common_pb2
from lensmesh.router.v1 import router_pb2
from lensmesh.search.v1 import search_pb2
from tests.router.conftest import Mesh
from tests.router.fakes import OTHER_SPACE, SPACE, FakeEncoder, vector
from tests.router.helpers import item, reason_of, request
from tests.support.waiting import until


def struct(**fields: str) -> struct_pb2.Struct:
    made = struct_pb2.Struct()
    made.update(fields)
    return made


async def test_images_are_stored_with_vector_caption_and_digest(mesh: Mesh) -> None:
    results = await mesh.ingest(*(item(f"p{n}", metadata=struct(n=str(n))) for n in range(50)))
    assert len(results) == 50
    assert {result.item.outcome for result in results.values()} == {search_pb2.UPSERT_OUTCOME_CREATED}
    done = results["p7"].item
    digest = hashlib.sha256(b"p7").digest()
    assert done.id == digest.hex()
    assert done.caption.text == "an image of p7"
    assert (done.encode.total_us, done.describe.total_us) == (10, 20)
    assert done.store_us > 0
    stored = mesh.stored()[digest.hex()]
    assert stored.vectors["image"] == vector(b"p7", SPACE)
    assert stored.content_digest == digest
    assert stored.metadata == struct(n="7")
    assert stored.caption.model == "teller@000000000000"
    assert [space.name for space in mesh.search.collections["default"].spaces] == ["image"]
    assert {options.priority for options in mesh.encoder.options} == {common_pb2.PRIORITY_BULK}


@pytest.mark.parametrize("deferred", [False, True])
async def test_a_collection_that_is_made_may_leave_its_index_for_later(mesh: Mesh, deferred: bool) -> None:
    options = router_pb2.IngestOptions(collection="cats", deferred_index=deferred)
    await mesh.router.Ingest(router_pb2.IngestRequest(options=options, item=item("p")))
    [space] = mesh.search.collections["cats"].spaces
    assert space.index.HasField("deferred") == deferred


async def test_one_image_is_ingested_by_a_call(mesh: Mesh) -> None:
    answer = await mesh.router.Ingest(
        router_pb2.IngestRequest(options=router_pb2.IngestOptions(collection="cats"), item=item("p", id="mine"))
    )
    assert answer.item.id == "mine"
    assert "mine" in mesh.stored("cats")
    assert {options.priority for options in mesh.encoder.options} == {common_pb2.PRIORITY_INTERACTIVE}


async def test_what_is_there_is_unchanged_and_no_model_runs(mesh: Mesh) -> None:
    images = [item(f"p{n}", metadata=struct(a="b"), id=f"id{n}") for n in range(10)]
    await mesh.ingest(*images)
    encoded, described, written = len(mesh.encoder.images), len(mesh.captioner.images), len(mesh.search.writes)
    again = await mesh.ingest(*images)
    assert {result.item.outcome for result in again.values()} == {search_pb2.UPSERT_OUTCOME_UNCHANGED}
    assert again["p3"].item.caption.text == "an image of p3"
    assert (len(mesh.encoder.images), len(mesh.captioner.images), len(mesh.search.writes)) == (
        encoded,
        described,
        written,
    )


async def test_the_same_content_under_another_id_takes_vectors_and_caption(mesh: Mesh) -> None:
    await mesh.ingest(item("p", id="first"))
    [result] = (await mesh.ingest(item("p", id="second", metadata=struct(who="other")))).values()
    assert result.item.outcome == search_pb2.UPSERT_OUTCOME_CREATED
    assert (len(mesh.encoder.images), len(mesh.captioner.images)) == (1, 1)
    assert mesh.stored()["second"].vectors["image"] == vector(b"p", SPACE)
    assert mesh.stored()["second"].caption.text == "an image of p"


async def test_one_content_under_many_ids_of_one_stream_is_encoded_once(mesh: Mesh) -> None:
    results = await mesh.ingest(*(item(f"r{n}", b"same", id=f"id{n}") for n in range(20)))
    assert {result.item.outcome for result in results.values()} == {search_pb2.UPSERT_OUTCOME_CREATED}
    assert len(mesh.stored()) == 20
    assert mesh.encoder.images == [b"same"]
    assert mesh.captioner.images == [b"same"]


async def test_changed_metadata_is_written_without_a_model(mesh: Mesh) -> None:
    await mesh.ingest(item("p", id="x", image_uri="s3://a", metadata=struct(a="1")))
    [result] = (await mesh.ingest(item("p", id="x", metadata=struct(a="2")))).values()
    assert result.item.outcome == search_pb2.UPSERT_OUTCOME_UPDATED
    assert mesh.stored()["x"].metadata == struct(a="2")
    assert mesh.stored()["x"].vectors["image"] == vector(b"p", SPACE)
    assert mesh.stored()["x"].image_uri == "s3://a"
    assert (len(mesh.encoder.images), len(mesh.captioner.images)) == (1, 1)


async def test_another_image_under_the_same_id_replaces_it(mesh: Mesh) -> None:
    await mesh.ingest(item("p", b"one", id="x"))
    [result] = (await mesh.ingest(item("p", b"two", id="x"))).values()
    assert result.item.outcome == search_pb2.UPSERT_OUTCOME_UPDATED
    assert mesh.stored()["x"].vectors["image"] == vector(b"two", SPACE)
    assert mesh.stored()["x"].caption.text == "an image of two"


async def test_a_missing_caption_is_filled_in(mesh: Mesh) -> None:
    await mesh.ingest(item("p"), captions=router_pb2.CAPTION_POLICY_NONE)
    [stored] = mesh.stored().values()
    assert not stored.HasField("caption")
    assert mesh.captioner.images == []
    [result] = (await mesh.ingest(item("p"))).values()
    assert result.item.outcome == search_pb2.UPSERT_OUTCOME_UPDATED
    assert result.item.caption.text == "an image of p"
    assert len(mesh.encoder.images) == 1


async def test_the_callers_caption_is_used_instead(mesh: Mesh) -> None:
    [result] = (await mesh.ingest(item("p", caption="my words"))).values()
    assert (result.item.caption.text, result.item.caption.model) == ("my words", "")
    assert mesh.captioner.images == []
    [again] = (await mesh.ingest(item("p", caption="my words"))).values()
    assert again.item.outcome == search_pb2.UPSERT_OUTCOME_UNCHANGED
    [other] = (await mesh.ingest(item("p", caption="other words"))).values()
    assert other.item.outcome == search_pb2.UPSERT_OUTCOME_UPDATED


async def test_items_of_one_id_are_written_in_the_order_of_the_stream(mesh: Mesh) -> None:
    mesh.encoder.faults.delay_s = 0.02
    results = await mesh.ingest(*(item(f"r{n}", f"content {n}".encode(), id="same") for n in range(8)))
    assert all(result.HasField("item") for result in results.values())
    assert mesh.stored()["same"].vectors["image"] == vector(b"content 7", SPACE)
    assert mesh.search.writes == [["same"]] * 8


async def test_the_very_same_item_twice_in_one_stream_is_written_once(mesh: Mesh) -> None:
    results = await mesh.ingest(item("a", b"p"), item("b", b"p"))
    assert results["a"].item.outcome == search_pb2.UPSERT_OUTCOME_CREATED
    assert results["b"].item.outcome == search_pb2.UPSERT_OUTCOME_UNCHANGED
    assert len(mesh.search.writes) == 1


async def test_only_the_spaces_asked_for_are_filled(unstarted: Mesh) -> None:
    unstarted.encoders.append(FakeEncoder(OTHER_SPACE))
    mesh = await unstarted.start()
    mesh.search.make("both", ("image", SPACE), ("second", OTHER_SPACE))
    await mesh.ingest(item("a"), collection="both", spaces=["second"])
    [stored] = mesh.stored("both").values()
    assert set(stored.vectors) == {"second"}
    await mesh.ingest(item("a"), collection="both")
    [stored] = mesh.stored("both").values()
    assert stored.vectors["image"] == vector(b"a", SPACE)
    assert stored.vectors["second"] == vector(b"a", OTHER_SPACE)
    assert [len(encoder.images) for encoder in mesh.encoders] == [1, 1]


async def test_a_collection_deleted_under_a_stream_is_made_again(mesh: Mesh) -> None:
    async def messages() -> AsyncIterator[router_pb2.IngestStreamRequest]:
        yield router_pb2.IngestStreamRequest(items=[item("a")])
        await until(lambda: bool(mesh.stored()), "the first is stored")
        del mesh.search.collections["default"], mesh.search.items["default"]
        yield router_pb2.IngestStreamRequest(items=[item("b")])

    refs = [result.ref async for answer in mesh.router.IngestStream(messages()) for result in answer.results]
    assert sorted(refs) == ["a", "b"]
    assert [stored.caption.text for stored in mesh.stored().values()] == ["an image of b"]


async def test_what_an_ingest_does_not_carry_stays(mesh: Mesh) -> None:
    await mesh.ingest(item("p", id="x", image_uri="s3://a", caption="my words", metadata=struct(a="1", b="1")))
    [result] = (await mesh.ingest(item("p", id="x"))).values()
    assert result.item.outcome == search_pb2.UPSERT_OUTCOME_UNCHANGED
    assert result.item.caption.text == "my words"
    [result] = (await mesh.ingest(item("p", id="x", metadata=struct(b="2")))).values()
    assert (result.item.outcome, list(result.item.changes)) == (
        search_pb2.UPSERT_OUTCOME_UPDATED,
        [search_pb2.ITEM_CHANGE_METADATA],
    )
    stored = mesh.stored()["x"]
    assert (stored.metadata, stored.caption.text, stored.image_uri) == (struct(a="1", b="2"), "my words", "s3://a")
    [result] = (await mesh.ingest(item("p", id="x", metadata=struct(a="1")))).values()
    assert result.item.outcome == search_pb2.UPSERT_OUTCOME_UNCHANGED


async def test_metadata_is_replaced_where_that_is_asked_for(mesh: Mesh) -> None:
    await mesh.ingest(item("p", id="x", metadata=struct(a="1", b="1")))
    replace = search_pb2.METADATA_POLICY_REPLACE
    await mesh.ingest(item("p", id="x", metadata=struct(b="2")), metadata_policy=replace)
    assert mesh.stored()["x"].metadata == struct(b="2")
    [result] = (await mesh.ingest(item("p", id="x"), metadata_policy=replace)).values()
    assert result.item.outcome == search_pb2.UPSERT_OUTCOME_UPDATED
    assert not mesh.stored()["x"].metadata.fields


async def test_another_image_under_an_id_keeps_its_metadata_alone(mesh: Mesh) -> None:
    await mesh.ingest(item("p", b"one", id="x", image_uri="s3://a", caption="mine", metadata=struct(a="1")))
    [result] = (await mesh.ingest(item("p", b"two", id="x"))).values()
    assert set(result.item.changes) == {
        search_pb2.ITEM_CHANGE_CONTENT,
        search_pb2.ITEM_CHANGE_VECTORS,
        search_pb2.ITEM_CHANGE_CAPTION,
        search_pb2.ITEM_CHANGE_IMAGE_URI,
    }
    stored = mesh.stored()["x"]
    assert (stored.metadata, stored.caption.text, stored.image_uri) == (struct(a="1"), "an image of two", "")


async def test_low_content_is_kept_with_its_image(mesh: Mesh) -> None:
    results = await mesh.ingest(item("a", b"plain red", id="red"), item("b", id="b"))
    assert (results["a"].item.low_content, results["b"].item.low_content) == (True, False)
    assert results["a"].item.fully_transparent is False
    [taken] = (await mesh.ingest(item("c", b"plain red", id="same content"))).values()
    assert taken.item.low_content
    [same] = (await mesh.ingest(item("a", b"plain red", id="red"))).values()
    assert (same.item.outcome, same.item.low_content) == (search_pb2.UPSERT_OUTCOME_UNCHANGED, True)
    assert {name: stored.low_content for name, stored in mesh.stored().items()} == {
        "red": True,
        "b": False,
        "same content": True,
    }


async def test_a_collection_made_anew_under_a_stream_is_filled_as_it_is_now(unstarted: Mesh) -> None:
    """Its definition was read when the stream began: with another space, every item would be refused for good."""
    unstarted.encoders.append(FakeEncoder(OTHER_SPACE))
    mesh = await unstarted.start()
    mesh.search.make("mine", ("image", SPACE))

    async def messages() -> AsyncIterator[router_pb2.IngestStreamRequest]:
        yield request([item("a")], collection="mine")
        await until(lambda: bool(mesh.stored("mine")), "the first is stored")
        mesh.search.make("mine", ("second", OTHER_SPACE))
        yield router_pb2.IngestStreamRequest(items=[item(f"b{n}") for n in range(40)])

    answers = [result async for answer in mesh.router.IngestStream(messages()) for result in answer.results]
    assert [result.error for result in answers if result.HasField("error")] == []
    assert len(answers) == 41
    assert {tuple(stored.vectors) for stored in mesh.stored("mine").values()} == {("second",)}


async def test_a_collection_made_anew_without_the_space_asked_for_refuses_item_by_item(mesh: Mesh) -> None:
    mesh.search.make("mine", ("image", SPACE))

    async def messages() -> AsyncIterator[router_pb2.IngestStreamRequest]:
        yield request([item("a")], collection="mine", spaces=["image"])
        await until(lambda: bool(mesh.stored("mine")), "the first is stored")
        mesh.search.make("mine", ("words", OTHER_SPACE))
        yield router_pb2.IngestStreamRequest(items=[item("b"), item("c")])

    answers = [result async for answer in mesh.router.IngestStream(messages()) for result in answer.results]
    assert sorted(reason_of(result.error) for result in answers if result.ref != "a") == ["SPACE_UNKNOWN"] * 2


async def test_the_same_image_under_one_id_many_times_takes_few_calls(mesh: Mesh) -> None:
    """As the same file in many folders comes: each with its own address and metadata, in the order of the stream."""
    items = [item(str(n), b"same", image_uri=f"s3://{n}", metadata=struct(**{f"k{n % 7}": str(n)})) for n in range(250)]
    begun = len(mesh.search.faults.calls)
    results = await mesh.ingest(*items)
    assert len(mesh.search.faults.calls) - begun < 30
    outcomes = [results[str(n)].item.outcome for n in range(250)]
    assert outcomes == [search_pb2.UPSERT_OUTCOME_CREATED] + [search_pb2.UPSERT_OUTCOME_UPDATED] * 249
    assert list(results["9"].item.changes) == [search_pb2.ITEM_CHANGE_METADATA, search_pb2.ITEM_CHANGE_IMAGE_URI]
    [stored] = mesh.stored().values()
    assert stored.image_uri == "s3://249"
    assert stored.metadata == struct(**{f"k{n % 7}": str(n) for n in range(250)})
    again = await mesh.ingest(*(item(str(n), b"same") for n in range(250)))
    assert {result.item.outcome for result in again.values()} == {search_pb2.UPSERT_OUTCOME_UNCHANGED}
    assert mesh.encoder.images == [b"same"]


async def test_a_bad_one_of_many_of_one_image_fails_alone(mesh: Mesh) -> None:
    items = [item(str(n), b"same", metadata=struct(**{"refuse" if n == 5 else f"k{n}": "x"})) for n in range(10)]
    results = await mesh.ingest(*items)
    assert [n for n in range(10) if results[str(n)].HasField("error")] == [5]
    [stored] = mesh.stored().values()
    assert sorted(stored.metadata.fields) == [f"k{n}" for n in range(10) if n != 5]
