"""Searches that are more than nearness in one space: several legs, groups, diversity.

Candidates are looked for in steps of fixed depths. What the first step finds comes first, then what the next one adds,
at last what comes of comparing everything. So the hits between two places are the same for every page, as in
`candidates`. Once groups are full, a step leaves their items out: so a group that fills every candidate, whatever its
size, hides no other.
"""

import functools
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

from lensmesh_chassis.errors import PreconditionFailed
from search_svc.candidates import FoundItem
from search_svc.diversity import diversify
from search_svc.fusion import LegFindings, RankedItem, fuse
from search_svc.grouping import Groups, GroupValues
from search_svc.legs import Leg, VectorLeg
from search_svc.model import FailedLeg, FetchedItems, Hit, Hits, NamedSpace, Numbers
from search_svc.store import Query

# Of each leg. An index is asked for no more than the second: from the third on everything is compared.
DEPTHS = (100, 1_000, 10_000)
_GROWTH = 10
# What ranking a candidate takes, as bytes of messages whose translation takes as long.
_BYTES = 64
T = TypeVar("T")


@dataclass(frozen=True)
class Step:
    """A look for candidates."""

    depth: int
    """Most items of each leg of positive weight."""
    exact: frozenset[int]
    """Places of the legs that compare everything."""
    without: tuple[tuple[object, ...], ...] = ()
    """Values of groups to leave out. An item that is found all the same does no harm."""


@dataclass(frozen=True)
class StepFindings:
    """Findings of a step. Items whose groups are wanted have their values in `groups`."""

    legs: Sequence[Sequence[FoundItem]]
    """Of each leg; a leg of negative weight knows what the others found, as far as it has a vector."""
    groups: Mapping[str, GroupValues]
    is_cut: bool = False
    """True where a leg left items out that it did not look at, as one of very frequent words does."""
    exact: frozenset[int] = frozenset()
    """Places of legs that compared everything, asked to or not."""


class CandidateSource(Protocol):
    """A store's side of one search. Its answers are of one moment, where the store can do that."""

    def is_exact(self, leg: Leg) -> bool:
        """Tell whether the leg compares everything by itself."""

    def resolve(self, leg: Leg) -> Awaitable[Leg]:
        """Return the leg with what it is near to. `item_id` stays: that item is no hit.

        Raises:
            NotFound: ITEM_NOT_FOUND.
            PreconditionFailed: ITEM_WITHOUT_VECTOR.
        """

    def find(self, legs: Sequence[Leg], step: Step) -> Awaitable[StepFindings]:
        """Look for candidates by resolved legs."""

    def vectors(self, space: NamedSpace, items: Sequence[RankedItem]) -> Awaitable[Mapping[str, Numbers]]:
        """Return the items' vectors in one space, by item id; an item without one is missing."""

    def beside(self, work: Callable[[], T], size_bytes: int) -> Awaitable[T]:
        """Do `work` that never waits, beside the event loop where it is as much as so many bytes take."""

    def read(self, ids: Sequence[str]) -> Awaitable[FetchedItems]:
        """Read items, as the query asks."""


async def search(source: CandidateSource, query: Query) -> Hits:
    """Answer one search.

    Raises:
        NotFound: ITEM_NOT_FOUND, a leg's `item_id` names no item.
        PreconditionFailed: ITEM_WITHOUT_VECTOR, it has none in the leg's space, and that may not be left out.
    """
    legs, failed = await _resolved(source, query)
    ranking = _Ranking(source, query, legs)
    await ranking.climb()
    hits = ranking.page()
    items = await source.read([each.item_id for each in hits])
    ranked = {each.item_id: (rank, each) for rank, each in enumerate(hits, query.offset + 1)}
    found = []
    for item in items.items:
        rank, each = ranked[item.id]
        found.append(Hit(item, each.score, rank, each.legs, ranking.groups.get(item.id)))
    return Hits(tuple(found), items.cut, ranking.is_exact, failed)


async def _resolved(source: CandidateSource, query: Query) -> tuple[list[Leg], tuple[FailedLeg, ...]]:
    """Return the legs that can answer, and the others."""
    legs: list[Leg] = []
    failed: list[FailedLeg] = []
    first: PreconditionFailed | None = None
    for leg in query.legs:
        try:
            legs.append(await source.resolve(leg))
        except PreconditionFailed as error:
            if not query.partial:
                raise
            failed.append(FailedLeg(leg.name, error))
            if leg.weight > 0:
                first = first or error
    if first is not None and not any(leg.weight > 0 for leg in legs):
        raise first
    return legs, tuple(failed)


