"""Labels of images by the client."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from lensmesh.router.v1 import router_pb2
from lensmesh_client import Client, Embedding, InvalidInput, Reason, SyncClient, Tags
from tests.client.fake_router import FakeRouter

LABELS = ["cat", "dog", "bird"]


async def test_all_labels_come_in_their_order_and_the_best_best_first(client: Client, router: FakeRouter) -> None:
    [everything] = await client.classify(b"one", LABELS, templates=["a {}", "the {}"])
    assert list(everything.probabilities) == LABELS
    assert everything.best == "bird"
    assert [label for label, _ in everything.ranked] == ["bird", "dog", "cat"]
    [few] = await client.classify(b"one", LABELS, top=2, template="the {}", priority="bulk")
    assert list(few.probabilities.items()) == [("bird", 1.0), ("dog", pytest.approx(2 / 3))]
    assert (list(router.calls[0].templates), router.calls[0].template, router.calls[0].top) == (
        ["a {}", "the {}"],
        "",
        0,
    )
    assert (list(router.calls[1].templates), router.calls[1].template, router.calls[1].top) == ([], "the {}", 2)


async def test_calls_are_cut_and_bad_images_fail_alone(client: Client, router: FakeRouter) -> None:
    router.max_items = 10
    router.unread = {b"13"}
    results = await client.classify([b"%d" % number for number in range(35)], [*LABELS, "x" * 101])
    assert [number for number, result in enumerate(results) if result.error] == [13]
    assert {len(call.images) for call in router.calls} == {10, 5}
    assert {result.truncated_labels for result in results if not result.error} == {1}
    with pytest.raises(InvalidInput):
        assert results[13].best


async def test_vectors_in_place_of_images(client: Client, router: FakeRouter) -> None:
    embeddings = await client.embed(images=[b"one", b"two"])
    router.calls.clear()
    for given in (embeddings, [embeddings[0], embeddings[1]]):
        results = await client.classify(given, LABELS)
        assert [result.best for result in results] == ["bird", "bird"]
    [one] = await client.classify(embeddings[0], LABELS)
    assert one.best == "bird"
    call = router.calls[0]
    assert (len(call.images), len(call.embeddings), call.space_id) == (0, 2, "vs1-x")
    np.testing.assert_array_equal(np.frombuffer(call.embeddings[0].data, "<f4"), embeddings.vectors[0])
    bad, good = await client.classify([Embedding(np.zeros((2, 2), np.float32), "vs1-x"), embeddings[0]], LABELS)
    assert bad.error is not None
    assert (bad.error.reason, bad.error.violations[0].field) == (Reason.VECTOR_INVALID, "embeddings[0]")
    assert good.best == "bird"


async def test_labels_count_in_what_a_call_may_hold(client: Client, router: FakeRouter) -> None:
    router.max_message_bytes = 40_000
    labels = [f"label {number:020}" for number in range(1_000)]
    results = await client.classify([bytes(3_000)] * 8, labels, top=1)
    assert [result.best for result in results] == [labels[-1]] * 8
    assert max(call.ByteSize() for call in router.calls) <= 40_000


@pytest.mark.parametrize(
    ("images", "labels", "options", "reason", "words"),
    [
        (b"one", ["cat", "dog", "cat"], {}, Reason.OPTION_INVALID, "labels[2] is the same as labels[0]"),
        (b"one", "cat", {}, Reason.OPTION_INVALID, "one text"),
        (b"one", ["cat", 5], {}, Reason.TEXT_INVALID, "labels[1]"),
        (b"one", ["cat", "\ud800"], {}, Reason.TEXT_INVALID, "labels[1]"),
        (b"one", LABELS, {"templates": "a {}"}, Reason.OPTION_INVALID, "templates"),
        (b"one", LABELS, {"templates": ["a {}", None]}, Reason.TEXT_INVALID, "templates[1]"),
        (b"one", LABELS, {"top": -1}, Reason.OPTION_INVALID, "labels"),
        ([b"one", Embedding(np.ones(4, np.float32), "vs1-x")], LABELS, {}, Reason.OPTION_INVALID, "two calls"),
    ],
)
async def test_what_cannot_be_sent_is_refused_at_once(
    client: Client, router: FakeRouter, images: Any, labels: Any, options: dict[str, Any], reason: Reason, words: str
) -> None:
    with pytest.raises(InvalidInput) as caught:
        await client.classify(images, labels, **options)
    assert caught.value.reason is reason
    assert words in caught.value.message
    assert router.calls == []


def test_without_an_event_loop(threaded_router: FakeRouter) -> None:
    with SyncClient(threaded_router.target) as client:
        [result] = client.classify(b"one", LABELS, top=1)
    assert dict(result.probabilities) == {"bird": 1.0}


async def test_an_ingest_asks_for_tags(client: Client, router: FakeRouter) -> None:
    asked = Tags(LABELS, ["a {}"], field="seen", min_probability=0.25, max_tags=3, space="image")
    router.tags = {"bird": 1.0, "dog": 0.5}
    result = await client.ingest(b"one", tags=asked)
    assert list(result.tags.items()) == [("bird", 1.0), ("dog", 0.5)]
    results = [each async for each in client.ingest_many([b"two"], tags=LABELS)]
    assert [list(each.tags) for each in results] == [["bird", "dog"]]
    await client.ingest(b"three")
    one, none = (call.options for call in router.calls)
    [many] = router.options
    assert one.tags == router_pb2.TagOptions(
        labels=LABELS, templates=["a {}"], field="seen", min_probability=0.25, max_tags=3, space="image"
    )
    assert (list(many.tags.labels), many.tags.field, many.tags.max_tags) == (LABELS, "tags", 10)
    assert many.tags.min_probability == pytest.approx(0.1)
    assert not none.HasField("tags")
    for wrong, words in ((Tags(["cat", "cat"]), "options.tags.labels[1]"), ("cat", "one text"), ([1, 2], "labels[0]")):
        with pytest.raises(InvalidInput) as caught:
            await client.ingest(b"one", tags=wrong)  # type: ignore[arg-type]  # its very point
        assert words in caught.value.message
