"""Patience that is told: what the mesh waits for while nothing is answered."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from lensmesh.router.v1 import router_pb2
from lensmesh_chassis.errors import LensmeshError
from lensmesh_client import mesh, translate_mesh

if TYPE_CHECKING:  # it asks this module
    from lensmesh_client.connection import Connection
    from lensmesh_client.window import Window

NOTICE_S = 5.0
"""Silence before it is worth a word, and time between two of them."""
ASK_S = 3.0


class Silence:
    """Watches one window: asks the router why, where nothing of what was sent is answered for some seconds."""

    def __init__(self, connection: Connection, window: Window) -> None:
        self._connection = connection
        self._window = window

    async def tell(self, on_wait: Callable[[str, int], None]) -> None:
        """Call `on_wait(why, items that wait)` every few seconds of silence, without end."""
        while True:
            await asyncio.sleep(NOTICE_S)
            since = self._window.waiting_since
            silence_s = 0.0 if since is None else asyncio.get_running_loop().time() - since
            if since is not None and silence_s >= NOTICE_S:
                on_wait(await _reason(self._connection, since), self._window.unanswered)


@asynccontextmanager
async def told(connection: Connection, on_wait: Callable[[str], None] | None) -> AsyncIterator[None]:
    """Call `on_wait(why)` every few seconds while the block, which waits for one answer, goes on."""
    if on_wait is None:
        yield
        return
    say, began = on_wait, asyncio.get_running_loop().time()

    async def tell() -> None:
        # A router that asks a silent service takes a moment itself.
        await asyncio.sleep(NOTICE_S - ASK_S / 2)
        while True:
            say(await _reason(connection, began))
            await asyncio.sleep(NOTICE_S)

    telling = asyncio.create_task(tell())
    try:
        yield
    finally:
        telling.cancel()
        await asyncio.gather(telling, return_exceptions=True)


async def _reason(connection: Connection, since: float) -> str:
    try:
        answer, _ = await connection.silent_call(connection.router.GetStatus, router_pb2.GetStatusRequest(), ASK_S)
        reason = why(translate_mesh.status(answer))
    except LensmeshError as error:
        reason = error.message
    return f"no answer for {asyncio.get_running_loop().time() - since:.0f} s: {reason}"


def why(status: mesh.MeshStatus) -> str:
    """Say which services of a mesh do not serve, and their own reasons; or that all do, and are at work."""
    sick = [service for service in status.services if service.health is not mesh.Health.SERVING]
    reasons = [f"{service.kind} at {service.address}: {service.reason or service.health}" for service in sick]
    return "; ".join(reasons) or "all services serve and are at work"
