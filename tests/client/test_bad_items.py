"""What cannot be sent is refused in the client, alone, with an error of ours; what a server cannot take is given up."""

import os
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lensmesh_client import Client, ImageLike, IngestItem, IngestResult
from lensmesh_client.errors import InvalidInput, LensmeshError, Reason, Unavailable
from lensmesh_client.metadata import MAX_DEPTH, struct
from tests.client.fake_router import FakeRouter

NOT_UTF8 = os.fsdecode(b"caf\xe9.jpg")


def nested(depth: int, kind: type) -> object:
    """Metadata of `depth` levels."""
    value: object = 1
    for _ in range(depth - 1):
        value = {"a": value} if kind is dict else [value]
    return {"m": value}


def endless() -> dict[str, Any]:
    value: dict[str, Any] = {}
    value["a"] = value["b"] = [value]
    return value


def shared() -> dict[str, Any]:
    """Ten levels, each of which holds the next ten times over."""
    value: Any = 1
    for _ in range(10):
        value = {str(key): value for key in range(10)}
    assert isinstance(value, dict)
    return value


class Failing:
    """As a PIL image whose file is damaged."""

    mode = "RGB"

    def save(self, *_: object, **__: object) -> None:
        raise SyntaxError("broken PNG file")


class Tensor:
    """As one of torch's that needs a gradient."""

    def __array__(self, *_: object, **__: object) -> np.ndarray[Any, Any]:
        raise RuntimeError("Can't call numpy() on Tensor that requires grad.")


async def all_of(results: AsyncIterator[IngestResult]) -> dict[int, IngestResult]:
    return {result.index: result async for result in results}


BAD = {
    "17 levels": (IngestItem(b"x", metadata=nested(17, dict)), Reason.METADATA_TOO_DEEP),  # type: ignore[arg-type]
    "40 lists": (IngestItem(b"x", metadata=nested(40, list)), Reason.METADATA_TOO_DEEP),  # type: ignore[arg-type]
    "2,000 levels": (IngestItem(b"x", metadata=nested(2_000, list)), Reason.METADATA_TOO_DEEP),  # type: ignore[arg-type]
    "endless": (IngestItem(b"x", metadata=endless()), Reason.METADATA_TOO_DEEP),
    "shared": (IngestItem(b"x", metadata=shared()), Reason.METADATA_TOO_LARGE),
    "key": (IngestItem(b"x", metadata={NOT_UTF8: 1}), Reason.METADATA_INVALID),
    "value": (IngestItem(b"x", metadata={"file": [NOT_UTF8]}), Reason.METADATA_INVALID),
    "bytes": (IngestItem(b"x", metadata={"raw": b"x"}), Reason.METADATA_INVALID),
    "key of a number": (IngestItem(b"x", metadata={"n": {1: 2}}), Reason.METADATA_INVALID),
    "no mapping": (IngestItem(b"x", metadata=[1]), Reason.METADATA_INVALID),  # type: ignore[arg-type]
    "id": (IngestItem(b"x", id=NOT_UTF8), Reason.ITEM_ID_INVALID),
    "id of a number": (IngestItem(b"x", id=3), Reason.ITEM_ID_INVALID),  # type: ignore[arg-type]
    "caption": (IngestItem(b"x", caption=NOT_UTF8), Reason.TEXT_INVALID),
    "image_uri": (IngestItem(b"x", image_uri=NOT_UTF8), Reason.TEXT_INVALID),
    "path": (NOT_UTF8, Reason.IMAGE_MISSING),
    "path with NUL": ("a\0b.jpg", Reason.IMAGE_MISSING),
    "no image": (None, Reason.IMAGE_MISSING),
    "an image that fails": (Failing(), Reason.IMAGE_MISSING),
}


async def test_each_kind_of_bad_item_fails_alone_and_unsent(client: Client, router: FakeRouter) -> None:
    good = [IngestItem(b"good %d" % index) for index in range(10)]
    items = [*good[:5], *(item for item, _ in BAD.values()), *good[5:]]
    results = await all_of(client.ingest_many(items))  # type: ignore[arg-type]  # that is what is tried
    assert sorted(results) == list(range(len(items)))
    assert router.streams == 1
    assert len(router.stored) == len(good)
    for index, (name, (_, reason)) in enumerate(BAD.items(), start=5):
        error = results[index].error
        assert isinstance(error, InvalidInput), name
        assert error.reason is reason, name


@pytest.mark.parametrize("name", BAD)
async def test_one_bad_item_is_a_typed_error_too(client: Client, router: FakeRouter, name: str) -> None:
    item, reason = BAD[name]
    with pytest.raises(InvalidInput) as caught:
        await client.ingest(item)  # type: ignore[arg-type]
    assert caught.value.reason is reason
    assert router.calls == []


