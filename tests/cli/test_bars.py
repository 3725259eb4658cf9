"""Counts as bars, and what people call intervals of time."""

import io
from datetime import UTC, datetime

import pytest
from rich.console import Console

from lensmesh_cli.bars import BAR_CELLS, MOST_ROWS, bar, facet_table, label, numbers_line, time_table
from lensmesh_client import Facet, FacetCount, NumberSummary, TimeBucket, TimeInterval


def lines(table: object) -> list[str]:
    console = Console(width=120, record=True, file=io.StringIO())
    console.print(table)
    return [line.rstrip() for line in console.export_text().splitlines()]


def test_bars_are_as_long_as_counts() -> None:
    assert bar(100, 100) == "█" * BAR_CELLS
    assert bar(50, 100) == "█" * (BAR_CELLS // 2)
    assert bar(1, 1_000_000) == "▏"
    assert bar(0, 100) == ""
    assert bar(0, 0) == ""


@pytest.mark.parametrize(
    ("interval", "name"),
    [
        ("hour", "2026-01-01 13:00"),
        ("day", "2026-01-01 Thu"),
        ("week", "2026-W01"),
        ("month", "2026-01"),
        ("quarter", "2026-Q1"),
        ("year", "2026"),
    ],
)
def test_names_of_intervals(interval: str, name: str) -> None:
    assert label(datetime(2026, 1, 1, 13, tzinfo=UTC), TimeInterval(interval)) == name


def test_intervals_without_items_are_shown_where_there_is_room() -> None:
    buckets = [TimeBucket(datetime(2026, month, 1, tzinfo=UTC), month) for month in (1, 4)]
    shown = lines(time_table("t", buckets, TimeInterval.MONTH))
    assert [line.split()[:2] for line in shown[1:]] == [
        ["2026-01", "1"],
        ["2026-02", "0"],
        ["2026-03", "0"],
        ["2026-04", "4"],
    ]
    far = [*buckets, TimeBucket(datetime(9999, 12, 1, tzinfo=UTC), 1)]
    assert [line.split()[0] for line in lines(time_table("t", far, TimeInterval.MONTH))[1:]][-2:] == ["…", "9999-12"]


def test_a_long_table_shows_the_latest() -> None:
    buckets = [TimeBucket(datetime(1000 + year, 1, 1, tzinfo=UTC), 1) for year in range(MOST_ROWS + 5)]
    shown = lines(time_table("t", buckets, TimeInterval.YEAR))
    assert shown[1].startswith("… 5 earlier")
    assert len(shown) == 1 + 1 + MOST_ROWS
    first = [TimeBucket(datetime(1, 1, 1, tzinfo=UTC), 1), TimeBucket(datetime(9999, 1, 1, tzinfo=UTC), 1)]
    assert [line.split()[0] for line in lines(time_table("t", first, TimeInterval.YEAR))[1:]] == ["0001", "…", "9999"]


def test_values_and_numbers() -> None:
    facet = Facet("f", (FacetCount(True, 4), FacetCount(0.5, 2), FacetCount("a\x1bb", 1)), other_count=3)
    shown = [line.split() for line in lines(facet_table("t", facet))[1:]]
    assert [row[:2] for row in shown] == [["true", "4"], ["0.5", "2"], ["a\\x1bb", "1"], ["(none", "of"]]
    assert numbers_line(None) == "no numbers"
    assert numbers_line(NumberSummary(2, -1, 3, 1, 2)) == "2 numbers, -1 to 3, mean 1, sum 2"
