"""A running server with the fake service, and a channel to it."""

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from typing import Any

import grpc
import pytest

from lensmesh_chassis.channels import open_channel
from lensmesh_chassis.process.server import RunningServer, Runtime, running
from tests.support.every_shape import FakeApp, settings
from tests.support.spans_kept import Traced


@dataclass
class Served:
    """A server, its App and a channel to its first address."""

    server: RunningServer
    app: FakeApp
    channel: grpc.aio.Channel


Serve = Callable[..., AbstractAsyncContextManager[Served]]


@asynccontextmanager
async def serving(tracer_provider: Any | None = None, **changes: Any) -> AsyncIterator[Served]:
    """Run the fake service with changed settings."""
    apps: list[FakeApp] = []

    def build(runtime: Runtime[Any]) -> FakeApp:
        apps.append(FakeApp(runtime))
        return apps[0]

    async with (
        running(settings(**changes), build, "fake", tracer_provider=tracer_provider) as server,
        open_channel(server.address, tracer_provider=tracer_provider) as channel,
    ):
        yield Served(server, apps[0], channel)


@pytest.fixture
def serve() -> Serve:
    """`async with serve(drain_seconds=1) as served`."""
    return serving


@pytest.fixture
async def served() -> AsyncIterator[Served]:
    """The fake service with default settings."""
    async with serving() as one:
        yield one


@pytest.fixture
def traced() -> Iterator[Traced]:
    """A tracer provider whose spans can be read."""
    one = Traced()
    yield one
    one.provider.shutdown()
