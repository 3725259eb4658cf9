"""A bad item fails alone, with its own reason and path; a bad option fails the call."""

import hashlib
from typing import Any

import grpc
import pytest
from google.protobuf import struct_pb2

from lensmesh.caption.v1 import caption_pb2
from lensmesh.common.v1 import common_pb2
from lensmesh.router.v1 import router_pb2
from lensmesh.search.v1 import search_pb2
from lensmesh_chassis.errors import InvalidInput, LensmeshError, PreconditionFailed
from lensmesh_chassis.reasons import Reason
from tests.router.conftest import Mesh
from tests.router.fakes import OTHER_SPACE, SPACE
from tests.router.helpers import error_of, fields_of, item, reason_of, request


def refused() -> struct_pb2.Struct:
    """Metadata that the fake store does not take."""
    made = struct_pb2.Struct()
    made.update({"refuse": True})
    return made


def of(value: Any) -> struct_pb2.Struct:
    made = struct_pb2.Struct()
    made.update({"k": value})
    return made


def nested(levels: int) -> struct_pb2.Struct:
    """Metadata of so many levels of lists and objects."""
    value: Any = 1
    for level in range(levels - 1):
        value = [value] if level % 2 else {"x": value}
    return of(value)


BAD = {
    "undecodable": (item("x", b"bad image"), Reason.IMAGE_UNDECODABLE, "image.content"),
    "empty": (item("x", b""), Reason.IMAGE_EMPTY, "image.content"),
    "missing": (router_pb2.IngestItem(ref="x"), Reason.IMAGE_MISSING, "image"),
    "address": (
        router_pb2.IngestItem(ref="x", image=common_pb2.Image(uri="http://host/p.png")),
        Reason.URI_NOT_ALLOWED,
        "image.uri",
    ),
    "too large": (item("x", b"0" * 2000), Reason.IMAGE_TOO_LARGE, "image.content"),
    "other digest": (item("x", content_digest=b"0" * 32), Reason.DIGEST_MISMATCH, "content_digest"),
    "short digest": (item("x", content_digest=b"0" * 31), Reason.DIGEST_INVALID, "content_digest"),
    "long id": (item("x", id="i" * 257), Reason.ITEM_ID_INVALID, "id"),
    "control characters": (item("x", id="a\nb"), Reason.ITEM_ID_INVALID, "id"),
    "deep metadata": (item("x", metadata=nested(17)), Reason.METADATA_TOO_DEEP, "metadata"),
    "metadata too deep for an answer": (item("x", metadata=nested(28)), Reason.METADATA_TOO_DEEP, "metadata"),
    "an integer that was changed": (item("x", metadata=of(2.0**53)), Reason.METADATA_INVALID, "metadata"),
    "refused by the store": (item("x", metadata=refused()), Reason.METADATA_INVALID, "metadata"),
}


@pytest.mark.parametrize("name", sorted(BAD))
async def test_a_bad_item_of_a_stream_fails_alone(unstarted: Mesh, name: str) -> None:
    mesh = await unstarted.start(max_image_bytes=1000)
    bad, reason, field = BAD[name]
    results = await mesh.ingest(item("good1"), bad, item("good2"))
    assert results["x"].error.code == grpc.StatusCode.INVALID_ARGUMENT.value[0]
    assert (reason_of(results["x"].error), fields_of(results["x"].error)) == (reason, [field])
    assert results["good1"].HasField("item")
    assert results["good2"].HasField("item")
    assert len(mesh.stored()) == 2


@pytest.mark.parametrize("name", sorted(BAD))
async def test_a_bad_item_of_a_call_fails_the_call(unstarted: Mesh, name: str) -> None:
    mesh = await unstarted.start(max_image_bytes=1000)
    bad, reason, field = BAD[name]
    error = await error_of(mesh.router.Ingest(router_pb2.IngestRequest(item=bad)))
    assert isinstance(error, InvalidInput)
    assert (error.reason, [violation.field for violation in error.violations]) == (reason, [f"item.{field}"])
    assert mesh.stored() == {}


async def test_the_right_digest_is_accepted(mesh: Mesh) -> None:
    results = await mesh.ingest(item("p", content_digest=hashlib.sha256(b"p").digest()))
    assert results["p"].HasField("item")


async def test_an_image_without_bytes_is_no_image(mesh: Mesh) -> None:
    error = await error_of(mesh.router.Ingest(router_pb2.IngestRequest()))
    assert error.reason is Reason.IMAGE_MISSING


async def test_several_bad_ones_leave_the_batch_one_after_another(mesh: Mesh) -> None:
    images = [item(f"p{n}", metadata=refused() if n % 3 == 0 else None) for n in range(20)]
    results = await mesh.ingest(*images)
    failed = {ref for ref, result in results.items() if result.HasField("error")}
    assert failed == {f"p{n}" for n in range(0, 20, 3)}
    assert len(mesh.stored()) == 20 - len(failed)


