"""Unary calls: what is answered, what fails alone, and what fails the call."""

from __future__ import annotations

import asyncio
import hashlib
import io
import threading

import numpy as np
import pytest
from PIL import Image

from encoder_svc.model import EncoderInput
from lensmesh.common.v1 import common_pb2
from lensmesh.encoder.v1 import encoder_pb2
from lensmesh_chassis.errors import (
    DeadlineExceeded,
    InternalFault,
    InvalidInput,
    Overloaded,
    PreconditionFailed,
)
from lensmesh_chassis.reasons import Reason
from lensmesh_inference.images.perceptual import hash_pixels
from tests.encoder.helpers import HeldModel, failure, image, png, refused, serving, vector
from tests.support.waiting import until

FLOAT16 = common_pb2.DATA_TYPE_FLOAT16
# Enum values that the contract does not know, as a newer caller may send them.
UNKNOWN_TYPE = encoder_pb2.EncodeOptions(data_type=9)  # type: ignore[arg-type]  # a number where the stubs want a name
UNKNOWN_PRIORITY = encoder_pb2.EncodeOptions(priority=9)  # type: ignore[arg-type]  # a number where the stubs want a name


async def test_get_info_is_complete() -> None:
    async with serving(model="mock,mock-768") as served:
        info = await served.stub.GetInfo(encoder_pb2.GetInfoRequest())
    assert [model.model.name for model in info.models] == ["mock", "mock-768"]
    model = info.models[0].model
    assert (model.kind, model.backend, model.precision) == (common_pb2.MODEL_KIND_MOCK, "mock", "float32")
    assert model.requested_device
    assert model.devices[0].id == "cpu"
    assert model.devices[0].threads == 1
    assert not model.HasField("parity_cosine")
    assert model.HasField("canary_age")
    assert [space.dimension for model in info.models for space in model.spaces] == [512] * 4 + [768] * 4
    assert [space.normalized for space in info.models[0].spaces] == [True, False] * 2
    assert list(info.models[0].spaces[0].modalities) == [common_pb2.MODALITY_IMAGE, common_pb2.MODALITY_TEXT]
    assert info.models[0].context_tokens == 77
    limits = info.limits
    assert limits.max_items == 256
    assert limits.max_message_bytes == 32 * 1024**2
    assert limits.max_image_bytes == 20 * 1024**2
    assert limits.max_image_pixels == 50_000_000
    assert limits.max_image_side_ratio == 200
    assert limits.max_text_chars == 10_000
    assert limits.max_labels == 10_000
    assert not limits.uri_schemes
    assert info.server.version
    assert info.server.memory_bytes > 0
    assert info.server.not_serving_reason == ""


async def test_the_mocks_numbers_and_spaces_are_golden() -> None:
    async with serving(model="mock,mock-768") as served:
        info = await served.stub.GetInfo(encoder_pb2.GetInfoRequest())
        raw = info.models[0].spaces[1].id
        request = encoder_pb2.EncodeTextsRequest(
            texts=["a red square"], options=encoder_pb2.EncodeOptions(space_id=raw)
        )
        response = await served.stub.EncodeTexts(request)
    assert [space.id for model in info.models for space in model.spaces] == [
        "vs1-79565ba3e00efe0bf5f662c3bc4aad31",
        "vs1-8e4525abd093df4bd95a2de5bdf65207",
        "vs1-36ab5457765f0959af93aa360d3b23c7",
        "vs1-6f22978d21247362efdde992a3274b67",
        "vs1-abab7eae35c3f7ac87e48681f56ca596",
        "vs1-94d858c0e4e1232a9c6bfe8f4eab6b83",
        "vs1-a7213d74a2274f65c7122e3d9fd742c3",
        "vs1-9b01641ef13aa2741c8317adf8c34c34",
    ]
    seed = b"mock/" + hashlib.sha256(b"a red square").digest()
    stream = hashlib.shake_256(seed).digest(512 * 4)
    expected = [int.from_bytes(stream[4 * i : 4 * i + 4], "little") / 2**31 - 1 for i in range(512)]
    numbers = vector(response.results[0].embedding)
    np.testing.assert_allclose(numbers, expected, atol=1e-7)
    np.testing.assert_allclose(numbers[:3], [-0.0904979, -0.2145559, 0.3045268], atol=1e-6)


