"""ClassifyImages through a router in front of several encoders."""

import asyncio
import hashlib
from typing import Any

import pytest

from lensmesh.common.v1 import common_pb2
from lensmesh.encoder.v1 import encoder_pb2
from lensmesh_chassis.errors import InvalidInput, PreconditionFailed, Unavailable
from lensmesh_chassis.reasons import Reason
from tests.router.conftest import Mesh
from tests.router.fakes import SPACE, FakeEncoder, vector
from tests.router.helpers import error_of, fields_of
from tests.support.waiting import until

LABELS = ["cat", "dog", "bird"]
Request = encoder_pb2.ClassifyImagesRequest


def images(*contents: bytes) -> list[common_pb2.Image]:
    return [common_pb2.Image(content=content) for content in contents]


def likes(content: bytes, labels: list[str]) -> list[float]:
    """What the fake says of an image."""
    data = vector(content, SPACE).data
    return [hashlib.sha256(data + label.encode()).digest()[0] / 255 for label in labels]


@pytest.fixture
async def two(unstarted: Mesh) -> Mesh:
    """Two encoders of one space that take 40 items."""
    unstarted.encoders = [FakeEncoder(max_items=40), FakeEncoder(max_items=40)]
    return await unstarted.start()


async def test_images_are_cut_to_what_encoders_take_and_all_options_go_along(two: Mesh) -> None:
    contents = [b"bad" if n == 155 else f"p{n}".encode() for n in range(200)]
    request = Request(images=images(*contents), labels=LABELS, templates=["a {}", "the {}"], top=2)
    answer = await two.encoder_service.ClassifyImages(request)
    assert len(answer.results) == 200
    for index, (content, result) in enumerate(zip(contents, answer.results, strict=True)):
        if index == 155:
            assert fields_of(result.error) == ["images[155].content"]
            continue
        expected = sorted(zip(likes(content, LABELS), LABELS, strict=True), reverse=True)[:2]
        assert [each.label for each in result.scores.best] == [label for _, label in expected]
        assert [each.probability for each in result.scores.best] == pytest.approx([each for each, _ in expected])
    calls = [call for encoder in two.encoders for call in encoder.classified]
    assert {len(call.images) for call in calls} == {40}
    assert {(tuple(call.labels), tuple(call.templates), call.top, call.space_id) for call in calls} == {
        (tuple(LABELS), ("a {}", "the {}"), 2, SPACE.id)
    }


async def test_vectors_are_passed_on_and_told_by_the_callers_count(two: Mesh) -> None:
    vectors = [vector(f"p{n}".encode(), SPACE) for n in range(90)]
    vectors[77] = common_pb2.Embedding(space_id="vs1-other", floats=[1])
    answer = await two.encoder_service.ClassifyImages(Request(embeddings=vectors, labels=LABELS))
    assert list(answer.results[3].scores.probabilities) == pytest.approx(likes(b"p3", LABELS))
    assert fields_of(answer.results[77].error) == ["embeddings[77].space_id"]
    assert sum(result.HasField("error") for result in answer.results) == 1


@pytest.mark.parametrize(
    ("change", "reason", "field"),
    [
        ({"images": []}, Reason.NO_ITEMS, "images"),
        ({"images": images(*[b"p"] * 257)}, Reason.TOO_MANY_ITEMS, "images"),
        ({"embeddings": [vector(b"p", SPACE)]}, Reason.OPTION_INVALID, "embeddings"),
        ({"images": [], "embeddings": [vector(b"p", SPACE)] * 257}, Reason.TOO_MANY_ITEMS, "embeddings"),
        ({"space_id": "vs1-0"}, Reason.SPACE_NOT_SERVED, ""),
    ],
)
async def test_what_is_wrong_fails_the_call(mesh: Mesh, change: dict[str, Any], reason: Reason, field: str) -> None:
    request = Request(**{"images": images(b"p"), "labels": LABELS, **change})
    error = await error_of(mesh.encoder_service.ClassifyImages(request))
    assert isinstance(error, InvalidInput | PreconditionFailed)
    assert error.reason is reason
    assert [violation.field for violation in error.violations] == ([field] if field else [])
    assert not mesh.encoder.classified


