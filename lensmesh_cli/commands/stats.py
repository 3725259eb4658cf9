"""`lensmesh stats`."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lensmesh_cli.console import EXIT_CODES, Exit, fail, note, out, print_json
from lensmesh_cli.options import (
    DEFAULT_TARGET,
    CaFile,
    CertificateFile,
    Collection,
    Connect,
    Json,
    KeyFile,
    Target,
    Timeout,
)
from lensmesh_cli.printable import printable

if TYPE_CHECKING:
    from lensmesh_client import AggregateResult, Aggregates, Aggregation, Client, TimeInterval

EPILOG = (
    "Example: lensmesh stats --by-time taken:month --distinct entry --values view --numbers price -f artist=Ada\n\n"
    "Without any of --by-time, --values, --distinct and --numbers it shows when items came, and what is in the fields "
    "that the collection has indexes of. Metadata fields need one; $create_time, $update_time and $content_digest "
    "(different images, for --distinct) need none. Filters are those of lensmesh search.\n\n" + EXIT_CODES
)
# In one call.
_MOST = 16
_MONTH_DAYS = 31


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(epilog=EPILOG)(stats)


def stats(
    by_time: Annotated[
        list[str] | None,
        typer.Option(
            "--by-time",
            help="Count items by a time: FIELD, or FIELD:INTERVAL with hour, day, week, month, quarter or year. "
            "Repeatable, as are the next three.",
        ),
    ] = None,
    values: Annotated[list[str] | None, typer.Option("--values", help="Count items by the values of a field.")] = None,
    distinct: Annotated[
        list[str] | None, typer.Option("--distinct", help="Count the different values of a field.")
    ] = None,
    numbers: Annotated[
        list[str] | None, typer.Option("--numbers", help="Least, greatest, mean and sum of a field's numbers.")
    ] = None,
    limit: Annotated[int, typer.Option("--limit", "-n", help="Most values of a field.", min=1)] = 10,
    time_zone: Annotated[
        str, typer.Option(help="Whose days: an IANA name, or an offset such as +02:00; empty: UTC.")
    ] = "",
    filters: Annotated[list[str] | None, typer.Option("--filter", "-f", help="A condition, repeatable.")] = None,
    collection: Collection = "",
    json_output: Json = False,
    target: Target = DEFAULT_TARGET,
    ca_file: CaFile = "",
    certificate_file: CertificateFile = "",
    key_file: KeyFile = "",
    timeout: Timeout = 60.0,
) -> None:
    """Show figures about stored items: when they came, which values they have, how many, least to greatest."""
    from lensmesh_client import CountsByTime, DistinctCount, LensmeshError, NumberStats, ValueCounts, parse_filter

    try:
        chosen = parse_filter(filters) if filters else None
    except LensmeshError as error:
        fail(error.message, Exit.USAGE)
    if time_zone and not by_time and (values or distinct or numbers):
        fail("--time-zone says whose days --by-time counts: give that too, or leave it out", Exit.USAGE)
    asked: dict[str, Aggregation] = {}
    # Intervals are left empty until it is seen how much time there is.
    for text in by_time or []:
        asked[f"{text} by time"] = CountsByTime(*_field_and_interval(text), time_zone)
    asked |= {f"values of {field}": ValueCounts(field, limit) for field in values or []}
    asked |= {f"different {field}": DistinctCount(field) for field in distinct or []}
    asked |= {f"numbers of {field}": NumberStats(field) for field in numbers or []}

    async def work(client: Client) -> tuple[Aggregates, dict[str, Aggregation]]:
        what = asked or await _all_fields(client, collection, limit, time_zone)
        for name, each in what.items():
            if isinstance(each, CountsByTime) and not each.interval:
                what[name] = await _with_interval(client, each, collection, chosen)
        # A name of the contract is short, and a field's is not.
        numbered = {f"{i}": each for i, each in enumerate(what.values())}
        return await client.items.aggregate(numbered, collection=collection, filter=chosen), what

    found, what = Connect(target, ca_file, certificate_file, key_file, timeout).run(work)
    if json_output:
        print_json(as_json(found, what))
        return
    out.print(f"{found.item_count:,} items", highlight=False)
    for (name, each), result in zip(what.items(), found.results.values(), strict=True):
        _show(name, result, each, found.item_count)


def _field_and_interval(text: str) -> tuple[str, str]:
    """Take apart FIELD:INTERVAL; a field's name may have colons too."""
    from lensmesh_client import TimeInterval

    field, _, interval = text.rpartition(":")
    return (field, interval) if field and interval in list(TimeInterval) else (text, "")


