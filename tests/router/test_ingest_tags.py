"""Labels that an ingest writes into the metadata of the items that they fit."""

import asyncio
import hashlib
from typing import Any

import pytest
from google.protobuf import json_format, struct_pb2

from lensmesh.common.v1 import common_pb2
from lensmesh.router.v1 import router_pb2
from lensmesh.search.v1 import search_pb2
from lensmesh_chassis.errors import InvalidInput, Unavailable
from lensmesh_chassis.reasons import Reason
from tests.router.conftest import Mesh
from tests.router.fakes import OTHER_SPACE, SPACE, FakeEncoder, vector
from tests.router.helpers import error_of, fields_of, item, reason_of
from tests.support.waiting import until

LABELS = ["cat", "dog", "bird", "fish"]
CREATED, UPDATED, UNCHANGED = (
    search_pb2.UPSERT_OUTCOME_CREATED,
    search_pb2.UPSERT_OUTCOME_UPDATED,
    search_pb2.UPSERT_OUTCOME_UNCHANGED,
)


def tags(**changes: Any) -> router_pb2.TagOptions:
    return router_pb2.TagOptions(**{"labels": LABELS, **changes})


def struct(**fields: Any) -> struct_pb2.Struct:
    made = struct_pb2.Struct()
    made.update(fields)
    return made


def expected(content: bytes, space: common_pb2.VectorSpace = SPACE, labels: list[str] = LABELS) -> dict[str, float]:
    """What the fake encoder says of each label, the best first."""
    data = vector(content, space).data
    likes = {label: hashlib.sha256(data + label.encode()).digest()[0] / 255 for label in labels}
    return dict(sorted(likes.items(), key=lambda like: -like[1]))


def stored(mesh: Mesh, item_id: str) -> dict[str, Any]:
    return dict(json_format.MessageToDict(mesh.stored()[item_id].metadata))


async def ingest(mesh: Mesh, *items: router_pb2.IngestItem, **options: Any) -> dict[str, router_pb2.IngestResult]:
    return await mesh.ingest(*items, **{"tags": tags(), **options})


async def test_the_best_labels_are_written_with_their_probabilities(mesh: Mesh) -> None:
    results = await ingest(
        mesh,
        *(item(f"p{n}", id=f"id{n}", metadata=struct(n="1")) for n in range(30)),
        tags=tags(min_probability=0.3, max_tags=2, templates=["a {}", "the {}"]),
    )
    for n in range(30):
        likes = {label: like for label, like in list(expected(f"p{n}".encode()).items())[:2] if like >= 0.3}
        found = stored(mesh, f"id{n}")
        assert found["tags"] == list(likes)
        assert found["tags_probability"] == pytest.approx(likes, abs=1e-5)
        assert len(found["tags_digest"]) == 16
        assert set(found) == {"n", "tags", "tags_probability", "tags_digest"}
        told = results[f"p{n}"].item.tags
        assert [(LABELS[each.index], each.label) for each in told] == [(label, label) for label in likes]
        assert [each.probability for each in told] == pytest.approx(list(likes.values()), abs=1e-5)
    # Each image was looked at once: the vector is what is compared.
    assert len(mesh.encoder.images) == 30
    [call] = {(tuple(call.templates), call.top, call.space_id) for call in mesh.encoder.classified}
    assert call == (("a {}", "the {}"), 2, SPACE.id)
    assert sum(len(call.embeddings) for call in mesh.encoder.classified) == 30
    assert {call.priority for call in mesh.encoder.classified} == {common_pb2.PRIORITY_BULK}


async def test_by_default_ten_labels_from_a_tenth_on(mesh: Mesh) -> None:
    labels = [f"label {n}" for n in range(40)]
    await ingest(mesh, item("p", id="x"), tags=router_pb2.TagOptions(labels=labels))
    found = stored(mesh, "x")
    assert found["tags"] == list(expected(b"p", labels=labels))[:10]
    await ingest(mesh, item("p", id="x"), tags=tags(min_probability=1))
    assert stored(mesh, "x")["tags"] == []


@pytest.mark.parametrize("policy", [search_pb2.METADATA_POLICY_MERGE, search_pb2.METADATA_POLICY_REPLACE])
async def test_what_has_its_tags_is_unchanged_and_no_model_runs(
    mesh: Mesh, policy: search_pb2.MetadataPolicy.ValueType
) -> None:
    images = [item(f"p{n}", id=f"id{n}", metadata=struct(a="b")) for n in range(5)]
    first = await ingest(mesh, *images, metadata_policy=policy)
    done = len(mesh.encoder.images), len(mesh.encoder.classified), len(mesh.search.writes)
    again = await ingest(mesh, *images, metadata_policy=policy)
    assert {result.item.outcome for result in again.values()} == {UNCHANGED}
    assert (len(mesh.encoder.images), len(mesh.encoder.classified), len(mesh.search.writes)) == done
    assert list(again["p3"].item.tags) == list(first["p3"].item.tags)
    assert first["p3"].item.tags


