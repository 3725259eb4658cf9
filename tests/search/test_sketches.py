"""Searches with a filter that few items pass: in PostgreSQL by the sketches that a field's index has."""

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import asyncpg
import numpy as np
import pytest

from search_svc.app import make_store
from search_svc.filters import All, Equals, Filter, Not, NumberRange, Some
from search_svc.legs import Fusion, GroupBy, VectorLeg
from search_svc.metadata import MetadataLimits
from search_svc.model import Collection, FieldType, Item, View
from search_svc.postgres import searching, sketch_search, sketches
from search_svc.postgres.database import Database
from search_svc.postgres.migrations import prepare
from search_svc.postgres.one_statement import OneStatement
from search_svc.postgres.sketch_filling import fill_sketches
from search_svc.postgres.steps import STEPS
from search_svc.store import Query, Store
from tests.search.conftest import settings_for
from tests.search.support import definition

DIMENSION = 32
KEYWORDS = {"k": FieldType.KEYWORD, "n": FieldType.NUMBER}
# Values of the field, and filters that find them: as the contract reads them, and as lists.
VALUES: list[Any] = ["a", "b", "", 1, 1.5, True, None, ["a"], ["a", "b"], [], [["a"]], {"a": 1}]
FILTERS: list[Filter] = [
    Equals(("k",), ("a",)),
    Equals(("k",), ("a", "b")),
    Equals(("k",), (1.0,)),
    Equals(("k",), (True,)),
    Equals(("k",), ("",)),
    Equals(("k",), ("none",)),
    All((Equals(("k",), ("a",)), NumberRange(("n",), at_least=5.0))),
    All((NumberRange(("n",), at_least=5.0), All((Equals(("k",), ("b",)),)))),
    Not(Equals(("k",), ("a",))),
    Some((Equals(("k",), ("a",)), Equals(("n",), (3.0,)))),
]


def unit(vectors: Any) -> Any:
    return (vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)).astype(np.float16)


def drawn(count: int, seed: int = 3) -> Any:
    random = np.random.default_rng(seed)
    centres = np.random.default_rng(4).standard_normal((12, DIMENSION))
    return unit(centres[random.integers(0, 12, count)] + 0.6 * random.standard_normal((count, DIMENSION)))


def items(vectors: Any, values: Sequence[Any]) -> list[Item]:
    """Items with these values in turn, but for every tenth, which has none."""
    return [
        Item(f"i{i:05}", {"image": vector}, metadata=json.dumps(_metadata(i, values)))
        for i, vector in enumerate(vectors)
    ]


def _metadata(number: int, values: Sequence[Any]) -> dict[str, Any]:
    return {"n": number % 10} | ({"k": values[number % len(values)]} if number % 10 else {})


async def filled(store: Store, made: Sequence[Item], name: str = "pictures") -> Collection:
    collection = (
        await store.create_collection(definition(name, dimension=DIMENSION, indexes=KEYWORDS), timeout_s=60)
    ).collection
    for begin in range(0, len(made), 500):
        await store.upsert(collection, made[begin : begin + 500], timeout_s=60)
    return collection


def query(collection: Collection, vector: Any, tree: Filter | None, **changes: Any) -> Query:
    leg = VectorLeg(collection.definition.spaces[0], vector, changes.pop("item_id", ""))
    return replace(Query((leg,), tree, 10, 0, None, False, None, View.ID, max_bytes=1 << 24), **changes)


async def found(store: Store, asked: Query, collection: Collection) -> list[tuple[str, float]]:
    hits = await store.search(collection, asked, timeout_s=60)
    return [(hit.item.id, round(hit.score, 3)) for hit in hits.hits]


async def is_right(store: Store, collection: Collection, vectors: Any, tree: Filter, **changes: Any) -> int:
    """Check that searches find what exact ones do, and return how many hits they had."""
    count = 0
    for vector in vectors:
        asked = query(collection, vector, tree, **changes)
        hits = await found(store, asked, collection)
        assert hits == await found(store, replace(asked, exact=True), collection), tree
        count += len(hits)
    return count


async def test_filters_find_the_nearest_whatever_a_field_holds(store: Store) -> None:
    made = items(drawn(300), VALUES)
    collection = await filled(store, made)
    counts = [await is_right(store, collection, drawn(2, 9), tree) for tree in FILTERS]
    assert counts[5] == 0
    assert all(count == 20 for place, count in enumerate(counts) if place not in (4, 5, 7))
    # Near an item, which is no hit itself, in pages, in groups and fused.
    for tree in FILTERS[:4]:
        await is_right(store, collection, [None], tree, item_id=made[8].id)
        await is_right(store, collection, drawn(1, 9), tree, limit=7, offset=15)
        await is_right(store, collection, drawn(1, 9), tree, group_by=GroupBy((("n",),)))
        await is_right(store, collection, drawn(1, 9), tree, fusion=Fusion())


