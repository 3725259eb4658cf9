"""Permission to call. With mutual TLS any certificate of the authority can connect; this says which may do more."""

import fnmatch
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

from lensmesh_chassis.errors import PermissionDenied
from lensmesh_chassis.reasons import Reason
from lensmesh_chassis.rpc.handlers import Interceptor, Rpc
from lensmesh_chassis.rpc.status import abort


class Callers(Interceptor):
    """Interceptor that refuses a call over TLS whose certificate has none of the wanted SPIFFE ids.

    gRPC itself looks at none.

    Health and reflection answer everyone with a certificate of the authority: load balancers and probes have other
    identities than callers, and neither service tells more than the public contracts. A unix socket knows no
    certificates; its folder's permissions guard it.
    """

    def __init__(self, identities: Sequence[str]) -> None:
        self._identities = identities

    @asynccontextmanager
    async def around(self, rpc: Rpc, context: Any) -> AsyncIterator[None]:
        if not rpc.infrastructure and (stranger := self._stranger(context.auth_context())) is not None:
            await abort(context, stranger)
        yield

    def _stranger(self, facts: Any) -> PermissionDenied | None:
        if facts.get("transport_security_type") != [b"ssl"]:
            return None
        shown = [value.decode("ascii", "replace") for value in facts.get("peer_spiffe_id") or ()]
        if any(fnmatch.fnmatchcase(one, wanted) for one in shown for wanted in self._identities):
            return None
        who = f"the certificate of {shown[0]}" if shown else "a certificate without a SPIFFE id"
        return PermissionDenied(
            Reason.CALLER_NOT_ALLOWED,
            f"{who} may not call this service: use the certificate of an identity that may, or add it to the service's "
            "setting tls_client_ids",
            metadata={"identity": shown[0] if shown else ""},
        )
