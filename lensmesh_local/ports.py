"""Check of a mesh's ports before anything starts: loading models takes minutes, and this takes a moment."""

from __future__ import annotations

from collections.abc import Iterable

from lensmesh_chassis.process.addresses import ListenAddress, try_to_listen, why_not_bound


def taken(wanted: Iterable[tuple[str, ListenAddress, str]]) -> list[str]:
    """Return a sentence for each address that cannot be listened on. Elements of `wanted` are (who, where, setting)."""
    found = []
    for who, where, setting in wanted:
        # Port 0 asks for a free one; a unix socket is its service's own affair.
        if where.path or not where.port:
            continue
        try:
            try_to_listen(where)
        except OSError as error:
            found.append(f"{who} cannot listen on {where}: {why_not_bound(error, setting)}")
    return found
