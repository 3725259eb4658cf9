"""Reading and writing of RFC 3339 times, the same way here and in every store."""

import re
from datetime import UTC, datetime, timedelta, timezone

# Offsets end at 15:59: PostgreSQL reads no further, and no place on earth is beyond 14:00.
# Written so that Python and PostgreSQL read it alike; the schema's own function is made from it.
PATTERN = (
    r"([0-9]{4}-(?:0[1-9]|1[0-2])-(?:0[1-9]|[12][0-9]|3[01]))[Tt]((?:[01][0-9]|2[0-3]):[0-5][0-9]):([0-5][0-9]|60)"
    r"(\.[0-9]+)?([Zz]|[+-](?:0[0-9]|1[0-5]):[0-5][0-9])"
)
_RFC3339 = re.compile(PATTERN)


def parse_time(text: str) -> datetime | None:
    """Return the instant that an RFC 3339 text names, to the microsecond; None if it is no such text.

    Finer digits are cut off. A leap second (:60) is the first second of the next minute.
    """
    match = _RFC3339.fullmatch(text)
    if not match:
        return None
    day, clock, seconds, fraction, offset = match.groups()
    try:
        moment = datetime.fromisoformat(f"{day}T{clock}:00")
        moment += timedelta(seconds=int(seconds), microseconds=int((fraction or ".0")[1:7].ljust(6, "0")))
        sign = -1 if offset[0] == "-" else 1
        shift = timedelta() if offset in "Zz" else sign * timedelta(hours=int(offset[1:3]), minutes=int(offset[4:6]))
        return moment.replace(tzinfo=timezone(shift)).astimezone(UTC)
    except (ValueError, OverflowError):
        return None


def time_text(moment: datetime) -> str:
    """Write a moment as an RFC 3339 text that every store reads, to the microsecond."""
    # isoformat leaves out microseconds that are zero, and pads years on every platform, which strftime does not.
    return moment.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
