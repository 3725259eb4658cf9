"""The client's methods that find items by words and images."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterable
from functools import partial
from typing import TYPE_CHECKING

from lensmesh.router.v1 import router_pb2
from lensmesh_chassis.errors import LensmeshError
from lensmesh_chassis.rpc.status import from_status
from lensmesh_client import batches, queries, requests, translate
from lensmesh_client.connection import Connection
from lensmesh_client.filters import FilterLike, parse_filter
from lensmesh_client.guard import building
from lensmesh_client.images import ImageLike
from lensmesh_client.queries import Search
from lensmesh_client.tracing import operation
from lensmesh_client.types import SearchResult

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import ArrayLike


class SearchCalls:
    """RouterService.Search and BatchSearch."""

    _connection: Connection

    @operation("lensmesh search")
    async def search(
        self,
        text: str | None = None,
        *,
        image: ImageLike | None = None,
        item_id: str | None = None,
        embedding: ArrayLike | None = None,
        space_id: str = "",
        collection: str = "",
        space: str = "",
        filter: FilterLike | None = None,
        limit: int = 10,
        offset: int = 0,
        min_score: float | None = None,
        exact: bool = False,
        with_vectors: bool = False,
        timeout_s: float | None = None,
    ) -> SearchResult:
        """Find the nearest items. Exactly one of `text`, `image`, `item_id` and `embedding` says to what.

        Args:
            text: What the image shows, in words.
            image: An image like this one.
            item_id: An image like this item's; the item itself is no hit.
            embedding: A vector of shape (d,) of the space `space_id`.
            space_id: The embedding's space (`Embeddings.space_id`).
            collection: Its name; empty means the mesh's default.
            space: The collection's name for the space to look in; empty means its first.
            filter: Which items may be found: "key=value", "key>=3" and so on, several of these, all of which must
                hold, or a contract's Filter. None means all.
            limit: How many hits, up to `Limits.max_hits`.
            offset: How many of the best to leave out first.
            min_score: Leave out hits below it.
            exact: Compare with every item instead of asking the index.
            with_vectors: Read the hits' vectors as well.
            timeout_s: Seconds until an answer; None is the client's own.

        Returns:
            Hits, best first. Scores are cosine similarities, -1 to 1.

        Raises:
            InvalidInput: The search cannot be asked as it is.
            NotFound: There is no such collection, or no such item.
            PreconditionFailed: The mesh has no encoder for the collection's space.
            LensmeshError: Any other failure.
        """
        most = 0
        if isinstance(image, str | os.PathLike):
            most = (await self._connection.limits(timeout_s=timeout_s)).max_image_bytes
        query = await asyncio.to_thread(requests.query, text, image, item_id, embedding, space_id, space, most)
        with building("search"):
            request = router_pb2.SearchRequest(
                collection=collection,
                queries=[query],
                filter=None if filter is None else parse_filter(filter),
                limit=limit,
                offset=offset,
                min_score=min_score,
                tuning=queries.tuning(exact),
                read=queries.read_options(with_vectors),
            )
        answer, trace_id = await self._connection.traced_call(self._connection.router.Search, request, timeout_s)
        return translate.found(answer, trace_id)

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

        load = partial(queries.routed, max_image_bytes=limits.max_image_bytes)
        return [_result(answer) for answer in await batches.answers(given, load, ask, limits, "searches")]


def _result(answer: router_pb2.BatchSearchResult | LensmeshError) -> SearchResult:
    if isinstance(answer, LensmeshError):
        return SearchResult((), error=answer)
    if answer.WhichOneof("outcome") == "response":
        return translate.found(answer.response)
    return SearchResult((), error=from_status(answer.error))
