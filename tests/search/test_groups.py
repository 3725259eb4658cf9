"""One result per thing: at most so many hits of each group, the right ones, however many items a group has."""

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from lensmesh.search.v1 import search_pb2
from search_svc.grouping import MAX_VALUES_BYTES, group_key
from search_svc.legs import Fusion, GroupBy
from search_svc.model import Caption, Collection, Hits, Item
from search_svc.postgres import legs as postgres_legs
from search_svc.postgres.store import PostgresStore
from search_svc.qdrant import legs as qdrant_legs
from search_svc.qdrant.store import QdrantStore
from search_svc.ranking import CandidateSource, Step, StepFindings
from search_svc.store import Query, Store
from search_svc.threads import Threads
from tests.search.rankings import DIMENSION, Asked, Reference, Told, drawn, filled, plain, query
from tests.search.support import Stub, create, item, search_request, upsert

# Few of each kind, so that they meet: values that are equal, and values that only look so.
VALUES: list[Any] = ["a", "b", 1, 1.0, True, "1", ["a"], ["a", "b"], {"x": 1}, {"x": 1.0}, None, 0.5]


def with_metadata(items: Sequence[Item], metadata: Sequence[dict[str, Any]]) -> list[Item]:
    return [replace(each, metadata=json.dumps(of_item)) for each, of_item in zip(items, metadata, strict=True)]


def grouped(*fields: str, size: int = 1) -> dict[str, Any]:
    return {"group_by": GroupBy(tuple((field,) for field in fields), size)}


def ids(hits: Hits) -> list[str]:
    return [hit.item.id for hit in hits.hits]


def assert_same(hits: Hits, expected: Sequence[Told]) -> None:
    assert ids(hits) == [each.item_id for each in expected]
    for hit, each in zip(hits.hits, expected, strict=True):
        assert (hit.group is None) == (each.group is None)
        if hit.group is not None and each.group is not None:
            assert tuple(map(plain, hit.group)) == each.group
        assert hit.score == pytest.approx(each.score, abs=1e-3)
        assert [leg.name for leg in hit.legs] == [name for name, _, _ in each.legs]
        assert [leg.rank for leg in hit.legs] == [rank for _, _, rank in each.legs]


