"""The servers of one process: bound, started, drained and stopped in the right order."""

import asyncio
import contextlib
from collections.abc import Sequence
from typing import Any, Protocol, cast

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection, reflection_pb2_grpc
from prometheus_client import CollectorRegistry

from lensmesh_chassis.channels import Connections, server_options
from lensmesh_chassis.limits import transport_bytes
from lensmesh_chassis.messages.budget import MessageBudget
from lensmesh_chassis.process.addresses import parse_address, parse_addresses
from lensmesh_chassis.process.health import HealthServicer, HealthState
from lensmesh_chassis.process.memory import container_limit_bytes, give_back_free, resident_bytes
from lensmesh_chassis.process.side_listeners import SideListeners, bind, remove
from lensmesh_chassis.rpc.interceptors import InFlight, ReadinessInterceptor, in_order
from lensmesh_chassis.rpc.served import ServedMethods
from lensmesh_chassis.settings import ServiceSettings
from lensmesh_chassis.telemetry import tracing
from lensmesh_chassis.telemetry.bound_metrics import BoundMetrics
from lensmesh_chassis.telemetry.logging import get_logger
from lensmesh_chassis.telemetry.metrics import CallMetrics
from lensmesh_chassis.tls.callers import Callers
from lensmesh_chassis.tls.credentials import server_credentials
from lensmesh_chassis.tls.identities import parse_identities

_log = get_logger(__name__)

_HEALTH_SERVICE = health_pb2.DESCRIPTOR.services_by_name["Health"].full_name
# After the last call has ended its status still has to leave, in seconds.
_FLUSH_SECONDS = 2.0
# Calls of one client that arrive together and exceed `max_calls` are refused with a reason, up to so many times as
# many; what is beyond waits in the client.
_CALLS_EACH = 8


class Listeners(Protocol):
    """What a service listens with. `handlers` is what an App registers itself at."""

    handlers: Any
    addresses: tuple[str, ...]

    @property
    def health_address(self) -> str:
        """Where probes are answered; "" where that is not set."""

    @property
    def metrics_address(self) -> str:
        """Where metrics are shown; "" where that is not set."""

    async def start(self, services: Sequence[str]) -> None:
        """Begin to answer health, and to refuse calls. `stop` has to be called in any case."""

    def accept_calls(self) -> None:
        """Take calls from now on."""

    async def drain(self) -> None:
        """Say NOT_SERVING, let no new call in, and wait for those in flight, `drain_seconds` at most."""

    async def stop(self) -> None:
        """Close everything."""


class GrpcListeners:
    """The gRPC server of a service, with the health server and the metrics endpoint where they are set."""

    def __init__(
        self,
        settings: ServiceSettings,
        health: HealthState,
        draining: asyncio.Event,
        registry: CollectorRegistry,
        tracer_provider: Any | None,
    ) -> None:
        self._settings, self._health, self._draining, self._registry = settings, health, draining, registry
        self._started = asyncio.Event()
        self._in_flight = InFlight(settings.max_calls)
        memory = settings.memory_bytes or container_limit_bytes()
        self.budget = MessageBudget(
            settings.message_bytes,
            message_bytes=transport_bytes(settings.max_message_bytes),
            lasting_bytes=memory // 6,
            answer_bytes=memory // 4,
            memory_bytes=memory,
            resident=resident_bytes,
            trim=give_back_free,
        )
        BoundMetrics(registry, self._in_flight, self.budget)
        readiness = ReadinessInterceptor(health, self._started, draining, self._in_flight)
        identities = parse_identities(settings.tls_client_ids)
        callers = Callers(identities) if identities else None
        metrics = CallMetrics(registry)
        self._methods = ServedMethods(
            in_order(tracing.server_interceptors(tracer_provider), metrics, readiness, callers),
            self.budget,
            max_message_bytes=settings.max_message_bytes,
            counts=metrics.messages,
        )
        # In the place of a server to whoever adds handlers.
        self.handlers: Any = cast("grpc.aio.Server", self._methods)
        self._server = grpc.aio.server(
            handlers=(self._methods,),
            options=server_options(
                settings.max_message_bytes,
                Connections(
                    settings.max_connections,
                    _CALLS_EACH * settings.max_calls,
                    settings.max_connection_age_seconds,
                    settings.max_connection_idle_seconds,
                ),
            ),
        )
        self._side = SideListeners(settings, health, registry)
        self.addresses: tuple[str, ...] = ()

    @property
    def health_address(self) -> str:
        """Where probes are answered; "" where that is not set."""
        return self._side.health_address

    @property
    def metrics_address(self) -> str:
        """Where metrics are shown; "" where that is not set."""
        return self._side.metrics_address

    async def start(self, services: Sequence[str]) -> None:
        """Begin to answer: health and reflection, and all calls with UNAVAILABLE until `accept_calls`.

        Raises a LensmeshError that names the address, file or setting in the way. `stop` has to be called in any case.
        """
        remove(self._settings.ready_file)
        self._health.add(services)
        health_pb2_grpc.add_HealthServicer_to_server(HealthServicer(self._health), self.handlers)
        reflected = reflection.aio.ReflectionServicer((*services, _HEALTH_SERVICE, reflection.SERVICE_NAME))
        reflection_pb2_grpc.add_ServerReflectionServicer_to_server(reflected, self.handlers)
        credentials = server_credentials(self._settings)
        for wanted in parse_addresses(self._settings.listen):
            self.addresses += (str(bind(self._server, wanted, credentials, "listen")),)
        self._side.bind()
        await self._server.start()
        await self._side.start(self.addresses)

    def accept_calls(self) -> None:
        """Take calls from now on: the service can work."""
        self._started.set()
        self._health.started()

    async def drain(self) -> None:
        """Say NOT_SERVING, let no new call in, and wait for those in flight, `drain_seconds` at most."""
        self._health.drain()
        self._draining.set()
        try:
            async with asyncio.timeout(self._settings.drain_seconds):
                await self._in_flight.wait_idle()
        except TimeoutError:
            _log.warning("calls cut off at the end of the drain", count=self._in_flight.count)

    async def stop(self) -> None:
        """Close everything. Calls still in flight are cancelled and waited for."""
        self._health.drain()
        self._health.close()
        grace = 0.0 if self._in_flight.count else _FLUSH_SECONDS
        await asyncio.gather(*(server.stop(grace) for server in (self._server, *self._side.grpc_servers())))
        # gRPC has told the handlers to end; what they clean up may still need the App.
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_FLUSH_SECONDS):
                await self._in_flight.wait_idle()
        await self._side.stop()
        for path in (address.path for address in map(parse_address, self.addresses)):
            remove(path)
