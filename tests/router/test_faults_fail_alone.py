"""Faults that nobody foresaw, thrown for one item in the middle: it fails, or its call's items do, and no others."""

from collections.abc import Callable
from typing import Any

import pytest

from lensmesh.common.v1 import common_pb2
from lensmesh.encoder.v1 import encoder_pb2
from router_svc.ingest import items, writer
from router_svc.ingest.turns import Turns
from router_svc.upstreams import batch_call, errors, models, pool
from tests.router.conftest import Mesh
from tests.router.helpers import item, reason_of, request

FAULTS = [RuntimeError("secret"), ValueError("secret"), UnicodeError("secret")]
pytestmark = pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: type(fault).__name__)


def throwing(fault: Exception, real: Callable[..., Any], when: Callable[..., bool]) -> Callable[..., Any]:
    """`real`, but where it is called with what `when` tells, it throws."""

    def fake(*arguments: Any, **named: Any) -> Any:
        if when(*arguments):
            raise fault
        return real(*arguments, **named)

    return fake


def images(*contents: bytes) -> encoder_pb2.EncodeImagesRequest:
    return encoder_pb2.EncodeImagesRequest(images=[common_pb2.Image(content=content) for content in contents])


def outcomes(results: Any) -> list[str]:
    """What each item has: INTERNAL, or its outcome's name."""
    return [reason_of(one.error) if one.HasField("error") else str(one.WhichOneof("outcome")) for one in results]


async def test_an_answer_and_a_size_that_cannot_be_handled_are_their_own_items(
    unstarted: Mesh, fault: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    size = throwing(fault, models.ImageEncoding.size_of, lambda _, image: image.content == b"odd")
    monkeypatch.setattr(models.ImageEncoding, "size_of", size)
    mesh = await unstarted.start()
    monkeypatch.setattr(batch_call, "repath", throwing(fault, errors.repath, lambda *_: True))
    results = (await mesh.encoder_service.EncodeImages(images(b"a", b"bad", b"b"))).results
    assert outcomes(results) == ["embedding", "INTERNAL", "embedding"]
    assert "secret" not in str(results[1])
    results = (await mesh.encoder_service.EncodeImages(images(b"a", b"odd", b"b"))).results
    assert outcomes(results) == ["embedding", "INTERNAL", "embedding"]


async def test_a_fault_of_one_call_is_that_calls_items(
    unstarted: Mesh, fault: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    unstarted.encoders[0].max_items = 1
    mesh = await unstarted.start()

    def is_odd(_: Any, reply: Any) -> bool:
        return any(result.embedding.data == odd_data for result in getattr(reply, "results", ()))

    odd_data = (await mesh.encoder_service.EncodeImages(images(b"odd"))).results[0].embedding.data
    monkeypatch.setattr(pool, "readable", throwing(fault, errors.readable, is_odd))
    results = (await mesh.encoder_service.EncodeImages(images(b"a", b"odd", b"b"))).results
    assert outcomes(results) == ["embedding", "INTERNAL", "embedding"]
    sent = [
        encoder_pb2.EncodeStreamItem(ref=ref, image=image)
        for ref, image in zip("aob", images(b"a", b"odd", b"b").images, strict=True)
    ]
    answers = [
        one
        async for group in mesh.encoder_service.EncodeStream(iter([encoder_pb2.EncodeStreamRequest(items=sent)]))
        for one in group.results
    ]
    assert {one.ref: outcomes([one.result])[0] for one in answers} == {
        "a": "embedding",
        "o": "INTERNAL",
        "b": "embedding",
    }


async def test_a_refusal_of_the_store_that_cannot_be_read_is_its_own_items(
    mesh: Mesh, fault: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "repath", throwing(fault, errors.repath, lambda *_: True))
    odd = item("odd")
    odd.metadata["refuse"] = True
    results = await mesh.ingest(item("a"), odd, item("b"))
    assert {ref: outcomes([result])[0] for ref, result in results.items()} == {
        "a": "item",
        "odd": "INTERNAL",
        "b": "item",
    }


@pytest.mark.parametrize("by_address", [False, True])
async def test_an_item_that_cannot_be_taken_in_is_answered(
    mesh: Mesh, fault: Exception, by_address: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def content(image: common_pb2.Image, *_: Any) -> bytes:
        return image.content or image.uri.encode()

    monkeypatch.setattr(items, "image_content", content)
    monkeypatch.setattr(Turns, "take", throwing(fault, Turns.take, lambda _, wanted: wanted.id == "odd"))
    sent = [item(ref, b"" if by_address else None, id=ref) for ref in ("a", "odd", "b")]
    for one in sent if by_address else ():
        one.image.uri = one.ref
    results = await mesh.ingest_messages([request(sent), request([item("later")])])
    got = {ref: outcomes([result])[0] for ref, result in results.items()}
    assert got == {"a": "item", "odd": "INTERNAL", "b": "item", "later": "item"}
