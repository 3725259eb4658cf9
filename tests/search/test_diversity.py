"""Hits that differ from one another: maximal marginal relevance, the same on every store and as plain numpy says."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from search_svc.diversity import diversify
from search_svc.fusion import RankedItem
from search_svc.legs import Diversity, Fusion, GroupBy
from search_svc.model import Hits
from search_svc.store import Store
from tests.search.rankings import DIMENSION, Asked, Reference, drawn, filled, query


def ids(hits: Hits) -> list[str]:
    return [hit.item.id for hit in hits.hits]


@pytest.mark.parametrize("strength", [0.0, 0.3, 0.7, 1.0])
async def test_hits_are_chosen_as_numpy_says(store: Store, strength: float) -> None:
    random = np.random.default_rng(3)
    items = drawn(random, 60)
    collection = await filled(store, items)
    a, b = (each.astype(np.float32) for each in random.standard_normal((2, DIMENSION)))
    image, raw = Asked("image", a), Asked("raw", b)
    for asked, fusion in (([image], None), ([raw], None), ([raw, image], Fusion())):
        for candidates in (8, 30):
            diversity = Diversity(strength, candidates)
            expected = Reference(items).hits(asked, fusion, limit=40, diversity=diversity)
            for exact in (False, True):
                made = query(collection, asked, fusion, limit=40, diversity=diversity, exact=exact)
                hits = await store.search(collection, made, timeout_s=60)
                assert ids(hits) == [each.item_id for each in expected]
                # Each keeps its own score and ranks; its place is what was chosen.
                for hit, each in zip(hits.hits, expected, strict=True):
                    assert hit.score == pytest.approx(each.score, abs=1e-5)
                    assert [leg.rank for leg in hit.legs] == [rank for _, _, rank in each.legs]
                assert [hit.rank for hit in hits.hits] == list(range(1, len(expected) + 1))


async def test_pages_least_scores_and_groups(store: Store) -> None:
    random = np.random.default_rng(4)
    items = [replace(each, metadata=f'{{"k": {i % 9}}}') for i, each in enumerate(drawn(random, 150))]
    collection = await filled(store, items)
    asked = [Asked("image", random.standard_normal(DIMENSION))]

    async def found(**changes: Any) -> Hits:
        changes = {"diversity": Diversity(0.5, 30), **changes}
        return await store.search(collection, query(collection, asked, None, **changes), timeout_s=60)

    one = ids(await found(limit=60))
    assert len(set(one)) == 60
    pages = [item_id for offset in range(0, 60, 7) for item_id in ids(await found(limit=7, offset=offset))]
    assert pages[:60] == one
    plain = await found(limit=60, diversity=None)
    assert sorted(one[:30]) == sorted(ids(plain)[:30]) != ids(plain)[:30]
    # Nothing below the least score takes the place of what is above it.
    least = plain.hits[11].score - 1e-4
    assert sorted(ids(await found(limit=20, min_score=least))) == sorted(ids(plain)[:12])
    best = await found(limit=20, group_by=GroupBy((("k",),)), diversity=None)
    varied = await found(limit=20, group_by=GroupBy((("k",),)), diversity=Diversity(0.9, 100))
    assert len(best.hits) == 9
    assert sorted(ids(varied)) == sorted(ids(best)) != ids(varied)


def ranked(scores: list[float]) -> list[RankedItem]:
    return [RankedItem(i, f"{i}", score, ()) for i, score in enumerate(scores)]


def chosen(scores: list[float], vectors: Any, strength: float, count: int = 9) -> list[str]:
    given = {f"{i}": np.array(vector, dtype=np.float32) for i, vector in enumerate(vectors) if vector is not None}
    return [each.item_id for each in diversify(ranked(scores), given, strength=strength, count=count)]


def test_what_is_like_a_hit_before_it_waits() -> None:
    twins = [[1, 0], [1, 0], [0, 1]]
    assert chosen([0.9, 0.89, 0.5], twins, 0.7) == ["0", "2", "1"]
    assert chosen([0.9, 0.89, 0.5], twins, 0.0) == ["0", "1", "2"]
    # Any length: squares of these leave single precision.
    long_ones = [[1e30, 0], [1e-30, 0], [0, 1e30]]
    assert chosen([0.9, 0.89, 0.5], long_ones, 0.7) == ["0", "2", "1"]
    # What is opposite is preferred to what is only different, and one without a vector is like none.
    assert chosen([0.9, 0.5, 0.5, 0.5], [[1, 0], [1, 0.1], None, [-1, 0]], 0.9) == ["0", "3", "2", "1"]


def test_what_is_not_chosen_follows_as_it_was() -> None:
    assert chosen([0.9, 0.8, 0.7, 0.6], [[1, 0], [1, 0], [0, 1], [0, 1]], 1.0, count=2) == ["0", "2", "1", "3"]
    assert chosen([0.5, 0.5], [None, None], 0.5) == ["0", "1"]
    assert diversify([], {}, strength=0.5, count=3) == []


def test_numbers_of_half_precision_do_not_overflow() -> None:
    half: Any = {"0": np.array([60_000, 60_000], dtype=np.float16), "1": np.array([60_000, 0], dtype=np.float16)}
    assert [each.item_id for each in diversify(ranked([1.0, 0.5]), half, strength=0.5, count=2)] == ["0", "1"]