async def test_files_are_read_within_bounds(client: Client, router: FakeRouter, tmp_path: Path) -> None:
    """What is no file would be read for ever, and what is too large would be held for nothing."""
    router.max_image_bytes = 1000
    os.mkfifo(tmp_path / "pipe")
    good, large = tmp_path / "good.jpg", tmp_path / "large.tif"
    good.write_bytes(b"x" * 1000)
    with large.open("wb") as file:
        file.truncate(8 << 30)
    paths: list[ImageLike] = [good, tmp_path / "pipe", "/dev/zero", large, tmp_path]
    results = await all_of(client.ingest_many([*paths]))
    reasons = [results[index].error.reason for index in range(1, 5)]  # type: ignore[union-attr]
    assert results[0].ok
    assert reasons == [Reason.IMAGE_MISSING, Reason.IMAGE_MISSING, Reason.IMAGE_TOO_LARGE, Reason.IMAGE_MISSING]
    for path in paths[1:]:
        with pytest.raises(InvalidInput):
            await client.ingest(path)
        with pytest.raises(InvalidInput):
            await client.search(image=path)
    assert (await client.search(image=good)).hits
    good.write_bytes(b"x" * 1001)
    with pytest.raises(InvalidInput) as caught:
        await client.search(image=good)
    assert caught.value.reason is Reason.IMAGE_TOO_LARGE
    good.write_bytes(b"x")
    captions = await client.caption(paths)
    assert [caption.error is None for caption in captions] == [True, False, False, False, False]


async def test_a_name_that_is_not_utf8_may_be_a_ref(client: Client) -> None:
    results = await all_of(client.ingest_many([IngestItem(b"x", ref=NOT_UTF8)]))
    assert results[0].ok
    assert results[0].ref == NOT_UTF8
    assert (await client.ingest(IngestItem(b"x", ref=NOT_UTF8))).ref == NOT_UTF8


def test_metadata_of_all_that_json_holds() -> None:
    deepest = nested(MAX_DEPTH, list)
    assert isinstance(deepest, dict)
    made = struct({**deepest, "n": None, "f": 1.5, "i": np.int64(3), "g": np.float32(0.5), "t": (1, True), "e": {}})
    assert made["i"] == 3
    assert made["g"] == 0.5
    assert made.fields["n"].WhichOneof("kind") == "null_value"
    assert made.fields["e"].WhichOneof("kind") == "struct_value"
    assert made.fields["t"].list_value.values[1].bool_value is True


CALLS: dict[str, Callable[[Client], Any]] = {
    "text": lambda mesh: mesh.search(NOT_UTF8),
    "filter": lambda mesh: mesh.search("x", filter=f"f={NOT_UTF8}"),
    "filter field": lambda mesh: mesh.search("x", filter=f"{NOT_UTF8}=1"),
    "collection": lambda mesh: mesh.search("x", collection=NOT_UTF8),
    "item": lambda mesh: mesh.search(item_id=NOT_UTF8),
    "space": lambda mesh: mesh.search("x", space=NOT_UTF8),
    "limit": lambda mesh: mesh.search("x", limit=-1),
    "limit too far": lambda mesh: mesh.search("x", limit=2**40),
    "vector": lambda mesh: mesh.search(embedding=["a"]),
    "tensor": lambda mesh: mesh.search(embedding=Tensor()),
    "image": lambda mesh: mesh.search(image=Failing()),  # type: ignore[arg-type]
    "vector space": lambda mesh: mesh.search(embedding=[1.0], space_id=NOT_UTF8),
    "embed space": lambda mesh: mesh.embed(texts=["x"], space_id=NOT_UTF8),
    "prompt": lambda mesh: mesh.caption([b"x"], prompt=NOT_UTF8),
    "beams": lambda mesh: mesh.caption([b"x"], beams=-1),
    "collection of an ingest": lambda mesh: mesh.ingest(b"x", collection=NOT_UTF8),
    "collection of a stream": lambda mesh: anext(mesh.ingest_many([b"x"], collection=NOT_UTF8)),
}


@pytest.mark.parametrize("name", CALLS)
async def test_arguments_that_no_message_can_hold(client: Client, router: FakeRouter, name: str) -> None:
    with pytest.raises(InvalidInput):
        await CALLS[name](client)
    assert router.calls == []


async def test_a_bad_text_fails_alone(client: Client) -> None:
    found = await client.embed(texts=["a", NOT_UTF8, 3, "b"])  # type: ignore[list-item]
    assert sorted(found.errors) == [1, 2]
    assert {error.reason for error in found.errors.values()} == {Reason.TEXT_INVALID}
    assert not np.isnan(found.vectors[[0, 3]]).any()


@pytest.mark.parametrize("fault", ["malformed", "fatal"])
async def test_items_that_end_streams_are_given_up_and_the_others_stored(
    client: Client, router: FakeRouter, fault: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lensmesh_client.bulk.FIRST_DELAY_S", 0.001)
    setattr(router, fault, {b"image 3", b"image 77"})
    told: list[LensmeshError] = []
    results = await all_of(
        client.ingest_many([b"image %d" % index for index in range(100)], on_resume=lambda error, _: told.append(error))
    )
    assert sorted(results) == list(range(100))
    failed = {index: result.error for index, result in results.items() if result.error is not None}
    assert sorted(failed) == [3, 77]
    for error in failed.values():
        assert isinstance(error, InvalidInput if fault == "malformed" else Unavailable)
        assert "given up" in error.message
    assert len({name for name, _ in router.stored}) == 98
    # By halves: not one stream for each item that was out.
    assert router.streams < 40
