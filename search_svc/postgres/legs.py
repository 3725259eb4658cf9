"""Candidates of several legs in PostgreSQL: all that a step looks for is one statement."""

import json
from collections.abc import Iterator, Mapping, Sequence

import asyncpg

from search_svc.candidates import FoundItem
from search_svc.fusion import RankedItem
from search_svc.grouping import GroupValues
from search_svc.legs import Leg
from search_svc.model import Collection, FetchedItems, NamedSpace, Numbers
from search_svc.postgres.nearest import Nearest, is_exact
from search_svc.postgres.one_statement import MAX_EF
from search_svc.postgres.predicates import Parameters, Predicate
from search_svc.postgres.reading import read_ids
from search_svc.postgres.searching import Near, resolve
from search_svc.postgres.tables import items_table, members_table, vector_type, vectors_table
from search_svc.ranking import Step, StepFindings
from search_svc.store import Query

# An index looks at so many candidates for each hit that it is asked for, its session's number at least. With as many
# as hits it would begin a second look for the last one.
_CANDIDATES = 1.25


class LegSource:
    """One search's candidates in its transaction; see `CandidateSource`."""

    def __init__(self, connection: asyncpg.Connection, collection: Collection, query: Query) -> None:
        self._connection = connection
        self._collection = collection
        self._query = query
        self._near: dict[int, Near] = {}

    def is_exact(self, leg: Leg) -> bool:
        return is_exact(self._collection, self._query, leg)

    async def resolve(self, leg: Leg) -> Leg:
        self._near[leg.place] = await resolve(self._connection, self._collection, leg)
        return leg

    async def find(self, legs: Sequence[Leg], step: Step) -> StepFindings:
        statement = StepStatement(self._collection, self._query, legs, [self._near[leg.place] for leg in legs], step)
        found: list[list[FoundItem]] = [[] for _ in legs]
        groups: dict[str, GroupValues] = {}
        for leg, key, item_id, score, *values in await self._connection.fetch(statement.text, *statement.values):
            found[leg].append(FoundItem(key, item_id, score))
            if values:
                read = tuple(json.loads(values[0]))
                groups[item_id] = None if None in read else read
        return StepFindings(found, groups)

    async def vectors(self, space: NamedSpace, items: Sequence[RankedItem]) -> Mapping[str, Numbers]:
        position = self._collection.definition.spaces.index(space)
        rows = await self._connection.fetch(
            f"SELECT m.key, v.vector FROM {members_table(self._collection.key, position)} AS m"
            f" JOIN {vectors_table(self._collection.key, position)} AS v ON v.key = m.vector"
            " WHERE m.key = ANY ((SELECT $1::bigint[])::bigint[])",
            [each.key for each in items],
        )
        by_key = {key: vector.to_numpy() for key, vector in rows}
        return {each.item_id: by_key[each.key] for each in items if each.key in by_key}

    async def read(self, ids: Sequence[str]) -> FetchedItems:
        return await read_ids(
            self._connection, self._collection, ids, view=self._query.view, max_bytes=self._query.max_bytes
        )


class StepStatement:
    """The statement of one step. Its rows are the place of a leg, key, id and score, and the values of groups as JSON.

    Args:
        near: what each leg is near to.
    """

    def __init__(
        self, collection: Collection, query: Query, legs: Sequence[Leg], near: Sequence[Near], step: Step
    ) -> None:
        self._collection = collection
        self._query = query
        self._step = step
        self._near = near
        self._parameters = Parameters()
        predicate = Predicate(collection.definition, self._parameters)
        group_paths = query.group_by.paths if query.group_by else ()
        self._values = f"jsonb_build_array({', '.join(map(predicate.value, group_paths))})" if group_paths else ""
        itself = [each.itself for each in near if each.itself]
        self._askers = len(itself)
        self._but = f"ALL ({self._parameters.add(itself, 'bigint[]')})" if itself else ""
        self._without = ""
        if step.without:
            texts = [f"[{', '.join(map(_json, values))}]" for values in step.without]
            self._without = f"{self._values} = ANY ({self._parameters.add(texts, 'jsonb[]')})"
        finders = [place for place, leg in enumerate(legs) if leg.weight > 0]
        parts = dict(self._parts(legs, finders))
        union = " UNION ALL ".join(f"SELECT {place} AS leg, * FROM part_{place}" for place in sorted(parts))
        if self._values:
            items = items_table(collection.key)
            union = (
                f"SELECT part.*, (SELECT {self._values}::text FROM {items} AS i WHERE i.key = part.key)"
                f" FROM ({union}) AS part"
            )
        self.text = f"WITH {', '.join(parts.values())} {union}"
        self.values = self._parameters.values

    def _parts(self, legs: Sequence[Leg], finders: Sequence[int]) -> Iterator[tuple[int, str]]:
        """Yield the parts of the statement by the places of their legs; finders first, since others look at theirs."""
        for place in finders:
            yield place, f"part_{place} AS MATERIALIZED ({self._found(place, legs[place])})"
        known = " UNION ".join(f"SELECT key FROM part_{place}" for place in finders)
        for place, leg in enumerate(legs):
            if place not in finders:
                nearest = Nearest(self._collection, leg.space, None, self._parameters)
                among = nearest.among(self._vector(place, leg), f"ARRAY({known})")
                yield place, f"part_{place} AS MATERIALIZED ({among})"

    def _found(self, place: int, leg: Leg) -> str:
        nearest = Nearest(
            self._collection,
            leg.space,
            self._query.filter,
            self._parameters,
            but=self._but,
            without=self._without,
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
        return nearest.by_index(f"(SELECT {vector} FROM set_config('hnsw.ef_search', {ef}, true))", str(depth))

    def _vector(self, place: int, leg: Leg) -> str:
        return self._parameters.add(self._near[place].vector, vector_type(leg.space))


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, allow_nan=False)