async def test_an_encoders_word_on_the_labels_is_the_callers_answer(mesh: Mesh) -> None:
    refusal = InvalidInput(Reason.TEXT_EMPTY, "labels[1] is empty", field="labels[1]")
    mesh.encoder.faults.fail_next = [refusal]
    error = await error_of(mesh.encoder_service.ClassifyImages(Request(images=images(b"p"), labels=["a", ""])))
    assert (error.reason, error.violations[0].field) == (Reason.TEXT_EMPTY, "labels[1]")


async def test_no_labels_are_the_encoders_to_refuse(mesh: Mesh) -> None:
    for top in (0, 3):
        request = Request(images=images(b"p"), labels=[], top=top)
        await mesh.encoder_service.ClassifyImages(request)
    assert len(mesh.encoder.classified) == 2


async def test_a_replica_that_ends_meanwhile_leaves_its_work_to_the_other(two: Mesh) -> None:
    gone = two.encoders[0]
    gone.faults.fail_always = Unavailable(Reason.DRAINING, "it ends")
    contents = [f"p{n}".encode() for n in range(120)]
    answer = await two.encoder_service.ClassifyImages(Request(images=images(*contents), labels=LABELS))
    assert [list(result.scores.probabilities) for result in answer.results] == [
        pytest.approx(likes(content, LABELS)) for content in contents
    ]
    await two.host(gone).kill()
    again = await two.encoder_service.ClassifyImages(Request(images=images(*contents), labels=LABELS))
    assert len(again.results) == 120
    assert not gone.classified


@pytest.mark.parametrize("of_vectors", [False, True])
async def test_a_replica_that_ends_under_a_call_leaves_its_work_to_the_other(two: Mesh, of_vectors: bool) -> None:
    gone = two.encoders[0]
    gone.faults.gate = asyncio.Event()
    contents = [f"p{n}".encode() for n in range(80)]
    given: dict[str, Any] = (
        {"embeddings": [vector(content, SPACE) for content in contents]}
        if of_vectors
        else {"images": images(*contents)}
    )
    call = asyncio.ensure_future(two.encoder_service.ClassifyImages(Request(labels=LABELS, **given)))
    await until(lambda: gone.faults.in_flight > 0)
    await two.host(gone).kill()
    answer = await call
    assert [list(result.scores.probabilities) for result in answer.results] == [
        pytest.approx(likes(content, LABELS)) for content in contents
    ]


async def test_labels_count_in_what_one_call_may_hold(unstarted: Mesh) -> None:
    limit = unstarted.encoder.max_message_bytes = 180 * 1024
    mesh = await unstarted.start()
    labels = [f"a label of some length, number {n}" for n in range(3_000)]
    contents = [f"{n}".encode().ljust(30_000, b"x") for n in range(4)]
    answer = await mesh.encoder_service.ClassifyImages(Request(images=images(*contents), labels=labels, top=1))
    assert len(answer.results) == 4
    calls = mesh.encoder.classified
    assert len(calls) > 1
    assert max(call.ByteSize() for call in calls) <= limit
    labels = [f"{'a longer label ' * 20}, number {n}" for n in range(1_000)]
    error = await error_of(mesh.encoder_service.ClassifyImages(Request(images=images(b"p"), labels=labels, top=1)))
    assert error.reason is Reason.MESSAGE_TOO_LARGE
    assert "labels" in error.message


async def test_an_answer_that_would_be_too_large_names_top(unstarted: Mesh) -> None:
    mesh = await unstarted.start(max_message_bytes=64 * 1024)
    request = Request(images=images(*[b"p"] * 100), labels=[f"{n}" for n in range(1_000)])
    error = await error_of(mesh.encoder_service.ClassifyImages(request))
    assert (error.reason, error.violations[0].field) == (Reason.RESPONSE_TOO_LARGE, "top")
    request.top = int(error.metadata["fits"])
    assert len((await mesh.encoder_service.ClassifyImages(request)).results) == 100


async def test_the_limit_of_labels_is_told(mesh: Mesh) -> None:
    info = await mesh.encoder_service.GetInfo(encoder_pb2.GetInfoRequest())
    assert info.limits.max_labels == 10_000
    assert info.models[0].logit_scale == 100
