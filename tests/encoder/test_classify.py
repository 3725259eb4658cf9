"""ClassifyImages: probabilities, templates, the best alone, vectors in place of images, and what is kept."""

from __future__ import annotations

import asyncio
import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from pydantic import SecretStr

from encoder_svc.model import EncoderFacts, LogitScale
from encoder_svc.zero_shot import score
from lensmesh.common.v1 import common_pb2
from lensmesh.encoder.v1 import encoder_pb2
from lensmesh_chassis.errors import DeadlineExceeded, InternalFault, InvalidInput, PreconditionFailed
from lensmesh_chassis.labels import check_answer_size
from lensmesh_chassis.reasons import Reason
from lensmesh_inference.batching.batcher import Lane
from tests.encoder.helpers import HeldModel, Served, failure, image, refused, rows, serving, vector
from tests.support.redis_servers import redis_server
from tests.support.waiting import until

LABELS = ["cat", "dog", "bird"]
Request = encoder_pb2.ClassifyImagesRequest


async def texts(served: Served, words: list[str]) -> npt.NDArray[np.float32]:
    """Unit vectors by EncodeTexts."""
    answer = await served.stub.EncodeTexts(encoder_pb2.EncodeTextsRequest(texts=words))
    return np.stack([vector(result.embedding) for result in answer.results])


async def images(served: Served, count: int) -> list[common_pb2.Embedding]:
    """Embeddings by EncodeImages."""
    request = encoder_pb2.EncodeImagesRequest(images=[image(n) for n in range(count)])
    return [result.embedding for result in (await served.stub.EncodeImages(request)).results]


