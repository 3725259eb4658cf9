"""The figures that `lensmesh top` shows, computed from what changed between two looks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from lensmesh_cli.top.looks import SERVICES, Look, LookDifference

INFRASTRUCTURE = ("grpc.health.", "grpc.reflection.")
REQUESTS = "lensmesh_http_requests_total"
RPC_ROUTES = "/lensmesh."
Seconds = float | None


@dataclass(frozen=True)
class Spread:
    """The median and the slow ends of a histogram, in seconds; None where nothing was observed."""

    p50: Seconds
    p95: Seconds
    p99: Seconds


@dataclass(frozen=True)
class Process:
    """A process. `failure` says why its endpoint does not answer; all numbers are 0 then."""

    service: str
    address: str
    failure: str = ""
    serving: bool = False
    calls_per_s: float = 0.0
    errors_per_s: float = 0.0
    in_flight: float = 0.0
    cpu: float = 0.0
    memory_bytes: float = 0.0
    lag_p99_s: Seconds = None
    restarts: float = 0.0


@dataclass(frozen=True)
class Method:
    """A method of one kind of service."""

    service: str
    method: str
    calls_per_s: float
    errors_per_s: float
    seconds: Spread


@dataclass(frozen=True)
class EngineFigures:
    """The queue and device of one model.

    `full` is the share of room that is taken in the fuller lane. `cached` is the share of items that were answered
    without the model, None where there were no items.
    """

    service: str
    model: str
    items_per_s: float
    queued: dict[str, float]
    full: float
    wait_s: float
    batch_items: float | None
    busy: float
    cached: float | None
    queue: Spread
    forward: Spread


@dataclass(frozen=True)
class Ingest:
    """The images that are being ingested."""

    items_per_s: dict[str, float]
    in_flight_items: float
    in_flight_bytes: float
    seconds: Spread


@dataclass(frozen=True)
class Operation:
    """An operation of the store."""

    operation: str
    per_s: float
    errors_per_s: float
    seconds: Spread


@dataclass(frozen=True)
class MeshFigures:
    """The figures of one frame."""

    processes: list[Process]
    methods: list[Method]
    engines: list[EngineFigures]
    ingest: Ingest | None
    store: list[Operation]


def figures(before: Sequence[Look], after: Sequence[Look]) -> MeshFigures:
    """Compute what happened between two looks. An endpoint that answered only once has no rates yet."""
    first = {look.address: look for look in before if look.samples is not None}
    pairs = [(first.get(look.address, look), look) for look in after if look.samples is not None]
    processes = [
        _process(after, LookDifference([(first.get(after.address, after), after)]))
        if after.samples is not None
        else Process(_was(first, after), after.address, after.failure)
        for after in after
    ]
    by_service = {
        service: LookDifference([pair for pair in pairs if pair[1].component == service])
        for service in SERVICES
        if any(pair[1].component == service for pair in pairs)
    }
    router, search = by_service.get("router"), by_service.get("search")
    return MeshFigures(
        processes=processes,
        methods=[method for service, change in by_service.items() for method in _methods(service, change)],
        engines=[engine for service, change in by_service.items() for engine in _engines(service, change)],
        ingest=_ingest(router) if router else None,
        store=_operations(search) if search else [],
    )


def _was(first: dict[str, Look], now: Look) -> str:
    return first[now.address].component if now.address in first else ""


def _spread(change: LookDifference, name: str, **labels: str) -> Spread:
    p50, p95, p99 = (change.quantile(share, name, **labels) for share in (0.5, 0.95, 0.99))
    return Spread(p50, p95, p99)


def _services(change: LookDifference, name: str) -> list[str]:
    return [value for value in change.values(name, "grpc_service") if not value.startswith(INFRASTRUCTURE)]


def _calls(change: LookDifference) -> tuple[float, float]:
    """Return calls and failed calls per second."""
    calls = failed = 0.0
    for service in _services(change, "grpc_server_handled_total"):
        rate = change.rate("grpc_server_handled_total", grpc_service=service)
        calls += rate
        failed += rate - change.rate("grpc_server_handled_total", grpc_service=service, grpc_code="OK")
    return calls + change.rate(REQUESTS), max(0.0, failed) + _server_errors(change)


def _server_errors(change: LookDifference, **labels: str) -> float:
    """Return the requests per second that the front door answered with a 5xx: the others are their client's errors."""
    codes = [code for code in change.values(REQUESTS, "status") if code.startswith("5")]
    return sum(change.rate(REQUESTS, status=code, **labels) for code in codes)