async def test_perceptual_hashes_where_they_are_asked_for() -> None:
    options = encoder_pb2.EncodeOptions(perceptual_hash=True)
    images = [image(1), common_pb2.Image(content=b"?"), image(2)]
    streamed = encoder_pb2.EncodeStreamRequest(
        options=options,
        items=[
            encoder_pb2.EncodeStreamItem(ref="image", image=image(1)),
            encoder_pb2.EncodeStreamItem(ref="text", text="a red disc"),
        ],
    )
    async with serving() as served:
        request = encoder_pb2.EncodeImagesRequest(images=images, options=options)
        results = (await served.stub.EncodeImages(request)).results
        texts = (await served.stub.EncodeTexts(encoder_pb2.EncodeTextsRequest(texts=["a"], options=options))).results
        stream = served.stub.EncodeStream(iter([streamed]))
        told = {each.ref: each.result async for response in stream for each in response.results}
    expected = hash_pixels(np.asarray(Image.open(io.BytesIO(png(1)))))
    assert [result.HasField("perceptual_hash") for result in [*results, *texts]] == [True, False, True, False]
    assert results[0].perceptual_hash.hash == expected.hash != results[2].perceptual_hash.hash
    assert results[0].perceptual_hash.quality == expected.quality > 0
    assert told["image"].perceptual_hash == results[0].perceptual_hash
    assert not told["text"].HasField("perceptual_hash")
    assert told["text"].WhichOneof("outcome") == "embedding"


async def test_images_in_order_of_the_request_and_bad_ones_fail_alone() -> None:
    request = encoder_pb2.EncodeImagesRequest(
        images=[
            image(1),
            common_pb2.Image(content=b""),
            common_pb2.Image(content=b"not an image"),
            common_pb2.Image(content=png(2)[:200]),
            common_pb2.Image(uri="https://example.com/a.jpg"),
            common_pb2.Image(),
            image(2),
            image(1),
        ]
    )
    async with serving() as served:
        info = await served.stub.GetInfo(encoder_pb2.GetInfoRequest())
        results = (await served.stub.EncodeImages(request)).results
    assert [result.WhichOneof("outcome") for result in results] == ["embedding", *["error"] * 5, *["embedding"] * 2]
    errors = [failure(result.error) for result in results[1:6]]
    assert [error.reason for error in errors] == [
        Reason.IMAGE_EMPTY,
        Reason.IMAGE_UNDECODABLE,
        Reason.IMAGE_TRUNCATED,
        Reason.URI_NOT_ALLOWED,
        Reason.IMAGE_MISSING,
    ]
    assert [error.violations[0].field.split(".")[0] for error in errors] == [f"images[{n}]" for n in range(1, 6)]
    assert all(isinstance(error, InvalidInput) for error in errors)
    embeddings = [result.embedding for result in (results[0], results[6], results[7])]
    assert {embedding.space_id for embedding in embeddings} == {info.models[0].spaces[0].id}
    first, second, again = map(vector, embeddings)
    assert np.linalg.norm(first) == pytest.approx(1, abs=1e-6)
    np.testing.assert_array_equal(first, again)
    assert abs(first @ second) < 0.5


async def test_the_limits_of_one_image_are_the_services_settings() -> None:
    async with serving(max_image_bytes=3000, max_image_pixels=600) as served:
        images = [common_pb2.Image(content=png(1, size=24)), common_pb2.Image(content=png(1, size=64))]
        images.append(common_pb2.Image(content=png(1, size=25)))
        results = (await served.stub.EncodeImages(encoder_pb2.EncodeImagesRequest(images=images))).results
    assert results[0].WhichOneof("outcome") == "embedding"
    assert failure(results[1].error).reason is Reason.IMAGE_TOO_LARGE
    assert failure(results[2].error).reason is Reason.IMAGE_TOO_MANY_PIXELS


async def test_texts_empty_long_too_long_and_with_nul() -> None:
    texts = ["a cat", "", " \n\t", "word " * 78, "word " * 77, "x" * 10_000, "x" * 10_001, "nul \0 inside", "日本語 🦊"]
    async with serving() as served:
        results = (await served.stub.EncodeTexts(encoder_pb2.EncodeTextsRequest(texts=texts))).results
    reasons = [failure(result.error).reason if result.HasField("error") else None for result in results]
    empty, long, invalid = Reason.TEXT_EMPTY, Reason.TEXT_TOO_LONG, Reason.TEXT_INVALID
    assert reasons == [None, empty, empty, None, None, None, long, invalid, None]
    assert [result.truncated for result in results] == [False] * 3 + [True] + [False] * 5
    assert failure(results[6].error).violations[0].field == "texts[6]"
    assert failure(results[7].error).violations[0].field == "texts[7]"


