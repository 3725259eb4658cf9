"""The HTTP server of the process: bound, started, drained and stopped in the order that the chassis asks for."""

import asyncio
import contextlib
import functools
import socket
import ssl
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import uvicorn
from prometheus_client import CollectorRegistry
from starlette.types import ASGIApp, Receive, Scope, Send

from http_svc.serving.calls import Calls
from http_svc.serving.certificates import ServerCertificate
from http_svc.serving.client_identities import ClientIdentities
from http_svc.serving.origins import Origins
from http_svc.serving.protocol import BoundedProtocol, BoundedSocket, OpenConnections
from http_svc.settings import HttpSettings
from lensmesh_chassis.process.addresses import (
    ListenAddress,
    clear_stale_socket,
    explain_bind_failure,
    parse_address,
    parse_addresses,
)
from lensmesh_chassis.process.health import HealthState
from lensmesh_chassis.process.side_listeners import SideListeners, remove
from lensmesh_chassis.rpc.interceptors import InFlight
from lensmesh_chassis.telemetry.logging import get_logger

_log = get_logger(__name__)

_BACKLOG = 2048
# After the last request has ended its answer still has to leave, in seconds.
_FLUSH_SECONDS = 2.0
# What a page may say over a WebSocket: nearly nothing.
_SOCKET_MESSAGE_BYTES = 16 * 1024


class HttpListeners:
    """The HTTP server of the front door, with the health server and the metrics endpoint where they are set."""

    def __init__(
        self,
        settings: HttpSettings,
        health: HealthState,
        draining: asyncio.Event,
        registry: CollectorRegistry,
        tracer_provider: Any | None,
    ) -> None:
        self._settings, self._health, self._draining = settings, health, draining
        self._started = asyncio.Event()
        self._in_flight = InFlight(settings.max_calls)
        self._side = SideListeners(settings, health, registry)
        self._listens = parse_addresses(settings.listen)
        self._origins = Origins(settings.origins, settings.hosts, self._listens)
        self._calls = Calls(
            settings, health, self._started, draining, self._in_flight, self._origins, registry, tracer_provider
        )
        self._connections = OpenConnections(settings.max_connections, settings.max_connection_age_seconds)
        self._calls.metrics.show_connections(self._connections)
        self._servers: list[_Server] = []
        self._running: list[asyncio.Task[None]] = []
        self._certificate: ServerCertificate | None = None
        self.handlers: Any = self
        self.addresses: tuple[str, ...] = ()

    @property
    def health_address(self) -> str:
        """Where probes are answered; "" where that is not set."""
        return self._side.health_address

    @property
    def metrics_address(self) -> str:
        """Where metrics are shown; "" where that is not set."""
        return self._side.metrics_address

    def answer_with(self, app: ASGIApp) -> None:
        """Set what answers requests: an ASGI application."""
        self._calls.app = app

    async def start(self, services: Sequence[str]) -> None:
        """Begin to answer: health, and everything else with 503 until `accept_calls`.

        Raises a LensmeshError that names the address, file or setting in the way. `stop` has to be called in any case.
        """
        remove(self._settings.ready_file)
        self._health.add(services)
        if self._settings.tls_certificate_file:
            self._certificate = ServerCertificate(self._settings)
        sockets: list[tuple[socket.socket, bool]] = []
        for wanted in self._listens:
            bound, address = _bind(wanted)
            sockets.append((bound, not wanted.path and self._certificate is not None))
            self.addresses += (str(address),)
        self._side.bind()
        for encrypted in (False, True):
            if those := [bound for bound, tls in sockets if tls is encrypted]:
                await self._serve(those, self._certificate.context if encrypted and self._certificate else None)
        if self._certificate is not None:
            self._running.append(asyncio.create_task(self._certificate.follow()))
        await self._side.start(self.addresses)

    async def _serve(self, sockets: list[socket.socket], context: ssl.SSLContext | None) -> None:
        settings = self._settings
        may_connect = ClientIdentities(settings.tls_client_ids if context is not None else "").may_connect
        protocol = functools.partial(BoundedProtocol, self._connections, settings.header_seconds, may_connect)
        config = uvicorn.Config(
            self._app,
            # A factory does as well as a class.
            http=protocol,  # type: ignore[arg-type]
            interface="asgi3",
            ws=BoundedSocket,
            ws_max_size=_SOCKET_MESSAGE_BYTES,
            # Asked so often whether it is there, a client has as long to answer.
            ws_ping_interval=settings.body_seconds,
            ws_ping_timeout=settings.body_seconds,
            lifespan="off",
            log_config=None,
            log_level="warning",
            access_log=False,
            server_header=False,
            proxy_headers=bool(settings.trusted_proxies),
            forwarded_allow_ips=settings.trusted_proxies or None,
            backlog=_BACKLOG,
            # A fraction of a second does as well as a whole number.
            timeout_keep_alive=settings.max_connection_idle_seconds or 10**9,  # type: ignore[arg-type]
            timeout_graceful_shutdown=1,
        )
        config.load()
        config.ssl = context
        server = _Server(config)
        self._servers.append(server)
        running = asyncio.create_task(server.serve(sockets))
        self._running.append(running)
        await asyncio.wait({running, asyncio.create_task(server.bound.wait())}, return_when=asyncio.FIRST_COMPLETED)
        if running.done():
            running.result()

    async def _app(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._calls(scope, receive, send)

    def accept_calls(self) -> None:
        """Take requests from now on: the service can work."""
        self._started.set()
        self._health.started()

    async def drain(self) -> None:
        """Say NOT_SERVING, let no new request in, and wait for those in flight, `drain_seconds` at most."""
        self._health.drain()
        self._draining.set()
        try:
            async with asyncio.timeout(self._settings.drain_seconds):
                await self._in_flight.wait_idle()
        except TimeoutError:
            _log.warning("requests cut off at the end of the drain", count=self._in_flight.count)

    async def stop(self) -> None:
        """Close everything. Requests still in flight are cancelled and waited for."""
        self._health.drain()
        self._health.close()
        for server in self._servers:
            server.should_exit = True
            server.force_exit = bool(self._in_flight.count)
        await self._calls.cancel_all()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_FLUSH_SECONDS):
                await self._in_flight.wait_idle()
        await asyncio.gather(*(server.stop(_FLUSH_SECONDS) for server in self._side.grpc_servers()))
        for task in self._running[len(self._servers) :]:
            task.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)
        await self._side.stop()
        for path in (address.path for address in map(parse_address, self.addresses)):
            remove(path)


class _Server(uvicorn.Server):
    """uvicorn without signals: those are the chassis' affair."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.bound = asyncio.Event()
        """Set once it listens."""

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.bound.set()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def _bind(wanted: ListenAddress) -> tuple[socket.socket, ListenAddress]:
    """Bind a socket. Raises what `explain_bind_failure` says."""
    if wanted.path:
        clear_stale_socket(wanted)
        bound = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            bound.bind(wanted.path)
        except OSError as error:
            bound.close()
            raise explain_bind_failure(wanted, "listen") from error
        return bound, ListenAddress(path=str(Path(wanted.path)))
    try:
        found = socket.getaddrinfo(wanted.host, wanted.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, kind, protocol, _, address = found[0]
        bound = socket.socket(family, kind, protocol)
    except OSError as error:
        raise explain_bind_failure(wanted, "listen") from error
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind(address)
    except OSError as error:
        bound.close()
        raise explain_bind_failure(wanted, "listen") from error
    return bound, ListenAddress(host=wanted.host, port=bound.getsockname()[1])
