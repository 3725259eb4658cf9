"""Steps of the schema. A step that was released is never changed: what is new comes as the next one."""

from dataclasses import dataclass

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


@dataclass(frozen=True)
class Step:
    """What leads from version - 1 to version."""

    version: int
    title: str
    sql: str


STEPS = (
    Step(1, "collections, and what filters ask of metadata", _FIRST),
    Step(2, "what tells a collection from its successor, and images of low content", _SECOND),
)
