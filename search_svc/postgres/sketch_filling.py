"""Filling of the sketches of items that were written before there were any: a step of the schema."""

import asyncpg
from pgvector import HalfVector, Vector

from search_svc.definitions import definition_from_json
from search_svc.model import NamedSpace, Numbers, StoredAs
from search_svc.postgres.sketches import add_columns, create_indexes, sketch, sketched
from search_svc.postgres.tables import items_table, members_table, vectors_table

# The longest vectors of so many items stay in memory easily.
_AT_ONCE = 500


async def fill_sketches(connection: asyncpg.Connection) -> None:
    """Write the sketches of all vectors, and make the indexes. It takes minutes for a million items."""
    for row in await connection.fetch("SELECT key, name, definition FROM lensmesh.collections ORDER BY key"):
        key, definition = str(row["key"]), definition_from_json(row["name"], row["definition"])
        for statement in add_columns(key, definition):
            await connection.execute(statement)
        for place in sketched(definition):
            await _fill(connection, key, place, definition.spaces[place])
        # Last, since they write the table anew, without what the filling left behind.
        for statement in create_indexes(key, definition):
            await connection.execute(statement)


async def _fill(connection: asyncpg.Connection, key: str, place: int, named: NamedSpace) -> None:
    schema = await connection.fetchval(
        "SELECT quote_ident(nspname) FROM pg_extension JOIN pg_namespace n ON n.oid = extnamespace"
        " WHERE extname = 'vector'"
    )
    send = f"{schema}.{'halfvec' if named.stored_as is StoredAs.FLOAT16 else 'vector'}_send"
    last = 0
    while rows := await connection.fetch(
        f"SELECT m.key, {send}(v.vector) AS vector FROM {members_table(key, place)} AS m"
        f" JOIN {vectors_table(key, place)} AS v ON v.key = m.vector WHERE m.key > $1 ORDER BY m.key LIMIT $2",
        last,
        _AT_ONCE,
    ):
        last = rows[-1]["key"]
        await connection.execute(
            f"UPDATE {items_table(key)} AS i SET sketch_{place} = new.sketch"
            " FROM unnest($1::bigint[], $2::varbit[]) AS new(key, sketch) WHERE i.key = new.key",
            [row["key"] for row in rows],
            [sketch(_numbers(row["vector"], named)) for row in rows],
        )


def _numbers(sent: bytes, named: NamedSpace) -> Numbers:
    kind = HalfVector if named.stored_as is StoredAs.FLOAT16 else Vector
    numbers: Numbers = kind.from_binary(sent).to_numpy()
    return numbers