def softmax(logits: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    powers = np.exp(logits.astype(np.float64))
    shares: npt.NDArray[np.float64] = powers / powers.sum(axis=1, keepdims=True)
    return shares


async def test_probabilities_are_those_of_the_vectors_and_the_scale_that_are_told() -> None:
    async with serving() as served:
        info = (await served.stub.GetInfo(encoder_pb2.GetInfoRequest())).models[0]
        request = Request(images=[image(n) for n in range(4)], labels=LABELS, template="the word {}!")
        answer = await served.stub.ClassifyImages(request)
        words = await texts(served, [f"the word {label}!" for label in LABELS])
        seen = np.stack([vector(each) for each in await images(served, 4)])
    assert (info.logit_scale, info.HasField("logit_bias"), info.label_scoring) == (
        100,
        False,
        encoder_pb2.LABEL_SCORING_SOFTMAX,
    )
    np.testing.assert_allclose(rows(answer), softmax(info.logit_scale * seen @ words.T), atol=1e-5)
    assert all(not result.scores.best and result.timings.total_us for result in answer.results)
    assert not any(result.truncated_label_count for result in answer.results)


async def test_several_templates_are_averaged_and_the_default_is_a_photo() -> None:
    templates = ["a photo of a {}", "a drawing of {}.", "{} at night"]
    async with serving() as served:
        info = (await served.stub.GetInfo(encoder_pb2.GetInfoRequest())).models[0]
        seen = np.stack([vector(each) for each in await images(served, 3)])
        several = await served.stub.ClassifyImages(
            Request(images=[image(n) for n in range(3)], labels=LABELS, templates=templates)
        )
        plain = await served.stub.ClassifyImages(Request(images=[image(0)], labels=LABELS))
        named = await served.stub.ClassifyImages(Request(images=[image(0)], labels=LABELS, templates=["a photo of {}"]))
        means = []
        for label in LABELS:
            mean = (await texts(served, [template.replace("{}", label) for template in templates])).mean(axis=0)
            means.append(mean / np.linalg.norm(mean))
    np.testing.assert_allclose(rows(several), softmax(info.logit_scale * seen @ np.stack(means).T), atol=1e-5)
    assert rows(plain).tolist() == rows(named).tolist()


async def test_only_the_best_best_first() -> None:
    labels = [f"label {n}" for n in range(40)]
    async with serving() as served:
        request = Request(images=[image(n) for n in range(3)], labels=labels)
        everything = rows(await served.stub.ClassifyImages(request))
        request.top = 5
        few = await served.stub.ClassifyImages(request)
        request.top = 1_000
        whole = await served.stub.ClassifyImages(request)
    for row, result in zip(everything, few.results, strict=True):
        best = result.scores.best
        assert not result.scores.probabilities
        assert [each.index for each in best] == np.argsort(-row, kind="stable")[:5].tolist()
        assert [each.label for each in best] == [labels[each.index] for each in best]
        np.testing.assert_allclose([each.probability for each in best], row[[each.index for each in best]], rtol=1e-6)
    assert [len(result.scores.best) for result in whole.results] == [40] * 3


async def test_bad_images_fail_alone() -> None:
    request = Request(
        images=[image(1), common_pb2.Image(content=b"no image"), common_pb2.Image(), image(1)], labels=LABELS
    )
    async with serving() as served:
        results = (await served.stub.ClassifyImages(request)).results
    assert [result.WhichOneof("outcome") for result in results] == ["scores", "error", "error", "scores"]
    assert [failure(results[n].error).reason for n in (1, 2)] == [Reason.IMAGE_UNDECODABLE, Reason.IMAGE_MISSING]
    assert failure(results[2].error).violations[0].field == "images[2]"
    assert results[0].scores == results[3].scores
    assert sum(results[0].scores.probabilities) == pytest.approx(1, abs=1e-5)


async def test_vectors_in_place_of_images_and_bad_ones_fail_alone() -> None:
    async with serving(model="mock,mock-768") as served:
        first, second = await images(served, 2)
        readable = common_pb2.Embedding(space_id=first.space_id, floats=vector(first).tolist())
        nan = common_pb2.Embedding(space_id=first.space_id, floats=[float("nan")] * 512)
        none = common_pb2.Embedding(space_id=first.space_id, floats=[0] * 512)
        short = common_pb2.Embedding(space_id=first.space_id, floats=[1] * 511)
        torn = common_pb2.Embedding(space_id=first.space_id, data=b"123", data_type=common_pb2.DATA_TYPE_FLOAT16)
        other = common_pb2.Embedding(space_id="vs1-0", floats=[1] * 512)
        given = [first, readable, nan, none, short, torn, other, second]
        pixels = await served.stub.ClassifyImages(Request(images=[image(0), image(1)], labels=LABELS))
        told = await served.stub.ClassifyImages(Request(embeddings=given, labels=LABELS))
        raw = (await served.stub.GetInfo(encoder_pb2.GetInfoRequest())).models[0].spaces[1].id
        scaled = common_pb2.Embedding(space_id=raw, floats=(7 * vector(first)).tolist())
        in_raw = await served.stub.ClassifyImages(Request(embeddings=[scaled], labels=LABELS, space_id=raw))
        both = await refused(served.stub.ClassifyImages(Request(images=[image()], embeddings=[first], labels=LABELS)))
    assert [result.WhichOneof("outcome") for result in told.results] == ["scores"] * 2 + ["error"] * 5 + ["scores"]
    good = encoder_pb2.ClassifyImagesResponse(results=[told.results[n] for n in (0, 1, 7)])
    np.testing.assert_allclose(rows(good), rows(pixels)[[0, 0, 1]], atol=1e-6)
    np.testing.assert_allclose(rows(in_raw)[0], rows(pixels)[0], atol=1e-6)
    assert [failure(told.results[n].error).reason for n in range(2, 7)] == [
        Reason.VECTOR_INVALID,
        Reason.VECTOR_INVALID,
        Reason.VECTOR_DIMENSION_MISMATCH,
        Reason.VECTOR_INVALID,
        Reason.SPACE_MISMATCH,
    ]
    assert failure(told.results[6].error).violations[0].field == "embeddings[6].space_id"
    assert both.violations[0].field == "embeddings"


TOO_MANY = [f"{n}" for n in range(10_001)]


@pytest.mark.parametrize(
    ("change", "reason", "field", "words"),
    [
        ({"labels": []}, Reason.NO_ITEMS, "labels", "empty"),
        ({"labels": ["cat"]}, Reason.OPTION_INVALID, "labels", "at least two"),
        ({"labels": TOO_MANY}, Reason.TOO_MANY_ITEMS, "labels", "10000"),
        ({"labels": ["a", " ", "b"]}, Reason.TEXT_EMPTY, "labels[1]", "labels[1]"),
        ({"labels": ["a", "b" * 41]}, Reason.TEXT_TOO_LONG, "labels[1]", "40"),
        ({"labels": ["a", "b\0"]}, Reason.TEXT_INVALID, "labels[1]", "NUL"),
        ({"templates": ["{}", "a\0 {}"]}, Reason.TEXT_INVALID, "templates[1]", "NUL"),
        ({"labels": ["a", "b", "c", "b"]}, Reason.OPTION_INVALID, "labels[3]", "labels[1]"),
        ({"template": "a photo"}, Reason.OPTION_INVALID, "template", "once"),
        ({"template": "{} and {}"}, Reason.OPTION_INVALID, "template", "2 times"),
        ({"templates": ["{}", "x"]}, Reason.OPTION_INVALID, "templates[1]", "once"),
        ({"templates": ["{}", "a {}", "{}"]}, Reason.OPTION_INVALID, "templates[2]", "templates[0]"),
        ({"templates": ["{}", ""]}, Reason.TEXT_EMPTY, "templates[1]", "empty"),
        ({"templates": ["{}" + "x" * 1_000]}, Reason.TEXT_TOO_LONG, "templates[0]", "1000"),
        ({"templates": [f"{n} {{}}" for n in range(101)]}, Reason.TOO_MANY_ITEMS, "templates", "100"),
        ({"templates": ["{}"], "template": "a {}"}, Reason.OPTION_INVALID, "template", "both"),
        (
            {"labels": TOO_MANY[:1_001], "templates": [f"{n} {{}}" for n in range(100)]},
            Reason.TOO_MANY_ITEMS,
            "labels",
            "100000",
        ),
        ({"images": []}, Reason.NO_ITEMS, "images", "empty"),
        ({"space_id": "vs1-0"}, Reason.SPACE_NOT_SERVED, "space_id", "not served"),
        ({"priority": 9}, Reason.OPTION_INVALID, "priority", "PRIORITY_BULK"),
    ],
)
async def test_what_is_wrong_fails_the_call_and_is_named(
    change: dict[str, Any], reason: Reason, field: str, words: str
) -> None:
    request = Request(**{"images": [image()], "labels": LABELS, **change})
    model = HeldModel()
    async with serving(model, max_text_chars=40) as served:
        computed = model.computed
        error = await refused(served.stub.ClassifyImages(request))
        assert model.computed == computed
    assert isinstance(error, InvalidInput | PreconditionFailed)
    assert (error.reason, error.violations[0].field) == (reason, field)
    assert words in error.message


async def test_a_model_without_a_scale_cannot_classify() -> None:
    model = HeldModel()
    model.facts = EncoderFacts(**{**vars(model.facts), "logit_scale": None})
    async with serving(model) as served:
        info = (await served.stub.GetInfo(encoder_pb2.GetInfoRequest())).models[0]
        error = await refused(served.stub.ClassifyImages(Request(images=[image()], labels=LABELS)))
    assert isinstance(error, PreconditionFailed)
    assert error.reason is Reason.CLASSIFY_UNSUPPORTED
    assert (info.HasField("logit_scale"), info.label_scoring) == (False, encoder_pb2.LABEL_SCORING_UNSPECIFIED)


async def test_a_sigmoid_says_of_each_label_whether_it_fits_also_of_one_alone() -> None:
    model = HeldModel()
    model.facts = EncoderFacts(**{**vars(model.facts), "logit_scale": LogitScale(100.0, -4.0)})
    async with serving(model) as served:
        seen = np.stack([vector(each) for each in await images(served, 2)])
        words = await texts(served, [f"a photo of {label}" for label in LABELS])
        request = Request(images=[image(0), image(1)], labels=LABELS)
        several = rows(await served.stub.ClassifyImages(request))
        one = rows(await served.stub.ClassifyImages(Request(images=[image(0)], labels=LABELS[:1])))
    expected = 1 / (1 + np.exp(-(100.0 * (seen @ words.T).astype(np.float64) - 4)))
    np.testing.assert_allclose(several, expected, rtol=1e-4)
    np.testing.assert_allclose(one[0], several[0, :1], rtol=1e-6)


async def test_scores_far_from_zero_are_no_nan() -> None:
    model = HeldModel()
    for bias in (None, -1e4, 1e4):
        model.facts = EncoderFacts(**{**vars(model.facts), "logit_scale": LogitScale(1e6, bias)})
        async with serving(model) as served:
            answer = rows(await served.stub.ClassifyImages(Request(images=[image(0)], labels=LABELS)))
        assert np.isfinite(answer).all(), bias
        assert ((answer >= 0) & (answer <= 1)).all()


async def test_labels_that_are_longer_than_the_context_are_counted() -> None:
    async with serving() as served:
        for count, labels in ((1, ["word " * 80, "cat"]), (0, ["bird", "cat"])):
            for _ in range(2):
                request = Request(images=[image(0), image(1)], labels=labels)
                results = (await served.stub.ClassifyImages(request)).results
                assert [result.truncated_label_count for result in results] == [count] * 2


async def test_labels_are_encoded_once() -> None:
    model = HeldModel()
    templates = ["a {}", "the {}"]
    async with serving(model) as served:
        request = Request(images=[image(0)], labels=LABELS, templates=templates)
        first = await served.stub.ClassifyImages(request)
        computed = model.computed
        assert await served.stub.ClassifyImages(request) != encoder_pb2.ClassifyImagesResponse()
        again = await served.stub.ClassifyImages(request)
        assert model.computed == computed
        assert rows(again).tolist() == rows(first).tolist()
        # Another list takes what it shares with that one, in whatever order.
        await served.stub.ClassifyImages(Request(images=[image(0)], labels=["dog", "fish", "cat"], templates=templates))
        assert model.computed == computed + len(templates)
        # Other templates are other texts.
        await served.stub.ClassifyImages(Request(images=[image(0)], labels=LABELS, templates=templates[:1]))
        assert model.computed == computed + len(templates) + len(LABELS)


async def test_without_a_cache_every_call_encodes_its_labels() -> None:
    model = HeldModel()
    async with serving(model, cache_bytes=0) as served:
        request = Request(images=[image(0)], labels=LABELS)
        first = await served.stub.ClassifyImages(request)
        computed = model.computed
        assert rows(await served.stub.ClassifyImages(request)).tolist() == rows(first).tolist()
        assert model.computed == computed + len(LABELS) + 1


async def test_calls_that_come_together_wait_for_one_computation_and_one_that_leaves_stops_nobody() -> None:
    model = HeldModel()
    labels = [f"label {n}" for n in range(64)]
    async with serving(model) as served:
        computed = model.computed
        model.free.clear()
        model.inside.clear()
        calls = [served.stub.ClassifyImages(Request(images=[image(n)], labels=labels)) for n in range(3)]
        tasks = [asyncio.ensure_future(call) for call in calls]
        await until(model.inside.is_set)
        flights = served.engine.default.labels._flights
        await until(lambda: [flight.waiting for flight in flights.values()] == [3])
        calls[0].cancel()
        await until(lambda: [flight.waiting for flight in flights.values()] == [2])
        model.free.set()
        answers = await asyncio.gather(*tasks[1:])
    assert len(rows(answers[0])[0]) == 64
    assert model.computed == computed + 64 + 2


async def test_labels_that_nobody_waits_for_are_not_encoded() -> None:
    model = HeldModel()
    labels = [f"label {n}" for n in range(2_000)]
    async with serving(model, max_batch=16) as served:
        computed = model.computed
        model.free.clear()
        model.inside.clear()
        call = served.stub.ClassifyImages(Request(images=[image()], labels=labels))
        await until(model.inside.is_set)
        call.cancel()
        flights = served.engine.default.labels._flights
        await until(lambda: not flights)
        model.free.set()
        # The device is free again for whoever comes.
        await served.stub.EncodeTexts(encoder_pb2.EncodeTextsRequest(texts=["somebody else"]))
        assert model.computed <= computed + 16 + 1
        await until(lambda: served.engine.default.batcher.held_items == 0)


async def test_the_deadline_is_told_and_what_was_done_is_kept() -> None:
    model = HeldModel()
    labels = [f"label {n}" for n in range(600)]
    async with serving(model) as served:
        request = Request(images=[image()], labels=labels)
        model.free.clear()
        error = await refused(served.stub.ClassifyImages(request, timeout=0.3))
        assert isinstance(error, DeadlineExceeded)
        model.free.set()
        assert len(rows(await served.stub.ClassifyImages(request))[0]) == 600


async def test_a_search_does_not_wait_for_thousands_of_labels() -> None:
    model = HeldModel()
    labels = [f"label {n}" for n in range(1_000)]
    async with serving(model) as served:
        model.free.clear()
        model.inside.clear()
        classified = asyncio.ensure_future(served.stub.ClassifyImages(Request(images=[image()], labels=labels)))
        await until(model.inside.is_set)
        before = len(model.done)
        search = asyncio.ensure_future(
            served.stub.EncodeTexts(encoder_pb2.EncodeTextsRequest(texts=["a cat in a tree"]))
        )
        await until(lambda: served.engine.default.batcher.queued_in(Lane.INTERACTIVE) > 0)
        model.free.set()
        await search
        place = model.done.index(hashlib.sha256(b"a cat in a tree").digest()) - before
        await classified
    assert place <= 64


async def test_a_label_that_breaks_the_model_fails_the_call_and_is_not_kept() -> None:
    model = HeldModel()
    model.poison = {hashlib.sha256(b"a photo of dog").digest()}
    async with serving(model, canary_seconds=0) as served:
        request = Request(images=[image()], labels=LABELS)
        error = await refused(served.stub.ClassifyImages(request))
        assert isinstance(error, InternalFault)
        assert error.reason is Reason.MODEL_FAILED
        model.poison = set()
        assert len(rows(await served.stub.ClassifyImages(request))[0]) == 3


async def test_an_answer_that_would_be_too_large_names_the_top_that_fits() -> None:
    limit = 64 * 1024
    async with serving(max_message_bytes=limit) as served:
        request = Request(labels=[f"n{n}" for n in range(4_000)], embeddings=(await images(served, 1)) * 8)
        error = await refused(served.stub.ClassifyImages(request))
        assert (error.reason, error.violations[0].field) == (Reason.RESPONSE_TOO_LARGE, "top")
        request.top = int(error.metadata["fits"])
        answer = await served.stub.ClassifyImages(request)
        assert limit / 2 < answer.ByteSize() <= limit
        request.top += 1
        assert (await refused(served.stub.ClassifyImages(request))).reason is Reason.RESPONSE_TOO_LARGE


def test_what_is_let_through_fits() -> None:
    labels = [f"ä{n}" for n in range(10_000)]
    check_answer_size(labels, 256, 0, 32 << 20)
    with pytest.raises(InvalidInput):
        check_answer_size(labels, 1024, 0, 32 << 20)
    check_answer_size(labels, 1024, 100, 32 << 20)
    with pytest.raises(InvalidInput) as caught:
        check_answer_size(labels, 1024, 0, 1_000)
    assert "fewer images" in caught.value.message


def test_the_best_of_equal_scores_are_the_first() -> None:
    seen, labels = np.eye(3, dtype=np.float32), np.eye(3, dtype=np.float32)[[1, 0, 0, 2, 0, 1, 0]]
    for top in range(1, 9):
        best = score(seen, labels, LogitScale(5.0), top).best
        assert best is not None
        order = [[1, 2, 4, 6, 0, 3, 5], [0, 5, 1, 2, 3, 4, 6], [3, 0, 1, 2, 4, 5, 6]]
        assert best.tolist() == [row[:top] for row in order]


async def test_nothing_is_kept_of_labels_while_the_model_is_not_trusted() -> None:
    model = HeldModel()
    async with serving(model) as served:
        engine = served.engine.default.engine
        request = Request(images=[image()], labels=LABELS)
        await served.stub.ClassifyImages(request)
        engine.trust(False)
        for _ in range(2):
            computed = model.computed
            await served.stub.ClassifyImages(request)
            assert model.computed == computed + len(LABELS) + 1
        engine.trust(True)
        await served.stub.ClassifyImages(request)
        computed = model.computed
        await served.stub.ClassifyImages(request)
        assert model.computed == computed


async def test_replicas_share_labels_by_their_redis(tmp_path: Path) -> None:
    one, other = HeldModel(), HeldModel()
    with redis_server(tmp_path) as redis:
        url = SecretStr(redis.url)
        async with serving(one, redis_url=url) as first, serving(other, redis_url=url) as second:
            # It is connected to, and written, in the background.
            for number in range(100):
                request = Request(images=[image()], labels=[f"{number} {label}" for label in LABELS])
                await first.stub.ClassifyImages(request)
                await asyncio.sleep(0.05)
                computed = other.computed
                await second.stub.ClassifyImages(request)
                if other.computed == computed:
                    break
            else:
                pytest.fail("the other replica encodes all labels itself")
