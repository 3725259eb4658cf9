"""Facets in PostgreSQL: items are counted by the values of a metadata field."""

import json

import asyncpg

from search_svc.filters import Filter
from search_svc.model import Collection, Facet, FacetCount, FieldIndex, FieldType
from search_svc.postgres.predicates import Parameters, Predicate
from search_svc.postgres.tables import items_table

_JSON_TYPES = {
    FieldType.KEYWORD: "string",
    FieldType.NUMBER: "number",
    FieldType.BOOL: "boolean",
    FieldType.TIME: "string",
    FieldType.TEXT: "string",
}


async def count(
    connection: asyncpg.Connection, collection: Collection, field: FieldIndex, *, tree: Filter | None, limit: int
) -> Facet:
    """Count the most frequent values of the index's type.

    An item counts once for each value that it or its list has.
    """
    parameters = Parameters()
    predicate = Predicate(collection.definition, parameters)
    condition = "TRUE" if tree is None else predicate.sql(tree)
    json_type = parameters.add(_JSON_TYPES[field.type], "text")
    # As text in byte order, numbers as numbers: the same order whatever the database's locale.
    by_value = "value::double precision" if field.type is FieldType.NUMBER else """(value #>> '{}') COLLATE "C\""""
    is_value = f"jsonb_typeof(value) = {json_type}"
    if field.type is FieldType.TIME:
        is_value += " AND lensmesh.parse_time(value #>> '{}') IS NOT NULL"
    rows = await connection.fetch(
        f"""
        WITH chosen AS MATERIALIZED (
            SELECT {predicate.value(field.path)} AS field FROM {items_table(collection.key)} AS i WHERE {condition}
        ), counted AS MATERIALIZED (
            SELECT value, count(*) AS items
            FROM chosen, LATERAL (SELECT DISTINCT value FROM lensmesh.elements(field) AS value WHERE {is_value}) AS own
            GROUP BY value ORDER BY items DESC, {by_value} LIMIT {parameters.add(limit, "bigint")}
        )
        SELECT value, items FROM counted
        UNION ALL
        SELECT NULL, count(*) FROM chosen
        WHERE NOT EXISTS (SELECT FROM lensmesh.elements(field) AS own JOIN counted ON counted.value = own)
        """,
        *parameters.values,
    )
    counts = tuple(FacetCount(_value(row["value"]), row["items"]) for row in rows if row["value"] is not None)
    return Facet(field.path, counts, next(row["items"] for row in rows if row["value"] is None))


def _value(text: str) -> str | float | bool:
    value: str | float | bool = json.loads(text, parse_int=float)
    return value
