"""A watch of a job that is begun again where its connection ends."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing

from lensmesh.search.v1 import search_pb2
from lensmesh_chassis.errors import Cancelled, DeadlineExceeded, Unavailable
from lensmesh_chassis.reasons import Reason
from lensmesh_client.connection import Connection
from lensmesh_client.guard import check_seconds

_PAUSES_S = (0.1, 2.0)
# Of one stream where the whole has no limit: beyond it the watch is begun again.
_STREAM_S = 3_600.0


async def rewatched(
    connection: Connection, request: search_pb2.WatchJobRequest, *, patience_s: float, timeout_s: float | None
) -> AsyncGenerator[search_pb2.WatchJobResponse]:
    """Yield what a watch tells until the job has ended, over as many streams as that takes. See `JobCalls.watch`."""
    clock = asyncio.get_running_loop().time
    timeout_s, patience_s = check_seconds(timeout_s, "timeout_s"), check_seconds(patience_s, "patience_s") or 0.0
    deadline = None if timeout_s is None else clock() + timeout_s
    heard, pause_s = clock(), _PAUSES_S[0]
    while True:
        left_s = _STREAM_S if deadline is None else min(_STREAM_S, deadline - clock())
        if left_s <= 0:
            raise DeadlineExceeded(Reason.DEADLINE_EXCEEDED, f"the job {request.id} has not ended in time; it goes on")
        answers = connection.streamed(connection.search.WatchJob, request, left_s)
        try:
            async with aclosing(answers):
                async for answer in answers:
                    heard, pause_s = clock(), _PAUSES_S[0]
                    yield answer
                return
        except DeadlineExceeded:
            # Of this stream, or of the whole: then the next look says so.
            pass
        except (Unavailable, Cancelled):
            if clock() - heard > patience_s:
                raise
        await asyncio.sleep(pause_s)
        pause_s = min(2 * pause_s, _PAUSES_S[1])
