"""Candidates of several legs in PostgreSQL: all that a step looks for by vectors is one statement."""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeVar

import asyncpg

from search_svc.candidates import FoundItem
from search_svc.fusion import RankedItem
from search_svc.grouping import GroupValues
from search_svc.legs import HashLeg, Leg, VectorLeg, WordsLeg
from search_svc.model import Collection, FetchedItems, NamedSpace, Numbers
from search_svc.postgres.hash_legs import HashSearch
from search_svc.postgres.nearest import Nearest, is_exact
from search_svc.postgres.one_statement import MAX_EF
from search_svc.postgres.reading import read_ids
from search_svc.postgres.searching import Near, add_sketch, resolve
from search_svc.postgres.step_conditions import StepConditions
from search_svc.postgres.tables import items_table, members_table, sent, vector_type, vectors_table
from search_svc.postgres.vectors import from_sent
from search_svc.postgres.word_legs import WordSearch, keep_order
from search_svc.ranking import DEPTHS, Step, StepFindings
from search_svc.store import Query
from search_svc.threads import Threads

T = TypeVar("T")

# An index looks at so many candidates for each hit that it is asked for, its session's number at least. With as many
# as hits it would begin a second look for the last one.
_CANDIDATES = 1.25
# Of a step's vectors: an index scan that leaves groups out passes over up to 20,000 of them, one by one.
_SMALL_BYTES = 64 << 20
# What taking a row apart takes, as bytes of messages whose translation takes as long.
_ROW_BYTES = 32


class LegSource:
    """A search's candidates in its transaction; see `CandidateSource`."""

    def __init__(self, connection: asyncpg.Connection, collection: Collection, query: Query, threads: Threads) -> None:
        self._threads = threads
        self._connection = connection
        self._collection = collection
        self._query = query
        self._near: dict[int, Near] = {}
        # By the keys of their items: those that the first step told, where it told any.
        self._vectors: dict[int, Numbers] = {}

    def is_exact(self, leg: Leg) -> bool:
        return not isinstance(leg, VectorLeg) or is_exact(self._collection, self._query, leg)

    async def resolve(self, leg: Leg) -> Leg:
        if isinstance(leg, WordsLeg):
            await keep_order(self._connection)
        elif isinstance(leg, VectorLeg):
            self._near[leg.place] = await resolve(self._connection, self._collection, leg)
        return leg

    async def find(self, legs: Sequence[Leg], step: Step) -> StepFindings:
        found: list[list[FoundItem]] = [[] for _ in legs]
        groups: dict[str, GroupValues] = {}
        is_cut = False
        others = {place: leg for place, leg in enumerate(legs) if not isinstance(leg, VectorLeg)}
        for place, leg in others.items():
            if leg.weight > 0:
                findings = await self._search(leg, step).find(self._connection, step.depth)
                is_cut = is_cut or findings.is_cut
                await self._take([(place, *row) for row in findings.rows], found, groups)
        vectors = {place: leg for place, leg in enumerate(legs) if isinstance(leg, VectorLeg)}
        if step.without and await self._is_small(vectors.values()):
            step = replace(step, exact=step.exact | vectors.keys())
        if vectors:
            near = {place: self._near[leg.place] for place, leg in vectors.items()}
            conditions, known = self._conditions(step), _keys(found)
            statement = StepStatement(self._collection, self._query, vectors, near, step, conditions, known)
            rows: Sequence[Sequence[Any]] = await self._connection.fetch(statement.text, *statement.values)
            if statement.tells is not None:
                self._vectors = _by_key([(key, content) for _, key, _, _, content, *_ in rows], statement.tells)
                rows = [(*row[:4], *row[5:]) for row in rows]
            await self._take(rows, found, groups)
        pushing = {place: leg for place, leg in others.items() if leg.weight < 0}
        known = _keys(found) if pushing else []
        for place, leg in pushing.items():
            findings = await self._search(leg, step).among(self._connection, known)
            await self._take([(place, *row) for row in findings.rows], found, groups)
        return StepFindings(found, groups, is_cut, step.exact)

    async def _take(
        self, rows: Sequence[Sequence[Any]], found: Sequence[list[FoundItem]], groups: dict[str, GroupValues]
    ) -> None:
        """Put rows into `found` and `groups`: place, key, id and score, and the values of groups as JSON if wanted."""

        def take() -> None:
            for place, key, item_id, score, *values in rows:
                found[place].append(FoundItem(key, item_id, score))
                if values:
                    read = (None,) if values[0] is None else tuple(json.loads(values[0]))
                    groups[item_id] = None if None in read else read

        await self.beside(take, len(rows) * _ROW_BYTES)

    async def _is_small(self, legs: Iterable[VectorLeg]) -> bool:
        """Tell whether comparing everything is cheaper than an index scan that passes over many items."""
        spaces = self._collection.definition.spaces
        tables = {vectors_table(self._collection.key, spaces.index(leg.space)) for leg in legs}
        size: int | None = await self._connection.fetchval(
            "SELECT sum(pg_relation_size(name::regclass)) FROM unnest($1::text[]) AS name", sorted(tables)
        )
        return (size or 0) <= _SMALL_BYTES

    def _conditions(self, step: Step) -> StepConditions:
        askers = [near.itself for near in self._near.values() if near.itself]
        return StepConditions(self._collection, self._query, askers, step)

    def _search(self, leg: WordsLeg | HashLeg, step: Step) -> WordSearch | HashSearch:
        conditions = self._conditions(step)
        if isinstance(leg, HashLeg):
            return HashSearch(self._collection, leg, conditions)
        return WordSearch(self._collection, leg, conditions, self._query.enough)

    async def vectors(self, space: NamedSpace, items: Sequence[RankedItem]) -> Mapping[str, Numbers]:
        by_key = self._vectors
        if not by_key:
            position = self._collection.definition.spaces.index(space)
            rows = await self._connection.fetch(
                f"SELECT m.key, {sent('v.vector', space)} FROM {members_table(self._collection.key, position)} AS m"
                f" JOIN {vectors_table(self._collection.key, position)} AS v ON v.key = m.vector"
                " WHERE m.key = ANY ((SELECT $1::bigint[])::bigint[])",
                [each.key for each in items],
            )
            by_key = _by_key(rows, space)
        return {each.item_id: by_key[each.key] for each in items if each.key in by_key}

    async def beside(self, work: Callable[[], T], size_bytes: int) -> T:
        return await self._threads.run(work, size_bytes)

    async def read(self, ids: Sequence[str]) -> FetchedItems:
        return await read_ids(
            self._connection, self._collection, ids, view=self._query.view, max_bytes=self._query.max_bytes
        )


