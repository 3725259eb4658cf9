"""Several legs as one list: the same on every store, and as plain numpy says."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from lensmesh_chassis.errors import NotFound, PreconditionFailed
from lensmesh_chassis.reasons import Reason
from search_svc.candidates import FoundItem
from search_svc.filters import Equals
from search_svc.fusion import LegFindings, fuse
from search_svc.legs import Fusion, FusionMethod
from search_svc.model import Hits, Item
from search_svc.store import Query, Store
from tests.search.rankings import DIMENSION, Asked, Reference, Told, drawn, filled, query

RRF, WEIGHTED = Fusion(), Fusion(FusionMethod.WEIGHTED)


def assert_same(hits: Hits, expected: Sequence[Told], *, by_rank: bool) -> None:
    """The hits are what the reference says.

    With scores in the fusion two that are as good as equal may change places: stores compute in single precision.
    """
    told = [hit.item.id for hit in hits.hits]
    of_reference = {each.item_id: each for each in expected}
    assert sorted(told) == sorted(of_reference)
    if by_rank:
        assert told == [each.item_id for each in expected]
    assert [hit.rank for hit in hits.hits] == list(range(1, len(expected) + 1))
    scores = [hit.score for hit in hits.hits]
    assert scores == sorted(scores, reverse=True)
    for hit in hits.hits:
        each = of_reference[hit.item.id]
        assert hit.score == pytest.approx(each.score, abs=1e-8 if by_rank else 2e-3)
        assert [(leg.name, leg.rank) for leg in hit.legs] == [(name, rank) for name, _, rank in each.legs]
        np.testing.assert_allclose([leg.score for leg in hit.legs], [score for _, score, _ in each.legs], atol=1e-3)


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("fusion", [RRF, WEIGHTED], ids=str)
async def test_fused_hits_are_what_numpy_says(store: Store, seed: int, fusion: Fusion) -> None:
    random = np.random.default_rng(seed)
    items = drawn(random, 60)
    collection = await filled(store, items)
    near = next(item.id for item in items if len(item.vectors) == 2)
    a, b, c = (each.astype(np.float32) for each in random.standard_normal((3, DIMENSION)))
    cases = [
        [Asked("image", a), Asked("raw", b)],
        [Asked("image", a, 2.0), Asked("image", b), Asked("raw", c, 0.5)],
        [Asked("image", a), Asked("raw", None, item_id=near)],
        [Asked("image", a), Asked("raw", b, -0.7)],
        [Asked("raw", b, -1.0), Asked("image", None, -0.5, near), Asked("image", a), Asked("raw", c, 3.0)],
        [Asked("image", a)],
    ]
    for asked in cases:
        for tree in (None, Equals(("n",), (1.0,))):
            for exact in (False, True):
                made = query(collection, asked, fusion, filter=tree, limit=60, exact=exact)
                hits = await store.search(collection, made, timeout_s=60)
                found = {item.id for item in items if tree is None or '"n": 1' in item.metadata}
                reference = Reference(items, found)
                assert_same(hits, reference.hits(asked, fusion, limit=60), by_rank=fusion == RRF)
                assert not hits.cut


async def test_pages_join_beyond_what_one_look_finds(store: Store) -> None:
    """The first look finds 100 items of each leg; pages go on behind them to the last item that any leg knows."""
    random = np.random.default_rng(8)
    items = drawn(random, 230)
    collection = await filled(store, items)
    a, b, c = random.standard_normal((3, DIMENSION))
    for asked in (
        [Asked("image", a), Asked("raw", b)],
        [Asked("raw", b), Asked("image", a, -0.5)],
        [Asked("image", a), Asked("raw", b), Asked("raw", c, -1.0)],
    ):
        for fusion in (RRF, WEIGHTED)[: len(asked) - 1]:
            whole = await store.search(collection, query(collection, asked, fusion, limit=250), timeout_s=60)
            spaces = {each.space for each in asked if each.weight > 0}
            assert len(whole.hits) == sum(1 for item in items if spaces & set(item.vectors))
            pages: list[tuple[str, float]] = []
            for offset in range(0, 250, 33):
                made = query(collection, asked, fusion, limit=33, offset=offset)
                hits = (await store.search(collection, made, timeout_s=60)).hits
                assert [hit.rank for hit in hits] == list(range(offset + 1, offset + 1 + len(hits)))
                pages += [(hit.item.id, hit.score) for hit in hits]
            assert sorted(pages) == sorted((hit.item.id, hit.score) for hit in whole.hits)


async def test_exact_is_said_of_all_legs(store: Store) -> None:
    random = np.random.default_rng(2)
    collection = await filled(store, drawn(random, 20))
    a, b = random.standard_normal((2, DIMENSION))

    async def is_exact(*spaces: str, **changes: Any) -> bool:
        asked = [Asked(space, vector) for space, vector in zip(spaces, (a, b), strict=True)]
        return (await store.search(collection, query(collection, asked, RRF, **changes), timeout_s=60)).exact

    assert await is_exact("raw", "raw")
    assert not await is_exact("raw", "image")
    assert await is_exact("raw", "image", exact=True)


async def test_an_item_without_a_vector_fails_the_search_or_its_leg(store: Store) -> None:
    random = np.random.default_rng(2)
    items = [*drawn(random, 20), Item("bare")]
    collection = await filled(store, items)
    a = random.standard_normal(DIMENSION)

    def asked(weight: float = 1.0, item_id: str = "bare", **changes: Any) -> Query:
        legs = [Asked("raw", a, weight), Asked("image", None, 1.0, item_id)]
        return query(collection, legs, RRF, **changes)

    with pytest.raises(PreconditionFailed) as caught:
        await store.search(collection, asked(), timeout_s=60)
    assert caught.value.violations[0].field == "legs[1].item_id"
    hits = await store.search(collection, asked(partial=True), timeout_s=60)
    assert [(failed.name, failed.error.reason) for failed in hits.failed] == [("leg1", Reason.ITEM_WITHOUT_VECTOR)]
    # Still fused, so that scores mean the same whether or not a leg failed.
    assert [hit.score for hit in hits.hits][:2] == [pytest.approx(1 / 61), pytest.approx(1 / 62)]
    # What is left must find something by itself.
    with pytest.raises(PreconditionFailed):
        await store.search(collection, asked(weight=-1.0, partial=True), timeout_s=60)
    # And an item that is not there is a mistake of the request.
    with pytest.raises(NotFound):
        await store.search(collection, asked(item_id="nobody", partial=True), timeout_s=60)


def findings(name: str, weight: float, before: int = 0, **scores: float) -> LegFindings:
    return LegFindings(name, weight, [FoundItem(0, item_id, score) for item_id, score in scores.items()], before)


def test_ranks_alone_count_in_reciprocal_rank_fusion() -> None:
    legs = [findings("x", 1.0, a=0.9, b=0.1), findings("y", 2.0, b=0.3, c=0.2)]
    fused = fuse(legs, Fusion(k=10))
    assert [each.item_id for each in fused] == ["b", "c", "a"]
    assert [each.score for each in fused] == [pytest.approx(s, abs=1e-7) for s in (1 / 12 + 2 / 11, 2 / 12, 1 / 11)]
    assert fused[0].legs == (("x", 0.1, 2), ("y", 0.3, 1))
    # Items that were left out count.
    [behind] = fuse([findings("x", 1.0, 5, a=0.9)], Fusion(k=10))
    assert behind.legs == (("x", 0.9, 6),)
    assert behind.score == pytest.approx(1 / 16)


def test_scores_are_scaled_over_the_candidates() -> None:
    legs = [findings("x", 1.0, a=0.9, b=0.5, c=0.1), findings("y", 0.5, b=0.3, d=0.3)]
    fused = {each.item_id: each.score for each in fuse(legs, WEIGHTED)}
    # All equal: all as good.
    assert fused == {"a": 1.0, "b": 1.0, "d": 0.5, "c": 0.0}


def test_a_leg_below_zero_finds_nothing_and_pushes_away() -> None:
    legs = [findings("no", -2.0, a=0.9, z=0.8), findings("x", 1.0, a=0.9, b=0.8, c=0.7)]
    for fusion in (RRF, WEIGHTED):
        fused = fuse(legs, fusion)
        assert [each.item_id for each in fused] == ["b", "c", "a"]
        assert fused[-1].legs == (("no", 0.9, 1), ("x", 0.9, 1))


def test_equal_scores_come_by_id() -> None:
    legs = [findings("x", 1.0, é=0.9, b=0.5), findings("y", 1.0, b=0.9, é=0.5)]
    assert [each.item_id for each in fuse(legs, RRF)] == ["b", "é"]
