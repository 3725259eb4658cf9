"""Real Envoys on free ports, with an authority of the test's own."""

import asyncio
import json
import socket
import ssl
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import grpc

from lensmesh.encoder.v1 import encoder_pb2, encoder_pb2_grpc
from lensmesh_chassis.channels import open_channel
from lensmesh_chassis.tls.credentials import ChannelSecurity
from lensmesh_local.process import Managed, Spec
from lensmesh_local.sidecars.certificates import Authority, Files
from lensmesh_local.sidecars.local import write
from lensmesh_local.sidecars.model import CALLS, Edge, Egress, HostPort, Inbound, Sidecar, Trust
from lensmesh_local.sidecars.ports import Reserved
from tests.support.waiting import until

LOCAL = "127.0.0.1"
PATIENCE_S = 60.0


class Envoys:
    """Every Envoy that was started; they end when this is left."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.trust = Trust()
        self.authority = Authority()
        self.running: dict[str, Managed] = {}
        self.said: list[str] = []
        self._ports = Reserved()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await asyncio.gather(*(envoy.stop() for envoy in self.running.values()))
        self._ports.close()

    def free(self) -> HostPort:
        """A port that nobody else gets."""
        return self._ports.take(LOCAL, 0)

    def certificate(self, name: str, identity: str | None = None, **more: Any) -> Files:
        """Certificate and key in a folder called `name`, for the service `name` or for `identity`."""
        wanted = self.trust.id(name) if identity is None else identity
        return self.authority.issue(self.folder / "tls" / name, wanted, **more)

    def shows(self, name: str, identity: str | None = None, **more: Any) -> ChannelSecurity:
        """A caller with that certificate."""
        files = self.certificate(name, identity, **more)
        return ChannelSecurity(str(files.ca), str(files.certificate), str(files.key))

    async def inbound(self, service: str, own: str, name: str = "", identity: str = "") -> HostPort:
        """The Envoy before one replica; where it takes mutual TLS. `identity`: another than its service's."""
        name, place = name or service, self.free()
        self.certificate(name, identity or self.trust.id(service))
        inbound = Inbound(service, place, HostPort.parse(own), self.trust.callers(service))
        await self.start(self._sidecar(name, inbound=inbound), place)
        return place

    async def egress(self, service: str, *replicas: HostPort) -> HostPort:
        """The router's Envoy, for one service that it calls; where it takes plain text."""
        place = self.free()
        self.certificate("router")
        egress = (Egress(service, place, replicas, self.trust.id(service)),)
        await self.start(self._sidecar("router", egress=egress), place)
        return place

    async def router(
        self, own: str, egress: dict[str, HostPort], replicas: dict[str, tuple[HostPort, ...]]
    ) -> HostPort:
        """The router's whole Envoy."""
        place = self.free()
        self.certificate("router")
        called = tuple(Egress(name, egress[name], replicas[name], self.trust.id(name)) for name in CALLS["router"])
        inbound = Inbound("router", place, HostPort.parse(own), self.trust.callers("router"))
        await self.start(self._sidecar("router", inbound=inbound, egress=called), place)
        return place

    async def door(self, own: str, egress: HostPort, *routers: HostPort) -> HostPort:
        """The front door's whole Envoy."""
        place = self.free()
        self.certificate("http")
        called = (Egress("router", egress, routers, self.trust.id("router")),)
        inbound = Inbound("http", place, HostPort.parse(own), self.trust.callers("http"))
        await self.start(self._sidecar("http", inbound=inbound, egress=called), place, egress)
        return place

    async def edge(
        self, *routers: HostPort, age_s: int = 60, doors: tuple[HostPort, ...] = (), **more: Any
    ) -> HostPort:
        """The Envoy at the edge; its certificate for the world is of the same authority here."""
        place = self.free()
        self.certificate("edge")
        public = self.certificate("public", "")
        names = self.trust.id("router"), doors, self.trust.id("http")
        made = Edge(place, routers, *names, connection_age_s=age_s)
        await self.start(self._sidecar("edge", edge=made, edge_certificates=str(public.folder), **more), place)
        return place

    def _sidecar(self, name: str, **what: Any) -> Sidecar:
        return Sidecar(
            name=name,
            certificates=str(self.folder / "tls" / name),
            configuration=str(self.folder / name),
            admin=str(self.folder / name / "a"),
            **what,
        )

    async def start(self, sidecar: Sidecar, *places: HostPort) -> None:
        """Until it listens."""
        folder = self.folder / sidecar.name
        folder.mkdir()
        ready = folder / "ready.json"

        async def listens(_: Any) -> bool:
            for place in places:
                try:
                    _, writer = await asyncio.open_connection(place.host, place.port)
                except OSError:
                    return False
                writer.close()
            return True

        spec = Spec(
            name=sidecar.name,
            module="lensmesh_local.sidecars.process",
            arguments=(str(write(sidecar, folder)), str(ready)),
            ready_file=ready,
            log_file=folder / "log",
            serving=listens,
            start_s=PATIENCE_S,
        )
        self.running[sidecar.name] = Managed(spec, self.said.append)
        await self.running[sidecar.name].start()

    async def page(self, name: str, path: str) -> str:
        """One of an Envoy's own pages."""
        reader, writer = await asyncio.open_unix_connection(str(self.folder / name / "a"))
        writer.write(f"GET {path} HTTP/1.1\r\nHost: envoy\r\nConnection: close\r\n\r\n".encode())
        text = (await reader.read()).decode()
        writer.close()
        return text

    async def hosts(self, name: str, cluster: str) -> list[dict[str, Any]]:
        """The replicas as an Envoy sees them."""
        body = (await self.page(name, "/clusters?format=json")).partition("\r\n\r\n")[2]
        # The page comes in chunks.
        text = body[body.index("{") : body.rindex("}") + 1]
        clusters: list[dict[str, Any]] = json.loads(text)["cluster_statuses"]
        found: list[dict[str, Any]] = next(
            (each.get("host_statuses", []) for each in clusters if each["name"] == cluster), []
        )
        return found

    async def until_answered(self, egress: HostPort) -> None:
        """Until an Encoder is reached there: Envoy's workers know of a replica a little later than its pages."""
        async with open_channel(str(egress), services=[], instrument=False) as channel:
            stub = encoder_pb2_grpc.EncoderServiceStub(channel)

            async def answered() -> bool:
                return await stub.GetInfo(encoder_pb2.GetInfoRequest(), timeout=60).code() is grpc.StatusCode.OK

            await until(answered, f"an Encoder answers at {egress}")

    async def until_healthy(self, name: str, cluster: str, count: int) -> None:
        """Until as many replicas are healthy, as Envoy's pages say."""

        async def enough() -> bool:
            hosts = await self.hosts(name, cluster)
            healthy = [host for host in hosts if host["health_status"].get("eds_health_status") == "HEALTHY"]
            return sum(not host["health_status"].get("failed_active_health_check") for host in healthy) == count

        await until(enough, f"{count} replicas of {cluster} are healthy")


def shown_serial(place: HostPort, caller: ChannelSecurity) -> int:
    """Number of the certificate that a new connection is shown. Blocks."""
    context = ssl.create_default_context(cafile=caller.ca_file)
    context.load_cert_chain(caller.certificate_file, caller.key_file)
    context.set_alpn_protocols(["h2"])
    with (
        socket.create_connection((place.host, place.port), timeout=PATIENCE_S) as plain,
        context.wrap_socket(plain, server_hostname=place.host) as secure,
    ):
        return int(str((secure.getpeercert() or {})["serialNumber"]), 16)
