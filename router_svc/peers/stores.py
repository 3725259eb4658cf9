"""The search services as the rest of the router uses them."""

from collections.abc import Awaitable, Callable
from typing import TypeVar

from router_svc.peers.faults import unavailable
from router_svc.peers.fleet import Fleet, Patience
from router_svc.peers.stubs import SearchStub

R = TypeVar("R")
NO_PATIENCE = Patience()


class Stores:
    """All search services of the mesh: each of them does any call, since one store is behind all."""

    def __init__(self, fleet: Fleet[SearchStub]) -> None:
        self.fleet = fleet

    async def call(
        self,
        send: Callable[[SearchStub, float], Awaitable[R]],
        *,
        patience: Patience = NO_PATIENCE,
        deadline: float | None = None,
    ) -> R:
        """One call's answer, as of Fleet.call and Fleet.patiently."""

        async def attempt() -> R:
            if not self.fleet.targets:
                raise unavailable(self.fleet.kind, ())
            return await self.fleet.call(send, self.fleet.targets, deadline=deadline)

        return await self.fleet.patiently(attempt, patience, deadline=deadline)
