"""Reading of items: what is asked for of each, and at most so many at once that they stay in memory easily."""

from collections.abc import Sequence
from typing import Any

import asyncpg

from search_svc.duplicates.items import HashedItem, HashPage
from search_svc.filters import Filter
from search_svc.hashes import HASH_BYTES, PerceptualHash
from search_svc.local_features import FeatureKind, LocalFeatures
from search_svc.model import Caption, Collection, FetchedItems, NamedSpace, Numbers, StoredItem, View
from search_svc.postgres.predicates import Parameters, Predicate
from search_svc.postgres.tables import CONTENT, features_table, items_table, members_table, vectors_table

# Items of one statement: few enough that the fattest ones stay in memory easily, and more than most calls ask for.
AT_ONCE = 200
# The same of items with their local features: a page of 100, and one behind it.
_FEATURES_AT_ONCE = 128
# About what an item brings besides texts and numbers, and a vector that is not shown.
_FIXED_BYTES = 50


def at_once(view: View) -> int:
    """Return how many items one statement may read."""
    return _FEATURES_AT_ONCE if View.FEATURES in view else AT_ONCE


async def count_matching(connection: asyncpg.Connection, collection: Collection, tree: Filter) -> int:
    """Count the items that a filter chooses."""
    parameters = Parameters()
    condition = Predicate(collection.definition, parameters).sql(tree)
    items = items_table(collection.key)
    count: int = await connection.fetchval(f"SELECT count(*) FROM {items} AS i WHERE {condition}", *parameters.values)
    return count


class ItemColumns:
    """SQL for what a view shows of the items `i`.

    Args:
        collection: whose items.
        view: which parts of them.
    """

    def __init__(self, collection: Collection, view: View) -> None:
        self.items = f"{items_table(collection.key)} AS i"
        columns = ["i.id"]
        joins = []
        if view:
            columns += [f"i.{column}" for column in (*CONTENT, "create_time", "update_time")]
            for position, _ in enumerate(collection.definition.spaces):
                member, vector = f"m{position}", f"v{position}"
                joins.append(f"LEFT JOIN {members_table(collection.key, position)} AS {member} ON {member}.key = i.key")
                if View.NUMBERS in view:
                    vectors = vectors_table(collection.key, position)
                    joins.append(f"LEFT JOIN {vectors} AS {vector} ON {vector}.key = {member}.vector")
                    columns.append(f"{vector}.vector AS {vector}")
                else:
                    columns.append(f"{member}.key AS {vector}")
            if collection.definition.local_features:
                joins.append(f"LEFT JOIN {features_table(collection.key)} AS f ON f.key = i.key")
                columns.append("f.kind AS feature_kind")
                if View.FEATURES in view:
                    columns.append("f.content AS features")
        self.columns = ", ".join(columns)
        self.joins = " ".join(joins)


class RowReader:
    """A maker of items out of rows that begin with the columns of `ItemColumns`, one by one.

    It takes at least one, and not much more than `max_bytes` of content.
    """

    def __init__(self, collection: Collection, view: View, max_bytes: int) -> None:
        self._spaces = collection.definition.spaces
        self._has_features = collection.definition.local_features
        self._view = view
        self._left = max_bytes
        self._items: list[StoredItem] = []
        self._cut = False

    def take(self, row: Sequence[Any]) -> bool:
        """Read the item of a row. Tell whether it still found room."""
        if not self._view:
            self._items.append(StoredItem(row[0]))
            return True
        # In the order of `ItemColumns`.
        item_id, metadata, text, confidence, tokens, truncated, model, uri, digest, low, *rest = row
        hashed, quality, made, changed, *rest = rest
        size = _FIXED_BYTES + len(item_id) + len(metadata) + len(text or "") + len(model or "") + len(uri) + len(digest)
        size += len(hashed)
        vectors: dict[str, Numbers | None] = {}
        has_numbers = View.NUMBERS in self._view
        for named, value in zip(self._spaces, rest, strict=False):
            if value is not None:
                vectors[named.name] = value.to_numpy() if has_numbers else None
                size += 4 * named.space.dimension if has_numbers else _FIXED_BYTES
        kind, content = self._features(rest[len(self._spaces) :])
        size += len(content or b"")
        self._left -= size
        if self._left < 0 and self._items:
            self._cut = True
            return False
        caption = None if text is None else Caption(text, confidence, tokens, truncated, model)
        perceptual = _perceptual(hashed, quality)
        features = None if kind is None or content is None else LocalFeatures.joined(kind, content)
        self._items.append(
            StoredItem(item_id, vectors, caption, metadata, uri, digest, low, perceptual, made, changed, kind, features)
        )
        return True

    def _features(self, values: Sequence[Any]) -> tuple[FeatureKind | None, bytes | None]:
        """Return the kind and the content of an item's features out of the last values of its row."""
        if not self._has_features or values[0] is None:
            return None, None
        return FeatureKind(values[0]), values[1] if View.FEATURES in self._view else None

    def taken(self) -> FetchedItems:
        """Return the items, in the order of their rows."""
        return FetchedItems(tuple(self._items), self._cut)


