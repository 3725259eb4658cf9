"""The encoder does no work twice: what callers see of its cache, and what a device sees."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import itertools
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from pydantic import SecretStr

from encoder_svc.cached import VectorCodec
from encoder_svc.model import Embedded, EncoderInput, Vector
from lensmesh.common.v1 import common_pb2
from lensmesh.encoder.v1 import encoder_pb2, encoder_pb2_grpc
from lensmesh_chassis.channels import OWN_CONNECTIONS
from lensmesh_inference.batching.batcher import Lane
from lensmesh_inference.cache.tiered import TieredCache
from lensmesh_inference.images.perceptual import PerceptualHash
from tests.encoder.helpers import HeldModel, Served, encoder_process, image, png, serving, vector
from tests.support.redis_servers import redis_server
from tests.support.waiting import until

MISS = common_pb2.CACHE_OUTCOME_MISS
HIT = common_pb2.CACHE_OUTCOME_HIT
COALESCED = common_pb2.CACHE_OUTCOME_COALESCED
UNASKED = common_pb2.CACHE_OUTCOME_UNSPECIFIED

Results = list[encoder_pb2.EncodeResult]


async def images(stub: encoder_pb2_grpc.EncoderServiceAsyncStub, *numbers: int, space_id: str = "") -> Results:
    request = encoder_pb2.EncodeImagesRequest(
        images=[image(number) for number in numbers], options=encoder_pb2.EncodeOptions(space_id=space_id)
    )
    return list((await stub.EncodeImages(request)).results)


async def texts(
    stub: encoder_pb2_grpc.EncoderServiceAsyncStub, *words: str, bulk: bool = False, within: float | None = None
) -> Results:
    priority = common_pb2.PRIORITY_BULK if bulk else common_pb2.PRIORITY_UNSPECIFIED
    request = encoder_pb2.EncodeTextsRequest(texts=words, options=encoder_pb2.EncodeOptions(priority=priority))
    return list((await stub.EncodeTexts(request, timeout=within)).results)


def outcomes(results: Results) -> list[common_pb2.CacheOutcome.ValueType]:
    return [result.timings.cache for result in results]


@contextlib.asynccontextmanager
async def held(**changes: object) -> AsyncIterator[tuple[Served, HeldModel]]:
    """An encoder whose device is held, with nothing in it yet."""
    model = HeldModel()
    async with serving(model, canary_seconds=0, **changes) as served:
        model.free.clear()
        model.inside.clear()
        try:
            yield served, model
        finally:
            model.free.set()


def waiting(served: Served) -> int:
    return served.engine.served[0].batcher.held_items


async def test_what_comes_again_is_answered_without_the_model() -> None:
    model = HeldModel()
    async with serving(model) as served:
        computed = model.computed
        [first] = await images(served.stub, 1)
        again = await images(served.stub, 1, 2)
        assert model.computed == computed + 2
    assert outcomes([first, *again]) == [MISS, HIT, MISS]
    assert again[0].embedding == first.embedding
    timings = again[0].timings
    assert (timings.batch_size, timings.compute_us, timings.preprocess_us, timings.queue_us) == (0, 0, 0, 0)
    assert timings.total_us > 0
    assert first.timings.batch_size == 1


async def test_a_text_is_no_image_and_tells_again_that_it_was_cut() -> None:
    """The same bytes as a text and as an image are two things."""
    async with serving() as served:
        long = "word " * 100
        for outcome in (MISS, HIT):
            results = await texts(served.stub, "a cat", long)
            assert outcomes(results) == [outcome] * 2
            assert [result.truncated for result in results] == [False, True]
        bad = await served.stub.EncodeImages(
            encoder_pb2.EncodeImagesRequest(images=[common_pb2.Image(content=b"a cat")])
        )
        assert bad.results[0].WhichOneof("outcome") == "error"


async def test_the_unit_and_the_raw_space_of_a_model_share_what_was_computed() -> None:
    async with serving() as served:
        unit, raw, *_ = served.engine.served[0].model.facts.spaces
        [first] = await images(served.stub, 1, space_id=raw.id)
        [second] = await images(served.stub, 1, space_id=unit.id)
    assert outcomes([first, second]) == [MISS, HIT]
    assert (first.embedding.space_id, second.embedding.space_id) == (raw.id, unit.id)
    numbers = vector(first.embedding)
    np.testing.assert_allclose(vector(second.embedding), numbers / np.linalg.norm(numbers), rtol=1e-6)


async def test_streams_and_calls_share_what_was_computed() -> None:
    async with serving() as served:
        [computed] = await images(served.stub, 1)
        item = encoder_pb2.EncodeStreamItem(ref="a", image=image(1))
        call = served.stub.EncodeStream(iter([encoder_pb2.EncodeStreamRequest(items=[item] * 3)]))
        streamed = [one.result async for message in call for one in message.results]
    assert outcomes(streamed) == [HIT] * 3
    assert all(result.embedding == computed.embedding for result in streamed)


async def test_equal_items_of_a_call_are_computed_once() -> None:
    async with held() as (served, model):
        computed, pool = model.computed, served.engine.pool
        call = asyncio.create_task(images(served.stub, 1, 1, 2, 1))
        await until(lambda: model.inside.is_set() and not pool.waiting and not pool.running())
        model.free.set()
        results = await call
        assert model.computed == computed + 2
    assert sorted(outcomes(results)) == sorted([MISS, COALESCED, MISS, COALESCED])
    assert results[0].embedding == results[1].embedding == results[3].embedding != results[2].embedding
    shared = [result.timings for result in results if result.timings.cache == COALESCED]
    assert all((one.batch_size, one.compute_us) == (0, 0) for one in shared)
    assert all(0 < one.queue_us <= one.total_us for one in shared)


async def test_a_caller_who_leaves_takes_nothing_from_the_others() -> None:
    async with held() as (served, model):
        first = asyncio.create_task(texts(served.stub, "x"))
        await until(model.inside.is_set)
        leaving = asyncio.create_task(texts(served.stub, "y"))
        await until(lambda: waiting(served) == 2)
        staying = asyncio.create_task(texts(served.stub, "y"))
        await until(lambda: waiting(served) == 3)
        computed = model.computed
        leaving.cancel()
        await until(lambda: waiting(served) == 2)
        assert served.engine.served[0].batcher.queued_items == 1, "it is still wanted"
        model.free.set()
        assert outcomes(await first + await staying) == [MISS, COALESCED]
        assert model.computed == computed + 2
        await until(lambda: waiting(served) == 0)


async def test_what_nobody_waits_for_leaves_the_queue() -> None:
    async with held() as (served, model):
        first = asyncio.create_task(texts(served.stub, "x"))
        await until(model.inside.is_set)
        both = [asyncio.create_task(texts(served.stub, "y")) for _ in range(2)]
        await until(lambda: waiting(served) == 3)
        computed = model.computed
        for one in both:
            one.cancel()
        await until(lambda: waiting(served) == 1 and served.engine.served[0].batcher.queued_items == 0)
        model.free.set()
        await first
        assert model.computed == computed + 1


async def test_a_later_deadline_outlives_an_earlier_one() -> None:
    async with held() as (served, model):
        first = asyncio.create_task(texts(served.stub, "x"))
        await until(model.inside.is_set)
        hurried = asyncio.create_task(texts(served.stub, "y", within=0.5))
        await until(lambda: waiting(served) == 2)
        patient = asyncio.create_task(texts(served.stub, "y", within=300))
        await until(lambda: waiting(served) == 3)
        with pytest.raises(grpc.aio.AioRpcError) as error:
            await hurried
        assert error.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        model.free.set()
        await first
        [result] = await patient
        assert result.WhichOneof("outcome") == "embedding"


async def test_an_interactive_caller_does_not_wait_in_the_bulk_lane() -> None:
    async with held(max_batch=1, linger_ms=0) as (served, model):
        first = asyncio.create_task(texts(served.stub, "x"))
        await until(model.inside.is_set)
        bulk = asyncio.create_task(texts(served.stub, *(f"bulk {number}" for number in range(8)), "wanted", bulk=True))
        batcher = served.engine.served[0].batcher
        await until(lambda: batcher.queued_in(Lane.BULK) == 9)
        interactive = asyncio.create_task(texts(served.stub, "wanted"))
        await until(lambda: batcher.queued_in(Lane.INTERACTIVE) == 1)
        done = len(model.done)
        model.free.set()
        assert outcomes(await interactive) == [MISS]
        await first
        results = await bulk
        assert outcomes(results) == [MISS] * 8 + [COALESCED]
        order = model.done[done:]
    wanted = hashlib.sha256(b"wanted").digest()
    assert order.index(wanted) == 1, "right behind what was in the device"
    assert order.count(wanted) == 1


async def test_a_bad_image_is_never_kept() -> None:
    async with serving() as served:
        bad = common_pb2.Image(content=png(1)[:60])
        for _ in range(2):
            request = encoder_pb2.EncodeImagesRequest(images=[bad, image(1), bad])
            results = (await served.stub.EncodeImages(request)).results
            assert [result.WhichOneof("outcome") for result in results] == ["error", "embedding", "error"]
            for index in (0, 2):
                assert f"images[{index}]" in results[index].error.message


async def test_what_the_model_cannot_stand_is_tried_again() -> None:
    model = HeldModel()
    async with serving(model) as served:
        model.poison = {hashlib.sha256(png(1)).digest()}
        for result in await images(served.stub, 1, 1):
            assert result.WhichOneof("outcome") == "error"
        model.poison = set()
        assert outcomes(await images(served.stub, 1)) == [MISS]


async def test_a_full_queue_still_answers_what_is_known() -> None:
    async with held(max_queue_items=2, max_wait_seconds=1e6) as (served, model):
        model.free.set()
        await texts(served.stub, "known", "known too", "and this")
        model.free.clear()
        model.inside.clear()
        first = asyncio.create_task(texts(served.stub, "x", "y"))
        await until(lambda: waiting(served) == 2)
        with pytest.raises(grpc.aio.AioRpcError) as error:
            await texts(served.stub, "known", "new")
        assert error.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert outcomes(await texts(served.stub, "known", "known too", "and this")) == [HIT] * 3
        item = encoder_pb2.EncodeStreamItem(ref="a", text="known")
        call = served.stub.EncodeStream(iter([encoder_pb2.EncodeStreamRequest(items=[item])]))
        assert outcomes([one.result async for message in call for one in message.results]) == [HIT]
        model.free.set()
        assert outcomes(await first) == [MISS] * 2


async def test_without_a_cache_everything_is_computed() -> None:
    model = HeldModel()
    async with serving(model, cache_bytes=0) as served:
        computed = model.computed
        results = await images(served.stub, 1, 1) + await images(served.stub, 1)
        assert model.computed == computed + 3
    assert outcomes(results) == [UNASKED] * 3
    assert all(result.timings.batch_size for result in results)


async def test_the_canary_asks_the_model_itself() -> None:
    model = HeldModel()
    async with serving(model, canary_seconds=0.05) as served:
        computed = model.computed
        await until(lambda: model.computed >= computed + 6)
        assert served.engine.served[0].canary is not None


class Moody(HeldModel):
    """It can begin to answer something else."""

    def __init__(self) -> None:
        super().__init__()
        self.moody = False

    def compute(self, batch: Sequence[EncoderInput]) -> Sequence[Vector]:
        return [-vector if self.moody else vector for vector in super().compute(batch)]


async def test_nothing_is_kept_of_a_model_whose_canary_fails() -> None:
    model = Moody()
    async with serving(model, canary_seconds=0.05) as served:
        engine = served.engine.served[0].engine
        [right] = await images(served.stub, 1)
        model.moody = True
        await until(lambda: not engine.trusted)
        assert outcomes(await images(served.stub, 1, 2)) == [MISS] * 2, "what was in memory may be its work too"
        model.moody = False
        await until(lambda: engine.trusted)
        again = await images(served.stub, 1, 2)
        assert outcomes(again) == [MISS] * 2
        assert again[0].embedding == right.embedding
        assert outcomes(await images(served.stub, 1)) == [HIT]


async def test_a_redis_that_is_nowhere_changes_nothing(tmp_path: Path) -> None:
    url = SecretStr(f"unix://{tmp_path}/nobody.sock")
    async with serving(redis_url=url) as served:
        assert outcomes(await images(served.stub, 1)) == [MISS]
        assert outcomes(await images(served.stub, 1)) == [HIT]


async def test_processes_share_a_redis_and_live_on_without_it(tmp_path: Path) -> None:
    for name in ("redis", "one", "other"):
        (tmp_path / name).mkdir()
    with redis_server(tmp_path / "redis", "--requirepass", "open-sesame") as redis:
        settings: dict[str, Any] = {
            "LENSMESH_ENCODER_MODEL": "mock",
            "LENSMESH_ENCODER_REDIS_URL": f"{redis.url}&password=open-sesame",
        }
        with (
            encoder_process(tmp_path / "one", **settings) as one,
            encoder_process(tmp_path / "other", **settings) as other,
        ):
            async with (
                grpc.aio.insecure_channel(one.address, [OWN_CONNECTIONS]) as channel_one,
                grpc.aio.insecure_channel(other.address, [OWN_CONNECTIONS]) as channel_other,
            ):
                stubs = [encoder_pb2_grpc.EncoderServiceStub(channel) for channel in (channel_one, channel_other)]
                for process in (one, other):
                    await until(lambda log=process.log: "results are shared" in log.read_text(), seconds=300)  # type: ignore[misc]
                [computed] = await images(stubs[0], 1)
                assert outcomes([computed]) == [MISS]
                found: Results = []

                # It is written in the background; an image that only the other one computed cannot prove it.
                number = 2
                while outcomes(found) != [HIT]:
                    await images(stubs[0], number)
                    await asyncio.sleep(0.05)
                    found = await images(stubs[1], number)
                    number += 1
                    assert number < 50
                [shared] = await images(stubs[1], 1)
                assert outcomes([shared]) == [HIT]
                assert shared.embedding == computed.embedding
                redis.kill()
                assert outcomes(await images(stubs[1], 1, 100)) == [HIT, MISS]
                assert outcomes(await images(stubs[0], 100)) == [MISS]
        assert "open-sesame" not in one.log.read_text() + other.log.read_text()


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        bytes(16),
        bytes(18),
        bytes(16) + b"\x00",
        bytes(16) + b"\x88",
        np.array([1, 2, np.nan, 4], "<f4").tobytes() + b"\x80",
        np.array([1, 2, np.inf, 4], "<f4").tobytes() + b"\x81",
    ],
)
def test_bytes_that_are_no_vector_of_the_space_are_none(payload: bytes) -> None:
    assert VectorCodec(4).load(payload) is None


def test_vectors_are_kept_as_they_are() -> None:
    codec, numbers = VectorCodec(3), np.array([1.5, -2.25, 3e-30], np.float32)
    for flags in itertools.product((False, True), repeat=3):
        truncated, low_content, transparent = flags
        payload = codec.dump(Embedded(numbers, truncated, low_content, transparent))
        assert len(payload) == 13
        loaded = codec.load(payload)
        assert loaded is not None
        assert (loaded.vector == numbers).all()
        assert (loaded.truncated, loaded.low_content, loaded.fully_transparent) == flags
        assert loaded.vector.flags.writeable, "a vector of its own"


def test_hashes_are_kept_with_their_vectors() -> None:
    codec, numbers = VectorCodec(3), np.array([1.5, -2.25, 3e-30], np.float32)
    for unframed in (b"", bytes(range(32))):
        kept = PerceptualHash(bytes(reversed(range(32))), 87, unframed)
        payload = codec.dump(Embedded(numbers, low_content=True, perceptual_hash=kept))
        loaded = codec.load(payload)
        assert loaded is not None
        assert (loaded.perceptual_hash, loaded.low_content) == (kept, True)
        assert codec.load(payload[1:]) is None


async def test_a_vector_without_a_hash_does_not_answer_who_asks_for_both() -> None:
    async with serving() as served:

        async def asked(*, hashed: bool) -> encoder_pb2.EncodeResult:
            options = encoder_pb2.EncodeOptions(perceptual_hash=hashed)
            request = encoder_pb2.EncodeImagesRequest(images=[image(1)], options=options)
            return (await served.stub.EncodeImages(request)).results[0]

        plain = await asked(hashed=False)
        assert not plain.HasField("perceptual_hash")
        first, again = await asked(hashed=True), await asked(hashed=True)
        assert outcomes([plain, first, again]) == [MISS, MISS, HIT]
        assert first.perceptual_hash == again.perceptual_hash
        assert len(first.perceptual_hash.hash) == 32
        assert first.embedding == plain.embedding
        assert outcomes([await asked(hashed=False)]) == [HIT]


def test_keys_tell_contents_and_uses_apart() -> None:
    assert TieredCache.key("vs1-a:image", "00") == "lensmesh:1:vs1-a:image:00"