def _keys(found: Sequence[Sequence[FoundItem]]) -> list[int]:
    return sorted({each.key for items in found for each in items})


def _by_key(rows: Sequence[Sequence[Any]], space: NamedSpace) -> dict[int, Numbers]:
    """Return the vectors of items out of rows with the items' keys and what the database sent of the vectors."""
    return dict(zip((key for key, _ in rows), from_sent([content for _, content in rows], space), strict=True))


class StepStatement:
    """The statement of one step. Its rows are the place of a leg, key, id and score, and the values of groups as JSON.

    Before these stands each item's vector in the space `tells`, unless that is None.

    Args:
        legs: by their places.
        near: what each leg is near to.
        known: keys of the items that other legs found.
    """

    def __init__(
        self,
        collection: Collection,
        query: Query,
        legs: Mapping[int, VectorLeg],
        near: Mapping[int, Near],
        step: Step,
        conditions: StepConditions,
        known: Sequence[int] = (),
    ) -> None:
        self._collection = collection
        self._query = query
        self._step = step
        self._near = near
        self._known = known
        self._conditions = conditions
        self._parameters = conditions.parameters
        self._askers = sum(1 for each in near.values() if each.itself)
        self.tells: NamedSpace | None = None
        finders = [place for place, leg in legs.items() if leg.weight > 0]
        parts = dict(self._parts(legs, finders))
        union = " UNION ALL ".join(f"SELECT {place} AS leg, * FROM part_{place}" for place in sorted(parts))
        if conditions.told:
            items = items_table(collection.key)
            union = (
                f"SELECT part.*, (SELECT {conditions.told} FROM {items} AS i WHERE i.key = part.key)"
                f" FROM ({union}) AS part"
            )
        self.text = f"WITH {', '.join(parts.values())} {union}"
        self.values = self._parameters.values

    def _parts(self, legs: Mapping[int, VectorLeg], finders: Sequence[int]) -> Iterator[tuple[int, str]]:
        """Yield the parts of the statement by the places of their legs; finders first, since others look at theirs."""
        for place in finders:
            yield place, f"part_{place} AS MATERIALIZED ({self._found(place, legs[place])})"
        sources = [f"SELECT key FROM part_{place}" for place in finders]
        for place, leg in legs.items():
            if place not in finders:
                others = f"SELECT unnest({self._parameters.add(list(self._known), 'bigint[]')})"
                known = " UNION ".join((*sources, others))
                nearest = Nearest(self._collection, leg.space, None, self._parameters)
                among = nearest.among(self._vector(place, leg), f"ARRAY({known})")
                yield place, f"part_{place} AS MATERIALIZED ({among})"

    def _found(self, place: int, leg: VectorLeg) -> str:
        nearest = Nearest(
            self._collection,
            leg.space,
            self._query.filter,
            self._parameters,
            but=self._conditions.but,
            without=self._conditions.without,
            askers=self._askers,
        )
        vector, depth = self._vector(place, leg), self._step.depth
        if place in self._step.exact:
            return nearest.exactly(vector, str(depth))
        if self._query.hnsw_ef:
            ef = self._parameters.add(str(self._query.hnsw_ef), "text")
        else:
            most = min(int(_CANDIDATES * depth), MAX_EF)
            ef = f"greatest(current_setting('hnsw.ef_search')::int, {most})::text"
        # An index reads how many candidates to look at when its scan begins, and before that it is told the vector.
        looked = f"(SELECT {vector} FROM set_config('hnsw.ef_search', {ef}, true))"
        sketched = add_sketch(self._parameters, nearest, self._near[place], leg)
        # The scan has read the vectors already, and of one leg all are compared: they need no second statement.
        if self._query.diversity and len(self._query.legs) == 1 and depth == DEPTHS[0] and not sketched:
            self.tells = leg.space
        return nearest.by_index(looked, depth, sketch=sketched, with_vectors=self.tells is not None)

    def _vector(self, place: int, leg: VectorLeg) -> str:
        return self._parameters.add(self._near[place].vector, vector_type(leg.space))
