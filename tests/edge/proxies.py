"""Programs at the edge, real ones, each with the configuration of this repository led to free ports."""

from __future__ import annotations

import asyncio
import signal
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from lensmesh_chassis.tls.credentials import ChannelSecurity
from lensmesh_local.sidecars.certificates import Authority
from lensmesh_local.sidecars.model import Edge, HostPort, Sidecar
from lensmesh_local.sidecars.ports import Reserved
from tests.sidecars.envoys import LOCAL, Envoys
from tests.support.tools import ROOT, need
from tests.support.waiting import until

ORIGIN = "https://app.example.org"


@dataclass(frozen=True)
class Proxy:
    """One that runs: where it listens, and whom its callers trust."""

    name: str
    address: str
    ca_file: str

    @property
    def security(self) -> ChannelSecurity:
        return ChannelSecurity(ca_file=self.ca_file)

    @property
    def context(self) -> ssl.SSLContext:
        return ssl.create_default_context(cafile=self.ca_file)


@asynccontextmanager
async def envoy(folder: Path, router: str, door: str) -> AsyncIterator[Proxy]:
    """The Envoy of the component edge-plain, with an origin that may call by gRPC-Web."""
    async with Envoys(folder) as envoys:
        place = envoys.free()
        public = envoys.certificate("public", "")
        made = Edge(place, (HostPort.parse(router),), identity="", doors=(HostPort.parse(door),), origins=(ORIGIN,))
        sidecar = Sidecar(
            name="edge",
            certificates=str(envoys.certificate("edge").folder),
            configuration=str(folder / "edge"),
            edge=made,
            edge_certificates=str(public.folder),
            admin=str(folder / "edge" / "a"),
        )
        await envoys.start(sidecar, place)
        await envoys.until_healthy("edge", "edge", 1)
        await envoys.until_healthy("edge", "doors", 1)
        yield Proxy("envoy", str(place), str(public.ca))


@asynccontextmanager
async def nginx(folder: Path, router: str, door: str) -> AsyncIterator[Proxy]:
    """NGINX with deploy/edge/nginx.conf."""
    ports = Reserved()
    place = ports.take(LOCAL, 0)
    files = Authority().issue(folder / "tls", "")
    text = (ROOT / "deploy" / "edge" / "nginx.conf").read_text()
    changes = {
        "pid /var/run/nginx.pid;": f"pid {folder}/nginx.pid;\ndaemon off;",
        "worker_processes auto;": "worker_processes 1;",
        "server router:50050;": f"server {router};",
        "server http:50054;": f"server {door};",
        # The port stays kept from others, and NGINX shares it.
        "listen 8443 ssl http2;": f"listen {place} ssl http2 reuseport;",
        "/etc/nginx/tls/tls.crt": str(files.certificate),
        "/etc/nginx/tls/tls.key": str(files.key),
    }
    for here, there in changes.items():
        assert text.count(here) == 1, here
        text = text.replace(here, there)
    for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"):
        text = text.replace("http {", f"http {{\n    {name}_temp_path {folder}/{name};", 1)
    configuration, log = folder / "nginx.conf", folder / "log"
    configuration.write_text(text)
    with log.open("wb") as output:
        process = await asyncio.create_subprocess_exec(
            need("nginx"), "-p", folder, "-e", "stderr", "-c", configuration, stdout=output, stderr=output
        )

    async def listens() -> bool:
        assert process.returncode is None, log.read_text()
        try:
            _, writer = await asyncio.open_connection(place.host, place.port)
        except OSError:
            return False
        writer.close()
        return True

    try:
        await until(listens, "NGINX listens")
        yield Proxy("nginx", str(place), str(files.ca))
    finally:
        if process.returncode is None:
            process.send_signal(signal.SIGTERM)
        await process.wait()
        ports.close()
