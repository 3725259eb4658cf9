"""Intervals of the calendar: what a bucket's first instant must be, on whatever clock."""

from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from search_svc.time_buckets import TimeInterval, bucket_of, bucket_start, epoch_s, parse_zone
from tests.search.strategies import thorough

# Clocks that change at midnight, by half an hour, before it, by a day, twice a year the other way round; no change.
NAMES = (
    "Europe/Berlin",
    "America/Havana",
    "America/Sao_Paulo",
    "America/Toronto",
    "Atlantic/Azores",
    "Australia/Lord_Howe",
    "Pacific/Apia",
    "Africa/Casablanca",
    "Europe/Dublin",
    "Asia/Kathmandu",
    "Africa/Monrovia",
)
FIRST, LAST = datetime(1831, 1, 1, tzinfo=UTC), datetime(2099, 1, 1, tzinfo=UTC)
EVERY = st.timedeltas(timedelta(), LAST - FIRST).map(lambda passed: FIRST + passed)


def label(moment: datetime, interval: TimeInterval, zone: ZoneInfo) -> Any:
    """What people call the interval of a moment."""
    local = moment.astimezone(zone)
    match interval:
        case TimeInterval.HOUR:
            return local.date(), local.hour, local.utcoffset()
        case TimeInterval.DAY:
            return local.date()
        case TimeInterval.WEEK:
            return local.isocalendar()[:2]
        case TimeInterval.MONTH:
            return local.year, local.month
        case TimeInterval.QUARTER:
            return local.year, (local.month - 1) // 3
        case TimeInterval.YEAR:
            return local.year


@pytest.mark.parametrize("name", NAMES)
@thorough
@given(moment=EVERY, near_change=st.booleans(), pick=st.integers(0, 10_000), seconds=st.integers(-90_000, 90_000))
def test_a_bucket_begins_where_its_name_does(
    name: str, moment: datetime, near_change: bool, pick: int, seconds: int
) -> None:
    zone, clock = parse_zone(name), ZoneInfo(name)
    if near_change and zone.changes:
        change = zone.changes[pick % len(zone.changes)]
        moment = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=change + seconds)
    for interval in TimeInterval:
        start, offset_s = bucket_start(bucket_of(epoch_s(moment), interval, zone), interval, zone)
        assert start <= moment
        assert label(start, interval, clock) == label(moment, interval, clock)
        assert label(start - timedelta(microseconds=1), interval, clock) != label(start, interval, clock)
        told = start.astimezone(clock).utcoffset()
        assert told is not None
        assert round(told.total_seconds()) == offset_s


def test_a_day_with_two_midnights_is_one_and_an_hour_that_comes_twice_is_two() -> None:
    # In Havana the clock went from 1 o'clock back to midnight on 2025-11-02, at 05:00 in UTC.
    zone = parse_zone("America/Havana")
    moments = [datetime(2025, 11, 2, hour, 30, tzinfo=UTC) for hour in (4, 5, 6)]
    days = {bucket_of(epoch_s(moment), TimeInterval.DAY, zone) for moment in moments}
    hours = [bucket_start(bucket_of(epoch_s(m), TimeInterval.HOUR, zone), TimeInterval.HOUR, zone) for m in moments]
    assert [bucket_start(day, TimeInterval.DAY, zone) for day in days] == [
        (datetime(2025, 11, 2, 4, tzinfo=UTC), -4 * 3600)
    ]
    assert hours == [
        (datetime(2025, 11, 2, 4, tzinfo=UTC), -4 * 3600),
        (datetime(2025, 11, 2, 5, tzinfo=UTC), -5 * 3600),
        (datetime(2025, 11, 2, 6, tzinfo=UTC), -5 * 3600),
    ]


@pytest.mark.parametrize("text", ["", "UTC", "Z", "+00:00", "-00:00"])
def test_zones_that_are_utc(text: str) -> None:
    assert parse_zone(text).offsets == (0,)


@pytest.mark.parametrize(
    "text",
    ["localtime", "posixrules", "+16:00", "+2:00", "02:00", "CEST", "Europe/", "../UTC", "/etc/passwd", "a" * 65, "é"],
)
def test_texts_that_are_no_zone(text: str) -> None:
    with pytest.raises(ValueError, match="no time zone known here"):
        parse_zone(text)


@pytest.mark.parametrize("interval", list(TimeInterval))
@pytest.mark.parametrize("text", ["", "+15:59", "-15:59", "Europe/Berlin"])
def test_the_first_and_the_last_instant_have_buckets(interval: TimeInterval, text: str) -> None:
    zone = parse_zone(text)
    first, last = datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)
    begins, _ = bucket_start(bucket_of(epoch_s(first), interval, zone), interval, zone)
    assert begins == first
    begins, offset_s = bucket_start(bucket_of(epoch_s(last), interval, zone), interval, zone)
    assert last - timedelta(days=366) < begins <= last
    assert interval is not TimeInterval.DAY or (epoch_s(begins) + offset_s) % 86_400 == 0
