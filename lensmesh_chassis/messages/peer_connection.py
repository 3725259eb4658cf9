"""Closing of one peer's connection: gRPC for Python cannot end a call while a message is being written to it.

Such a write ends when the peer has taken the message, when the call's deadline has passed, or with the connection.
"""

import ipaddress
import os
import socket
from contextlib import suppress
from pathlib import Path
from urllib.parse import unquote

_DESCRIPTORS = Path("/dev/fd")

Address = tuple[str, int]


def end_connection(peer: str) -> bool:
    """End the connection of this process whose other end is `peer`, as gRPC writes it ("ipv4:192.0.2.1:50000").

    The system tells gRPC that the connection is over, as if the peer had closed it, and gRPC ends the calls on it.
    Return whether there was one: the other end of a Unix socket has no name to be found by.
    """
    wanted = _address(peer)
    if wanted is None:
        return False
    for entry in list(_DESCRIPTORS.iterdir()):
        # A descriptor may be anything, and be closed meanwhile: what is looked at and ended is a copy.
        with suppress(OSError, ValueError), _copy(int(entry.name)) as one:
            if one.family in (socket.AF_INET, socket.AF_INET6) and _plain(*one.getpeername()[:2]) == wanted:
                one.shutdown(socket.SHUT_RDWR)
                return True
    return False


def _copy(descriptor: int) -> socket.socket:
    """Return a copy of a socket. Raises OSError where the descriptor is none, and leaves nothing open."""
    copy = os.dup(descriptor)
    try:
        return socket.socket(fileno=copy)
    except OSError:
        os.close(copy)
        raise


def _address(peer: str) -> Address | None:
    kind, _, rest = unquote(peer).partition(":")
    if kind not in ("ipv4", "ipv6"):
        return None
    host, _, port = rest.rpartition(":")
    return _plain(host.strip("[]"), int(port))


def _plain(host: str, port: int) -> Address:
    """Return the address in one form: a socket for both versions of IP says ::ffff:192.0.2.1 for 192.0.2.1."""
    found = ipaddress.ip_address(host.partition("%")[0])
    mapped = found.ipv4_mapped if isinstance(found, ipaddress.IPv6Address) else None
    return str(mapped or found), port
