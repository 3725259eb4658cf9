"""Metrics of the HTTP server. Routes are labels, and paths are not: callers choose those."""

from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry

from lensmesh_chassis.telemetry.exemplars import exemplar
from lensmesh_chassis.telemetry.loop_metrics import Counter, Gauge, Histogram
from lensmesh_chassis.telemetry.metrics import CALL_SECONDS

if TYPE_CHECKING:
    from http_svc.serving.protocol import OpenConnections

_LABELS = ("route", "method")
OTHER = "other"
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "WEBSOCKET"})


class HttpMetrics:
    """Requests by route, method and status; bytes; connections."""

    def __init__(self, registry: CollectorRegistry) -> None:
        r = registry
        self._registry = registry
        self._requests = Counter(
            "lensmesh_http_requests_total", "Requests answered, by route.", (*_LABELS, "status"), registry=r
        )
        self._seconds = Histogram(
            "lensmesh_http_request_seconds",
            "Time from a request's head to the end of its answer.",
            _LABELS,
            buckets=CALL_SECONDS,
            registry=r,
        )
        self.in_flight = Gauge("lensmesh_http_in_flight", "Requests that run now.", (), registry=r).labels()
        self._received = Counter("lensmesh_http_received_bytes_total", "Bytes of bodies received.", (), registry=r)
        self._sent = Counter("lensmesh_http_sent_bytes_total", "Bytes of bodies sent.", (), registry=r)

    def show_connections(self, connections: "OpenConnections") -> None:
        """Show how many connections are open, and how many were closed for want of room."""
        from prometheus_client import Gauge as Shown

        Shown("lensmesh_http_connections", "Connections that are open.", registry=self._registry).set_function(
            lambda: connections.count
        )
        closed = Counter(
            "lensmesh_http_connections_closed_for_room_total",
            "Connections closed so that others had room, or because there was none.",
            (),
            registry=self._registry,
        )
        connections.on_closed_for_room = closed.labels().inc

    def ended(self, route: str, method: str, status: int, seconds: float, received: int, sent: int) -> None:
        """Count a request that has ended."""
        method = method if method in _METHODS else OTHER
        self._requests.labels(route, method, str(status)).inc()
        self._seconds.labels(route, method).observe(seconds, exemplar())
        self._received.labels().inc(received)
        self._sent.labels().inc(sent)