async def test_long_values_make_no_groups(store: Store) -> None:
    # Each of a thousand candidates brings its values.
    fits, exceeds = "é" * ((MAX_VALUES_BYTES - 4) // 2), "é" * (MAX_VALUES_BYTES // 2 - 1)
    items = with_metadata(drawn(np.random.default_rng(0), 6)[:3] * 2, [{"k": fits}] * 3 + [{"k": exceeds}] * 3)
    items = [replace(each, id=f"i{place}") for place, each in enumerate(items)]
    collection = await filled(store, items)
    asked = query(collection, [Asked("raw", [1.0] * DIMENSION)], None, **grouped("k"))
    hits = await store.search(collection, asked, timeout_s=60)
    assert sorted(hit.group is None for hit in hits.hits) == [False, True, True, True]


@pytest.mark.parametrize("seed", range(2))
async def test_groups_are_what_numpy_says(store: Store, seed: int) -> None:
    random = np.random.default_rng(seed)
    items = drawn(random, 80)
    metadata = [
        {"k": VALUES[random.integers(len(VALUES))], "n": int(random.integers(3)), "i": i} for i in range(len(items))
    ]
    metadata[0] = {}
    items = with_metadata(items, metadata)
    collection = await filled(store, items)
    a, b = (each.astype(np.float32) for each in random.standard_normal((2, DIMENSION)))
    searches = [([Asked("image", a)], None), ([Asked("image", a), Asked("raw", b)], Fusion())]
    for asked, fusion in searches:
        for fields, size in ((["k"], 1), (["k"], 2), (["n"], 3), (["k", "n"], 1), (["none"], 1), (["i"], 1)):
            made = query(collection, asked, fusion, limit=30, **grouped(*fields, size=size))
            hits = await store.search(collection, made, timeout_s=60)
            expected = Reference(items).hits(asked, fusion, limit=30, fields=fields, size=size)
            assert_same(hits, expected)


async def test_a_group_that_fills_every_candidate_hides_no_other(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 1,500 items the nearest 1,200 are of one group, and others of few."""
    random = np.random.default_rng(5)
    towards = np.eye(DIMENSION)[0]
    vectors = np.concatenate(
        [towards + 0.1 * random.standard_normal((1_200, DIMENSION)), random.standard_normal((300, DIMENSION)) - towards]
    )
    items = [
        Item(
            f"i{i:04}",
            {"image": (vector / np.linalg.norm(vector)).astype(np.float32)},
            metadata=json.dumps(
                {"artist": "x" if i < 1_200 else f"y{i % 7}", "tags": ["a"] if i < 1_200 else [str(i % 7)]}
            ),
        )
        for i, vector in enumerate(vectors)
    ]
    collection = await filled(store, items)
    asked = [Asked("image", towards)]
    best: dict[str, str] = {}
    for hit in (
        await store.search(collection, query(collection, asked, None, limit=1_500, exact=True), timeout_s=60)
    ).hits:
        best.setdefault(json.loads(items[int(hit.item.id[1:])].metadata)["artist"], hit.item.id)
    assert len(best) == 8
    # Lists too, which a store may not be able to leave out.
    for field in ("artist", "tags"):
        for exact in (False, True):
            made = query(collection, asked, None, limit=10, exact=exact, **grouped(field))
            assert ids(await store.search(collection, made, timeout_s=60)) == list(best.values())
    # As in a collection that is too large to compare everything at once.
    monkeypatch.setattr(postgres_legs, "_SMALL_BYTES", -1)
    made = query(collection, asked, None, limit=10, **grouped("artist"))
    assert ids(await store.search(collection, made, timeout_s=60)) == list(best.values())
    # Ranks go on behind the items that were left out.
    hits = (
        await store.search(collection, query(collection, asked, None, limit=2, **grouped("artist")), timeout_s=60)
    ).hits
    assert hits[0].legs[0].rank == 1
    assert hits[1].legs[0].rank > 100


async def test_a_step_leaves_full_groups_out(store: Store) -> None:
    """So that candidates are not filled with what is no hit. What a store cannot tell by its index may come through."""
    random = np.random.default_rng(6)
    kinds: list[Any] = ["a", 1, True, ["a"], ["a", "b"], {"a": 1}, None]
    metadata = [{"k": kinds[i // 9 % len(kinds)], "n": i % 2} for i in range(126)]
    collection = await filled(store, with_metadata(drawn(random, 126), metadata))
    asked = query(collection, [Asked("raw", random.standard_normal(DIMENSION))], None, **grouped("k"))

    async def left(values: tuple[object, ...], *fields: str) -> set[object]:
        made = replace(asked, group_by=GroupBy(tuple((field,) for field in fields)))
        found = await _found(store, collection, made, Step(126, frozenset({0}), (values,)))
        return {group_key(each) for each in found.groups.values() if each is not None}

    everything = {group_key((kind,)) for kind in kinds if kind is not None}
    for kind in kinds[:3]:
        assert await left((kind,), "k") == everything - {group_key((kind,))}
    for kind in kinds[3:-1]:
        assert everything - {group_key((kind,))} <= await left((kind,), "k") <= everything
    # An item's own fields are never lists.
    own = [
        replace(each, content_digest=bytes([i % 3]) * 32, caption=Caption(f"{i % 3}", 1, 1, False, "m"))
        for i, each in enumerate(drawn(random, 20))
    ]
    await store.upsert(collection, own, timeout_s=60)
    assert {group_key((f"{i}",)) for i in range(1, 3)} == await left(("0",), "$caption")
    assert {group_key((f"0{i}" * 32,)) for i in range(1, 3)} == await left(("00" * 32,), "$content_digest")
    pairs = {group_key((kind, n)) for kind in kinds if kind is not None for n in (0, 1)}
    assert await left(("a", 1), "k", "n") == pairs - {group_key(("a", 1))}


async def _found(store: Store, collection: Collection, asked: Query, step: Step) -> StepFindings:
    async def find(source: CandidateSource) -> StepFindings:
        return await source.find([await source.resolve(leg) for leg in asked.legs], step)

    if isinstance(store, PostgresStore):
        made = Threads()
        return await store._database.run(
            lambda c: find(postgres_legs.LegSource(c, collection, asked, made)), timeout_s=60
        )
    assert isinstance(store, QdrantStore)
    engine = store._engine
    return await engine.run(
        lambda client: find(qdrant_legs.LegSource(client, engine, collection, asked, default_ef=100)), timeout_s=60
    )


async def test_pages_of_groups_join(store: Store) -> None:
    random = np.random.default_rng(9)
    items = with_metadata(drawn(random, 400), [{"k": int(random.integers(120))} for _ in range(400)])
    collection = await filled(store, items)
    a, b = random.standard_normal((2, DIMENSION))
    for asked, fusion in (([Asked("image", a)], None), ([Asked("image", a), Asked("raw", b)], Fusion())):
        one = ids(
            await store.search(collection, query(collection, asked, fusion, limit=150, **grouped("k")), timeout_s=60)
        )
        spaces = {each.space for each in asked}
        assert len(one) == len({json.loads(each.metadata)["k"] for each in items if spaces & set(each.vectors)})
        pages: list[str] = []
        for offset in range(0, 150, 7):
            made = query(collection, asked, fusion, limit=7, offset=offset, **grouped("k"))
            pages += ids(await store.search(collection, made, timeout_s=60))
        assert sorted(pages) == sorted(one)
        assert pages[:7] == one[:7]


async def test_groups_by_content_and_caption(stub: Stub) -> None:
    await create(stub)
    digests = [b"\1" * 32, b"\1" * 32, b"\2" * 32, b"", b""]
    items = [item(f"{i}", [1, i / 10, 0, 0], {"b": {"c": i % 2}}, content_digest=d) for i, d in enumerate(digests)]
    for each, text in zip(items, ["dog", "dog", "cat", "dog", ""], strict=True):
        if text:
            each.caption.text = text
    await upsert(stub, *items)

    async def hits(**group_by: Any) -> list[search_pb2.Hit]:
        request = search_request([1, 0, 0, 0], group_by=search_pb2.GroupBy(**group_by))
        return list((await stub.Search(request)).hits)

    by_content = await hits(fields=["$content_digest"])
    assert [hit.item.id for hit in by_content] == ["0", "2", "3", "4"]
    assert [list(hit.group) for hit in by_content] == [["01" * 32], ["02" * 32], [], []]
    assert [hit.HasField("group") for hit in by_content] == [True, True, False, False]
    assert [hit.item.id for hit in await hits(fields=["$caption"])] == ["0", "2", "4"]
    both = await hits(fields=["b.c", "$caption"])
    assert [(hit.item.id, list(hit.group)) for hit in both][:3] == [
        ("0", [0, "dog"]),
        ("1", [1, "dog"]),
        ("2", [0, "cat"]),
    ]
    assert len(await hits(fields=["nobody"])) == 5
    assert len(await hits(fields=["$caption"], size=2)) == 4
