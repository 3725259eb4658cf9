"""Steps of the schema. A released step is never changed: what is new comes as the next one."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import asyncpg

from search_svc.postgres.sketch_filling import fill_sketches
from search_svc.postgres.word_filling import fill_words
from search_svc.times import PATTERN

_FIRST = rf"""
CREATE TABLE lensmesh.collections (
    key bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name text COLLATE "C" NOT NULL UNIQUE,
    definition jsonb NOT NULL,
    create_time timestamptz NOT NULL
);

-- A value, or each element of a list; lists inside lists stay whole.
CREATE FUNCTION lensmesh.elements(value jsonb) RETURNS SETOF jsonb
    LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE ROWS 2
    AS $$ SELECT jsonb_path_query(value, 'lax $[*]') $$;

CREATE FUNCTION lensmesh.numbers(value jsonb) RETURNS SETOF double precision
    LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE ROWS 2
    AS $$ SELECT e::double precision FROM jsonb_path_query(value, 'lax $[*] ? (@.type() == "number")') AS e $$;

-- An RFC 3339 time to the microsecond, NULL for any other text. Immutable, since the text carries its own offset.
CREATE FUNCTION lensmesh.parse_time(value text) RETURNS timestamptz
    LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
    AS $$ SELECT CASE WHEN value ~ '^{PATTERN}$' AND pg_input_is_valid(left(value, 10), 'date')
        THEN (left(value, 10) || ' ' || substr(value, 12, 5)
              || substring(value FROM '(?:[Zz]|[+-][0-9:]{{5}})$'))::timestamptz
            -- Added, since PostgreSQL reads no fraction of a leap second.
            + substr(value, 18, 2)::int * interval '1 second'
            + rpad(left(coalesce(substring(value FROM '\.([0-9]+)'), '0'), 6), 6, '0')::int * interval '1 microsecond'
        END $$;

