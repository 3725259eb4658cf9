"""The address of a Redis: the check of the setting, and the form that may be shown. Needs no Redis client."""

from __future__ import annotations

from importlib.util import find_spec
from urllib.parse import urlsplit

FORMS = "redis://USER:PASSWORD@HOST:PORT/DATABASE, rediss://... (TLS) or unix:///PATH?db=DATABASE"


def check(url: str) -> None:
    """Raise ``ValueError`` for a wrong address. The message repeats no part of it, since any may be a password."""
    try:
        parts = urlsplit(url)
        port_is_number = parts.port is None or parts.port > 0
    except ValueError:
        port_is_number = False
    if not port_is_number or parts.scheme not in ("redis", "rediss", "unix"):
        raise ValueError(f"it is no address of a Redis: write {FORMS}")
    if parts.scheme == "unix" and not parts.path:
        raise ValueError("it names no socket: write unix:///PATH?db=DATABASE")
    if parts.scheme != "unix" and not parts.hostname:
        raise ValueError(f"it names no host: write {FORMS}")
    if parts.scheme != "unix" and parts.path not in ("", "/") and not parts.path[1:].isdecimal():
        raise ValueError("its database is no number: write redis://HOST:PORT/0")
    if find_spec("redis") is None:
        raise ValueError("it needs the package redis: install lensmesh[redis]")
    from redis.asyncio.connection import parse_url  # only where a Redis is named

    try:
        parse_url(url)
    except ValueError:
        raise ValueError("its options, after the question mark, cannot be read") from None


def shown(url: str) -> str:
    """Return the address without user, password and options."""
    parts = urlsplit(url)
    if parts.scheme == "unix":
        return f"unix://{parts.path}"
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"
