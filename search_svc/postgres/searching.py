"""Search in PostgreSQL: by the index where it can answer, by comparing every vector where it cannot."""

from dataclasses import dataclass

import asyncpg

from search_svc.candidates import SIZES, FoundItem, first, page
from search_svc.model import Collection, Hit, Hits
from search_svc.postgres.predicates import Parameters, Predicate
from search_svc.postgres.reading import read_keys
from search_svc.postgres.tables import items_table, members_table, vector_type, vectors_table
from search_svc.postgres.vectors import to_database
from search_svc.refusals import no_item, no_vector
from search_svc.store import Query

# pgvector's own limit of hnsw.ef_search; more hits than that come from going on with the scan.
MAX_EF = 1000


def scan_settings(query: Query, default_ef: int) -> str:
    """Return the statements that set how the index is scanned, for this transaction alone.

    Iterative: a filter that most candidates fail does not end the scan. Relaxed: hits are sorted here anyway, and the
    strict order would drop hits that are found late.
    """
    return f"{_look_at(query.hnsw_ef or default_ef)}; SET LOCAL hnsw.iterative_scan = relaxed_order"


def _look_at(ef: int) -> str:
    return f"SET LOCAL hnsw.ef_search = {int(ef)}"


@dataclass(frozen=True)
class _Near:
    """The point to be near to: a vector, and the key of the item it is from (0 is no item's key)."""

    vector: object
    itself: int


async def search(connection: asyncpg.Connection, collection: Collection, query: Query) -> Hits:
    """Find the nearest items in the caller's transaction, whose settings are `scan_settings`."""
    near = await _near(connection, collection, query)

    async def by_index(count: int) -> list[FoundItem]:
        if not query.hnsw_ef and count > SIZES[0]:
            await connection.execute(_look_at(min(count, MAX_EF)))
        return await _by_index(connection, collection, query, near, count)

    async def exactly(count: int) -> list[FoundItem]:
        return await _exactly(connection, collection, query, near, count)

    exact = query.exact or query.space.hnsw is None or query.space.name in collection.unbuilt
    places = await first(query.offset + query.limit, by_index=None if exact else by_index, exactly=exactly)
    hits = page(places, query.offset, query.min_score)
    items = await read_keys(
        connection,
        collection,
        [(each.key, each.item_id) for each in hits],
        view=query.view,
        max_bytes=query.max_bytes,
    )
    ranks = {each.item_id: (query.offset + place, each.score) for place, each in enumerate(hits, start=1)}
    return Hits(tuple(Hit(item, ranks[item.id][1], ranks[item.id][0]) for item in items.items), items.cut, exact)


async def _near(connection: asyncpg.Connection, collection: Collection, query: Query) -> _Near:
    if query.vector is not None:
        return _Near(to_database(query.vector, query.space), 0)
    vectors, members = _tables(collection, query)
    row = await connection.fetchrow(
        f"SELECT i.key, v.vector FROM {items_table(collection.key)} AS i LEFT JOIN {members} AS m USING (key)"
        f" LEFT JOIN {vectors} AS v ON v.key = m.vector WHERE i.id = $1",
        query.item_id,
    )
    if row is None:
        raise no_item(collection.definition.name, query.item_id)
    if row["vector"] is None:
        raise no_vector(query.item_id, query.space.name)
    return _Near(row["vector"], row["key"])


def _tables(collection: Collection, query: Query) -> tuple[str, str]:
    position = collection.definition.spaces.index(query.space)
    return vectors_table(collection.key, position), members_table(collection.key, position)


@dataclass(frozen=True)
class _Parts:
    """SQL that both statements are made of."""

    parameters: Parameters
    source: str
    """Vectors with the items that have them."""
    condition: str
    """What holds of an item that may be found."""
    distance: str
    score: str


def _parts(collection: Collection, query: Query, near: _Near) -> _Parts:
    parameters = Parameters()
    vectors, members = _tables(collection, query)
    distance = f"(v.vector <=> {parameters.add(near.vector, vector_type(query.space))})"
    conditions = ["TRUE"]
    if near.itself:
        conditions.append(f"i.key <> {parameters.add(near.itself, 'bigint')}")
    if query.filter is not None:
        conditions.append(f"({Predicate(collection.definition, parameters).sql(query.filter)})")
    # Named first wherever all are: tables are locked in this order.
    source = (
        f"{items_table(collection.key)} AS i JOIN {members} AS m USING (key) JOIN {vectors} AS v ON v.key = m.vector"
    )
    # Scores are told as float32: what is equal there is a tie.
    score = f"least(greatest((1 - {distance})::real, -1), 1)"
    return _Parts(parameters, source, " AND ".join(conditions), distance, score)


async def _exactly(
    connection: asyncpg.Connection, collection: Collection, query: Query, near: _Near, count: int
) -> list[FoundItem]:
    """Return the nearest of all items, best first, equal scores by id."""
    parts = _parts(collection, query, near)
    limit = parts.parameters.add(count, "bigint")
    scored = f"SELECT i.key, i.id, {parts.score} AS score FROM {parts.source} WHERE {parts.condition}"
    if query.filter is None:
        # Every vector has an item, but for the one whose only item asks: so the best vectors are enough, and only their
        # items are looked up.
        vectors, members = _tables(collection, query)
        scored = f"""
            WITH best AS MATERIALIZED (
                SELECT v.key AS vector, {parts.score} AS score FROM {vectors} AS v
                ORDER BY score DESC FETCH FIRST ({limit} + 1) ROWS WITH TIES
            )
            SELECT i.key, i.id, best.score FROM best JOIN {members} AS m USING (vector)
            JOIN {items_table(collection.key)} AS i ON i.key = m.key WHERE {parts.condition}"""
    rows = await connection.fetch(
        f"{scored} ORDER BY score DESC, id LIMIT {limit}",
        *parts.parameters.values,
    )
    return [FoundItem(row["key"], row["id"], row["score"]) for row in rows]


async def _by_index(
    connection: asyncpg.Connection, collection: Collection, query: Query, near: _Near, count: int
) -> list[FoundItem]:
    """Return the nearest items as the index finds them: vectors first, then all items that have one of these.

    Where only some items of a vector are needed, they are chosen by their ids.
    """
    parts = _parts(collection, query, near)
    vectors, members = _tables(collection, query)
    limit = parts.parameters.add(count, "bigint")
    # Without a filter every vector has an item, but for the one whose only item asks.
    source, enough = f"{vectors} AS v", f"{limit} + 1"
    if query.filter is not None:
        source, enough = f"{parts.source} WHERE {parts.condition}", limit
    rows = await connection.fetch(
        f"""
        WITH nearest AS MATERIALIZED (
            SELECT v.key AS vector, {parts.distance} AS distance FROM {source} ORDER BY {parts.distance} LIMIT {enough}
        )
        SELECT own.key, own.id, least(greatest((1 - v.distance)::real, -1), 1) AS score
        FROM (SELECT DISTINCT vector, distance FROM nearest) AS v CROSS JOIN LATERAL (
            SELECT i.key, i.id FROM {members} AS m JOIN {items_table(collection.key)} AS i USING (key)
            WHERE m.vector = v.vector AND {parts.condition} ORDER BY i.id LIMIT {limit}
        ) AS own
        ORDER BY score DESC, own.id LIMIT {limit}
        """,
        *parts.parameters.values,
    )
    return [FoundItem(row["key"], row["id"], row["score"]) for row in rows]
