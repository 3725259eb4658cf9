"""Health of a process, right from its first millisecond: one state, which any number of servers can show."""

import asyncio
from collections.abc import AsyncIterator, Iterable
from typing import Any

from grpc_health.v1 import health_pb2, health_pb2_grpc

from lensmesh_chassis.errors import NotFound
from lensmesh_chassis.reasons import Reason
from lensmesh_chassis.rpc.status import abort

STARTING = "starting"
DRAINING = "draining"

LIVE = "live"
"""A name that is SERVING whenever the process answers at all: for whoever restarts processes that do not, such as a
liveness probe. A service that only waits, for its store or for its weights, must not be restarted for that."""

_SERVING: int = health_pb2.HealthCheckResponse.SERVING
_NOT_SERVING: int = health_pb2.HealthCheckResponse.NOT_SERVING
_UNKNOWN: int = health_pb2.HealthCheckResponse.SERVICE_UNKNOWN


class HealthState:
    """State of the services: which can do their work now, and why others cannot. To be used on the event loop.

    Services are known by their full names ("lensmesh.encoder.v1.EncoderService"). "" means all of them together: it is
    SERVING while every one is. A service starts as not serving. Once the process drains, nothing serves again. `LIVE`
    is none of them: it says only that the process answers.
    """

    def __init__(self) -> None:
        # Service -> why it does not serve, "" while it does.
        self._reasons: dict[str, str] = {}
        # The same of parts of a service, which may fail while the rest of it works.
        self._parts: dict[str, str] = {}
        self._draining = False
        self._closed = False
        self._changed = asyncio.Event()

    def add(self, services: Iterable[str]) -> None:
        """Add services. Each is starting, unless something was said about it before."""
        for service in services:
            self._reasons.setdefault(service, STARTING)
        self._tell()

    def started(self) -> None:
        """Set each service to serving that still waits for the start to end."""
        for service, reason in self._reasons.items():
            if reason == STARTING:
                self.serving(service)

    def serving(self, service: str) -> None:
        """Say that the service ("": each one) can do its work."""
        self._set(service, "")

    def not_serving(self, service: str, reason: str) -> None:
        """Say that the service ("": each one) cannot do its work. `reason` is for operators and must not be empty."""
        if not reason:
            raise ValueError("say why the service does not serve")
        self._set(service, reason)

    def set_reason(self, service: str, trouble: str) -> None:
        """Say that the service cannot do its work because of `trouble`, or that it can, where `trouble` is empty."""
        if trouble:
            self.not_serving(service, trouble)
        else:
            self.serving(service)

    def set_part_reason(self, name: str, trouble: str) -> None:
        """Say that the part `name` of the services' work fails because of `trouble`, or works, where that is empty.

        A part has a name of its own in grpc.health ("writes") and does not change what the services' names answer.
        """
        if not self._draining:
            self._parts[name] = trouble
            self._tell()

    def drain(self) -> None:
        """Say that the process goes away: nothing serves from now on, whatever is said later."""
        self._set("", DRAINING)
        self._draining = True
        self._tell()

    def close(self) -> None:
        """End every watch, so that a server with watchers can stop."""
        self._closed = True
        self._tell()

    def services(self) -> tuple[str, ...]:
        """Return the full names of all services."""
        return tuple(self._reasons)

    def reason(self) -> str:
        """Return why the process as a whole is not serving; "" while it is."""
        if self._draining:
            return DRAINING
        if not self._reasons:
            return STARTING
        return next((reason for reason in self._reasons.values() if reason), "")

    def trouble(self) -> str:
        """Return why the process, or a part of its work, does not serve; "" while all of it does."""
        return self.reason() or next((f"{name}: {why}" for name, why in self._parts.items() if why), "")

    def is_serving(self, service: str = "") -> bool:
        """Tell whether `service` can do its work. An unknown one is not serving."""
        return not (self.reason() if not service else self._reasons.get(service, STARTING))

    def _set(self, service: str, reason: str) -> None:
        if self._draining:
            return
        for name in [service] if service else list(self._reasons):
            self._reasons[name] = reason
        self._tell()

    def _tell(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    def status(self, service: str) -> int:
        """Return the HealthCheckResponse.ServingStatus of `service`."""
        if service == LIVE:
            return _SERVING
        if service in self._parts:
            return _NOT_SERVING if self._draining or self._parts[service] else _SERVING
        if service and service not in self._reasons:
            return _UNKNOWN
        return _SERVING if self.is_serving(service) else _NOT_SERVING

    async def watch(self, service: str) -> AsyncIterator[int]:
        """Yield the status now and after each change, until closed; the last one is yielded before the end."""
        last = None
        while True:
            changed, status = self._changed, self.status(service)
            if status != last:
                last = status
                yield status
            elif self._closed:
                return
            else:
                await changed.wait()


class HealthServicer(health_pb2_grpc.HealthServicer):  # type: ignore[misc] # grpc_health publishes no types
    """The service grpc.health.v1, which shows a Health.

    grpcio-health-checking has a servicer too, which is not used: it starts as SERVING, and it writes to watchers while
    it holds the lock that a change of state needs. So a watcher that stops reading keeps everybody else on the old
    state.
    """

    def __init__(self, health: HealthState) -> None:
        self._health = health

    async def Check(self, request: Any, context: Any) -> Any:
        status = self._health.status(request.service)
        if status == _UNKNOWN:
            await abort(context, NotFound(Reason.UNKNOWN, "this server has no such service"))
        return health_pb2.HealthCheckResponse(status=status)

    async def Watch(self, request: Any, context: Any) -> AsyncIterator[Any]:
        async for status in self._health.watch(request.service):
            yield health_pb2.HealthCheckResponse(status=status)
