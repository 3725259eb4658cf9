"""Small services that behave by the contracts, each on a port of its own."""

from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from typing import Any

import grpc

from lensmesh_chassis.process.server import Runtime, running
from lensmesh_chassis.settings import ServiceSettings
from tests.router.fake_models import FakeCaptioner, FakeEncoder
from tests.router.fake_search import FakeSearch
from tests.router.faults import OTHER_SPACE, SPACE, vector

__all__ = ["OTHER_SPACE", "SPACE", "Fake", "FakeCaptioner", "FakeEncoder", "FakeSearch", "Host", "vector"]

Fake = FakeEncoder | FakeCaptioner | FakeSearch


class Host:
    """One fake on a port of its own, which it keeps when it is killed and started again."""

    def __init__(self, fake: Fake, **settings: Any) -> None:
        self.fake = fake
        self._settings = settings
        self.address = "127.0.0.1:0"
        self.runtime: Runtime[Any] | None = None
        self._stack = AsyncExitStack()

    async def start(self) -> None:
        chosen: dict[str, Any] = {"listen": self.address, "drain_seconds": 0, "instance": self.fake.name}
        settings = ServiceSettings(**(chosen | self._settings))
        server = await self._stack.enter_async_context(running(settings, self._app(), "fake"))
        self.address, self.runtime = server.address, server.runtime

    async def kill(self) -> None:
        """Drops every call and every connection."""
        await self._stack.aclose()

    def _app(self) -> Callable[[Runtime[Any]], Any]:
        fake = self.fake

        class App:
            def __init__(self, runtime: Runtime[Any]) -> None:
                pass

            def register(self, server: grpc.aio.Server) -> Sequence[str]:
                fake.add(server)
                return [fake.name]

            async def start(self) -> None:
                pass

            async def stop(self) -> None:
                pass

        return App
