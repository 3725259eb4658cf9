"""Arithmetic of calendar intervals: which one a moment belongs to, and when it begins.

Both stores follow this module, PostgreSQL by the same table of a zone's offsets: what a database knows of zones differs
from version to version. Local times are seconds since 1970-01-01T00:00:00 of the zone's own clock.
"""

import re
from bisect import bisect_right
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from enum import StrEnum
from functools import lru_cache
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_FIRST_S = -62_135_596_800  # 0001-01-01T00:00:00Z
_DAY_S = 86_400
# Python's calendar begins with the year 1 and ends with 9999; after 400 years the days repeat.
_EPOCH_ORDINAL, _CYCLE_DAYS = date(1970, 1, 1).toordinal(), 146_097
# Zones without an earlier change than this, or a later one, are all there are for a long time.
_FIRST_YEAR, _LAST_YEAR = 1830, 2100
# As far as an RFC 3339 time may be from UTC.
_OFFSET = re.compile(r"([+-])(0[0-9]|1[0-5]):([0-5][0-9])")
_MAX_NAME_CHARS = 64
# Files beside those of zones: what they mean is each machine's own.
_OF_THE_MACHINE = ("localtime", "posixrules")


class TimeInterval(StrEnum):
    """Length of a bucket."""

    HOUR = "hour"
    DAY = "day"
    WEEK = "week"
    MONTH = "month"
    QUARTER = "quarter"
    YEAR = "year"

    @property
    def position(self) -> int:
        """Its place among all, the shortest first."""
        return list(TimeInterval).index(self)


@dataclass(frozen=True)
class Zone:
    """Offsets of a clock from UTC, in seconds: `offsets[i]` from `changes[i - 1]` on, in seconds since 1970."""

    changes: tuple[int, ...]
    offsets: tuple[int, ...]

    def offset_at(self, moment_s: int) -> int:
        """Return what the clock is ahead of UTC at a moment, in seconds."""
        return self.offsets[bisect_right(self.changes, moment_s)]


UTC_ZONE = Zone((), (0,))


def parse_zone(text: str) -> Zone:
    """Read a zone: "" or "UTC", a fixed offset such as "+02:00", or an IANA name such as "Europe/Berlin".

    A zone's changes may take some 50 ms to be found the first time.

    Raises:
        ValueError: with a message for the caller.
    """
    if text in ("", "UTC", "Z"):
        return UTC_ZONE
    if match := _OFFSET.fullmatch(text):
        sign, hours, minutes = match.groups()
        return Zone((), ((-1 if sign == "-" else 1) * (int(hours) * 3600 + int(minutes) * 60),))
    try:
        if len(text) > _MAX_NAME_CHARS or text in _OF_THE_MACHINE:
            raise ValueError(text)
        return _named(text)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise ValueError(
            "is no time zone known here: use UTC, an offset up to 15:59 such as +02:00, or an IANA name such as"
            " Europe/Berlin"
        ) from None


@lru_cache(maxsize=64)
def _named(name: str) -> Zone:
    zone = ZoneInfo(name)

    def offset_at(moment_s: int) -> int:
        offset = (_EPOCH + timedelta(seconds=moment_s)).astimezone(zone).utcoffset()
        assert offset is not None
        return round(offset.total_seconds())

    def day(year: int) -> int:
        return (date(year, 1, 1).toordinal() - _EPOCH_ORDINAL) * _DAY_S

    changes, offsets = [], [offset_at(day(_FIRST_YEAR))]
    # No zone ever changed twice in a day.
    for begin in range(day(_FIRST_YEAR), day(_LAST_YEAR), _DAY_S):
        after = offset_at(begin + _DAY_S)
        if after == offsets[-1]:
            continue
        low, high = begin, begin + _DAY_S
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (low, middle) if offset_at(middle) == after else (middle, high)
        changes.append(high)
        offsets.append(after)
    return Zone(tuple(changes), tuple(offsets))


def epoch_s(moment: datetime) -> int:
    """Return whole seconds since 1970, cut off towards the past: exact, as a double of a far year is not."""
    passed = moment - _EPOCH
    return passed.days * _DAY_S + passed.seconds


def local_start(local_s: int, interval: TimeInterval) -> int:
    """Return when the interval of a local time begins, on the same clock."""
    days, of_day = divmod(local_s, _DAY_S)
    match interval:
        case TimeInterval.HOUR:
            return local_s - of_day % 3600
        case TimeInterval.DAY:
            return days * _DAY_S
        case TimeInterval.WEEK:
            # 1970 began on a Thursday.
            return (days - (days + 3) % 7) * _DAY_S
    ordinal, shift = days + _EPOCH_ORDINAL, 0
    if ordinal < 1:
        shift = _CYCLE_DAYS
    elif ordinal > date.max.toordinal():
        shift = -_CYCLE_DAYS
    day = date.fromordinal(ordinal + shift)
    month = {
        TimeInterval.MONTH: day.month,
        TimeInterval.QUARTER: day.month - (day.month - 1) % 3,
        TimeInterval.YEAR: 1,
    }[interval]
    return (day.replace(month=month, day=1).toordinal() - shift - _EPOCH_ORDINAL) * _DAY_S


def bucket_of(moment_s: int, interval: TimeInterval, zone: Zone) -> tuple[int, int]:
    """Return the bucket of a moment: the local start of its interval, and of an hour the clock's offset.

    Only an hour can be there twice on one clock; the offset tells which of the two it is.
    """
    offset = zone.offset_at(moment_s)
    return local_start(moment_s + offset, interval), offset if interval is TimeInterval.HOUR else 0


def bucket_start(bucket: tuple[int, int], interval: TimeInterval, zone: Zone) -> tuple[datetime, int]:
    """Return the first instant of a bucket, and what the clock is ahead of UTC then, in seconds.

    A day whose midnight is left out begins with its first minute, and one with two midnights with the earlier. A bucket
    that begins before the year 1 is told to begin with it.
    """
    local, hour_offset = bucket
    start = max(_hour(local, hour_offset, zone) if interval is TimeInterval.HOUR else _instant(local, zone), _FIRST_S)
    return _EPOCH + timedelta(seconds=start), zone.offset_at(start)


def _hour(local_s: int, offset: int, zone: Zone) -> int:
    start = local_s - offset
    # The clock came to this offset within the hour: the change is the first instant.
    return start if zone.offset_at(start) == offset else zone.changes[bisect_right(zone.changes, start)]


def _instant(local_s: int, zone: Zone) -> int:
    before, after = zone.offset_at(local_s - _DAY_S), zone.offset_at(local_s + _DAY_S)
    for offset in (before, after):
        if zone.offset_at(local_s - offset) == offset:
            return local_s - offset
    # The clock was put forward over it: the change itself is the first instant.
    return zone.changes[bisect_right(zone.changes, local_s - before) - 1]
