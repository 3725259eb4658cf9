"""Names and definitions of the tables.

Every collection has a table of its own for its items, and every space one for its vectors, so that columns and indexes
have exact types, one collection never slows another, and a change of metadata rewrites no vector:

    lensmesh.collections                name, definition
    lensmesh.deferred_indexes           which graphs are not built yet, see deferred.py
    lensmesh.items_7                    collection 7: key, id, metadata, caption, words, ...
    lensmesh.vectors_7_0                its first space, each distinct vector once: key, vector halfvec(512)
    lensmesh.members_7_0                which item has which vector: key of the item, vector
    lensmesh.features_7                 local features of items, in a collection that keeps them: see features.py

A vector that many items share is one node of the graph. As many nodes they would fill one another's links, and cut
searches for other vectors off from what lies behind them.
"""

import hashlib
from collections.abc import Iterator

from search_svc.hashes import LEAST_QUALITY
from search_svc.model import Definition, FieldIndex, FieldType, Hnsw, NamedSpace, StoredAs

SCHEMA = "lensmesh"
# Columns of an item besides its key and id, in the order that writing and reading share.
CONTENT = (
    "metadata",
    "caption_text",
    "caption_confidence",
    "caption_token_count",
    "caption_truncated",
    "caption_model",
    "image_uri",
    "content_digest",
    "low_content",
    "perceptual_hash",
    "perceptual_quality",
)
CONTENT_TYPES = (
    "jsonb", "text", "real", "bigint", "boolean", "text", "text", "bytea", "boolean", "bytea", "smallint",
)  # fmt: skip


def items_table(key: str) -> str:
    """Return the name of the table of a collection's items."""
    return f"{SCHEMA}.items_{int(key)}"


def vectors_table(key: str, position: int) -> str:
    """Return the name of the table of vectors of a collection's space at that position."""
    return f"{SCHEMA}.vectors_{int(key)}_{position}"


def members_table(key: str, position: int) -> str:
    """Return the name of the table that tells which item has which vector of a space at that position."""
    return f"{SCHEMA}.members_{int(key)}_{position}"


def features_table(key: str) -> str:
    """Return the name of the table of local features of a collection's items."""
    return f"{SCHEMA}.features_{int(key)}"


def index_name(key: str, position: int) -> str:
    """Return the name of the graph of a space at that position, where it is built later than its table."""
    return f"{SCHEMA}.graph_{int(key)}_{position}"


def rebuilt_name(key: str, position: int, job_id: str) -> str:
    """Return the name of the graph that a job builds beside another one. No other job's is called so."""
    return f"{index_name(key, position)}_{hashlib.sha256(job_id.encode()).hexdigest()[:12]}"


def sent(vector: str, named: NamedSpace) -> str:
    """Return the SQL for a vector as the bytes that PostgreSQL sends."""
    return f"{'halfvec_send' if named.stored_as is StoredAs.FLOAT16 else 'vector_send'}({vector})"


def digest_of(vector: str, named: NamedSpace) -> str:
    """Return the SQL for the digest of a vector's numbers: it is unique in a table of vectors."""
    return f"sha256({sent(vector, named)})"


def vector_type(named: NamedSpace) -> str:
    """Return the type of a vector column, found by the search path wherever the extension lies."""
    name = "halfvec" if named.stored_as is StoredAs.FLOAT16 else "vector"
    return f"{name}({int(named.space.dimension)})"


def path_literal(path: tuple[str, ...]) -> str:
    """Return the JSON value at a metadata path, for definitions.

    These take no parameters, so all but letters is escaped.
    """
    escaped = ("".join(c if c.isascii() and c.isalnum() else f"\\+{ord(c):06x}" for c in level) for level in path)
    return "metadata" + "".join(f" -> U&'{level}'::text" for level in escaped)


