"""The same items, the same questions, the same answers: every store beside every other."""

import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from search_svc.app import make_store
from search_svc.filters import All, Filter
from search_svc.legs import Diversity, Fusion, FusionMethod, GroupBy, VectorLeg
from search_svc.model import (
    Caption,
    Collection,
    Definition,
    Facet,
    FieldIndex,
    Hits,
    Hnsw,
    Item,
    ItemOutcome,
    NamedSpace,
    StoredAs,
    StoredItem,
    VectorSpace,
    View,
)
from search_svc.store import Query, Store
from tests.search.conftest import settings_for
from tests.search.strategies import INDEXES, filters, metadata, thorough

SCORE_TOLERANCE = 2e-3
DIMENSION = 16
Stores = dict[str, Store]


@pytest.fixture
async def stores(database_url: str, qdrant_url: str, tmp_path: Path) -> AsyncIterator[Stores]:
    """One of each kind, open."""
    urls = {"postgresql": database_url, "qdrant": qdrant_url, "qdrant+local": f"qdrant+local:{tmp_path / 'local'}"}
    made = {kind: make_store(settings_for(url, store_connect_seconds=60)) for kind, url in urls.items()}
    for store in made.values():
        await store.open()
    yield made
    for store in made.values():
        await store.close()


def mixed(name: str = "pictures") -> Definition:
    """A normalized space with an index, a raw one without, one of whole numbers, and an index of each type."""

    def space(key: str, normalized: bool) -> VectorSpace:
        return VectorSpace(f"vs1-{key}", "test", "", DIMENSION, normalized, ())

    indexes = tuple(FieldIndex(tuple(path.split(".")), field_type) for path, field_type in INDEXES.items())
    return Definition(
        name,
        (
            NamedSpace("unit", space("unit", True), StoredAs.FLOAT16, Hnsw()),
            NamedSpace("raw", space("raw", False), StoredAs.FLOAT32, None),
            NamedSpace("raw_half", space("half", False), StoredAs.FLOAT16, Hnsw(m=8, ef_construction=64)),
        ),
        indexes,
    )


def drawn_items(random: np.random.Generator, all_metadata: list[dict[str, Any]]) -> list[Item]:
    """Items whose vectors lie close enough together that scores differ by little, some the same, some missing."""
    centre = random.standard_normal(DIMENSION)
    items: list[Item] = []
    for i, each in enumerate(all_metadata):
        vector = centre + random.standard_normal(DIMENSION)
        if i % 5 == 4:
            # A twin: ties are ordered by id.
            vector = np.asarray(items[-1].vectors["raw"], dtype=np.float64)
        vectors: dict[str, Any] = {
            "unit": (vector / np.linalg.norm(vector)).astype(np.float16),
            "raw": vector.astype(np.float32),
            "raw_half": (100 * vector).astype(np.float16),
        }
        if i % 7 == 3:
            del vectors["unit"]
        caption = Caption(f"a {i}", 0.5, 2, i % 2 == 0, "m@1") if i % 3 else None
        digest = bytes([i]) * 32 if i % 2 else b""
        items.append(Item(f"é{i}", vectors, caption, json.dumps(each, ensure_ascii=False), f"file:///{i}", digest))
    return items


async def fill(store: Store, items: list[Item]) -> Collection:
    made = (await store.create_collection(mixed(), timeout_s=60)).collection
    await store.delete_matching(made, All(()), timeout_s=60)
    results = await store.upsert(made, items, timeout_s=60)
    assert [result.outcome for result in results] == [ItemOutcome.CREATED] * len(items)
    return made


def plain(item: StoredItem) -> Any:
    """An item as far as stores must agree: all but its times."""
    vectors = {name: None if v is None else (v.dtype.name, v.tobytes()) for name, v in sorted(item.vectors.items())}
    # PostgreSQL sorts keys, and knows no negative zero.
    content = json.dumps(json.loads(item.metadata, parse_int=_number, parse_float=_number), sort_keys=True)
    return item.id, vectors, item.caption, content, item.image_uri, item.content_digest


def _number(text: str) -> float:
    return float(text) + 0.0


def assert_same_hits(expected: Hits, found: Hits) -> None:
    """Same scores; same items in the same order, but where scores are as good as equal."""
    scores = [hit.score for hit in expected.hits]
    np.testing.assert_allclose([hit.score for hit in found.hits], scores, atol=SCORE_TOLERANCE)
    assert [hit.rank for hit in found.hits] == [hit.rank for hit in expected.hits]
    places = {hit.item.id: place for place, hit in enumerate(found.hits)}
    for hit in expected.hits:
        # One that is missing was pushed over an edge by another that is as good.
        others = [scores[places[hit.item.id]]] if hit.item.id in places else [scores[0], scores[-1]]
        assert min(abs(hit.score - other) for other in others) <= 2 * SCORE_TOLERANCE, hit.item.id


@dataclass(frozen=True)
class Answer:
    """What one store says to all that is asked."""

    hits: list[Hits]
    listed: set[str]
    facets: list[Facet]