CREATE FUNCTION lensmesh.times(value jsonb) RETURNS SETOF timestamptz
    LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE ROWS 2
    AS $$ SELECT t FROM jsonb_path_query(value, 'lax $[*] ? (@.type() == "string")') AS e,
          LATERAL lensmesh.parse_time(e #>> '{{}}') AS t WHERE t IS NOT NULL $$;

CREATE FUNCTION lensmesh.number_min(value jsonb) RETURNS double precision
    LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE AS $$ SELECT min(n) FROM lensmesh.numbers(value) AS n $$;
CREATE FUNCTION lensmesh.number_max(value jsonb) RETURNS double precision
    LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE AS $$ SELECT max(n) FROM lensmesh.numbers(value) AS n $$;
CREATE FUNCTION lensmesh.time_min(value jsonb) RETURNS timestamptz
    LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE AS $$ SELECT min(t) FROM lensmesh.times(value) AS t $$;
CREATE FUNCTION lensmesh.time_max(value jsonb) RETURNS timestamptz
    LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE AS $$ SELECT max(t) FROM lensmesh.times(value) AS t $$;
"""

_SECOND = """
ALTER TABLE lensmesh.collections ADD COLUMN uid uuid NOT NULL DEFAULT gen_random_uuid();

DO $$
DECLARE collection record;
BEGIN
    FOR collection IN SELECT key FROM lensmesh.collections LOOP
        EXECUTE format('ALTER TABLE lensmesh.items_%s ADD COLUMN low_content boolean NOT NULL DEFAULT false',
                       collection.key);
    END LOOP;
END $$;
"""

_THIRD = rf"""
CREATE OR REPLACE FUNCTION lensmesh.numbers(value jsonb) RETURNS SETOF double precision
    LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE ROWS 2
    AS $$ SELECT e::double precision FROM lensmesh.elements(value) AS e WHERE jsonb_typeof(e) = 'number' $$;

-- As before, but NULL beyond the years 1 to 9999, once the offset is taken off.
CREATE OR REPLACE FUNCTION lensmesh.parse_time(value text) RETURNS timestamptz
    LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
    AS $$ SELECT moment FROM (
        SELECT CASE WHEN value ~ '^{PATTERN}$' AND pg_input_is_valid(left(value, 10), 'date')
            THEN (left(value, 10) || ' ' || substr(value, 12, 5)
                  || substring(value FROM '(?:[Zz]|[+-][0-9:]{{5}})$'))::timestamptz
                + substr(value, 18, 2)::int * interval '1 second'
                + rpad(left(coalesce(substring(value FROM '\.([0-9]+)'), '0'), 6), 6, '0')::int
                    * interval '1 microsecond'
            END AS moment
        ) AS parsed
        WHERE moment >= timestamptz '0001-01-01 00:00:00+00' AND moment < timestamptz '10000-01-01 00:00:00+00' $$;

CREATE OR REPLACE FUNCTION lensmesh.times(value jsonb) RETURNS SETOF timestamptz
    LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE ROWS 2
    AS $$ SELECT t FROM lensmesh.elements(value) AS e, LATERAL lensmesh.parse_time(e #>> '{{}}') AS t
          WHERE jsonb_typeof(e) = 'string' AND t IS NOT NULL $$;

DO $$
DECLARE
    collection record;
    place integer;
    items text;
    vectors text;
    members text;
    digest text;
    here text := (SELECT quote_ident(nspname) FROM pg_extension JOIN pg_namespace n ON n.oid = extnamespace
                  WHERE extname = 'vector');
    old record;
    removed bigint;
BEGIN
    -- Made with the old readings of numbers and times.
    FOR old IN SELECT schemaname, indexname FROM pg_indexes
        WHERE schemaname = 'lensmesh' AND indexdef ~ '(number|time)_(min|max)' LOOP
        EXECUTE format('REINDEX INDEX %I.%I', old.schemaname, old.indexname);
    END LOOP;
    FOR collection IN SELECT key, definition FROM lensmesh.collections LOOP
        items := format('lensmesh.items_%s', collection.key);
        FOR place IN 0 .. jsonb_array_length(collection.definition -> 'spaces') - 1 LOOP
            vectors := format('lensmesh.vectors_%s_%s', collection.key, place);
            members := format('lensmesh.members_%s_%s', collection.key, place);
            digest := format('sha256(%s.%s(vector))', here,
                CASE collection.definition -> 'spaces' -> place ->> 'stored_as'
                    WHEN 'float16' THEN 'halfvec_send' ELSE 'vector_send' END);
            EXECUTE format('CREATE TABLE %s (key bigint PRIMARY KEY, vector bigint NOT NULL)', members);
            EXECUTE format('INSERT INTO %s SELECT key, min(key) OVER (PARTITION BY %s) FROM %s',
                           members, digest, vectors);
            EXECUTE format('ALTER TABLE %s DROP CONSTRAINT %I', vectors,
                           format('vectors_%s_%s_key_fkey', collection.key, place));
            EXECUTE format('DELETE FROM %s AS v WHERE NOT EXISTS (SELECT FROM %s AS m WHERE m.vector = v.key)',
                           vectors, members);
            GET DIAGNOSTICS removed = ROW_COUNT;
            EXECUTE format('ALTER TABLE %s ALTER COLUMN key ADD GENERATED ALWAYS AS IDENTITY', vectors);
            EXECUTE format('SELECT setval(pg_get_serial_sequence(%L, %L), max(key)) FROM %s', vectors, 'key', vectors);
            EXECUTE format('CREATE UNIQUE INDEX ON %s (%s)', vectors, digest);
            EXECUTE format('ALTER TABLE %s ADD FOREIGN KEY (key) REFERENCES %s ON DELETE CASCADE,'
                           ' ADD FOREIGN KEY (vector) REFERENCES %s', members, items, vectors);
            EXECUTE format('CREATE INDEX ON %s (vector)', members);
            IF removed > 0 THEN
                -- What many nodes of one vector did to the graph does not go with them.
                FOR old IN SELECT indexname FROM pg_indexes WHERE schemaname = 'lensmesh'
                    AND tablename = format('vectors_%s_%s', collection.key, place) AND indexdef ~ 'USING hnsw' LOOP
                    EXECUTE format('REINDEX INDEX lensmesh.%I', old.indexname);
                END LOOP;
            END IF;
        END LOOP;
    END LOOP;
END $$;
"""


_FOURTH = """
CREATE TABLE lensmesh.deferred_indexes (
    collection bigint NOT NULL REFERENCES lensmesh.collections ON DELETE CASCADE,
    space integer NOT NULL,
    at_item_count bigint NOT NULL,
    wanted boolean NOT NULL DEFAULT false,
    reason text NOT NULL DEFAULT '',
    message text NOT NULL DEFAULT '',
    PRIMARY KEY (collection, space)
);
"""

# What is there gets the language that a new collection has unless another is named.
_FIFTH = """
UPDATE lensmesh.collections SET definition = definition || '{"language": "en"}';

DO $$
DECLARE collection record;
BEGIN
    FOR collection IN SELECT key FROM lensmesh.collections LOOP
        EXECUTE format('ALTER TABLE lensmesh.items_%s ADD COLUMN words tsvector NOT NULL DEFAULT %L',
                       collection.key, '');
    END LOOP;
END $$;
"""


def _bands(count: int) -> str:
    """Return the SQL for the bands of so many bytes of hashes."""
    each = (
        f"{(place // 2 % 16) << 16} + 256 * get_byte(hashes, {place}) + get_byte(hashes, {place + 1})"
        for place in range(0, count, 2)
    )
    return f"ARRAY[{', '.join(each)}]"


_SIXTH = f"""
-- The bands of an item's perceptual hashes, each with its number in the upper bits, see search_svc/hashes.py. It is
-- dearer to ask each row for them than to ask the index.
CREATE FUNCTION lensmesh.hash_bands(hashes bytea) RETURNS integer[]
    LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE COST 10000
    AS $$ SELECT CASE length(hashes) WHEN 32 THEN {_bands(32)} WHEN 64 THEN {_bands(64)} END $$;

DO $$
DECLARE collection record;
BEGIN
    FOR collection IN SELECT key FROM lensmesh.collections LOOP
        EXECUTE format('ALTER TABLE lensmesh.items_%s ADD COLUMN perceptual_hash bytea NOT NULL DEFAULT %L,'
                       ' ADD COLUMN perceptual_quality smallint NOT NULL DEFAULT 0', collection.key, '');
        EXECUTE format('CREATE INDEX ON lensmesh.items_%s USING gin (lensmesh.hash_bands(perceptual_hash))'
                       ' WITH (fastupdate = off) WHERE perceptual_quality >= 50', collection.key);
    END LOOP;
END $$;
"""


_SEVENTH = """
-- Jobs know their collection by name and key, without a reference: they outlive it, and say that it is gone.
CREATE TABLE lensmesh.jobs (
    id text COLLATE "C" PRIMARY KEY,
    kind text NOT NULL,
    collection text COLLATE "C" NOT NULL,
    collection_key bigint NOT NULL,
    parameters text NOT NULL,
    trace text NOT NULL,
    state text NOT NULL DEFAULT 'pending',
    cancel_requested boolean NOT NULL DEFAULT false,
    done bigint NOT NULL DEFAULT 0,
    total bigint NOT NULL DEFAULT 0,
    rate double precision NOT NULL DEFAULT 0,
    message text NOT NULL DEFAULT '',
    checkpoint text NOT NULL DEFAULT '{}',
    error text NOT NULL DEFAULT '',
    result text NOT NULL DEFAULT '{}',
    attempts integer NOT NULL DEFAULT 0,
    idle_attempts integer NOT NULL DEFAULT 0,
    token uuid,
    lease_until timestamptz,
    create_time timestamptz NOT NULL DEFAULT clock_timestamp(),
    start_time timestamptz,
    end_time timestamptz,
    expire_time timestamptz
);
CREATE INDEX ON lensmesh.jobs (create_time, id);
CREATE INDEX ON lensmesh.jobs (create_time) WHERE end_time IS NULL;
CREATE INDEX ON lensmesh.jobs (expire_time);
"""


_EIGHTH = """
ALTER TABLE lensmesh.collections ADD COLUMN calibrations text NOT NULL DEFAULT '';
"""


# There is nothing to do: new collections have a table for them. Older releases would leave the features of an image to
# the one that takes its place, and the version keeps them out.
_NINTH = "SELECT 1"


_TENTH = """
-- Results of jobs that are too large for a row, see search_svc/jobs/store.py. Each attempt at a job writes its own.
CREATE TABLE lensmesh.job_parts (
    job_id text COLLATE "C" NOT NULL REFERENCES lensmesh.jobs ON DELETE CASCADE,
    token uuid NOT NULL,
    number integer NOT NULL,
    first bigint NOT NULL,
    content text NOT NULL,
    PRIMARY KEY (job_id, token, number)
);
"""


@dataclass(frozen=True)
class MigrationStep:
    """Statements that lead from version - 1 to version, and work behind them that SQL cannot do."""

    version: int
    title: str
    sql: str
    work: Callable[[asyncpg.Connection], Awaitable[None]] | None = None


STEPS = (
    MigrationStep(1, "collections, and what filters ask of metadata", _FIRST),
    MigrationStep(2, "what tells a collection from its successor, and images of low content", _SECOND),
    MigrationStep(
        3, "each distinct vector once; lists in lists and years beyond 9999 as the contract reads them", _THIRD
    ),
    MigrationStep(4, "indexes that are built later", _FOURTH),
    MigrationStep(5, "words of captions", _FIFTH, fill_words),
    MigrationStep(6, "perceptual hashes", _SIXTH),
    MigrationStep(7, "jobs", _SEVENTH),
    MigrationStep(8, "what cosines mean", _EIGHTH),
    MigrationStep(9, "local features in new collections", _NINTH),
    MigrationStep(10, "large results of jobs", _TENTH),
    MigrationStep(11, "sketches of vectors beside the values of fields", "", fill_sketches),
)
