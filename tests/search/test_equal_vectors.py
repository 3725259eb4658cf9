"""Many items of one vector: they are all found, and spoil no search for others. Pages of a search fit together."""

import asyncio
import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import asyncpg
import numpy as np
import pytest

from search_svc.app import make_store
from search_svc.candidates import FoundItem, first, page
from search_svc.definitions import definition_to_json
from search_svc.filters import All, Equals, Filter, Matches
from search_svc.legs import VectorLeg
from search_svc.model import Collection, Item, View
from search_svc.postgres.migrations import prepare
from search_svc.postgres.steps import STEPS
from search_svc.store import Query, Store
from search_svc.words.queries import read_words
from tests.search.conftest import settings_for
from tests.search.support import definition

DIMENSION = 16


def unit(vectors: Any) -> Any:
    return (vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)).astype(np.float16)


def query(collection: Collection, vector: Any, limit: int = 10, offset: int = 0, **changes: Any) -> Query:
    space = collection.definition.spaces[0]
    made = Query((VectorLeg(space, vector),), None, limit, offset, None, False, None, View.ID, max_bytes=1 << 24)
    return replace(made, **changes)


async def ask(store: Store, collection: Collection, asked: Query) -> list[tuple[str, float]]:
    hits = await store.search(collection, asked, timeout_s=60)
    assert [hit.rank for hit in hits.hits] == list(range(asked.offset + 1, asked.offset + 1 + len(hits.hits)))
    found = [(hit.item.id, hit.score) for hit in hits.hits]
    assert found == sorted(found, key=lambda hit: (-hit[1], hit[0].encode()))
    return found


async def filled(store: Store, items: Sequence[Item]) -> Collection:
    made = await store.create_collection(definition(dimension=DIMENSION), timeout_s=60)
    for begin in range(0, len(items), 400):
        await store.upsert(made.collection, items[begin : begin + 400], timeout_s=60)
    return made.collection


def mixture(equal: int, others: int) -> tuple[list[Item], Any]:
    """Items of which the first have one vector, and the vectors of the others."""
    random = np.random.default_rng(3)
    centres = random.standard_normal((60, DIMENSION))
    vectors = unit(centres[random.integers(0, 60, others)] + 0.7 * random.standard_normal((others, DIMENSION)))
    same = unit(centres[0])
    items = [Item(f"dup{i:05}", {"image": same}, metadata=json.dumps({"n": i % 50})) for i in range(equal)]
    items += [Item(f"one{i:05}", {"image": vector}) for i, vector in enumerate(vectors)]
    return items, vectors


async def test_equal_vectors_leave_searches_for_others_as_they_are(database_url: str) -> None:
    store = make_store(settings_for(database_url + "&enable_seqscan=off"))
    await store.open()
    try:
        items, vectors = mixture(300, 900)
        collection = await filled(store, items)
        await _is_right(store, collection, items, vectors)
    finally:
        await store.close()


async def _is_right(store: Store, collection: Collection, items: list[Item], vectors: Any) -> None:
    queries = unit(vectors[:40].astype(np.float64) + 0.05 * np.random.default_rng(5).standard_normal((40, DIMENSION)))
    recalls = []
    for vector in queries:
        found = await ask(store, collection, query(collection, vector))
        exact = await ask(store, collection, query(collection, vector, exact=True))
        recalls.append(np.mean([score >= exact[-1][1] - 1e-6 for _, score in found]))
    assert np.mean(recalls) >= 0.98, recalls
    # All of the equal ones, by id; and those that a filter lets pass.
    same = items[0].vectors["image"]
    equal = [item.id for item in items if item.id.startswith("dup")]
    found = await ask(store, collection, query(collection, same, len(equal)))
    assert [item_id for item_id, _ in found] == equal
    tree = Equals(("n",), (7.0,))
    passing = [item.id for item in items if json.loads(item.metadata).get("n") == 7]
    found = await ask(store, collection, query(collection, same, len(passing), filter=tree))
    assert [item_id for item_id, _ in found] == passing
    # Near one of them: all others, and not itself.
    near = VectorLeg(collection.definition.spaces[0], item_id=equal[3])
    found = await ask(store, collection, query(collection, None, len(equal) - 1, legs=(near,)))
    assert [item_id for item_id, _ in found] == [item_id for item_id in equal if item_id != equal[3]]


async def _rows(url: str, table: str) -> int:
    connection = await asyncpg.connect(url)
    try:
        return int(await connection.fetchval(f"SELECT count(*) FROM lensmesh.{table}"))
    finally:
        await connection.close()


