"""Patience that is told: what the mesh waits for while nothing is answered."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from lensmesh.router.v1 import router_pb2
from lensmesh_chassis.errors import LensmeshError
from lensmesh_client import mesh, translate_mesh
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
            if silence_s >= NOTICE_S:
                on_wait(f"no answer for {silence_s:.0f} s: {await self._reason()}", self._window.unanswered)

    async def _reason(self) -> str:
        try:
            answer = await self._connection.call(
                self._connection.router.GetStatus, router_pb2.GetStatusRequest(), ASK_S
            )
        except LensmeshError as error:
            return error.message
        return why(translate_mesh.status(answer))


def why(status: mesh.MeshStatus) -> str:
    """Say which services of a mesh do not serve, and their own reasons; or that all do, and are at work."""
    sick = [service for service in status.services if service.health is not mesh.Health.SERVING]
    reasons = [f"{service.kind} at {service.address}: {service.reason or service.health}" for service in sick]
    return "; ".join(reasons) or "all services serve and are at work"
