"""Envoys, fakes behind them, and channels to them."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from lensmesh.encoder.v1 import encoder_pb2_grpc
from lensmesh_chassis.channels import open_channel
from lensmesh_chassis.process.server import Runtime, running
from lensmesh_chassis.settings import ServiceSettings
from lensmesh_local.sidecars.model import HostPort
from tests.sidecars.envoys import LOCAL, Envoys
from tests.sidecars.fakes import Replica


@pytest.fixture
async def envoys(tmp_path: Path) -> AsyncIterator[Envoys]:
    """Ended with the test."""
    async with Envoys(tmp_path) as envoys:
        yield envoys


@dataclass
class Pair:
    """Two fake Encoders, each behind its Envoy, and the router's Envoy before them."""

    envoys: Envoys
    egress: HostPort
    stub: "encoder_pb2_grpc.EncoderServiceAsyncStub"
    inbounds: list[HostPort] = field(default_factory=list)
    replicas: list[Replica] = field(default_factory=list)

    @property
    def calls(self) -> list[int]:
        """How many each has had."""
        return [replica.calls for replica in self.replicas]


@pytest.fixture
async def pair(envoys: Envoys) -> AsyncIterator[Pair]:
    """Both healthy; the channel retries nothing itself, so that what is seen is Envoy's doing."""
    replicas: list[Replica] = []

    def build(runtime: Runtime[ServiceSettings]) -> Replica:
        replicas.append(Replica(runtime))
        return replicas[-1]

    async with AsyncExitStack() as stack:
        inbounds = []
        for number in (1, 2):
            settings = ServiceSettings(listen=f"{LOCAL}:0", instance=f"encoder-{number}")
            server = await stack.enter_async_context(running(settings, build, "fake"))
            inbounds.append(await envoys.inbound("encoder", server.address, f"encoder-{number}"))
        egress = await envoys.egress("encoder", *inbounds)
        await envoys.until_healthy("router", "egress_encoder", 2)
        await envoys.until_answered(egress)
        channel = await stack.enter_async_context(open_channel(str(egress), services=[], instrument=False))
        yield Pair(envoys, egress, encoder_pb2_grpc.EncoderServiceStub(channel), inbounds, replicas)
