"""`/ws/index-progress`: the jobs as they stand, then each change; clients that leave, or never read."""

import asyncio
import json
from typing import Any

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from lensmesh.search.v1 import search_pb2
from lensmesh_chassis.errors import Unavailable
from lensmesh_chassis.reasons import Reason
from lensmesh_chassis.rpc.status import to_status
from tests.http.conftest import Door
from tests.support.waiting import until

PATH = "/ws/index-progress"
UPGRADE = (
    f"GET {PATH} HTTP/1.1\r\nhost: localhost\r\nconnection: Upgrade\r\nupgrade: websocket\r\n"
    "sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
).encode()


def socket(door: Door, **options: Any) -> Any:
    """Open a WebSocket."""
    return connect(f"ws://{door.server.address}{PATH}", **options)


async def told(client: ClientConnection) -> dict[str, Any]:
    """Return the next message."""
    found: dict[str, Any] = json.loads(await client.recv())
    return found


def job(done: int, state: search_pb2.JobState.ValueType = search_pb2.JOB_STATE_RUNNING) -> search_pb2.Job:
    """A job of 200 items."""
    return search_pb2.Job(
        id="job-1", state=state, done_count=done, total_count=200, message="space image", units_per_second=12.34
    )


def jobs(*listed: search_pb2.Job) -> search_pb2.ListJobsResponse:
    """A page of jobs."""
    return search_pb2.ListJobsResponse(jobs=listed)


async def test_jobs_are_told_as_they_stand_and_as_they_change(door: Door) -> None:
    older = search_pb2.Job(id="job-0", state=search_pb2.JOB_STATE_FAILED)
    older.error.CopyFrom(to_status(Unavailable(Reason.STORE_FULL, "the disk is full")))
    door.router.answers["ListJobs"] = jobs(job(50), older)
    async with socket(door) as client, socket(door) as other:
        shown = await told(client)
        assert (shown["job_id"], shown["state"], shown["message"]) == ("job-0", "failed", "the disk is full")
        assert await told(client) == {
            "type": "progress",
            "job_id": "job-1",
            "state": "running",
            "done": 50,
            "total": 200,
            "percent": 25.0,
            "message": "space image",
            "rate": 12.3,
        }
        door.router.answers["ListJobs"] = jobs(job(200, search_pb2.JOB_STATE_SUCCEEDED), older)
        shown = await told(client)
        assert (shown["job_id"], shown["state"], shown["percent"]) == ("job-1", "succeeded", 100.0)
        assert {(await told(other))["job_id"], (await told(other))["job_id"]} == {"job-0", "job-1"}
    asked = door.router.requests["ListJobs"][0]
    assert (asked.collection, asked.kind) == ("arthur", search_pb2.JOB_KIND_REBUILD_INDEXES)


async def test_the_mesh_is_asked_only_while_somebody_watches(door: Door) -> None:
    door.router.hold = asyncio.Event()
    async with socket(door):
        await until(lambda: door.router.entered, "the first question")
    await until(lambda: door.router.cancelled, "its end")
    door.router.hold = None
    door.router.answers["ListJobs"] = jobs(job(1))
    async with socket(door) as client:
        assert (await told(client))["done"] == 1


async def test_connections_that_became_sockets_are_counted_until_they_close(stopped_door: Door) -> None:
    door = await stopped_door.start(max_connections=3)
    for _ in range(5):
        async with socket(door) as client:
            await client.ping()
    assert (await door.client.get("/livez")).status_code == 200


async def test_a_router_that_is_away_is_told(door: Door) -> None:
    door.router.answers["ListJobs"] = Unavailable(Reason.SEARCH_UNAVAILABLE, "no search service answers")
    async with socket(door) as client:
        assert await told(client) == {"type": "error", "message": "no search service answers"}


async def test_a_client_that_never_reads_is_closed(stopped_door: Door) -> None:
    door = await stopped_door.start(body_seconds=0.2)
    changes = iter(range(1_000_000))

    def large(_: Any) -> search_pb2.ListJobsResponse:
        return jobs(job(next(changes)))

    door.router.answers["ListJobs"] = large
    reader, writer = await asyncio.open_connection(*door.host_and_port)
    try:
        writer.write(UPGRADE)
        assert b" 101 " in await reader.readline()
        # Pings come and get no answer.
        async with asyncio.timeout(20):
            while await reader.read(65536):
                pass
    finally:
        writer.close()


async def test_a_drain_sends_watchers_away(door: Door) -> None:
    door.router.answers["ListJobs"] = jobs(job(1))
    async with socket(door) as client:
        await told(client)
        door.server.runtime.draining.set()
        with pytest.raises(ConnectionClosed) as closed:
            await told(client)
    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == 1001


async def test_pages_of_other_origins_may_not_watch(door: Door) -> None:
    with pytest.raises(InvalidStatus):
        async with socket(door, origin="https://evil.example"):
            pass
    assert door.router.entered == 0
