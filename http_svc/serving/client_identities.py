"""Which clients may connect, by the name in their certificate."""

import asyncio
import fnmatch

from lensmesh_chassis.telemetry.logging import get_logger
from lensmesh_chassis.tls.identities import parse_identities

_log = get_logger(__name__)


class ClientIdentities:
    """The SPIFFE ids of the setting tls_client_ids; none means that any client of the authority may connect."""

    def __init__(self, ids: str) -> None:
        self._may = parse_identities(ids)

    def may_connect(self, transport: asyncio.BaseTransport) -> bool:
        """Tell whether a connection may stay."""
        if not self._may:
            return True
        certificate = transport.get_extra_info("peercert") or {}
        names = [name for kind, name in certificate.get("subjectAltName", ()) if kind == "URI"]
        if any(fnmatch.fnmatchcase(name, wanted) for wanted in self._may for name in names):
            return True
        _log.info("a caller that tls_client_ids does not name was turned away", ids=names)
        return False
