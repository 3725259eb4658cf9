"""Search in PostgreSQL: by the index where it can answer, by comparing every vector where it cannot.

Most searches are one statement or two (`one_statement`). Those that want more than 200 places are done here, in one
transaction of several statements. One alone would bring the content of all its items at once, up to 64 KiB each; here
they are read in pieces, until the answer is full. And where it ends is not one of the few numbers that a text can have.
Whatever both can answer they answer alike, and a test holds them against each other.
"""

from dataclasses import dataclass

import asyncpg
from pgvector import HalfVector, Vector

from search_svc.candidates import SIZES, FoundItem, first, page
from search_svc.legs import VectorLeg
from search_svc.model import Collection, Hit, Hits
from search_svc.postgres.nearest import Nearest, is_exact
from search_svc.postgres.one_statement import MAX_EF
from search_svc.postgres.predicates import Parameters
from search_svc.postgres.reading import read_ids
from search_svc.postgres.sketches import sketch, sketch_type
from search_svc.postgres.tables import items_table, members_table, vector_type, vectors_table
from search_svc.postgres.vectors import to_database
from search_svc.refusals import no_item, no_vector
from search_svc.store import Query


def session_settings(default_ef: int) -> dict[str, str]:
    """Return how indexes are scanned.

    Iterative: a filter that most candidates fail does not end the scan. Relaxed: hits are sorted here anyway, and the
    strict order would drop hits that are found late.
    """
    return {"hnsw.ef_search": str(int(default_ef)), "hnsw.iterative_scan": "relaxed_order"}


def _look_at(ef: int) -> str:
    return f"SET LOCAL hnsw.ef_search = {int(ef)}"


@dataclass(frozen=True)
class Near:
    """The point to be near to: a vector, and the key of the item it is from (0 is no item's key)."""

    vector: HalfVector | Vector
    itself: int


async def search(connection: asyncpg.Connection, collection: Collection, query: Query, leg: VectorLeg) -> Hits:
    """Find what is nearest by the only leg in the caller's transaction, however many places are wanted."""
    near = await resolve(connection, collection, leg)

    async def found(count: int, *, exact: bool) -> list[FoundItem]:
        parameters = Parameters()
        vector = parameters.add(near.vector, vector_type(leg.space))
        itself = parameters.add(near.itself, "bigint") if near.itself else ""
        nearest = Nearest(collection, leg.space, query.filter, parameters, but=itself)
        if exact:
            statement = nearest.exactly(vector, parameters.add(count, "bigint"))
        else:
            statement = nearest.by_index(vector, count, sketch=add_sketch(parameters, nearest, near, leg))
        rows = await connection.fetch(statement, *parameters.values)
        return [FoundItem(row["key"], row["id"], row["score"]) for row in rows]

    async def by_index(count: int) -> list[FoundItem]:
        if query.hnsw_ef or count > SIZES[0]:
            await connection.execute(_look_at(query.hnsw_ef or min(count, MAX_EF)))
        return await found(count, exact=False)

    async def exactly(count: int) -> list[FoundItem]:
        return await found(count, exact=True)

    exact = is_exact(collection, query, leg)
    places = await first(query.offset + query.limit, by_index=None if exact else by_index, exactly=exactly)
    hits = page(places, query.offset, query.least_score)
    items = await read_ids(
        connection, collection, [each.item_id for each in hits], view=query.view, max_bytes=query.max_bytes
    )
    ranks = {each.item_id: (query.offset + place, each.score) for place, each in enumerate(hits, start=1)}
    return Hits(tuple(Hit(item, ranks[item.id][1], ranks[item.id][0]) for item in items.items), items.cut, exact)


def add_sketch(parameters: Parameters, nearest: Nearest, near: Near, leg: VectorLeg) -> str:
    """Add the sketch of what a leg is near to, where one is compared, and return its place in the statement."""
    return parameters.add(sketch(near.vector.to_numpy()), sketch_type(leg.space)) if nearest.sketch else ""


async def resolve(connection: asyncpg.Connection, collection: Collection, leg: VectorLeg) -> Near:
    """Return what a leg is near to.

    Raises:
        NotFound: ITEM_NOT_FOUND.
        PreconditionFailed: ITEM_WITHOUT_VECTOR.
    """
    if leg.vector is not None:
        return Near(to_database(leg.vector, leg.space), 0)
    position = collection.definition.spaces.index(leg.space)
    row = await connection.fetchrow(
        f"SELECT i.key, v.vector FROM {items_table(collection.key)} AS i"
        f" LEFT JOIN {members_table(collection.key, position)} AS m USING (key)"
        f" LEFT JOIN {vectors_table(collection.key, position)} AS v ON v.key = m.vector WHERE i.id = $1",
        leg.item_id,
    )
    if row is None:
        raise no_item(collection.definition.name, leg)
    if row["vector"] is None:
        raise no_vector(leg)
    return Near(row["vector"], row["key"])