async def _all_fields(client: Client, collection: str, limit: int, time_zone: str) -> dict[str, Aggregation]:
    """Return what tells most of a collection: when its items came, and what its indexed fields hold."""
    from lensmesh_client import CountsByTime, FieldType, NumberStats, ValueCounts

    asked: dict[str, Aggregation] = {"$create_time by time": CountsByTime("$create_time", "", time_zone)}
    fields = (await client.collections.get(collection)).fields
    for field, kind in fields.items():
        match kind:
            case FieldType.TIME:
                asked[f"{field} by time"] = CountsByTime(field, "", time_zone)
            case FieldType.NUMBER:
                asked[f"numbers of {field}"] = NumberStats(field)
            case _:
                asked[f"values of {field}"] = ValueCounts(field, limit)
    if len(asked) > _MOST:
        note(f"{len(asked) - _MOST} of {len(fields)} fields are left out: name those you want")
    return dict(list(asked.items())[:_MOST])


async def _with_interval(client: Client, asked: Any, collection: str, chosen: Any) -> Any:
    """Choose the interval that shows most: of half a year days would be too many rows, of two days months too few."""
    from dataclasses import replace

    from lensmesh_client import TimeInterval

    async def days(interval: TimeInterval) -> int:
        question = {"t": replace(asked, interval=interval)}
        buckets = (await client.items.aggregate(question, collection=collection, filter=chosen)).results["t"].buckets
        return (buckets[-1].start - buckets[0].start).days if buckets else 0

    # Months first: however long the time is, they are few enough to be asked for.
    between = await days(TimeInterval.MONTH)
    if between > 2 * _MONTH_DAYS:
        return replace(asked, interval=TimeInterval.YEAR if between > 60 * _MONTH_DAYS else TimeInterval.MONTH)
    return replace(asked, interval=TimeInterval.DAY if await days(TimeInterval.DAY) > 1 else TimeInterval.HOUR)


def _show(name: str, result: AggregateResult, asked: Aggregation, items: int) -> None:
    from lensmesh_cli import bars
    from lensmesh_client import CountsByTime, DistinctCount, NumberStats

    without = f" ({items - result.item_count:,} items have none)" if result.item_count < items else ""
    match asked:
        case CountsByTime():
            zone = f", {asked.time_zone}" if asked.time_zone else ""
            out.print()
            out.print(bars.time_table(f"{name}, {asked.interval}s{zone}{without}", result.buckets, _interval(asked)))
        case DistinctCount():
            out.print()
            out.print(f"{printable(name)}: {result.distinct_count:,}{without}", highlight=False, markup=False)
        case NumberStats():
            out.print()
            line = bars.numbers_line(result.numbers)
            out.print(f"{printable(name)}: {line}{without}", highlight=False, markup=False)
        case _:
            if result.facet is not None:
                out.print()
                out.print(bars.facet_table(f"{name}{without}", result.facet))


def _interval(asked: Any) -> TimeInterval:
    from lensmesh_client import TimeInterval

    return TimeInterval(asked.interval)


def as_json(found: Aggregates, asked: dict[str, Aggregation]) -> dict[str, Any]:
    """Return the figures for programs, by the names that the terminal shows."""
    results = zip(asked.items(), found.results.values(), strict=True)
    return {
        "item_count": found.item_count,
        "results": {name: _result_json(result, each) for (name, each), result in results},
    }


def _result_json(result: AggregateResult, asked: Aggregation) -> dict[str, Any]:
    from lensmesh_client import CountsByTime, DistinctCount, NumberStats

    told: dict[str, Any] = {"field": asked.field, "item_count": result.item_count}
    match asked:
        case CountsByTime():
            buckets = [{"start": each.start.isoformat(), "count": each.count} for each in result.buckets]
            return told | {"interval": str(asked.interval), "buckets": buckets}
        case DistinctCount():
            return told | {"distinct_count": result.distinct_count}
        case NumberStats():
            numbers = result.numbers
            names = ("value_count", "min", "max", "mean", "sum")
            figures = {name: getattr(numbers, name) for name in names} if numbers else {}
            # JSON has no infinity.
            return told | {name: figure if math.isfinite(figure) else None for name, figure in figures.items()}
        case _:
            facet = result.facet
            counts = [{"value": each.value, "count": each.count} for each in facet.counts] if facet else []
            return told | {"values": counts, "other_count": facet.other_count if facet else 0}
