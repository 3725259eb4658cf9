"""A search as one statement: the nearest items by the index, and their content.

Where the index knows of too few a second one sees every item. It is told what the first one found, which keeps its
places: so what is returned is of one moment, and in the order of `candidates`. The numbers of hits that the parts of a
statement look for are fixed. So its text depends on the kind of search and on the shape of its filter alone.
"""

from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import TypeAlias

import asyncpg

from search_svc.candidates import SIZES
from search_svc.legs import VectorLeg
from search_svc.model import Collection, Hit, Hits
from search_svc.postgres.nearest import Nearest, is_exact
from search_svc.postgres.predicates import Parameters
from search_svc.postgres.reading import ItemColumns, RowReader, at_once
from search_svc.postgres.sketches import sketch, sketch_type
from search_svc.postgres.tables import vector_type
from search_svc.postgres.vectors import to_database
from search_svc.refusals import no_item, no_vector
from search_svc.store import Query

Rows: TypeAlias = Sequence[asyncpg.Record]
# For each part of a statement the keys of the items that it found.
Known: TypeAlias = Sequence[Sequence[int]]
Ask: TypeAlias = Callable[[Callable[[asyncpg.Connection], Awaitable[Rows]]], Awaitable[Rows]]

# pgvector's own limit of hnsw.ef_search; more hits than that come from going on with the scan.
MAX_EF = 1000
_VECTOR = "(SELECT vector FROM near)"
_HAS_VECTOR = f"{_VECTOR} IS NOT NULL"
# Columns of an answer's rows that stand before the content of an item.
_BEFORE = 3


async def search(ask: Ask, collection: Collection, query: Query, leg: VectorLeg) -> Hits | None:
    """Find what is nearest by the only leg, by statements that are transactions of their own: one, or two.

    None where so many places are wanted that it takes several in one transaction.

    Raises:
        NotFound: ITEM_NOT_FOUND.
        PreconditionFailed: ITEM_WITHOUT_VECTOR.
    """
    wanted = query.offset + query.limit
    sizes = [size for before, size in zip((0, *SIZES), SIZES, strict=False) if before < wanted]
    if not sizes or sizes[-1] > at_once(query.view):
        return None
    known: Known = ()
    if not is_exact(collection, query, leg):
        statement = OneStatement(collection, query, leg, sizes)
        rows = await ask(statement.fetch)
        found = statement.too_few(rows)
        if found is None:
            return statement.hits(rows)
        known = [[key for key, part in found if part == place] for place in range(len(sizes))]
    statement = OneStatement(collection, query, leg, sizes, known=known)
    rows = await ask(statement.fetch)
    statement.too_few(rows)
    return statement.hits(rows)