async def test_a_vector_is_there_as_long_as_an_item_has_it(database_url: str) -> None:
    store = make_store(settings_for(database_url))
    await store.open()
    try:
        one, other = unit(np.eye(DIMENSION)[0]), unit(np.eye(DIMENSION)[1])
        collection = await filled(store, [Item(name, {"image": one}) for name in "abc"])
        table = f"vectors_{collection.key}_0"
        assert await _rows(database_url, table) == 1
        await store.upsert(collection, [Item("a", {"image": other}), Item("b")], timeout_s=60)
        assert await _rows(database_url, table) == 2
        assert await store.delete_ids(collection, ["c"], timeout_s=60) == 1
        assert await _rows(database_url, table) == 1
        assert [hit[0] for hit in await ask(store, collection, query(collection, one))] == ["a"]
        await store.delete_matching(collection, All(()), timeout_s=60)
        assert await _rows(database_url, table) == 0
        with pytest.raises(asyncio.CancelledError):
            await _cut_off(store, collection, one)
        assert await _rows(database_url, table) == (await store.count_items(collection, timeout_s=60)).item_count
    finally:
        await store.close()


async def _cut_off(store: Store, collection: Collection, vector: Any) -> None:
    writing = asyncio.create_task(store.upsert(collection, [Item("z", {"image": vector})], timeout_s=60))
    await asyncio.sleep(0)
    writing.cancel()
    await writing


async def test_writers_of_the_same_vectors_at_the_same_time(database_url: str) -> None:
    store = make_store(settings_for(database_url))
    await store.open()
    try:
        vectors = unit(np.eye(DIMENSION)[:3])
        collection = await filled(store, [])
        random = np.random.default_rng(1)

        async def write(number: int) -> None:
            for _ in range(6):
                items = [Item(f"{number}-{i}", {"image": vectors[random.integers(3)]}) for i in range(3)]
                await store.upsert(collection, items, timeout_s=60)
                await store.delete_ids(collection, [f"{number}-0"], timeout_s=60)

        await asyncio.gather(*(write(number) for number in range(5)))
        assert len(await ask(store, collection, query(collection, vectors[0], 100))) == 10
        assert await _rows(database_url, f"members_{collection.key}_0") == 10
        unused = f"vectors_{collection.key}_0 AS v WHERE NOT EXISTS (SELECT FROM lensmesh.members_{collection.key}_0"
        assert await _rows(database_url, f"{unused} AS m WHERE m.vector = v.key)") == 0
    finally:
        await store.close()


_AS_IT_WAS = """
    CREATE TABLE lensmesh.items_1 (
        key bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, id text COLLATE "C" NOT NULL UNIQUE,
        metadata jsonb NOT NULL, caption_text text, caption_confidence real, caption_token_count bigint,
        caption_truncated boolean, caption_model text, image_uri text NOT NULL, content_digest bytea NOT NULL,
        create_time timestamptz NOT NULL, update_time timestamptz NOT NULL);
    CREATE INDEX by_number ON lensmesh.items_1
        (lensmesh.number_min((metadata -> U&'n'::text)), lensmesh.number_max((metadata -> U&'n'::text)));
    CREATE TABLE lensmesh.vectors_1_0 (key bigint PRIMARY KEY REFERENCES lensmesh.items_1 ON DELETE CASCADE,
        vector halfvec(16) NOT NULL);
    CREATE INDEX ON lensmesh.vectors_1_0 USING hnsw (vector halfvec_cosine_ops) WITH (m = 16, ef_construction = 128);
    INSERT INTO lensmesh.items_1 (id, metadata, image_uri, content_digest, create_time, update_time)
        SELECT 'dup' || i, jsonb_build_object('n', i % 4), '', '', now(), now() FROM generate_series(1, 40) AS i;
    INSERT INTO lensmesh.items_1 (id, metadata, image_uri, content_digest, create_time, update_time)
        VALUES ('nested', '{"n": [[1]]}', '', '', now(), now()), ('bare', '{}', '', '', now(), now());
    UPDATE lensmesh.items_1 SET caption_text = 'dogs run', caption_confidence = 1, caption_token_count = 2,
        caption_truncated = false, caption_model = 'm' WHERE id = 'nested';
"""


