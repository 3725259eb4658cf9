"""Who is let in: the bounds that all requests share, and the requests that run."""

import asyncio
from typing import Any

from prometheus_client import CollectorRegistry
from starlette.types import ASGIApp, Receive, Scope, Send

from http_svc.serving.body import room_for_bodies
from http_svc.serving.metrics import HttpMetrics
from http_svc.serving.origins import Origins
from http_svc.serving.rates import ClientRates
from http_svc.serving.request import ServedRequest, later
from http_svc.serving.spans import RequestSpans
from http_svc.settings import HttpSettings
from lensmesh_chassis.process.health import HealthState
from lensmesh_chassis.process.memory import container_limit_bytes
from lensmesh_chassis.reasons import Reason
from lensmesh_chassis.rpc.interceptors import InFlight


class Calls:
    """An ASGI application around `app`."""

    def __init__(
        self,
        settings: HttpSettings,
        health: HealthState,
        started: asyncio.Event,
        draining: asyncio.Event,
        in_flight: InFlight,
        origins: Origins,
        registry: CollectorRegistry,
        tracer_provider: Any | None,
    ) -> None:
        self.app: ASGIApp | None = None
        self.metrics = HttpMetrics(registry)
        self._settings, self._health, self._started, self._draining = settings, health, started, draining
        self._in_flight, self._origins = in_flight, origins
        self._spans = RequestSpans(tracer_provider)
        self._room = room_for_bodies(settings, settings.memory_bytes or container_limit_bytes())
        self._rates = ClientRates(settings.client_rate, settings.client_burst)
        self._running: set[asyncio.Task[Any]] = set()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            return
        headers = dict(reversed(scope["headers"]))
        one = ServedRequest(self, scope, receive, send, headers)
        task = asyncio.current_task()
        assert task is not None
        self._running.add(task)
        try:
            async with self._room.share() as room:
                await one.run(task, room)
        finally:
            self._running.discard(task)

    async def cancel_all(self) -> None:
        """End the requests that still run."""
        for task in tuple(self._running):
            task.cancel()

    def admit(self, client: str) -> None:
        """Let a request in, or raise why it may not come in now."""
        self._rates.take(client)
        if self._in_flight.limit:
            self._in_flight.check(self._in_flight.count, self._in_flight.limit)
        if self._draining.is_set():
            raise later(Reason.DRAINING, "the service is shutting down: send the request to another replica")
        if not self._started.is_set():
            raise later(Reason.NOT_READY, f"the service is not ready yet ({self._health.reason()}): try again")

    @property
    def settings(self) -> HttpSettings:
        """The settings of the process."""
        return self._settings

    @property
    def origins(self) -> Origins:
        """Who may ask from a browser."""
        return self._origins

    @property
    def spans(self) -> RequestSpans:
        """What makes the spans of requests."""
        return self._spans

    @property
    def in_flight(self) -> InFlight:
        """The requests that run now."""
        return self._in_flight

    @property
    def draining(self) -> bool:
        """True once the process goes away."""
        return self._draining.is_set()
