"""Listeners beside a service's own server: for probes, for metrics, and the file that tells all addresses."""

import asyncio
import json
import os
from collections.abc import Sequence
from pathlib import Path

import grpc
from grpc_health.v1 import health_pb2_grpc
from prometheus_client import CollectorRegistry

from lensmesh_chassis.channels import Connections, server_options
from lensmesh_chassis.errors import PreconditionFailed
from lensmesh_chassis.process.addresses import ListenAddress, clear_stale_socket, explain_bind_failure, parse_address
from lensmesh_chassis.process.health import HealthServicer, HealthState
from lensmesh_chassis.reasons import Reason
from lensmesh_chassis.settings import ServiceSettings
from lensmesh_chassis.telemetry.metrics import MetricsEndpoint
from lensmesh_chassis.telemetry.process_metrics import LoopLag

# The health server answers probes: small messages, a few at a time.
_PROBES_EACH = 100
_PROBE_BYTES = 64 * 1024


class SideListeners:
    """The health server and the metrics endpoint of one process, where they are set, and its ready file."""

    def __init__(self, settings: ServiceSettings, health: HealthState, registry: CollectorRegistry) -> None:
        self._settings, self._health, self._registry = settings, health, registry
        self._lag = LoopLag(registry)
        self._health_server: grpc.aio.Server | None = None
        self._metrics: MetricsEndpoint | None = None
        self.health_address = ""
        self.metrics_address = ""

    def bind(self) -> None:
        """Take the addresses. Raises a LensmeshError that names the one in the way."""
        if self._settings.health_listen:
            probes = Connections(self._settings.max_connections, _PROBES_EACH)
            self._health_server = grpc.aio.server(options=server_options(_PROBE_BYTES, probes))
            health_pb2_grpc.add_HealthServicer_to_server(HealthServicer(self._health), self._health_server)
            at = parse_address(self._settings.health_listen)
            self.health_address = str(bind(self._health_server, at, None, "health_listen"))
        if self._settings.metrics_listen:
            self._lag.start()
            self._metrics = MetricsEndpoint(self._registry, parse_address(self._settings.metrics_listen))
            self.metrics_address = str(self._metrics.address)

    async def start(self, addresses: Sequence[str]) -> None:
        """Answer probes, and write where the service listens: `addresses`, and those of this object."""
        if self._health_server is not None:
            await self._health_server.start()
        _write_ready_file(self._settings.ready_file, addresses, self.health_address, self.metrics_address)

    def grpc_servers(self) -> Sequence[grpc.aio.Server]:
        """Return the servers that are to be stopped together with the service's own."""
        return () if self._health_server is None else (self._health_server,)

    async def stop(self) -> None:
        """Close the metrics endpoint and remove the ready file."""
        await self._lag.stop()
        if self._metrics is not None:
            await asyncio.to_thread(self._metrics.close)
        remove(self._settings.ready_file)


def bind(
    server: grpc.aio.Server, wanted: ListenAddress, credentials: grpc.ServerCredentials | None, setting: str
) -> ListenAddress:
    """Add an address to a gRPC server, and return the one it got. Raises what `explain_bind_failure` says."""
    if wanted.path:
        clear_stale_socket(wanted)
    try:
        if credentials is not None and not wanted.path:
            port = server.add_secure_port(str(wanted), credentials)
        else:
            port = server.add_insecure_port(str(wanted))
    except RuntimeError as error:
        raise explain_bind_failure(wanted, setting) from error
    if not port:
        raise explain_bind_failure(wanted, setting)
    return wanted if wanted.path else ListenAddress(host=wanted.host, port=port)


def remove(path: str) -> None:
    """Remove a file, if there is one."""
    if path:
        Path(path).unlink(missing_ok=True)


def _write_ready_file(name: str, addresses: Sequence[str], health: str, metrics: str) -> None:
    if not name:
        return
    content = {"addresses": list(addresses), "health": health, "metrics": metrics, "pid": os.getpid()}
    unfinished = Path(f"{name}.{os.getpid()}")
    try:
        unfinished.write_text(json.dumps(content), encoding="utf-8")
        unfinished.replace(name)
    except OSError as error:
        raise PreconditionFailed(
            Reason.OPTION_INVALID, f"ready_file {name!r} cannot be written: {error.strerror}", metadata={"file": name}
        ) from error