async def ask(store: Store, collection: Collection, tree: Filter | None, queries: list[Query]) -> Answer:
    """Searches, walks and counts."""
    hits = [await store.search(collection, query, timeout_s=60) for query in queries]
    listed: set[str] = set()
    after: str | None = ""
    while after is not None:
        page = await store.list_items(
            collection, filter=tree, after=after, count=4, view=View.FULL, max_bytes=1 << 24, timeout_s=60
        )
        new = {repr(plain(item)) for item in page.items}
        assert len(new) == len(page.items)
        assert not new & listed
        listed |= new
        after = page.next_after
    facets = await store.count_facets(
        collection, mixed().field_indexes, filter=tree, limit=3, max_bytes=1 << 20, timeout_s=60
    )
    return Answer(hits, listed, facets)


@settings(thorough, max_examples=15)
@given(
    seed=st.integers(0, 2**32 - 1),
    all_metadata=st.lists(metadata, min_size=1, max_size=25),
    trees=st.lists(filters, min_size=1, max_size=3),
    space=st.sampled_from(["unit", "raw", "raw_half"]),
    limit=st.integers(1, 30),
    offset=st.sampled_from([0, 0, 1, 5]),
    min_score=st.sampled_from([None, None, 0.3]),
)
async def test_searches_lists_facets_and_deletes_agree(
    stores: Stores,
    seed: int,
    all_metadata: list[dict[str, Any]],
    trees: list[Filter],
    space: str,
    limit: int,
    offset: int,
    min_score: float | None,
) -> None:
    random = np.random.default_rng(seed)
    items = drawn_items(random, all_metadata)
    collections = {kind: await fill(store, items) for kind, store in stores.items()}
    named = mixed().space(space)
    assert named is not None
    direction = random.standard_normal(DIMENSION)
    vector: Any = (direction / np.linalg.norm(direction)).astype(np.float16 if space != "raw" else np.float32)
    raw: Any = random.standard_normal(DIMENSION).astype(np.float32)
    near = next((item.id for item in items if space in item.vectors), "")
    for tree in (None, *trees):
        answers = {}
        for kind, store in stores.items():
            query = Query(
                (VectorLeg(named, vector),), tree, limit, offset, min_score, True, None, View.FULL, max_bytes=1 << 24
            )
            queries = [query]
            if near:
                queries.append(replace(query, legs=(VectorLeg(named, item_id=near),), limit=len(items)))
            both = (*query.legs, VectorLeg(mixed().spaces[1], raw, name="raw", place=1))
            weighted = replace(query, legs=both, fusion=Fusion(FusionMethod.WEIGHTED))
            queries += [weighted, replace(weighted, group_by=GroupBy((("k",),), 2), diversity=Diversity(0.3, 8))]
            answers[kind] = await ask(store, collections[kind], tree, queries)
        for kind, answer in answers.items():
            expected = answers["postgresql"]
            assert answer.listed == expected.listed, (kind, tree)
            assert answer.facets == expected.facets, (kind, tree)
            for one, other in zip(expected.hits, answer.hits, strict=True):
                assert_same_hits(one, other)
    counts = {
        kind: await store.delete_matching(collections[kind], trees[0], timeout_s=60) for kind, store in stores.items()
    }
    assert len(set(counts.values())) == 1, counts
    left = {
        kind: (await store.count_items(collections[kind], timeout_s=60)).item_count for kind, store in stores.items()
    }
    assert set(left.values()) == {len(items) - counts["postgresql"]}


async def test_items_and_outcomes_agree(stores: Stores) -> None:
    random = np.random.default_rng(3)
    items = drawn_items(random, [{"k": ["a", {"b": []}], "n": i, "none": None} for i in range(12)])
    changed = [
        items[0],
        replace(items[1], caption=None),
        replace(items[2], vectors={}),
        # The same JSON in other words.
        Item(
            items[5].id,
            items[5].vectors,
            items[5].caption,
            '{"none":null,"n":5.0,"k":["a",{"b":[]}]}',
            "file:///5",
            items[5].content_digest,
        ),
        Item("new"),
    ]
    seen = []
    for store in stores.values():
        collection = await fill(store, items)
        results = await store.upsert(collection, changed, timeout_s=60)
        ids = ["nobody", *(item.id for item in reversed(items)), "new", items[0].id]
        read = await store.get_items(collection, ids, view=View.FULL, max_bytes=1 << 24, timeout_s=60)
        basic = await store.get_items(collection, ids, view=View.BASIC, max_bytes=1 << 24, timeout_s=60)
        cut = await store.get_items(collection, ids, view=View.BASIC, max_bytes=1, timeout_s=60)
        gone = await store.delete_ids(collection, ["new", "nobody", items[0].id, "new"], timeout_s=60)
        seen.append(
            (
                [(result.id, result.outcome) for result in results],
                [plain(item) for item in read.items],
                [plain(item) for item in basic.items],
                (len(cut.items), cut.cut),
                gone,
            )
        )
    assert seen[0][0][3] == (items[5].id, ItemOutcome.UNCHANGED)
    assert seen[1] == seen[0]
    assert seen[2] == seen[0]
    # Written as it came back: what a vector was is what it is.
    read_back = {entry[0]: entry[1] for entry in seen[0][1]}
    for item in items[3:]:
        for name, vector in item.vectors.items():
            assert read_back[item.id][name] == (vector.dtype.name, vector.tobytes())
