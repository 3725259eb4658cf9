"""Facets in PostgreSQL: items are counted by the values of a metadata field."""

import json

import asyncpg

from search_svc.filters import Filter
from search_svc.model import Collection, Facet, FacetCount, FieldIndex, FieldType
from search_svc.postgres.moments import moment
from search_svc.postgres.predicates import Parameters, Predicate
from search_svc.postgres.tables import items_table

_JSON_TYPES = {
    FieldType.KEYWORD: "string",
    FieldType.NUMBER: "number",
    FieldType.BOOL: "boolean",
    FieldType.TIME: "string",
    FieldType.TEXT: "string",
}


def is_value(field_type: FieldType, parameters: Parameters) -> str:
    """Return the condition that the JSON value `value` is one that is counted: of the index's type."""
    condition = f"jsonb_typeof(value) = {parameters.add(_JSON_TYPES[field_type], 'text')}"
    if field_type is FieldType.TIME:
        text = "(value #>> '{}')"
        condition += f" AND ({moment(text)}) IS NOT NULL"
    return condition


async def count(
    connection: asyncpg.Connection, collection: Collection, field: FieldIndex, *, tree: Filter | None, limit: int
) -> Facet:
    """Count the most frequent values of the index's type.

    An item counts once for each value that it or its list has.
    """
    facet, _ = await count_all(connection, collection, field, tree=tree, limit=limit)
    return facet


async def count_all(
    connection: asyncpg.Connection, collection: Collection, field: FieldIndex, *, tree: Filter | None, limit: int
) -> tuple[Facet, int]:
    """Count as `count` does. Return with it how many items have no value at all."""
    parameters = Parameters()
    predicate = Predicate(collection.definition, parameters)
    condition = "TRUE" if tree is None else predicate.sql(tree)
    counted = is_value(field.type, parameters)
    # As text in byte order, numbers as numbers: the same order whatever the database's locale.
    by_value = "value::double precision" if field.type is FieldType.NUMBER else """(value #>> '{}') COLLATE "C\""""
    # Items are told apart by their keys, and met with the counted values in one join: a look at these for each item
    # would take minutes where both are many.
    rows = await connection.fetch(
        f"""
        WITH chosen AS MATERIALIZED (
            SELECT i.key, {predicate.value(field.path)} AS field FROM {items_table(collection.key)} AS i
            WHERE {condition}
        ), own AS MATERIALIZED (
            SELECT key, value
            FROM chosen, LATERAL (SELECT DISTINCT value FROM lensmesh.elements(field) AS value WHERE {counted}) AS own
        ), counted AS MATERIALIZED (
            SELECT value, count(*) AS items FROM own
            GROUP BY value ORDER BY items DESC, {by_value} LIMIT {parameters.add(limit, "bigint")}
        )
        SELECT value, items, NULL AS without FROM counted
        UNION ALL
        SELECT NULL,
            (SELECT count(*) FROM chosen)
                - (SELECT count(*) FROM (SELECT FROM own JOIN counted USING (value) GROUP BY key) AS listed),
            (SELECT count(*) FROM chosen) - (SELECT count(*) FROM (SELECT FROM own GROUP BY key) AS holding)
        """,
        *parameters.values,
    )
    counts = tuple(FacetCount(_value(row["value"]), row["items"]) for row in rows if row["value"] is not None)
    others = next(row for row in rows if row["value"] is None)
    return Facet(field.path, counts, others["items"]), others["without"]


def _value(text: str) -> str | float | bool:
    value: str | float | bool = json.loads(text, parse_int=float)
    return value
