"""Stores and a plain evaluator agree on every filter, with field indexes and without."""

from datetime import UTC, datetime
from typing import Any

import pytest

from search_svc.filters import Equals, Filter, NumberRange, TimeRange
from search_svc.model import Item, View
from search_svc.store import Store
from tests.search.filter_cases import cases, chosen, compare
from tests.search.strategies import thorough
from tests.search.support import definition


@pytest.mark.parametrize("indexed", [False, True])
@thorough
@cases
async def test_stores_mean_what_the_contract_says(
    store: Store, indexed: bool, all_metadata: list[dict[str, Any]], trees: list[Filter]
) -> None:
    await compare(store, all_metadata, trees, indexed=indexed)


FIRST, LAST = datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)
ODD: list[dict[str, Any]] = [
    {"n": [[1]]},
    {"n": [0, [1]]},
    {"n": -0.0},
    {"n": [5e-324, 1.7976931348623157e308]},
    {"n": 0.1},
    {"t": [["2026-01-31T12:00:00Z"]]},
    {"t": "9999-12-31T23:59:59.999999Z"},
    {"t": "9999-12-31T23:59:59.9999999Z"},
    {"t": "0001-01-01T00:00:00Z"},
    # No instants of the years 1 to 9999, once the offset is taken off.
    {"t": ["9999-12-31T23:59:59-01:00", "9999-12-31T23:59:60Z"]},
    {"t": "0001-01-01T00:00:00+00:01"},
    {"t": "2026-01-31T12:00:00.1234567+15:59"},
    {"": 1, "a.b": 2, "a": {"b": 3, "": 4}},
    {"k": "\u00e9"},
    {"k": "e\u0301"},
    {"k": ["\uffff", "\U0001f600"]},
]
ASKED: list[Filter] = [
    *(NumberRange(("n",), at_least=bound) for bound in (1.0, 0.0, 5e-324, 1.7976931348623157e308)),
    *(NumberRange(("n",), above=bound) for bound in (0.0, 0.1, 1.7976931348623157e308)),
    NumberRange(("n",)),
    Equals(("n",), (0.0,)),
    Equals(("n",), (5e-324, 0.1)),
    TimeRange(("t",)),
    *(TimeRange(("t",), at_least=bound) for bound in (FIRST, LAST)),
    *(TimeRange(("t",), at_most=bound) for bound in (FIRST, LAST)),
    *(TimeRange(("t",), above=bound) for bound in (FIRST, LAST)),
    *(TimeRange(("t",), below=bound) for bound in (FIRST, LAST)),
    Equals(("a", "b"), (2.0, 3.0)),
    *(Equals(("k",), (text,)) for text in ("\u00e9", "e\u0301", "\U0001f600")),
]


@pytest.mark.parametrize("indexed", [False, True])
async def test_odd_values_mean_the_same_everywhere(store: Store, indexed: bool) -> None:
    await compare(store, ODD, ASKED, indexed=indexed)


async def test_the_own_times_of_items_lie_between_the_first_and_the_last_instant(store: Store) -> None:
    collection = (await store.create_collection(definition("plain"), timeout_s=60)).collection
    await store.upsert(collection, [Item("a")], timeout_s=60)
    made = (await store.get_items(collection, ["a"], view=View.BASIC, max_bytes=1 << 20, timeout_s=60)).items[0]
    assert made.create_time is not None
    for tree, ids in (
        (TimeRange(("$create_time",), above=FIRST, below=LAST), {"a"}),
        (TimeRange(("$create_time",), at_least=LAST), set()),
        (TimeRange(("$update_time",), at_most=FIRST), set()),
        (Equals(("$create_time",), ("9999-12-31T23:59:59.999999Z", made.create_time.isoformat())), {"a"}),
    ):
        assert await chosen(store, collection, tree) == ids, tree
