"""Number of items that an answer of the store may have, as its request asks."""

from typing import Any

from lensmesh.search.v1 import search_pb2

# What 0 means in the contract. Search itself decides: `default_hits` in its settings, the others in its service.py.
_HITS, _PAGE, _FACET_VALUES = 10, 100, 20
# Ten thousand buckets of time are no larger than so many items.
_BUCKETS = 20
# An item with its local features is as large as so many without.
_PLAIN_ITEMS = 3


def items_of(request: Any) -> int:
    """Count items, hits or values of the answer to `request`; 0 for what is no read of items."""
    match request:
        case search_pb2.GetItemsRequest():
            return len(request.ids) * plain_items(request.read)
        case search_pb2.ListItemsRequest():
            return (request.page_size or _PAGE) * plain_items(request.read)
        case search_pb2.SearchRequest():
            return (request.limit or _HITS) * plain_items(request.read)
        case search_pb2.BatchSearchRequest():
            return sum(map(items_of, request.searches))
        case search_pb2.CountFacetsRequest():
            return len(request.fields) * (request.limit or _FACET_VALUES)
        case search_pb2.AggregateRequest():
            return sum(
                (each.value_counts.limit or _FACET_VALUES) if each.HasField("value_counts") else _BUCKETS
                for each in request.aggregations
            )
        case _:
            return 0


def plain_items(read: search_pb2.ReadOptions) -> int:
    """Return how many items without local features one that is read so is as large as."""
    return _PLAIN_ITEMS if read.local_features else 1
