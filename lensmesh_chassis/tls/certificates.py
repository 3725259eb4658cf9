"""The validity of a certificate, which Python's own library does not tell before a handshake."""

import base64
import binascii
import re
from dataclasses import dataclass
from datetime import UTC, datetime

_PEM = re.compile(rb"-----BEGIN CERTIFICATE-----(.*?)-----END CERTIFICATE-----", re.DOTALL)
_SEQUENCE, _VERSION, _UTC_TIME = 0x30, 0xA0, 0x17


@dataclass(frozen=True)
class Validity:
    """First and last moment at which a certificate is valid, both included."""

    begin: datetime
    end: datetime


def validity(pem: bytes) -> Validity:
    """Return the validity of the first certificate in `pem`. Raises ValueError where there is none that can be read."""
    found = _PEM.search(pem)
    if found is None:
        raise ValueError("there is no CERTIFICATE in it")
    try:
        der = base64.b64decode(found.group(1))
        # RFC 5280, 4.1: Certificate { tbsCertificate { [version], serial, algorithm, issuer, validity, ... }, ... }
        rest = _inside(_inside(der))
        skipped = 4 if rest[0] == _VERSION else 3
        for _ in range(skipped):
            rest = rest[_size(rest) :]
        times = _inside(rest)
        return Validity(_time(times), _time(times[_size(times) :]))
    except (binascii.Error, IndexError, ValueError) as error:
        raise ValueError("its first certificate cannot be read") from error


def _header(der: bytes) -> tuple[int, int]:
    """Return how many bytes the tag and length of the first element take, and how many its content takes."""
    short = der[1]
    if short < 0x80:
        return 2, short
    count = short & 0x7F
    return 2 + count, int.from_bytes(der[2 : 2 + count])


def _size(der: bytes) -> int:
    return sum(_header(der))


def _inside(der: bytes) -> bytes:
    if der[0] != _SEQUENCE:
        raise ValueError("not a sequence")
    start, length = _header(der)
    return der[start : start + length]


def _time(der: bytes) -> datetime:
    start, length = _header(der)
    text = der[start : start + length].decode("ascii")
    if der[0] == _UTC_TIME:
        # Two digits of the year: 50 to 99 are the last century's.
        text = ("19" if text >= "50" else "20") + text
    return datetime.strptime(text, "%Y%m%d%H%M%SZ").replace(tzinfo=UTC)
