"""Overload, deadlines, poison, a model that goes wrong: each has its own status, and others are not concerned."""

import asyncio

import grpc
import pytest
from google.rpc import code_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc

from caption_svc.app import SERVICE
from lensmesh.caption.v1 import caption_pb2
from lensmesh.common.v1 import common_pb2
from lensmesh_chassis.channels import open_channel
from lensmesh_chassis.errors import DeadlineExceeded, InternalFault, Overloaded
from lensmesh_chassis.rpc.status import from_rpc_error, from_status
from lensmesh_inference.digest import content_digest
from tests.caption.calls import ask, queue
from tests.caption.conftest import Serve
from tests.caption.fakes import FakeModel
from tests.support.waiting import until


async def test_a_full_queue_refuses_and_says_when_to_come_back(
    serve: Serve, fake: FakeModel, contents: list[bytes]
) -> None:
    client = await serve(fake, max_queue_items=4)
    fake.open.clear()
    first = ask(client, contents[:4])
    await until(lambda: queue(client).held_items == 4)
    with pytest.raises(grpc.RpcError) as caught:
        await ask(client, contents[:1])
    error = from_rpc_error(caught.value)
    assert isinstance(error, Overloaded)
    assert error.retry_after_s is not None
    assert error.retry_after_s > 0
    fake.open.set()
    assert len((await first).results) == 4


async def test_a_deadline_ends_the_wait(serve: Serve, fake: FakeModel, contents: list[bytes]) -> None:
    client = await serve(fake, max_batch=1)
    fake.open.clear()
    busy = ask(client, contents[:1])
    await until(lambda: len(fake.batches) == 2)
    request = caption_pb2.CaptionImagesRequest(images=[common_pb2.Image(content=contents[1])])
    with pytest.raises(grpc.RpcError) as caught:
        await client.stub.CaptionImages(request, timeout=0.2)
    assert isinstance(from_rpc_error(caught.value), DeadlineExceeded)
    await until(lambda: queue(client).held_items == 1)
    fake.open.set()
    await busy
    # The late one never reached the model.
    assert len(fake.batches) == 2


async def test_the_item_that_breaks_the_model_fails_alone(serve: Serve, fake: FakeModel, contents: list[bytes]) -> None:
    client = await serve(fake)
    fake.poison = {bytes.fromhex(content_digest(contents[2]))}
    results = (await ask(client, contents)).results
    failed = [index for index, result in enumerate(results) if result.WhichOneof("outcome") == "error"]
    assert failed == [2]
    assert results[2].error.code == code_pb2.INTERNAL
    assert isinstance(from_status(results[2].error), InternalFault)
    assert "secret" not in str(results[2].error)


async def test_plans_do_not_share_a_batch(serve: Serve, fake: FakeModel, contents: list[bytes]) -> None:
    client = await serve(fake)
    fake.open.clear()
    calls = [ask(client, contents[:1])]
    await until(lambda: len(fake.batches) == 2)
    for options in ({"prompt": "a"}, {"max_tokens": 3}, {"beam_count": 2}, {"prompt": "a"}):
        calls.append(ask(client, contents[:2], **options))
    await until(lambda: queue(client).queued_items == 8)
    fake.open.set()
    await asyncio.gather(*calls)
    assert all(len({job.plan for job in batch}) == 1 for batch in fake.batches)
    assert sorted(len(batch) for batch in fake.batches[2:]) == [2, 2, 4]


async def test_timings_say_where_the_time_went(serve: Serve, fake: FakeModel, contents: list[bytes]) -> None:
    client = await serve(fake)
    fake.open.clear()
    asked = ask(client, [*contents[:3], b"bad"])
    await until(lambda: len(fake.batches) == 2)
    await asyncio.sleep(0.05)
    fake.open.set()
    results = (await asked).results
    for result in results[:3]:
        timings = result.timings
        assert 1 <= timings.batch_size <= 3
        assert timings.preprocess_us > 0
        assert timings.queue_us + timings.compute_us >= 50_000
        assert timings.total_us >= timings.preprocess_us + timings.compute_us
    assert results[3].timings.batch_size == 0
    assert results[3].timings.total_us > 0


async def test_health_follows_the_canary(serve: Serve, fake: FakeModel) -> None:
    client = await serve(fake, canary_seconds=0.01)
    async with open_channel(client.server.address) as channel:
        stub = health_pb2_grpc.HealthStub(channel)

        async def status() -> int:
            return int((await stub.Check(health_pb2.HealthCheckRequest(service=SERVICE))).status)

        async def reaches(wanted: int) -> None:
            async with asyncio.timeout(30):
                while await status() != wanted:  # noqa: ASYNC110 - health is asked as probes ask it
                    await asyncio.sleep(0.01)

        await reaches(health_pb2.HealthCheckResponse.SERVING)
        fake.prefix = "noise "
        await reaches(health_pb2.HealthCheckResponse.NOT_SERVING)
        info = await client.stub.GetInfo(caption_pb2.GetInfoRequest())
        assert info.server.not_serving_reason == "fake no longer answers as it did at start"
        fake.prefix = ""
        await reaches(health_pb2.HealthCheckResponse.SERVING)
