"""Figures about items on a terminal: counts as bars, intervals of time by the names that people call them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

from lensmesh_cli.printable import printable

if TYPE_CHECKING:
    from lensmesh_client import Facet, NumberSummary, TimeBucket, TimeInterval

BAR_CELLS = 40
# Rows of one table. Intervals without items are filled in as long as they fit, and told in a line where they do not.
MOST_ROWS = 100
_EIGHTHS = " ▏▎▍▌▋▊▉"


def bar(count: int, most: int) -> str:
    """Draw a count as a bar, `most` as the longest; what is not 0 can be seen."""
    eighths = round(BAR_CELLS * 8 * count / most) if most else 0
    eighths = max(eighths, 1 if count else 0)
    return "█" * (eighths // 8) + _EIGHTHS[eighths % 8].strip()


def time_table(title: str, buckets: Sequence[TimeBucket], interval: TimeInterval) -> Table:
    """Return a table with a row for each interval, those without items too."""
    rows = _table(title)
    most = max((bucket.count for bucket in buckets), default=0)
    for label, count in _rows(buckets, interval):
        rows.add_row(Text(label), "" if count is None else f"{count:,}", Text(bar(count or 0, most), "cyan"))
    return rows


def facet_table(title: str, facet: Facet) -> Table:
    """Return a table with a row for each value, and one for the items that have none of these."""
    rows = _table(title)
    counts = [(printable(_value(each.value)), each.count) for each in facet.counts]
    most = max((count for _, count in counts), default=0)
    for label, count in counts:
        rows.add_row(Text(label), f"{count:,}", Text(bar(count, most), "cyan"))
    if facet.other_count:
        rows.add_row(Text("(none of these)", "dim"), f"{facet.other_count:,}", "")
    return rows


def numbers_line(numbers: NumberSummary | None) -> str:
    """Return figures of numbers in a line."""
    if numbers is None:
        return "no numbers"
    return (
        f"{numbers.value_count:,} numbers, {numbers.min:g} to {numbers.max:g}, mean {numbers.mean:g},"
        f" sum {numbers.sum:g}"
    )


def _table(title: str) -> Table:
    rows = Table(box=None, pad_edge=False, show_header=False, title=printable(title), title_justify="left")
    rows.add_column("", overflow="fold")
    rows.add_column("", justify="right", style="bold")
    rows.add_column("")
    return rows


def _value(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return f"{value:g}" if isinstance(value, float) else str(value)


def _rows(buckets: Sequence[TimeBucket], interval: TimeInterval) -> Iterator[tuple[str, int | None]]:
    """Yield names and counts; None stands beside how many intervals are left out."""
    shown = buckets[-MOST_ROWS:]
    if len(shown) < len(buckets):
        yield f"… {len(buckets) - len(shown):,} earlier", None
    room = MOST_ROWS - len(shown)
    before: datetime | None = None
    for bucket in shown:
        missing = _between(before, bucket.start, interval) if before is not None else []
        if len(missing) <= room:
            room -= len(missing)
            yield from ((label(start, interval), 0) for start in missing)
        else:
            yield "…", None
        yield label(bucket.start, interval), bucket.count
        before = bucket.start


def _between(before: datetime, after: datetime, interval: TimeInterval) -> list[datetime]:
    """Return the intervals between two, up to one more than there is room for."""
    found: list[datetime] = []
    moment = _next(before, interval)
    # By their names: the clock may have been changed in between.
    while moment is not None and moment < after and label(moment, interval) != label(after, interval):
        found.append(moment)
        if len(found) > MOST_ROWS:
            break
        moment = _next(moment, interval)
    return found


def _next(start: datetime, interval: TimeInterval) -> datetime | None:
    """Return the interval after one, on the same clock; None after the last year."""
    months = {"month": 1, "quarter": 3, "year": 12}.get(interval.value)
    try:
        if months is None:
            return start + {"hour": timedelta(hours=1), "day": timedelta(days=1), "week": timedelta(weeks=1)}[interval]
        year, month = divmod(start.year * 12 + start.month - 1 + months, 12)
        return start.replace(year=year, month=month + 1, day=1)
    except (OverflowError, ValueError):
        return None


def label(start: datetime, interval: TimeInterval) -> str:
    """Return what people call the interval that begins then."""
    match interval.value:
        case "hour":
            return f"{start.date().isoformat()} {start:%H}:00"
        case "day":
            return f"{start.date().isoformat()} {start:%a}"
        case "week":
            year, week, _ = start.isocalendar()
            return f"{year:04}-W{week:02}"
        case "month":
            return start.date().isoformat()[:7]
        case "quarter":
            return f"{start.year:04}-Q{(start.month + 2) // 3}"
        case _:
            return f"{start.year:04}"