class _Ranking:
    """The list of one search's hits, as far as it was needed."""

    def __init__(self, source: CandidateSource, query: Query, legs: Sequence[Leg]) -> None:
        self._source = source
        self._query = query
        self._legs = legs
        self._wanted = query.offset + query.limit
        self._full = Groups(query.group_by.size) if query.group_by else None
        self._places: list[RankedItem] = []
        self._seen: list[dict[str, None]] = [{} for _ in legs]
        self._finders = frozenset(place for place, leg in enumerate(legs) if leg.weight > 0)
        self._exact = frozenset(place for place in self._finders if source.is_exact(legs[place]))
        self.is_exact = self._exact == self._finders
        self.groups: dict[str, GroupValues] = {}

    async def climb(self) -> None:
        """Look for candidates until there are as many places as are wanted, or no more."""
        depth = self._first_depth()
        is_first = True
        while True:
            if depth > DEPTHS[1]:
                self._exact = self._finders
            step = Step(depth, self._exact, self._full.full if self._full else ())
            found = await self._source.find(self._legs, step)
            candidates = sum(map(len, found.legs))
            added = await self._source.beside(functools.partial(self._add, found), candidates * _BYTES)
            if is_first and self._query.diversity:
                await self._diversify()
            if len(self._places) >= self._wanted or self._is_past_relevance(found):
                return
            # A leg of negative weight finds nothing, and ends nothing.
            self._exact |= found.exact & self._finders
            short = frozenset(place for place in self._finders if len(found.legs[place]) < depth)
            if short == self._finders == self._exact:
                return
            # An index that gives fewer than it is asked for has no more, or gave up: only a look at each item tells.
            self._exact |= short
            is_first = False
            if depth < DEPTHS[-1] or not (self._full and added):
                depth *= _GROWTH

    def _is_past_relevance(self, found: StepFindings) -> bool:
        """Tell whether no leg would find another relevant item: each has found one that is not near enough."""
        least = self._query.least_cosines
        if least is None:
            return False
        telling = [place for place in self._finders if self._legs[place].name in least]
        return all(any(item.score < least[self._legs[place].name] for item in found.legs[place]) for place in telling)

    def page(self) -> list[RankedItem]:
        """Return the hits of the page that the query asks for, in order."""
        least = float("-inf") if self._query.min_score is None else self._query.min_score
        hits = [each for each in self._places[self._query.offset : self._wanted] if each.score >= least]
        return hits if self._query.diversity else sorted(hits, key=lambda each: each.order)

    def _first_depth(self) -> int:
        candidates = self._query.diversity.candidates if self._query.diversity else 0
        return next(depth for depth in DEPTHS if depth >= candidates)

    def _add(self, found: StepFindings) -> int:
        """Put what is new behind the places that are there. Return how many places that makes."""
        self.groups.update(found.groups)
        self.is_exact = self.is_exact and not found.is_cut
        known = {each.item_id for each in self._places}
        findings = [self._without_full(items) for items in found.legs]
        legs = [
            LegFindings(leg.name, leg.weight, items, self._before(place, items))
            for place, (leg, items) in enumerate(zip(self._legs, findings, strict=True))
        ]
        fused = fuse(legs, self._query.fusion)
        new = [each for each in fused if each.item_id not in known and self._query.is_relevant(each.legs)]
        if self._full is not None:
            new = self._full.take(new, self.groups)
        self._places += new
        for seen, items in zip(self._seen, findings, strict=True):
            seen.update(dict.fromkeys(each.item_id for each in items))
        return len(new)

    def _without_full(self, items: Sequence[FoundItem]) -> Sequence[FoundItem]:
        """Leave out items of full groups, which a store may find all the same: ranks are without them."""
        if self._full is None or not self._places:
            return items
        return [each for each in items if not self._full.is_full(self.groups.get(each.item_id))]

    def _before(self, place: int, items: Sequence[FoundItem]) -> int:
        """Count the items that a leg found before and that were left out now, since their groups are full."""
        if self._full is None or not self._seen[place]:
            return 0
        here = {each.item_id for each in items}
        left_out = (item_id for item_id in self._seen[place] if item_id not in here)
        return sum(1 for item_id in left_out if self._full.is_full(self.groups.get(item_id)))

    async def _diversify(self) -> None:
        """Order the first places anew; those below the least score come behind the others."""
        diversity = self._query.diversity
        assert diversity is not None
        least = float("-inf") if self._query.min_score is None else self._query.min_score
        # These are sorted by their scores.
        first = [each for each in self._places[: diversity.candidates] if each.score >= least]
        finders = [leg for leg in self._legs if leg.weight > 0]
        space = next((leg.space for leg in finders if isinstance(leg, VectorLeg)), finders[0].space)
        vectors = await self._source.vectors(space, first)
        chosen = await self._source.beside(
            lambda: diversify(first, vectors, strength=diversity.strength, count=self._wanted),
            len(first) * min(self._wanted, len(first)) * _BYTES // 16,
        )
        self._places = chosen + self._places[len(first) :]
