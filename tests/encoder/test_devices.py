"""Several devices behind one encoder: each is asked the canary's question, and answers for itself."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Sequence

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from encoder_svc.model import EncoderInput, Vector
from encoder_svc.models.mock import MockModel
from lensmesh.encoder.v1 import encoder_pb2
from lensmesh_chassis.channels import OWN_CONNECTIONS
from lensmesh_chassis.errors import LensmeshError
from tests.encoder.helpers import Served, serving
from tests.support.waiting import until

Worker = Callable[[Sequence[EncoderInput]], Sequence[Vector | LensmeshError]]
SERVICE = "lensmesh.encoder.v1.EncoderService"
SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


class Devices(MockModel):
    """The mock on some devices; those in `broken` answer with a minus, those not `free` not at all."""

    def __init__(self, count: int) -> None:
        super().__init__("mock")
        self.count = count
        self.broken: set[int] = set()
        self.free = [threading.Event() for _ in range(count)]
        for free in self.free:
            free.set()
        self.asked: list[int] = []

    def workers(self) -> list[Worker]:
        return [self._worker(number) for number in range(self.count)]

    def _worker(self, number: int) -> Worker:
        def work(batch: Sequence[EncoderInput]) -> Sequence[Vector]:
            self.asked.append(number)
            assert self.free[number].wait(60)
            sign = -1 if number in self.broken else 1
            return [sign * vector for vector in self.compute(batch)]

        return work


async def test_every_device_answers_the_canary_at_start() -> None:
    model = Devices(3)
    async with serving(model, canary_seconds=0):
        # An image and a text each.
        assert sorted(model.asked) == [0, 0, 1, 1, 2, 2]


async def status(channel: grpc.aio.Channel) -> int:
    return int((await health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(service=SERVICE))).status)


async def reaches(channel: grpc.aio.Channel, wanted: int) -> None:
    async with asyncio.timeout(30):
        while await status(channel) != wanted:  # noqa: ASYNC110 - health is asked as probes ask it
            await asyncio.sleep(0.01)


async def reason(served: Served) -> str:
    return (await served.stub.GetInfo(encoder_pb2.GetInfoRequest())).server.not_serving_reason


@pytest.mark.parametrize("broken", [0, 1, 2])
async def test_one_broken_device_of_three_is_found_and_told(broken: int) -> None:
    model = Devices(3)
    async with (
        serving(model, canary_seconds=0.02) as served,
        grpc.aio.insecure_channel(served.server.address, [OWN_CONNECTIONS]) as channel,
    ):
        assert await status(channel) == SERVING
        model.broken.add(broken)
        await reaches(channel, NOT_SERVING)
        assert await reason(served) == f"mock on device {broken} no longer answers as it did at start"
        # It does not flap: many questions later it is still told.
        asked = len(model.asked)
        await until(lambda: len(model.asked) > asked + 20)
        assert await status(channel) == NOT_SERVING
        model.broken.clear()
        await reaches(channel, SERVING)


async def test_one_device_that_never_answers_is_told_however_busy_the_others_are() -> None:
    model = Devices(2)
    async with (
        serving(model, canary_seconds=0.02, canary_timeout_seconds=0.2, cache_bytes=0) as served,
        grpc.aio.insecure_channel(served.server.address, [OWN_CONNECTIONS]) as channel,
    ):
        stop = asyncio.Event()

        async def work() -> None:
            while not stop.is_set():
                await served.stub.EncodeTexts(encoder_pb2.EncodeTextsRequest(texts=["a cat"]))

        model.free[1].clear()
        await until(lambda: len(served.engine.served[0].batcher.running()) > 0)
        working = asyncio.create_task(work())
        try:
            await reaches(channel, NOT_SERVING)
            assert await reason(served) == "mock on device 1 has not answered its canary for 0.2 s"
        finally:
            model.free[1].set()
            stop.set()
            await working
        await reaches(channel, SERVING)
