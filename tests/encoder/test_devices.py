"""Several devices behind one encoder: each has to answer the canary, and all the same."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from encoder_svc.mock import MockModel
from encoder_svc.model import Prepared, Vector
from lensmesh.encoder.v1 import encoder_pb2
from lensmesh_chassis.errors import LensmeshError
from tests.encoder.helpers import serving, until

Worker = Callable[[Sequence[Prepared]], Sequence[Vector | LensmeshError]]
SERVICE = "lensmesh.encoder.v1.EncoderService"


class Devices(MockModel):
    """The mock on some devices; those in `broken` answer with a minus."""

    def __init__(self, count: int) -> None:
        super().__init__("mock")
        self.count = count
        self.broken: set[int] = set()
        self.asked: list[int] = []

    def workers(self) -> list[Worker]:
        return [self._worker(number) for number in range(self.count)]

    def _worker(self, number: int) -> Worker:
        def work(batch: Sequence[Prepared]) -> Sequence[Vector]:
            self.asked.append(number)
            sign = -1 if number in self.broken else 1
            return [sign * vector for vector in self.compute(batch)]

        return work


async def test_every_device_answers_the_canary_at_start() -> None:
    model = Devices(3)
    async with serving(model, canary_seconds=0):
        # A picture and a text each.
        assert sorted(model.asked) == [0, 0, 1, 1, 2, 2]


@pytest.mark.parametrize("broken", [0, 1, 2])
async def test_one_broken_device_of_three_is_found_and_told(broken: int) -> None:
    model = Devices(3)
    async with (
        serving(model, canary_seconds=0.02) as served,
        grpc.aio.insecure_channel(served.server.address) as channel,
    ):
        health = health_pb2_grpc.HealthStub(channel)

        async def status() -> int:
            return int((await health.Check(health_pb2.HealthCheckRequest(service=SERVICE))).status)

        async def reason() -> str:
            info = await served.stub.GetInfo(encoder_pb2.GetInfoRequest())
            return info.server.not_serving_reason

        assert await status() == health_pb2.HealthCheckResponse.SERVING
        model.broken.add(broken)
        while await status() != health_pb2.HealthCheckResponse.NOT_SERVING:
            pass
        assert "mock" in await reason()
        # It does not flap: all of many questions later it is still told.
        asked = len(model.asked)
        await until(lambda: len(model.asked) > asked + 8)
        assert await status() == health_pb2.HealthCheckResponse.NOT_SERVING
        model.broken.clear()
        while await status() != health_pb2.HealthCheckResponse.SERVING:
            pass