async def test_float16_and_readable_floats_are_the_same_vector() -> None:
    async with serving() as served:

        async def ask(**options: object) -> common_pb2.Embedding:
            request = encoder_pb2.EncodeTextsRequest(texts=["a cat"], options=encoder_pb2.EncodeOptions(**options))  # type: ignore[arg-type]  # a test's shorthand
            return (await served.stub.EncodeTexts(request)).results[0].embedding

        exact, half = await ask(), await ask(data_type=FLOAT16)
        floats, half_floats = await ask(readable=True), await ask(readable=True, data_type=FLOAT16)
    assert (exact.data_type, len(exact.data)) == (common_pb2.DATA_TYPE_FLOAT32, 2048)
    assert (half.data_type, len(half.data)) == (FLOAT16, 1024)
    assert not floats.data
    assert floats.dimension == 512
    np.testing.assert_array_equal(np.array(floats.floats, dtype=np.float32), vector(exact))
    np.testing.assert_array_equal(np.array(half_floats.floats, dtype=np.float32), vector(half))
    assert vector(exact) @ vector(half) > 0.999_999


async def test_the_raw_space_is_served_when_asked_for() -> None:
    async with serving() as served:
        unit, raw, *_ = (await served.stub.GetInfo(encoder_pb2.GetInfoRequest())).models[0].spaces
        request = encoder_pb2.EncodeImagesRequest(images=[image()], options=encoder_pb2.EncodeOptions(space_id=raw.id))
        embedding = (await served.stub.EncodeImages(request)).results[0].embedding
        default = (await served.stub.EncodeImages(encoder_pb2.EncodeImagesRequest(images=[image()]))).results[0]
    assert (embedding.space_id, default.embedding.space_id) == (raw.id, unit.id)
    numbers = vector(embedding)
    assert np.linalg.norm(numbers) > 2
    np.testing.assert_allclose(numbers / np.linalg.norm(numbers), vector(default.embedding), atol=1e-6)


async def test_one_address_carries_several_models() -> None:
    async with serving(model="mock, mock-768") as served:
        info = await served.stub.GetInfo(encoder_pb2.GetInfoRequest())
        request = encoder_pb2.EncodeTextsRequest(
            texts=["x"], options=encoder_pb2.EncodeOptions(space_id=info.models[1].spaces[0].id)
        )
        assert (await served.stub.EncodeTexts(request)).results[0].embedding.dimension == 768


async def test_counts_and_options_fail_the_call() -> None:
    async with serving(max_items=3) as served:
        texts, images = served.stub.EncodeTexts, served.stub.EncodeImages
        errors = [
            await refused(texts(encoder_pb2.EncodeTextsRequest())),
            await refused(texts(encoder_pb2.EncodeTextsRequest(texts=["x"] * 4))),
            await refused(images(encoder_pb2.EncodeImagesRequest())),
            await refused(images(encoder_pb2.EncodeImagesRequest(images=[image()] * 4))),
            await refused(texts(encoder_pb2.EncodeTextsRequest(texts=["x"], options=UNKNOWN_TYPE))),
            await refused(texts(encoder_pb2.EncodeTextsRequest(texts=["x"], options=UNKNOWN_PRIORITY))),
        ]
    assert [error.reason for error in errors] == [
        Reason.NO_ITEMS,
        Reason.TOO_MANY_ITEMS,
        Reason.NO_ITEMS,
        Reason.TOO_MANY_ITEMS,
        Reason.OPTION_INVALID,
        Reason.OPTION_INVALID,
    ]
    assert all(isinstance(error, InvalidInput) for error in errors)


async def test_a_space_that_is_not_served_is_refused_naming_those_that_are() -> None:
    async with serving() as served:
        spaces = (await served.stub.GetInfo(encoder_pb2.GetInfoRequest())).models[0].spaces
        request = encoder_pb2.EncodeTextsRequest(
            texts=["x"], options=encoder_pb2.EncodeOptions(space_id="vs1-of-another-model")
        )
        error = await refused(served.stub.EncodeTexts(request))
    assert isinstance(error, PreconditionFailed)
    assert error.reason is Reason.SPACE_NOT_SERVED
    assert "vs1-of-another-model" in error.message
    assert all(space.id in error.message for space in spaces)


async def test_a_message_a_little_too_large_gets_a_typed_answer() -> None:
    async with serving(max_message_bytes=64 * 1024) as served:
        request = encoder_pb2.EncodeImagesRequest(images=[common_pb2.Image(content=b"x" * 70_000)])
        error = await refused(served.stub.EncodeImages(request))
    assert (type(error), error.reason) == (InvalidInput, Reason.MESSAGE_TOO_LARGE)