async def test_collections_of_older_versions_are_brought_up_to_date(database_url: str) -> None:
    connection = await asyncpg.connect(database_url)
    await prepare(connection, STEPS[:1])
    made = definition(dimension=DIMENSION, language="")
    await connection.execute(
        "INSERT INTO lensmesh.collections (name, definition, create_time) VALUES ('pictures', $1, now())",
        definition_to_json(made),
    )
    await connection.execute(_AS_IT_WAS)
    one, other = np.eye(DIMENSION)[0].tolist(), np.eye(DIMENSION)[1].tolist()
    await connection.execute(
        "INSERT INTO lensmesh.vectors_1_0 SELECT key, CASE WHEN id LIKE 'dup%' THEN $1::text::halfvec"
        " ELSE $2::text::halfvec END FROM lensmesh.items_1 WHERE id <> 'bare'",
        str(one),
        str(other),
    )
    await connection.close()
    store = make_store(settings_for(database_url))
    await store.open()
    try:
        collection = await store.find_collection("pictures", fresh=True, timeout_s=60)
        assert len(collection.uid) == 36
        assert await _rows(database_url, "vectors_1_0") == 2
        found = await ask(store, collection, query(collection, unit(np.array(one)), 50))
        assert [item_id for item_id, _ in found] == [*sorted(f"dup{i}" for i in range(1, 41)), "nested"]
        results = await store.upsert(
            collection, [Item("new", {"image": unit(np.eye(DIMENSION)[2])}), Item("dup1")], timeout_s=60
        )
        assert len(results) == 2
        read = await store.get_items(collection, ["dup2", "bare"], view=View.FULL, max_bytes=1 << 20, timeout_s=60)
        assert [set(item.vectors) for item in read.items] == [{"image"}, set()]
        assert not read.items[0].low_content
        assert collection.definition.language == "en"
        tree = Matches(("$caption",), read_words("dog"))
        page = await store.list_items(
            collection, filter=tree, after="", count=9, view=View.ID, max_bytes=1 << 20, timeout_s=60
        )
        assert [item.id for item in page.items] == ["nested"]
        await store.delete_matching(collection, All(()), timeout_s=60)
        assert await _rows(database_url, "vectors_1_0") == 0
    finally:
        await store.close()


@pytest.mark.parametrize("tied", [True, False])
async def test_pages_are_what_one_request_gives(store: Store, tied: bool) -> None:
    random = np.random.default_rng(7)
    vectors = unit(np.repeat(random.standard_normal((3, DIMENSION)), 80, axis=0))
    if not tied:
        vectors = unit(random.standard_normal((240, DIMENSION)))
    metadata = [json.dumps({"n": i % 2}) for i in range(240)]
    collection = await filled(
        store, [Item(f"i{i:03}", {"image": v}, metadata=metadata[i]) for i, v in enumerate(vectors)]
    )
    asked = unit(random.standard_normal(DIMENSION))
    trees: list[tuple[Filter | None, float | None]] = [(None, None), (Equals(("n",), (1.0,)), None), (None, 0.0)]
    for tree, least in trees:
        one = await ask(store, collection, query(collection, asked, 240, filter=tree, min_score=least))
        pages: list[tuple[str, float]] = []
        for offset in range(0, 240, 15):
            hits = await ask(store, collection, query(collection, asked, 15, offset, filter=tree, min_score=least))
            pages += hits
        assert len({item_id for item_id, _ in pages}) == len(pages)
        assert sorted(pages) == sorted(one)
        if least is None:
            assert len(one) == (240 if tree is None else 120)


class Index:
    """Finds what it knows of, in an order of its own for each count."""

    def __init__(self, known: Sequence[FoundItem], seed: int) -> None:
        self._known = known
        self._seed = seed

    async def __call__(self, count: int) -> list[FoundItem]:
        random = np.random.default_rng((self._seed, count))
        # The larger the count, the surer it is.
        seen = [each for each in self._known if random.random() < 1 - 1 / (2 + count / 10)]
        return sorted(seen, key=lambda each: -each.score)[:count]


@pytest.mark.parametrize("seed", range(5))
async def test_pages_of_an_index_that_misses_items_fit_together(seed: int) -> None:
    random = np.random.default_rng(seed)
    items = [FoundItem(0, f"i{i:04}", float(np.float32(random.integers(300)) / 300)) for i in range(700)]
    ranked = sorted(items, key=lambda each: each.order)
    index = Index(ranked, seed)

    async def exactly(count: int) -> list[FoundItem]:
        return ranked[:count]

    async def hits(offset: int, limit: int) -> list[FoundItem]:
        places = await first(offset + limit, by_index=index, exactly=exactly)
        return page(places, offset, None)

    for size in (7, 100, 333):
        pages: list[FoundItem] = []
        for offset in range(0, 700, size):
            part = await hits(offset, size)
            assert part == sorted(part, key=lambda each: each.order)
            pages += part
        assert sorted(pages, key=lambda each: each.order) == ranked
        assert {each.item_id for each in await hits(0, 350)} == {
            each.item_id for each in pages[: 350 // size * size]
        } | {each.item_id for each in await hits(350 // size * size, 350 % size)}
