"""The search services as the rest of the router uses them."""

from collections.abc import Awaitable, Callable
from typing import TypeVar

from router_svc.upstreams.errors import unavailable
from router_svc.upstreams.pool import Patience, UpstreamPool
from router_svc.upstreams.stubs import SearchStub

R = TypeVar("R")
NO_PATIENCE = Patience()


class Stores:
    """All search services of the mesh: each of them does any call, since one store is behind all."""

    def __init__(self, pool: UpstreamPool[SearchStub]) -> None:
        self.pool = pool

    async def call(
        self,
        send: Callable[[SearchStub, float], Awaitable[R]],
        *,
        patience: Patience = NO_PATIENCE,
        deadline: float | None = None,
    ) -> R:
        """One call's answer, as of Fleet.call and Fleet.patiently."""

        async def attempt() -> R:
            if not self.pool.targets:
                raise unavailable(self.pool.kind, ())
            return await self.pool.call(send, self.pool.targets, deadline=deadline)

        return await self.pool.patiently(attempt, patience, deadline=deadline)
