"""Ports for Envoys, kept from all others on this machine for as long as the mesh runs."""

from __future__ import annotations

import socket
from typing import Self

from lensmesh_chassis.process.addresses import ListenAddress, explain_bind_failure
from lensmesh_local.sidecars.model import HostPort


class Reserved:
    """Sockets that are bound and never listen.

    Only a process of this user that shares the port, as Envoy does, can listen.

    So a free port stays free between the moment it is chosen and the moment Envoy listens. It also stays free while an
    Envoy that crashed is started anew.
    """

    def __init__(self) -> None:
        self._sockets: list[socket.socket] = []

    def take(self, host: str, port: int) -> HostPort:
        """Reserve that port, or a free one for 0. Raises Unavailable with the reason and the fix where it is taken."""
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        if port:
            self._refuse_where_somebody_listens(family, host, port)
        held = socket.socket(family, socket.SOCK_STREAM)
        try:
            # Connections of a mesh that ended a moment ago may linger.
            held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            held.bind((host, port))
        except OSError as error:
            held.close()
            raise explain_bind_failure(ListenAddress(host, port), "--port") from error
        self._sockets.append(held)
        return HostPort(host, int(held.getsockname()[1]))

    def _refuse_where_somebody_listens(self, family: int, host: str, port: int) -> None:
        """Refuse a port on which somebody listens: two Envoys would share it, each with a part of the calls."""
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((host, port))
                probe.listen(1)
            except OSError as error:
                raise explain_bind_failure(ListenAddress(host, port), "--port") from error

    def close(self) -> None:
        """Release all ports."""
        for held in self._sockets:
            held.close()
        self._sockets.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
