"""How many items an answer of the store may have."""

from typing import Any

import pytest

from lensmesh.search.v1 import search_pb2
from router_svc.answer_sizes import items_of

TWO_HITS, ANY_HITS = search_pb2.SearchRequest(limit=2), search_pb2.SearchRequest()
AGGREGATIONS = search_pb2.AggregateRequest(
    aggregations=[
        search_pb2.Aggregation(value_counts=search_pb2.ValueCounts(limit=7)),
        search_pb2.Aggregation(value_counts=search_pb2.ValueCounts()),
        search_pb2.Aggregation(counts_by_time=search_pb2.CountsByTime()),
    ]
)


@pytest.mark.parametrize(
    ("request_", "items"),
    [
        (search_pb2.GetItemsRequest(ids=["a", "b", "c"]), 3),
        (search_pb2.ListItemsRequest(page_size=7), 7),
        (search_pb2.ListItemsRequest(), 100),
        (TWO_HITS, 2),
        (search_pb2.GetItemsRequest(ids=["a", "b"], read=search_pb2.ReadOptions(local_features=True)), 6),
        (search_pb2.SearchRequest(limit=2, read=search_pb2.ReadOptions(local_features=True)), 6),
        (search_pb2.BatchSearchRequest(searches=[TWO_HITS, ANY_HITS]), 12),
        (search_pb2.CountFacetsRequest(fields=["a", "b"], limit=3), 6),
        (AGGREGATIONS, 7 + 20 + 20),
        (search_pb2.GetInfoRequest(), 0),
        (search_pb2.UpsertItemsRequest(items=[search_pb2.Item(id="a")]), 0),
    ],
)
def test_answers_are_as_long_as_their_requests_ask(request_: Any, items: int) -> None:
    assert items_of(request_) == items
