"""The Envoys of a mesh on this machine: their ports, their certificates, and how each one is started."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lensmesh_chassis.errors import LensmeshError
from lensmesh_chassis.process.addresses import MAX_UNIX_PATH_BYTES
from lensmesh_chassis.tls.credentials import ChannelSecurity
from lensmesh_local.process import Spec, StartError
from lensmesh_local.sidecars.bootstrap import bootstrap
from lensmesh_local.sidecars.certificates import Authority, Files
from lensmesh_local.sidecars.model import CALLS, EGRESS, HTTP, INBOUND, Egress, HostPort, Inbound, Sidecar, Trust
from lensmesh_local.sidecars.ports import Reserved
from lensmesh_local.sidecars.secrets import secret_files

LOCAL = "127.0.0.1"
RENEW_S = 24 * 3600.0
CLIENT = "client"
_SERVICES_OWN_TLS = ("TLS_CERTIFICATE_FILE", "PEER_CA_FILE")


class LocalSidecars:
    """An Envoy for each service that speaks gRPC. `ports`: the services' own, 0 for free ones.

    `host`: where the router's Envoy is called.
    """

    def __init__(self, data: Path, ports: Mapping[str, int], host: str) -> None:
        self._data = data
        self._ports = ports
        self._host = host
        self._reserved = Reserved()
        self._trust = Trust()
        self._authority = Authority()
        self._inbound: dict[str, HostPort] = {}
        self._egress: dict[str, HostPort] = {}

    @property
    def client(self) -> ChannelSecurity:
        """Certificates that a caller of the router shows and trusts."""
        files = Files(self._folder(CLIENT))
        return ChannelSecurity(str(files.ca), str(files.certificate), str(files.key))

    def prepare(self) -> None:
        """Take the ports and make the certificates. Raises StartError."""
        for service, _ in self._own_ports():
            for name in _SERVICES_OWN_TLS:
                if os.environ.get(variable := f"LENSMESH_{service.upper()}_{name}"):
                    raise StartError(
                        f"unset {variable}: with --sidecars the TLS is Envoy's, and services take plain text"
                    )
        try:
            for service, port in self._own_ports():
                host = self._host if service == "router" else LOCAL
                self._inbound[service] = self._reserved.take(host, port and port + INBOUND)
            for service in CALLS["router"]:
                port = self._ports[service]
                self._egress[service] = self._reserved.take(LOCAL, port and port + EGRESS)
        except LensmeshError as error:
            raise StartError(error.message) from error
        self.renew()

    def renew(self) -> None:
        """Make fresh certificates for all; the Envoys take them up while they run."""
        for name in (*(service for service, _ in self._own_ports()), CLIENT):
            # A client checks the host that it called; between Envoys the identity counts.
            names = ("localhost", LOCAL, *({self._host} - {"0.0.0.0", "::", LOCAL}))
            self._authority.issue(self._folder(name), self._trust.id(name), names=names)

    def _own_ports(self) -> list[tuple[str, int]]:
        """Return the services that have an Envoy, with their ports. The front door calls as a client does."""
        return [(service, self._ports[service]) for service in CALLS if service != HTTP]

    async def renew_forever(self) -> None:
        """Renew the certificates on a timer, long before they expire."""
        while True:
            await asyncio.sleep(RENEW_S)
            await asyncio.to_thread(self.renew)

    def close(self) -> None:
        """Release the ports."""
        self._reserved.close()

    def address(self, service: str) -> str:
        """Return "host:port" where the service's Envoy takes mutual TLS."""
        place = self._inbound[service]
        return str(HostPort({"0.0.0.0": LOCAL, "::": "::1"}.get(place.host, place.host), place.port))

    def settings(self, service: str) -> dict[str, str]:
        """Return the settings by which the service calls its neighbours through its Envoy."""
        return {f"{called.upper()}_TARGETS": str(self._egress[called]) for called in CALLS[service]}

    def spec(self, service: str, own: str) -> Spec:
        """Return how to run the Envoy beside a service that takes plain text at `own`."""
        name = f"{service}-envoy"
        folder = self._data / "run" / name
        folder.mkdir(parents=True, exist_ok=True)
        admin = str(folder / "admin.sock")
        sidecar = Sidecar(
            name=service,
            certificates=str(self._folder(service)),
            configuration=str(folder),
            inbound=Inbound(service, self._inbound[service], HostPort.parse(own), self._trust.callers(service)),
            egress=tuple(
                Egress(called, self._egress[called], (self._inbound[called],), self._trust.id(called))
                for called in CALLS[service]
            ),
            admin=admin if len(os.fsencode(admin)) <= MAX_UNIX_PATH_BYTES else None,
        )
        configuration = write(sidecar, folder)
        ready = self._data / "run" / f"{name}.json"
        places = [self._inbound[service], *(self._egress[called] for called in CALLS[service])]

        async def listens(_: Mapping[str, Any]) -> bool:
            return all([await _answers(place) for place in places])

        return Spec(
            name=name,
            module="lensmesh_local.sidecars.process",
            arguments=(str(configuration), str(ready)),
            ready_file=ready,
            log_file=self._data / "logs" / f"{name}.log",
            serving=listens,
            start_s=60.0,
        )

    def _folder(self, name: str) -> Path:
        return self._data / "tls" / name


def write(sidecar: Sidecar, folder: Path) -> Path:
    """Write every file that the Envoy reads into `folder`. Return the one it is started with. JSON is YAML, too."""
    for name, tree in secret_files(sidecar).items():
        (folder / f"{name}.yaml").write_text(json.dumps(tree, indent=1))
    configuration = folder / "envoy.yaml"
    configuration.write_text(json.dumps(bootstrap(sidecar), indent=1))
    return configuration


async def _answers(place: HostPort) -> bool:
    host = {"0.0.0.0": LOCAL, "::": "::1"}.get(place.host, place.host)
    with contextlib.suppress(OSError):
        _, writer = await asyncio.open_connection(host, place.port)
        writer.close()
        return True
    return False
