"""Filling of the words of items that were written before words were kept: a part of the schema's fifth step."""

import asyncpg

from search_svc.postgres.words import vector_text
from search_svc.words.texts import text_words

# Few enough that the longest captions stay in memory easily.
_AT_ONCE = 500
_LANGUAGE = "en"


async def fill_words(connection: asyncpg.Connection) -> None:
    """Write the words of every caption, and make the indexes. It takes minutes for a million captions."""
    for collection in await connection.fetch("SELECT key FROM lensmesh.collections ORDER BY key"):
        table = f"lensmesh.items_{int(collection['key'])}"
        last = 0
        while rows := await connection.fetch(
            f"SELECT key, caption_text FROM {table} WHERE key > $1 AND caption_text IS NOT NULL ORDER BY key LIMIT $2",
            last,
            _AT_ONCE,
        ):
            last = rows[-1]["key"]
            await connection.execute(
                f"UPDATE {table} AS i SET words = new.words::tsvector"
                " FROM unnest($1::bigint[], $2::text[]) AS new(key, words) WHERE i.key = new.key",
                [row["key"] for row in rows],
                [vector_text([text_words([row["caption_text"]], _LANGUAGE)]) for row in rows],
            )
        await connection.execute(f"CREATE INDEX ON {table} USING gin (words)")