def create_statements(key: str, definition: Definition) -> Iterator[str]:
    """Yield the statements that make an empty collection."""
    items = items_table(key)
    # Ids in byte order: pages and ties sort the same whatever the database's locale.
    yield f"""
        CREATE TABLE {items} (
            key bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
            id text COLLATE "C" NOT NULL UNIQUE,
            metadata jsonb NOT NULL,
            caption_text text,
            caption_confidence real,
            caption_token_count bigint,
            caption_truncated boolean,
            caption_model text,
            image_uri text NOT NULL,
            content_digest bytea NOT NULL,
            low_content boolean NOT NULL,
            words tsvector NOT NULL,
            perceptual_hash bytea NOT NULL,
            perceptual_quality smallint NOT NULL,
            create_time timestamptz NOT NULL,
            update_time timestamptz NOT NULL
        )"""
    # The same content under another id is looked up at every ingest.
    yield f"CREATE INDEX ON {items} (content_digest) WHERE content_digest <> ''"
    yield words_index(key)
    # Near hashes are looked up at every ingest that asks for it, see search_svc/hashes.py.
    yield (
        # What waits in a list of new entries is compared one by one with each value that is asked for.
        f"CREATE INDEX ON {items} USING gin ({SCHEMA}.hash_bands(perceptual_hash)) WITH (fastupdate = off)"
        f" WHERE perceptual_quality >= {LEAST_QUALITY}"
    )
    for index in definition.field_indexes:
        yield _field_index(items, index)
    for position, named in enumerate(definition.spaces):
        vectors = vectors_table(key, position)
        members = members_table(key, position)
        yield f"""
            CREATE TABLE {vectors} (
                key bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
                vector {vector_type(named)} NOT NULL
            )"""
        yield f"CREATE UNIQUE INDEX ON {vectors} ({digest_of('vector', named)})"
        # No vector goes while an item has it, however two writers meet: the reference is checked, and never cascades.
        yield f"""
            CREATE TABLE {members} (
                key bigint PRIMARY KEY REFERENCES {items} ON DELETE CASCADE,
                vector bigint NOT NULL REFERENCES {vectors}
            )"""
        yield f"CREATE INDEX ON {members} (vector)"
        if named.hnsw and not named.hnsw.deferred:
            yield f"CREATE INDEX ON {vectors} {_graph(named, named.hnsw)}"
    if definition.local_features:
        # Descriptors are as good as random: trying to compress them costs time and saves nothing.
        yield f"""
            CREATE TABLE {features_table(key)} (
                key bigint PRIMARY KEY REFERENCES {items} ON DELETE CASCADE,
                kind smallint NOT NULL,
                digest bytea NOT NULL,
                content bytea STORAGE EXTERNAL NOT NULL
            )"""


def words_index(key: str) -> str:
    """Return the statement that makes the index of the words of a collection's items."""
    return f"CREATE INDEX ON {items_table(key)} USING gin (words)"


def create_index(table: str, name: str, named: NamedSpace, vector_schema: str) -> str:
    """Return the statement that builds a graph over a table of vectors that are there, in no transaction."""
    assert named.hnsw is not None
    graph = _graph(named, named.hnsw, f'"{vector_schema}".')
    # An index lies in its table's schema, and is named without it.
    return f"CREATE INDEX CONCURRENTLY {name.partition('.')[2]} ON {table} {graph}"


def _graph(named: NamedSpace, hnsw: Hnsw, schema: str = "") -> str:
    operators = "halfvec_cosine_ops" if named.stored_as is StoredAs.FLOAT16 else "vector_cosine_ops"
    options = f"m = {int(hnsw.m)}, ef_construction = {int(hnsw.ef_construction)}"
    return f"USING hnsw (vector {schema}{operators}) WITH ({options})"


def _field_index(items: str, index: FieldIndex) -> str:
    """Return the statement that makes the index of a field.

    Lists rule out a plain index on the value: containment serves equality, least and greatest serve ranges.
    """
    value = f"({path_literal(index.path)})"
    if index.type in (FieldType.KEYWORD, FieldType.BOOL, FieldType.TEXT):
        return f"CREATE INDEX ON {items} USING gin ({value} jsonb_path_ops)"
    kind = "number" if index.type is FieldType.NUMBER else "time"
    return f"CREATE INDEX ON {items} ({SCHEMA}.{kind}_min({value}), {SCHEMA}.{kind}_max({value}))"