async def test_what_changes_is_found_where_it_is_then(store: Store) -> None:
    vectors = drawn(60)
    collection = await filled(store, items(vectors, ["a", "b"]))
    there, tree = drawn(1, 9)[0], Equals(("k",), ("c",))

    async def hits() -> list[str]:
        return [item_id for item_id, _ in await found(store, query(collection, there, tree), collection)]

    assert await hits() == []
    one = Item("i00003", {"image": vectors[3]}, metadata='{"k": "c"}')
    other = Item("i00004", {"image": vectors[4]}, metadata='{"k": "c"}')
    await store.upsert(collection, [one, other], timeout_s=60)
    assert sorted(await hits()) == ["i00003", "i00004"]
    # A vector alone; a vector that goes; metadata that is merged; an item that goes.
    nearer = int(await hits() == ["i00003", "i00004"])
    changed = replace((one, other)[nearer], vectors={"image": there})
    await store.upsert(collection, [changed], timeout_s=60)
    assert (await hits())[0] == changed.id
    await store.upsert(collection, [replace(changed, vectors={})], timeout_s=60)
    assert await hits() == [(one, other)[1 - nearer].id]
    await store.upsert(
        collection,
        [replace(changed, metadata='{"k": ["x", "c"]}')],
        merge=MetadataLimits(1000, 5),
        timeout_s=60,
    )
    assert (await hits())[0] == changed.id
    await store.delete_ids(collection, [one.id], timeout_s=60)
    assert await hits() == [other.id]
    await store.delete_matching(collection, tree, timeout_s=60)
    assert await hits() == []


@pytest.fixture
def few_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    """So few that sketches decide which."""
    monkeypatch.setattr(sketch_search, "_COMPARED", 60)
    monkeypatch.setattr(sketch_search, "_COMPARED_A_HIT", 1)


@pytest.mark.usefixtures("few_compared")
async def test_sketches_tell_which_vectors_may_be_near(database_url: str) -> None:
    store = make_store(settings_for(database_url))
    await store.open()
    try:
        vectors = drawn(600)
        # Many of one vector: of these all are compared, and the first by their ids are hits.
        vectors[300:400] = vectors[300]
        collection = await filled(store, items(vectors, ["a"]))
        tree, shares = Equals(("k",), ("a",)), []
        for vector in drawn(20, 9):
            hits = await found(store, query(collection, vector, tree), collection)
            best = await found(store, query(collection, vector, tree, exact=True), collection)
            assert len(hits) == 10
            shares.append(len({*hits} & {*best}) / 10)
        # By chance it were a tenth of them.
        assert np.mean(shares) > 0.8
        asked = query(collection, vectors[300], tree, limit=80)
        assert await found(store, asked, collection) == await found(store, replace(asked, exact=True), collection)
    finally:
        await store.close()


async def _plan(url: str, collection: Collection, tree: Filter) -> str:
    """The plan of a search, as it ran."""
    database = Database(url, pool_size=1, connect_s=20, idle_s=60, settings=searching.session_settings(100))
    await database.open()
    asked = query(collection, drawn(1, 9)[0], tree)
    assert asked.only_leg is not None
    statement = OneStatement(collection, asked, asked.only_leg, [20])
    try:
        rows = await database.run(
            lambda c: c.fetch(f"EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF) {statement.text}", *statement.values),
            timeout_s=60,
        )
    finally:
        await database.close()
    return "\n".join(row[0] for row in rows)


def _reads_sketches(plan: str) -> bool:
    """Whether sketches were compared. They are read from an index alone, and items are not touched."""
    lines = plan[plan.index("<~>") :].splitlines()
    read = next(line for line in lines if "Index Only Scan using items_1_field_0_key_sketch_0_idx" in line)
    return "never executed" not in read


