"""Live progress of index jobs, over a WebSocket: the jobs as they stand, then each change."""

import asyncio
import contextlib
from typing import Any

from starlette.routing import BaseRoute, WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect

from http_svc.compat.arthur_items import ArthurContext
from http_svc.json_bodies import dump
from lensmesh.search.v1 import search_pb2
from lensmesh_chassis.errors import LensmeshError

# Jobs that are told: the newest. Jobs change twice a second at most.
_MOST_JOBS = 20
_POLL_SECONDS = 0.5
# While the mesh does not answer.
_PAUSE_SECONDS = 2.0
_GOING_AWAY = 1001
_STATES = {
    search_pb2.JOB_STATE_PENDING: "pending",
    search_pb2.JOB_STATE_RUNNING: "running",
    search_pb2.JOB_STATE_SUCCEEDED: "succeeded",
    search_pb2.JOB_STATE_FAILED: "failed",
    search_pb2.JOB_STATE_CANCELLED: "cancelled",
}
_TROUBLE = ""


class _Watcher:
    """One client, with what it was not told yet: the last state of each job, however slowly it reads."""

    def __init__(self, states: dict[str, dict[str, Any]]) -> None:
        self.pending = dict(states)
        self.changed = asyncio.Event()
        if states:
            self.changed.set()

    def tell(self, name: str, state: dict[str, Any]) -> None:
        """Note a state to be sent."""
        self.pending[name] = state
        self.changed.set()

    async def send_all(self, socket: WebSocket) -> None:
        """Send each state once it is there, without end."""
        while True:
            await self.changed.wait()
            self.changed.clear()
            while self.pending:
                name = next(iter(self.pending))
                await socket.send_text(dump(self.pending.pop(name)).decode())


class IndexProgress:
    """The clients that watch. The mesh is asked once for all of them, and not at all while there is none."""

    def __init__(self, context: ArthurContext, draining: asyncio.Event) -> None:
        self._context, self._mesh = context, context.mesh
        self._draining = draining
        self._watchers: set[_Watcher] = set()
        self._states: dict[str, dict[str, Any]] = {}
        self._polling: asyncio.Task[None] | None = None

    def routes(self) -> list[BaseRoute]:
        """Return the route."""
        return [WebSocketRoute("/ws/index-progress", self.watch)]

    async def watch(self, socket: WebSocket) -> None:
        """Tell one client, until it leaves, takes nothing any more, or the process goes away."""
        await socket.accept()
        watcher = _Watcher(self._states)
        self._watchers.add(watcher)
        if self._polling is None:
            self._polling = asyncio.create_task(self._poll())
        sending = asyncio.create_task(watcher.send_all(socket))
        leaving = asyncio.create_task(_until_left(socket))
        ending = asyncio.create_task(self._draining.wait())
        try:
            await asyncio.wait({sending, leaving, ending}, return_when=asyncio.FIRST_COMPLETED)
            if sending.done() and isinstance(sending.exception(), TimeoutError):
                # Neither would it take a word of farewell.
                socket.scope["state"]["abort"]()
            elif ending.done():
                with contextlib.suppress(WebSocketDisconnect, OSError):
                    await socket.close(_GOING_AWAY, "the service is shutting down: connect again")
        finally:
            self._watchers.discard(watcher)
            tasks = [sending, leaving, ending]
            if not self._watchers and self._polling is not None:
                tasks.append(self._polling)
                self._polling = None
                self._states.clear()
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _poll(self) -> None:
        while True:
            try:
                await self._ask()
                pause = _POLL_SECONDS
            except LensmeshError as error:
                self._tell(_TROUBLE, {"type": "error", "message": error.message})
                pause = _PAUSE_SECONDS
            await asyncio.sleep(pause)

    async def _ask(self) -> None:
        asked = search_pb2.ListJobsRequest(
            collection=self._context.collection,
            kind=search_pb2.JOB_KIND_REBUILD_INDEXES,
            page_size=_MOST_JOBS,
        )
        jobs = (await self._mesh.call(self._mesh.search.ListJobs, asked)).jobs
        self._states.pop(_TROUBLE, None)
        for gone in set(self._states) - {job.id for job in jobs}:
            del self._states[gone]
        for job in reversed(jobs):
            self._tell(job.id, shown_job(job))

    def _tell(self, name: str, state: dict[str, Any]) -> None:
        if self._states.get(name) == state:
            return
        self._states[name] = state
        for watcher in self._watchers:
            watcher.tell(name, state)


def shown_job(job: search_pb2.Job) -> dict[str, Any]:
    """Return a job as these clients are told: counts in items, `rate` in items a second."""
    done, total = job.done_count, job.total_count
    finished = job.state == search_pb2.JOB_STATE_SUCCEEDED
    return {
        "type": "progress",
        "job_id": job.id,
        "state": _STATES.get(job.state, "unknown"),
        "done": done,
        "total": total,
        "percent": 100.0 if finished else round(min(100.0 * done / total, 100.0), 1) if total else 0.0,
        "message": job.error.message if job.HasField("error") else job.message,
        "rate": round(job.units_per_second, 1),
    }


async def _until_left(socket: WebSocket) -> None:
    """Wait for the client to leave. What it says is not read."""
    while (await socket.receive())["type"] != "websocket.disconnect":
        pass
