"""Candidates of several legs in Qdrant: what a step looks for is one batch of queries, which the server answers side
by side."""

from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

from qdrant_client import AsyncQdrantClient, models

from search_svc.candidates import FoundItem
from search_svc.fusion import RankedItem
from search_svc.grouping import GroupValues
from search_svc.legs import HashLeg, Leg, VectorLeg, WordsLeg
from search_svc.model import Collection, FetchedItems, NamedSpace, Numbers
from search_svc.qdrant import searching
from search_svc.qdrant.engine import QdrantEngine
from search_svc.qdrant.grouping import certainly_in, values_of
from search_svc.qdrant.hash_legs import HashSearch
from search_svc.qdrant.layout import point_id
from search_svc.qdrant.points import vector_of
from search_svc.qdrant.predicates import but_not, compile_filter
from search_svc.qdrant.reading import PIECE, read_ids
from search_svc.qdrant.word_legs import WordSearch
from search_svc.ranking import Step, StepFindings
from search_svc.store import Query

T = TypeVar("T")


class LegSource:
    """A search's candidates; see `CandidateSource`."""

    def __init__(
        self, client: AsyncQdrantClient, engine: QdrantEngine, collection: Collection, query: Query, *, default_ef: int
    ) -> None:
        self._engine = engine
        self._client = client
        self._collection = collection
        self._query = query
        self._default_ef = default_ef
        self._local = engine.local
        self._chosen = None if query.filter is None else compile_filter(query.filter, collection.definition)
        # Unit vectors, by the places of the legs.
        self._numbers: dict[int, list[float]] = {}
        self._askers = [
            point_id(leg.item_id) for leg in query.legs if isinstance(leg, VectorLeg) and leg.vector is None
        ]

    def is_exact(self, leg: Leg) -> bool:
        return not isinstance(leg, VectorLeg) or searching.is_exact(
            self._collection, self._query, leg, local=self._local
        )

    async def resolve(self, leg: Leg) -> Leg:
        if not isinstance(leg, VectorLeg):
            return leg
        vector = leg.vector
        if vector is None:
            vector = await searching.vector_of_item(self._client, self._collection, leg)
        self._numbers[leg.place] = searching.unit(vector)
        return leg

    async def find(self, legs: Sequence[Leg], step: Step) -> StepFindings:
        vectors = {place: leg for place, leg in enumerate(legs) if isinstance(leg, VectorLeg)}
        payload_legs = {place: leg for place, leg in enumerate(legs) if not isinstance(leg, VectorLeg)}
        finders = {place: leg for place, leg in vectors.items() if leg.weight > 0}
        condition = self._condition(step)
        requests = [
            # One more than is asked for tells whether equal scores go on behind the last.
            self._request(leg, condition, step.depth + (place in step.exact), exact=place in step.exact, step=step)
            for place, leg in finders.items()
        ]
        found: list[list[FoundItem]] = [[] for _ in legs]
        for (place, leg), items in zip(finders.items(), await self._ask(requests), strict=True):
            if place in step.exact:
                items = await self._exactly(leg, condition, step, items)
            found[place] = items
        is_cut = False
        for place, asked in payload_legs.items():
            if asked.weight > 0:
                found[place], more = await self._search(asked, condition).find(step.depth)
                is_cut = is_cut or more
        ids = list(dict.fromkeys(each.item_id for items in found for each in items))
        others = {place: leg for place, leg in vectors.items() if place not in finders}
        if others and ids:
            among = models.Filter(must=[models.HasIdCondition(has_id=[point_id(item_id) for item_id in ids])])
            requests = [self._request(leg, among, len(ids), exact=True, step=step) for leg in others.values()]
            for place, items in zip(others, await self._ask(requests), strict=True):
                found[place] = items
        for place, asked in payload_legs.items():
            if asked.weight < 0:
                found[place] = await self._search(asked, condition).among(ids)
        return StepFindings(found, await self._groups(ids), is_cut)

    def _search(self, leg: WordsLeg | HashLeg, condition: models.Filter | None) -> WordSearch | HashSearch:
        if isinstance(leg, HashLeg):
            return HashSearch(self._client, self._collection, leg, condition)
        return WordSearch(self._client, self._collection, leg, condition, self._query.enough)

    async def vectors(self, space: NamedSpace, items: Sequence[RankedItem]) -> Mapping[str, Numbers]:
        found: dict[str, Numbers] = {}
        for begin in range(0, len(items), PIECE):
            records = await self._client.retrieve(
                self._collection.key,
                [point_id(each.item_id) for each in items[begin : begin + PIECE]],
                with_payload=["id", "raw"],
                with_vectors=[space.name],
            )
            for record in records:
                vector = vector_of(record, space)
                if vector is not None and record.payload:
                    found[record.payload["id"]] = vector
        return found

    async def beside(self, work: Callable[[], T], size_bytes: int) -> T:
        return await self._engine.beside(work, size_bytes)

    async def read(self, ids: Sequence[str]) -> FetchedItems:
        return await read_ids(
            self._client, self._collection, ids, view=self._query.view, max_bytes=self._query.max_bytes
        )

    def _condition(self, step: Step) -> models.Filter | None:
        without: list[models.Condition] = [models.HasIdCondition(has_id=self._askers)] if self._askers else []
        if self._query.group_by and step.without:
            without += certainly_in(self._query.group_by.paths, step.without)
        return but_not(self._chosen, *without)

    def _request(
        self, leg: VectorLeg, condition: models.Filter | None, limit: int, *, exact: bool, step: Step
    ) -> models.QueryRequest:
        ef = max(self._default_ef, step.depth)
        return models.QueryRequest(
            query=self._numbers[leg.place],
            using=leg.space.name,
            filter=condition,
            # Local mode looks at every vector, and warns of what it does not need.
            params=None if self._local else searching.params(self._query, ef, exact=exact),
            limit=limit,
            with_payload=["id"],
        )

    async def _ask(self, requests: Sequence[models.QueryRequest]) -> list[list[FoundItem]]:
        if not requests:
            return []
        answers = await self._client.query_batch_points(self._collection.key, requests=requests)
        return [searching.found_items(answer.points) for answer in answers]

    async def _exactly(
        self, leg: VectorLeg, condition: models.Filter | None, step: Step, items: list[FoundItem]
    ) -> list[FoundItem]:
        """Return the best of all items, as many as the step asks for; the ids decide between equal scores."""

        async def nearest(count: int, *, exact: bool) -> list[FoundItem]:
            [found] = await self._ask([self._request(leg, condition, count, exact=exact, step=step)])
            return found

        if len(items) > step.depth and items[-1].score == items[step.depth - 1].score:
            items = await searching.with_ties(nearest, step.depth)
        return sorted(items, key=lambda each: each.order)[: step.depth]

    async def _groups(self, ids: Sequence[str]) -> dict[str, GroupValues]:
        """Return the values that make the groups of items, read in pieces, since metadata may be large."""
        found: dict[str, GroupValues] = {}
        if self._query.group_by is None:
            return found
        for begin in range(0, len(ids), PIECE):
            records = await self._client.retrieve(
                self._collection.key,
                [point_id(item_id) for item_id in ids[begin : begin + PIECE]],
                with_payload=["id", "metadata", "digest", "caption"],
                with_vectors=False,
            )
            for record in records:
                if record.payload:
                    found[record.payload["id"]] = values_of(record.payload, self._query.group_by.paths)
        return found
