"""The life of a service process: NOT_SERVING -> start -> SERVING -> signal -> NOT_SERVING -> drain -> stop."""

import asyncio
import functools
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Generic, Protocol

from prometheus_client import CollectorRegistry
from typing_extensions import TypeVar

from lensmesh.common.v1 import common_pb2
from lensmesh_chassis.errors import LensmeshError
from lensmesh_chassis.process.event_loop import loop_factory
from lensmesh_chassis.process.exit import give_up
from lensmesh_chassis.process.health import HealthState
from lensmesh_chassis.process.listeners import GrpcListeners, Listeners
from lensmesh_chassis.process.server_info import server_info, version
from lensmesh_chassis.settings import ServiceSettings, shown
from lensmesh_chassis.telemetry import tracing
from lensmesh_chassis.telemetry.error_tracking import capture, start_error_tracking, stop_error_tracking
from lensmesh_chassis.telemetry.logging import configure_logging, get_logger
from lensmesh_chassis.telemetry.process_metrics import describe_process

__all__ = ["App", "HealthState", "RunningServer", "Runtime", "run", "running"]

_log = get_logger(__name__)

# Longest time that App.stop gets, in seconds.
_STOP_SECONDS = 10.0
_FORCED = 1

S = TypeVar("S", bound=ServiceSettings, default=ServiceSettings)
MakeListeners = Callable[[Any, HealthState, asyncio.Event, CollectorRegistry, Any], Listeners]


@dataclass
class Runtime(Generic[S]):
    """Tools that the chassis gives to an App."""

    settings: S
    health: HealthState
    draining: asyncio.Event
    server_info: Callable[[], common_pb2.ServerInfo]
    # For metrics of the App's own; shown by the same endpoint as the chassis'.
    registry: CollectorRegistry = field(default_factory=CollectorRegistry)
    # Whose spans the App's own are; None: nothing is traced.
    tracer_provider: Any | None = None
    # Ends the process at once, from any thread, with exit code 70: for an App that finds that something in it will
    # never end. None where the process is not the service's own.
    give_up: Callable[[], None] | None = None


class App(Protocol):
    """The part that a service implements."""

    def register(self, server: Any) -> Sequence[str]:
        """Add the servicers; do nothing else: what is given takes handlers and is no whole server.

        Return the full names of their services, for reflection and health.
        """

    async def start(self) -> None:
        """Load, connect and warm up. Meanwhile the server answers health already and refuses calls.

        When it returns, each service is SERVING unless `start` has called it not serving. If it raises, the process
        ends with the error's message and exit code 1.
        """

    async def stop(self) -> None:
        """Release everything. It is called once, after the last call ended, even where `start` failed."""


@dataclass(frozen=True)
class RunningServer:
    """A server in this process, for tests.

    Addresses have the form that a channel takes; "" for an endpoint that is off.
    """

    addresses: tuple[str, ...]
    health_address: str
    metrics_address: str
    runtime: Runtime[Any]

    @property
    def address(self) -> str:
        """The first address."""
        return self.addresses[0]


class _Service(Generic[S]):
    """An App with its servers."""

    def __init__(
        self,
        settings: S,
        build: Callable[[Runtime[S]], App],
        name: str,
        tracer_provider: Any | None,
        give_up: Callable[[], None] | None = None,
        listeners: "MakeListeners" = GrpcListeners,
    ) -> None:
        self._name = name
        health, draining, registry = HealthState(), asyncio.Event(), CollectorRegistry()
        info = server_info(settings.instance, health.trouble)
        self.runtime: Runtime[S] = Runtime(settings, health, draining, info, registry, tracer_provider, give_up)
        describe_process(registry, name, health, settings.restarts)
        self.app = build(self.runtime)
        self.host = listeners(settings, health, draining, registry, tracer_provider)

    async def start(self) -> None:
        """Start the servers, then the App. Raises what the App raises; `stop` has to be called in any case."""
        await self.host.start(self.app.register(self.host.handlers))
        await self.app.start()
        self.host.accept_calls()

    async def stop(self, *, drain: bool) -> None:
        try:
            if drain:
                await self.host.drain()
        finally:
            await self.host.stop()
            try:
                async with asyncio.timeout(_STOP_SECONDS):
                    await self.app.stop()
            except TimeoutError:
                _log.error(f"{self._name} did not stop in time", seconds=_STOP_SECONDS)


