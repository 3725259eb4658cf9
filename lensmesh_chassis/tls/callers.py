"""Permission to call. With mutual TLS any certificate of the authority can connect; this says which may do more."""

import fnmatch
from collections.abc import Sequence
from typing import Any

from lensmesh_chassis.errors import PermissionDenied
from lensmesh_chassis.reasons import Reason
from lensmesh_chassis.rpc.handlers import Begin, RpcMethod


class Callers:
    """Interceptor that refuses a call over TLS whose certificate has none of the wanted SPIFFE ids.

    gRPC itself looks at none.

    Health and reflection answer everyone with a certificate of the authority: load balancers and probes have other
    identities than callers, and neither service tells more than the public contracts. A unix socket knows no
    certificates; its folder's permissions guard it.
    """

    def __init__(self, identities: Sequence[str]) -> None:
        self._identities = identities

    def around(self, method: RpcMethod) -> Begin | None:
        return None if method.infrastructure else self._check

    def _check(self, context: Any) -> None:
        facts = context.auth_context()
        if facts.get("transport_security_type") != [b"ssl"]:
            return
        shown = [value.decode("ascii", "replace") for value in facts.get("peer_spiffe_id") or ()]
        if any(fnmatch.fnmatchcase(one, wanted) for one in shown for wanted in self._identities):
            return
        who = f"the certificate of {shown[0]}" if shown else "a certificate without a SPIFFE id"
        raise PermissionDenied(
            Reason.CALLER_NOT_ALLOWED,
            f"{who} may not call this service: use the certificate of an identity that may, or add it to the service's "
            "setting tls_client_ids",
            metadata={"identity": shown[0] if shown else ""},
        )
