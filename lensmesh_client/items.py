"""Items of collections, as a client reaches them: `Client.items`."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterable, Mapping

from lensmesh.search.v1 import search_pb2
from lensmesh_chassis.errors import InvalidInput
from lensmesh_chassis.reasons import Reason
from lensmesh_chassis.rpc.status import from_status
from lensmesh_client import translate, translate_aggregations, translate_found, translate_stored
from lensmesh_client.aggregations import Aggregates, Aggregation
from lensmesh_client.arguments import taking
from lensmesh_client.connection import Connection
from lensmesh_client.filters import FilterLike, parse_filter
from lensmesh_client.found import SearchResult
from lensmesh_client.guard import building, check_text
from lensmesh_client.metadata import MAX_DEPTH
from lensmesh_client.requests import chosen
from lensmesh_client.searches import Search, StoredSearch, read_options, stored
from lensmesh_client.stored import Facet, FoundItems, Item, WrittenItem
from lensmesh_client.types import MetadataPolicy


class ItemCalls:
    """Calls about what collections hold, as the store has it: no model runs for any of them."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def upsert(
        self,
        items: Iterable[Item] | Item,
        *,
        collection: str = "",
        metadata: MetadataPolicy | str = MetadataPolicy.REPLACE,
        timeout_s: float | None = None,
    ) -> tuple[WrittenItem, ...]:
        """Write items whose vectors the caller has. What is there under an id is replaced whole.

        Vectors, caption, metadata and local features that are left out are removed. On an error nothing was written in
        PostgreSQL; in Qdrant some may have been, and sending again is safe.

        Args:
            items: 1 to `Limits.max_items` of them, no id twice.
            collection: Its name; empty means the mesh's default.
            metadata: What becomes of metadata that is stored already.
            timeout_s: Seconds until an answer; None is the client's own.

        Returns:
            What became of each item, in the order given, once all are durable.

        Raises:
            InvalidInput: An item cannot be stored; `violations` names each such item ("items[3].metadata").
            PreconditionFailed: A vector is not of its named space, or the collection keeps no local features.
            NotFound: There is no such collection.
            LensmeshError: Any other failure.
        """
        given = [items] if isinstance(items, Item) else items
        depth = (await self._connection.limits(timeout_s=timeout_s)).max_metadata_depth or MAX_DEPTH
        with building("items"):
            request = search_pb2.UpsertItemsRequest(
                collection=await self._connection.collection(collection, timeout_s),
                items=[
                    translate_stored.item_message(each, f"items[{index}]", depth) for index, each in enumerate(given)
                ],
                metadata_policy=chosen("metadata", metadata, MetadataPolicy, translate.METADATA_POLICIES),
            )
        answer = await self._connection.call(self._connection.search.UpsertItems, request, timeout_s)
        return tuple(translate_stored.written(each) for each in answer.results)

    async def get(
        self,
        ids: Iterable[str] | str,
        *,
        collection: str = "",
        with_vectors: bool = False,
        with_local_features: bool = False,
        timeout_s: float | None = None,
    ) -> FoundItems:
        """Read items by their ids.

        Args:
            ids: One id, or 1 to `Limits.max_items` of them.
            collection: Its name; empty means the mesh's default.
            with_vectors: Read the vectors' numbers as well.
            with_local_features: Read the local features as well, some 16 kB an item.
            timeout_s: Seconds until an answer; None is the client's own.

        Returns:
            Those that exist, in the order asked for, and the ids of those that do not.

        Raises:
            NotFound: There is no such collection.
            LensmeshError: Any other failure.
        """
        with building("ids"):
            request = search_pb2.GetItemsRequest(
                collection=await self._connection.collection(collection, timeout_s),
                ids=_ids(ids),
                read=read_options(with_vectors, with_local_features),
            )
        answer = await self._connection.call(self._connection.search.GetItems, request, timeout_s)
        return FoundItems(tuple(translate_stored.item(each) for each in answer.items), tuple(answer.missing_ids))

    async def list(
        self,
        *,
        collection: str = "",
        filter: FilterLike | None = None,
        with_vectors: bool = False,
        with_local_features: bool = False,
        page_size: int = 0,
        timeout_s: float | None = None,
    ) -> AsyncGenerator[Item]:
        """Walk through a collection, in an order of the store's choosing.

        Every item that is there all the while comes once. Pages are asked for as they are needed.

        Args:
            collection: Its name; empty means the mesh's default.
            filter: Which items, as in `Client.search`; None means all.
            with_vectors: Read the vectors' numbers as well.
            with_local_features: Read the local features as well, some 16 kB an item.
            page_size: Items of a page, up to `Limits.max_page_size`; 0 means 100.
            timeout_s: Seconds until the answer of each page; None is the client's own.

        Returns:
            A generator of the items.

        Raises:
            NotFound: There is no such collection.
            InvalidInput: The filter or the page's size is none.
            LensmeshError: Any other failure.
        """
        with building("list"):
            request = search_pb2.ListItemsRequest(
                collection=await self._connection.collection(collection, timeout_s),
                filter=None if filter is None else parse_filter(filter),
                read=read_options(with_vectors, with_local_features),
                page_size=page_size,
            )
        while True:
            page = await self._connection.call(self._connection.search.ListItems, request, timeout_s)
            for each in page.items:
                yield translate_stored.item(each)
            if not page.next_page_token:
                return
            request.page_token = page.next_page_token

    async def delete(
        self,
        ids: Iterable[str] | str | None = None,
        *,
        filter: FilterLike | None = None,
        collection: str = "",
        timeout_s: float | None = None,
    ) -> int:
        """Remove items by their ids, or all that a filter chooses.

        Args:
            ids: One id, or 1 to `Limits.max_items` of them.
            filter: Which items, as in `Client.search`; instead of `ids`.
            collection: Its name; empty means the mesh's default.
            timeout_s: Seconds until an answer; None is the client's own.

        Returns:
            How many items were there and are gone (about, while others write).

        Raises:
            InvalidInput: Both of `ids` and `filter` are given, or none, or the filter is none.
            NotFound: There is no such collection.
            LensmeshError: Any other failure.
        """
        if (ids is None) == (filter is None):
            raise InvalidInput(Reason.OPTION_INVALID, "delete takes exactly one of ids and filter", field="ids")
        with building("delete"):
            request = search_pb2.DeleteItemsRequest(
                collection=await self._connection.collection(collection, timeout_s),
                ids=None if ids is None else search_pb2.IdList(ids=_ids(ids)),
                filter=None if filter is None else parse_filter(filter),
            )
        answer = await self._connection.call(self._connection.search.DeleteItems, request, timeout_s)
        return answer.deleted_count

    async def facets(
        self,
        fields: Iterable[str] | str,
        *,
        collection: str = "",
        filter: FilterLike | None = None,
        limit: int = 0,
        timeout_s: float | None = None,
    ) -> tuple[Facet, ...]:
        """Count items by the values of metadata fields.

        Args:
            fields: One metadata path ("camera.iso"), or 1 to 16 of them; each must be indexed (`Collection.fields`).
            collection: Its name; empty means the mesh's default.
            filter: Over which items, as in `Client.search`; None means all.
            limit: Values of each field, up to `Limits.max_page_size`; 0 means 20.
            timeout_s: Seconds until an answer; None is the client's own.

        Returns:
            The counts of each field, in the order given.

        Raises:
            PreconditionFailed: A field is not indexed.
            NotFound: There is no such collection.
            LensmeshError: Any other failure.
        """
        with building("facets"):
            request = search_pb2.CountFacetsRequest(
                collection=await self._connection.collection(collection, timeout_s),
                fields=[fields] if isinstance(fields, str) else [*fields],
                filter=None if filter is None else parse_filter(filter),
                limit=limit,
            )
        answer = await self._connection.call(self._connection.search.CountFacets, request, timeout_s)
        return translate_stored.facets(answer.facets)

    async def aggregate(
        self,
        aggregations: Mapping[str, Aggregation],
        *,
        collection: str = "",
        filter: FilterLike | None = None,
        timeout_s: float | None = None,
    ) -> Aggregates:
        """Count and measure items: by time, by value, distinct values, numbers; several at once.

        Where a field holds a list, each of its elements is a value.

        Args:
            aggregations: 1 to 16 `CountsByTime`, `DistinctCount`, `NumberStats` and `ValueCounts`, by names of the
                caller's choosing. Metadata fields must be indexed (`Collection.fields`).
            collection: Its name; empty means the mesh's default.
            filter: Over which items, as in `Client.search`; None means all.
            timeout_s: Seconds until an answer; None is the client's own.

        Returns:
            How many items were chosen, and what each aggregation comes to.

        Raises:
            InvalidInput: An aggregation cannot be asked as it is, or has more than 10,000 buckets.
            PreconditionFailed: A field is not indexed, or as another type.
            NotFound: There is no such collection.
            LensmeshError: Any other failure.
        """
        with building("aggregations"):
            request = search_pb2.AggregateRequest(
                collection=await self._connection.collection(collection, timeout_s),
                filter=None if filter is None else parse_filter(filter),
                aggregations=translate_aggregations.messages(aggregations),
            )
        answer = await self._connection.call(self._connection.search.Aggregate, request, timeout_s)
        return translate_aggregations.aggregates(answer)

    @taking(StoredSearch)
    async def search(self, search: StoredSearch) -> SearchResult:
        """Find the nearest items to a stored one or to a vector; `Client.search` also takes texts and images.

        Returns:
            Hits, best first. Of one query, scores are cosine similarities, -1 to 1.

        Raises:
            InvalidInput: The search cannot be asked as it is.
            NotFound: There is no such collection, or no such item.
            LensmeshError: Any other failure.
        """
        collection = await self._connection.collection(search.collection, search.timeout_s)
        request = stored(search, collection)
        answer, trace_id = await self._connection.traced_call(self._connection.search.Search, request, search.timeout_s)
        return translate_found.stored(answer, trace_id)

    async def search_many(
        self, searches: Iterable[Search], *, timeout_s: float | None = None
    ) -> tuple[SearchResult, ...]:
        """Do several searches as `search` does one, in one call. A bad one fails alone.

        Args:
            searches: 1 to `Limits.max_items` of them, of any collections, by items or vectors.
            timeout_s: Seconds until an answer; None is the client's own.

        Returns:
            One result for each, in the order given; one that failed has its `error`.

        Raises:
            InvalidInput: A search is of a text or an image, or cannot be asked as it is.
            LensmeshError: Any other failure of the whole call.
        """
        request = search_pb2.BatchSearchRequest()
        with building("searches"):
            for index, search in enumerate(searches):
                collection = await self._connection.collection(search.collection, timeout_s)
                request.searches.append(stored(search, collection, f"searches[{index}]"))
        answer = await self._connection.call(self._connection.search.BatchSearch, request, timeout_s)
        return tuple(
            translate_found.stored(each.response)
            if each.WhichOneof("outcome") == "response"
            else SearchResult((), error=from_status(each.error))
            for each in answer.results
        )


def _ids(ids: Iterable[str] | str) -> list[str]:
    given = [ids] if isinstance(ids, str) else ids
    return [check_text(each, f"ids[{index}]", Reason.ITEM_ID_INVALID) for index, each in enumerate(given)]
