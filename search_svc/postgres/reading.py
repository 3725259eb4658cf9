"""Reading of items: statements choose keys, and this reads the items under them, in pieces, up to a size."""

from collections.abc import Sequence

import asyncpg
from pgvector import HalfVector, Vector

from search_svc.model import Caption, Collection, FetchedItems, Numbers, StoredItem, View
from search_svc.postgres.tables import CONTENT, items_table, members_table, vectors_table

# Small enough that a piece of the fattest items stays in memory easily, large enough that a page is a few round trips.
_PIECE = 200


async def read_keys(
    connection: asyncpg.Connection,
    collection: Collection,
    keys: Sequence[tuple[int, str]],
    *,
    view: View,
    max_bytes: int,
) -> FetchedItems:
    """Return the items under (key, id) pairs, in their order.

    At least one, and not much more than `max_bytes` of content.
    """
    if view is View.ID:
        return FetchedItems(tuple(StoredItem(item_id) for _, item_id in keys), cut=False)
    statement = _statement(collection, view)
    found: list[StoredItem] = []
    size = 0
    for begin in range(0, len(keys), _PIECE):
        piece = [key for key, _ in keys[begin : begin + _PIECE]]
        rows = {row["key"]: row for row in await connection.fetch(statement, piece)}
        for row in (rows[key] for key in piece if key in rows):
            size += _size(row)
            if size > max_bytes and found:
                return FetchedItems(tuple(found), cut=True)
            found.append(_item(collection, row, view))
    return FetchedItems(tuple(found), cut=False)


def _statement(collection: Collection, view: View) -> str:
    columns = ", ".join(f"i.{column}" for column in ("key", "id", *CONTENT, "create_time", "update_time"))
    joins = ""
    for position, _ in enumerate(collection.definition.spaces):
        joins += f" LEFT JOIN {members_table(collection.key, position)} AS m{position} ON m{position}.key = i.key"
        if view is View.FULL:
            columns += f", v{position}.vector AS v{position}"
            vectors = vectors_table(collection.key, position)
            joins += f" LEFT JOIN {vectors} AS v{position} ON v{position}.key = m{position}.vector"
        else:
            columns += f", m{position}.key AS v{position}"
    return f"SELECT {columns} FROM {items_table(collection.key)} AS i{joins} WHERE i.key = ANY($1::bigint[])"


def _size(row: asyncpg.Record) -> int:
    """Return about how many bytes a row brought."""
    size = 0
    for value in row.values():
        if isinstance(value, str | bytes):
            size += len(value)
        elif isinstance(value, HalfVector | Vector):
            size += 4 * value.dimensions()
        else:
            size += 8
    return size


def _item(collection: Collection, row: asyncpg.Record, view: View) -> StoredItem:
    vectors: dict[str, Numbers | None] = {}
    for position, named in enumerate(collection.definition.spaces):
        value = row[f"v{position}"]
        if value is not None:
            vectors[named.name] = value.to_numpy() if view is View.FULL else None
    caption = None
    if row["caption_text"] is not None:
        caption = Caption(
            text=row["caption_text"],
            confidence=row["caption_confidence"],
            token_count=row["caption_token_count"],
            truncated=row["caption_truncated"],
            model=row["caption_model"],
        )
    return StoredItem(
        id=row["id"],
        vectors=vectors,
        caption=caption,
        metadata=row["metadata"],
        image_uri=row["image_uri"],
        content_digest=row["content_digest"],
        low_content=row["low_content"],
        create_time=row["create_time"],
        update_time=row["update_time"],
    )


async def keys_of_ids(
    connection: asyncpg.Connection, collection: Collection, ids: Sequence[str]
) -> list[tuple[int, str]]:
    """Return (key, id) of the ids that exist, in the order given."""
    rows = await connection.fetch(
        f"SELECT key, id FROM {items_table(collection.key)} WHERE id = ANY($1::text[])", list(ids)
    )
    keys = {row["id"]: row["key"] for row in rows}
    return [(keys[item_id], item_id) for item_id in ids if item_id in keys]
