"""Local features of items, in a table beside theirs: neither a scan of items nor a change of one touches them.

A digest tells whether features are the same, so that what is stored is not read for it. They go with their item.
"""

from collections.abc import Sequence

import asyncpg

from search_svc.local_features import LocalFeatures
from search_svc.postgres.tables import features_table


async def write_features(
    connection: asyncpg.Connection, key: str, wanted: Sequence[tuple[int, LocalFeatures | None]]
) -> set[int]:
    """Write features, each under its item's key; None removes what is there. The items are locked by the caller.

    Return the keys whose features came, went or changed.
    """
    table = features_table(key)
    present = [(item_key, features) for item_key, features in wanted if features is not None]
    absent = [item_key for item_key, features in wanted if features is None]
    rows = await connection.fetch(
        f"""
        WITH given AS (
            INSERT INTO {table} (key, kind, digest, content)
            SELECT new.* FROM unnest($1::bigint[], $2::smallint[], $3::bytea[], $4::bytea[])
                AS new(key, kind, digest, content)
            WHERE NOT EXISTS (
                SELECT FROM {table} AS old
                WHERE old.key = new.key AND old.kind = new.kind AND old.digest = new.digest
            )
            ON CONFLICT (key) DO UPDATE
                SET kind = excluded.kind, digest = excluded.digest, content = excluded.content
            RETURNING key
        ), gone AS (
            DELETE FROM {table} WHERE key = ANY($5::bigint[]) RETURNING key
        )
        SELECT key FROM given UNION ALL SELECT key FROM gone
        """,
        [item_key for item_key, _ in present],
        [features.kind for _, features in present],
        [features.digest for _, features in present],
        [features.content for _, features in present],
        absent,
    )
    return {row["key"] for row in rows}