async def test_stored_items_get_tags_from_their_stored_vectors(mesh: Mesh) -> None:
    await mesh.ingest(item("p", id="x", metadata=struct(a="b")))
    [result] = (await ingest(mesh, item("p", id="x"))).values()
    assert result.item.outcome == UPDATED
    assert list(result.item.changes) == [search_pb2.ITEM_CHANGE_METADATA]
    assert len(mesh.encoder.images) == 1
    assert stored(mesh, "x")["tags"][0] == next(iter(expected(b"p")))
    assert stored(mesh, "x")["a"] == "b"


@pytest.mark.parametrize(
    "change",
    [
        {"labels": [*LABELS, "horse"]},
        {"templates": ["the {}"]},
        {"min_probability": 0.5},
        {"max_tags": 1},
    ],
)
async def test_another_setting_makes_other_tags(mesh: Mesh, change: dict[str, Any]) -> None:
    await ingest(mesh, item("p", id="x"))
    before = stored(mesh, "x")["tags_digest"]
    [result] = (await ingest(mesh, item("p", id="x"), tags=tags(**change))).values()
    assert result.item.outcome == UPDATED
    assert len(mesh.encoder.classified) == 2
    assert len(mesh.encoder.images) == 1
    assert stored(mesh, "x")["tags_digest"] != before


async def test_another_image_under_the_id_gets_tags_of_its_own(mesh: Mesh) -> None:
    await ingest(mesh, item("p", b"one", id="x"))
    # This ingest knows nothing of tags, and leaves those of the image before.
    await mesh.ingest(item("p", b"two", id="x"))
    assert stored(mesh, "x")["tags"] == [label for label, like in expected(b"one").items() if like >= 0.1]
    [result] = (await ingest(mesh, item("p", b"two", id="x"))).values()
    assert result.item.outcome == UPDATED
    assert stored(mesh, "x")["tags"] == [label for label, like in expected(b"two").items() if like >= 0.1]


async def test_the_same_image_under_another_id_takes_its_tags_over(mesh: Mesh) -> None:
    await ingest(mesh, item("p", id="first"))
    [result] = (await ingest(mesh, item("p", id="second"))).values()
    assert result.item.outcome == CREATED
    assert len(mesh.encoder.classified) == 1
    assert stored(mesh, "second") == stored(mesh, "first")
    # Also where the other one is there without.
    await mesh.ingest(item("q", id="third"))
    await ingest(mesh, item("q", id="fourth"))
    calls = len(mesh.encoder.classified)
    [taken] = (await ingest(mesh, item("q", id="third"))).values()
    assert taken.item.outcome == UPDATED
    assert len(mesh.encoder.classified) == calls
    assert stored(mesh, "third") == stored(mesh, "fourth")


async def test_metadata_that_changes_leaves_the_tags(mesh: Mesh) -> None:
    for policy in (search_pb2.METADATA_POLICY_MERGE, search_pb2.METADATA_POLICY_REPLACE):
        await ingest(mesh, item("p", id="x", metadata=struct(a="1")), metadata_policy=policy)
        before = stored(mesh, "x")
        [result] = (await ingest(mesh, item("p", id="x", metadata=struct(a="2")), metadata_policy=policy)).values()
        assert result.item.outcome == UPDATED
        assert stored(mesh, "x") == {**before, "a": "2"}
    assert len(mesh.encoder.classified) == 1


async def test_a_field_of_another_name(mesh: Mesh) -> None:
    await ingest(mesh, item("p", id="x", metadata=struct(tags="mine")), tags=tags(field="seen"))
    found = stored(mesh, "x")
    assert found["tags"] == "mine"
    assert {"seen", "seen_probability", "seen_digest"} < set(found)


async def test_what_a_caller_keeps_under_that_name_is_never_written_over(mesh: Mesh) -> None:
    await mesh.ingest(item("p", id="kept", metadata=struct(tags=["mine"])))
    results = await ingest(
        mesh,
        item("p", id="kept"),
        item("q", id="carried", metadata=struct(tags=["mine"])),
        item("r", id="digest", metadata=struct(tags_digest="0" * 16)),
        item("s", id="good"),
    )
    assert [reason_of(results[ref].error) for ref in "pqr"] == [Reason.METADATA_INVALID] * 3
    assert [fields_of(results[ref].error) for ref in "pqr"] == [
        ["options.tags.field"],
        ["metadata.tags"],
        ["metadata.tags_digest"],
    ]
    assert results["s"].item.tags
    assert stored(mesh, "kept") == {"tags": ["mine"]}
    assert b"q" not in mesh.encoder.images
    # Whoever says that nothing else is kept has said it of this too.
    replaced = await ingest(mesh, item("p", id="kept"), metadata_policy=search_pb2.METADATA_POLICY_REPLACE)
    assert replaced["p"].item.outcome == UPDATED
    one = router_pb2.IngestRequest(
        options=router_pb2.IngestOptions(tags=tags()), item=item("q", id="carried", metadata=struct(tags="mine"))
    )
    error = await error_of(mesh.router.Ingest(one))
    assert error.violations[0].field == "item.metadata.tags"


