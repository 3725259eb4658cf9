"""Tries the ports of a mesh before anything starts: loading models takes minutes, and this a moment."""

from __future__ import annotations

import socket
from collections.abc import Iterable

from lensmesh_chassis.addresses import Address, why_not_bound


def taken(wanted: Iterable[tuple[str, Address, str]]) -> list[str]:
    """Return a sentence for each address that could not be listened on; elements are (who, where, setting)."""
    found = []
    for who, where, setting in wanted:
        # Port 0 asks for a free one; a unix socket is its service's own affair.
        if where.path or not where.port:
            continue
        try:
            family, kind, protocol, _, place = socket.getaddrinfo(where.host, where.port, type=socket.SOCK_STREAM)[0]
            with socket.socket(family, kind, protocol) as probe:
                # Connections of a mesh that ended a moment ago may linger.
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                probe.bind(place)
                probe.listen(1)
        except OSError as error:
            found.append(f"{who} cannot listen on {where}: {why_not_bound(error, setting)}")
    return found