async def sample_vectors(
    connection: asyncpg.Connection, collection: Collection, named: NamedSpace, count: int
) -> list[tuple[str, Numbers]]:
    """Return up to `count` vectors of a space, drawn by chance, with the ids of their items."""
    position = collection.definition.spaces.index(named)
    rows = await connection.fetch(
        f"""
        SELECT i.id, v.vector FROM (
            SELECT key, vector FROM {members_table(collection.key, position)} ORDER BY random() LIMIT $1
        ) AS m JOIN {vectors_table(collection.key, position)} AS v ON v.key = m.vector
        JOIN {items_table(collection.key)} AS i ON i.key = m.key
        """,
        count,
    )
    return [(row["id"], row["vector"].to_numpy()) for row in rows]


async def read_hashes(
    connection: asyncpg.Connection, collection: Collection, tree: Filter, *, after: str, count: int
) -> HashPage:
    """Return what tells which items look the same, of up to `count` items that a filter chooses, behind an id."""
    parameters = Parameters()
    behind = parameters.add(after, "text")
    condition = Predicate(collection.definition, parameters).sql(tree)
    rows = await connection.fetch(
        f"""
        SELECT i.id, i.create_time, i.content_digest, i.perceptual_hash, i.perceptual_quality
        FROM {items_table(collection.key)} AS i WHERE i.id > {behind} AND ({condition})
        ORDER BY i.id LIMIT {int(count)}
        """,
        *parameters.values,
    )
    items = tuple(
        HashedItem(item_id, created, digest, _perceptual(hashed, quality))
        for item_id, created, digest, hashed, quality in rows
    )
    return HashPage(items, items[-1].id if len(items) == count else None)


def _perceptual(hashed: bytes, quality: int) -> PerceptualHash | None:
    return PerceptualHash(hashed[:HASH_BYTES], quality, hashed[HASH_BYTES:]) if hashed else None


async def read_ids(
    connection: asyncpg.Connection, collection: Collection, ids: Sequence[str], *, view: View, max_bytes: int
) -> FetchedItems:
    """Return the items that exist, in the order asked for, by one statement for each `at_once` of them.

    At least one, and not much more than `max_bytes` of content.
    """
    content = ItemColumns(collection, view)
    # The list is kept from the planner: it would plan each call anew for the sake of the list's length.
    statement = (
        f"SELECT {content.columns} FROM {content.items} {content.joins} WHERE i.id = ANY ((SELECT $1::text[])::text[])"
    )
    reader = RowReader(collection, view, max_bytes)
    most = at_once(view)
    for begin in range(0, len(ids), most):
        piece = ids[begin : begin + most]
        rows = {row[0]: row for row in await connection.fetch(statement, list(piece))}
        if not all(reader.take(rows[item_id]) for item_id in piece if item_id in rows):
            break
    return reader.taken()