class OneStatement:
    """A search that is one statement. The index is scanned as its session says, but for what is said here.

    Args:
        sizes: how many hits the parts look for.
        known: what the index found; every item is looked at then, and not the index.
    """

    def __init__(
        self,
        collection: Collection,
        query: Query,
        leg: VectorLeg,
        sizes: Sequence[int],
        *,
        known: Known | None = None,
    ) -> None:
        self._collection = collection
        self._query = query
        self._leg = leg
        parameters = Parameters()
        limit, offset = parameters.add(query.limit, "bigint"), parameters.add(query.offset, "bigint")
        least = parameters.add(float("-inf") if query.least_score is None else query.least_score, "float8")
        asked = parameters.add(*_asked(leg))
        itself = "(SELECT key FROM near)" if leg.vector is None else ""
        nearest = Nearest(collection, leg.space, query.filter, parameters, but=itself)
        sketched = nearest.sketch if known is None else ""
        near = _near(leg, nearest, asked, sketched, parameters)
        if known is None:
            parts = list(_by_index(query, nearest, sizes, parameters))
        else:
            places = [parameters.add(list(keys), "bigint[]") for keys in known]
            parts = [nearest.among(_VECTOR, keys) for keys in places]
            parts.append(nearest.exactly(_VECTOR, str(sizes[-1]), _HAS_VECTOR))
        named = ", ".join(f"part_{place} AS MATERIALIZED ({part})" for place, part in enumerate(parts))
        content = ItemColumns(collection, query.view)
        self.text = f"""
            WITH near AS MATERIALIZED ({near}), {named},
            found AS MATERIALIZED ({_joined(len(parts))}),
            places AS (SELECT key, score FROM found ORDER BY part, score DESC, id LIMIT {limit} OFFSET {offset})
            SELECT {_HAS_VECTOR},
                CASE WHEN (SELECT count(*) FROM found) < {limit} + {offset}
                    THEN ARRAY(SELECT ARRAY[key, part] FROM found) END,
                item.*
            FROM near LEFT JOIN (
                SELECT places.score, {content.columns}
                FROM places JOIN {content.items} ON i.key = places.key {content.joins}
                WHERE places.score >= {least}
            ) AS item ON TRUE
            ORDER BY item.score DESC, item.id"""
        self.values = parameters.values

    async def fetch(self, connection: asyncpg.Connection) -> Rows:
        """Return the answer's rows."""
        rows: list[asyncpg.Record] = await connection.fetch(self.text, *self.values)
        return rows

    def too_few(self, rows: Rows) -> Sequence[tuple[int, int]] | None:
        """Return the keys of all that was found and their parts, if that is too few; None if it is enough.

        Raises:
            NotFound: ITEM_NOT_FOUND.
            PreconditionFailed: ITEM_WITHOUT_VECTOR.
        """
        if not rows:
            raise no_item(self._collection.definition.name, self._leg)
        has_vector, found, *_ = rows[0]
        if not has_vector:
            raise no_vector(self._leg)
        return found  # type: ignore[no-any-return]

    def hits(self, rows: Rows) -> Hits:
        """Return the hits in the answer's rows, best first, equal scores by id."""
        reader = RowReader(self._collection, self._query.view, self._query.max_bytes)
        scores = [row[2] for row in rows if row[2] is not None]
        for row in rows[: len(scores)]:
            if not reader.take(row[_BEFORE:]):
                break
        items = reader.taken()
        ranked = enumerate(zip(items.items, scores, strict=False), start=self._query.offset + 1)
        hits = tuple(Hit(item, score, rank) for rank, (item, score) in ranked)
        return Hits(hits, items.cut, is_exact(self._collection, self._query, self._leg))


def _asked(leg: VectorLeg) -> tuple[object, str]:
    """Return what the search is near to, and its type."""
    if leg.vector is None:
        return leg.item_id, "text"
    return to_database(leg.vector, leg.space), vector_type(leg.space)


def _near(leg: VectorLeg, nearest: Nearest, asked: str, sketched: str, parameters: Parameters) -> str:
    """Return the statement for the vector, its sketch, and the item it is from: no row without the item.

    Args:
        sketched: the column of the items' sketches; empty where no sketch is wanted.
    """
    if leg.vector is not None:
        own = parameters.add(sketch(leg.vector), sketch_type(leg.space)) if sketched else "NULL"
        return f"SELECT {asked} AS vector, {own} AS sketch"
    own = f"i.{sketched}" if sketched else "NULL"
    return (
        f"SELECT i.key, v.vector, {own} AS sketch FROM {nearest.items} AS i"
        f" LEFT JOIN {nearest.members} AS m USING (key) LEFT JOIN {nearest.vectors} AS v ON v.key = m.vector"
        f" WHERE i.id = {asked}"
    )


def _by_index(query: Query, nearest: Nearest, sizes: Sequence[int], parameters: Parameters) -> Iterator[str]:
    """Yield statements that look into the index, each further than the one before.

    An index reads how many candidates to look at when its scan begins, and before that it is told the vector.
    """
    own_ef = parameters.add(str(query.hnsw_ef), "text") if query.hnsw_ef else ""
    for place, size in enumerate(sizes):
        ef = own_ef or (f"'{min(size, MAX_EF)}'" if size > SIZES[0] else "")
        vector = f"(SELECT vector FROM near, set_config('hnsw.ef_search', {ef}, true))" if ef else _VECTOR
        # On only if the part before found as much as it looked for: otherwise there is no more, or the index gave up.
        gate = f"(SELECT count(*) FROM part_{place - 1}) = {sizes[place - 1]}" if place else _HAS_VECTOR
        yield nearest.by_index(vector, size, gate, sketch="(SELECT sketch FROM near)")


def _joined(count: int) -> str:
    """Return the statement for what all parts found. What two of them found stands in the earlier one."""
    return " UNION ALL ".join(
        f"SELECT key, id, score, {place}::bigint AS part FROM part_{place} WHERE TRUE"
        + "".join(f" AND key NOT IN (SELECT key FROM part_{earlier})" for earlier in range(place))
        for place in range(count)
    )
