"""Aggregations in PostgreSQL: one statement each, all of one snapshot.

Each reads the chosen items once. An item without a value comes with NULL, so that the same statement tells how many
there are.
"""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import asyncpg

from search_svc.aggregates import (
    CONTENT_DIGEST,
    MAX_BUCKETS,
    Aggregate,
    AggregatedItems,
    Aggregation,
    CountsByTime,
    DistinctCount,
    NumberStats,
    NumberSummary,
    TimeBucket,
    ValueCounts,
    summary_of,
    too_many_buckets,
)
from search_svc.filters import TIME_FIELDS, Filter
from search_svc.model import Collection
from search_svc.postgres import facets
from search_svc.postgres.moments import moment
from search_svc.postgres.predicates import Parameters, Predicate
from search_svc.postgres.tables import items_table
from search_svc.time_buckets import TimeInterval, Zone, bucket_start

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


async def aggregate(
    connection: asyncpg.Connection,
    collection: Collection,
    asked: Sequence[Aggregation],
    *,
    tree: Filter | None,
    max_bytes: int,
) -> AggregatedItems:
    """Count and measure the items that a filter chooses. Stop when the values counted exceed about `max_bytes`.

    Raises:
        InvalidInput: AGGREGATION_TOO_LARGE.
    """
    chosen = _Chosen(collection, tree)
    total: int = await connection.fetchval(*chosen.statement("SELECT count(*) FROM {items} WHERE {condition}"))
    results: list[Aggregate | None] = []
    size = 0
    for place, each in enumerate(asked):
        match each:
            case CountsByTime():
                result = await _counts_by_time(connection, _Chosen(collection, tree), each, place, total)
            case DistinctCount():
                result = await _distinct_count(connection, _Chosen(collection, tree), each, total)
            case NumberStats():
                result = await _number_stats(connection, _Chosen(collection, tree), each, total)
            case ValueCounts():
                facet, without = await facets.count_all(connection, collection, each.field, tree=tree, limit=each.limit)
                size += sum(len(str(counted.value)) for counted in facet.counts)
                result = Aggregate(total - without, facet)
        results.append(result)
        if size > max_bytes:
            break
    results += [None] * (len(asked) - len(results))
    return AggregatedItems(total, tuple(results))


class _Chosen:
    """The chosen items as parts of one statement, with its parameters."""

    def __init__(self, collection: Collection, tree: Filter | None) -> None:
        self.parameters = Parameters()
        self.predicate = Predicate(collection.definition, self.parameters)
        self._items = f"{items_table(collection.key)} AS i"
        self._condition = "TRUE" if tree is None else self.predicate.sql(tree)

    def statement(self, text: str) -> tuple[Any, ...]:
        """Fill in `{items}` and `{condition}`. Return the statement and its parameters."""
        # No format(): SQL has braces of its own.
        text = text.replace("{items}", self._items).replace("{condition}", self._condition)
        return text, *self.parameters.values


async def _counts_by_time(
    connection: asyncpg.Connection, chosen: _Chosen, asked: CountsByTime, place: int, total: int
) -> Aggregate:
    field = chosen.predicate.value(asked.path)
    if asked.path[0] in TIME_FIELDS:
        times = f"(VALUES ({field})) AS own(t)"
    else:
        texts = f"SELECT value #>> '{{}}' AS text FROM lensmesh.elements({field}) AS value"
        read = f"SELECT {moment('text')} AS t FROM ({texts} WHERE jsonb_typeof(value) = 'string') AS texts"
        times = f"({read}) AS own WHERE t IS NOT NULL"
    shift = _shift(asked.zone, chosen.parameters)
    local = f"(t AT TIME ZONE 'UTC') + make_interval(secs => {shift})"
    begin = f"extract(epoch FROM date_trunc('{asked.interval.value}', {local}))::bigint"
    of_hour = f"{shift}" if asked.interval is TimeInterval.HOUR else "0"
    rows = await connection.fetch(
        *chosen.statement(
            "SELECT start, shift, count(*) AS items FROM {items}"
            f" LEFT JOIN LATERAL (SELECT DISTINCT {begin} AS start, {of_hour} AS shift FROM {times}) AS own ON TRUE"
            # One more for the items without a time, and one that is too many.
            f" WHERE {{condition}} GROUP BY start, shift ORDER BY start NULLS FIRST, shift DESC LIMIT {MAX_BUCKETS + 2}"
        )
    )
    without = sum(row["items"] for row in rows if row["start"] is None)
    found = [row for row in rows if row["start"] is not None]
    if len(found) > MAX_BUCKETS:
        raise too_many_buckets(asked, place)
    buckets = (
        TimeBucket(*bucket_start((row["start"], row["shift"]), asked.interval, asked.zone), row["items"])
        for row in found
    )
    return Aggregate(total - without, tuple(sorted(buckets, key=lambda bucket: bucket.start)))


def _shift(zone: Zone, parameters: Parameters) -> str:
    """Return what the zone's clock is ahead of UTC at the time `t`, in seconds, as SQL."""
    if not zone.changes:
        return parameters.add(zone.offsets[0], "integer")
    changes = parameters.add([_EPOCH + timedelta(seconds=change) for change in zone.changes], "timestamptz[]")
    return f"({parameters.add(list(zone.offsets), 'integer[]')})[1 + width_bucket(t, {changes})]"


async def _distinct_count(
    connection: asyncpg.Connection, chosen: _Chosen, asked: DistinctCount, total: int
) -> Aggregate:
    if asked.field == CONTENT_DIGEST:
        grouped = "SELECT nullif(content_digest, '') AS value, count(*) AS items FROM {items} WHERE {condition}"
    else:
        is_value = facets.is_value(asked.field.type, chosen.parameters)
        field = chosen.predicate.value(asked.field.path)
        grouped = (
            "SELECT value, count(*) AS items FROM {items}"
            f" LEFT JOIN LATERAL (SELECT DISTINCT value FROM lensmesh.elements({field}) AS value WHERE {is_value})"
            " AS own ON TRUE WHERE {condition}"
        )
    row = await connection.fetchrow(
        *chosen.statement(
            "SELECT count(value) AS different, coalesce(sum(items) FILTER (WHERE value IS NULL), 0)::bigint AS without"
            f" FROM ({grouped} GROUP BY value) AS grouped"
        )
    )
    return Aggregate(total - row["without"], row["different"])


async def _number_stats(connection: asyncpg.Connection, chosen: _Chosen, asked: NumberStats, total: int) -> Aggregate:
    field = chosen.predicate.value(asked.path)
    row = await connection.fetchrow(
        *chosen.statement(
            # As decimal numbers: a sum of doubles depends on their order.
            "SELECT count(n) AS numbers, min(n)::text AS least, max(n)::text AS most, sum(n)::text AS total,"
            " count(*) FILTER (WHERE n IS NULL) AS without FROM {items}"
            " LEFT JOIN LATERAL (SELECT DISTINCT value::numeric AS n"
            f" FROM lensmesh.elements({field}) AS value WHERE jsonb_typeof(value) = 'number') AS own ON TRUE"
            " WHERE {condition}"
        )
    )
    summary = NumberSummary()
    if row["numbers"]:
        summary = summary_of(row["numbers"], Decimal(row["least"]), Decimal(row["most"]), Decimal(row["total"]))
    return Aggregate(total - row["without"], summary)
