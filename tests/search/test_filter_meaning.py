"""Stores and a plain evaluator agree on every filter, with field indexes and without."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from search_svc.app import make_store
from search_svc.filters import All, Equals, Exists, Filter, Not, NumberRange, Some, TimeRange
from search_svc.model import Caption, Collection, FieldType, Item, View
from search_svc.postgres.predicates import Parameters, Predicate
from search_svc.postgres.tables import items_table
from search_svc.store import Store
from search_svc.times import parse_time
from tests.search.conftest import settings_for
from tests.search.evaluate import metadata_of, passes
from tests.search.support import definition

INDEXES = {
    "k": FieldType.KEYWORD,
    "n": FieldType.NUMBER,
    "b": FieldType.BOOL,
    "t": FieldType.TIME,
    "k.n": FieldType.NUMBER,
}
BASE = datetime(2026, 1, 31, 12, tzinfo=UTC)
times = st.builds(lambda hours: BASE + timedelta(hours=hours), st.integers(-2, 2))
offsets = st.sampled_from(["Z", "z", "+00:00", "-03:30", "+15:59"])


@st.composite
def time_texts(draw: st.DrawFn) -> str:
    moment = draw(times) + timedelta(microseconds=draw(st.sampled_from([0, 0, 500_000])))
    return moment.isoformat().replace("+00:00", draw(offsets)).replace("T", draw(st.sampled_from("Tt")))


# Few values, so that tests meet them; among them those that a careless store takes for one another.
strings = st.sampled_from(["", "a", "b", "1", "true", "null", "é", "A", "a b", '"', "\\", "%", "2026-02-30T00:00:00Z"])
numbers = st.sampled_from([0.0, -0.0, 1.0, 1.5, 2.0, -1.0, 0.1, 1e22, 1e-7, 1e300])
scalars: st.SearchStrategy[Any] = strings | time_texts() | numbers | st.booleans()
levels = st.sampled_from(["k", "n", "b", "t", "0", "a"])
leaves: st.SearchStrategy[Any] = st.none() | scalars
values: st.SearchStrategy[Any] = st.recursive(
    leaves, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(levels, inner, max_size=3), max_leaves=4
)
metadata = st.dictionaries(levels, values, max_size=4)
paths = st.lists(levels, min_size=1, max_size=2).map(tuple) | st.sampled_from([("k",), ("n",), ("b",), ("t",)])
own = st.sampled_from([("$id",), ("$caption",), ("$content_digest",)])


@st.composite
def interval(draw: st.DrawFn, bounds: st.SearchStrategy[Any]) -> dict[str, Any]:
    names = draw(st.lists(st.sampled_from(["at_least", "above", "at_most", "below"]), unique=True, max_size=3))
    return {name: draw(bounds) for name in names}


conditions: st.SearchStrategy[Filter] = st.one_of(
    st.builds(Equals, paths, st.lists(scalars, max_size=3).map(tuple)),
    st.builds(Equals, own, st.lists(st.sampled_from(["a", "i1", "00", "ff", "FF", 1.0, True]), max_size=2).map(tuple)),
    st.builds(lambda path, bounds: NumberRange(path, **bounds), paths | own, interval(numbers)),
    st.builds(lambda path, bounds: TimeRange(path, **bounds), paths | own, interval(times)),
    st.builds(Exists, paths | own),
)
filters: st.SearchStrategy[Filter] = st.recursive(
    conditions,
    lambda inner: st.one_of(
        st.builds(Not, inner),
        st.builds(All, st.lists(inner, max_size=3).map(tuple)),
        st.builds(Some, st.lists(inner, max_size=3).map(tuple)),
    ),
    max_leaves=5,
)


def items_of(all_metadata: list[dict[str, Any]]) -> list[Item]:
    captions = [None, Caption("a", 0, 0, False, ""), Caption("", 0, 0, False, "")]
    return [
        Item(
            f"i{i}",
            metadata=json.dumps(each, ensure_ascii=False),
            caption=captions[i % 3],
            content_digest=(b"", b"\x00", b"\xff")[i % 3],
        )
        for i, each in enumerate(all_metadata)
    ]


async def chosen(store: Store, collection: Collection, tree: Filter) -> set[str]:
    page = await store.list_items(
        collection, filter=tree, after="", count=100, view=View.ID, max_bytes=1 << 20, timeout_s=60
    )
    return {item.id for item in page.items}


async def compare(store: Store, all_metadata: list[dict[str, Any]], trees: list[Filter], indexed: bool) -> None:
    name, indexes = ("indexed", INDEXES) if indexed else ("plain", {})
    made = await store.create_collection(definition(name, indexes=indexes), timeout_s=60)
    collection = made.collection
    items = items_of(all_metadata)
    await store.delete_matching(collection, All(()), timeout_s=60)
    await store.upsert(collection, items, timeout_s=60)
    for tree in trees:
        expected = {item.id for item in items if passes(tree, item, metadata_of(item))}
        assert await chosen(store, collection, tree) == expected, tree


# The same examples every time: a test that fails now and then helps nobody.
thorough = settings(
    max_examples=40,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large],
    phases=[Phase.explicit, Phase.generate],
)
cases = given(st.lists(metadata, min_size=1, max_size=8), st.lists(filters, min_size=1, max_size=6))


@thorough
@cases
async def test_stores_mean_what_the_contract_says(
    store: Store, all_metadata: list[dict[str, Any]], trees: list[Filter]
) -> None:
    await compare(store, all_metadata, trees, indexed=False)


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
        if here is None and there is not None:
            # Beyond the years 1 to 9999, once the offset is taken off.
            assert not -62135596800_000000 <= there < 253402300800_000000, row["t"]
        else:
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
