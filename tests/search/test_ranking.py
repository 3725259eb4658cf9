"""The steps in which candidates are looked for, whatever the store: how far, how, and when they end."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeVar

import numpy as np
import pytest

from search_svc import ranking
from search_svc.candidates import FoundItem
from search_svc.fusion import RankedItem
from search_svc.grouping import GroupValues
from search_svc.legs import Fusion, FusionMethod, GroupBy, Leg, VectorLeg
from search_svc.model import FetchedItems, Hits, NamedSpace, Numbers, StoredItem, View
from search_svc.ranking import Step, StepFindings
from search_svc.store import Query
from tests.search.rankings import definition

T = TypeVar("T")


class FakeSource:
    """A store whose legs score items by chance, and whose indexes know some of the items."""

    def __init__(self, count: int, *, known: float = 1.0, group: Callable[[int], GroupValues] = lambda _: None) -> None:
        random = np.random.default_rng(1)
        self.scores = [
            {f"i{i:05}": float(np.float32(score)) for i, score in enumerate(random.random(count))} for _ in range(2)
        ]
        self.groups = {f"i{i:05}": group(i) for i in range(count)}
        self.known = set(random.permutation(list(self.groups))[: int(known * count)])
        self.steps: list[Step] = []
        self.cut = False
        self.leaves_out = True
        self.compares_all = False

    def is_exact(self, leg: Leg) -> bool:
        return False

    async def resolve(self, leg: Leg) -> Leg:
        return leg

    async def find(self, legs: Sequence[Leg], step: Step) -> StepFindings:
        self.steps.append(step)
        if self.compares_all:
            step = replace(step, exact=frozenset(range(len(legs))))
        found = [self._leg(place, step) for place, _ in enumerate(legs)]
        ids = {each.item_id for items in found for each in items}
        return StepFindings(found, {item_id: self.groups[item_id] for item_id in ids}, self.cut, step.exact)

    def _leg(self, place: int, step: Step) -> list[FoundItem]:
        without = step.without if self.leaves_out else ()
        there = [
            FoundItem(0, item_id, score)
            for item_id, score in self.scores[place].items()
            if self.groups[item_id] not in without and (place in step.exact or item_id in self.known)
        ]
        return sorted(there, key=lambda each: each.order)[: step.depth]

    async def vectors(self, space: NamedSpace, items: Sequence[RankedItem]) -> Mapping[str, Numbers]:
        return {}

    async def beside(self, work: Callable[[], T], size_bytes: int) -> T:
        return work()

    async def read(self, ids: Sequence[str]) -> FetchedItems:
        return FetchedItems(tuple(map(StoredItem, ids)), cut=False)


def query(legs: int = 1, **changes: Any) -> Query:
    space = definition().spaces[0]
    made = tuple(VectorLeg(space, np.ones(1, np.float32), name=f"leg{i}", place=i) for i in range(legs))
    given: dict[str, Any] = {"limit": 10, "offset": 0, "min_score": None, "exact": False, "hnsw_ef": None, **changes}
    return Query(made, None, view=View.ID, max_bytes=1 << 20, fusion=Fusion() if legs > 1 else None, **given)


def told(hits: Hits) -> list[str]:
    return [hit.item.id for hit in hits.hits]


@pytest.mark.parametrize(("wanted", "depths"), [(10, [100]), (150, [100, 1_000]), (2_500, [100, 1_000, 10_000])])
async def test_each_step_goes_further_and_the_last_compares_everything(wanted: int, depths: list[int]) -> None:
    source = FakeSource(3_000, group=lambda _: None)
    found = await ranking.search(source, query(group_by=GroupBy((("k",),)), limit=wanted))
    assert told(found) == sorted(source.scores[0], key=lambda each: -source.scores[0][each])[:wanted]
    assert [step.depth for step in source.steps] == depths
    assert [step.exact for step in source.steps] == [{0} if depth == 10_000 else frozenset() for depth in depths]
    assert not found.exact


async def test_an_index_that_gives_up_is_not_taken_for_the_end() -> None:
    source = FakeSource(60, known=0.5)
    found = await ranking.search(source, query(2, limit=60))
    assert sorted(told(found)) == sorted(source.groups)
    assert [step.exact for step in source.steps] == [frozenset(), {0, 1}]
    # What the index knew of keeps its places.
    assert set(told(await ranking.search(source, query(2, limit=30)))) == source.known


@pytest.mark.parametrize("leaves_out", [True, False])
async def test_groups_that_are_full_are_left_out(leaves_out: bool) -> None:
    """Whether or not the store can: of 5,000 items 4,900 are of one group, and all of them nearer than the others."""
    source = FakeSource(5_000, group=lambda i: ("large",) if i < 4_900 else (i % 5,))
    source.leaves_out = leaves_out
    for scores in source.scores:
        for item_id, values in source.groups.items():
            scores[item_id] += 1.0 if values == ("large",) else 0.0
    for legs in (1, 2):
        source.steps.clear()
        found = await ranking.search(source, query(legs, group_by=GroupBy((("k",),)), limit=20))
        assert found.hits[0].group == ("large",)
        assert {hit.group for hit in found.hits} == {("large",), *((n,) for n in range(5))}
        assert len(source.steps) <= 4
        assert source.steps[1].without == (("large",),)
        ranks = [hit.legs[0].rank for hit in found.hits]
        # Of the large group 100 were found before the others.
        assert min(ranks[1:]) > 100
        if legs == 1:
            best = {values: item_id for item_id, values in source.groups.items()}
            for item_id, values in source.groups.items():
                if source.scores[0][item_id] > source.scores[0][best[values]]:
                    best[values] = item_id
            assert sorted(told(found)) == sorted(best.values())


@pytest.mark.parametrize("method", list(FusionMethod))
async def test_items_of_full_groups_count_for_nothing_where_a_store_finds_them(method: FusionMethod) -> None:
    """Scores and ranks are the same whether or not a store can leave full groups out by its index."""
    source = FakeSource(900, group=lambda i: (["a", "list"],) if i < 700 else (i,))
    for item_id, values in source.groups.items():
        source.scores[0][item_id] += 1.0 if values == (["a", "list"],) else 0.0
    asked = replace(query(2, group_by=GroupBy((("k",),)), limit=150), fusion=Fusion(method))
    left_out = await ranking.search(source, asked)
    source.leaves_out = False
    found = await ranking.search(source, asked)
    assert len(found.hits) == 150
    assert [(hit.item.id, hit.score, hit.legs) for hit in found.hits] == [
        (hit.item.id, hit.score, hit.legs) for hit in left_out.hits
    ]


async def test_a_store_that_compared_everything_is_not_asked_again() -> None:
    source = FakeSource(60, known=0.5)
    source.compares_all = True
    assert len((await ranking.search(source, query(2, limit=80))).hits) == 60
    assert len(source.steps) == 1


async def test_a_leg_that_did_not_look_at_all_is_not_exact() -> None:
    source = FakeSource(10)
    source.is_exact = lambda leg: True  # type: ignore[method-assign]  # a leg that needs no index
    assert (await ranking.search(source, query(2))).exact
    source.cut = True
    assert not (await ranking.search(source, query(2))).exact


async def test_a_leg_that_pushes_away_ends_nothing() -> None:
    source = FakeSource(30)
    source.compares_all = True
    made = query(2, limit=50, group_by=GroupBy((("k",),)))
    made = replace(made, legs=(made.legs[0], replace(made.legs[1], weight=-1.0)))
    hits = await ranking.search(source, made)
    assert len(hits.hits) == 30
    assert len(source.steps) <= 2


async def test_the_search_for_relevant_items_ends_where_a_leg_finds_what_is_not() -> None:
    source = FakeSource(20_000)
    made = query(2, limit=50, least_cosines={"leg0": 0.999, "leg1": 0.9995})
    hits = await ranking.search(source, made)
    wanted = {
        item_id
        for item_id in source.groups
        if source.scores[0][item_id] >= 0.999 or source.scores[1][item_id] >= 0.9995
    }
    assert 5 < len(wanted) < 50
    assert set(told(hits)) == wanted
    assert [step.depth for step in source.steps] == [ranking.DEPTHS[0]]
    assert all(not step.exact for step in source.steps)
    # As many as are wanted are there, however many are not relevant between them.
    made = query(2, limit=300, least_cosines={"leg0": 0.98, "leg1": 2.0})
    hits = await ranking.search(source, made)
    assert len(hits.hits) == 300
    assert all(source.scores[0][item_id] >= 0.98 for item_id in told(hits))