async def refusal(mesh: Mesh, *messages: router_pb2.IngestStreamRequest) -> tuple[LensmeshError, list[str]]:
    """How a stream ends, and the refs that were answered before."""
    answered: list[str] = []

    async def read() -> None:
        async for response in mesh.router.IngestStream(iter(messages), timeout=60):
            answered.extend(result.ref for result in response.results)

    return await error_of(read()), answered


async def test_options_stand_in_the_first_message_only(mesh: Mesh) -> None:
    error, answered = await refusal(mesh, request([item("a")], collection="c"), request([item("b")], collection="c"))
    assert error.reason is Reason.OPTIONS_REPEATED
    assert answered == ["a"]


async def test_too_many_items_in_a_message(unstarted: Mesh) -> None:
    mesh = await unstarted.start(max_items=4)
    error, answered = await refusal(mesh, request([item("a")]), request(item(f"p{n}") for n in range(5)))
    assert error.reason is Reason.TOO_MANY_ITEMS
    assert answered == ["a"]


async def test_a_message_a_little_too_large(unstarted: Mesh) -> None:
    mesh = await unstarted.start(max_message_bytes=1 << 20)
    error, answered = await refusal(mesh, request([item("a")]), request([item("b", b"0" * ((1 << 20) + 1))]))
    assert error.reason is Reason.MESSAGE_TOO_LARGE
    assert answered == ["a"]


OPTIONS: dict[str, tuple[dict[str, Any], Reason, str]] = {
    "unknown space": ({"spaces": ["image", "nose"]}, Reason.SPACE_UNKNOWN, "options.spaces[1]"),
    "unknown priority": ({"priority": 77}, Reason.OPTION_INVALID, "options.priority"),
    "unknown policy": ({"captions": 77}, Reason.OPTION_INVALID, "options.captions"),
    "too many beams": (
        {"caption_options": caption_pb2.CaptionOptions(beam_count=9)},
        Reason.OPTION_INVALID,
        "options.caption_options.beam_count",
    ),
    "too many tokens": (
        {"caption_options": caption_pb2.CaptionOptions(max_tokens=101)},
        Reason.OPTION_INVALID,
        "options.caption_options.max_tokens",
    ),
    "prompt with NUL": (
        {"caption_options": caption_pb2.CaptionOptions(prompt="a\0")},
        Reason.TEXT_INVALID,
        "options.caption_options.prompt",
    ),
    "bad collection": ({"collection": "9"}, Reason.COLLECTION_INVALID, "options.collection"),
}


@pytest.mark.parametrize("name", sorted(OPTIONS))
async def test_a_bad_option_fails_the_call(mesh: Mesh, name: str) -> None:
    options, reason, field = OPTIONS[name]
    error, answered = await refusal(mesh, request([item("a")], **options))
    assert (error.reason, [violation.field for violation in error.violations]) == (reason, [field])
    assert answered == []
    assert mesh.encoder.images == []


async def test_a_collection_whose_spaces_nobody_serves(mesh: Mesh) -> None:
    mesh.search.make("foreign", ("image", OTHER_SPACE))
    error, _ = await refusal(mesh, request([item("a")], collection="foreign"))
    assert isinstance(error, PreconditionFailed)
    assert error.reason is Reason.SPACE_NOT_SERVED
    assert OTHER_SPACE.id in error.message
    assert SPACE.id in error.message


async def test_a_caption_model_that_nobody_runs(mesh: Mesh) -> None:
    error, _ = await refusal(mesh, request([item("a")], caption_options=caption_pb2.CaptionOptions(model="poet")))
    assert error.reason is Reason.MODEL_NOT_SERVED
    assert "teller" in error.message


async def test_a_stream_without_a_message_ends_without_an_answer(mesh: Mesh) -> None:
    assert await mesh.ingest_messages([]) == {}


async def test_messages_without_items_are_fine(mesh: Mesh) -> None:
    results = await mesh.ingest_messages([request([], collection="c"), request([]), request([item("a")])])
    assert set(results) == {"a"}
    assert len(mesh.stored("c")) == 1


async def test_metadata_as_deep_as_the_limit_and_negative_zero(mesh: Mesh) -> None:
    results = await mesh.ingest(item("deep", metadata=nested(16)), item("zero", metadata=of(-0.0)))
    assert all(result.HasField("item") for result in results.values())
    again = await mesh.ingest(item("zero", metadata=of(-0.0)))
    assert again["zero"].item.outcome == search_pb2.UPSERT_OUTCOME_UNCHANGED
