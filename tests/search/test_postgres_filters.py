"""Filters in PostgreSQL: by its indexes too, and times as Python reads them."""

from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from search_svc.app import make_store
from search_svc.filters import All, Equals, Exists, Filter, Not, NumberRange, TimeRange
from search_svc.postgres.predicates import Parameters, Predicate
from search_svc.postgres.tables import items_table
from search_svc.store import Store
from search_svc.times import parse_time
from tests.search.conftest import settings_for
from tests.search.filter_cases import cases, compare
from tests.search.strategies import BASE, INDEXES, strings, thorough, time_texts
from tests.search.support import definition


@pytest.fixture
def store_url(database_url: str) -> str:
    """PostgreSQL alone."""
    return database_url


@thorough
@cases
async def test_indexes_change_no_answer(
    database_url: str, all_metadata: list[dict[str, Any]], trees: list[Filter]
) -> None:
    # Tables this small are never read through an index unless there is no other way.
    store = make_store(settings_for(database_url + "&enable_seqscan=off"))
    await store.open()
    try:
        await compare(store, all_metadata, trees, indexed=True)
    finally:
        await store.close()


odd_times = st.from_regex(
    r"\A(0000|0001|2024|2025|9999)-(02|12|00|13)-(28|29|30|31|00)[Tt ](00|23|24):(00|59):(00|59|60)"
    r"(\.[0-9]{1,9})?([Zz]|[+-](00|15|16):(00|59|60))\n?\Z"
)


@settings(thorough, max_examples=30)
@given(st.lists(odd_times | time_texts() | strings, min_size=50, max_size=100))
async def test_python_and_postgresql_read_the_same_times(store: Store, database_url: str, texts: list[str]) -> None:
    connection = await asyncpg.connect(database_url)
    try:
        rows = await connection.fetch(
            "SELECT t, extract(epoch FROM lensmesh.parse_time(t)) AS s FROM unnest($1::text[]) AS t", texts
        )
    finally:
        await connection.close()
    for row in rows:
        moment = parse_time(row["t"])
        here = None if moment is None else (moment - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)
        there = None if row["s"] is None else int(row["s"] * 1_000_000)
        assert here == there, row["t"]


async def test_tests_of_indexed_fields_use_their_indexes(store: Store, database_url: str) -> None:
    made = await store.create_collection(definition(indexes=INDEXES), timeout_s=60)
    # Tables this small are never read through an index unless there is no other way.
    connection = await asyncpg.connect(database_url + "&enable_seqscan=off")
    trees: list[tuple[Filter, str]] = [
        (Equals(("k",), ("v7",)), "expr_idx"),
        (Equals(("k",), ("v7", "v8")), "expr_idx"),
        (Equals(("b",), (True,)), "expr_idx"),
        (Equals(("n",), (7.0,)), "number_min"),
        (NumberRange(("n",), at_least=490.0), "number_min"),
        (NumberRange(("k", "n"), below=1.0), "number_min"),
        (TimeRange(("t",), above=BASE), "time_min"),
        (All((Not(Exists(("a",))), Equals(("k",), ("v7",)))), "expr_idx"),
        (Equals(("$content_digest",), ("00",)), "content_digest"),
        (Equals(("$id",), ("a",)), "id_key"),
    ]
    for tree, index in trees:
        parameters = Parameters()
        condition = Predicate(made.collection.definition, parameters).sql(tree)
        table = items_table(made.collection.key)
        rows = await connection.fetch(f"EXPLAIN SELECT FROM {table} AS i WHERE {condition}", *parameters.values)
        plan = "\n".join(row[0] for row in rows)
        assert index in plan, plan
    await connection.close()
