"""Search: the index where it can answer, every vector where it cannot."""

from dataclasses import dataclass

import asyncpg

from search_svc.model import Collection, Hit, Hits
from search_svc.postgres.predicates import Parameters, Predicate
from search_svc.postgres.reading import read_keys
from search_svc.postgres.tables import items_table, vector_type, vectors_table
from search_svc.postgres.writing import to_database
from search_svc.refusals import no_item, no_vector
from search_svc.store import Query

# pgvector's own limit of hnsw.ef_search; more hits than that come from going on with the scan.
MAX_EF = 1000


def scan_settings(query: Query, default_ef: int) -> str:
    """How the index is scanned, for this transaction alone.

    Iterative: a filter that most candidates fail does not end the scan. Relaxed, since hits are sorted here anyway, and
    the strict order would drop hits that are found late.
    """
    ef = query.hnsw_ef or max(default_ef, min(query.limit + query.offset, MAX_EF))
    return f"SET LOCAL hnsw.ef_search = {int(ef)}; SET LOCAL hnsw.iterative_scan = relaxed_order"


@dataclass(frozen=True)
class _Near:
    """What to be near: a vector, and the key of the item it is from (0 is no item's key)."""

    vector: object
    itself: int


async def search(connection: asyncpg.Connection, collection: Collection, query: Query) -> Hits:
    """The nearest items in the transaction of the caller, whose settings are `scan_settings`."""
    near = await _near(connection, collection, query)
    exact = query.exact or query.space.hnsw is None
    found, rows = await _nearest(connection, collection, query, near, exact=exact)
    if not exact and found < query.limit + query.offset:
        # Either there are no more, or the scan gave up before it had seen all: only looking at each one tells.
        _, rows = await _nearest(connection, collection, query, near, exact=True)
    items = await read_keys(
        connection, collection, [(row["key"], row["id"]) for row in rows], view=query.view, max_bytes=query.max_bytes
    )
    scores = {row["id"]: row["score"] for row in rows}
    ranks = {row["id"]: query.offset + place for place, row in enumerate(rows, start=1)}
    return Hits(tuple(Hit(item, scores[item.id], ranks[item.id]) for item in items.items), items.cut)


async def _near(connection: asyncpg.Connection, collection: Collection, query: Query) -> _Near:
    if query.vector is not None:
        return _Near(to_database(query.vector, query.space), 0)
    vectors = vectors_table(collection.key, collection.definition.spaces.index(query.space))
    row = await connection.fetchrow(
        f"SELECT i.key, v.vector FROM {items_table(collection.key)} AS i LEFT JOIN {vectors} AS v USING (key)"
        " WHERE i.id = $1",
        query.item_id,
    )
    if row is None:
        raise no_item(collection.definition.name, query.item_id)
    if row["vector"] is None:
        raise no_vector(query.item_id, query.space.name)
    return _Near(row["vector"], row["key"])


async def _nearest(
    connection: asyncpg.Connection, collection: Collection, query: Query, near: _Near, *, exact: bool
) -> tuple[int, list[asyncpg.Record]]:
    """How many were found, offset included, and the hits: best first, equal scores by id."""
    parameters = Parameters()
    vector = parameters.add(near.vector, vector_type(query.space))
    distance = f"(v.vector <=> {vector})"
    items = items_table(collection.key)
    vectors = vectors_table(collection.key, collection.definition.spaces.index(query.space))
    conditions = []
    if near.itself:
        conditions.append(f"v.key <> {parameters.add(near.itself, 'bigint')}")
    source = f"{vectors} AS v"
    if query.filter is not None:
        # Named first wherever both are: tables are locked in this order.
        source = f"{items} AS i JOIN {vectors} AS v USING (key)"
        conditions.append(f"({Predicate(collection.definition, parameters).sql(query.filter)})")
    # Scores are told as float32: what is equal there is a tie. Exact answers order by score and id before they are cut;
    # an index knows distances only.
    score = f"(1 - {distance})::real"
    order = f"{score} DESC, id" if exact else distance
    if exact and query.filter is None:
        source = f"{items} AS i JOIN {vectors} AS v USING (key)"
    wanted = parameters.add(query.limit + query.offset, "bigint")
    limit, offset = parameters.add(query.limit, "bigint"), parameters.add(query.offset, "bigint")
    minimum = "" if query.min_score is None else f"WHERE score >= {parameters.add(query.min_score, 'real')}"
    rows = await connection.fetch(
        f"""
        WITH nearest AS MATERIALIZED (
            SELECT v.key, {score} AS score FROM {source} WHERE {" AND ".join(conditions) or "TRUE"}
            ORDER BY {order} LIMIT {wanted}
        ), hits AS (
            SELECT key, id, least(greatest(score, -1), 1) AS score FROM nearest JOIN {items} USING (key) {minimum}
            ORDER BY score DESC, id LIMIT {limit} OFFSET {offset}
        )
        SELECT found, key, id, score FROM (SELECT count(*) AS found FROM nearest) AS counted LEFT JOIN hits ON true
        ORDER BY score DESC, id
        """,
        *parameters.values,
    )
    return rows[0]["found"], [row for row in rows if row["key"] is not None]
