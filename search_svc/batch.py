"""BatchSearch: several searches in one call, a few at a time, each failing alone."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence

from lensmesh.search.v1 import search_pb2
from lensmesh_chassis.errors import LensmeshError, Unavailable
from lensmesh_chassis.messages.packing import Slices, copy_all
from lensmesh_chassis.rpc.status import to_status
from search_svc.wire.pages import Room, too_large


async def answer_batch(
    searches: Sequence[search_pb2.SearchRequest],
    answer: Callable[[search_pb2.SearchRequest], Awaitable[search_pb2.SearchResponse]],
    *,
    parallel: int,
    max_message_bytes: int,
) -> search_pb2.BatchSearchResponse:
    """Run the searches and return one result for each, in order.

    Raises:
        InvalidInput: RESPONSE_TOO_LARGE; the work that is left is not done.
        Unavailable: the store is away, which is no single search's fault.
    """
    response = search_pb2.BatchSearchResponse(results=[search_pb2.BatchSearchResult() for _ in searches])
    room = Room(max_message_bytes)
    waiting = iter(range(len(searches)))

    async def worker() -> None:
        for place in waiting:
            result = response.results[place]
            try:
                found = await answer(searches[place])
                result.response.exact = found.exact
                result.response.failed_legs.extend(found.failed_legs)
                result.response.SetInParent()
                await copy_all(found.hits, result.response.hits)
            except Unavailable:
                raise
            except Exception as error:  # noqa: BLE001 - a bad search fails alone; to_status logs what is no LensmeshError
                result.error.CopyFrom(to_status(error))
            slices, size = Slices(), 0
            for hit in result.response.hits:
                size += room.measure(hit)
                if slices.over:
                    await slices.rest()
            if not room.take_bytes(size or result.ByteSize()):
                fits = room.fits(len(searches))
                raise too_large("limit", fits, max_message_bytes, "send fewer searches in one call")

    try:
        async with asyncio.TaskGroup() as group:
            for _ in range(min(parallel, len(searches))):
                group.create_task(worker())
    except* LensmeshError as errors:
        raise errors.exceptions[0] from None
    return response