async def test_the_space_that_labels_are_compared_in(unstarted: Mesh) -> None:
    unstarted.encoders = [FakeEncoder(SPACE, OTHER_SPACE)]
    mesh = await unstarted.start()
    mesh.search.make("two", ("image", SPACE), ("second", OTHER_SPACE))
    await ingest(mesh, item("p", id="x"), collection="two", tags=tags(space="second"))
    found = dict(json_format.MessageToDict(mesh.stored("two")["x"].metadata))
    assert found["tags"][0] == next(iter(expected(b"p", OTHER_SPACE)))
    error = await error_of(mesh.router.Ingest(request(tags(space="third"), collection="two")))
    assert (error.reason, error.violations[0].field) == (Reason.SPACE_UNKNOWN, "options.tags.space")


def request(tag_options: router_pb2.TagOptions, **options: Any) -> router_pb2.IngestRequest:
    return router_pb2.IngestRequest(options=router_pb2.IngestOptions(tags=tag_options, **options), item=item("p"))


@pytest.mark.parametrize(
    ("change", "reason", "field"),
    [
        ({"labels": []}, Reason.NO_ITEMS, "labels"),
        ({"labels": ["cat"]}, Reason.OPTION_INVALID, "labels"),
        ({"labels": ["cat", ""]}, Reason.TEXT_EMPTY, "labels[1]"),
        ({"labels": ["cat", "dog", "cat"]}, Reason.OPTION_INVALID, "labels[2]"),
        ({"labels": ["cat", "d\0g"]}, Reason.TEXT_INVALID, "labels[1]"),
        ({"labels": [f"{n}" for n in range(10_001)]}, Reason.TOO_MANY_ITEMS, "labels"),
        ({"templates": ["a cat"]}, Reason.OPTION_INVALID, "templates[0]"),
        ({"field": "a.b"}, Reason.OPTION_INVALID, "field"),
        ({"field": "$tags"}, Reason.OPTION_INVALID, "field"),
        ({"field": "t" * 65}, Reason.OPTION_INVALID, "field"),
        ({"min_probability": -0.1}, Reason.OPTION_INVALID, "min_probability"),
        ({"min_probability": float("nan")}, Reason.OPTION_INVALID, "min_probability"),
        ({"max_tags": 101}, Reason.OPTION_INVALID, "max_tags"),
        ({"space": "other"}, Reason.SPACE_UNKNOWN, "space"),
    ],
)
async def test_wrong_options_fail_the_call_before_any_work(
    mesh: Mesh, change: dict[str, Any], reason: Reason, field: str
) -> None:
    error = await error_of(mesh.router.Ingest(request(tags(**change))))
    assert (error.reason, error.violations[0].field) == (reason, f"options.tags.{field}")
    assert not mesh.encoder.images


async def test_a_model_that_cannot_classify_is_named_before_any_work(unstarted: Mesh) -> None:
    unstarted.encoder.logit_scale = 0
    mesh = await unstarted.start()
    error = await error_of(mesh.router.Ingest(request(tags())))
    assert (error.reason, error.violations[0].field) == (Reason.CLASSIFY_UNSUPPORTED, "options.tags.space")
    assert not mesh.encoder.images


async def test_an_item_whose_tags_cannot_be_made_is_not_stored(mesh: Mesh) -> None:
    await mesh.ingest(item("q", id="there"))
    mesh.encoder.faults.fail_next = [InvalidInput(Reason.TEXT_TOO_LONG, "labels[0] is too long", field="labels[0]")]
    results = await ingest(mesh, item("q", id="there"))
    assert reason_of(results["q"].error) == Reason.TEXT_TOO_LONG
    assert stored(mesh, "there") == {}
    assert len(mesh.stored()) == 1


async def test_tags_wait_for_an_encoder_that_comes_back(mesh: Mesh) -> None:
    await mesh.ingest(item("q", id="there"))
    mesh.encoder.faults.fail_next = [Unavailable(Reason.DRAINING, "it ends")] * 2
    results = await ingest(mesh, item("q", id="there"))
    assert results["q"].item.tags


async def test_a_stream_that_is_left_asks_for_no_more_tags(mesh: Mesh) -> None:
    await mesh.ingest(*(item(f"p{n}", id=f"id{n}") for n in range(4)))
    mesh.encoder.faults.gate = asyncio.Event()
    stream = asyncio.ensure_future(ingest(mesh, *(item(f"p{n}", id=f"id{n}") for n in range(4))))
    await until(lambda: mesh.encoder.faults.in_flight > 0)
    stream.cancel()
    await until(lambda: mesh.encoder.faults.in_flight == 0)
    assert not any(stored(mesh, f"id{n}") for n in range(4))