@asynccontextmanager
async def running(
    settings: S,
    build: Callable[[Runtime[S]], App],
    service: str,
    *,
    tracer_provider: Any | None = None,
    listeners: MakeListeners = GrpcListeners,
) -> AsyncIterator[RunningServer]:
    """Run a service inside this event loop, started when entered, drained and stopped when left. For tests.

    Neither logging nor signals nor the global tracer provider are touched; `tracer_provider` gets the server's spans.
    """
    one = _Service(settings, build, service, tracer_provider, listeners=listeners)
    try:
        await one.start()
        yield RunningServer(one.host.addresses, one.host.health_address, one.host.metrics_address, one.runtime)
    finally:
        await one.stop(drain=True)


def run(
    settings: S, build: Callable[[Runtime[S]], App], service: str, *, listeners: MakeListeners = GrpcListeners
) -> None:
    """Run a service until SIGTERM or SIGINT, then drain it; a second signal ends the process at once.

    Never returns: exits.

    Exit codes: 0 after a drain, 1 where the service could not start or was forced, 70 where it gave up by itself
    (`Runtime.give_up`). `service` ("encoder") names it in logs and traces. `listeners` is what it listens with.
    """
    configure_logging(settings.log_level, settings.log_format, service=service, instance=settings.instance)
    _log.info("settings", version=version(), pid=os.getpid(), settings=shown(settings))
    start_error_tracking(settings, service)
    provider = tracing.start_tracing(service, settings.instance)
    try:
        with asyncio.Runner(loop_factory=loop_factory(settings.event_loop)) as runner:
            code = runner.run(_until_signal(settings, build, service, provider, listeners))
    finally:
        stop_error_tracking()
        tracing.stop_tracing(provider)
    sys.exit(code)


async def _until_signal(
    settings: S,
    build: Callable[[Runtime[S]], App],
    service: str,
    provider: Any | None,
    listeners: MakeListeners,
) -> int:
    asked = asyncio.Event()
    _listen_for_signals(asked)
    stopping = asyncio.create_task(asked.wait())
    one: _Service[S] | None = None
    serving = False
    try:
        one = _Service(settings, build, service, provider, functools.partial(give_up, provider), listeners)
        starting = asyncio.create_task(one.start())
        await asyncio.wait({starting, stopping}, return_when=asyncio.FIRST_COMPLETED)
        if not starting.done():
            _log.info("asked to stop while starting")
            starting.cancel()
            await asyncio.wait({starting})
        else:
            starting.result()  # raises why it failed
            serving = True
            _log.info(
                f"{service} answers",
                addresses=one.host.addresses,
                health=one.host.health_address,
                metrics=one.host.metrics_address,
                event_loop=type(asyncio.get_running_loop()).__module__.partition(".")[0],
                not_serving_reason=one.runtime.health.reason(),
            )
            await stopping
            _log.info("draining", seconds=settings.drain_seconds)
        code = 0
    except Exception as error:  # noqa: BLE001 - the edge of the process: said, and told by the exit code
        _say_why(f"{service} cannot start", error)
        code = 1
    try:
        stopping.cancel()
        if one is not None:
            await one.stop(drain=serving)
    except Exception as error:  # noqa: BLE001 - as above
        _say_why(f"{service} did not stop cleanly", error)
        code = 1
    _log.info(f"{service} stopped", exit_code=code)
    return code


def _say_why(what: str, error: Exception) -> None:
    """Log one line where the error is meant for people, a traceback where it is a bug."""
    capture(error)
    if isinstance(error, LensmeshError):
        _log.critical(f"{what}: {error.message}", reason=str(error.reason))
    else:
        _log.critical(f"{what}: unexpected {type(error).__name__}: {error}", exc_info=error)


def _listen_for_signals(asked: asyncio.Event) -> None:
    loop = asyncio.get_running_loop()

    def first() -> None:
        asked.set()
        for each in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(each)
            # Not through the loop: a loop that hangs is a reason to force.
            signal.signal(each, force)

    def force(_number: int, _frame: Any) -> None:
        sys.stderr.write("second signal: calls in flight are dropped\n")
        sys.stderr.flush()
        os._exit(_FORCED)

    for each in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(each, first)