async def test_timings_say_where_the_time_went() -> None:
    async with serving() as served:
        request = encoder_pb2.EncodeImagesRequest(images=[image(n) for n in range(5)])
        results = (await served.stub.EncodeImages(request)).results
    for result in results:
        timings = result.timings
        assert timings.preprocess_us > 0
        assert 1 <= timings.batch_size <= 5
        assert timings.total_us >= timings.preprocess_us + timings.compute_us
        assert timings.total_us + 10 >= timings.preprocess_us + timings.compute_us + timings.queue_us


async def test_an_image_that_the_model_cannot_stand_fails_alone() -> None:
    model = HeldModel()
    model.poison = {hashlib.sha256(png(3)).digest()}
    async with serving(model) as served:
        request = encoder_pb2.EncodeImagesRequest(images=[image(n) for n in range(6)])
        results = (await served.stub.EncodeImages(request)).results
    assert [result.WhichOneof("outcome") for result in results] == ["embedding"] * 3 + ["error"] + ["embedding"] * 2
    error = failure(results[3].error)
    assert isinstance(error, InternalFault)
    assert error.reason is Reason.MODEL_FAILED
    assert "secret" not in error.message


async def test_a_full_queue_refuses_the_whole_call_and_says_when_to_come_back() -> None:
    model = HeldModel()
    async with serving(model, max_queue_items=4) as served:
        model.free.clear()
        ten = encoder_pb2.EncodeTextsRequest(texts=["x"] * 4)
        first = asyncio.ensure_future(served.stub.EncodeTexts(ten))
        await until(lambda: served.engine.served[0].batcher.held_items == 4)
        error = await refused(served.stub.EncodeTexts(ten))
        bulk = encoder_pb2.EncodeTextsRequest(
            texts=["y"], options=encoder_pb2.EncodeOptions(priority=common_pb2.PRIORITY_BULK)
        )
        second = asyncio.ensure_future(served.stub.EncodeTexts(bulk))
        await until(lambda: served.engine.served[0].batcher.held_items == 5)
        model.free.set()
        assert len((await first).results) == 4
        assert len((await second).results) == 1
    assert isinstance(error, Overloaded)
    assert error.reason is Reason.OVERLOADED
    assert error.retry_after_s is not None


async def test_a_deadline_too_short_ends_the_call_and_the_work() -> None:
    model = HeldModel()
    async with serving(model) as served:
        model.free.clear()
        model.inside.clear()
        first = asyncio.ensure_future(served.stub.EncodeTexts(encoder_pb2.EncodeTextsRequest(texts=["x"])))
        await until(model.inside.is_set)
        computed = model.computed
        late = served.stub.EncodeTexts(encoder_pb2.EncodeTextsRequest(texts=["y"] * 3), timeout=0.3)
        assert isinstance(await refused(late), DeadlineExceeded)
        await until(lambda: served.engine.served[0].batcher.held_items == 1)
        model.free.set()
        await first
        assert model.computed == computed + 1
        assert served.engine.served[0].batcher.held_items == 0


async def test_a_call_that_is_cancelled_leaves_every_queue() -> None:
    model = HeldModel()
    async with serving(model) as served:
        model.free.clear()
        call = served.stub.EncodeImages(encoder_pb2.EncodeImagesRequest(images=[image(n) for n in range(100)]))
        waiting = asyncio.ensure_future(call)
        await until(lambda: served.engine.served[0].batcher.queued_items > 10)
        call.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        batcher = served.engine.served[0].batcher
        await until(lambda: batcher.queued_items == 0 and batcher.held_items == 0 and served.engine.pool.waiting == 0)
        model.free.set()
        assert (
            (await served.stub.EncodeTexts(encoder_pb2.EncodeTextsRequest(texts=["x"])))
            .results[0]
            .HasField("embedding")
        )


async def test_long_texts_hold_neither_short_ones_nor_images() -> None:
    model = SlowReader()
    async with serving(model) as served:
        long = served.stub.EncodeTexts(encoder_pb2.EncodeTextsRequest(texts=["long " * 1000]))
        try:
            await until(model.reading.is_set)
            short = await served.stub.EncodeTexts(encoder_pb2.EncodeTextsRequest(texts=["a cat"]))
            seen = await served.stub.EncodeImages(encoder_pb2.EncodeImagesRequest(images=[image(1)]))
            assert not long.done()
        finally:
            model.read.set()
        await long
    assert short.results[0].HasField("embedding")
    assert seen.results[0].HasField("embedding")


class SlowReader(HeldModel):
    """A model whose tokenizer stands still over long texts."""

    def __init__(self) -> None:
        super().__init__()
        self.reading, self.read = threading.Event(), threading.Event()

    def prepare_text(self, text: str) -> EncoderInput:
        if len(text) > 1000:
            self.reading.set()
            assert self.read.wait(60)
        return super().prepare_text(text)
