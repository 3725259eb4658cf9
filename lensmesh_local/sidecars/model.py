"""Description of what one Envoy does, in the mesh's own words; bootstrap.py translates it into Envoy's."""

from __future__ import annotations

from dataclasses import dataclass

INBOUND, EGRESS = 1000, 2000
"""Added to a service's port: where its Envoy takes mutual TLS, and where a caller's Envoy takes plain calls for it."""
CALLS: dict[str, tuple[str, ...]] = {
    "router": ("encoder", "caption", "search"),
    "encoder": (),
    "caption": (),
    "search": (),
    "http": ("router",),
}
"""The arrows between the services: who calls whom."""
HTTP = "http"
"""The front door, which speaks HTTP/1.1 where the others speak gRPC."""
FACES = ("router", HTTP)
"""The services that are called from outside the mesh."""
CALLERS_OF_FACES = ("edge", "client")
"""Callers of those: the Envoy at the edge, and clients inside that were given this identity."""


@dataclass(frozen=True, slots=True)
class Trust:
    """The domain and namespace of identities.

    An identity is `spiffe://DOMAIN/ns/NAMESPACE/sa/NAME`, the usual name of a service account.
    """

    domain: str = "lensmesh.local"
    namespace: str = "lensmesh"

    def id(self, name: str) -> str:
        """Return the identity of a service or a client."""
        return f"spiffe://{self.domain}/ns/{self.namespace}/sa/{name}"

    def callers(self, service: str) -> tuple[str, ...]:
        """Return every identity that may call `service`."""
        names = [caller for caller, called in CALLS.items() if service in called]
        return tuple(self.id(name) for name in (*names, *(CALLERS_OF_FACES if service in FACES else ())))


@dataclass(frozen=True, slots=True)
class HostPort:
    """A host and a port. The host is an address or a name; a name may have several addresses."""

    host: str
    port: int

    @classmethod
    def parse(cls, text: str) -> HostPort:
        """Read "host:port"."""
        host, _, port = text.rpartition(":")
        return cls(host.strip("[]"), int(port))

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class Inbound:
    """Calls from outside to the service beside this Envoy."""

    service: str
    listen: HostPort
    to: HostPort
    """Address at which the service takes plain text."""
    callers: tuple[str, ...]
    """SPIFFE ids that may call; nobody else gets through the handshake."""


@dataclass(frozen=True, slots=True)
class Egress:
    """Calls of the service beside this Envoy to another service of the mesh."""

    service: str
    listen: HostPort
    replicas: tuple[HostPort, ...]
    """The other Envoys' inbound places."""
    identity: str
    """SPIFFE id that every replica must show; "" for plain text."""


@dataclass(frozen=True, slots=True)
class Edge:
    """Calls from outside the mesh with plain TLS, balanced over the routers and the front doors."""

    listen: HostPort
    routers: tuple[HostPort, ...]
    identity: str
    """SPIFFE id of the routers' Envoys; "" where routers take plain text."""
    doors: tuple[HostPort, ...] = ()
    """Front doors, which get what is no gRPC; none: nobody does."""
    doors_identity: str = ""
    """SPIFFE id of the doors' Envoys; "" where doors take plain text."""
    origins: tuple[str, ...] = ()
    """Origins whose pages may call by gRPC-Web although another server sent them (CORS)."""
    connection_age_s: int = 60
    """After that long callers are asked to connect anew; calls and streams that have begun end in their own time."""


@dataclass(frozen=True, slots=True)
class Sidecar:
    """An Envoy process."""

    name: str
    certificates: str
    """Folder of tls.crt, tls.key and ca.crt: this Envoy's identity and whom it trusts. Watched: a swap is noticed."""
    configuration: str
    """Folder where Envoy finds identity.yaml and trust.yaml, which lead to the certificates."""
    inbound: Inbound | None = None
    egress: tuple[Egress, ...] = ()
    edge: Edge | None = None
    edge_certificates: str = ""
    """Folder of the certificate that the edge shows to the world; public.yaml leads there."""
    admin: HostPort | str | None = None
    """Envoy's own pages, for this machine alone: a port of the loopback, or the path of a unix socket."""
    metrics: HostPort | None = None
    """Prometheus' figures at /stats/prometheus, and readiness at /ready."""
    max_connections: int = 10_000
    """Of callers from elsewhere; those beside this Envoy and those who ask for its metrics are let in all the same."""