async def test_items_are_not_touched_where_few_pass(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    store = make_store(settings_for(database_url))
    await store.open()
    try:
        collection = await filled(store, items(drawn(400), [*"abcdefgh"]))
    finally:
        await store.close()
    connection = await asyncpg.connect(database_url)
    await connection.execute("VACUUM ANALYZE")
    await connection.close()
    url = database_url + "&enable_seqscan=off&enable_bitmapscan=off"
    one, several = Equals(("k",), ("a",)), Equals(("k",), ("a", "b", "c"))
    for tree in (one, several):
        assert _reads_sketches(await _plan(url, collection, tree))
    # More than the graph would walk over.
    monkeypatch.setattr(sketch_search, "_LEAST_READ", 50)
    monkeypatch.setattr(sketch_search, "_READ_SHARE", 0.1)
    assert not _reads_sketches(await _plan(url, collection, several))
    # Lists may hold anything, and too many of them would be read for nothing.
    monkeypatch.setattr(sketch_search, "_LEAST_READ", 1000)
    assert _reads_sketches(await _plan(url, collection, one))
    store = make_store(settings_for(database_url))
    await store.open()
    try:
        await store.upsert(collection, [Item(f"l{i}", metadata='{"k": ["z"]}') for i in range(300)], timeout_s=60)
    finally:
        await store.close()
    assert not _reads_sketches(await _plan(url, collection, one))


async def test_items_of_before_get_sketches(database_url: str) -> None:
    made = items(drawn(40), VALUES)
    store = make_store(settings_for(database_url))
    await store.open()
    collection = await filled(store, [*made, Item("bare", metadata='{"k": "a"}')])
    await store.close()
    connection = await asyncpg.connect(database_url)
    table, read = f"lensmesh.items_{collection.key}", "SELECT id, field_0, sketch_0 FROM {} ORDER BY id"
    written = await connection.fetch(read.format(table))
    step = next(step for step in STEPS if step.work is fill_sketches)
    await connection.execute(f"ALTER TABLE {table} DROP COLUMN field_0, DROP COLUMN sketch_0")
    await connection.execute("DELETE FROM lensmesh.schema_version WHERE version >= $1", step.version)
    await prepare(connection, STEPS[: step.version])
    assert await connection.fetch(read.format(table)) == written
    indexes = await connection.fetchval(
        "SELECT count(*) FROM pg_indexes WHERE indexdef LIKE '%INCLUDE (key, sketch_0)'"
    )
    await connection.close()
    assert indexes == 1
    assert [row["sketch_0"] is None for row in written if row["id"] == "bare"] == [True]
    # Values that are equal to a filter, and only these, have one digest.
    digests = {row["id"]: row["field_0"] for row in written}
    assert digests["i00012"] == digests["i00024"] == digests["bare"] != digests["i00001"]
    assert digests["i00010"] is None


def test_the_first_pairs_of_fields_and_spaces_have_indexes() -> None:
    fields = {f"f{i}": FieldType.KEYWORD for i in range(7)} | {"n": FieldType.NUMBER}
    one = definition(dimension=DIMENSION, indexes=fields)
    flat, other = replace(one.spaces[0], hnsw=None), replace(one.spaces[0], name="other")
    several = replace(one, spaces=(flat, one.spaces[0], other))
    assert [tuple(cover) for cover in sketches.covers(several)] == [*((i, 1) for i in range(7)), (0, 2)]
    assert sketches.sketched(several) == [1, 2]
    assert sketches.covers(definition(indexes={"n": FieldType.NUMBER})) == ()
    assert sketches.find_cover(Equals(("f1",), ("x",)), several, 0) is None
    found = sketches.find_cover(All((Not(Equals(("f0",), ("x",))), Equals(("f1",), ("x",)))), several, 1)
    assert found is not None
    assert (tuple(found.cover), found.is_all) == ((1, 1), False)
    assert sketches.find_cover(Equals(("f1",), ("x",)), several, 2) is None
    too_many = tuple(str(i) for i in range(sketches.MAX_VALUES + 1))
    assert sketches.find_cover(Equals(("f1",), too_many), several, 1) is None


@pytest.mark.parametrize("scale", [1.0, 1e-4, 3e4])
def test_bits_differ_as_vectors_do_whatever_their_length(scale: float) -> None:
    vectors = drawn(50).astype(np.float32)
    made = [sketches.sketch(vector) for vector in vectors * scale]
    assert made == [sketches.sketch(vector) for vector in vectors]
    bits = np.array([[int(bit) for bit in str(each.as_string()).replace(" ", "")] for each in made])
    differing = (bits[:, None] != bits[None]).sum(axis=2)
    cosines = vectors @ vectors.T
    assert np.corrcoef(differing.ravel(), cosines.ravel())[0, 1] < -0.8
    assert len(sketches.sketch(np.zeros(3000, np.float32))) == 2048
