"""The client's methods that find items by words and images."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import TYPE_CHECKING

from lensmesh.router.v1 import router_pb2
from lensmesh_chassis.errors import LensmeshError
from lensmesh_chassis.rpc.status import from_status
from lensmesh_client import batches, translate_found
from lensmesh_client.arguments import taking
from lensmesh_client.connection import Connection
from lensmesh_client.found import SearchResult
from lensmesh_client.guard import building
from lensmesh_client.searches import Search, TimedSearch, reads_files, routed
from lensmesh_client.tracing import operation

if TYPE_CHECKING:
    from collections.abc import Sequence


class SearchCalls:
    """RouterService.Search and BatchSearch."""

    _connection: Connection

    @operation("lensmesh search")
    @taking(TimedSearch)
    async def search(self, search: TimedSearch) -> SearchResult:
        """Find the nearest items. One of `text`, `image`, `item_id`, `embedding`, `words` and `queries` says to what.

        Returns:
            Hits, best first. Of one query, scores are cosine similarities, -1 to 1; of several, `Hit.legs` has those.

        Raises:
            InvalidInput: The search cannot be asked as it is.
            NotFound: There is no such collection, or no such item.
            PreconditionFailed: The mesh has no encoder for the collection's space.
            LensmeshError: Any other failure.
        """
        timeout_s, most = search.timeout_s, 0
        if reads_files(search):
            most = (await self._connection.limits(timeout_s=timeout_s)).max_image_bytes
        request = await asyncio.to_thread(routed, search, "", most)
        answer, trace_id = await self._connection.traced_call(self._connection.router.Search, request, timeout_s)
        return translate_found.routed(answer, trace_id)

    @operation("lensmesh search_many")
    async def search_many(
        self, searches: Iterable[Search | str], *, timeout_s: float | None = None
    ) -> list[SearchResult]:
        """Do several searches at once; their texts and images are encoded together. A bad one fails alone.

        Args:
            searches: Texts, or `Search`es with all that `search` takes. Cut to the server's limits, four calls at a
                time.
            timeout_s: Seconds until the answer of each call; None is the client's own.

        Returns:
            One result for each, in the order given; one that failed has its `error`.

        Raises:
            LensmeshError: The failure of a whole call.
        """
        limits = await self._connection.limits(timeout_s=timeout_s)
        with building("searches"):
            given = [each if isinstance(each, Search) else Search(each) for each in searches]
        connection = self._connection

        async def ask(chunk: list[router_pb2.SearchRequest]) -> Sequence[router_pb2.BatchSearchResult]:
            request = router_pb2.BatchSearchRequest(searches=chunk)
            return (await connection.call(connection.router.BatchSearch, request, timeout_s)).results

        def load(search: Search, path: str) -> router_pb2.SearchRequest:
            return routed(search, path, limits.max_image_bytes)

        return [_result(answer) for answer in await batches.answers(given, load, ask, limits, "searches")]


def _result(answer: router_pb2.BatchSearchResult | LensmeshError) -> SearchResult:
    if isinstance(answer, LensmeshError):
        return SearchResult((), error=answer)
    if answer.WhichOneof("outcome") == "response":
        return translate_found.routed(answer.response)
    return SearchResult((), error=from_status(answer.error))