def _process(look: Look, change: LookDifference) -> Process:
    calls, failed = _calls(change)
    services = change.values("lensmesh_health_serving", "service")
    return Process(
        service=look.component,
        address=look.address,
        serving=all(change.now("lensmesh_health_serving", service=service) for service in services),
        calls_per_s=calls,
        errors_per_s=failed,
        in_flight=sum(
            change.now("grpc_server_in_flight", grpc_service=service)
            for service in _services(change, "grpc_server_in_flight")
        )
        + change.now("lensmesh_http_in_flight"),
        cpu=change.rate("process_cpu_seconds_total"),
        memory_bytes=change.now("process_resident_memory_bytes"),
        lag_p99_s=change.quantile(0.99, "lensmesh_event_loop_lag_seconds"),
        restarts=change.now("lensmesh_restarts_total"),
    )


def _methods(service: str, change: LookDifference) -> list[Method]:
    found = []
    for full_name in _services(change, "grpc_server_started_total"):
        for method in change.values("grpc_server_started_total", "grpc_method"):
            labels = {"grpc_service": full_name, "grpc_method": method}
            if not change.now("grpc_server_started_total", **labels):
                continue
            calls = change.rate("grpc_server_handled_total", **labels)
            failed = max(0.0, calls - change.rate("grpc_server_handled_total", grpc_code="OK", **labels))
            found.append(
                Method(service, method, calls, failed, _spread(change, "grpc_server_handling_seconds", **labels))
            )
    return sorted([*found, *_routes(service, change)], key=lambda method: -method.calls_per_s)


def _routes(service: str, change: LookDifference) -> list[Method]:
    """Return the routes of the front door that were asked. Those of the contracts are shown by service and method."""
    return [
        Method(
            service,
            f"{method} {route.rpartition('.')[2] if route.startswith(RPC_ROUTES) else route}",
            change.rate(REQUESTS, **labels),
            _server_errors(change, **labels),
            _spread(change, "lensmesh_http_request_seconds", **labels),
        )
        for route in change.values(REQUESTS, "route")
        for method in change.values(REQUESTS, "method")
        if change.now(REQUESTS, **(labels := {"route": route, "method": method}))
    ]


def _engines(service: str, change: LookDifference) -> list[EngineFigures]:
    found = []
    for model in change.values("lensmesh_engine_queue_items", "model"):
        lanes = change.values("lensmesh_engine_queue_items", "lane")
        queued = {lane: change.now("lensmesh_engine_queue_items", model=model, lane=lane) for lane in lanes}
        held = {lane: change.now("lensmesh_engine_queue_bytes", model=model, lane=lane) for lane in lanes}
        most_items = change.now("lensmesh_engine_queue_limit_items", model=model)
        most_bytes = change.now("lensmesh_engine_queue_limit_bytes", model=model)
        found.append(
            EngineFigures(
                service=service,
                model=model,
                items_per_s=change.rate("lensmesh_engine_queue_seconds_count", model=model),
                queued=queued,
                full=max(max(queued.values()) / most_items, max(held.values()) / most_bytes),
                wait_s=change.now("lensmesh_engine_predicted_wait_seconds", model=model),
                batch_items=change.mean("lensmesh_engine_batch_items", model=model),
                busy=change.rate("lensmesh_engine_forward_seconds_sum", model=model),
                cached=_cached(change, model),
                queue=_spread(change, "lensmesh_engine_queue_seconds", model=model),
                forward=_spread(change, "lensmesh_engine_forward_seconds", model=model),
            )
        )
    return found


def _cached(change: LookDifference, model: str) -> float | None:
    asked = change.rate("lensmesh_cache_requests_total", model=model)
    return 1 - change.rate("lensmesh_cache_requests_total", model=model, outcome="miss") / asked if asked else None


def _ingest(change: LookDifference) -> Ingest:
    outcomes = change.values("lensmesh_ingest_items_total", "outcome")
    return Ingest(
        items_per_s={outcome: change.rate("lensmesh_ingest_items_total", outcome=outcome) for outcome in outcomes},
        in_flight_items=change.now("lensmesh_ingest_in_flight_items"),
        in_flight_bytes=change.now("lensmesh_ingest_in_flight_bytes"),
        seconds=_spread(change, "lensmesh_ingest_item_seconds"),
    )


def _operations(change: LookDifference) -> list[Operation]:
    name = "lensmesh_store_operation_seconds"
    return [
        Operation(
            operation,
            change.rate(f"{name}_count", operation=operation),
            change.rate("lensmesh_store_errors_total", operation=operation),
            _spread(change, name, operation=operation),
        )
        for operation in change.values(f"{name}_count", "operation")
        if change.now(f"{name}_count", operation=operation)
    ]
