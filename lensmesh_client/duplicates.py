"""Groups of images that look the same, and the stream that they are read from."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass
from datetime import datetime

from lensmesh.search.v1 import search_pb2
from lensmesh_chassis.errors import Cancelled, DeadlineExceeded, Unavailable
from lensmesh_chassis.reasons import Reason
from lensmesh_client import translate
from lensmesh_client.connection import Connection
from lensmesh_client.guard import check_seconds

_PAUSES_S = (0.1, 2.0)
# Of one stream where the whole has no limit: beyond it the reading is begun again.
_STREAM_S = 3_600.0


@dataclass(frozen=True, slots=True)
class DuplicateItem:
    """An image of a group, as it was when the job read it."""

    id: str
    distance: int
    """Number of bits in which it differs from the group's first item, up to 31."""
    quality: int | None
    """Quality of its hash, 0 to 100; None without a hash."""
    same_content: bool
    """True where it is the very same file as the group's first item."""
    create_time: datetime


@dataclass(frozen=True, slots=True)
class DuplicateGroup:
    """Images that look the same: two at least."""

    index: int
    """Place among the groups, from 0; larger groups come first."""
    items: tuple[DuplicateItem, ...]
    """Items of the group: first the one that stands for it, then by distance. Keep the first, and nothing is lost that
    does not look like it."""


async def reread(
    connection: Connection, request: search_pb2.ReadDuplicatesRequest, *, patience_s: float, timeout_s: float | None
) -> AsyncGenerator[DuplicateGroup]:
    """Yield groups over as many streams as that takes. See `JobCalls.read_duplicates`."""
    clock = asyncio.get_running_loop().time
    timeout_s, patience_s = check_seconds(timeout_s, "timeout_s"), check_seconds(patience_s, "patience_s") or 0.0
    deadline = None if timeout_s is None else clock() + timeout_s
    heard, pause_s = clock(), _PAUSES_S[0]
    while True:
        left_s = _STREAM_S if deadline is None else min(_STREAM_S, deadline - clock())
        if left_s <= 0:
            raise DeadlineExceeded(Reason.DEADLINE_EXCEEDED, f"not all groups of the job {request.job_id} came in time")
        answers = connection.streamed(connection.search.ReadDuplicates, request, left_s)
        try:
            async with aclosing(answers):
                begun: list[DuplicateItem] = []
                async for answer in answers:
                    heard, pause_s = clock(), _PAUSES_S[0]
                    for part in answer.groups:
                        begun += [_item(item) for item in part.items]
                        if len(begun) >= part.item_count:
                            group, begun = DuplicateGroup(part.index, tuple(begun)), []
                            request.first_group = part.index + 1
                            yield group
                            # Whoever takes the groups may take long over one.
                            heard = clock()
                return
        except (Unavailable, Cancelled, DeadlineExceeded):
            is_over = deadline is not None and clock() >= deadline
            if not is_over and clock() - heard > patience_s:
                raise
        await asyncio.sleep(pause_s)
        pause_s = min(2 * pause_s, _PAUSES_S[1])


def _item(message: search_pb2.DuplicateItem) -> DuplicateItem:
    return DuplicateItem(
        message.id,
        message.distance,
        message.quality if message.HasField("quality") else None,
        message.same_content,
        translate.moment(message.create_time),
    )
